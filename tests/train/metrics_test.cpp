// Errors, means, confusion matrix, evaluation over a data set, the check of a loss.
#include "lpf/train/metrics.hpp"

#include <limits>

#include "lpf/autograd/engine.hpp"
#include "lpf/data/loader.hpp"
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf_test.hpp"

using namespace lpf;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

struct Net {
  nn::Linear fc;
  nn::BatchNorm1d bn;
  nn::Dropout drop;
  nn::Linear out;
  explicit Net(const nn::Path& p)
      : fc(p / "fc", 4, 8), bn(p / "bn", 8), drop(p / "drop", 0.5), out(p / "out", 8, 3) {}
  Tensor operator()(const Tensor& x) const { return out(drop(relu(bn(fc(x))))); }
};

Tensor random_inputs(std::int64_t n) {
  Tensor x = empty({n, 4});
  x.backend().normal(x.dtype(), {.seed = 2}, 0, x.numel(), x.raw());
  return x;
}
Tensor some_labels(std::int64_t n) {
  Tensor y = empty({n}, {.dtype = int64});
  for (std::int64_t i = 0; i < n; ++i) y.data<std::int64_t>()[i] = i * i % 3;
  return y;
}

}  // namespace

TEST_CASE("count_errors and accuracy") {
  const Tensor logits =
      from_vector<float>({1, 3, 2, 5, 4, 0, 7, 7, 7, -1, -2, -3}, {4, 3});  // 1, 0, 0 (first), 0
  CHECK(count_errors(logits, tensor<std::int64_t>({1, 0, 0, 0})) == 0);
  CHECK(count_errors(logits, tensor<std::int64_t>({1, 1, 2, 0})) == 2);
  CHECK(accuracy(logits, tensor<std::int64_t>({1, 1, 2, 0})) == 0.5);
  const Tensor tokens = logits.reshape({2, 2, 3});
  CHECK(count_errors(tokens, from_vector<std::int64_t>({1, 0, 2, 2}, {2, 2})) == 2);
  CHECK(count_errors(empty({0, 3}), empty({0}, {.dtype = int64})) == 0);
  CHECK(std::isnan(accuracy(empty({0, 3}), empty({0}, {.dtype = int64}))));

  CHECK_THROWS_AS(count_errors(logits, tensor<std::int64_t>({1, 0, 0})), ShapeError);
  CHECK_THROWS_AS(count_errors(logits, tensor({1.f, 0.f, 0.f, 0.f})), DTypeError);
  CHECK_THROWS_AS(count_errors(logits, tensor<std::int64_t>({1, 0, 3, 0})), IndexError);
  CHECK_THROWS_AS(count_errors(logits, tensor<std::int64_t>({1, 0, -1, 0})), IndexError);
  CHECK_THROWS_AS(count_errors(logits, tensor<std::int64_t>({1, 0, -101, 0})), IndexError);
  const Tensor some = tensor<std::int64_t>({1, 1, -100, -100});  // as cross_entropy, which ignores -100
  CHECK(count_errors(logits, some) == 1);
  CHECK(count_labels(some) == 2);
  CHECK(accuracy(logits, some) == 0.5);
  CHECK(std::isnan(accuracy(logits, full({4}, -100, {.dtype = int64}))));
  CHECK_THROWS_AS(count_errors(empty({4, 0}), tensor<std::int64_t>({1, 0, 0, 0})), ShapeError);
}

TEST_CASE("RunningMean weights what it is given") {
  RunningMean mean;
  CHECK(std::isnan(mean.value()));
  mean.add(1, 3);
  mean.add(5);
  CHECK(mean.value() == 2);
  CHECK(mean.weight() == 4);
  mean.add(not_a_number, 0);  // weight 0: ignored
  CHECK(mean.value() == 2);
  mean.add(not_a_number);
  CHECK(std::isnan(mean.value()));
  mean.reset();
  CHECK(mean.weight() == 0);
  for (const double bad : {-1.0, not_a_number, std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS(mean.add(1, bad), ValueError);
}

TEST_CASE("ConfusionMatrix") {
  ConfusionMatrix m(3);
  CHECK(std::isnan(m.accuracy()));
  const Tensor logits = from_vector<float>({1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1}, {4, 3});
  m.add(logits, tensor<std::int64_t>({0, 1, 0, 1}));
  m.add(logits, tensor<std::int64_t>({0, 1, 1, 1}));
  CHECK(m.total() == 8);
  CHECK(m.at(0, 0) == 2);
  CHECK(m.at(0, 1) == 1);
  CHECK(m.at(1, 1) == 3);
  CHECK(m.at(1, 2) == 2);
  CHECK(m.at(2, 2) == 0);
  CHECK(m.accuracy() == 5.0 / 8);
  CHECK(m.recall(0) == 2.0 / 3);
  CHECK(m.precision(1) == 3.0 / 4);
  CHECK(std::isnan(m.recall(2)));
  m.add(logits, tensor<std::int64_t>({-100, -100, 0, -100}));
  CHECK(m.total() == 9);
  CHECK(m.at(0, 1) == 2);
  CHECK_THROWS_AS(m.at(3, 0), IndexError);
  CHECK_THROWS_AS(m.add(empty({1, 4}), tensor<std::int64_t>({0})), ShapeError);
  CHECK_THROWS_AS(ConfusionMatrix(0), ValueError);
}

TEST_CASE("evaluate: in evaluation mode, without recording, the same for any batch size") {
  ParameterStore params({.seed = 7});
  const Net net(params);
  const Tensor x = random_inputs(23), y = some_labels(23);
  const Tensor mean_before = net.bn.running_mean.clone();
  bool recorded = false, trained = false;
  const auto watched = [&](const Tensor& input) {
    trained = trained || params.training();
    const Tensor out = net(input);
    recorded = recorded || out.requires_grad();
    return out;
  };
  const Evaluation whole = evaluate(params, watched, x, y, 100);
  CHECK_FALSE(recorded);
  CHECK_FALSE(trained);
  CHECK(params.training());
  CHECK(net.drop.draws.count() == 0);
  CHECK(net.bn.running_mean.to_vector() == mean_before.to_vector());
  CHECK(whole.samples == 23);
  CHECK(whole.error > 0);
  for (const std::int64_t size : {1, 5, 23}) {
    const Evaluation e = evaluate(params, net, x, y, size);
    CHECK(e.loss == doctest::Approx(whole.loss).epsilon(1e-6));
    CHECK(e.error == whole.error);
    CHECK(e.samples == 23);
  }
  params.eval();
  const auto off = no_grad();
  const Tensor out = net(x);
  CHECK(whole.loss == doctest::Approx(cross_entropy(out, y).item()).epsilon(1e-6));
  CHECK(whole.error == doctest::Approx(1 - accuracy(out, y)));
  evaluate(params, net, x, y);
  CHECK_FALSE(params.training());  // restored
}

TEST_CASE("evaluate: labels of -100 are neither in the loss nor in the error, whatever the batches") {
  ParameterStore params({.seed = 7});
  const Net net(params);
  const Tensor x = random_inputs(23), y = some_labels(23);
  const std::vector<std::int64_t> kept{3, 4, 9, 20};
  Tensor masked = full({23}, -100, {.dtype = int64});
  for (const std::int64_t i : kept) masked.data<std::int64_t>()[i] = y.data<std::int64_t>()[i];
  const Tensor rows = from_vector(kept, {4});
  const Evaluation expected = evaluate(params, net, index_select(x, 0, rows), index_select(y, 0, rows));
  for (const std::int64_t size : {1, 5, 23}) {  // some batches have no label at all
    const Evaluation e = evaluate(params, net, x, masked, size);
    CHECK(e.loss == doctest::Approx(expected.loss).epsilon(1e-6));
    CHECK(e.error == expected.error);
    CHECK(e.samples == 4);
  }
}

TEST_CASE("evaluate: over a loader, with a loss of one's own, and after an exception") {
  ParameterStore params({.seed = 7});
  const Net net(params);
  const Tensor x = random_inputs(10), y = some_labels(10);
  DataLoader loader(TensorDataset(x, y), {.batch_size = 4, .shuffle = true});
  CHECK(evaluate(params, net, loader).loss ==
        doctest::Approx(evaluate(params, net, x, y).loss).epsilon(1e-6));

  const Tensor target = full({10, 3}, 0.5);
  const auto mse = [](const Tensor& out, const Tensor& t) { return mse_loss(out, t); };
  const Evaluation regression = evaluate(params, net, x, target, 4, mse);
  CHECK(regression.loss == doctest::Approx(evaluate(params, net, x, target, 10, mse).loss).epsilon(1e-6));
  CHECK(std::isnan(regression.error));
  CHECK(regression.samples == 10);

  const auto failing = [](const Tensor&) -> Tensor { throw std::runtime_error("the user's"); };
  CHECK_THROWS_WITH(evaluate(params, failing, x, y), "the user's");
  CHECK(params.training());
  CHECK(is_grad_enabled());
  CHECK_THROWS_AS(evaluate(params, net, x, some_labels(9)), ShapeError);
  CHECK_THROWS_AS(evaluate(params, net, x, y, 0), ValueError);
  CHECK(std::isnan(evaluate(params, net, random_inputs(0), some_labels(0)).loss));
}

TEST_CASE("evaluate refuses to run inside a perturbed pass, but in its clean part") {
  ParameterStore params({.seed = 7});
  const Net net(params);
  const Tensor x = random_inputs(10), y = some_labels(10);
  const double loss = evaluate(params, net, x, y).loss;
  LowPassFilter filter({.M = 2, .gamma = 0.5});
  const auto scope = filter.perturb(params);
  CHECK_THROWS_AS(evaluate(params, net, x, y), StateError);
  CHECK(scope.clean([&] { return evaluate(params, net, x, y); }).loss == loss);
  (void)net(x);
}

TEST_CASE("finite_loss passes numbers on and explains what is none") {
  ParameterStore params({.seed = 7});
  const Net net(params);
  CHECK(finite_loss(full({}, 1.5), params) == 1.5);
  const auto message = [&](double value) -> std::string {
    try {
      finite_loss(full({}, value), params);
    } catch (const NumericError& e) { return e.what(); }
    return "no NumericError";
  };
  params.set_updates(37);
  for (const double bad : {not_a_number, std::numeric_limits<double>::infinity()}) {
    CHECK(message(bad).find("after 37 updates") != std::string::npos);
    CHECK(message(bad).find("Lower the learning rate") != std::string::npos);
    CHECK(message(bad).find("parameters are finite") != std::string::npos);
  }
  params.tensor("fc.bias").detach().fill_(not_a_number);
  CHECK(message(not_a_number).find("hold NaN or infinity already") != std::string::npos);
}
