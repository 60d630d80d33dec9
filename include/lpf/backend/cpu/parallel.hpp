// Work shared by threads. It is cut so that results do not depend on the number of threads: elementwise work
// anywhere, reductions in blocks of fixed size.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/cpu/thread_pool.hpp"
#include "lpf/backend/threads.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline void parallel_ranges(std::int64_t n, std::int64_t grain, RangeFunction f) {
  if (n <= 0) return;
  if (n > grain) {
    // Several parts a thread: one that is late, or loses its processor, leaves the others what it has not begun.
    constexpr std::int64_t parts_a_thread = 2;
    const std::int64_t most = (n + grain - 1) / grain, threads = std::min<std::int64_t>(num_threads(), most);
    // A vectorised loop over elements rounds those of its remainder differently: no part but the last has one.
    const std::int64_t unit = grain >= 1024 ? 64 : 1;
    if (threads > 1 && ThreadPool::instance().run(static_cast<int>(threads),
                                                  std::min(most, parts_a_thread * threads), n, unit, f))
      return;
  }
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
