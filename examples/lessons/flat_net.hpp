// The network of lesson 3, trained, and rescaled without a change of what it computes.
#pragma once

#include <cstdint>
#include <lpf/data/sets/digits.hpp>
#include <lpf/dense.hpp>
#include <lpf/sharpness/measure.hpp>

namespace flat {

using namespace lpf;

/// Two layers; the second has no bias, so that scaling the first up and the second down changes nothing at all.
struct Net {
  nn::Linear fc1, fc2;
  explicit Net(const nn::Path& p) : fc1(p / "fc1", 64, 128), fc2(p / "fc2", 128, 10, {.bias = false}) {}
  Tensor operator()(const Tensor& x) const { return fc2(relu(fc1(x))); }
};

/// Trains by SGD (γ = 0) or LPF-SGD with M = 8.
inline void train(const ParameterStore& params, const Net& net, const TensorDataset& data, double gamma,
                  int epochs) {
  DataLoader loader(data, {.batch_size = 64, .drop_last = true});
  optim::SGD optimizer(params, {.lr = 0.1, .momentum = 0.9});
  LowPassFilter filter({.M = 8, .gamma = gamma});
  for (int epoch = 0; epoch < epochs; ++epoch) {
    for (const auto& [x, y] : loader) {
      const auto scope = filter.perturb(params);
      cross_entropy(net(x), y).backward();
      optimizer.step();
    }
  }
}

/// Test error in per cent.
inline double error(const Net& net, const TensorDataset& test) {
  const auto off = no_grad();
  return 100 * mean((argmax(net(test.images), 1) != test.labels).to(float32)).item();
}

/// Multiplies the first layer by c and divides the second by c. relu(c·a) = c·relu(a), so the outputs are the same;
/// to the bit where c is a power of two.
inline void rescale(const Net& net, double c) {
  const auto off = no_grad();
  const auto multiply = [](const nn::Parameter& p, double by) {
    const Tensor t = p.clean().detach();
    t.copy_(t * by);
  };
  multiply(net.fc1.weight, c);
  multiply(net.fc1.bias, c);
  multiply(net.fc2.weight, 1 / c);
}

/// The cross-entropy of each sample, for the measures.
inline auto losses_of(const Net& net) {
  return [&net](const Tensor& x, const Tensor& y) {
    return cross_entropy(net(x), y, {.reduction = Reduction::none});
  };
}

}  // namespace flat
