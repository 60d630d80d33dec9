// A small convolutional network for sequences, the one of MNIST-1D's authors (Greydanus and Kobak, ICML 2024):
// x [B, 1, L, C] → logits [B, classes]. Three 1-D convolutions of w channels (5, 3 and 3 taps, stride 2, padding 1), each
// followed by ReLU, and a linear layer on all that is left. 5,210 parameters with w = 25, L = 40, C = 1 and 10 classes.
#pragma once

#include "lpf/nn/conv1d.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf::models {

struct ConvNet1dOptions {
  std::int64_t classes = 10;
  std::int64_t length = 40;      ///< L
  std::int64_t in_channels = 1;  ///< C
  std::int64_t width = 25;       ///< w, channels of each convolution
};

/// Layers conv1, conv2, conv3, linear, as in the published network.
struct ConvNet1d {
  std::int64_t remaining;  // length after the convolutions
  nn::Conv1d conv1, conv2, conv3;
  nn::Linear linear;

  /// @throws ValueError for sizes that are not positive.
  explicit ConvNet1d(const nn::Path& p, const ConvNet1dOptions& o = {})
      : remaining(((checked(o).length - 1) / 2 + 3) / 4),  // (L − 1)/2, then twice halved and rounded up
        conv1(p / "conv1", o.in_channels, o.width, 5, {.stride = 2, .padding = 1}),
        conv2(p / "conv2", o.width, o.width, 3, {.stride = 2, .padding = 1}),
        conv3(p / "conv3", o.width, o.width, 3, {.stride = 2, .padding = 1}),
        linear(p / "linear", remaining * o.width, o.classes) {}

  Tensor operator()(const Tensor& x) const {
    Tensor y = reshape(x, {x.size(0), x.size(1) * x.size(2), x.size(3)});
    y = relu(conv3(relu(conv2(relu(conv1(y))))));
    return linear(reshape(y, {y.size(0), y.size(1) * y.size(2)}));
  }

 private:
  static const ConvNet1dOptions& checked(const ConvNet1dOptions& o) {
    check(o.length >= 3, "ConvNet1d", "a sequence needs three points, got ", o.length);
    return o;
  }
};

}  // namespace lpf::models
