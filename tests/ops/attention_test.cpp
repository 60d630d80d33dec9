#include "lpf/ops/attention.hpp"

#include "fixture_case.hpp"
#include "lpf/ops/linear_rows.hpp"
#include "lpf/ops/math.hpp"
#include "lpf/ops/random.hpp"

namespace lpf::test {
namespace {

using detail::AttentionForm;

Tensor as_bools(const Tensor& t) { return t.defined() ? t.to(DType::bool_) : t; }

/// Attention composed of other operations, of operands in any form.
Tensor composed(const AttentionForm& form, const std::vector<Tensor>& operands, const AttentionMask& m,
                const AttentionOptions& o = {}) {
  const auto part = [&](int p) { return detail::attention_part(form, operands, p); };
  const double scale = o.scale.value_or(1 / std::sqrt(static_cast<double>(form.width)));
  const Tensor y = detail::composed_attention(part(0), part(1), part(2), m, scale, o);
  return form.rows ? permute(y, {0, 2, 1, 3}).reshape({y.size(0), y.size(2), y.size(1) * y.size(3)}) : y;
}

/// The largest difference between the kernels and the composition: of the result, and of the gradients, in backward
/// (fused), and under create_graph (composed from the kernel's node).
double against_composed(const AttentionForm& form, const std::vector<Tensor>& operands,
                        const AttentionMask& m, const AttentionOptions& o = {}) {
  std::vector<Tensor> leaves;
  for (const Tensor& t : operands) leaves.push_back(t.clone().requires_grad_());
  const Tensor fused = detail::attention(form, leaves, m, o), expected = composed(form, leaves, m, o);
  const Tensor g = normal(fused.shape(), 9, fused.dtype());
  double error = relative_error(fused, expected);
  const auto wanted = grad(expected, leaves, {.gradient = g});
  for (const bool again : {false, true}) {
    const auto found = grad(fused, leaves, {.create_graph = again, .retain_graph = true, .gradient = g});
    for (std::size_t i = 0; i < leaves.size(); ++i)
      error = std::max(error, relative_error(found[i], wanted[i]));
  }
  return error;
}

/// Masks for B samples, H heads, L queries and K keys, by number.
std::vector<AttentionMask> masks(std::int64_t B, std::int64_t H, std::int64_t L, std::int64_t K,
                                 DType dtype = float64) {
  const Tensor padding = uniform({B, K}, 0, 1, 3) < 0.4;
  const Tensor additive =
      where(uniform({H, L, K}, 0, 1, 4) < 0.2, full({}, -infinity, {.dtype = float64}), normal({H, L, K}, 5))
          .to(dtype);
  return {{},
          {.mask = uniform({B, H, L, K}, 0, 1, 1) < 0.7},
          {.mask = uniform({L, K}, 0, 1, 2) < 0.3},
          {.mask = uniform({B, 1, 1, K}, 0, 1, 2) < 0.3},
          {.mask = additive},
          {.key_padding = padding},
          {.causal = true},
          {.causal = true, .first_query = 2},
          {.mask = additive, .key_padding = padding, .causal = true, .first_query = 1}};
}

TEST_CASE("attention: PyTorch's values, gradients and Hessian products") {
  const int cases = for_each_case("attention.safetensors", "sdpa", [](const FixtureCase& c) {
    AttentionMask mask{.mask = as_bools(c.hyper["mask"] == "added" ? Tensor() : c["mask"]),
                       .key_padding = as_bools(c["padding"]),
                       .causal = c.hyper["causal"]};
    AttentionOptions options;
    if (!c.hyper["scale"].is_null()) options.scale = c.hyper["scale"].get<double>();
    std::vector<std::string> names{"q", "k", "v"};
    if (c.hyper["mask"] == "added") names.push_back("mask");
    check_case(c, names, [&](const auto& t) {
      if (names.size() == 4) mask.mask = t.at("mask");
      return scaled_dot_product_attention(t.at("q"), t.at("k"), t.at("v"), mask, options);
    });
  });
  CHECK(cases == 13);
}

TEST_CASE("attention: the cases of ONNX's operator") {
  const int cases = for_each_case("onnx_attention.safetensors", "onnx", [](const FixtureCase& c) {
    const std::int64_t heads = c.hyper["heads"], kv = c.hyper["kv_heads"];
    const bool rows = c.hyper["rows"];
    const Tensor q = c["q"], k = c["k"], v = c["v"];
    AttentionMask mask{.mask = c["mask"], .causal = c.hyper["causal"], .first_query = c.hyper["first_query"]};
    if (c.hyper["mask"] == "bool") mask.mask = as_bools(mask.mask);
    AttentionOptions options;
    if (!c.hyper["scale"].is_null()) options.scale = c.hyper["scale"].get<double>();
    if (const Tensor allowed = as_bools(c["allowed"]); allowed.defined()) {  // a second mask
      const Tensor& m = mask.mask;
      mask.mask = !m.defined()                ? allowed
                  : m.dtype() == DType::bool_ ? logical_and(m, allowed)
                                              : where(allowed, m, full({}, -infinity, m.options()));
    }
    const auto attend = [&](const Tensor& a, const Tensor& b, const Tensor& d) {
      if (!rows) return scaled_dot_product_attention(a, b, d, mask, options);
      const AttentionForm form{true, heads, kv, a.size(2) / heads, d.size(2) / kv, b.size(1)};
      return detail::attention(form, {a, b, d}, mask, options);
    };
    CHECK(relative_error(attend(q, k, v), c["y"]) < 1e-12);
    if (mask.mask.defined() && mask.mask.dtype() != DType::bool_) mask.mask = mask.mask.to(float32);
    CHECK(relative_error(attend(q.to(float32), k.to(float32), v.to(float32)).to(float64), c["y"]) < 2e-6);
  });
  CHECK(cases == 57);
}

TEST_CASE("attention: the kernels are the composition, in every layout and with every mask") {
  CPU_ONLY;
  struct Size {
    std::int64_t B, H, kv, L, K, D, E;
  };
  // Several tiles of queries; widths around those of a vector.
  for (const Size s :
       {Size{2, 2, 2, 5, 5, 4, 4}, Size{1, 1, 1, 1, 7, 3, 2}, Size{3, 4, 2, 6, 3, 5, 7},
        Size{2, 1, 1, 130, 150, 16, 16}, Size{1, 6, 2, 70, 33, 8, 20}, Size{2, 2, 2, 0, 3, 4, 4},
        Size{2, 2, 2, 3, 0, 4, 4}, Size{0, 2, 2, 3, 3, 4, 4}, Size{2, 2, 1, 2, 3, 1, 1}}) {
    CAPTURE(s.L);
    const auto all = masks(s.B, s.H, s.L, s.K);
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(i);
      for (const double p : {0.0, 0.3}) {
        const AttentionOptions o{
            .scale = 0.8, .dropout = p, .key = {.seed = 3, .purpose = Purpose::dropout}, .first_element = 11};
        const AttentionForm heads{false, s.H, s.kv, s.D, s.E, s.K}, rows{true, s.H, s.kv, s.D, s.E, s.K};
        CHECK(against_composed(heads,
                               {normal({s.B, s.H, s.L, s.D}, 1), normal({s.B, s.kv, s.K, s.D}, 2),
                                normal({s.B, s.kv, s.K, s.E}, 3)},
                               all[i], o) < 1e-12);
        CHECK(against_composed(rows,
                               {normal({s.B, s.L, s.H * s.D}, 1), normal({s.B, s.K, s.kv * s.D}, 2),
                                normal({s.B, s.K, s.kv * s.E}, 3)},
                               all[i], o) < 1e-12);
        CHECK(against_composed(rows,
                               {normal({s.B, s.L, s.H * s.D}, 1), normal({s.B, s.K, s.kv * (s.D + s.E)}, 2)},
                               all[i], o) < 1e-12);
        // A cache with more room than keys, whose further positions hold anything.
        CHECK(against_composed(
                  rows, {normal({s.B, s.L, s.H * s.D}, 1), normal({s.B, s.K + 4, s.kv * (s.D + s.E)}, 2)},
                  all[i], o) < 1e-12);
        if (s.L == s.K)
          CHECK(against_composed(rows, {normal({s.B, s.L, s.H * s.D + s.kv * (s.D + s.E)}, 1)}, all[i], o) <
                1e-12);
      }
    }
  }
}

TEST_CASE("attention: float32 is close to float64") {
  CPU_ONLY;
  for (const double size : {1.0, 30.0}) {  // scores up to some thousands
    const std::vector<Tensor> wide{size * normal({2, 3, 70, 24}, 1), size * normal({2, 3, 90, 24}, 2),
                                   normal({2, 3, 90, 24}, 3)};
    const auto all = masks(2, 3, 70, 90), single = masks(2, 3, 70, 90, float32);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto run = [&](DType dtype, const AttentionMask& m) {
        std::vector<Tensor> leaves;
        for (const Tensor& t : wide) leaves.push_back(t.to(float32).to(dtype).requires_grad_());
        const Tensor y = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], m);
        auto out = grad(y, leaves, {.gradient = normal(y.shape(), 4, float32).to(dtype)});
        out.push_back(y);
        return out;
      };
      const auto exact = run(float64, all[i]), found = run(float32, single[i]);
      // An error of a score, some ulp of its size, is the relative error of its weight.
      for (std::size_t j = 0; j < exact.size(); ++j)
        CHECK(largest_difference(found[j].to(float64), exact[j]) <
              (size == 1 ? 3e-6 : 2e-3) * std::max(1.0, abs(exact[j]).max().item()));
    }
  }
}

TEST_CASE("attention: derivatives") {
  for (const auto& [q, k] : {std::pair{Shape{2, 2, 3, 2}, Shape{2, 2, 3, 2}},
                             {Shape{1, 1, 1, 1}, Shape{1, 1, 1, 1}},
                             {Shape{1, 2, 2, 2}, Shape{1, 1, 3, 2}},
                             {Shape{2, 1, 0, 2}, Shape{2, 1, 2, 2}},
                             {Shape{2, 1, 2, 2}, Shape{2, 1, 0, 2}},
                             {Shape{0, 1, 2, 2}, Shape{0, 1, 2, 2}}}) {
    const auto all = masks(q[0], q[1], q[2], k[2]);
    for (const AttentionMask& m : all)
      check_derivatives(
          [&](auto& v) {
            return scaled_dot_product_attention(
                v[0], v[1], v[2], m, {.dropout = 0.2, .key = {.seed = 5, .purpose = Purpose::dropout}});
          },
          {normal(q, 1), normal(k, 2), normal(k, 3)});
  }
  const Tensor q = normal({2, 2, 3, 2}, 1), k = normal({2, 2, 4, 2}, 2), v = normal({2, 2, 4, 3}, 3);
  check_derivatives([&](auto& t) { return scaled_dot_product_attention(q, k, v, {.mask = t[0]}); },
                    {normal({2, 1, 4}, 4)});
  check_derivatives([&](auto& t) { return attention_weights(t[0], t[1], {.causal = true}); }, {q, k});
  check_derivatives([](auto& t) { return detail::linear_rows(t[0], t[1], t[2], 1, 2); },
                    {normal({2, 3, 2}, 1), normal({4, 2}, 2), normal({4}, 3)});
}

TEST_CASE("attention: a query that attends to nothing has the result 0, and gives no gradient") {
  for (const DType dtype : {float32, float64}) {
    const std::vector<Tensor> leaves{normal({2, 1, 3, 4}, 1, dtype).requires_grad_(),
                                     normal({2, 1, 5, 4}, 2, dtype).requires_grad_(),
                                     normal({2, 1, 5, 4}, 3, dtype).requires_grad_()};
    const Tensor padding = from_vector<std::int64_t>({1, 1, 1, 1, 1, 0, 0, 1, 1, 0}, {2, 5}).to(DType::bool_);
    const Tensor y = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], {.key_padding = padding});
    CHECK(abs(y[0]).max().item() == 0);
    CHECK(abs(y[1]).max().item() > 0);
    for (const Tensor& g : grad(y, leaves, {.gradient = ones_like(y)})) {
      CHECK(abs(g[0]).max().item() == 0);
      CHECK(all(is_finite(g)).item<bool>());
    }
    // The gradient of excluded keys and values is 0.
    const Tensor again =
        scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], {.key_padding = padding});
    const Tensor dv = grad(again, {leaves[2]}, {.gradient = ones_like(again)})[0];
    CHECK(abs(narrow(dv[1], 1, 2, 2)).max().item() == 0);
    const Tensor w = attention_weights(leaves[0], leaves[1], {.key_padding = padding});
    CHECK(abs(w[0]).max().item() == 0);
    CHECK(largest_difference(sum(w[1], {2}).to(float64), ones({1, 3}, {.dtype = float64})) < 1e-6);
  }
}

TEST_CASE("attention: dropout keeps weights by their numbers in the stream, for any cut of the batch") {
  const AttentionOptions all{.dropout = 0.4, .key = {.seed = 8, .purpose = Purpose::dropout}};
  const Tensor q = normal({4, 2, 3, 5}, 1), k = normal({4, 2, 6, 5}, 2), v = normal({4, 2, 6, 5}, 3);
  const Tensor whole = scaled_dot_product_attention(q, k, v, {}, all);
  const Tensor w = dropout(attention_weights(q, k), 0.4, all.key);
  CHECK(relative_error(whole, matmul(w, v)) < 1e-12);
  AttentionOptions part = all;
  part.first_element = 1 * 2 * 3 * 6;
  const auto from_one = [](const Tensor& t) { return slice(t, 0, 1, 4); };
  CHECK(relative_error(scaled_dot_product_attention(from_one(q), from_one(k), from_one(v), {}, part),
                       from_one(whole)) < 1e-13);
  CHECK(abs(scaled_dot_product_attention(q, k, v, {}, {.dropout = 1})).max().item() == 0);
}

TEST_CASE("attention: the same bits for any number of threads") {
  CPU_ONLY;
  check_same_for_any_threads([] {
    std::vector<Tensor> out;
    for (const DType dtype : {float32, float64}) {
      const std::vector<Tensor> leaves{normal({3, 4, 130, 16}, 1, dtype).requires_grad_(),
                                       normal({3, 2, 90, 16}, 2, dtype).requires_grad_(),
                                       normal({3, 2, 90, 16}, 3, dtype).requires_grad_()};
      const Tensor y =
          scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], {.causal = true}, {.dropout = 0.1});
      out.push_back(y);
      for (const Tensor& g : grad(y, leaves, {.gradient = normal(y.shape(), 4, dtype)})) out.push_back(g);
    }
    return out;
  });
}

TEST_CASE("attention: memory is linear in the length") {
  CPU_ONLY;
  const auto peak = [](std::int64_t length) {
    const auto& table = backend::get(Device::cpu());
    const std::vector<Tensor> leaves(3, normal({1, 4, length, 16}, 1, float32).requires_grad_());
    table.reset_peak();
    const std::size_t before = table.memory_stats().in_use;
    const Tensor y = scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], {.causal = true});
    static_cast<void>(grad(y, leaves, {.gradient = ones_like(y)}));
    return static_cast<double>(table.memory_stats().peak - before) / static_cast<double>(length);
  };
  CHECK(peak(2048) == doctest::Approx(peak(256)).epsilon(0.05));
  CHECK(peak(2048) <
        4 * 16 * 4 * 8);  // the result, gradients and statistics: less than eight arrays of a length's size
}

TEST_CASE("attention: without an axis of heads, and errors") {
  const Tensor q = normal({2, 3, 4}, 1), k = normal({2, 5, 4}, 2), v = normal({2, 5, 6}, 3);
  const auto four = [](const Tensor& t) { return unsqueeze(t, 1); };
  CHECK(same_bits(scaled_dot_product_attention(q, k, v),
                  squeeze(scaled_dot_product_attention(four(q), four(k), four(v)), 1)));
  const auto attend = [&](const AttentionMask& m, const AttentionOptions& o = {}) {
    return scaled_dot_product_attention(q, k, v, m, o);
  };
  const char* name = "[scaled_dot_product_attention]";
  CHECK_ERROR(scaled_dot_product_attention(q, four(k), v), ShapeError, name, "[2, 1, 5, 4]");
  CHECK_ERROR(scaled_dot_product_attention(q, v, v), ShapeError, name, "[2, 1, 3, 4]", "same D");
  CHECK_ERROR(scaled_dot_product_attention(q, k, slice(v, 1, 0, 4)), ShapeError, name,
              "same heads and length");
  CHECK_ERROR(scaled_dot_product_attention(q, slice(k, 0, 0, 1), slice(v, 0, 0, 1)), ShapeError, name,
              "batches of 2 and 1");
  CHECK_ERROR(scaled_dot_product_attention(normal({2, 3, 4, 2}), normal({2, 2, 4, 2}), normal({2, 2, 4, 2})),
              ShapeError, name, "3 heads", "2 heads");
  CHECK_ERROR(scaled_dot_product_attention(q.to(float32), k, v), DTypeError, name);
  CHECK_ERROR(scaled_dot_product_attention(q.to(DType::int64), k.to(DType::int64), v.to(DType::int64)),
              DTypeError, name);
  CHECK_ERROR(attend({.mask = ones({3, 5})}), DTypeError, name, "float32", "bool");
  CHECK_ERROR(attend({.mask = ones({4, 5}, {.dtype = float64})}), ShapeError, name, "[4, 5]", "[2, 1, 3, 5]");
  CHECK_ERROR(attend({.mask = ones({1, 2, 1, 3, 5}, {.dtype = float64})}), ShapeError, name);
  CHECK_ERROR(attend({.key_padding = ones({2, 5})}), DTypeError, name, "key_padding");
  CHECK_ERROR(attend({.key_padding = ones({2, 3}).to(DType::bool_)}), ShapeError, name, "[2, 3]", "[2, 5]");
  CHECK_ERROR(attend({.causal = true, .first_query = -1}), ValueError, name, "-1");
  CHECK_ERROR(attend({}, {.dropout = 1.5}), ValueError, name, "1.5");
  CHECK_ERROR(attend({}, {.dropout = not_a_number}), ValueError, name);
  CHECK_ERROR(detail::linear_rows(normal({2, 3}), normal({4, 3}), {}, 3, 2), IndexError, "2 rows from 3",
              "[4, 3]");
}

}  // namespace
}  // namespace lpf::test
