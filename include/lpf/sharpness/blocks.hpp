// Blocks of parameters, layers or stages of a network, into which a measure is decomposed.
#pragma once

#include <string>
#include <vector>

#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/arithmetic.hpp"

namespace lpf::sharpness {

struct Block {
  std::string name;
  std::vector<std::size_t> parameters;  ///< their indices in the store
};

/// The block of a parameter named "layer1.0.conv1.weight".
enum class BlockLevel {
  layer,  ///< "layer1.0.conv1"
  stage   ///< "layer1"
};

/// The blocks of the trainable parameters, in store order. A parameter whose name has one part
/// is its own block.
LPF_ONCE std::vector<Block> blocks_of(const ParameterStore& params, BlockLevel level = BlockLevel::layer) {
  std::vector<Block> out;
  for (const ParameterInfo& info : params.parameters()) {
    if (!info.trainable) continue;
    const auto dot = level == BlockLevel::layer ? info.name.rfind('.') : info.name.find('.');
    const std::string name = info.name.substr(0, dot);
    auto block = out.begin();
    while (block != out.end() && block->name != name) ++block;
    if (block == out.end()) block = out.insert(out.end(), {name, {}});
    block->parameters.push_back(info.index);
  }
  return out;
}

/// ⟨a, b⟩ over the parameters of each block, a and b vectors over θ.
LPF_ONCE std::vector<double> inner_by_block(const ParameterStore& params, const std::vector<Block>& blocks,
                                            const Tensor& a, const Tensor& b) {
  std::vector<double> out;
  for (const Block& block : blocks) {
    double sum = 0;
    for (const std::size_t p : block.parameters) {
      const ParameterInfo& info = params.parameters()[p];
      const Tensor own = a.alias({info.numel()}, info.offset);
      sum +=
          own.backend().dot(own.dtype(), info.numel(), own.raw(), b.alias({info.numel()}, info.offset).raw());
    }
    out.push_back(sum);
  }
  return out;
}

}  // namespace lpf::sharpness
