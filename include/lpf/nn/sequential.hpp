// Layers one after another.
#pragma once

#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "lpf/tensor/tensor.hpp"

namespace lpf::nn {

/// y = f_n(… f_2(f_1(x))) for anything that maps a tensor to a tensor: layers, functions, lambdas, other
/// Sequentials. PyTorch's torch.nn.Sequential; with each layer at the path of its position the names are
/// PyTorch's ("0.weight", "2.weight"):
///
///   nn::Sequential net({nn::Linear(p / 0, 64, 128), nn::ReLU(), nn::Linear(p / 2, 128, 10)});
///
/// Without layers it is the identity. A copy has its own layers on the same
/// parameters, like any copy of a layer.
class Sequential {
 public:
  using Layer = std::function<Tensor(const Tensor&)>;

  Sequential() = default;
  /// @throws ValueError if a layer is an empty function.
  Sequential(std::initializer_list<Layer> layers) {
    layers_.reserve(layers.size());
    for (const Layer& layer : layers) append(layer);
  }

  /// Appends a layer. @throws ValueError if it is an empty function.
  Sequential& append(Layer layer) {
    check(layer != nullptr, "Sequential", "layer ", layers_.size(), " is an empty function");
    layers_.push_back(std::move(layer));
    return *this;
  }
  std::size_t size() const { return layers_.size(); }

  Tensor operator()(const Tensor& x) const {
    Tensor y = x;
    for (const Layer& layer : layers_) y = layer(y);
    return y;
  }

 private:
  std::vector<Layer> layers_;
};

}  // namespace lpf::nn
