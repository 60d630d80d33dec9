// Running sums of columns, cut into chunks: the chunks' sums, their running sums in the same way, then each
// chunk from the sum before it. The cut depends on the shape alone: the same bits in every run.
#include <cstdint>
#include <type_traits>

#include "kernel_groups.hpp"
#include "launch.hpp"
#include "lpf/core/dtype.hpp"
#include "memory.hpp"

namespace lpf::cuda {
namespace {

template <class T>
using SumOf = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;

/// One thread per chunk of `length` elements of a column: thread (o·chunks + chunk)·inner + i.
template <class T>
struct Chunks {
  std::int64_t n, inner, length, chunks;
  bool reverse;
  const T* x;

  /// Calls f(sum, place) after each addition, beginning with `sum`.
  template <class F>
  LPF_DEVICE SumOf<T> add(std::int64_t thread, SumOf<T> sum, F f) const {
    const std::int64_t i = thread % inner, chunk = thread / inner % chunks, o = thread / inner / chunks,
                       end = (chunk + 1) * length < n ? (chunk + 1) * length : n;
    for (std::int64_t j = chunk * length; j < end; ++j) {
      const std::int64_t place = (o * n + (reverse ? n - 1 - j : j)) * inner + i;
      sum += static_cast<SumOf<T>>(x[place]);
      f(sum, place);
    }
    return sum;
  }
};

template <class T>
struct ChunkSums {
  Chunks<T> chunks;
  SumOf<T>* total;
  LPF_DEVICE void operator()(std::int64_t thread) const {
    total[thread] = chunks.add(thread, SumOf<T>(0), [](SumOf<T>, std::int64_t) {});
  }
};

template <class T>
struct Scan {
  Chunks<T> chunks;
  const SumOf<T>* running;  // of the chunks' sums; null if there is one chunk
  T* y;
  LPF_DEVICE void operator()(std::int64_t thread) const {
    const bool first = thread / chunks.inner % chunks.chunks == 0;
    T* to = y;
    chunks.add(thread, first ? SumOf<T>(0) : running[thread - chunks.inner],
               [to](SumOf<T> sum, std::int64_t place) { to[place] = static_cast<T>(sum); });
  }
};

template <class T>
void scan_columns(std::int64_t outer, std::int64_t n, std::int64_t inner, const T* x, T* y, bool reverse) {
  if (outer * n * inner == 0) return;
  // Many columns, or short ones, have enough threads uncut.
  const std::int64_t length = outer * inner >= std::int64_t{1} << 16 || n <= 64 ? n : 32;
  const Chunks<T> chunks{n, inner, length, (n + length - 1) / length, reverse, x};
  const std::int64_t threads = outer * chunks.chunks * inner;
  if (chunks.chunks == 1) return each(threads, Scan<T>{chunks, nullptr, y});
  const Scratch<SumOf<T>> running(threads);
  each(threads, ChunkSums<T>{chunks, running.data()});
  scan_columns<SumOf<T>>(outer, chunks.chunks, inner, running.data(), running.data(), false);
  each(threads, Scan<T>{chunks, running.data(), y});
}

void cumsum(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x, void* y,
            bool reverse) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    scan_columns(outer, n, inner, static_cast<const T*>(x), static_cast<T*>(y), reverse);
  };
  if (type == DType::int64) return run(std::int64_t{});
  visit_floating("cumsum", type, run);
}

}  // namespace

void scan(Table& t) { t.cumsum = cumsum; }

}  // namespace lpf::cuda
