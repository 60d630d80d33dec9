// What the CUDA backend may trade for speed, and how much memory it may take for it. No CUDA header is needed
// to set these; they are read at every call, and hold for the whole program.
#pragma once

#include <atomic>
#include <cstdint>

namespace lpf::cuda {

struct Options {
  /// float32 products and convolutions may round their operands to TF32 (10 bits of mantissa), which the
  /// tensor cores of GPUs since Ampere multiply several times faster. Sums stay float32.
  std::atomic<bool> tf32{false};
  /// Convolutions may use algorithms that add in an order of their own, so that results differ in the last
  /// bits from run to run.
  std::atomic<bool> nondeterministic{false};
  /// Most bytes of memory that one convolution takes for itself (at least what one image needs).
  std::atomic<std::int64_t> convolution_workspace{std::int64_t{256} << 20};
};
inline Options options;

}  // namespace lpf::cuda
