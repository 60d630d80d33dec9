// Shake-Shake residual networks (Gastaldi 2017): x [B, H, W, C] → logits [B, classes], designed for 32×32. A
// 3×3 stem of 16 channels and batch norm; three stages of (depth − 2)/6 blocks with width·{1, 2, 4} channels,
// the second and third starting with stride 2; ReLU, the mean over all pixels, a linear layer. A block has
// two residual paths, mixed at random for each image, with other random weights in backward:
//
//   y = shortcut(x) + α·path1(x) + (1 − α)·path2(x),   α ~ U(0, 1) for each image, ½ in evaluation
//   ∂y/∂path1 := β,   ∂y/∂path2 := 1 − β,              β ~ U(0, 1) for each image, ½ in evaluation
//   path(x) = bn2(conv2(relu(bn1(conv1(relu(x))))))
//
// The shortcut is the identity or, where the channels change, batch norm over two concatenated 1×1
// convolutions: of relu(x), and of relu(x) shifted up and left by one pixel. No convolution has a bias.
// Kaiming's normal initialisation by fan-out; the linear layer's bias starts at 0. 26 2×96d at 10 classes:
// 26,192,922 parameters. Names: conv, bn, stage1.block1.residual_path1.conv1,
// stage1.block1.shortcut.skip.conv1, fc.
#pragma once

#include <optional>
#include <vector>

#include "lpf/models/convolution.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/pool.hpp"
#include "lpf/ops/random.hpp"

namespace lpf::models {

/// α·a + (1 − α)·b, whose gradient is defined as β·g for a and (1 − β)·g for b. a, b [B, …]; α, β [B, 1, …].
inline Tensor shake(const Tensor& a, const Tensor& b, const Tensor& alpha, const Tensor& beta) {
  const auto mix = [&] {
    const auto off = no_grad();
    return add(mul(alpha, a), mul(affine(alpha, -1, 1), b));
  };
  return record("shake", mix(), {a, b}, [beta](const Tensor& g, Need need) {
    return Grads{need[0] ? mul(beta, g) : Tensor(), need[1] ? mul(affine(beta, -1, 1), g) : Tensor()};
  });
}

/// Draws α and β per image while the store is in training mode. Like nn::Dropout's masks they are a
/// function of the store's seed, the path and the number of passes (a counter of the store), independent of
/// how the batch is split.
struct Shake {
  nn::Path path;
  DrawCounter draws;

  explicit Shake(const nn::Path& at) : path(at), draws(at.draw_counter()) {}

  Tensor operator()(const Tensor& a, const Tensor& b) const {
    const auto [alpha, beta] = weights(a);
    return shake(a, b, alpha, beta);
  }

 private:
  struct Weights {
    Tensor alpha, beta;
  };

  Weights weights(const Tensor& x) const {
    const std::int64_t batch = x.size(0);
    if (!path.training()) {
      const Tensor half = full({1, 1, 1, 1}, 0.5, x.options());
      return {half, half};
    }
    const NoiseKey key = draws.next_of_batch("ShakeShake", path.name());
    const std::int64_t first = nn::MicroBatch::first_row("ShakeShake", batch);
    const Tensor drawn =
        rand({batch, 2}, key, {float64, x.device()}, 2 * first);  // α and β, identical for every dtype
    const auto column = [&](int i) {
      return reshape(slice(drawn, 1, i, i + 1), {batch, 1, 1, 1}).to(x.dtype());
    };
    return {column(0), column(1)};
  }
};

struct ShakeShakeOptions {
  int depth = 26;           ///< 6·n + 2 with n blocks in each stage
  std::int64_t width = 96;  ///< channels of the first stage, even
  std::int64_t classes = 10;
  std::int64_t in_channels = 3;
  std::int64_t stem = 16;  ///< channels of the first convolution
};

namespace detail {

/// Pixels 1, 1 + stride, … of both axes, as many as there are pixels 0, stride, …; zeros beyond the border.
inline Tensor shifted_pixels(Tensor x, std::int64_t stride) {
  for (const int axis : {1, 2}) {
    const std::int64_t n = x.size(axis), wanted = (n + stride - 1) / stride;
    x = slice(x, axis, 1, n, stride);
    const std::int64_t beyond = wanted - x.size(axis);
    if (beyond > 0) x = concatenate({x, zeros(x.shape().with(axis, beyond), x.options())}, axis);
  }
  return x;
}

}  // namespace detail

struct ShakePath {
  nn::Conv2d conv1;
  nn::BatchNorm bn1;
  nn::Conv2d conv2;
  nn::BatchNorm bn2;

  ShakePath(const nn::Path& p, std::int64_t in, std::int64_t out, std::int64_t stride)
      : conv1(detail::conv(p / "conv1", in, out, 3, stride)),
        bn1(p / "bn1", out),
        conv2(detail::conv(p / "conv2", out, out, 3)),
        bn2(p / "bn2", out) {}

  Tensor operator()(const Tensor& x) const { return bn2(conv2(bn1(conv1(relu(x)), {.relu = true}))); }
};

struct ShakeShortcut {
  nn::Conv2d conv1, conv2;
  nn::BatchNorm bn;
  std::int64_t stride;

  ShakeShortcut(const nn::Path& p, std::int64_t in, std::int64_t out, std::int64_t step)
      : conv1(detail::conv(p / "conv1", in, out / 2, 1, step)),
        conv2(detail::conv(p / "conv2", in, out / 2, 1)),
        bn(p / "bn", out),
        stride(step) {}

  Tensor operator()(const Tensor& x) const {
    const Tensor a = relu(x);
    return bn(concatenate({conv1(a), conv2(detail::shifted_pixels(a, stride))}, 3));
  }
};

struct ShakeBlock {
  ShakePath path1, path2;
  std::optional<ShakeShortcut> shortcut;
  Shake mix;

  ShakeBlock(const nn::Path& p, std::int64_t in, std::int64_t out, std::int64_t stride)
      : path1(p / "residual_path1", in, out, stride), path2(p / "residual_path2", in, out, stride), mix(p) {
    if (in != out || stride != 1) shortcut.emplace(p / "shortcut" / "skip", in, out, stride);
  }

  Tensor operator()(const Tensor& x) const {
    return add(shortcut ? (*shortcut)(x) : x, mix(path1(x), path2(x)));
  }
};

struct ShakeShake {
  nn::Conv2d conv;
  nn::BatchNorm bn;
  std::vector<ShakeBlock> blocks;
  nn::Linear fc;

  /// @throws ValueError unless depth is 6·n + 2 with n ≥ 1, width is even, and all sizes are positive.
  explicit ShakeShake(const nn::Path& p, const ShakeShakeOptions& o = {})
      : conv(detail::conv(p / "conv", o.in_channels, o.stem, 3)),
        bn(p / "bn", o.stem),
        blocks(blocks_of(p, o)),
        fc(p / "fc", 4 * o.width, o.classes, {.bias_init = init::zeros()}) {}

  Tensor operator()(const Tensor& x) const {
    Tensor y = bn(conv(x));
    for (const ShakeBlock& block : blocks) y = block(y);
    return fc(global_avg_pool2d(relu(y)));
  }

 private:
  static std::vector<ShakeBlock> blocks_of(const nn::Path& p, const ShakeShakeOptions& o) {
    check(o.depth >= 8 && o.depth % 6 == 2, "ShakeShake", "the depth must be 6n + 2 with n >= 1, got ",
          o.depth);
    check(o.width >= 2 && o.width % 2 == 0, "ShakeShake", "the width must be even and positive, got ",
          o.width);
    std::vector<ShakeBlock> out;
    std::int64_t in = o.stem;
    for (int stage = 0; stage < 3; ++stage)
      for (int i = 0; i < (o.depth - 2) / 6; ++i) {
        out.emplace_back(p / concat("stage", stage + 1) / concat("block", i + 1), in, o.width << stage,
                         i == 0 && stage > 0 ? 2 : 1);
        in = o.width << stage;
      }
    return out;
  }
};

/// Shake-Shake 26 2×96d.
inline ShakeShakeOptions shake_shake_26_2x96d(std::int64_t classes = 10) { return {.classes = classes}; }

}  // namespace lpf::models
