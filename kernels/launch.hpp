// How kernels are written: once, as a function object that nvcc compiles for the GPU and, for
// the emulated device (kernels/emulated/), the C++ compiler for the host, so that its logic is
// tested on machines without a GPU.
//
//   each(n, f)        f(i) for i in [0, n), one thread per element
//   blocks(count, f)  f(block, shared) for count blocks of F::threads cooperating threads:
//
//     struct RowSum {                       // y[row] = sum of x[row, 0 … n)
//       static constexpr int threads = 256;
//       struct Shared { double part[threads]; };
//       const float* x; float* y; std::int64_t n;
//       LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
//         block.each([&](int t) {           // a phase: all threads, then a barrier
//           double s = 0;
//           for (std::int64_t i = t; i < n; i += threads) s += x[block.index * n + i];
//           shared.part[t] = s;
//         });
//         block.sum<threads>(shared.part);  // a tree of a fixed shape: the same bits in every run
//         block.each([&](int t) { if (t == 0) y[block.index] = float(shared.part[0]); });
//       }
//     };
//
// Data passed from one phase to the next is in `shared`; a thread's variables live for one phase. The threads
// of a phase must not read what another of them writes: the emulated device runs them in reverse order in
// every other block, so that tests detect it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "lpf/core/host_device.hpp"

#ifdef __CUDACC__
#  include "device.hpp"
#  define LPF_DEVICE __device__
#  define LPF_ROLLED _Pragma("unroll 1")  // for a loop whose body should not be duplicated
#  define LPF_UNROLL _Pragma("unroll")    // for a loop of constant length: its arrays stay in registers
#else
#  include "emulated/arena.hpp"
#  define LPF_DEVICE
#  define LPF_ROLLED
#  define LPF_UNROLL
#endif

namespace lpf::cuda {

/// The threads of one block.
struct Block {
  std::int64_t index;
  int threads;

  /// Calls f(t) for every thread t of the block; returns when all are done.
  template <class F>
  LPF_DEVICE void each(F f) const {
#ifdef __CUDACC__
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
#else
    for (int t = 0; t < threads; ++t) f(index % 2 ? threads - 1 - t : t);
#endif
  }

  /// part[0] = the sum of part[0 … N), N a power of two and at most the block's threads.
  template <int N, class T>
  LPF_DEVICE void sum(T* part) const {
    for (int half = N / 2; half > 0; half /= 2)
      each([&](int t) {
        if (t < half) part[t] += part[t + half];
      });
  }
};

#ifdef __CUDACC__
namespace detail {
template <class F>
__global__ void run_each(std::int64_t n, F f) {
  const auto step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (auto i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}
template <class F>
__global__ void __launch_bounds__(F::threads) run_blocks(std::int64_t count, F f) {
  __shared__ typename F::Shared shared;
  for (std::int64_t b = blockIdx.x; b < count; b += gridDim.x) f(Block{b, F::threads}, shared);
}
inline constexpr std::int64_t kMostBlocks = 1 << 20;  // per launch; the rest is a loop
}  // namespace detail
#endif

/// Calls f(i) for i in [0, n).
template <class F>
void each(std::int64_t n, F f) {
  if (n == 0) return;
#ifdef __CUDACC__
  constexpr int threads = 256;
  const auto count = std::min((n + threads - 1) / threads, detail::kMostBlocks);
  detail::run_each<<<static_cast<unsigned>(count), threads, 0, stream()>>>(n, f);
  check_launch();
#else
  perform([=] {
    for (std::int64_t i = n - 1; i >= 0; --i) f(i);
  });
#endif
}

/// Calls f(block, shared) for count blocks.
template <class F>
void blocks(std::int64_t count, F f) {
  if (count == 0) return;
#ifdef __CUDACC__
  detail::
      run_blocks<<<static_cast<unsigned>(std::min(count, detail::kMostBlocks)), F::threads, 0, stream()>>>(
          count, f);
  check_launch();
#else
  perform([=] {
    typename F::Shared shared;
    for (std::int64_t b = 0; b < count; ++b) f(Block{b, F::threads}, shared);
  });
#endif
}

}  // namespace lpf::cuda
