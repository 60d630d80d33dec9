// Residual networks for small images (He, Zhang, Ren & Sun 2016): x [B, H, W, C] → logits [B, classes],
// designed for 32×32. A 3×3 stem without pooling; stages of residual blocks with width·{1, 2, 4, 8}
// channels, all but the first starting with stride 2; the mean over the remaining pixels (4×4 of
// 32×32); a linear layer.
//
//   basic block     y = relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))            3×3, 3×3
//   bottleneck      the same with three convolutions, to four times the channels       1×1, 3×3, 1×1
//   shortcut        the identity, or a 1×1 convolution and batch norm where the shape changes
//
//   models::ResNet net(params, models::resnet18());
//
// Parameters at 10 classes: resnet18 11,173,962, resnet50 23,520,842, resnet101 42,512,970;
// narrow_resnet18(4) 2,800,010, (8) 11,178,762; double_descent_resnet18(1) 2,991, (4) 44,622, (8) 176,402,
// (64) 11,173,962. Names of the widely used CIFAR ResNets: conv1, bn1, layer1.0.conv1, layer1.0.bn1,
// layer2.0.shortcut.0, linear.
#pragma once

#include <optional>
#include <vector>

#include "lpf/nn/conv.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/nn/sequential.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/pool.hpp"

namespace lpf::models {

struct ResNetOptions {
  std::vector<int> blocks{2, 2, 2, 2};  ///< residual blocks of each stage
  bool bottleneck = false;              ///< blocks of three convolutions instead of two
  std::int64_t width = 64;              ///< channels of the first stage; doubled in each later one
  std::int64_t classes = 10;
  std::int64_t in_channels = 3;
  bool conv_bias = false;
  bool batch_norm = true;
  bool skip = true;                  ///< false: a plain network, y = relu(bn2(conv2(…))), without shortcuts
  init::Initializer conv_init = {};  ///< of the convolutions' weights; PyTorch's default if empty
};

/// Two 3×3 convolutions of `channels`, or a bottleneck to 4·channels; the first 3×3 has the stride.
struct ResidualBlock {
  std::vector<nn::Conv2d> convs;
  std::vector<nn::BatchNorm> norms;  // as many, or none
  nn::Sequential shortcut;           // empty: the identity
  bool skip;

  ResidualBlock(const nn::Path& p, std::int64_t in, std::int64_t channels, std::int64_t stride,
                const ResNetOptions& o)
      : skip(o.skip) {
    const auto conv = [&](const nn::Path& at, std::int64_t from, std::int64_t to, std::int64_t kernel,
                          std::int64_t step) {
      return nn::Conv2d(
          at, from, to, kernel,
          {.stride = step, .padding = kernel / 2, .bias = o.conv_bias, .weight_init = o.conv_init});
    };
    const auto add_conv = [&](std::int64_t from, std::int64_t to, std::int64_t kernel, std::int64_t step) {
      const int i = static_cast<int>(convs.size()) + 1;
      convs.push_back(conv(p / concat("conv", i), from, to, kernel, step));
      if (o.batch_norm) norms.emplace_back(p / concat("bn", i), to);
    };
    const std::int64_t out = channels_out(channels, o);
    if (o.bottleneck) {
      add_conv(in, channels, 1, 1);
      add_conv(channels, channels, 3, stride);
      add_conv(channels, out, 1, 1);
    } else {
      add_conv(in, channels, 3, stride);
      add_conv(channels, channels, 3, 1);
    }
    if (!o.skip || (stride == 1 && in == out)) return;
    shortcut.append(conv(p / "shortcut" / 0, in, out, 1, stride));
    if (o.batch_norm) shortcut.append(nn::BatchNorm(p / "shortcut" / 1, out));
  }

  static std::int64_t channels_out(std::int64_t channels, const ResNetOptions& o) {
    return o.bottleneck ? 4 * channels : channels;
  }

  Tensor operator()(const Tensor& x) const {
    Tensor y = x;
    for (std::size_t i = 0; i < convs.size(); ++i) {
      const Tensor residual = skip && i + 1 == convs.size() ? shortcut(x) : Tensor();
      y = convs[i](y);
      if (norms.empty()) {
        y = relu(residual.defined() ? add(y, residual) : y);
      } else {
        y = norms[i](y, {.residual = residual, .relu = true});
      }
    }
    return y;
  }
};

struct ResNet {
  nn::Conv2d conv1;
  std::optional<nn::BatchNorm> bn1;
  std::vector<ResidualBlock> blocks;
  nn::Linear linear;

  /// @throws ValueError unless there is a stage, every stage has a block, and all sizes are positive.
  explicit ResNet(const nn::Path& p, const ResNetOptions& o = {})
      : conv1(p / "conv1", o.in_channels, o.width, 3,
              {.padding = 1, .bias = o.conv_bias, .weight_init = o.conv_init}),
        bn1(o.batch_norm ? std::optional<nn::BatchNorm>(std::in_place, p / "bn1", o.width) : std::nullopt),
        blocks(blocks_of(p, o)),
        linear(p / "linear", ResidualBlock::channels_out(channels(o, o.blocks.size() - 1), o), o.classes) {}

  Tensor operator()(const Tensor& x) const {
    Tensor y = conv1(x);
    y = bn1 ? (*bn1)(y, {.relu = true}) : relu(y);
    for (const ResidualBlock& block : blocks) y = block(y);
    return linear(global_avg_pool2d(y));
  }

 private:
  static std::int64_t channels(const ResNetOptions& o, std::size_t stage) { return o.width << stage; }

  static std::vector<ResidualBlock> blocks_of(const nn::Path& p, const ResNetOptions& o) {
    check(!o.blocks.empty() && o.blocks.size() <= 8, "ResNet", "it needs 1 to 8 stages of blocks, got ",
          o.blocks.size());
    std::vector<ResidualBlock> out;
    std::int64_t in = o.width;
    for (std::size_t stage = 0; stage < o.blocks.size(); ++stage) {
      const nn::Path layer = p / concat("layer", stage + 1);
      check(o.blocks[stage] >= 1, "ResNet", "every stage needs a block, '", layer.name(), "' has ",
            o.blocks[stage]);
      for (int i = 0; i < o.blocks[stage]; ++i) {
        out.emplace_back(layer / i, in, channels(o, stage), i == 0 && stage > 0 ? 2 : 1, o);
        in = ResidualBlock::channels_out(channels(o, stage), o);
      }
    }
    return out;
  }
};

inline ResNetOptions resnet18(std::int64_t classes = 10) { return {.classes = classes}; }
inline ResNetOptions resnet50(std::int64_t classes = 10) {
  return {.blocks = {3, 4, 6, 3}, .bottleneck = true, .classes = classes};
}
inline ResNetOptions resnet101(std::int64_t classes = 10) {
  return {.blocks = {3, 4, 23, 3}, .bottleneck = true, .classes = classes};
}

/// The ResNet-18 of the paper's sharpness study, w = 4, 6, 8: 8w channels in the first stage, biases
/// in the convolutions, Kaiming's normal initialisation by fan-out. The study also sets batch_norm
/// and skip to false.
inline ResNetOptions narrow_resnet18(std::int64_t w, std::int64_t classes = 10) {
  return {.width = 8 * w,
          .classes = classes,
          .conv_bias = true,
          .conv_init = init::kaiming_normal(init::Fan::out)};
}

/// The same with 4 channels in the first stage, for the digits.
inline ResNetOptions tiny_resnet18(std::int64_t classes = 10) {
  ResNetOptions o = narrow_resnet18(1, classes);
  o.width = 4;
  return o;
}

/// The ResNet-18 of the double-descent study (Nakkiran et al. 2020), k = 1 … 64 channels in the first stage.
inline ResNetOptions double_descent_resnet18(std::int64_t k, std::int64_t classes = 10) {
  return {.width = k, .classes = classes};
}

}  // namespace lpf::models
