// The emulated device has no cuDNN: its convolutions are convolution.cu's own.
#include "../cudnn.hpp"

namespace lpf::cuda {

bool cudnn_convolve(Convolution, const backend::Conv2d&, void*, void*, void*) { return false; }

}  // namespace lpf::cuda
