// step() without a gradient is an error, and what counts as one.
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/entropy_sgd.hpp"
#include "lpf/optim/lion.hpp"
#include "lpf/optim/method.hpp"
#include "lpf/optim/rmsprop.hpp"
#include "lpf/optim/sgd.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// One layer and the gradient of a loss of it.
struct OneLayer {
  ParameterStore params{{.dtype = float64, .seed = 3}};
  nn::Linear layer{params / "fc", 3, 2};
  void backward() const { mean(square(layer(normal({4, 3})))).backward(); }
};

class Unnamed final : public optim::Optimizer<optim::SGDOptions> {
 public:
  explicit Unnamed(const ParameterStore& params, const optim::SGDOptions& options = {})
      : Optimizer(params, options) {}
  optim::StateVectors state() const override { return {}; }

 private:
  void update(const optim::Range&, const optim::SGDOptions&, const optim::StepNumbers&) override {}
};

/// An optimizer with momentum and weight decay, which move θ without a gradient.
template <class O, class Options>
void check_refused_without_gradient(const char* name, const Options& options) {
  CAPTURE(name);
  const OneLayer net;
  O optimizer(net.params, options);
  const auto refused = [&] {
    const Tensor theta = net.params.theta().clone();
    const auto steps = optimizer.steps(), updates = net.params.updates();
    CHECK_ERROR(optimizer.step(), StateError, name, "no gradient", "loss.backward()", "zero_grad()",
                "set_has_gradient");
    CHECK(same_bits(net.params.theta(), theta));
    CHECK((optimizer.steps() == steps && net.params.updates() == updates));
  };
  refused();
  net.backward(), net.backward();  // several are one gradient
  optimizer.step();
  refused();
  net.backward();
  optimizer.zero_grad();
  refused();
}

}  // namespace

TEST_CASE("step() without a gradient is an error that names the optimizer, and nothing changes") {
  using namespace optim;
  check_refused_without_gradient<SGD>("[SGD]", SGDOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1});
  check_refused_without_gradient<Adam>("[Adam]", AdamOptions{.lr = 0.1, .weight_decay = 0.1});
  check_refused_without_gradient<AdamW>("[AdamW]", AdamWOptions{.lr = 0.1, .weight_decay = 0.1});
  check_refused_without_gradient<RMSprop>("[RMSprop]", RMSpropOptions{.lr = 0.1, .momentum = 0.9});
  check_refused_without_gradient<Lion>("[Lion]", LionOptions{.lr = 0.1});
  check_refused_without_gradient<Unnamed>("[optimizer]", SGDOptions{});
}

TEST_CASE("step() takes a gradient of zeros, one that was written, and one of Entropy-SGD's dynamics") {
  const OneLayer net;
  optim::SGD sgd(net.params, {.lr = 0.1});
  (mean(net.layer(normal({4, 3}))) * 0.0).backward();
  CHECK_NOTHROW(sgd.step());
  net.params.gradient().fill_(1);
  CHECK_NOTHROW(sgd.step());
  part(net.params.gradient(), net.params.parameters()[1]).copy_(ones({2}, f64));
  CHECK_NOTHROW(sgd.step());
  if (net.params.device().is_cpu()) net.params.gradient().data<double>()[0] = 1;  // not seen
  CHECK_ERROR(sgd.step(), StateError, "set_has_gradient");
  net.params.set_has_gradient(0);
  CHECK(net.params.has_gradient());
  CHECK_NOTHROW(sgd.step());
  CHECK_FALSE(net.params.has_gradient());

  const auto loss = [&] { return mean(square(net.layer(normal({4, 3})))); };
  optim::EntropySGD dynamics(net.params, {.inner_steps = 2});
  dynamics.gradient(loss);
  CHECK_NOTHROW(sgd.step());
  CHECK_NOTHROW(dynamics.step(loss));
}

TEST_CASE(
    "step() without a gradient moves nothing where skip_unused leaves parameters alone, as in PyTorch") {
  const OneLayer net;
  const Tensor theta = net.params.theta().clone();
  optim::SGD skips(net.params, {.lr = 0.1, .weight_decay = 0.1, .skip_unused = true});
  CHECK_NOTHROW(skips.step());
  CHECK(same_bits(net.params.theta(), theta));
  optim::SGD group(net.params, {.lr = 0.1, .weight_decay = 0.1},
                   {{is_bias, {.lr = 0.1, .weight_decay = 0.1, .skip_unused = true}}});
  CHECK_ERROR(group.step(), StateError, "[SGD]", "no gradient");  // the weight would move
  CHECK(same_bits(net.params.theta(), theta));
}

TEST_CASE("step() where no parameter is trained has nothing to do") {
  const OneLayer net;
  for (const auto& info : net.params.parameters()) net.params.set_trainable(info.name, false);
  optim::SGD sgd(net.params, {.lr = 0.1});
  CHECK_NOTHROW(sgd.step());
  CHECK(sgd.steps() == 1);
}
