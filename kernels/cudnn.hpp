// Convolutions by cuDNN (cudnn.cu); the emulated device has none (emulated/cudnn.cpp).
#pragma once

#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// The three products of a convolution: y from x and w, dx from w and dy, dw from x and dy.
enum class Convolution : int { forward, backward_data, backward_filter };

/// One of them for all c.n samples and one w, of the arrays x, w and y (or their gradients); the one that
/// `which` is for is overwritten, the others are read. False, with nothing written, where cuDNN does not
/// serve: float64, an empty array, or no algorithm that keeps to `options`. No bias.
bool cudnn_convolve(Convolution which, const backend::Conv2d& c, void* x, void* w, void* y);

}  // namespace lpf::cuda
