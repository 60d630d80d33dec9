// Group normalisation of the channels of each sample.
#pragma once

#include "lpf/ops/layer_norm.hpp"

namespace lpf {

/// (x − mean)/√(variance + eps)·weight + bias (Wu & He 2018), with the mean and the biased variance of each
/// sample over all positions of each of `groups` groups of neighbouring channels. x [B, …, C] with C a multiple
/// of groups; weight, bias [C], plain or replicated (each slice of the batch uses its own replica), or
/// undefined. Composed of layer_norm() over the groups. PyTorch's group_norm, channels last.
/// @throws ShapeError if shapes do not fit; ValueError for groups < 1 or eps < 0.
LPF_ONCE Tensor group_norm(const Tensor& x, std::int64_t groups, const Tensor& weight = {},
                           const Tensor& bias = {}, double eps = 1e-5) {
  if (const auto cast = detail::cast_operands("group_norm", x))
    return group_norm(cast.a, groups, weight, bias, eps);
  constexpr const char* op = "group_norm";
  detail::check_floating(op, x);
  detail::check_plain(op, x);
  check(groups > 0, op, "needs at least one group, got ", groups);
  check(eps >= 0, op, "eps must not be negative, got ", eps);
  check<ShapeError>(x.rank() >= 2, op, "the input needs shape [B, …, C], got ", x.shape());
  const std::int64_t samples = x.shape()[0], channels = x.shape()[x.rank() - 1], each = channels / groups,
                     positions = x.shape().product(1, x.rank() - 1);
  check<ShapeError>(channels % groups == 0, op, channels, " channels do not divide into ", groups,
                    " groups: x is ", x.shape());
  const detail::Affine affine(op, x, {channels}, weight, bias);
  const Axes groups_first{0, 2, 1, 3};  // [B, positions, groups, C/groups] and back
  Tensor y = reshape(x, {samples, positions, groups, each});
  const bool neighbours = groups == 1 || positions == 1;  // what is normalised together
  if (!neighbours) y = permute(y, groups_first);
  y = detail::layer_norm_rows(reshape(y, {samples * groups, positions * each}), {}, {}, eps);
  if (!neighbours) y = permute(reshape(y, {samples, groups, positions, each}), groups_first);
  y = reshape(y, {samples * positions, channels});
  if (weight.defined() || bias.defined())
    y = detail::scale_shift(y, zeros({channels}, x.options()), ones({channels}, x.options()), affine);
  return reshape(y, x.shape());
}

}  // namespace lpf
