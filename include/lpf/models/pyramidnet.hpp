// PyramidNets (Han, Kim & Kim 2017) with bottlenecks, for 32×32: x [B, H, W, C] → logits [B, classes], H and
// W multiples of 4. A 3×3 stem of 16 channels and batch norm; three stages of n = (depth − 2)/9 blocks, the
// second and third begun with stride 2; batch norm, ReLU, the mean over all pixels, a linear layer. The
// channels grow at every block: bottleneck k = 1 … 3n has d_k = round(16 + k·α/(3n)) of them inside, 4·d_k
// outside.
//
//   y = bn4(conv3(relu(bn3(conv2(relu(bn2(conv1(bn1(x)))))))) + pad(x)       1×1, 3×3 (with the stride), 1×1
//
// pad(x) is x, averaged over 2×2 pixels where there is a stride, with zero channels appended. No convolution
// has a bias. Kaiming's normal initialisation by fan-out. Parameters at 10 classes and α = 200:
// PyramidNet-110 10,668,722, -272 26,210,842. Names: conv1, bn1, layer1.0.bn1, layer1.0.conv1, bn_final, fc.
#pragma once

#include <cmath>
#include <vector>

#include "lpf/models/convolution.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/pool.hpp"

namespace lpf::models {

struct PyramidNetOptions {
  int depth = 110;     ///< 9·n + 2 with n blocks in each stage
  double alpha = 200;  ///< α, growth of the channels from the first block to the last
  std::int64_t classes = 10;
  std::int64_t in_channels = 3;
  std::int64_t stem = 16;  ///< channels of the first convolution
};

struct PyramidBlock {
  nn::BatchNorm bn1;
  nn::Conv2d conv1;
  nn::BatchNorm bn2;
  nn::Conv2d conv2;
  nn::BatchNorm bn3;
  nn::Conv2d conv3;
  nn::BatchNorm bn4;
  std::int64_t stride;

  static constexpr std::int64_t expansion = 4;

  PyramidBlock(const nn::Path& p, std::int64_t in, std::int64_t channels, std::int64_t step)
      : bn1(p / "bn1", in),
        conv1(detail::conv(p / "conv1", in, channels, 1, 1)),
        bn2(p / "bn2", channels),
        conv2(detail::conv(p / "conv2", channels, channels, 3, step)),
        bn3(p / "bn3", channels),
        conv3(detail::conv(p / "conv3", channels, expansion * channels, 1, 1)),
        bn4(p / "bn4", expansion * channels),
        stride(step) {}

  Tensor operator()(const Tensor& x) const {
    const Tensor y = conv3(bn3(conv2(bn2(conv1(bn1(x)), {.relu = true})), {.relu = true}));
    Tensor shortcut = stride == 1 ? x : avg_pool2d(x, stride);
    const std::int64_t more = y.size(3) - shortcut.size(3);
    if (more > 0) shortcut = concatenate({shortcut, zeros(shortcut.shape().with(3, more), x.options())}, 3);
    return bn4(y, {.residual = shortcut});
  }
};

struct PyramidNet {
  nn::Conv2d conv1;
  nn::BatchNorm bn1;
  std::vector<PyramidBlock> blocks;
  nn::BatchNorm bn_final;
  nn::Linear fc;

  /// @throws ValueError unless depth is 9·n + 2 with n ≥ 1, α is finite and not negative, and all sizes are
  /// positive.
  explicit PyramidNet(const nn::Path& p, const PyramidNetOptions& o = {})
      : conv1(detail::conv(p / "conv1", o.in_channels, o.stem, 3, 1)),
        bn1(p / "bn1", o.stem),
        blocks(blocks_of(p, o)),
        bn_final(p / "bn_final", blocks.back().conv3.weight.info().shape[0]),
        fc(p / "fc", blocks.back().conv3.weight.info().shape[0], o.classes) {}

  Tensor operator()(const Tensor& x) const {
    check<ShapeError>(x.rank() == 4 && x.size(1) % 4 == 0 && x.size(2) % 4 == 0, "PyramidNet",
                      "needs images [B, H, W, C] with H and W multiples of 4, got ", x.shape());
    Tensor y = bn1(conv1(x));
    for (const PyramidBlock& block : blocks) y = block(y);
    return fc(global_avg_pool2d(bn_final(y, {.relu = true})));
  }

 private:
  static std::vector<PyramidBlock> blocks_of(const nn::Path& p, const PyramidNetOptions& o) {
    check(o.depth >= 11 && o.depth % 9 == 2, "PyramidNet", "the depth must be 9n + 2 with n >= 1, got ",
          o.depth);
    check(o.alpha >= 0 && o.alpha <= 1e9, "PyramidNet",
          "alpha must be finite, not negative and at most 1e9, got ", o.alpha);
    const int n = (o.depth - 2) / 9;
    std::vector<PyramidBlock> out;
    std::int64_t in = o.stem;
    for (int k = 1; k <= 3 * n; ++k) {
      const int stage = (k - 1) / n, i = (k - 1) % n;
      const double width = static_cast<double>(o.stem) + k * o.alpha / (3 * n);
      const auto channels = static_cast<std::int64_t>(std::nearbyint(width));  // halves to even, as in Python
      out.emplace_back(p / concat("layer", stage + 1) / i, in, channels, i == 0 && stage > 0 ? 2 : 1);
      in = PyramidBlock::expansion * channels;
    }
    return out;
  }
};

inline PyramidNetOptions pyramidnet_110(std::int64_t classes = 10) { return {.classes = classes}; }
inline PyramidNetOptions pyramidnet_272(std::int64_t classes = 10) {
  return {.depth = 272, .classes = classes};
}

}  // namespace lpf::models
