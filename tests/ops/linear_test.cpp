#include "lpf/ops/linear.hpp"

#include "lpf/backend/threads.hpp"
#include "lpf/ops/math.hpp"
#include "lpf/ops/matmul.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// y_b = w_r·x_b + bias_r for each sample b of slice r, one sample at a time. w [M or none, out, in].
Tensor looped(const Tensor& x, const Tensor& w, const Tensor& bias, const std::vector<std::int64_t>& begin,
              bool w_replicated, bool bias_replicated) {
  std::vector<Tensor> rows;
  for (std::size_t r = 0; r + 1 < begin.size(); ++r)
    for (std::int64_t b = begin[r]; b < begin[r + 1]; ++b) {
      const auto replica = static_cast<std::int64_t>(r);
      Tensor y = matmul(x[b], (w_replicated ? w[replica] : w).transpose());  // [out] or [tokens, out]
      if (bias.defined()) y = y + (bias_replicated ? bias[replica] : bias);
      rows.push_back(y);
    }
  return stack(rows);
}

}  // namespace

TEST_CASE("linear with plain weights") {
  for (const Shape& shape :
       {Shape{3}, Shape{1, 3}, Shape{5, 3}, Shape{2, 4, 3}, Shape{2, 1, 2, 3}, Shape{0, 3}, Shape{2, 0, 3}})
    for (const std::int64_t out : {1, 2, 0}) {
      CAPTURE(shape.to_string());
      CAPTURE(out);
      const Tensor x = normal(shape, 1), w = normal({out, 3}, 2), b = normal({out}, 3);
      CHECK(linear(x, w).shape() == shape.with(shape.rank() - 1, out));
      CHECK(relative_error(linear(x, w), matmul(x, w.transpose())) < 1e-13);
      CHECK(relative_error(linear(x, w, b), matmul(x, w.transpose()) + b) < 1e-13);
      CHECK(wrong_derivatives([](auto& in) { return linear(in[0], in[1]); }, {x, w}) == "");
      CHECK(wrong_derivatives([](auto& in) { return linear(in[0], in[1], in[2]); }, {x, w, b}) == "");
    }
  const Tensor none = zeros({4, 0}, {.dtype = float64}), w = zeros({2, 0}, {.dtype = float64}),
               b = tensor({1.0, 2.0});
  CHECK(holds(linear(none, w, b), {4, 2}, {1, 2, 1, 2, 1, 2, 1, 2}));
  CHECK(holds(linear(none, w), {4, 2}, {0, 0, 0, 0, 0, 0, 0, 0}));
  const auto rearranged = [](const std::vector<Tensor>& in) {
    return linear(slice(in[0].transpose(), 0, 0, 6, 2), in[1].transpose(), in[2][1]);
  };
  CHECK(wrong_derivatives(rearranged, {normal({3, 6}, 1), normal({3, 2}, 2), normal({2, 2}, 3)}) == "");
}

TEST_CASE("linear: float32 agrees with float64") {
  const Tensor x = normal({33, 65}, 1), w = normal({17, 65}, 2), b = normal({17}, 3);
  const Tensor y = linear(x.to(float32), w.to(float32), b.to(float32));
  CHECK(y.dtype() == float32);
  CHECK(relative_error(y.to(float64), linear(x, w, b), 65) < 1e-6);
  const auto plan = plan_of(4);
  const Tensor many = normal({4, 17, 65}, 4);
  CHECK(relative_error(linear(x.to(float32), detail::add_replica_dim(many.to(float32), plan)).to(float64),
                       linear(x, detail::add_replica_dim(many, plan)), 65) < 1e-6);
}

TEST_CASE("linear with replicas: each slice of the batch meets its own weights") {
  for (const std::int64_t batch : {1, 4, 5, 7, 8})
    for (const std::int64_t m : {1, 2, 3, 4, 8}) {
      if (m > batch) continue;
      for (const bool tokens : {false, true})
        for (const int which : {1, 2, 3}) {  // bit 0: the weight is replicated, bit 1: the bias
          const bool rw = which & 1, rb = which & 2;
          CAPTURE(batch);
          CAPTURE(m);
          CAPTURE(tokens);
          CAPTURE(which);
          const auto begin = Slices(m, batch).boundaries();
          CHECK(begin.front() == 0);
          CHECK(begin.back() == batch);
          const Tensor x = normal(tokens ? Shape{batch, 2, 3} : Shape{batch, 3}, 1);
          const Tensor w = normal(rw ? Shape{m, 2, 3} : Shape{2, 3}, 2),
                       b = normal(rb ? Shape{m, 2} : Shape{2}, 3);
          const auto apply = [&](const Tensor& xs, const Tensor& ws, const Tensor& bs) {
            const auto plan = plan_of(m);  // of one pass
            const Tensor weight = rw ? detail::add_replica_dim(ws, plan) : ws;
            if (!bs.defined()) return linear(xs, weight);
            return linear(xs, weight, rb ? detail::add_replica_dim(bs, plan) : bs);
          };
          CHECK(relative_error(apply(x, w, b), looped(x, w, b, begin, rw, rb)) < 1e-13);
          if (rw && !rb) CHECK(relative_error(apply(x, w, {}), looped(x, w, {}, begin, rw, rb)) < 1e-13);
          // gradients, and gradients of gradients, equal the loop's
          const Tensor u = normal(apply(x, w, b).shape(), 4);
          const auto all = [&](auto f) {
            const Tensor xl = x.clone().requires_grad_(), wl = w.clone().requires_grad_(),
                         bl = b.clone().requires_grad_();
            const auto first = grad(sum(f(xl, wl, bl).square() * u), {xl, wl, bl}, {.create_graph = true});
            auto second =
                grad(sum(first[0].square()) + sum(first[1].square()) + sum(first[2].square()), {xl, wl, bl});
            for (const Tensor& g : first) second.push_back(g.detach());
            return second;
          };
          const auto found = all(apply);
          const auto expected = all([&](const Tensor& xs, const Tensor& ws, const Tensor& bs) {
            return looped(xs, ws, bs, begin, rw, rb);
          });
          for (std::size_t i = 0; i < found.size(); ++i) CHECK(relative_error(found[i], expected[i]) < 1e-11);
        }
    }
}

TEST_CASE("linear with replicas: first and second derivatives") {
  for (const auto& [batch, m] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{2, 2}, {5, 2}, {3, 1}, {4, 3}}) {
    const auto f = [m = m](const std::vector<Tensor>& in) {
      const auto plan = plan_of(m);
      return linear(in[0], detail::add_replica_dim(in[1], plan), detail::add_replica_dim(in[2], plan));
    };
    CHECK(wrong_derivatives(f, {normal({batch, 2}, 1), normal({m, 3, 2}, 2), normal({m, 3}, 3)}) == "");
  }
}

TEST_CASE("linear: a gradient summed over the replicas is one product") {
  const std::int64_t m = 3, batch = 7;
  const Tensor x = normal({batch, 4}, 1).requires_grad_(), all = normal({m, 2, 4}, 2);
  // θ read as replicas, once with the sum in backward and once in the product itself
  const auto replicas_of = [&](const Tensor& theta, bool sum_gradient) {
    const auto plan = plan_of(m);
    Tensor w = detail::add_replica_dim(all + expand(theta.detach(), {m, 2, 4}), plan);
    w.impl().sum_gradient = sum_gradient;
    return record("perturb", std::move(w), {theta},
                  [](const Tensor& g, Need) { return Grads{g.is_replicated() ? sum_replicas(g) : g}; });
  };
  const Tensor theta = normal({2, 4}, 3).requires_grad_();
  for (const bool twice : {false, true}) {  // a tied weight: two gradients arrive
    const auto gradient = [&](bool sum_gradient) {
      const Tensor w = replicas_of(theta, sum_gradient);
      Tensor y = linear(x, w);
      if (twice) y = linear(linear(y, w.transpose()), w);  // the transpose's gradient arrives per replica
      return grad(sum(y.square()), {theta, x});
    };
    const auto a = gradient(false), b = gradient(true);
    CHECK(a[0].shape() == theta.shape());
    CHECK(relative_error(b[0], a[0]) < 1e-12);
    CHECK(relative_error(b[1], a[1]) < 1e-12);
  }
}

TEST_CASE("linear: errors") {
  const Tensor x = zeros({32, 12}), w = zeros({64, 10});
  CHECK_ERROR(linear(x, w), ShapeError, "[linear]", "input has 12 features, weight expects 10",
              "x is [32, 12]", "weight is [64, 10]");
  CHECK_ERROR(linear(full({}, 1), w), ShapeError, "[linear]");
  CHECK_ERROR(linear(x, zeros({12})), ShapeError, "[linear]", "[out, in]", "[12]");
  CHECK_ERROR(linear(x, zeros({64, 12}), zeros({12})), ShapeError, "[linear]", "bias", "[12]", "[64]");
  CHECK_ERROR(linear(x, zeros({64, 12}, {.dtype = float64})), DTypeError, "[linear]", "float32", "float64");
  CHECK_ERROR(linear(zeros({2, 3}, {.dtype = int64}), zeros({2, 3}, {.dtype = int64})), DTypeError,
              "[linear]", "int64");
  CHECK_ERROR(linear(x, zeros({64, 12}), zeros({64}, {.dtype = float64})), DTypeError, "[linear]");
  const auto plan = plan_of(8);
  const Tensor many = detail::add_replica_dim(zeros({8, 64, 12}), plan);
  CHECK_ERROR(linear(zeros({4, 12}), many), ShapeError, "[linear]", "M = 8", "4");  // M > B
  CHECK_ERROR(linear(zeros({12}), many), ShapeError, "[linear]", "batch axis", "[12]");
  CHECK_NOTHROW(linear(zeros({16, 12}), many));
  CHECK_ERROR(linear(zeros({17, 12}), many), ShapeError, "[linear]", "16",
              "17");                                                  // the pass already has a batch
  CHECK_NOTHROW(linear(zeros({32, 12}), many));                       // two rows per sample
  CHECK_ERROR(linear(many, zeros({64, 12})), ReplicaError, "M = 8");  // a parameter is not an activation
}

TEST_CASE("linear does not depend on the number of threads") {
  const Tensor x = normal({127, 784}, 1, float32), w = normal({8, 130, 784}, 2, float32),
               b = normal({8, 130}, 3, float32);
  const auto run = [&] {
    const auto plan = plan_of(8);
    const Tensor xl = x.clone().requires_grad_(), wl = w.clone().requires_grad_(),
                 bl = b.clone().requires_grad_();
    const Tensor y = linear(xl, detail::add_replica_dim(wl, plan), detail::add_replica_dim(bl, plan));
    auto out = grad(sum(y.square()), {xl, wl, bl});
    out.push_back(y.detach());
    return out;
  };
  check_same_for_any_threads(run);
}
