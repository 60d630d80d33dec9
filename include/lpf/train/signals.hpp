// Graceful shutdown: SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal is gone; on Windows SIGBREAK) are recorded, and
// the training loop checks them between steps.
//
//   const StopSignals stop;
//   for (auto [x, y] : loader) {
//     …
//     if (stop.received()) { checkpoint.save("out/run"); return; }
//   }
//
// The second signal of a kind ends the program at once, as it would without this.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"

namespace lpf {

namespace detail {
inline std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch nothing else");
inline std::atomic<bool> stop_signals_watched{false};
}  // namespace detail

/// Handles SIGINT, SIGTERM and SIGHUP (SIGBREAK) during its lifetime, and then restores the previous handlers. A signal
/// that is ignored stays ignored: nohup ignores SIGHUP, a shell SIGINT of what it starts in the background. Only
/// one at a time in a program: StateError.
class StopSignals {
 public:
  StopSignals() {
    check<StateError>(!detail::stop_signals_watched.exchange(true), "StopSignals",
                      "another one watches already: one is enough for a program");
    detail::stop_signal = 0;
    handler_.emplace([](int signal) { detail::stop_signal = signal; });
  }
  ~StopSignals() {
    handler_.reset();
    detail::stop_signals_watched = false;
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The last signal received; 0 if none.
  int received() const { return detail::stop_signal; }
  static std::string name_of(int signal) { return detail::os::stop_signal_name(signal); }

 private:
  std::optional<detail::os::StopHandler> handler_;
};

}  // namespace lpf
