// Convolutions by cuDNN (cudnn.cu); in the emulated device by loops (emulated/cudnn.cpp).
#pragma once

#include <vector>

#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// The three products of a convolution: y from x and w, dx from w and dy, dw from x and dy.
enum class Convolution : int { forward, backward_data, backward_filter };

/// One of them for all samples of `c` and one w. Of the arrays x, w and y (or their gradients) the one that
/// it is for is overwritten, the others are read.
struct CudnnCall {
  backend::Conv2d c;
  void *x, *w, *y;
};

/// All calls, side by side on options.convolution_streams streams; no bias. False where cuDNN does not serve
/// one of them (float64, an empty array, no algorithm that keeps to `options`): then the results are
/// undefined, and another way writes them.
bool cudnn_convolve(Convolution which, const std::vector<CudnnCall>& calls);

}  // namespace lpf::cuda
