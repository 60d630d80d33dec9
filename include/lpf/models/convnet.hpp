// A small convolutional network: x [B, H, W, C] → logits [B, classes]. Three 3×3 convolutions of w, 2w and 4w channels
// with stride 1, 2 and 2, each followed by batch norm and ReLU; the mean over the remaining pixels; a linear layer.
// It trains on the digits in a second, and has what matters of the paper's networks to a study of sharpness:
// convolutions and batch norm. 6,274 parameters with w = 8, one channel in and 10 classes.
#pragma once

#include <vector>

#include "lpf/nn/conv.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/pool.hpp"

namespace lpf::models {

struct ConvNetOptions {
  std::int64_t classes = 10;
  std::int64_t in_channels = 1;
  std::int64_t width = 8;  ///< w, channels of the first convolution
  bool batch_norm = true;  ///< without it the convolutions have biases
};

/// Layers conv1, bn1, conv2, bn2, conv3, bn3, linear.
struct ConvNet {
  std::vector<nn::Conv2d> convs;
  std::vector<nn::BatchNorm> norms;  // as many, or none
  nn::Linear linear;

  /// @throws ValueError for sizes that are not positive.
  explicit ConvNet(const nn::Path& p, const ConvNetOptions& o = {})
      : linear(layers(p, o), 4 * o.width, o.classes) {}

  Tensor operator()(const Tensor& x) const {
    Tensor y = x;
    for (std::size_t i = 0; i < convs.size(); ++i) {
      y = convs[i](y);
      y = norms.empty() ? relu(y) : norms[i](y, {.relu = true});
    }
    return linear(global_avg_pool2d(y));
  }

 private:
  /// Makes the convolutions; returns the path of the linear layer, which follows them.
  nn::Path layers(const nn::Path& p, const ConvNetOptions& o) {
    std::int64_t in = o.in_channels;
    for (int i = 0; i < 3; ++i) {
      const std::int64_t out = o.width << i;
      convs.emplace_back(p / concat("conv", i + 1), in, out, 3,
                         nn::Conv2dOptions{.stride = i == 0 ? 1 : 2, .padding = 1, .bias = !o.batch_norm});
      if (o.batch_norm) norms.emplace_back(p / concat("bn", i + 1), out);
      in = out;
    }
    return p / "linear";
  }
};

}  // namespace lpf::models
