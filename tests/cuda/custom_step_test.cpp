// A captured step of a user's own parts, as examples/custom_training.cpp and captured_step.cpp have them: operation,
// random layer, loss and optimizer, in a perturbed pass. Nothing here is of lpf::detail.
#include "compare.hpp"
#include "lpf/data/sets/digits.hpp"
#include "lpf/train/captured_step.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

Tensor softsign(const Tensor& x) {
  if (x.is_replicated()) return map_replicas(softsign, x);
  check_floating("softsign", x);
  const Tensor y = [&] {
    const auto off = no_grad();
    return x / (1.0 + abs(x));
  }();
  return record("softsign", y, {x},
                [x](const Tensor& g, Need) { return Grads{g * square(1.0 - abs(softsign(x)))}; });
}

struct GaussianNoise {
  nn::Path path;
  double sd;
  DrawCounter draws;
  GaussianNoise(const nn::Path& p, double deviation) : path(p), sd(deviation), draws(p.draw_counter()) {}
  Tensor noise(const Tensor& x) const {
    const NoiseKey key = draws.next_of_batch("GaussianNoise", path.name());
    return randn(x.shape(), key, x.options(),
                 nn::MicroBatch::first_row("GaussianNoise", x.size(0)) * x.shape().product(1, x.rank()));
  }
  Tensor operator()(const Tensor& x) const { return path.training() ? x + sd * noise(x) : x; }
};

/// q goes from 0.3 to 0.8: a number of the loss's own that changes from step to step.
struct RobustLoss {
  StepCounter calls;
  Tensor operator()(const Tensor& x, const Tensor& labels) {
    const Tensor q = scalar(
        step_scalar([this] { return std::min(0.3 + 0.02 * static_cast<double>(calls), 0.8); }), x.options());
    ++calls;
    return mean((1.0 - exp(-q * cross_entropy(x, labels, {.reduction = Reduction::none}))) / q);
  }
};

struct SignumOptions {
  double lr = 1e-3, momentum = 0.9;
};
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

struct OwnNet {
  nn::Linear fc1;
  GaussianNoise noise;
  nn::Parameter gain;
  nn::RMSNorm norm;
  nn::Linear fc2;
  explicit OwnNet(const nn::Path& p)
      : fc1(p / "fc1", 64, 12),
        noise(p / "noise", 0.3),
        gain(p.parameter("gain", {12}, init::normal(1, 0.2))),
        norm(p / "norm", 12),
        fc2(p / "fc2", 12, 10) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor h = softsign(noise(norm(fc1(x))));
    return fc2(h * per_sample(softsign(gain), h));
  }
};

struct OwnRun {
  std::vector<Tensor> losses, draws, theta;  // of each step, on the CPU
  std::vector<double> lr;
  std::uint64_t noise_draws = 0, filter_draws = 0, steps = 0;
  std::int64_t calls = 0, captured = 0;
};

/// `parts`: noise of six samples is drawn for four of them and then for two.
OwnRun own_run(bool graphs, bool parts) {
  ParameterStore params({.device = Device::cuda(), .seed = 3});
  const OwnNet net(params);
  const GaussianNoise aside(params / "aside", 1);
  Signum optimizer(params, {.lr = 0.01});
  optimizer.set_schedule(schedule::cosine(20, 0.1));
  RobustLoss loss_of;
  LowPassFilter filter({.M = 4, .gamma = 0.05});
  OwnRun run;
  CapturedStep step(
      [&](const Tensor& x, const Tensor& y) {
        ++run.calls;
        const auto scope = filter.perturb(params);
        const Tensor loss = loss_of(net(x), y);
        loss.backward();
        optimizer.step();
        if (!parts) return std::vector<Tensor>{loss.detach(), aside.noise(zeros({6, 2}, x.options()))};
        const Tensor first = aside.noise(zeros({4, 2}, x.options()));
        const nn::MicroBatch rest(4, 2);
        const Tensor second = aside.noise(zeros({2, 2}, x.options()));
        return std::vector<Tensor>{loss.detach(), concatenate({first, second})};
      },
      {.enabled = graphs});
  DataLoader loader(digits().take(160), {.batch_size = 32, .seed = 2, .device = Device::cuda()});
  for (int epoch = 0; epoch < 3; ++epoch)
    for (const auto& [x, y] : loader) {
      run.lr.push_back(optimizer.lr());
      const auto results = step(x, y);
      run.losses.push_back(results[0].to(Device::cpu()));
      run.draws.push_back(results[1].to(Device::cpu()));
      run.theta.push_back(params.theta().to(Device::cpu()).clone());
    }
  run.noise_draws = net.noise.draws.count();
  run.filter_draws = filter.draws();
  run.steps = optimizer.steps();
  run.captured = step.captured();
  return run;
}

}  // namespace

TEST_CASE("graph: a user's own operation, random layer, loss and optimizer") {
  SKIP_WITHOUT_CUDA;
  const OwnRun eager = own_run(false, false);
  for (const bool parts : {false, true}) {
    const OwnRun graph = own_run(true, parts);
    CHECK(eager.captured == 0);
    CHECK(graph.captured == 1);
    CHECK(eager.calls == 15);
    CHECK(graph.calls == 3);  // two as they are, one captured: the other twelve are replays
    REQUIRE(eager.losses.size() == 15);
    for (std::size_t k = 0; k < 15; ++k) {
      INFO("step ", k);
      REQUIRE(same_bits(graph.losses[k], eager.losses[k]));
      REQUIRE(same_bits(graph.theta[k], eager.theta[k]));
      REQUIRE(same_bits(graph.draws[k], eager.draws[k]));
      for (std::size_t before = 0; before < k; ++before)
        CHECK(!same_bits(graph.draws[k], graph.draws[before]));
      // Of sign(m) each step is as long as the schedule says.
      if (k > 0) {
        const double moved = largest_difference(graph.theta[k], graph.theta[k - 1]);
        CHECK(moved == doctest::Approx(graph.lr[k]).epsilon(1e-4));
        CHECK(graph.lr[k] < graph.lr[k - 1]);
      }
    }
    CHECK(graph.noise_draws == 15);
    CHECK(graph.filter_draws == eager.filter_draws);
    CHECK(graph.steps == 15);
  }
}

TEST_CASE("graph: what a user's step must not compute on the host is refused") {
  SKIP_WITHOUT_CUDA;
  CapturedStep step([](const Tensor& x) {
    check_not_captured("a loss with an exponent of the host's");
    return x + x;
  });
  const Tensor x = ones({3}, {.device = Device::cuda()});
  for (int k = 0; k < 2; ++k) step(x);
  CHECK_ERROR(step(x), StateError, "captured step", "an exponent of the host's", ".enabled = false");

  // run_and_replay: what the host counts goes on.
  std::int64_t seen = 0;
  CapturedStep counting([&](const Tensor& t) {
    run_and_replay([&] { ++seen; });
    return t + t;
  });
  for (int k = 0; k < 7; ++k) counting(x);
  CHECK(counting.captured() == 1);
  CHECK(seen == 7);
}

TEST_CASE("random tensors: the device's are the CPU's") {
  SKIP_WITHOUT_CUDA;
  const NoiseKey key{.seed = 5, .draw = 2};
  for (const DType dtype : floating)
    for (const std::int64_t first : {0, 3}) {
      const TensorOptions there{dtype, Device::cuda()}, here{dtype, Device::cpu()};
      CHECK(same_bits(rand({5, 7}, key, there, first).to(Device::cpu()), rand({5, 7}, key, here, first)));
      CHECK(same_bits(randn({5, 7}, key, there, first).to(Device::cpu()), randn({5, 7}, key, here, first)));
    }
}

TEST_CASE("conv1d and group_norm: the CPU's values, and their dtypes under autocast") {
  SKIP_WITHOUT_CUDA;
  const Tensor x = normal({6, 9, 4}, 1, float32), w = normal({8, 3, 2}, 2, float32),
               bias = normal({8}, 3, float32), scale = normal({8}, 4, float32);
  const auto run = [&](const Device& device) {
    const Tensor from = x.to(device).clone().requires_grad_(),
                 filters = w.to(device).clone().requires_grad_();
    const Tensor y =
        group_norm(conv1d(from, filters, bias.to(device), {.stride = 2, .padding = 1, .groups = 2}), 4,
                   scale.to(device), bias.to(device));
    const auto grads = grad(sum(square(y)), {from, filters});
    const Tensor pooled = avg_pool1d(max_pool1d(y, 3, {.stride = 2, .ceil_mode = true}), 2);
    return std::vector<Tensor>{y.detach().to(Device::cpu()), grads[0].to(Device::cpu()),
                               grads[1].to(Device::cpu()), pooled.detach().to(Device::cpu())};
  };
  const auto here = run(Device::cpu()), there = run(Device::cuda());
  for (std::size_t i = 0; i < here.size(); ++i) CHECK(relative_error(there[i], here[i]) < 1e-4);

  ParameterStore params({.device = Device::cuda()});
  const nn::Conv1d conv(params / "conv", 4, 8, 3);
  const nn::Conv2d image(params / "image", 4, 8, {1, 3});
  const nn::GroupNorm norm(params / "norm", 2, 8);
  {
    const auto off = no_grad();
    for (const char* name : {"weight", "bias"}) {
      const Tensor from = params.tensor(concat("conv.", name));
      params.tensor(concat("image.", name))
          .copy_(from.reshape(params.tensor(concat("image.", name)).shape()));
    }
  }
  const Tensor input = x.to(Device::cuda()), factor = normal({6, 7, 8}, 5, float32).to(Device::cuda());
  const auto backward = [&] {
    params.zero_grad();
    const auto scope = autocast();
    const Tensor h = conv(input), y = norm(h);
    CHECK(h.dtype() == bfloat16);
    CHECK(y.dtype() == float32);
    sum(y * factor).backward();
    const Tensor g = params.tensor("conv.weight").grad();
    CHECK(g.dtype() == float32);
    CHECK(abs(g).max().item() > 0);
    return g;
  };
  const Tensor g = backward().clone();
  {
    const auto scope = autocast();
    sum(norm(image(input.reshape({6, 1, 9, 4}))).reshape({6, 7, 8}) * factor).backward();
  }
  const Tensor of_image = params.tensor("image.weight").grad();
  CHECK(same_bits(g.to(Device::cpu()), of_image.reshape(g.shape()).to(Device::cpu())));
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  const auto pass = filter.perturb(params);
  backward();
}

TEST_CASE("rms_norm: under autocast in float32") {
  SKIP_WITHOUT_CUDA;
  const Tensor x = normal({4, 6}, 1, float32).to(Device::cuda()),
               weight = normal({6}, 2, float32).to(Device::cuda());
  const Tensor rounded = x.to(bfloat16);
  CHECK_ERROR(rms_norm(rounded, {6}, weight), DTypeError, "[rms_norm]", "bfloat16");
  const auto scope = autocast();
  const Tensor y = rms_norm(rounded, {6}, weight);
  CHECK(y.dtype() == float32);
  CHECK(same_bits(y.to(Device::cpu()), rms_norm(rounded.to(float32), {6}, weight).to(Device::cpu())));
  ParameterStore params({.device = Device::cuda()});
  const nn::RMSNorm norm(params / "norm", 6);
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  const auto pass = filter.perturb(params);
  const Tensor z = norm(rounded);
  z.backward(ones_like(z));
  CHECK(z.dtype() == float32);
  CHECK(abs(params.gradient()).max().item() > 0);
}
