// The gradient norm ‖C ∇L(θ)‖₂ of the mean loss over all samples, in units of the filters (Zhao, Zhang and Hu
// 2022, "Penalizing gradient norm for efficiently improving generalization in deep learning"): to first order
// the rise of the loss within a ball, over its radius. It is 0 at a minimum, invariant to rescaling units,
// and deterministic. Its square is the sum of the squares of the blocks' norms.
#pragma once

#include <cmath>

#include "lpf/sharpness/blocks.hpp"
#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/landscape.hpp"

namespace lpf::sharpness {

LPF_ONCE Estimate gradient_norm(const Landscape& landscape, const std::vector<Block>& blocks = {}) {
  const Tensor g = landscape.gradient();
  Estimate out{.value = detail::norm(g)};
  const auto squares = inner_by_block(landscape.params(), blocks, g, g);
  for (std::size_t b = 0; b < blocks.size(); ++b)
    out.blocks.push_back({blocks[b].name, std::sqrt(squares[b]), 0});
  return out;
}

}  // namespace lpf::sharpness
