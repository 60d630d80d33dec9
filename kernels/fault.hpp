// What a kernel found wrong with its indices. The host cannot look at them without waiting for the device, so
// the kernel that uses them does; it skips a bad one and notes it, and the next call that waits for the
// device (a copy to the host, synchronize) throws the IndexError.
#pragma once

#include <cstdint>
#include <utility>

#include "launch.hpp"
#include "lpf/core/error.hpp"

namespace lpf::cuda {

enum class Indexed : int { none, take, index_add, gather, scatter_add, cross_entropy };

/// A word that both the host and the kernels reach: 0, or what was last found wrong.
std::uint64_t* fault_word();

/// Throws IndexError if a kernel noted a bad index since this was last called. The device is idle.
inline void check_faults() {
  const std::uint64_t fault = std::exchange(*fault_word(), 0);
  if (fault == 0) return;
  static constexpr const char* names[] = {"",       "index_select, embedding", "index_select backward",
                                          "gather", "gather backward",         "cross_entropy"};
  const std::int64_t index = static_cast<std::int64_t>(fault << 8) >> 8;
  fail<IndexError>(names[fault >> 56], "index ", index, " is outside its axis; the GPU found it in a kernel ",
                   "that was queued before this call");
}

class IndexGuard {
 public:
  explicit IndexGuard(Indexed operation) : word_(fault_word()), operation_(operation) {}

  /// Whether an index lies in [0, n).
  LPF_DEVICE bool allows(std::int64_t index, std::int64_t n) const {
    if (index >= 0 && index < n) return true;
    *word_ = static_cast<std::uint64_t>(operation_) << 56 |  // one store: no other thread's is mixed in
             (static_cast<std::uint64_t>(index) & ((std::uint64_t{1} << 56) - 1));
    return false;
  }

 private:
  std::uint64_t* word_;
  Indexed operation_;
};

}  // namespace lpf::cuda
