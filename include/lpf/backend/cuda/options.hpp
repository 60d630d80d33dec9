// What the CUDA backend may trade for speed, and the memory that it may take for it. Setting these needs no
// CUDA header; they are read at every call and apply to the whole program.
#pragma once

#include <atomic>
#include <cstdint>

namespace lpf::cuda {

/// The algorithm of a convolution whose slices each have their own replica of the weight.
enum class ReplicatedConvolution : int {
  automatic,  ///< `products` where windows are single pixels, so that nothing is unfolded; else `slices`
  slices,     ///< one cuDNN call per slice, on several streams
  products,   ///< windows unfolded in memory, and one strided-batched product over all slices
  /// one cuDNN call with the replicas as groups: activations are rearranged before and after; slices of
  /// unequal lengths as `slices`
  grouped
};

struct Options {
  /// float32 products and convolutions may round their operands to TF32 (10 bits of mantissa), which tensor
  /// cores since Ampere multiply several times faster. Sums stay float32.
  std::atomic<bool> tf32{false};
  /// Convolutions may use algorithms without a fixed order of summation, so that results differ in
  /// the last bits from run to run.
  std::atomic<bool> nondeterministic{false};
  /// False: float32 convolutions are computed as products by this library, as they always are in float64.
  std::atomic<bool> cudnn{true};
  /// The fastest has not been measured; `automatic` is a guess.
  std::atomic<ReplicatedConvolution> replicated_convolution{ReplicatedConvolution::automatic};
  /// At the first convolution of a shape, times cuDNN's first eight proposals and uses the
  /// fastest, like PyTorch's torch.backends.cudnn.benchmark. The choice, and so the last bits of
  /// results, may change from run to run.
  std::atomic<bool> tune_convolutions{false};
  /// Streams for the slices of a replicated convolution, 1 to 8; each has its own workspace, so that results
  /// do not depend on their number.
  std::atomic<int> convolution_streams{4};
  /// Maximum workspace of a convolution in bytes, per stream (but at least what one image needs).
  std::atomic<std::int64_t> convolution_workspace{std::int64_t{256} << 20};
};
inline Options options;

}  // namespace lpf::cuda
