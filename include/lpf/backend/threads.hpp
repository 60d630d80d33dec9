// The number of threads of the CPU kernels.
#pragma once

#include <algorithm>
#include <atomic>
#include <utility>

#include "lpf/backend/registry.hpp"

namespace lpf {

namespace detail {
inline std::atomic<int> thread_count{0};   // 0: the backend's default
inline thread_local int thread_limit = 0;  // for kernels called by this thread; 0: none
}  // namespace detail

/// Number of threads for CPU kernels called on this thread; by default OMP_NUM_THREADS, or that of the processors
/// on which the program may run.
inline int num_threads() {
  const int wanted = detail::thread_count.load(std::memory_order_relaxed);
  const int all = wanted > 0 ? wanted : backend::get(Device::cpu()).max_threads();
  return detail::thread_limit > 0 ? std::min(all, detail::thread_limit) : all;
}
/// Sets it for the whole program; 0 restores the default. Results do not depend
/// on it. ValueError if negative.
inline void set_num_threads(int n) {
  check(n >= 0, "set_num_threads", "the number of threads cannot be negative, got ", n);
  detail::thread_count = n;
}

/// Until the end of the scope, kernels called by this thread use at most n ≥ 1 threads: for
/// programs with threads of their own.
class ThreadLimit {
 public:
  explicit ThreadLimit(int n) : before_(std::exchange(detail::thread_limit, n)) {}
  ~ThreadLimit() { detail::thread_limit = before_; }
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int before_;
};

}  // namespace lpf
