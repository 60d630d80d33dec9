// Invalid indices found by kernels. The host cannot check indices without waiting for the device, so the
// kernel that uses them does; it skips an invalid one and records it, and the next call that waits for the
// device (a copy to the host, synchronize) throws the IndexError.
#pragma once

#include <cstdint>
#include <utility>

#include "launch.hpp"
#include "lpf/core/error.hpp"

namespace lpf::cuda {

enum class Indexed : int { none, take, index_add, gather, scatter_add, cross_entropy, scatter };

/// A word accessible to host and kernels: 0, or the last fault.
std::uint64_t* fault_word();

/// Throws IndexError if a kernel recorded an invalid index since the last call. The device must be idle.
inline void check_faults() {
  const std::uint64_t fault = std::exchange(*fault_word(), 0);
  if (fault == 0) return;
  static constexpr const char* names[] = {
      "",       "index_select, embedding",      "index_add, index_select backward",
      "gather", "scatter_add, gather backward", "cross_entropy",
      "scatter"};
  const std::int64_t index = static_cast<std::int64_t>(fault << 8) >> 8;
  fail<IndexError>(names[fault >> 56], "index ", index, " is outside its axis; the GPU found it in a kernel ",
                   "that was queued before this call");
}

class IndexGuard {
 public:
  explicit IndexGuard(Indexed operation) : word_(fault_word()), operation_(operation) {}

  /// True if an index is in [0, n).
  LPF_DEVICE bool allows(std::int64_t index, std::int64_t n) const {
    if (index >= 0 && index < n) return true;
    *word_ = static_cast<std::uint64_t>(operation_)
                 << 56 |  // one store, so that faults of several threads do not mix
             (static_cast<std::uint64_t>(index) & ((std::uint64_t{1} << 56) - 1));
    return false;
  }

 private:
  std::uint64_t* word_;
  Indexed operation_;
};

}  // namespace lpf::cuda
