// A run that is stopped and resumed is bit-identical to an uninterrupted one.
#include "lpf/autograd/engine.hpp"
#include "lpf/data/loader.hpp"
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/conv.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/sam.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/train/checkpoint.hpp"
#include "lpf_test.hpp"

using namespace lpf;
using lpf::test::TempDir;

namespace {

struct Net {
  nn::Conv2d conv;
  nn::BatchNorm2d bn;
  nn::Dropout drop;
  nn::Linear fc;
  explicit Net(const nn::Path& p)
      : conv(p / "conv", 2, 4, 3), bn(p / "bn", 4), drop(p / "drop", 0.3), fc(p / "fc", 16, 3) {}
  Tensor operator()(const Tensor& x) const { return fc(drop(relu(bn(conv(x))).flatten(1))); }
};

TensorDataset data() {
  Tensor x = empty({28, 4, 4, 2}), y = empty({28}, {.dtype = int64});
  x.backend().normal(x.dtype(), {.seed = 5}, 0, x.numel(), x.raw());
  for (std::int64_t i = 0; i < 28; ++i) y.data<std::int64_t>()[i] = i * i % 3;
  return {x, y};
}

optim::SGD make(const ParameterStore& params, optim::SGD*) {
  return optim::SGD(params, {.lr = 0.1, .momentum = 0.9, .dampening = 0.1, .weight_decay = 5e-4});
}
optim::AdamW make(const ParameterStore& params, optim::AdamW*) {
  return optim::AdamW(params, {.lr = 0.01, .weight_decay = 0.1, .amsgrad = true});
}

/// Ten steps of training with four batches per epoch: step 5 is in the middle of one.
template <class Optimizer>
struct Run {
  ParameterStore params;
  Net net;
  Optimizer optimizer;
  LowPassFilter filter;
  DataLoader loader;
  std::vector<double> losses;
  double loss_sum = 0;
  Checkpoint checkpoint;

  explicit Run(int workers = 0)
      : params({.seed = 1}),
        net(params),
        optimizer(make(params, static_cast<Optimizer*>(nullptr))),
        filter({.M = 3, .gamma = 0.1, .alpha = 4, .total_steps = 10, .seed = 2}),
        loader(data(), {.batch_size = 8, .seed = 3, .workers = workers}) {
    optimizer.set_schedule(schedule::cosine(10));
    checkpoint.add(params);
    checkpoint.add("optimizer", optimizer);
    checkpoint.add("filter", filter);
    checkpoint.add("loader", loader);
    checkpoint.add("loss sum", loss_sum);
  }

  /// Trains until `last` updates are done; calls after_step() after each.
  template <class AfterStep>
  void train(std::uint64_t last, bool use_sam, AfterStep after_step) {
    while (params.updates() < last) {
      for (auto [x, y] : loader) {
        losses.push_back(use_sam ? sam_step(x, y) : filter_step(x, y));
        loss_sum += losses.back();
        after_step();
        if (params.updates() == last) return;
      }
    }
  }
  double filter_step(const Tensor& x, const Tensor& y) {
    const auto scope = filter.perturb(params);
    const Tensor loss = cross_entropy(net(x), y);
    loss.backward();
    optim::clip_grad_norm(params, 1);
    optimizer.step();
    return loss.item();
  }
  double sam_step(const Tensor& x, const Tensor& y) {
    optim::SAM sam(params, optimizer, {.rho = 0.1});
    return sam.step([&] { return cross_entropy(net(x), y); }).item();
  }

  std::vector<double> numbers() const {
    std::vector<double> out{loss_sum};
    for (const auto& w : detail::weights_of(params))
      for (const double v : w.tensor.to_vector()) out.push_back(v);
    for (const auto& [name, state] : optimizer.state())
      for (const double v : state.to_vector()) out.push_back(v);
    return out;
  }
};

template <class Optimizer>
void compare(bool use_sam, int workers = 0) {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  Run<Optimizer> whole(workers);
  whole.train(10, use_sam, [&] {
    if (whole.params.updates() == 5) whole.checkpoint.save(name);
  });
  REQUIRE(whole.losses.size() == 10);

  Run<Optimizer> resumed(workers);
  resumed.checkpoint.load(name);
  CHECK(resumed.params.updates() == 5);
  resumed.train(10, use_sam, [] {});
  CHECK(resumed.losses == std::vector<double>(whole.losses.begin() + 5, whole.losses.end()));
  CHECK(resumed.numbers() == whole.numbers());
  CHECK(resumed.loader.state() == whole.loader.state());
  CHECK(resumed.filter.draws() == whole.filter.draws());
  CHECK(resumed.net.drop.draws.count() == whole.net.drop.draws.count());

  // And returning to an earlier state within the same objects, as after a failed step.
  whole.checkpoint.load(name);
  whole.losses.clear();
  whole.train(10, use_sam, [] {});
  CHECK(whole.losses == resumed.losses);
  CHECK(whole.numbers() == resumed.numbers());
}

}  // namespace

TEST_CASE("a resumed run equals an uninterrupted one to the bit: SGD with momentum and the filter") {
  compare<optim::SGD>(false);
}
TEST_CASE("a resumed run equals an uninterrupted one to the bit: AdamW with amsgrad and the filter") {
  compare<optim::AdamW>(false);
}
TEST_CASE("a resumed run equals an uninterrupted one to the bit: SAM, batches made ahead by a thread") {
  compare<optim::SGD>(true, 1);
}

TEST_CASE("what the checkpoint keeps is needed: without a part of it the resumed run differs") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  Run<optim::SGD> whole;
  whole.train(10, false, [&] {
    if (whole.params.updates() == 5) whole.checkpoint.save(name);
  });
  for (const std::string part : {"optimizer", "filter", "loader", "dropout", "updates", "steps"}) {
    CAPTURE(part);
    Run<optim::SGD> run;
    run.checkpoint.load(name);
    if (part == "optimizer") run.optimizer.state()[0].second.zero_();
    if (part == "filter") run.filter.set_draws(0);
    if (part == "loader") run.loader.restore({});
    if (part == "dropout") run.net.drop.draws.set_count(0);
    if (part == "updates") run.params.set_updates(4);
    if (part == "steps") run.optimizer.set_steps(4);
    run.train(10, false, [] {});
    CHECK(run.numbers() != whole.numbers());
  }
}
