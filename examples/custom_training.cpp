// A training loop of custom parts (random layer, loss and optimizer) in a perturbed pass. A network learns
// handwritten digits although 40 % of its labels are drawn at random. Each part is written as in the library.
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/lpf.hpp>

using namespace lpf;

namespace {

/// x + sd·N(0, 1) in training mode, x in evaluation. Each pass draws anew: its key comes from a counter of the
/// store, which a checkpoint stores.
struct GaussianNoise {
  nn::Path path;
  double sd;
  DrawCounter draws;

  GaussianNoise(const nn::Path& p, double deviation) : path(p), sd(deviation), draws(p.draw_counter()) {}

  Tensor operator()(const Tensor& x) const {
    if (!path.training()) return x;
    // A batch in parts (nn::MicroBatch) has the noise of the whole batch.
    const std::int64_t of_row = x.shape().product(1, x.rank());
    const NoiseKey key = draws.next_of_batch("GaussianNoise", path.name());
    return x + sd * randn(x.shape(), key, x.options(),
                          nn::MicroBatch::first_row("GaussianNoise", x.size(0)) * of_row);
  }
};

/// mean((1 − p^q)/q) of the probabilities p that x [B, classes] assigns to the labels: between
/// cross-entropy (q → 0) and the mean absolute error (q = 1), which is more robust to wrong labels (Zhang &
/// Sabuncu 2018, eq. 6). A mean over the samples, so that slice r has the weight |B_r|/|B|.
Tensor robust_cross_entropy(const Tensor& x, const Tensor& labels, double q = 0.7) {
  const Tensor log_p = -cross_entropy(x, labels, {.reduction = Reduction::none});
  return mean((1.0 - exp(q * log_p)) / q);
}

struct SignumOptions {
  double lr = 1e-3;
  double momentum = 0.9;
};

/// m ← μ·m + (1 − μ)·∇L, θ ← θ − η·sign(m) (Bernstein et al. 2018, algorithm 2), composed of tensor
/// operations. η is now[0], by the schedule; options.lr is the number before it.
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
  nn::Linear fc2;
  explicit Net(const nn::Path& p)
      : fc1(p / "fc1", 64, 128), noise(p / "noise", 0.1), fc2(p / "fc2", 128, 10) {}
  Tensor operator()(const Tensor& x) const { return fc2(relu(noise(fc1(x)))); }
};

}  // namespace

int main() {
  const auto [clean, test] = split(digits(), {1000, 797}, 1);
  DataLoader loader(with_label_noise(clean, {.probability = 0.4}), {.batch_size = 64});

  const int epochs = 40;
  ParameterStore params({.seed = 1});
  const Net net(params);
  Signum optimizer(params, {.lr = 2e-3});
  optimizer.set_schedule(schedule::cosine(epochs * loader.batches()));
  LowPassFilter filter({.M = 8, .gamma = 0.02});

  for (int epoch = 1; epoch <= epochs; ++epoch) {
    double loss_sum = 0;
    for (const auto& [x, y] : loader) {
      const auto scope = filter.perturb(params);
      const Tensor loss = robust_cross_entropy(net(x), y);
      loss.backward();
      optimizer.step();
      loss_sum += loss.item();
    }
    if (epoch % 8 == 0) {
      const EvalMode eval(params);
      const auto off = no_grad();
      const double accuracy = mean((argmax(net(test.images), 1) == test.labels).to(float32)).item();
      std::printf("epoch %2d: loss %.3f, learning rate %.5f, test error %.1f %%\n", epoch,
                  loss_sum / static_cast<double>(loader.batches()), optimizer.lr(), 100 * (1 - accuracy));
    }
  }
}
