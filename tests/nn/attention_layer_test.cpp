#include "lpf/nn/attention.hpp"

#include "fixture_case.hpp"
#include "perturbed_loop.hpp"

namespace lpf::test {
namespace {

Tensor bools_of(const FixtureCase& c, const char* name) {
  return c.contains(name) ? c.at(name).to(DType::bool_) : Tensor();
}

TEST_CASE("MultiheadAttention layer: PyTorch's names, values, gradients and Hessian products") {
  const int cases = for_each_case("attention.safetensors", "mha", [](const FixtureCase& c) {
    const ParameterStore params({.dtype = float64});
    const nn::MultiheadAttention attention(params, 6, c.hyper["heads"], {.bias = c.hyper["bias"]});
    const AttentionMask mask{.key_padding = bools_of(c, "padding"), .causal = c.hyper["causal"]};
    std::vector<std::string> inputs;
    for (const char* name : {"query", "key", "value"})
      if (c.contains(name)) inputs.push_back(name);
    check_module_case(c, params, inputs, [&](const auto& t) {
      if (inputs.size() == 1) return attention(t.at("query"), mask);
      if (inputs.size() == 2) return attention.cross(t.at("query"), t.at("key"), mask);
      return attention(t.at("query"), t.at("key"), t.at("value"), mask);
    });
  });
  CHECK(cases == 5);
}

TEST_CASE("MultiheadAttention layer: one, two and three sequences agree") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::MultiheadAttention attention(params / "a", 8, 4);
  const Tensor x = normal({3, 5, 8}, 1), memory = normal({3, 4, 8}, 2);
  CHECK(relative_error(attention(x), attention(x, x, x)) < 1e-13);
  CHECK(relative_error(attention(x), attention.cross(x, x)) < 1e-13);
  CHECK(relative_error(attention.cross(x, memory), attention(x, memory, memory)) < 1e-13);
  // The weights are those with which the values are averaged.
  const Tensor w = attention.weights(x, memory, {.causal = true}),
               v = linear(memory, slice(attention.in_proj_weight, 0, 16, 24));
  const Tensor heads = permute(reshape(v, {3, 4, 4, 2}), {0, 2, 1, 3});
  const Tensor y = attention.out_proj(permute(matmul(w, heads), {0, 2, 1, 3}).reshape({3, 5, 8}));
  CHECK(relative_error(attention.cross(x, memory, {.causal = true}), y) < 1e-13);
}

TEST_CASE("MultiheadAttention layer: initial values and errors") {
  const ParameterStore params({.dtype = float64});
  const nn::MultiheadAttention attention(params / "a", 6, 2);
  std::vector<std::string> names;
  for (const auto& info : params.parameters()) names.push_back(info.name);
  CHECK(names == std::vector<std::string>{"a.in_proj_weight", "a.in_proj_bias", "a.out_proj.weight",
                                          "a.out_proj.bias"});
  const auto bound = [](const nn::Parameter& p) { return abs(p.clean()).max().item(); };
  CHECK(bound(attention.in_proj_weight) <= std::sqrt(6.0 / 24));
  CHECK(bound(attention.in_proj_weight) > 0.9 * std::sqrt(6.0 / 24));
  CHECK(bound(attention.out_proj.weight) <= 1 / std::sqrt(6.0));
  CHECK(bound(attention.in_proj_bias) == 0);
  CHECK(bound(attention.out_proj.bias) == 0);
  const Tensor x = normal({2, 3, 6});
  CHECK_ERROR(attention(normal({2, 3, 5})), ShapeError, "'a'", "[2, 3, 5]", "6]");
  CHECK_ERROR(attention(normal({3, 6})), ShapeError, "'a'", "[3, 6]");
  CHECK_ERROR(attention(x, x, normal({2, 4, 6})), ShapeError, "'a'", "[2, 3, 6]", "[2, 4, 6]");
  CHECK_ERROR(attention.attend(x, nn::KeyValueCache()), StateError, "'a'", "empty");
  nn::KeyValueCache cache;
  CHECK_ERROR(cache.append(x[0]), ShapeError, "KeyValueCache", "[3, 6]");
  static_cast<void>(attention.step(x, cache));
  CHECK_ERROR(attention.step(normal({3, 1, 6}), cache), ShapeError, "KeyValueCache", "[3, 1, 12]");
  const ParameterStore more;
  CHECK_ERROR(nn::MultiheadAttention(more / "b", 6, 4), ValueError, "'b'", "6 features", "4 heads");
  CHECK_ERROR(nn::MultiheadAttention(more / "c", 6, 0), ValueError, "'c'");
  CHECK_ERROR(nn::MultiheadAttention(more / "d", 6, 2, {.dropout = 2}), ValueError, "'d'", "2");
  CHECK(more.parameters().empty());
}

TEST_CASE("MultiheadAttention layer: steps with a cache are the whole sequence, for reordered samples too") {
  for (const DType dtype : {float32, float64}) {
    const double tolerance = dtype == float32 ? 2e-6 : 1e-13;
    const ParameterStore params({.dtype = dtype, .seed = 3});
    const nn::MultiheadAttention attention(params / "a", 8, 2);
    const std::int64_t L = 40;  // beyond the first capacity
    const Tensor x = normal({3, L, 8}, 1, dtype), whole = attention(x, {.causal = true});
    const Tensor order = tensor<std::int64_t>({2, 0, 0, 1}).to(x.device()), moved = index_select(x, 0, order);
    nn::KeyValueCache cache, moved_cache, copy;
    for (std::int64_t t = 0; t < L;) {
      const std::int64_t n = t == 5 ? 3 : 1;
      CHECK(relative_error(attention.step(narrow(x, 1, t, n), cache, {.causal = true}),
                           narrow(whole, 1, t, n)) < tolerance);
      t += n;
      CHECK(cache.length() == t);
      if (t == 20) {
        moved_cache = cache.select(order);
        copy = cache;
      }
      if (t == 24)  // does not change what it was copied from
        static_cast<void>(attention.step(zeros({3, 1, 8}, x.options()), copy, {.causal = true}));
    }
    CHECK(copy.length() == 21);
    const Tensor moved_whole = attention(moved, {.causal = true});
    for (std::int64_t t = 20; t < 24; ++t)
      CHECK(relative_error(attention.step(narrow(moved, 1, t, 1), moved_cache),
                           narrow(moved_whole, 1, t, 1)) < tolerance);
    const Tensor memory = normal({3, 7, 8}, 2, dtype), padding = uniform({3, 7}, 0, 1) < 0.5;
    CHECK(relative_error(attention.attend(x, attention.keys_values(memory), {.key_padding = padding}),
                         attention.cross(x, memory, {.key_padding = padding})) < tolerance);
    CHECK(!attention.attend(x, attention.keys_values(memory)).requires_grad());
  }
}

TEST_CASE("MultiheadAttention layer: dropout in training, with the numbers of the whole batch in its parts") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::MultiheadAttention attention(params / "a", 4, 2, {.dropout = 0.5});
  const Tensor x = normal({5, 3, 4});
  const Tensor first = attention(x), second = attention(x);
  CHECK(!same_bits(first.detach(), second.detach()));
  attention.draws.set_count(0);
  std::vector<Tensor> parts;
  for (const auto& [from, to] : {std::pair{0, 2}, std::pair{2, 5}}) {
    const nn::MicroBatch part(from, to - from);
    parts.push_back(attention(slice(x, 0, from, to)));
  }
  CHECK(relative_error(concatenate(parts), first) < 1e-13);
  params.eval();
  CHECK(same_bits(attention(x).detach(), attention(x).detach()));
  CHECK(attention.draws.count() == 1);
}

/// The estimators with M replicas, and where replicas are kept.
std::vector<LowPassFilterOptions> all_estimators(std::int64_t M) {
  std::vector<LowPassFilterOptions> out;
  for (const auto estimator : {Estimator::replicas, Estimator::antithetic, Estimator::flipout,
                               Estimator::flipout_pairs, Estimator::per_sample})
    for (const auto memory : {ReplicaMemory::stored, ReplicaMemory::recomputed, ReplicaMemory::automatic})
      for (const bool kept : {false, true}) {
        if (M % 2 && (estimator == Estimator::antithetic || estimator == Estimator::flipout_pairs)) continue;
        if (kept && estimator == Estimator::per_sample) continue;
        out.push_back({.M = M,
                       .gamma = 0.1,
                       .estimator = estimator,
                       .seed = 5,
                       .keep_replica_gradients = kept,
                       .memory = memory});
      }
  return out;
}

TEST_CASE("MultiheadAttention layer: a perturbed pass is the published loop, with every estimator") {
  const std::int64_t batch = 11;
  const Tensor x = normal({batch, 4, 6}, 1), memory = normal({batch, 3, 6}, 2);
  const Tensor padding = uniform({batch, 3}, 0, 1, 3) < 0.3;
  for (const std::int64_t M : {1, 2, 3, 8})
    for (const LowPassFilterOptions& options : all_estimators(M)) {
      const ParameterStore params({.dtype = float64, .seed = 3});
      const nn::MultiheadAttention self(params / "self", 6, 2, {.dropout = 0.3}),
          cross(params / "cross", 6, 3, {.dropout = 0.2}), three(params / "three", 6, 1);
      randomize(params);
      // Every use draws dropout's numbers: the loop repeats those of the pass.
      const auto restart = [&] { self.draws.set_count(0), cross.draws.set_count(0); };
      CHECK(against_loop(params, options, batch, [&](std::int64_t from, std::int64_t to) {
              if (from == 0) restart();
              const auto part = [&](const Tensor& t) { return slice(t, 0, from, to); };
              const Tensor h = tanh(self(part(x), {.causal = true}));
              const Tensor y = cross.cross(h, part(memory), {.key_padding = part(padding)}) +
                               three(h, part(memory), 0.5 * part(memory));
              return mean(square(y)) + 0.3 * mean(y);
            }) < exactly);
    }
}

TEST_CASE(
    "MultiheadAttention layer: a perturbed pass in which only its biases, or only its weights, have noise") {
  const std::int64_t batch = 7;
  const Tensor x = normal({batch, 4, 6}, 1), memory = normal({batch, 3, 6}, 2);
  for (const char* perturbed : {"bias", "weight"})
    for (const auto estimator : {Estimator::replicas, Estimator::flipout}) {
      CAPTURE(perturbed);
      const ParameterStore params({.dtype = float64, .seed = 3});
      const nn::MultiheadAttention cross(params / "cross", 6, 2);
      randomize(params);
      LowPassFilterOptions options{.M = 3, .gamma = 0.1, .estimator = estimator, .seed = 5};
      options.include = [=](const ParameterInfo& info) { return info.name.ends_with(perturbed); };
      CHECK(against_loop(params, options, batch, [&](std::int64_t from, std::int64_t to) {
              return mean(square(cross.cross(slice(x, 0, from, to), slice(memory, 0, from, to))));
            }) < exactly);
    }
}

TEST_CASE("attention with a learned bias of relative positions: a perturbed pass is the published loop") {
  const std::int64_t batch = 7;
  const Tensor x = normal({batch, 4, 6}, 1);
  for (const std::int64_t M : {1, 3, 7})
    for (const auto estimator : {Estimator::replicas, Estimator::flipout}) {
      const ParameterStore params({.dtype = float64, .seed = 3});
      const nn::Linear fc(params / "fc", 6, 6);
      const nn::Parameter bias = nn::Path(params).parameter("bias", {2, 4, 4}, init::normal());
      const LowPassFilterOptions options{.M = M, .gamma = 0.1, .estimator = estimator, .seed = 5};
      CHECK(
          against_loop(params, options, batch, [&](std::int64_t from, std::int64_t to) {
            const Tensor h = permute(reshape(fc(slice(x, 0, from, to)), {to - from, 4, 2, 3}), {0, 2, 1, 3});
            return mean(square(scaled_dot_product_attention(h, h, h, {.mask = bias, .causal = true})));
          }) < exactly);
    }
}

TEST_CASE("MultiheadAttention layer: what a perturbed pass refuses") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::MultiheadAttention attention(params / "a", 6, 2);
  const Tensor x = normal({4, 4, 6});
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  const auto scope = filter.perturb(params, 4);
  const Tensor y = attention(x);
  const Tensor moved = permute(reshape(y, {4, 4, 2, 3}), {1, 2, 0, 3});  // samples where positions should be
  CHECK_ERROR(scaled_dot_product_attention(moved, moved, moved), ReplicaError, "scaled_dot_product_attention",
              "first axis");
  CHECK_ERROR(
      scaled_dot_product_attention(attention.in_proj_weight.value().reshape({1, 2, 18, 3}), moved, moved),
      ReplicaError, "scaled_dot_product_attention");
}

}  // namespace
}  // namespace lpf::test
