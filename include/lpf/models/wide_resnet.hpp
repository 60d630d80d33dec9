// Wide residual networks (Zagoruyko & Komodakis 2016), WRN-depth-widen, without dropout: x [B, H, W, C] →
// logits [B, classes], designed for 32×32. A 3×3 stem of 16 channels; three stages of (depth − 4)/6
// pre-activation blocks with 16·widen·{1, 2, 4} channels, the second and third starting with stride 2; batch
// norm, ReLU, the mean over all pixels, a linear layer.
//
//   a = relu(bn1(x)),   y = conv2(relu(bn2(conv1(a)))) + x     or + convShortcut(a) where the shape changes
//
// No convolution has a bias. Kaiming's normal initialisation by fan-out; the linear layer's bias starts at 0.
// Parameters at 10 classes: WRN-16-8 10,961,370, WRN-28-10 36,479,194. Names of the widely used PyTorch
// version: conv1, block1.layer.0.bn1, block1.layer.0.conv1, block1.layer.0.convShortcut, bn1, fc.
#pragma once

#include <optional>
#include <vector>

#include "lpf/models/convolution.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/pool.hpp"

namespace lpf::models {

struct WideResNetOptions {
  int depth = 16;  ///< 6·n + 4 with n blocks in each stage
  int widen = 8;   ///< ratio of the first stage's channels to the stem's
  std::int64_t classes = 10;
  std::int64_t in_channels = 3;
  std::int64_t stem = 16;  ///< channels of the first convolution
};

struct WideBlock {
  nn::BatchNorm bn1, bn2;
  nn::Conv2d conv1, conv2;
  std::optional<nn::Conv2d> shortcut;

  WideBlock(const nn::Path& p, std::int64_t in, std::int64_t out, std::int64_t stride)
      : bn1(p / "bn1", in),
        bn2(p / "bn2", out),
        conv1(detail::conv(p / "conv1", in, out, 3, stride)),
        conv2(detail::conv(p / "conv2", out, out, 3, 1)) {
    if (stride != 1 || in != out) shortcut = detail::conv(p / "convShortcut", in, out, 1, stride);
  }

  Tensor operator()(const Tensor& x) const {
    const Tensor a = bn1(x, {.relu = true});
    return add(conv2(bn2(conv1(a), {.relu = true})), shortcut ? (*shortcut)(a) : x);
  }
};

struct WideResNet {
  nn::Conv2d conv1;
  std::vector<WideBlock> blocks;
  nn::BatchNorm bn1;
  nn::Linear fc;

  /// @throws ValueError unless depth is 6·n + 4 with n ≥ 1, and widen and all sizes are positive.
  explicit WideResNet(const nn::Path& p, const WideResNetOptions& o = {})
      : conv1(detail::conv(p / "conv1", o.in_channels, o.stem, 3, 1)),
        blocks(blocks_of(p, o)),
        bn1(p / "bn1", 4 * o.widen * o.stem),
        fc(p / "fc", 4 * o.widen * o.stem, o.classes, {.bias_init = init::zeros()}) {}

  Tensor operator()(const Tensor& x) const {
    Tensor y = conv1(x);
    for (const WideBlock& block : blocks) y = block(y);
    return fc(global_avg_pool2d(bn1(y, {.relu = true})));
  }

 private:
  static std::vector<WideBlock> blocks_of(const nn::Path& p, const WideResNetOptions& o) {
    check(o.depth >= 10 && o.depth % 6 == 4, "WideResNet", "the depth must be 6n + 4 with n >= 1, got ",
          o.depth);
    check(o.widen >= 1, "WideResNet", "widen must be at least 1, got ", o.widen);
    std::vector<WideBlock> out;
    std::int64_t in = o.stem;
    for (int stage = 0; stage < 3; ++stage) {
      const std::int64_t channels = (o.stem * o.widen) << stage;
      for (int i = 0; i < (o.depth - 4) / 6; ++i) {
        out.emplace_back(p / concat("block", stage + 1) / "layer" / i, in, channels,
                         i == 0 && stage > 0 ? 2 : 1);
        in = channels;
      }
    }
    return out;
  }
};

inline WideResNetOptions wrn_16_8(std::int64_t classes = 10) { return {.classes = classes}; }
inline WideResNetOptions wrn_28_10(std::int64_t classes = 10) {
  return {.depth = 28, .widen = 10, .classes = classes};
}

}  // namespace lpf::models
