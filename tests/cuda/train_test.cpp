// Training on the device compared with training on the CPU: the same noise, so the
// same run up to the order of sums.
#include "compare.hpp"
#include "lpf/data/sets/digits.hpp"
#include "lpf/models/lenet.hpp"
#include "lpf/models/mlp.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// The digits' pixels, 32 hidden units, 10 classes.
struct Dense : models::MLP {
  explicit Dense(const nn::Path& p) : models::MLP(p, {64, 32, 10}) {}
};
/// SmallLeNet on the digits' 8 × 8 pixels, upscaled by two.
struct Convolutional {
  models::SmallLeNet net;
  explicit Convolutional(const nn::Path& p)
      : net(p, {.image = 16, .channels = {3, 4}, .features = {12, 12}}) {}
  Tensor operator()(const Tensor& x) const { return net(x); }
};
/// Everything that has state or its own rule: batch norm, dropout, average pooling.
struct Normalized {
  nn::Conv2d conv;
  nn::BatchNorm norm;
  nn::Dropout dropout;
  nn::Linear fc;
  explicit Normalized(const nn::Path& p)
      : conv(p / "conv", 1, 4, 3, {.padding = 1}),
        norm(p / "norm", 4),
        dropout(p / "dropout", 0.2),
        fc(p / "fc", 4 * 16, 10) {}
  Tensor operator()(const Tensor& x) const {
    return fc(dropout(flatten(avg_pool2d(gelu(norm(conv(x))), 2), 1)));
  }
};
/// Pixels as words of a text of 64 words.
struct Embedded {
  nn::Embedding words;
  nn::LayerNorm norm;
  nn::Linear fc;
  explicit Embedded(const nn::Path& p)
      : words(p / "words", 17, 6), norm(p / "norm", {6}), fc(p / "fc", 6, 10) {}
  Tensor operator()(const Tensor& x) const {
    return fc(mean(norm(words(affine(flatten(x, 1), 16, 0).to(int64))), {1}));
  }
};

/// One step of a method; returns its loss.
using Step = std::function<double(const std::function<Tensor()>&)>;
using Method = std::function<Step(const ParameterStore&)>;

Method sgd() {
  return [](const ParameterStore& params) -> Step {
    auto base = std::make_shared<optim::SGD>(
        params, optim::SGDOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-3});
    return [base](const auto& loss) {
      const Tensor l = loss();
      l.backward();
      base->step();
      return l.item();
    };
  };
}
Method adam() {
  return [](const ParameterStore& params) -> Step {
    auto base = std::make_shared<optim::AdamW>(params, optim::AdamWOptions{.lr = 1e-3});
    return [base](const auto& loss) {
      const Tensor l = loss();
      l.backward();
      base->step();
      return l.item();
    };
  };
}
Method sam(std::int64_t slices) {
  return [slices](const ParameterStore& params) -> Step {
    auto base = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = 0.1, .momentum = 0.9});
    auto around = std::make_shared<optim::SAM<optim::SGD>>(params, *base,
                                                           optim::SAMOptions{.rho = 0.05, .slices = slices});
    return [base, around](const auto& loss) { return around->step(loss).item(); };
  };
}
Method lpf_sgd(Estimator estimator, ReplicaMemory memory = ReplicaMemory::automatic, std::int64_t M = 4) {
  return [=](const ParameterStore& params) -> Step {
    auto base = std::make_shared<optim::SGD>(params, optim::SGDOptions{.lr = 0.1, .momentum = 0.9});
    auto filter = std::make_shared<LowPassFilter>(
        LowPassFilterOptions{.M = M, .gamma = 0.02, .estimator = estimator, .memory = memory});
    return [=](const auto& loss) {
      const auto scope = filter->perturb(params);
      const Tensor l = loss();
      l.backward();
      base->step();
      return l.item();
    };
  };
}

struct Run {
  std::vector<double> losses;
  Tensor theta;
  std::vector<Tensor> buffers;
};

template <class Net>
Run train(Device device, DType type, const Method& method, int steps) {
  static const TensorDataset data = digits({.dtype = float64, .flat = false});
  const std::int64_t batch = 32;
  ParameterStore params({.dtype = type, .device = device, .seed = 3});
  const Net net(params);
  const Step step = method(params);
  Run run;
  for (int k = 0; k < steps; ++k) {
    Tensor x = data.images.narrow(0, k * batch, batch);
    if (std::is_same_v<Net, Convolutional>) {
      const Tensor rows = reshape(x, {batch, 8, 1, 8, 1, 1}),
                   two = ones({1, 1, 2, 1, 2, 1}, {.dtype = float64});
      x = reshape(mul(rows, two), {batch, 16, 16, 1});
    }
    const Tensor there = x.to(type).to(device), y = data.labels.narrow(0, k * batch, batch).to(device);
    run.losses.push_back(step([&] { return cross_entropy(net(there), y); }));
  }
  run.theta = params.theta().to(Device::cpu());
  for (const auto& b : params.buffers()) run.buffers.push_back(b.tensor.to(Device::cpu()));
  return run;
}

template <class Net>
void check_run(const Method& method, int steps, DType type = float64, double tolerance = 1e-9) {
  const Run here = train<Net>(Device::cpu(), type, method, steps),
            there = train<Net>(Device::cuda(), type, method, steps);
  for (std::size_t k = 0; k < here.losses.size(); ++k) {
    INFO("step ", k);
    REQUIRE(std::abs(there.losses[k] - here.losses[k]) <= tolerance);
  }
  CHECK(relative_error(there.theta, here.theta) <= tolerance);
  for (std::size_t i = 0; i < here.buffers.size(); ++i)
    CHECK(relative_error(there.buffers[i], here.buffers[i]) <= tolerance);
}

const std::vector<Estimator> estimators = {Estimator::replicas, Estimator::antithetic, Estimator::per_sample,
                                           Estimator::flipout, Estimator::flipout_pairs};

}  // namespace

TEST_CASE("train: a dense network on the digits, 50 steps of every method, as on the CPU") {
  SKIP_WITHOUT_CUDA;
  for (const auto& method :
       {sgd(), adam(), sam(1), sam(4), lpf_sgd(Estimator::replicas), lpf_sgd(Estimator::antithetic),
        lpf_sgd(Estimator::per_sample), lpf_sgd(Estimator::replicas, ReplicaMemory::recomputed),
        lpf_sgd(Estimator::replicas, ReplicaMemory::stored), lpf_sgd(Estimator::flipout),
        lpf_sgd(Estimator::flipout, ReplicaMemory::recomputed), lpf_sgd(Estimator::flipout_pairs),
        lpf_sgd(Estimator::flipout, ReplicaMemory::automatic, 32)})
    check_run<Dense>(method, 50);
}

TEST_CASE("train: in float32 the dense network drifts from the CPU's by rounding alone") {
  SKIP_WITHOUT_CUDA;
  for (const auto& method : {sgd(), sam(1), lpf_sgd(Estimator::replicas)})
    check_run<Dense>(method, 50, float32, 1e-3);
}

TEST_CASE("train: LeNet, 50 steps, as on the CPU [slow]") {
  SKIP_WITHOUT_CUDA;
  for (const auto& method : {sgd(), sam(1), lpf_sgd(Estimator::replicas)})
    check_run<Convolutional>(method, 50);
  for (const auto& method :
       {sam(4), lpf_sgd(Estimator::antithetic), lpf_sgd(Estimator::per_sample),
        lpf_sgd(Estimator::replicas, ReplicaMemory::recomputed), lpf_sgd(Estimator::flipout),
        lpf_sgd(Estimator::flipout, ReplicaMemory::automatic, 32)})
    check_run<Convolutional>(method, 8);
}

TEST_CASE("train: batch norm, dropout and average pooling as on the CPU, and their state") {
  SKIP_WITHOUT_CUDA;
  check_run<Normalized>(sgd(), 10);
  check_run<Normalized>(sam(1), 5);
  for (const Estimator e : estimators) check_run<Normalized>(lpf_sgd(e), 5);
}

TEST_CASE("train: embeddings and layer norm as on the CPU") {
  SKIP_WITHOUT_CUDA;
  check_run<Embedded>(sgd(), 10);
  check_run<Embedded>(sam(4), 5);
  for (const Estimator e : estimators) check_run<Embedded>(lpf_sgd(e), 5);
}

TEST_CASE("train: a batch is trained on without memory from the system after the first steps") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const backend::Table& t = backend::get(gpu);
  ParameterStore params({.device = gpu});
  const Dense net(params);
  const Step step = lpf_sgd(Estimator::replicas)(params);
  const Tensor x = normal({32, 64}, 1, float32).to(gpu), y = zeros({32}, {int64, gpu});
  const auto train = [&] { step([&] { return cross_entropy(net(x), y); }); };
  for (int k = 0; k < 3; ++k) train();
  const auto before = t.memory_stats().system_allocations;
  for (int k = 0; k < 5; ++k) train();
  CHECK(t.memory_stats().system_allocations == before);
}
