// Captured steps: bit-identical to the same training without a capture; memory; forbidden operations.
#include <optional>
#include <thread>

#include "compare.hpp"
#include "lpf/data/sets/digits.hpp"
#include "lpf/experiment/experiment.hpp"
#include "lpf/experiment/paper_result.hpp"
#include "lpf/models/shake_shake.hpp"
#include "lpf/optim/entropy_sgd.hpp"
#include "lpf/optim/lion.hpp"
#include "lpf/optim/plateau.hpp"
#include "lpf/optim/rmsprop.hpp"
#include "lpf/optim/smoothout.hpp"
#include "lpf/train/captured_step.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// Everything that draws, counts or has state: batch norm, dropout, and a perturbed weight.
struct Net {
  nn::Conv2d conv;
  nn::BatchNorm norm, mean_of_all;
  nn::Dropout dropout;
  nn::Linear fc1, fc2;
  explicit Net(const nn::Path& p)
      : conv(p / "conv", 1, 4, 3, {.padding = 1}),
        norm(p / "norm", 4),
        mean_of_all(p / "mean_of_all", 4, {.momentum = {}}),
        dropout(p / "dropout", 0.2),
        fc1(p / "fc1", 4 * 16, 12),
        fc2(p / "fc2", 12, 10) {}
  Tensor operator()(const Tensor& x) const {
    return fc2(dropout(gelu(fc1(flatten(avg_pool2d(relu(mean_of_all(norm(conv(x)))), 2), 1)))));
  }
};

/// A network one of whose layers the loss does not use.
struct HalfUsed {
  nn::Linear fc, unused;
  explicit HalfUsed(const nn::Path& p) : fc(p / "fc", 64, 10), unused(p / "unused", 10, 10) {}
  Tensor operator()(const Tensor& x) const { return fc(flatten(x, 1)); }
};

/// A method makes the step of a run; the closure keeps its optimizer alive.
using Step = std::function<Tensor(const std::function<Tensor()>& loss)>;
using Method = std::function<Step(const ParameterStore&)>;

template <class Optimizer, class Options>
Method plain(Options options) {
  return [options](const ParameterStore& params) -> Step {
    auto optimizer = std::make_shared<Optimizer>(params, options);
    optimizer->set_schedule(schedule::cosine(30));
    return [optimizer](const auto& loss) {
      const Tensor l = loss();
      l.backward();
      optimizer->step();
      return l.detach();
    };
  };
}
Method sgd(double clip = 0) {
  return [clip](const ParameterStore& params) -> Step {
    auto optimizer = std::make_shared<optim::SGD>(
        params, optim::SGDOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-3},
        std::vector<optim::ParameterGroup<optim::SGDOptions>>{
            {optim::is_vector, {.lr = 0.05, .momentum = 0.5}}});
    optimizer->set_schedule(schedule::cosine(30));
    return [=](const auto& loss) {
      const Tensor l = loss();
      l.backward();
      const Tensor norm = clip > 0 ? optim::clip_grad_norm(params, clip) : zeros({}, l.options());
      optimizer->step();
      return add(l.detach(), norm);
    };
  };
}
Method sam(const optim::SAMOptions& options) {
  return [options](const ParameterStore& params) -> Step {
    auto base = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = 0.1, .momentum = 0.9});
    base->set_schedule(schedule::cosine(30));
    auto around = std::make_shared<optim::SAM<optim::SGD>>(params, *base, options);
    return [base, around](const auto& loss) { return around->step(loss); };
  };
}
Method lpf_sgd(const LowPassFilterOptions& options) {
  return [options](const ParameterStore& params) -> Step {
    auto base = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = 0.1, .momentum = 0.9});
    base->set_schedule(schedule::cosine(30));
    auto filter = std::make_shared<LowPassFilter>(options);
    return [=](const auto& loss) {
      const auto scope = filter->perturb(params);
      const Tensor l = loss();
      l.backward();
      base->step();
      return l.detach();
    };
  };
}
Method smooth_out(const optim::SmoothOutOptions& options) {
  return [options](const ParameterStore& params) -> Step {
    auto base = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = 0.1});
    auto smooth = std::make_shared<optim::SmoothOut>(options);
    return [=](const auto& loss) {
      const auto scope = smooth->perturb(params);
      const Tensor l = loss();
      l.backward();
      base->step();
      return l.detach();
    };
  };
}
LowPassFilterOptions growing(Estimator estimator, ReplicaMemory memory = ReplicaMemory::automatic) {
  return {.M = 4,
          .gamma = 0.05,
          .alpha = 3,
          .total_steps = 25,
          .law = estimator == Estimator::antithetic ? NoiseLaw::tensor_wise : NoiseLaw::filter_wise,
          .estimator = estimator,
          .memory = memory};
}

const TensorDataset& pixels() {
  static const TensorDataset data = digits({.flat = false}).take(200);
  return data;
}

struct Run {
  std::vector<Tensor> losses;
  Tensor theta;
  std::vector<Tensor> buffers;
  std::vector<std::uint64_t> counters;
  std::uint64_t updates = 0, version = 0;
  std::int64_t captured = 0, calls = 0;  // of the function itself
};

/// Six epochs of 4 batches of 48 images and one of 8: 30 steps. Losses are read at the end.
template <class Model = Net>
Run train(const Method& method, bool graphs, int warm_up = 2) {
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu, .seed = 3});
  const Model net(params);
  const Step one = method(params);
  DataLoader loader(pixels(), {.batch_size = 48, .seed = 2, .device = gpu});
  Run run;
  CapturedStep step(
      [&](const Tensor& x, const Tensor& y) {
        ++run.calls;
        return one([&] { return cross_entropy(net(x), y); });
      },
      {.enabled = graphs, .warm_up = warm_up});
  for (int epoch = 0; epoch < 6; ++epoch)
    for (const auto& [x, y] : loader) run.losses.push_back(step(x, y));
  for (Tensor& loss : run.losses) loss = loss.to(Device::cpu());
  run.theta = params.theta().to(Device::cpu());
  for (const auto& b : params.buffers()) run.buffers.push_back(b.tensor.to(Device::cpu()));
  for (const auto& c : params.counters()) run.counters.push_back(*c.value);
  run.updates = params.updates();
  run.version = params.version();
  run.captured = step.captured();
  return run;
}

template <class Model = Net>
void check_equal(const Method& method, int warm_up = 2) {
  const Run plain = train<Model>(method, false), graph = train<Model>(method, true, warm_up);
  CHECK(plain.captured == 0);
  CHECK(graph.captured == 2);  // for 48 images, and for the last 8
  CHECK(graph.calls == 2 * (warm_up + 1));
  REQUIRE(plain.losses.size() == 30);
  for (std::size_t k = 0; k < plain.losses.size(); ++k) {
    INFO("step ", k, ": ", plain.losses[k].item(), " and ", graph.losses[k].item());
    REQUIRE(same_bits(plain.losses[k], graph.losses[k]));
  }
  CHECK(same_bits(plain.theta, graph.theta));
  for (std::size_t i = 0; i < plain.buffers.size(); ++i) CHECK(same_bits(plain.buffers[i], graph.buffers[i]));
  CHECK(plain.counters == graph.counters);
  CHECK(plain.updates == graph.updates);
  for (const Run* run : {&plain, &graph})
    CHECK(run->version >= run->updates);  // each step marks θ as changed
}

}  // namespace

TEST_CASE("graph: SGD with groups, a schedule and clipping") {
  SKIP_WITHOUT_CUDA;
  check_equal(sgd());
  check_equal(sgd(0.5));
  check_equal(sgd(), 1);
}

TEST_CASE("graph: Lion, composed of operations that read the step's numbers from the device") {
  SKIP_WITHOUT_CUDA;
  check_equal(plain<optim::Lion>(optim::LionOptions{.lr = 1e-3, .weight_decay = 1e-2}));
}

TEST_CASE("graph: RMSprop, and a rate that ReduceOnPlateau lowers between replays") {
  SKIP_WITHOUT_CUDA;
  check_equal(
      plain<optim::RMSprop>(optim::RMSpropOptions{.lr = 1e-3, .momentum = 0.9, .weight_decay = 1e-2}));
  check_equal(plain<optim::RMSprop>(optim::RMSpropOptions{.lr = 1e-3, .centered = true}));
  check_equal([](const ParameterStore& params) -> Step {
    auto sgd = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = 0.1});
    auto plateau = std::make_shared<schedule::ReduceOnPlateau>(
        schedule::ReduceOnPlateauOptions{.factor = 0.5, .patience = 3});
    sgd->set_schedule(*plateau);
    return [=](const auto& loss) {
      const Tensor l = loss();
      l.backward();
      sgd->step();
      run_and_replay([=] { plateau->step(1); });
      return l.detach();
    };
  });
}

TEST_CASE("graph: optimizers that leave unused parameters alone") {
  SKIP_WITHOUT_CUDA;
  check_equal<HalfUsed>(plain<optim::SGD>(
      optim::SGDOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1, .skip_unused = true}));
  check_equal<HalfUsed>(plain<optim::Adam>(optim::AdamOptions{.weight_decay = 0.1, .skip_unused = true}));
}

TEST_CASE("graph: a gradient that arrives before the step makes it be captured anew, and replays count it") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor x = normal({8, 6}, 1, float32).to(gpu);
  std::vector<Tensor> thetas;
  std::vector<std::vector<std::uint64_t>> steps;
  for (const bool graphs : {false, true}) {
    ParameterStore params({.device = gpu, .seed = 3});
    const nn::Linear a(params / "a", 6, 3), b(params / "b", 6, 3);
    optim::Adam adam(params, {.lr = 0.1, .weight_decay = 0.1, .skip_unused = true});
    CapturedStep step(
        [&](const Tensor& input) {
          mean(square(a(input))).backward();
          adam.step();
        },
        {.enabled = graphs, .warm_up = 1});
    CapturedStep only_gradient([&](const Tensor& input) { mean(square(b(input))).backward(); },
                               {.enabled = graphs, .warm_up = 1});
    for (int t = 0; t < 12; ++t) {
      if (t == 5 || t == 6 || t > 8) only_gradient(x);
      step(x);
    }
    thetas.push_back(params.theta().to(Device::cpu()));
    steps.push_back(adam.parameter_steps());
  }
  CHECK(same_bits(thetas[0], thetas[1]));
  CHECK(steps[0] == std::vector<std::uint64_t>{12, 12, 5, 5});
  CHECK(steps[1] == steps[0]);
}

TEST_CASE("graph: the gradient of a replay is one for a step outside, which without it is refused") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor x = normal({8, 6}, 1, float32).to(gpu);
  std::vector<Tensor> thetas;
  for (const bool graphs : {false, true}) {
    ParameterStore params({.device = gpu, .seed = 3});
    const nn::Linear a(params / "a", 6, 3);
    optim::SGD sgd(params, {.lr = 0.1, .momentum = 0.9});
    CapturedStep gradient([&](const Tensor& input) { mean(square(a(input))).backward(); },
                          {.enabled = graphs, .warm_up = 1});
    for (int t = 0; t < 5; ++t) {
      gradient(x);
      CHECK(params.has_gradient());
      sgd.step();
      CHECK_ERROR(sgd.step(), StateError, "no gradient");
    }
    CHECK(gradient.captured() == (graphs ? 1 : 0));
    thetas.push_back(params.theta().to(Device::cpu()));
  }
  CHECK(same_bits(thetas[0], thetas[1]));
}

TEST_CASE("graph: Adam and AdamW") {
  SKIP_WITHOUT_CUDA;
  check_equal(plain<optim::Adam>(optim::AdamOptions{.lr = 1e-2, .weight_decay = 1e-3}));
  check_equal(plain<optim::AdamW>(optim::AdamWOptions{.lr = 1e-2, .amsgrad = true}));
}

TEST_CASE("graph: LPF-SGD with every estimator and a radius that grows") {
  SKIP_WITHOUT_CUDA;
  for (const Estimator e : {Estimator::replicas, Estimator::antithetic, Estimator::per_sample,
                            Estimator::flipout, Estimator::flipout_pairs})
    check_equal(lpf_sgd(growing(e)));
  check_equal(lpf_sgd(growing(Estimator::flipout, ReplicaMemory::recomputed)));
  check_equal(lpf_sgd(growing(Estimator::replicas, ReplicaMemory::recomputed)));
}

TEST_CASE("graph: SAM, ASAM and SAM by slices") {
  SKIP_WITHOUT_CUDA;
  check_equal(sam({.rho = 0.05}));
  check_equal(sam({.rho = 0.5, .adaptive = true, .clip_norm = 0.5}));
  check_equal(sam({.rho = 0.05, .slices = 4}));
}

TEST_CASE("graph: the clean loss beside the perturbed one, and a look in evaluation mode") {
  SKIP_WITHOUT_CUDA;
  check_equal([](const ParameterStore& params) -> Step {
    auto sgd = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = 0.1});
    auto filter = std::make_shared<LowPassFilter>(LowPassFilterOptions{.M = 4, .gamma = 0.05});
    return [=](const auto& loss) {
      const auto scope = filter->perturb(params);
      const Tensor clean = scope.clean(loss), l = loss();
      l.backward();
      const Tensor judged = [&] {
        const EvalMode eval(params);
        return scope.clean(loss);
      }();
      sgd->step();
      return add(l.detach(), add(clean, judged));
    };
  });
}

TEST_CASE("graph: SmoothOut") {
  SKIP_WITHOUT_CUDA;
  check_equal(smooth_out({.a = 0.01, .adaptive = true, .M = 2}));
}

namespace {

struct Words {
  nn::Embedding words;
  models::Shake shake;
  nn::Linear fc;
  explicit Words(const nn::Path& p) : words(p / "words", 17, 6), shake(p / "shake"), fc(p / "fc", 6, 10) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor e = reshape(mean(words(affine(flatten(x, 1), 16, 0).to(int64)), {1}), {x.size(0), 1, 1, 6});
    return fc(flatten(shake(e, tanh(e)), 1));
  }
};

/// A parameter w, a step that subtracts lr·x from it, and all counters.
struct Small {
  ParameterStore params{{.device = Device::cuda()}};
  nn::Parameter w = nn::Path(params).parameter("w", {4}, init::ones());
  optim::SGD sgd{params, {.lr = 0.5}};
  Tensor step(const Tensor& x) {
    const Tensor loss = sum(mul(w.value(), x));
    loss.backward();
    sgd.step();
    return loss.detach();
  }
};
Tensor ones_there(double value = 1) { return full({4}, value, {.device = Device::cuda()}); }

}  // namespace

TEST_CASE("graph: mixed precision, within the step and around it") {
  SKIP_WITHOUT_CUDA;
  check_equal([](const ParameterStore& params) -> Step {
    return [step = lpf_sgd(growing(Estimator::replicas))(params)](const auto& loss) {
      const auto scope = autocast();
      return step(loss);
    };
  });
  std::optional<Autocast> scope(std::in_place, bfloat16);
  check_equal(lpf_sgd(growing(Estimator::per_sample)));
  check_equal(sgd());

  // An evaluation of the network, between which the weights may change: each replay rounds them.
  ParameterStore params({.device = Device::cuda()});
  const nn::Linear fc(nn::Path(params) / "fc", 4, 1, {.bias = false});
  CapturedStep look([&](const Tensor& x) {
    const auto off = no_grad();
    return fc(reshape(x, {1, 4}));
  });
  for (const double w : {1, 1, 1, 2, 2, 3}) {
    const auto off = no_grad();
    if (fc.weight.value().to(Device::cpu()).to_vector()[0] != w) params.theta().fill_(w);
    const Tensor y = look(ones_there());
    CHECK(y.dtype() == bfloat16);
    CHECK(y.to(float32).item() == 4 * w);
  }
  scope.reset();
  for (int k = 0; k < 4; ++k) CHECK(look(ones_there()).dtype() == float32);
}

TEST_CASE("graph: embeddings, and shares of branches drawn for each image") {
  SKIP_WITHOUT_CUDA;
  check_equal<Words>(lpf_sgd(growing(Estimator::replicas)));
}

TEST_CASE("graph: on the CPU, disabled, or with more shapes than it keeps, a step is its function") {
  SKIP_WITHOUT_CUDA;
  int calls = 0;
  const auto f = [&](const Tensor& x) {
    ++calls;
    return add(x, x);
  };
  CapturedStep on_cpu(f), disabled(f, {.enabled = false}), few(f, {.warm_up = 1, .most_shapes = 1});
  for (int k = 0; k < 5; ++k) CHECK(on_cpu(full({2}, 3, {.device = Device::cpu()})).to_vector()[0] == 6);
  for (int k = 0; k < 5; ++k) CHECK(holds(disabled(ones_there()), {4}, {2, 2, 2, 2}));
  CHECK(calls == 10);
  CHECK(on_cpu.captured() + disabled.captured() == 0);
  for (int k = 0; k < 5; ++k) few(ones_there());
  CHECK(calls == 12);  // one uncaptured, one captured
  for (int k = 0; k < 5; ++k) CHECK(few(zeros({3}, {.device = Device::cuda()})).numel() == 3);
  CHECK(calls == 17);
  CHECK(few.captured() == 1);
}

TEST_CASE("graph: what a step returns keeps its values, and other memory is left alone") {
  SKIP_WITHOUT_CUDA;
  const backend::Table& t = backend::get(Device::cuda());
  Tensor kept;
  {
    CapturedStep step([&](const Tensor& x) {
      const Tensor y = exp(mul(x, x));
      kept = mul(y, y);  // outlives the capture
      return std::vector<Tensor>{add(y, y), y};
    });
    std::vector<Tensor> results, others;
    for (int k = 0; k < 8; ++k) {
      results.push_back(step(ones_there(0.1 * k))[1]);
      others.push_back(ones_there(k));  // would get the blocks of the step if those were free
      others.push_back(ones_there(-k));
    }
    CHECK(step.captured() == 1);
    for (int k = 0; k < 8; ++k) {
      const auto i = static_cast<std::size_t>(k);
      CHECK(results[i].to_vector<float>()[3] == doctest::Approx(std::exp(0.01 * k * k)));
      CHECK(holds(others[2 * i], {4}, std::vector<double>(4, k)));
      CHECK(holds(others[2 * i + 1], {4}, std::vector<double>(4, -k)));
    }
    kept = Tensor();  // its block returns to the graph's memory, which is not shared
    const Tensor more = ones_there(5), again = ones_there(6);
    step(ones_there(0.2));
    CHECK(holds(more, {4}, {5, 5, 5, 5}));
    CHECK(holds(again, {4}, {6, 6, 6, 6}));
    step(ones_there(0.2));
    kept = results[0];
  }
  CHECK(kept.to_vector<float>()[0] == 1);
  const auto before = t.memory_stats().in_use;
  {
    Small small;
    Tensor left;
    {
      CapturedStep step([&](const Tensor& x) { return left = exp(x), small.step(x); });
      for (int k = 0; k < 5; ++k) step(ones_there());
    }
    CHECK(left.numel() == 4);  // of a destroyed graph
  }
  CHECK(t.memory_stats().in_use == before);
}

TEST_CASE("graph: no memory of the system's after the first replays") {
  SKIP_WITHOUT_CUDA;
  const backend::Table& t = backend::get(Device::cuda());
  Small small;
  CapturedStep step([&](const Tensor& x) { return small.step(x); });
  for (int k = 0; k < 5; ++k) step(ones_there());
  const auto before = t.memory_stats().system_allocations;
  for (int k = 0; k < 5; ++k) step(ones_there());
  CHECK(t.memory_stats().system_allocations == before);
}

TEST_CASE("graph: what would wait for the device, or copy from the host, is refused before CUDA sees it") {
  SKIP_WITHOUT_CUDA;
  const backend::Table& t = backend::get(Device::cuda());
  const Tensor there = ones_there();
  DataLoader loader(pixels(), {.batch_size = 10, .device = Device::cuda()});
  const auto refused = [&](const std::function<void(const Tensor&)>& f, const char* what) {
    CapturedStep step([&](const Tensor& x) { f(x); }, {.warm_up = 1});
    step(there);
    for (int k = 0; k < 2; ++k) CHECK_ERROR(step(there), StateError, "captured step", what);
    CHECK(step.captured() == 0);
    CHECK(holds(add(there, there), {4}, {2, 2, 2, 2}));  // the device continues to work
  };
  refused([](const Tensor& x) { sum(x).item(); }, "return the tensor from the step");
  refused([](const Tensor& x) { x.to_vector(); }, "read from the device");
  refused([](const Tensor& x) { x.to(Device::cpu()); }, "read from the device");
  refused([&](const Tensor& x) { t.dot(float32, 4, x.raw(), x.raw()); }, "read from the device");
  refused([&](const Tensor&) { t.synchronize(); }, "read from the device");
  refused([](const Tensor& x) { add(x, zeros({4}, {.device = Device::cpu()}).to(Device::cuda())); },
          "copy from the host");
  refused([&](const Tensor&) { static_cast<void>(loader.begin()); }, "take a batch");
  refused(
      [](const Tensor& x) {
        backend::get(x.device()).begin_capture();
        backend::get(x.device()).destroy_graph(backend::get(x.device()).end_capture());
      },
      "begin another");
  ParameterStore params({.device = Device::cuda()});
  const nn::Parameter w = nn::Path(params).parameter("w", {4}, init::ones());
  optim::EntropySGD entropy(params, {.inner_steps = 1});
  refused(
      [&](const Tensor& x) {
        const Tensor row = reshape(x, {1, 4});
        entropy.step([&] { return sum(mul(per_sample(w.value(), row), row)); });
      },
      "Entropy-SGD");
  CapturedStep step([](const Tensor& x) { return x; });
  CHECK_ERROR(step(w.clean()), StateError, "has a history");
  CapturedStep two([](const Tensor& x, const Tensor&) { return x; });
  CHECK_ERROR(two(there, zeros({4}, {.device = Device::cpu()})), DeviceError, "1 of the 2 arguments");
  LowPassFilter filter({.M = 1, .gamma = 0.1});
  const auto scope = filter.perturb(params);
  static_cast<void>(w.value());
  CHECK_ERROR(step(there), StateError, "perturbed pass is open");
  CHECK_ERROR(CapturedStep([](const Tensor& x) { return x; }, {.warm_up = 0}), ValueError, "warm_up");
}

TEST_CASE("graph: an exception in a captured step leaves what it leaves in any other") {
  SKIP_WITHOUT_CUDA;
  for (const bool after_update : {false, true}) {
    std::vector<Tensor> theta, gradient;
    std::vector<std::uint64_t> updates;
    for (const bool graphs : {false, true}) {
      Small small;
      bool fails = false;
      CapturedStep step(
          [&](const Tensor& x) {
            sum(mul(small.w.value(), x)).backward();
            if (fails && !after_update) throw std::runtime_error("no more");
            small.sgd.step();
            if (fails) throw std::runtime_error("no more");
            return x;
          },
          {.enabled = graphs, .warm_up = 2});
      for (int k = 0; k < 2; ++k) step(ones_there());
      fails = true;
      CHECK_THROWS_WITH(step(ones_there(2)), "no more");
      CHECK(step.captured() == 0);
      theta.push_back(small.params.theta().to(Device::cpu()));
      gradient.push_back(small.params.gradient().to(Device::cpu()));
      updates.push_back(small.params.updates());
      CHECK(small.params.has_gradient() == !after_update);
      small.params.zero_grad();
      fails = false;
      for (int k = 0; k < 3; ++k) step(ones_there(3));
      CHECK(step.captured() == (graphs ? 1 : 0));
      theta.push_back(small.params.theta().to(Device::cpu()));
      updates.push_back(small.params.updates());
    }
    CHECK(same_bits(theta[0], theta[2]));
    CHECK(same_bits(theta[1], theta[3]));
    CHECK(same_bits(gradient[0], gradient[1]));
    CHECK(updates[0] == updates[2]);
    CHECK(updates[1] == updates[3]);
  }
}

TEST_CASE("graph: a pass without its scope is noticed by the replay after it") {
  SKIP_WITHOUT_CUDA;
  Small small;
  LowPassFilter filter({.M = 1, .gamma = 0.1});
  CapturedStep step([&](const Tensor& x) {
    const auto scope = filter.perturb(small.params);
    const Tensor loss = sum(mul(per_sample(small.w.value(), x), x));
    loss.backward();
    small.sgd.step();
    return loss.detach();
  });
  const Tensor x = ones({2, 4}, {.device = Device::cuda()});
  for (int k = 0; k < 4; ++k) step(x);
  CHECK(step.captured() == 1);
  { static_cast<void>(filter.perturb(small.params)); }
  CHECK_ERROR(step(x), StateError, "ended without reading a parameter");
  CHECK_NOTHROW(step(x));
}

TEST_CASE("graph: another mode, or an optimizer put back to its first step, is captured anew") {
  SKIP_WITHOUT_CUDA;
  std::vector<std::vector<double>> seen;
  for (const bool graphs : {false, true}) {
    ParameterStore params({.device = Device::cuda()});
    const nn::Dropout dropout(params / "dropout", 0.5);
    const nn::Parameter w = nn::Path(params).parameter("w", {4}, init::ones());
    optim::SGD sgd(params, {.lr = 0.1, .momentum = 0.9});
    CapturedStep step(
        [&](const Tensor& x) {
          const Tensor loss = sum(mul(dropout(x), w.value()));
          loss.backward();
          sgd.step();
          return loss.detach();
        },
        {.enabled = graphs});
    auto& losses = seen.emplace_back();
    const auto some = [&] {
      for (int k = 0; k < 5; ++k) losses.push_back(step(ones_there()).item());
    };
    some();
    params.eval();
    some();
    CHECK(step.captured() == graphs);
    params.train();
    some();
    sgd.set_steps(0);
    some();
    CHECK(step.captured() == graphs);
  }
  CHECK(seen[0] == seen[1]);
}

TEST_CASE("graph: a copy that another thread starts during a capture comes after it") {
  SKIP_WITHOUT_CUDA;
  const backend::Table& t = backend::get(Device::cuda());
  const Tensor to = ones_there();
  auto* from = static_cast<float*>(t.allocate_pinned(16));
  std::fill_n(from, 4, 7.f);
  std::atomic<bool> done = false;
  std::thread other;
  std::uint64_t number = 0;
  t.begin_capture();
  other = std::thread([&] {
    number = t.copy_beside(to.raw(), from, 16);
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK_FALSE(done);
  t.destroy_graph(t.end_capture());
  other.join();
  t.queue_after(number);
  CHECK(holds(to, {4}, {7, 7, 7, 7}));
  t.wait_for(number);
  t.deallocate_pinned(from, 16);
}

TEST_CASE("graph: what another thread copies to or from the device during a capture comes after it") {
  SKIP_WITHOUT_CUDA;
  const backend::Table& t = backend::get(Device::cuda());
  const Tensor x = ones_there();
  std::atomic<bool> done = false;
  t.begin_capture();
  std::thread other([&] {
    x.copy_(full({4}, 3, {.device = Device::cpu()}));
    CHECK(holds(x, {4}, {3, 3, 3, 3}));
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK_FALSE(done);
  t.destroy_graph(t.end_capture());
  other.join();
  CHECK(done);
}

TEST_CASE("graph: memory may be taken from the system, and given back to it, while a step is captured") {
  SKIP_WITHOUT_CUDA;
  const backend::Table& t = backend::get(Device::cuda());
  CapturedStep step([&](const Tensor& x) {
    const Tensor y = add(x, x);
    static_cast<void>(empty({3 << 20}, {.device = Device::cuda()}));
    t.release_cache();
    return add(y, x);
  });
  for (int k = 0; k < 5; ++k) {
    const Tensor before = ones_there(k);  // work that is queued when the memory goes
    CHECK(holds(step(before), {4}, std::vector<double>(4, 3 * k)));
  }
  CHECK(step.captured() == 1);
}

TEST_CASE("graph: a run of train has the same history, whether it is resumed or not") {
  SKIP_WITHOUT_CUDA;
  const Device before = default_device();
  set_default_device(Device::cuda());
  const std::shared_ptr<void> restore(nullptr, [&](void*) { set_default_device(before); });
  for (const std::string optimizer : {"lpf-sgd", "sam", "entropy-sgd"}) {
    auto s = experiment::paper({.optimizer = optimizer});
    s.epochs = 3, s.batch = 40, s.train_samples = 200, s.width = 16, s.alpha = 5, s.clip_norm = 1;
    std::vector<std::vector<double>> losses;
    for (const bool graphs : {false, true})
      for (const bool stopped : {false, true}) {
        const TempDir folder;
        experiment::RunOptions options{
            .out = folder / "run", .progress = ProgressStyle::none, .graphs = graphs};
        if (stopped) {
          options.stop = [left = 8]() mutable { return --left == 0; };
          experiment::run(s, options);
          options.stop = {};
          options.resume = true;
        }
        auto& all = losses.emplace_back();
        for (const auto& e : experiment::run(s, options).history)
          all.insert(all.end(), {e.train_loss, e.train_error, e.test_loss, e.lr});
      }
    CHECK(losses[0].size() == 12);
    for (const auto& other : losses) CHECK(other == losses[0]);
  }
}
