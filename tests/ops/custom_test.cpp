#include "lpf/ops/custom.hpp"

#include "lpf/filter/unfused.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/loss.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

const auto unit_rows = [](const Tensor& w) { return w / sqrt(sum(square(w), {-1}, true)); };

/// Weight normalisation (Salimans & Kingma 2016): rows of norm g.
struct NormalizedLinear {
  nn::Parameter v, g;
  explicit NormalizedLinear(const nn::Path& p)
      : v(p.parameter("v", {3, 4}, init::normal())), g(p.parameter("g", {3, 1}, init::ones())) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor w =
        map_replicas([](const Tensor& a, const Tensor& b) { return mul(unit_rows(a), b); }, v, g);
    return linear(x, w);
  }
};

TEST_CASE("map_replicas: outside a perturbed pass f sees one replica") {
  const Tensor w = normal({3, 4});
  const Tensor y = map_replicas(
      [](const Tensor& t) {
        CHECK(t.shape() == Shape{1, 3, 4});
        return unit_rows(t);
      },
      w);
  CHECK(same_bits(y, unit_rows(w)));
  CHECK(wrong_derivatives([](auto& in) { return map_replicas(unit_rows, in[0]); }, {w}) == "");
}

TEST_CASE("map_replicas: each replica has f's value and derivatives") {
  const auto plan = std::make_shared<ReplicaPlan>(2);
  const Tensor all = normal({2, 3, 4}), scale = normal({2, 3, 1}, 2);
  const Tensor y = map_replicas(unit_rows, detail::add_replica_dim(all, plan));
  CHECK(y.is_replicated());
  CHECK(y.shape() == Shape{3, 4});
  for (std::int64_t r = 0; r < 2; ++r) CHECK(same_bits(detail::remove_replica_dim(y)[r], unit_rows(all[r])));
  const auto f = [&plan](const std::vector<Tensor>& in) {
    return sum_replicas(map_replicas([](const Tensor& a, const Tensor& b) { return mul(unit_rows(a), b); },
                                     detail::add_replica_dim(in[0], plan),
                                     detail::add_replica_dim(in[1], plan)));
  };
  CHECK(wrong_derivatives(f, {all, scale}) == "");
}

TEST_CASE("map_replicas: a layer with a function of its weights equals the unfused loop") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const NormalizedLinear net(params);
  const Tensor x = normal({7, 4}), y = from_vector<std::int64_t>({0, 1, 2, 0, 1, 2, 0}, {7});
  const auto loss = [&](std::int64_t from, std::int64_t to) {
    return cross_entropy(net(slice(x, 0, from, to)), slice(y, 0, from, to));
  };
  LowPassFilter filter({.M = 3, .gamma = 0.3});
  {
    const auto scope = filter.perturb(params);
    loss(0, 7).backward();
  }
  const Tensor fused = params.gradient().clone();
  params.zero_grad();
  filter::unfused_gradient(params, filter, 0, 7, loss);
  CHECK(relative_error(fused, params.gradient(), 1e-3) < 1e-12);
}

TEST_CASE("map_replicas: errors") {
  const auto plan = std::make_shared<ReplicaPlan>(2), other = std::make_shared<ReplicaPlan>(2);
  const Tensor a = detail::add_replica_dim(normal({2, 3}), plan),
               b = detail::add_replica_dim(normal({2, 3}), other);
  CHECK_ERROR(map_replicas([](const Tensor& t) { return sum(t); }, a), ReplicaError, "map_replicas", "M = 2");
  CHECK_ERROR(map_replicas([](const Tensor& t) { return reshape(t, {3, 2}); }, a), ReplicaError, "[3, 2]");
  CHECK_ERROR(map_replicas([](const Tensor& t) { return sum(t); }, normal({3})), ReplicaError, "M = 1");
  CHECK_ERROR(map_replicas(add, a, b), ReplicaError, "one perturbed pass");
  CHECK_ERROR(map_replicas(add, a, normal({3})), ReplicaError, "replicate");
  CHECK(map_replicas(add, a, replicate(normal({3}), a)).is_replicated());
}

}  // namespace
}  // namespace lpf::test
