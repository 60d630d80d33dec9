// Convolutions by cuDNN (cudnn.cu), or by loops on the emulated device (emulated/cudnn.cpp).
#pragma once

#include <vector>

#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// The three products of a convolution: y from x and w, dx from w and dy, dw from x and dy.
enum class Convolution : int { forward, backward_data, backward_filter };

/// One of these products for all samples of `c` and one w. Of the arrays x, w and y (or their gradients) the
/// result is overwritten, the others are read.
struct CudnnCall {
  backend::Conv2d c;
  void *x, *w, *y;
};

/// Runs all calls concurrently on options.convolution_streams streams; no bias. False if cuDNN does not
/// support one of them (float64, an empty array, no algorithm within `options`): then the results are
/// undefined, and must be computed in another way.
bool cudnn_convolve(Convolution which, const std::vector<CudnnCall>& calls);

}  // namespace lpf::cuda
