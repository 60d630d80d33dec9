#include "lpf/nn/rms_norm.hpp"

#include "lpf/nn/linear.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/loss.hpp"
#include "perturbed_loop.hpp"

namespace lpf::test {
namespace {

/// Over tokens and over a flat batch, with a weight of one axis and of two.
struct RmsNet {
  nn::Linear fc1;
  nn::RMSNorm tokens, all;
  nn::Linear fc2;
  explicit RmsNet(const nn::Path& p)
      : fc1(p / "fc1", 5, 4),
        tokens(p / "tokens", 4),
        all(p / "all", {3, 4}, {.eps = 1e-3}),
        fc2(p / "fc2", 4, 3) {}
  Tensor operator()(const Tensor& x) const {
    return fc2(mean(all(gelu(tokens(fc1(x)))), {1}));
  }  // x [B, 3, 5]
};

TEST_CASE("RMSNorm layer: a perturbed pass is the published loop") {
  for (const std::int64_t M : {1, 2, 3, 8})
    for (const auto estimator : {Estimator::replicas, Estimator::antithetic})
      for (const bool kept : {false, true}) {
        if (estimator == Estimator::antithetic && M % 2) continue;
        const std::int64_t batch = 19;
        const Tensor x = normal({batch, 3, 5});
        const Tensor target = integers({batch}, [](std::int64_t i) { return i % 3; });
        const ParameterStore params({.dtype = float64, .seed = 3});
        const RmsNet net(params);
        const LowPassFilterOptions options{
            .M = M, .gamma = 0.1, .estimator = estimator, .seed = 5, .keep_replica_gradients = kept};
        CHECK(against_loop(params, options, batch, [&](std::int64_t from, std::int64_t to) {
                return cross_entropy(net(slice(x, 0, from, to)), slice(target, 0, from, to));
              }) < exactly);
      }
}

TEST_CASE("RMSNorm layer: names, initial values, errors") {
  const ParameterStore params;
  const nn::RMSNorm norm(params / "a", {2, 3}), bare(params / "b", 4, {.affine = false});
  REQUIRE(params.parameters().size() == 1);
  CHECK(params.parameters()[0].name == "a.weight");
  CHECK(holds(norm.weight.clean(), {2, 3}, {1, 1, 1, 1, 1, 1}));
  const Tensor x = normal({5, 2, 3}, 1, float32), flat = normal({5, 4}, 1, float32);
  CHECK(same_bits(norm(x).detach(), rms_norm(x, {2, 3})));
  CHECK(same_bits(bare(flat), rms_norm(flat, {4})));
  CHECK_ERROR(norm(flat), ShapeError, "[rms_norm]", "[5, 4]", "[2, 3]");
  const ParameterStore more;
  CHECK_ERROR(nn::RMSNorm(more / "e1", 0), ValueError, "'e1'", "[0]");
  CHECK_ERROR(nn::RMSNorm(more / "e2", Shape{}), ValueError, "'e2'");
  CHECK_ERROR(nn::RMSNorm(more / "e3", 3, {.eps = -1}), ValueError, "'e3'", "eps", "-1");
  CHECK_ERROR(nn::RMSNorm(more / "e4", 3, {.eps = not_a_number}), ValueError, "'e4'", "eps");
  CHECK(more.parameters().empty());
}

}  // namespace
}  // namespace lpf::test
