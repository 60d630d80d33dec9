// Threads on the CPU, by OpenMP if the program is built with it. Work is cut so that results do not depend on
// the number of threads: elementwise work anywhere, reductions in blocks of fixed size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/threads.hpp"

#ifdef _OPENMP
#  include <omp.h>
#endif

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline int max_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// A reference to a callable f(begin, end): the parallel loop is compiled once, not once per kernel.
class RangeFunction {
 public:
  template <class F>
  RangeFunction(F& f) : object_(&f), call_(call<F>) {}  // NOLINT: implicit on purpose
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  template <class F>
  static void call(void* object, std::int64_t begin, std::int64_t end) {
    (*static_cast<F*>(object))(begin, end);
  }

  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

inline void parallel_ranges(std::int64_t n, [[maybe_unused]] std::int64_t grain, RangeFunction f) {
  if (n <= 0) return;
  if (n <= grain) return f(0, n);
#ifdef _OPENMP
  const std::int64_t parts = std::min<std::int64_t>(num_threads(), (n + grain - 1) / grain);
  if (parts > 1 && !omp_in_parallel()) {
    std::exception_ptr error;
    const int team_size = static_cast<int>(parts);
#  pragma omp parallel num_threads(team_size)
    {
      const std::int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
      try {
        const std::int64_t begin = n * me / team, end = n * (me + 1) / team;
        if (begin < end) f(begin, end);
      } catch (...) {
#  pragma omp critical(lpf_parallel_for)
        error = std::current_exception();
      }
    }
    if (error) std::rethrow_exception(error);
    return;
  }
#endif
  f(0, n);
}

/// Calls f(begin, end) for consecutive parts of [0, n), on as many threads as have at least `grain` of work
/// each. Rethrows an exception of a part.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
  parallel_ranges(n, grain, RangeFunction(f));
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
