// Kernels on the rows of a matrix [rows, n]: `Lanes` threads of a block process one row; a warp if rows are
// short, the whole block if they are long.
#pragma once

#include "launch.hpp"

namespace lpf::cuda {

template <int Lanes>
struct RowThreads {
  static constexpr int threads = 256, rows_of_a_block = threads / Lanes;
  static std::int64_t blocks(std::int64_t rows) { return (rows + rows_of_a_block - 1) / rows_of_a_block; }

  static LPF_DEVICE std::int64_t row(const Block& block, int t) {
    return block.index * rows_of_a_block + t / Lanes;
  }
  static LPF_DEVICE int lane(int t) { return t % Lanes; }
  /// The thread that has the row's result after reduce().
  static LPF_DEVICE int head(int t) { return t - t % Lanes; }

  /// part[head] = op over the parts of a row's threads, in a tree.
  template <class T, class Op>
  static LPF_DEVICE void reduce(const Block& block, T* part, Op op) {
    for (int half = Lanes / 2; half > 0; half /= 2)
      block.each([&](int t) {
        if (t % Lanes < half) part[t] = op(part[t], part[t + half]);
      });
  }
  template <class T>
  static LPF_DEVICE void sum(const Block& block, T* part) {
    reduce(block, part, [](T a, T b) { return a + b; });
  }
};

/// Runs Kernel<T, Lanes>{arguments…} over all rows, with lanes according to their length.
template <class T, template <class, int> class Kernel, class... Arguments>
void each_row(std::int64_t rows, std::int64_t n, Arguments... arguments) {
  if (n <= 512) {
    blocks(RowThreads<32>::blocks(rows), Kernel<T, 32>{rows, n, arguments...});
  } else {
    blocks(RowThreads<256>::blocks(rows), Kernel<T, 256>{rows, n, arguments...});
  }
}

}  // namespace lpf::cuda
