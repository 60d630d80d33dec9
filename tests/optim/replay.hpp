// Common code of the optimizer tests: the cases of a fixture file, the 6-5-3 network, and a loop that replays
// a case of PyTorch's optimizers.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fixture_case.hpp"
#include "lpf/autograd/engine.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::test {

inline constexpr struct {
  operator TensorOptions() const { return {.dtype = DType::float64}; }
} f64{};

/// Copies init.NAME into every parameter of the store.
inline void initialize(const ParameterStore& params, const FixtureCase& c) {
  const auto off = no_grad();
  for (const auto& info : params.parameters()) params.tensor(info.index).copy_(c.at("init." + info.name));
}

/// Largest |a − b| / max(1, |b|).
inline double difference(const Tensor& a, const Tensor& b) {
  CHECK(a.numel() == b.numel());
  const auto x = a.to_vector(), y = b.to_vector();
  double worst = 0;
  for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    const double d = std::abs(x[i] - y[i]) / std::max(1.0, std::abs(y[i]));
    worst = d <= worst ? worst : d;  // NaN counts
  }
  return worst;
}

/// Difference between the parameters after step t and the fixture's after.NAME[t].
inline double difference_after(const FixtureCase& c, const ParameterStore& params, std::int64_t t) {
  double worst = 0;
  for (const auto& info : params.parameters())
    worst = std::max(worst, difference(params.tensor(info.index), c.at("after." + info.name)[t]));
  return worst;
}

/// The part of a vector of θ's layout that belongs to one parameter.
inline Tensor part(const Tensor& flat, const ParameterInfo& info) {
  return flat.alias(info.shape, info.offset);
}

inline void set_gradient(const ParameterStore& params, std::size_t index, const Tensor& g) {
  part(params.gradient(), params.parameters()[index]).copy_(g);
}

inline bool is_bias(const ParameterInfo& info) { return info.name.ends_with("bias"); }

/// weight [3, 4] and bias [4] without a layer, as in the optimizer fixtures.
inline ParameterStore weight_and_bias() {
  ParameterStore params({.dtype = DType::float64});
  const nn::Path p = params;
  p.parameter("weight", {3, 4}, init::zeros());
  p.parameter("bias", {4}, init::zeros());
  return params;
}

/// The 6-5-3 network of the flat-minima fixtures.
struct TanhNet {
  nn::Linear fc1, fc2;
  explicit TanhNet(const nn::Path& p) : fc1(p / "fc1", 6, 5), fc2(p / "fc2", 5, 3) {}
  Tensor operator()(const Tensor& x) const { return fc2(tanh(fc1(x))); }
};

/// Replays a case of optim.safetensors: make(params, [options of each group]) constructs the
/// optimizer. `state_names` are pairs of LPF's and PyTorch's names of the state. Every step and the
/// final state must agree to 1e-12.
template <class Make>
void replay(const FixtureCase& c, Make make,
            const std::vector<std::pair<std::string, std::string>>& state_names) {
  INFO(c.name());
  const ParameterStore params = weight_and_bias();
  initialize(params, c);
  std::vector<Json> groups;
  for (const auto& own : c.hyper["groups"]) {
    Json merged = c.hyper["options"];
    merged.update(own);
    groups.push_back(merged);
  }
  auto optimizer = make(params, groups);
  if (!c.hyper["schedule"].is_null()) {
    REQUIRE(c.hyper["schedule"] == "CosineAnnealingLR(T_max=20)");
    optimizer.set_schedule(schedule::cosine(20));
  }
  const std::int64_t steps = c.at("after.bias").size(0);
  REQUIRE(steps == 20);
  for (std::int64_t t = 0; t < steps; ++t) {
    for (const auto& info : params.parameters())
      set_gradient(params, info.index, c.at("grads." + info.name)[t]);
    if (const auto& limit = c.hyper["clip_norm"]; !limit.is_null()) {
      const double before = optim::clip_grad_norm(params, limit.get<double>()).item();
      CHECK(before == doctest::Approx(c.at("total_norm")[t].item()).epsilon(1e-12));
    }
    if (const auto& limit = c.hyper["clip_value"]; !limit.is_null())
      optim::clip_grad_value(params, limit.get<double>());
    if (c.contains("lr")) CHECK(optimizer.lr() == doctest::Approx(c.at("lr")[t][0].item()).epsilon(1e-12));
    optimizer.step();
    CHECK(difference_after(c, params, t) < 1e-12);
  }
  for (const auto& names : state_names) {
    const std::string &ours = names.first, &theirs = names.second;  // clang 14 captures no structured binding
    for (const auto& info : params.parameters()) {
      const std::string key = "state." + info.name + "." + theirs;
      if (!c.contains(key)) continue;
      const auto state = optimizer.state();
      const auto found =
          std::find_if(state.begin(), state.end(), [&](const auto& named) { return named.first == ours; });
      REQUIRE(found != state.end());
      CHECK(difference(part(found->second, info), c.at(key)) < 1e-12);
    }
  }
}

/// A small classification task: x [steps, batch, 6], and labels that depend on it.
struct Task {
  Tensor x, y;
  explicit Task(std::int64_t steps = 20, std::int64_t batch = 12, DType dtype = DType::float64) {
    x = empty({steps, batch, 6}, {.dtype = dtype});
    x.backend().normal(dtype, {.seed = 5, .purpose = Purpose::user}, 0, x.numel(), x.raw());
    const auto values = x.to_vector();
    y = integers({steps, batch}, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(6 * i);
      return values[at] > 0.4 ? 0 : values[at + 1] > 0 ? 1 : 2;
    });
  }
};

inline std::vector<double> values_of(const ParameterStore& params) { return params.theta().to_vector(); }

}  // namespace lpf::test
