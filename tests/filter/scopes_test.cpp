// The perturbed pass as a scope: nesting, and errors.
#include <memory>
#include <thread>

#include "lpf/optim/sgd.hpp"
#include "networks.hpp"

namespace lpf::test {
namespace {

bool none_open() { return nn::detail::active_passes().empty(); }

TEST_CASE("parameters are replicas inside the scope and plain outside") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 3, 2);
  LowPassFilter filter({.M = 4, .gamma = 0.1});
  CHECK_FALSE(fc.weight.value().is_replicated());
  {
    const auto scope = filter.perturb(params);
    CHECK(fc.weight.value().is_replicated());
    CHECK(fc.weight.value().shape() == Shape{2, 3});
    CHECK_FALSE(fc.weight.clean().is_replicated());
    CHECK(scope.M() == 4);
    CHECK(fc.weight.pass() == &scope);
    CHECK((fc.weight.value() + ones({2, 3}, {.dtype = float64})).is_replicated());
    CHECK_ERROR(matmul(fc.weight.value(), ones({3, 3}, {.dtype = float64})), ReplicaError, "[matmul]",
                "linear(x, transpose(parameter))");
    CHECK_ERROR(fc.weight.value().to_vector(), ReplicaError, "M = 4");
  }
  CHECK_FALSE(fc.weight.value().is_replicated());
  CHECK(fc.weight.pass() == nullptr);
  for (int i = 0; i < 3; ++i) {  // left by continue and break
    const auto scope = filter.perturb(params);
    static_cast<void>(fc(normal({4, 3})));
    if (i == 1) break;
    continue;
  }
  CHECK(none_open());
}

TEST_CASE(
    "a graph outlives its scope, and replicas read without gradients are those that are differentiated") {
  const Problem inside(Kind::conv), outside(Kind::conv);
  LowPassFilter a({.M = 3, .gamma = 0.1}), b({.M = 3, .gamma = 0.1});
  {
    const auto scope = a.perturb(inside.params);
    inside.loss().backward();
  }
  Tensor loss;
  {
    auto scope = b.perturb(outside.params);
    {
      const auto off = no_grad();
      for (const auto& info : outside.params.parameters())
        CHECK_FALSE(scope.read(info.index).requires_grad());
    }
    loss = outside.loss();
  }
  loss.backward();
  CHECK(same_bits(inside.params.gradient(), outside.params.gradient()));
}

TEST_CASE("scopes over the same parameters do not nest") {
  const Problem p(Kind::linear), reference(Kind::linear);
  LowPassFilter filter({.M = 3, .gamma = 0.1}), other({.M = 2, .gamma = 0.1}), third = filter;
  {
    const auto scope = filter.perturb(p.params);
    CHECK_ERROR(filter.perturb(p.params), StateError, "[perturb]",
                "do not nest");  // also before any read
    CHECK_ERROR(other.perturb(p.params), StateError, "do not nest");
    p.loss().backward();
    CHECK_ERROR(filter.perturb(p.params), StateError, "do not nest");
    CHECK(scope.clean([&] {  // not inside it: a separate perturbed pass beside the clean loss
      const auto inner = other.perturb(p.params);
      return p.loss().item();
    }) > 0);
    CHECK_ERROR(other.perturb(p.params), StateError, "do not nest");
  }
  // the outer pass is unaffected, no draw was used, and the next pass opens
  filter::unfused_gradient(reference.params, third, 0, reference.batch(),
                           [&](auto from, auto to) { return reference.loss(from, to); });
  CHECK(distance(p.params.gradient(), reference.params.gradient()) < 1e-12);
  CHECK(filter.draws() == 1);
  CHECK(none_open());
  for (LowPassFilter* f : {&filter, &other}) {
    const auto scope = f->perturb(p.params);
    CHECK_NOTHROW(p.loss().backward());
  }
}

TEST_CASE("a scope that was not kept is an error at the next pass") {
  const Problem p(Kind::linear);
  LowPassFilter filter({.M = 3, .gamma = 0.1});
  static_cast<void>(filter.perturb(p.params));  // unused: this step is plain SGD
  p.loss().backward();
  CHECK_ERROR(filter.perturb(p.params), StateError, "[perturb]", "without reading a parameter", "auto scope",
              "the store that the network was built on");
  CHECK(none_open());
  {  // warned once only
    const auto scope = filter.perturb(p.params);
    p.loss().backward();
  }
  {  // any use counts: without gradients, in the per-sample estimator, of an excluded parameter
    const auto scope = filter.perturb(p.params);
    const auto off = no_grad();
    static_cast<void>(p.loss());
  }
  CHECK_NOTHROW(static_cast<void>(filter.perturb(p.params)));
  for (const auto& include : {std::function<bool(const ParameterInfo&)>(),
                              std::function<bool(const ParameterInfo&)>([](const auto&) { return false; })}) {
    LowPassFilter per_sample({.M = 3, .gamma = 0.1, .estimator = Estimator::per_sample, .include = include});
    for (int i = 0; i < 2; ++i) {
      const auto scope = per_sample.perturb(p.params);
      p.loss().backward();
    }
  }
  // a pass that ends by an exception does not count as unused
  LowPassFilter other({.M = 3, .gamma = 0.1});
  CHECK_THROWS_WITH(
      [&] {
        const auto scope = other.perturb(p.params);
        throw std::runtime_error("no batch");
      }(),
      "no batch");
  CHECK(none_open());
  const auto scope = other.perturb(p.params);
  p.loss().backward();
}

TEST_CASE("an update of θ inside the scope ends its use; between forward and backward it is an error") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem p(kind);
    optim::SGD sgd(p.params, {.lr = 0.1});
    LowPassFilter filter({.M = 3, .gamma = 0.1});
    const auto updates = {std::function<void()>([&] {
                            p.params.set_has_gradient(0);  // a step with the gradient that is there, zero
                            sgd.step();
                          }),
                          std::function<void()>([&] { p.params.theta().copy_(p.params.theta() * 0.9); }),
                          std::function<void()>([&] { p.params.changed(); })};
    for (const auto& update : updates) {
      {
        const auto scope = filter.perturb(p.params);
        const Tensor loss = p.loss();
        update();
        CHECK_ERROR(loss.backward(), StateError, "[backward]", "between forward and backward");
        CHECK_ERROR(p.loss(), StateError, "[perturb]", "updated inside this perturbed pass");
      }
      p.params.zero_grad();
      {
        const auto scope = filter.perturb(p.params);
        update();  // before any read: the scale is that of the old θ
        CHECK_ERROR(p.loss(), StateError, "[perturb]", "updated inside this perturbed pass");
        CHECK_NOTHROW(static_cast<void>(scope.clean([&] { return p.loss(); })));
      }
      {
        const auto scope = filter.perturb(p.params);
        p.loss().backward();
        update();  // after backward, as in a training loop
      }
    }
  }
}

TEST_CASE("more replicas than samples is an error in every layer") {
  for (const Kind kind : kinds)
    for (const bool training : {true, false}) {
      CAPTURE(name_of(kind));
      const Problem p(kind, 6);
      p.params.train(training);
      LowPassFilter filter({.M = 7, .gamma = 0.1});
      const Tensor theta = p.params.theta().clone();
      const auto scope = filter.perturb(p.params);
      CHECK_ERROR(p.loss(), ShapeError, "M = 7", "6", "drop_last");
      CHECK(same_bits(p.params.theta(), theta));
    }
}

TEST_CASE("another batch inside one scope is an error, several passes over one are not") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem p(kind, 12);
    p.params.eval();
    LowPassFilter filter({.M = 3, .gamma = 0.1});
    const auto scope = filter.perturb(p.params);
    const Tensor first = p.loss(), again = p.loss();
    CHECK(same_bits(first.detach(), again.detach()));
    CHECK_ERROR(p.loss(0, 11), ShapeError, "12", "11", "another batch needs a pass of its own");
    CHECK_ERROR(p.loss(0, 2), ShapeError, "12", "2");
    CHECK_NOTHROW(add(first, again).backward());
  }
}

TEST_CASE("exceptions leave no open scope behind") {
  const Problem p(Kind::conv), q(Kind::token);
  LowPassFilter filter({.M = 3, .gamma = 0.1});
  const auto thrower = [&](bool early) {
    const auto outer = filter.perturb(p.params);
    LowPassFilter own({.M = 2, .gamma = 0.1});
    const auto inner = own.perturb(q.params);
    if (early) throw 1;
    static_cast<void>(p.loss());
    static_cast<void>(q.net(normal({19, 4})));  // indices must be integers
  };
  CHECK_THROWS_AS(thrower(true), int);
  CHECK(none_open());
  CHECK_THROWS_AS(thrower(false), Error);
  CHECK(none_open());
  try {  // a separate pass during stack unwinding
    throw 1;
  } catch (int) {
    const auto scope = filter.perturb(p.params);
    CHECK_NOTHROW(p.loss().backward());
  }
  const auto scope = filter.perturb(p.params);
  CHECK_NOTHROW(p.loss().backward());
}

TEST_CASE("two stores at once, each with its own replicas; one filter may serve both") {
  const std::int64_t batch = 7;
  const ParameterStore a({.dtype = float64, .seed = 1}), b({.dtype = float64, .seed = 2});
  const nn::Linear lower(a / "fc", 3, 4), upper(b / "fc", 4, 2);
  const Tensor x = normal({batch, 3}, 5), y = normal({batch, 2}, 6);
  LowPassFilter two({.M = 2, .gamma = 0.2, .seed = 1}), three({.M = 3, .gamma = 0.2, .seed = 2});
  const Tensor offsets_a = two.offsets(a, 0), offsets_b = three.offsets(b, 0);
  {
    const auto scope_a = two.perturb(a);
    const auto scope_b = three.perturb(b);
    sum(square(upper(tanh(lower(x))) - y)).backward();
  }
  const Tensor ga = a.gradient().clone(), gb = b.gradient().clone();
  // sample by sample, each with its own pair of replicas
  a.zero_grad();
  b.zero_grad();
  const Tensor theta_a = a.theta().clone(), theta_b = b.theta().clone();
  const auto replica = [&](std::int64_t sample, std::int64_t M) {
    std::int64_t r = 0;
    while (cut(batch, M)[static_cast<std::size_t>(r) + 1] <= sample) ++r;
    return r;
  };
  for (std::int64_t s = 0; s < batch; ++s) {
    a.theta().copy_(add(theta_a, offsets_a[replica(s, 2)]));
    b.theta().copy_(add(theta_b, offsets_b[replica(s, 3)]));
    sum(square(upper(tanh(lower(slice(x, 0, s, s + 1)))) - slice(y, 0, s, s + 1))).backward();
  }
  CHECK(distance(ga, a.gradient()) < 1e-12);
  CHECK(distance(gb, b.gradient()) < 1e-12);

  LowPassFilter shared({.M = 2, .gamma = 0.2});
  for (int i = 0; i < 2; ++i) {
    const auto scope_a = shared.perturb(a);
    const auto scope_b = shared.perturb(b);
    CHECK(scope_a.key().draw + 1 == scope_b.key().draw);
    CHECK_NOTHROW(sum(upper(lower(x))).backward());
  }
  {  // only one of two is perturbed, whichever is open
    const auto scope = shared.perturb(b);
    CHECK_FALSE(lower.weight.value().is_replicated());
    CHECK(upper.weight.value().is_replicated());
  }
}

/// Ten steps of a network of its own.
std::vector<double> train(Kind kind, std::uint64_t seed) {
  const Problem p(kind);
  LowPassFilter filter({.M = 4, .gamma = 0.05, .seed = seed});
  optim::SGD sgd(p.params, {.lr = 0.05, .momentum = 0.9});
  for (int step = 0; step < 10; ++step) {
    const auto scope = filter.perturb(p.params);
    p.loss().backward();
    sgd.step();
  }
  return p.params.theta().to_vector();
}

TEST_CASE("threads of the user's own, each with its store") {
  std::vector<std::vector<double>> alone, together(kinds.size());
  for (std::size_t i = 0; i < kinds.size(); ++i) alone.push_back(train(kinds[i], i));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kinds.size(); ++i)
    threads.emplace_back([i, &together] { together[i] = train(kinds[i], i); });
  for (auto& t : threads) t.join();
  for (std::size_t i = 0; i < kinds.size(); ++i) CHECK(alone[i] == together[i]);

  // a scope belongs to the thread that opened it: evaluation on other threads reads θ itself
  const Problem p(Kind::linear);
  const double clean = p.loss().item();
  double elsewhere = 0, here = 0;
  {
    LowPassFilter filter({.M = 4, .gamma = 0.5});
    const auto scope = filter.perturb(p.params);
    here = p.loss().item();
    std::thread([&] { elsewhere = p.loss().item(); }).join();
  }
  CHECK(elsewhere == clean);
  CHECK(here != clean);
}

}  // namespace
}  // namespace lpf::test
