// How many threads the CPU kernels use.
#pragma once

#include <atomic>

#include "lpf/backend/registry.hpp"

namespace lpf {

namespace detail {
inline std::atomic<int> thread_count{0};  // 0: as many as the backend offers
}

/// Number of threads that CPU kernels use; by default what OpenMP offers (OMP_NUM_THREADS), 1 without OpenMP.
inline int num_threads() {
  const int wanted = detail::thread_count.load(std::memory_order_relaxed);
  return wanted > 0 ? wanted : backend::get(Device::cpu()).max_threads();
}
/// Sets it for the whole program; 0 restores the default. Results do not depend on it. ValueError if
/// negative.
inline void set_num_threads(int n) {
  check(n >= 0, "set_num_threads", "the number of threads cannot be negative, got ", n);
  detail::thread_count = n;
}

}  // namespace lpf
