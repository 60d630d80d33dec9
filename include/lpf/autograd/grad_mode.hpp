// Thread-local switches: recording of operations, and detection of NaN and infinity.
#pragma once

#include <utility>

namespace lpf {

namespace detail {
inline thread_local bool grad_enabled = true;
inline thread_local bool anomaly_enabled = false;
}  // namespace detail

inline bool is_grad_enabled() { return detail::grad_enabled; }
inline bool is_anomaly_enabled() { return detail::anomaly_enabled; }

/// Enables or disables recording on this thread until the end of the scope.
class GradMode {
 public:
  explicit GradMode(bool enabled) : before_(std::exchange(detail::grad_enabled, enabled)) {}
  ~GradMode() { detail::grad_enabled = before_; }
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool before_;
};

/// `auto guard = no_grad();` disables recording until the end of the block.
[[nodiscard]] inline GradMode no_grad() { return GradMode(false); }

/// Until the end of the scope, checks every result and every gradient for NaN and infinity; the first one
/// found throws a NumericError that names the operation. Slow: for debugging.
class AnomalyMode {
 public:
  explicit AnomalyMode(bool enabled = true) : before_(std::exchange(detail::anomaly_enabled, enabled)) {}
  ~AnomalyMode() { detail::anomaly_enabled = before_; }
  AnomalyMode(const AnomalyMode&) = delete;
  AnomalyMode& operator=(const AnomalyMode&) = delete;

 private:
  bool before_;
};

}  // namespace lpf
