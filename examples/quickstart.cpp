// LPF-SGD in one page: a small network learns to read handwritten digits although a fifth of its labels are
// wrong. Each step descends the loss smoothed by Gaussian noise on the weights, estimated with M = 8
// perturbed copies of the network in one batched pass. Take out the line marked (*) and it is plain SGD.
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/dense.hpp>

using namespace lpf;

struct Net {
  nn::Linear fc1, fc2, fc3;
  explicit Net(nn::Path p) : fc1(p / "fc1", 64, 128), fc2(p / "fc2", 128, 128), fc3(p / "fc3", 128, 10) {}
  Tensor operator()(const Tensor& x) const { return fc3(relu(fc2(relu(fc1(x))))); }
};

int main() {
  const auto [clean, test] = split(digits(), {1000, 797}, 1);
  DataLoader loader(with_label_noise(clean, {.probability = 0.2}), {.batch_size = 64});

  ParameterStore params({.seed = 4});
  Net net(params);
  optim::SGD optimizer(params, {.lr = 0.1, .momentum = 0.9});
  LowPassFilter filter({.M = 8, .gamma = 0.06});

  for (int epoch = 1; epoch <= 60; ++epoch) {
    double loss_sum = 0;
    for (auto [x, y] : loader) {
      auto scope = filter.perturb(params);  // (*)
      auto loss = cross_entropy(net(x), y);
      loss.backward();
      optimizer.step();
      loss_sum += loss.item();
    }
    if (epoch % 10 == 0) {
      const auto guard = no_grad();
      const double accuracy = mean((argmax(net(test.images), 1) == test.labels).to(float32)).item();
      std::printf("epoch %d: loss %.3f, test error %.1f %%\n", epoch,
                  loss_sum / static_cast<double>(loader.batches()), 100 * (1 - accuracy));
    }
  }
}
