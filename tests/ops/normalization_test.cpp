#include "lpf/ops/normalization.hpp"

#include "fixture_case.hpp"
#include "lpf/backend/threads.hpp"
#include "lpf/ops/index.hpp"
#include "lpf/ops/layer_norm.hpp"

namespace lpf::test {
namespace {

using Begin = std::vector<std::int64_t>;

/// Replicas of a leaf [M, C] as in a perturbed pass: with `summed` their gradient may arrive as one sum.
Tensor replicas_of(const Tensor& leaf, const PlanPtr& plan, bool summed) {
  Tensor t = leaf.alias(leaf.shape().slice(1, leaf.rank()));
  t.impl().replicas = plan;
  t.impl().sum_gradient = summed;
  return record("replicas_of", std::move(t), {leaf},
                [M = plan->count(), shape = leaf.shape()](const Tensor& g, Need) {
                  if (g.is_replicated()) return Grads{detail::remove_replica_dim(g)};
                  // a sum over replicas: stored at replica 0, for comparison
                  return Grads{detail::place(reshape(g, g.shape().prepended(1)), shape, 0, 0, M)};
                });
}

/// Batch norm by its definition, of plain tensors and elementary operations: sample b is normalised with its
/// group's statistics, then scaled by row slice[b] of weight [M, C].
Tensor reference(const Tensor& x, const Tensor& weight, const Tensor& bias, const Begin& groups,
                 const Begin& slices, double eps) {
  std::vector<Tensor> parts;
  Axes over;
  for (int i = 0; i + 1 < x.rank(); ++i) over.push_back(i);
  for (std::size_t g = 0; g + 1 < groups.size(); ++g) {
    const Tensor part = slice(x, 0, groups[g], groups[g + 1]);
    const Tensor centred = sub(part, mean(part, over, true));
    parts.push_back(div(centred, sqrt(mean(square(centred), over, true) + eps)));
  }
  const Tensor normal = concatenate(parts);
  parts.clear();
  for (std::size_t r = 0; r + 1 < slices.size(); ++r) {
    Tensor part = slice(normal, 0, slices[r], slices[r + 1]);
    const auto row = [&](const Tensor& t) { return t[t.size(0) == 1 ? 0 : static_cast<std::int64_t>(r)]; };
    if (weight.defined()) part = mul(part, row(weight));
    if (bias.defined()) part = add(part, row(bias));
    parts.push_back(part);
  }
  return concatenate(parts);
}

TEST_CASE("batch_norm: statistics and values against the definition") {
  const double eps = 1e-3;
  for (const Shape& shape :
       {Shape{6, 4}, Shape{2, 1}, Shape{3, 5, 4}, Shape{4, 3, 2, 70}, Shape{900, 3}, Shape{40, 9, 9, 17}})
    for (const bool affine : {false, true})
      for (const Begin& groups : {Begin{0, shape[0]}, Begin{0, shape[0] / 2, shape[0]}}) {
        const std::int64_t positions = shape.product(1, shape.rank() - 1), c = shape[shape.rank() - 1];
        if (groups[1] * positions < 2) continue;
        const Tensor x = normal(shape) * 2.0 + 1.0, weight = normal({1, c}, 2), bias = normal({1, c}, 3);
        const auto result = affine ? batch_norm_train(x, weight[0], bias[0], groups, eps)
                                   : batch_norm_train(x, {}, {}, groups, eps);
        const Tensor y = affine ? reference(x, weight, bias, groups, {0, shape[0]}, eps)
                                : reference(x, {}, {}, groups, {0, shape[0]}, eps);
        CHECK(relative_error(result.y, y) < 1e-13);
        CHECK(!result.mean.requires_grad());
        for (std::size_t g = 0; g + 1 < groups.size(); ++g) {
          const Tensor part =
              reshape(slice(x, 0, groups[g], groups[g + 1]), {(groups[g + 1] - groups[g]) * positions, c});
          CHECK(relative_error(result.mean[static_cast<std::int64_t>(g)], mean(part, {0})) < 1e-13);
          CHECK(relative_error(result.variance[static_cast<std::int64_t>(g)], var(part, {0}, 0)) < 1e-13);
          CHECK(result.values[g] == part.size(0));
        }
        const Tensor small =
            affine
                ? batch_norm_train(x.to(float32), weight[0].to(float32), bias[0].to(float32), groups, eps).y
                : batch_norm_train(x.to(float32), {}, {}, groups, eps).y;
        CHECK(relative_error(small.to(float64), y) < 1e-5);
        const Tensor m = normal({c}, 4), v = uniform({c}, 0.5, 2);
        const Tensor fixed = affine ? batch_norm_eval(x, weight[0], bias[0], m, v, eps)
                                    : batch_norm_eval(x, {}, {}, m, v, eps);
        Tensor expected = div(sub(x, m), sqrt(v + eps));
        if (affine) expected = add(mul(expected, weight[0]), bias[0]);
        CHECK(relative_error(fixed, expected) < 1e-13);
      }
}

TEST_CASE("batch_norm: derivatives, fused and composed") {
  for (const Shape& shape : {Shape{4, 2}, Shape{2, 1}, Shape{5, 1, 2}, Shape{4, 2, 2, 1}}) {
    const std::int64_t c = shape[shape.rank() - 1], b = shape[0];
    const Tensor x = normal(shape), weight = normal({c}, 2), bias = normal({c}, 3);
    for (const Begin& groups : {Begin{0, b}, Begin{0, 2, b}}) {
      if (b - groups[groups.size() - 2] < 2) continue;
      const auto y = [&](const Tensor& in, const Tensor& scale, const Tensor& shift) {
        return batch_norm_train(in, scale, shift, groups, 0.1).y;
      };
      check_derivatives([&](auto& v) { return y(v[0], v[1], v[2]); }, {x, weight, bias});
      check_derivatives([&](auto& v) { return y(v[0], {}, {}); }, {x});
      check_derivatives([&](auto& v) { return y(v[0], v[1], {}); }, {x, weight});
      check_derivatives([&](auto& v) { return y(v[0], {}, v[1]); }, {x, bias});
      check_derivatives([&](auto& v) { return y(x, v[0], v[1]); }, {weight, bias});
    }
    const Tensor m = normal({c}, 4), v = uniform({c}, 0.5, 2);
    check_derivatives([&](auto& in) { return batch_norm_eval(in[0], in[1], in[2], m, v); },
                      {x, weight, bias});
    check_derivatives([&](auto& in) { return batch_norm_eval(in[0], {}, {}, m, v); }, {x});
    check_derivatives([&](auto& in) { return batch_norm_eval(in[0], {}, in[1], m, v); }, {x, bias});
  }
  check_derivatives(
      [](auto& v) {
        return batch_norm_train(v[0], {}, {}, {0, 3}).y;
      },
      {zeros({3, 0}, {.dtype = float64})});
  check_derivatives(
      [](auto& v) {
        return batch_norm_eval(v[0], v[1], v[2], zeros_like(v[1]).detach(), ones_like(v[1]).detach());
      },
      {normal({0, 2}), normal({2}), normal({2})});
}

TEST_CASE("batch_norm: the sum with a residual and relu in the same sweep") {
  const std::int64_t c = 5;
  const Tensor x = normal({6, 3, c}), weight = normal({c}, 2), bias = normal({c}, 3),
               residual = normal(x.shape(), 5);
  const Tensor m = normal({c}, 6), v = uniform({c}, 0.5, 2);
  for (const Begin& groups : {Begin{0, 6}, Begin{0, 2, 3, 6}})
    for (const bool with_relu : {false, true})
      for (const bool with_residual : {false, true}) {
        const auto plain = [&](Tensor y, const Tensor& r) {
          if (with_residual) y = add(y, r);
          return with_relu ? relu(y) : y;
        };
        const auto then = [&](const Tensor& r) {
          return BatchNormEpilogue{with_residual ? r : Tensor(), with_relu};
        };
        const auto fused = [&](auto& in) {
          return batch_norm_train(in[0], in[1], in[2], groups, 0.1, then(in[3])).y;
        };
        const std::vector<Tensor> in{x, weight, bias, residual};
        CHECK(same_bits(fused(in), plain(batch_norm_train(x, weight, bias, groups, 0.1).y, residual)));
        CHECK(same_bits(batch_norm_eval(x, weight, bias, m, v, 0.1, then(residual)),
                        plain(batch_norm_eval(x, weight, bias, m, v, 0.1), residual)));
        check_derivatives(fused, in);

        // The gradients of the fused sweep equal those of the composed operations.
        const Tensor g = normal(x.shape(), 7);
        std::vector<Tensor> leaves;
        for (const Tensor& t : in) leaves.push_back(t.clone().requires_grad_());
        const Tensor one_by_one =
            plain(batch_norm_train(leaves[0], leaves[1], leaves[2], groups, 0.1).y, leaves[3]);
        const std::size_t count = with_residual ? 4 : 3;
        const std::vector<Tensor> wanted(leaves.begin(), leaves.begin() + static_cast<std::ptrdiff_t>(count));
        const auto expected = grad(sum(mul(one_by_one, g)), wanted);
        const auto found = grad(sum(mul(fused(leaves), g)), wanted);
        for (std::size_t i = 0; i < count; ++i) CHECK(same_bits(found[i], expected[i]));
      }
  CHECK_ERROR(batch_norm_train(x, weight, bias, {0, 6}, 0.1, {.residual = normal({6, c})}), ShapeError,
              "the residual has shape [6, 5], the input [6, 3, 5]");
  CHECK_ERROR(batch_norm_eval(x, weight, bias, m, v, 0.1, {.residual = residual.to(float32)}), DTypeError,
              "batch_norm");
}

TEST_CASE("batch_norm: replicas and groups of statistics in every combination") {
  const std::int64_t batch = 7, c = 2;
  const Begin slices{0, 3, 5, 7};
  for (const std::int64_t positions : {1, 3})
    for (const Begin& groups : {Begin{0, 7}, slices, Begin{0, 4, 7}})
      for (const int kind_weight : {0, 1, 2})  // undefined, plain, replicated
        for (const int kind_bias : {0, 1, 2})
          for (const bool summed : {false, true}) {
            if (summed && kind_weight != 2 && kind_bias != 2) continue;
            const Tensor x = normal(positions == 1 ? Shape{batch, c} : Shape{batch, positions, c});
            const Tensor weight = normal({kind_weight == 2 ? 3 : 1, c}, 2),
                         bias = normal({kind_bias == 2 ? 3 : 1, c}, 3);
            const auto plan = std::make_shared<ReplicaPlan>(3);
            const auto parameter = [&](int kind, const Tensor& leaf) {
              return kind == 0 ? Tensor() : kind == 1 ? leaf[0] : replicas_of(leaf, plan, summed);
            };
            const auto y = [&](const std::vector<Tensor>& v) {
              return batch_norm_train(v[0], parameter(kind_weight, v[1]), parameter(kind_bias, v[2]), groups,
                                      0.1)
                  .y;
            };
            const std::vector<Tensor> leaves{x.clone().requires_grad_(), weight.clone().requires_grad_(),
                                             bias.clone().requires_grad_()};
            const Tensor expected = reference(leaves[0], kind_weight ? leaves[1] : Tensor(),
                                              kind_bias ? leaves[2] : Tensor(), groups, slices, 0.1);
            const Tensor g = normal(x.shape(), 5), found = y(leaves);
            INFO("positions ", positions, ", groups ", groups.size() - 1, ", weight ", kind_weight, ", bias ",
                 kind_bias, ", summed ", summed);
            CHECK(relative_error(found, expected) < 1e-13);
            const auto wanted = grad(expected, leaves, {.gradient = g});
            for (const bool create_graph : {false, true}) {
              const auto grads =
                  grad(found, leaves, {.create_graph = create_graph, .retain_graph = true, .gradient = g});
              CHECK(relative_error(grads[0], wanted[0]) < 1e-12);
              for (const std::size_t i : {std::size_t{1}, std::size_t{2}})
                CHECK(relative_error(sum(grads[i], {0}), sum(wanted[i], {0})) < 1e-12);
              if (!summed) {
                CHECK(relative_error(grads[1], wanted[1]) < 1e-12);
                CHECK(relative_error(grads[2], wanted[2]) < 1e-12);
              }
            }
            if (!summed) {
              const auto second = gradgradcheck(y, {x, weight, bias});
              CHECK_MESSAGE(second.ok, second.message);
            }
            // evaluation
            const Tensor m = normal({c}, 6), v = uniform({c}, 0.5, 2);
            const auto fixed = [&](const std::vector<Tensor>& t) {
              return batch_norm_eval(t[0], parameter(kind_weight, t[1]), parameter(kind_bias, t[2]), m, v);
            };
            if (!summed && groups.size() == 2) check_derivatives(fixed, {x, weight, bias});
          }
}

TEST_CASE("batch_norm: one pass over replicas is their separate passes") {
  for (const std::int64_t M : {1, 2, 3, 8})
    for (const std::int64_t batch : {16, 19}) {
      const auto plan = std::make_shared<ReplicaPlan>(M);
      const Begin slices = Slices(plan->count(), batch).boundaries();
      const Tensor x = normal({batch, 2, 3, 5}).requires_grad_(), weight = normal({M, 5}, 2).requires_grad_(),
                   bias = normal({M, 5}, 3).requires_grad_(), g = normal(x.shape(), 4);
      const auto one = batch_norm_train(x, detail::add_replica_dim(weight, plan),
                                        detail::add_replica_dim(bias, plan), slices);
      const auto grads = grad(one.y, {x, weight, bias}, {.gradient = g});
      for (std::int64_t r = 0; r < M; ++r) {
        const auto from = slices[static_cast<std::size_t>(r)], to = slices[static_cast<std::size_t>(r) + 1];
        const auto part = [&](const Tensor& t) { return slice(t.detach(), 0, from, to); };
        const Tensor own_x = part(x).clone().requires_grad_(),
                     own_weight = weight.detach()[r].clone().requires_grad_(),
                     own_bias = bias.detach()[r].clone().requires_grad_();
        const auto own = batch_norm_train(own_x, own_weight, own_bias, {0, to - from});
        const auto own_grads = grad(own.y, {own_x, own_weight, own_bias}, {.gradient = part(g)});
        CHECK(relative_error(part(one.y), own.y) < 1e-14);
        CHECK(relative_error(one.mean[r], own.mean[0]) < 1e-14);
        CHECK(relative_error(one.variance[r], own.variance[0]) < 1e-14);
        CHECK(relative_error(part(grads[0]), own_grads[0]) < 1e-13);
        CHECK(relative_error(grads[1][r], own_grads[1]) < 1e-13);
        CHECK(relative_error(grads[2][r], own_grads[2]) < 1e-13);
      }
    }
}

TEST_CASE("batch_norm: a perturbed pass may begin with it") {
  // the plan gets the batch size from the samples, not from the rows
  const auto plan = std::make_shared<ReplicaPlan>(3);
  const Tensor weight = detail::add_replica_dim(normal({3, 2}), plan);
  static_cast<void>(batch_norm_train(normal({7, 4, 2}), weight, {}, {0, 7}));
  CHECK(plan->batch() == 7);
}

TEST_CASE("batch_norm: a large mean costs no digits") {
  const Tensor z = round(affine(normal({4000, 3}), 256, 0));
  const Tensor spread = affine(z, 1.0 / 256, 0), far = affine(spread, 1, 1e4);  // exact in float32
  const auto near = batch_norm_train(spread, {}, {}, {0, 4000}),
             found = batch_norm_train(far.to(float32), {}, {}, {0, 4000});
  CHECK(relative_error(found.variance.to(float64), near.variance) < 1e-6);
  CHECK(relative_error(found.mean.to(float64), near.mean + 1e4) < 1e-7);
  CHECK(relative_error(found.y.to(float64), near.y) < 2e-3);  // the mean's own rounding, 2⁻¹¹
  const auto further = batch_norm_train(affine(spread, 1, 1e9), {}, {}, {0, 4000});
  CHECK(relative_error(further.variance, near.variance) < 1e-12);
  CHECK(relative_error(further.y, near.y) < 1e-6);
  // a constant channel, and values whose squares are too large for float32
  const auto constant = batch_norm_train(full({5, 2}, 3, {.dtype = float32}), {}, {}, {0, 5});
  CHECK(holds(constant.variance, {1, 2}, {0, 0}));
  CHECK(holds(constant.y, {5, 2}, std::vector<double>(10, 0)));
  const Tensor huge = affine(normal({50, 2}, 1, float32), 1e4, 0).requires_grad_();
  const Tensor y = batch_norm_train(huge, {}, {}, {0, 50}).y;
  CHECK(all(is_finite(y)).item<bool>());
  CHECK(all(is_finite(grad(y, {huge}, {.gradient = normal({50, 2}, 2, float32)})[0])).item<bool>());
}

TEST_CASE("batch_norm and layer_norm: a large mean costs the composed gradient no digits") {
  const Tensor far = affine(normal({1000, 3}, 1, float32), 1, 1e6), g = normal({1000, 3}, 2);
  const auto gradient = [](const auto& norm, const Tensor& input, const Tensor& dy) {
    const Tensor x = input.detach().clone().requires_grad_();
    return grad(norm(x), {x}, {.create_graph = true, .gradient = dy})[0].detach().to(float64);
  };
  const auto over_rows = [](const Tensor& x) { return batch_norm_train(x, {}, {}, {0, x.size(0)}).y; };
  const auto over_columns = [](const Tensor& x) { return layer_norm(x, Shape{x.size(1)}, {}, {}); };
  CHECK(relative_error(gradient(over_rows, far, g.to(float32)), gradient(over_rows, far.to(float64), g)) <
        1e-5);
  const Tensor wide = transpose(far, 0, 1), gt = transpose(g, 0, 1);
  CHECK(relative_error(gradient(over_columns, wide, gt.to(float32)),
                       gradient(over_columns, wide.to(float64), gt)) < 1e-5);
}

TEST_CASE("batch_norm: the same bits for any number of threads") {
  for (const Shape& shape : {Shape{8, 50, 50, 3}, Shape{300, 130}, Shape{33, 12, 12, 64}}) {
    const std::int64_t c = shape[shape.rank() - 1];
    const Tensor x = normal(shape, 1, float32).requires_grad_(), g = normal(shape, 2, float32),
                 weight = normal({c}, 3, float32).requires_grad_(),
                 bias = normal({c}, 4, float32).requires_grad_();
    std::vector<Tensor> results;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const auto result = batch_norm_train(x, weight, bias, {0, 3, shape[0]});
      for (const Tensor& t : {result.y.detach(), result.mean, result.variance}) results.push_back(t);
      for (const Tensor& t : grad(result.y, {x, weight, bias}, {.gradient = g})) results.push_back(t);
    }
    set_num_threads(0);
    for (std::size_t i = 6; i < results.size(); ++i) CHECK(same_bits(results[i], results[i % 6]));
  }
}

TEST_CASE("batch_norm: PyTorch's values") {
  const int cases = for_each_case("layers.safetensors", "batch_norm", [](const FixtureCase& c) {
    check_case(c, {"x", "weight", "bias"}, [&](auto leaf) {
      const Tensor& x = leaf.at("x");
      if (c.hyper["training"])
        return batch_norm_train(x, leaf.at("weight"), leaf.at("bias"), {0, x.size(0)}, c.hyper["eps"]).y;
      return batch_norm_eval(x, leaf.at("weight"), leaf.at("bias"), c["running_mean"], c["running_var"],
                             c.hyper["eps"]);
    });
  });
  CHECK(cases == 12);
}

TEST_CASE("batch_norm: errors") {
  const Tensor x = normal({8, 3});
  CHECK_ERROR(batch_norm_train(x, {}, {}, {0, 1, 2, 3, 4, 5, 6, 7, 8}), ShapeError, "[batch_norm]", "M = 8",
              "B = 8", "slice 0");
  CHECK_ERROR(batch_norm_train(x, {}, {}, {0, 7, 8}), ShapeError, "M = 2", "slice 1");
  CHECK_ERROR(batch_norm_train(x, {}, {}, {0, 0, 8}), ShapeError, "slice 0", "has 0");
  CHECK_ERROR(batch_norm_train(normal({1, 3}), {}, {}, {0, 1}), ShapeError, "B = 1");
  CHECK_ERROR(batch_norm_train(normal({0, 3}), {}, {}, {0, 0}), ShapeError, "B = 0");
  CHECK_ERROR(batch_norm_train(x, {}, {}, {0, 7}), ShapeError, "end at 8");
  CHECK_ERROR(batch_norm_train(x, {}, {}, {0}), ShapeError, "end at 8");
  CHECK_ERROR(batch_norm_train(x, {}, {}, {0, 6, 3, 8}), ShapeError, "batch_norm");
  CHECK_ERROR(batch_norm_train(normal({8}), {}, {}, {0, 8}), ShapeError, "[B, …, C]", "[8]");
  CHECK_ERROR(batch_norm_train(x, normal({4}), {}, {0, 8}), ShapeError, "weight", "[4]", "[3]");
  CHECK_ERROR(batch_norm_train(x, {}, normal({1, 3}), {0, 8}), ShapeError, "bias", "[1, 3]", "[3]");
  CHECK_ERROR(batch_norm_train(x, normal({3}, 1, float32), {}, {0, 8}), DTypeError, "batch_norm", "float32");
  CHECK_ERROR(batch_norm_train(reshape(arange(8), {4, 2}), {}, {}, {0, 4}), DTypeError, "batch_norm",
              "int64");
  CHECK_ERROR(batch_norm_eval(x, {}, {}, normal({2}), normal({3})), ShapeError, "running", "[2]", "[3]");
  CHECK_ERROR(batch_norm_eval(x, {}, {}, normal({3}), normal({3}, 1, float32)), DTypeError, "batch_norm");
  const auto replicated = [](std::int64_t M) {
    return detail::add_replica_dim(normal({M, 3}), std::make_shared<ReplicaPlan>(M));
  };
  CHECK_ERROR(batch_norm_train(x, replicated(2), replicated(2), {0, 8}), ReplicaError,
              "two different perturbed passes");
  CHECK_ERROR(batch_norm_train(x, replicated(9), {}, {0, 8}), ShapeError, "M = 9", "8");
  CHECK_ERROR(batch_norm_train(replicated(8), {}, {}, {0, 3}), ShapeError, "batch_norm");
}

}  // namespace
}  // namespace lpf::test
