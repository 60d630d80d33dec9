// Activations, and Flatten, as layers: they have no parameters and no place in a store.
#pragma once

#include "lpf/ops/activation.hpp"
#include "lpf/ops/softmax.hpp"

namespace lpf::nn {

/// max(x, 0). PyTorch's torch.nn.ReLU.
struct ReLU {
  Tensor operator()(const Tensor& x) const { return relu(x); }
};
/// x where x > 0, slope·x elsewhere. PyTorch's torch.nn.LeakyReLU.
struct LeakyReLU {
  double slope = 0.01;
  Tensor operator()(const Tensor& x) const { return leaky_relu(x, slope); }
};
/// x where x > 0, alpha·(eˣ − 1) elsewhere. PyTorch's torch.nn.ELU.
struct ELU {
  double alpha = 1;
  Tensor operator()(const Tensor& x) const { return elu(x, alpha); }
};
/// x·Φ(x), or with Gelu::tanh its approximation. PyTorch's torch.nn.GELU.
struct GELU {
  Gelu form = Gelu::erf;
  Tensor operator()(const Tensor& x) const { return gelu(x, form); }
};
/// x·sigmoid(x). PyTorch's torch.nn.SiLU.
struct SiLU {
  Tensor operator()(const Tensor& x) const { return silu(x); }
};
/// PyTorch's torch.nn.Tanh.
struct Tanh {
  Tensor operator()(const Tensor& x) const { return tanh(x); }
};
/// 1/(1 + e⁻ˣ). PyTorch's torch.nn.Sigmoid.
struct Sigmoid {
  Tensor operator()(const Tensor& x) const { return sigmoid(x); }
};
/// log(1 + eˣ). PyTorch's torch.nn.Softplus.
struct Softplus {
  Tensor operator()(const Tensor& x) const { return softplus(x); }
};
/// exp(x)/Σ exp(x) along an axis: Softmax{.axis = -1}. PyTorch's torch.nn.Softmax.
struct Softmax {
  int axis = -1;
  Tensor operator()(const Tensor& x) const { return softmax(x, axis); }
};
/// The logarithm of softmax along an axis. PyTorch's torch.nn.LogSoftmax.
struct LogSoftmax {
  int axis = -1;
  Tensor operator()(const Tensor& x) const { return log_softmax(x, axis); }
};

/// One row per sample: x [B, …] gives [B, n]. An image [B, H, W, C] is flattened in the order C,
/// H, W, like PyTorch's torch.nn.Flatten after a convolution, so that the weight of the
/// following linear layer is PyTorch's.
struct Flatten {
  Tensor operator()(const Tensor& x) const {
    check<ShapeError>(x.rank() >= 2, "Flatten", "the input needs a batch axis and one more, got ", x.shape());
    return flatten(x.rank() == 4 ? permute(x, {0, 3, 1, 2}) : x, 1);
  }
};

}  // namespace lpf::nn
