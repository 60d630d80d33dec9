// Group normalisation layer.
#pragma once

#include "lpf/nn/layer_error.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/group_norm.hpp"

namespace lpf::nn {

struct GroupNormOptions {
  double eps = 1e-5;
  bool affine = true;  ///< scale and shift by weight and bias
};

/// Group norm over x [B, …, C] (Wu & He 2018): group_norm(). PyTorch's torch.nn.GroupNorm, channels last, with
/// its names weight and bias, [C]. Statistics are those of each sample, in a perturbed pass too.
struct GroupNorm {
  Parameter weight, bias;
  std::int64_t groups;
  double eps;

  /// @throws ValueError unless there are a group and a channel and eps ≥ 0, ShapeError unless the groups divide
  /// the channels.
  GroupNorm(const Path& p, std::int64_t groups_, std::int64_t channels, const GroupNormOptions& o = {})
      : groups(groups_), eps(o.eps) {
    check(groups > 0 && channels > 0, "GroupNorm", "'", p.name(),
          "' needs at least one group and one channel, got ", groups, " and ", channels);
    check<ShapeError>(channels % groups == 0, "GroupNorm", "'", p.name(), "': ", channels,
                      " channels do not divide into ", groups, " groups");
    check(o.eps >= 0, "GroupNorm", "'", p.name(), "': eps must not be negative, got ", o.eps);
    if (!o.affine) return;
    weight = p.parameter("weight", {channels}, init::ones());
    bias = p.parameter("bias", {channels}, init::zeros());
  }

  Tensor operator()(const Tensor& x) const {
    return detail::in_layer(weight, [&] { return group_norm(x, groups, weight, bias, eps); });
  }
};

}  // namespace lpf::nn
