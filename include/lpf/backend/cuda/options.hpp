// What the CUDA backend may trade for speed, and how much memory it may take for it. No CUDA header is needed
// to set these; they are read at every call, and hold for the whole program.
#pragma once

#include <atomic>
#include <cstdint>

namespace lpf::cuda {

/// How a convolution runs whose slices have each their own replica of the weight.
enum class ReplicatedConvolution : int {
  automatic,  ///< `products` where windows are single pixels, so that nothing is unfolded; else `slices`
  slices,     ///< one call of cuDNN a slice, on several streams
  products,   ///< windows unfolded in memory, and one strided-batched product over all slices
  grouped  ///< one call of cuDNN, the replicas as groups: activations are rearranged before and after; slices
           ///< of different lengths as `slices`
};

struct Options {
  /// float32 products and convolutions may round their operands to TF32 (10 bits of mantissa), which the
  /// tensor cores of GPUs since Ampere multiply several times faster. Sums stay float32.
  std::atomic<bool> tf32{false};
  /// Convolutions may use algorithms that add in an order of their own, so that results differ in the last
  /// bits from run to run.
  std::atomic<bool> nondeterministic{false};
  /// False: convolutions in float32 are products of this library too, as they always are in float64.
  std::atomic<bool> cudnn{true};
  /// Which is faster has not been measured; `automatic` is a guess.
  std::atomic<ReplicatedConvolution> replicated_convolution{ReplicatedConvolution::automatic};
  /// When a convolution of some shape is first met, cuDNN's first eight proposals are timed and the fastest
  /// is kept, as PyTorch does with torch.backends.cudnn.benchmark. Which that is, and so the last bits of
  /// results, may change from run to run.
  std::atomic<bool> tune_convolutions{false};
  /// Streams for the slices of a replicated convolution, 1 to 8; each has its own workspace, so that results
  /// do not depend on their number.
  std::atomic<int> convolution_streams{4};
  /// Most bytes of memory that a convolution takes for itself, on each stream (but at least what one image
  /// needs).
  std::atomic<std::int64_t> convolution_workspace{std::int64_t{256} << 20};
};
inline Options options;

}  // namespace lpf::cuda
