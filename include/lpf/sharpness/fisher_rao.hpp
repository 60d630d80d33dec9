// The Fisher-Rao norm θᵀ H θ (Liang et al. 2019, with the Hessian for the Fisher matrix, as in the paper):
// one product. It is invariant to rescaling units, and so to filter normalisation. It is the sum of the parts
// θ_bᵀ(H θ)_b of the blocks.
#pragma once

#include "lpf/sharpness/blocks.hpp"
#include "lpf/sharpness/estimate.hpp"
#include "lpf/sharpness/hessian.hpp"

namespace lpf::sharpness {

LPF_ONCE Estimate fisher_rao(const Hessian& hessian, const std::vector<Block>& blocks = {}) {
  const auto off = no_grad();
  const Landscape& l = hessian.landscape();
  const Tensor w = l.weights(), Hw = hessian(w);
  Estimate out{.value = detail::inner(w, Hw)};
  const auto parts = inner_by_block(l.params(), blocks, w, Hw);
  for (std::size_t b = 0; b < blocks.size(); ++b) out.blocks.push_back({blocks[b].name, parts[b], 0});
  return out;
}

}  // namespace lpf::sharpness
