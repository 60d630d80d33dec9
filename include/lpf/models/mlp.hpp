// Fully connected networks.
#pragma once

#include <string>
#include <vector>

#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf::models {

struct MLPOptions {
  bool batch_norm = false;  ///< between each hidden layer and its ReLU
};

/// Linear layers fc1, fc2, … of the given sizes with ReLU between them: MLP(p, {64, 128, 10}) has 64 inputs,
/// 128 hidden units and 10 outputs. x [B, …] is flattened to [B, sizes.front()]; y [B, sizes.back()].
struct MLP {
  std::vector<nn::Linear> layers;
  std::vector<nn::BatchNorm> norms;  ///< bn1, bn2, … of the hidden layers, or none

  /// @throws ValueError for fewer than two sizes, or one that is not positive.
  MLP(const nn::Path& p, const std::vector<std::int64_t>& sizes, const MLPOptions& options = {}) {
    check(sizes.size() >= 2, "MLP", "'", p.name(), "' needs the sizes of its input and output, got ",
          sizes.size(), " sizes");
    for (std::size_t i = 0; i + 1 < sizes.size(); ++i)
      layers.emplace_back(p / concat("fc", i + 1), sizes[i], sizes[i + 1]);
    for (std::size_t i = 1; options.batch_norm && i + 1 < sizes.size(); ++i)
      norms.emplace_back(p / concat("bn", i), sizes[i]);
  }

  Tensor operator()(const Tensor& x) const {
    Tensor y = x.rank() == 2 ? x : flatten(x, 1);
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
      y = layers[i](y);
      y = norms.empty() ? relu(y) : norms[i](y, {.relu = true});
    }
    return layers.back()(y);
  }
};

}  // namespace lpf::models
