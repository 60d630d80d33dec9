// A training step in a CapturedStep, which a GPU replays as one CUDA graph; on the CPU each call runs the
// function. The loss has a number of its own that changes from step to step.
//
// A replay does not run the function's code. The parts of custom_training.cpp need no change for that: the
// layer's draws come from a counter of the store, the optimizer's numbers from its base. A part that computes
// a number from a count of its own writes the number as a step_scalar and the count as a StepCounter.
#include <algorithm>
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/lpf.hpp>
#include <lpf/train/captured_step.hpp>
#include <string>

using namespace lpf;

namespace {

/// mean((1 − p^q)/q) of the probabilities p that x [B, classes] assigns to the labels (Zhang & Sabuncu 2018,
/// eq. 6). q grows from 0.1 to 0.7 over the first `growth` calls.
struct RobustLoss {
  double growth;
  StepCounter calls;  // advanced by each replay

  Tensor operator()(const Tensor& x, const Tensor& labels) {
    const StepScalar now =
        step_scalar([this] { return 0.1 + 0.6 * std::min(1.0, static_cast<double>(calls) / growth); });
    ++calls;
    const Tensor q = scalar(now, x.options());
    return mean((1.0 - exp(-q * cross_entropy(x, labels, {.reduction = Reduction::none}))) / q);
  }
};

struct Net {
  nn::Linear fc1;
  nn::Dropout dropout;
  nn::Linear fc2;
  explicit Net(const nn::Path& p)
      : fc1(p / "fc1", 64, 128), dropout(p / "dropout", 0.1), fc2(p / "fc2", 128, 10) {}
  Tensor operator()(const Tensor& x) const { return fc2(dropout(relu(fc1(x)))); }
};

}  // namespace

int main(int argc, char** argv) try {
  const bool gpu = argc == 3 && argv[1] == std::string("--device") && argv[2] == std::string("cuda");
  if (argc > 1 && !gpu) return std::fprintf(stderr, "usage: captured_step [--device cuda]\n"), 2;
  const Device device = gpu ? Device::cuda() : Device::cpu();

  const auto [clean, test] = split(digits(), {1000, 797}, 1);
  DataLoader loader(with_label_noise(clean, {.probability = 0.4}),
                    {.batch_size = 64, .drop_last = true, .device = device});  // one shape: one graph

  const int epochs = 40;
  ParameterStore params({.device = device, .seed = 1});
  const Net net(params);
  optim::Adam optimizer(params, {.lr = 2e-3});
  optimizer.set_schedule(schedule::cosine(epochs * loader.batches()));
  LowPassFilter filter({.M = 8, .gamma = 0.02});
  RobustLoss robust_loss{.growth = 300, .calls = {}};
  // What the function uses stays at its address. It neither waits for the device (item()) nor copies from the host.
  CapturedStep step([&](const Tensor& x, const Tensor& y) {
    const auto scope = filter.perturb(params);
    const Tensor loss = robust_loss(net(x), y);
    loss.backward();
    optimizer.step();
    return loss.detach();
  });

  for (int epoch = 1; epoch <= epochs; ++epoch) {
    double loss_sum = 0;
    for (const auto& [x, y] : loader) loss_sum += step(x, y).item();
    if (epoch % 8 == 0)
      std::printf("epoch %2d: loss %.3f\n", epoch, loss_sum / static_cast<double>(loader.batches()));
  }
  const EvalMode eval(params);
  const auto off = no_grad();
  const Tensor right = argmax(net(test.images.to(device)), 1) == test.labels.to(device);
  std::printf("test error %.1f %%; %llu steps, graphs captured: %lld\n",
              100 * (1 - mean(right.to(float32)).item()), static_cast<unsigned long long>(optimizer.steps()),
              static_cast<long long>(step.captured()));
  return 0;
} catch (const Error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
