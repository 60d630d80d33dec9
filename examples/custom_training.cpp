// A training step of custom parts (operation, random layer, loss and optimizer), in a perturbed pass,
// in a CapturedStep, which a GPU replays as one CUDA graph. A network learns handwritten digits
// although 40 % of its labels are drawn at random. Each part is written as in the library; (*) marks
// what a captured step requires.
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/lpf.hpp>
#include <lpf/train/captured_step.hpp>
#include <string>

using namespace lpf;

namespace {

/// x/(1 + |x|), elementwise. Composed, it would store three tensors for backward; with its own
/// derivative it stores x.
/// (*) Nothing: its work is queued on x's device and depends on nothing else.
Tensor softsign(const Tensor& x) {
  if (x.is_replicated()) return map_replicas(softsign, x);  // a perturbed parameter
  const Tensor y = [&] {
    const auto off = no_grad();
    return x / (1.0 + abs(x));
  }();
  return record("softsign", y, {x},
                [x](const Tensor& g, Need) { return Grads{g * square(1.0 - abs(softsign(x)))}; });
}

/// x + sd·N(0, 1) in training mode, x in evaluation.
/// (*) Every pass draws anew, because its key comes from a counter that each replay advances.
struct GaussianNoise {
  nn::Path path;
  double sd;
  DrawCounter draws;

  GaussianNoise(const nn::Path& p, double deviation) : path(p), sd(deviation), draws(p.draw_counter()) {}

  Tensor operator()(const Tensor& x) const {
    if (!path.training()) return x;
    // A batch in parts (nn::MicroBatch) has the noise of the whole batch.
    const std::int64_t of_sample = x.numel() / x.size(0);
    const NoiseKey key = draws.next_of_batch("GaussianNoise", path.name());
    return x + sd * randn(x.shape(), key, x.options(), nn::MicroBatch::first_sample() * of_sample);
  }
};

/// mean((1 − p^q)/q) of the probabilities p that x [B, classes] assigns to the labels: between
/// cross-entropy (q → 0) and the mean absolute error (q = 1), which is more robust to wrong labels (Zhang &
/// Sabuncu 2018, eq. 6).
/// (*) Nothing. A loss with q computed from the step number would write scalar(step_scalar([…] { … })).
Tensor robust_cross_entropy(const Tensor& x, const Tensor& labels, double q = 0.7) {
  const Tensor log_p = -cross_entropy(x, labels, {.reduction = Reduction::none});
  return mean((1.0 - exp(q * log_p)) / q);
}

struct SignumOptions {
  double lr = 1e-3;
  double momentum = 0.9;
};

/// m ← µ·m + (1 − µ)·∇L, θ ← θ − η·sign(m) (Bernstein et al. 2018, algorithm 2), composed of
/// tensor operations.
/// (*) η comes from `now`, which is in device memory and is set by each replay; options.lr would be constant.
class Signum final : public optim::Optimizer<SignumOptions> {
 public:
  explicit Signum(const ParameterStore& params, const SignumOptions& options = {})
      : Optimizer(params, options), momentum_(new_state()) {}
  optim::StateVectors state() const override { return {{"momentum", momentum_}}; }

 private:
  void update(const optim::Range& range, const SignumOptions& o, const optim::StepNumbers& now) override {
    const Tensor theta = range.of(params_.theta()), m = range.of(momentum_);
    m.copy_(o.momentum * m + (1 - o.momentum) * range.of(params_.gradient()));
    theta.copy_(theta - sign(m) * scalar(now[0], theta.options()));
  }

  Tensor momentum_;
};

struct Net {
  nn::Linear fc1;
  GaussianNoise noise;
  nn::Parameter gain;
  nn::Linear fc2;
  explicit Net(const nn::Path& p)
      : fc1(p / "fc1", 64, 128),
        noise(p / "noise", 0.1),
        gain(p.parameter("gain", {128}, init::ones())),
        fc2(p / "fc2", 128, 10) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor h = softsign(noise(fc1(x)));
    return fc2(h * per_sample(softsign(gain), h));  // each sample with its slice's copy of the gain
  }
};

}  // namespace

int main(int argc, char** argv) try {
  const bool gpu = argc == 3 && argv[1] == std::string("--device") && argv[2] == std::string("cuda");
  if (argc > 1 && !gpu) return std::fprintf(stderr, "usage: custom_training [--device cuda]\n"), 2;
  const Device device = gpu ? Device::cuda() : Device::cpu();

  const auto [clean, test] = split(digits(), {1000, 797}, 1);
  DataLoader loader(with_label_noise(clean, {.probability = 0.4}),
                    {.batch_size = 64, .drop_last = true, .device = device});
  const Tensor images = test.images.to(device), labels = test.labels.to(device);

  const int epochs = 40;
  ParameterStore params({.device = device, .seed = 1});
  const Net net(params);
  Signum optimizer(params, {.lr = 2e-3});
  optimizer.set_schedule(schedule::cosine(epochs * loader.batches()));
  LowPassFilter filter({.M = 8, .gamma = 0.02});
  CapturedStep step([&](const Tensor& x, const Tensor& y) {
    const auto scope = filter.perturb(params);
    const Tensor loss = robust_cross_entropy(net(x), y);
    loss.backward();
    optimizer.step();
    return loss.detach();
  });

  for (int epoch = 1; epoch <= epochs; ++epoch) {
    double loss_sum = 0;
    for (const auto& [x, y] : loader) loss_sum += step(x, y).item();
    if (epoch % 8 == 0) {
      const EvalMode eval(params);
      const auto off = no_grad();
      const double accuracy = mean((argmax(net(images), 1) == labels).to(float32)).item();
      std::printf("epoch %2d: loss %.3f, learning rate %.5f, test error %.1f %%\n", epoch,
                  loss_sum / static_cast<double>(loader.batches()), optimizer.lr(), 100 * (1 - accuracy));
    }
  }
  std::printf("%llu steps, %llu draws of the layer's noise, %lld captured\n",
              static_cast<unsigned long long>(optimizer.steps()),
              static_cast<unsigned long long>(net.noise.draws.count()),
              static_cast<long long>(step.captured()));
  return 0;
} catch (const Error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
