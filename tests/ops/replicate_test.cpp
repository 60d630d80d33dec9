#include "lpf/ops/replicate.hpp"

#include "lpf/ops/math.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("the slices of a batch") {
  CHECK(Slices(1, 5).boundaries() == std::vector<std::int64_t>{0, 5});
  CHECK(Slices(2, 4).boundaries() == std::vector<std::int64_t>{0, 2, 4});
  CHECK(Slices(3, 7).boundaries() == std::vector<std::int64_t>{0, 3, 5, 7});  // the longer ones first
  CHECK(Slices(3, 8).boundaries() == std::vector<std::int64_t>{0, 3, 6, 8});
  CHECK(Slices(3, 7, 2).boundaries() == std::vector<std::int64_t>{0, 6, 10, 14});
  ReplicaPlan plan(3);
  CHECK(plan.batch() == 0);
  CHECK_ERROR(plan.slices("op", 2), ShapeError, "[op]", "M = 3", "2");
  CHECK(plan.slices("op", 6).boundaries() == std::vector<std::int64_t>{0, 2, 4, 6});
  CHECK(plan.batch() == 6);
  CHECK(plan.slices("op", 12).boundaries() == std::vector<std::int64_t>{0, 4, 8, 12});
  CHECK_ERROR(plan.slices("op", 8), ShapeError, "[op]", "6", "8");
}

TEST_CASE("add_replica_dim and remove_replica_dim are views") {
  const Tensor all = normal({3, 2, 4});
  const Tensor w = detail::add_replica_dim(all, plan_of(3));
  CHECK(w.is_replicated());
  CHECK(w.shape() == Shape{2, 4});
  CHECK(w.raw_with_replicas() == all.raw());
  CHECK(same_bits(detail::remove_replica_dim(w), all));
  CHECK(w.detach().is_replicated());
  CHECK_ERROR(detail::add_replica_dim(all, plan_of(2)), ReplicaError, "[add_replica_dim]", "[3, 2, 4]", "2");
  CHECK_ERROR(detail::add_replica_dim(full({}, 1), plan_of(1)), ReplicaError, "[add_replica_dim]");
  CHECK(detail::add_replica_dim(zeros({2, 0}), plan_of(2)).shape() == Shape{0});
}

TEST_CASE("replicate and sum_replicas") {
  const auto plan = plan_of(3);
  const Tensor x = normal({2, 2}, 1), many = detail::add_replica_dim(normal({3, 2, 2}, 2), plan);
  const Tensor r = replicate(x, plan);
  for (std::int64_t i = 0; i < 3; ++i) CHECK(same_bits(detail::remove_replica_dim(r)[i], x));
  CHECK(relative_error(sum_replicas(r), x * 3.0) < 1e-15);
  CHECK(replicate(x, many).is_replicated());
  CHECK(replicate(x, x).is_same(x));  // outside a perturbed pass
  CHECK((replicate(x, many) * many).is_replicated());
  CHECK(wrong_derivatives(
            [&](auto& in) {
              return sum_replicas(exp(replicate(in[0], plan)) * detail::add_replica_dim(in[1], plan));
            },
            {x, normal({3, 2, 2})}) == "");
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{0}, Shape{2, 0}})
    CHECK(wrong_derivatives([&](auto& in) { return sum_replicas(exp(replicate(in[0], plan))); },
                            {normal(shape)}) == "");
}

TEST_CASE("slice_expand and slice_sum are adjoint") {
  for (const std::int64_t m : {1, 2, 3, 5})
    for (const std::int64_t rows : {5, 7, 10}) {
      CAPTURE(m);
      CAPTURE(rows);
      const auto begin = Slices(m, rows).boundaries();
      for (const Shape& shape : {Shape{}, Shape{3}, Shape{2, 2}, Shape{0}}) {
        const Tensor all = normal(shape.prepended(m), 1), x = normal(shape.prepended(rows), 2);
        const Tensor expanded = detail::slice_expand(detail::add_replica_dim(all, plan_of(m)), rows);
        const Tensor summed = detail::remove_replica_dim(detail::slice_sum(x, plan_of(m)));
        CHECK(expanded.shape() == x.shape());
        CHECK(summed.shape() == all.shape());
        for (std::int64_t r = 0; r < m; ++r) {
          const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
          for (std::int64_t i = from; i < to; ++i) CHECK(same_bits(expanded[i], all[r]));
          CHECK(relative_error(summed[r], sum(slice(x, 0, from, to), {0})) < 1e-14);
        }
        CHECK(wrong_derivatives(
                  [&](auto& in) {
                    return detail::slice_expand(detail::add_replica_dim(in[0] * in[0], plan_of(m)), rows);
                  },
                  {all}) == "");
        CHECK(wrong_derivatives(
                  [&](auto& in) {
                    return detail::remove_replica_dim(detail::slice_sum(in[0] * in[0], plan_of(m)));
                  },
                  {x}) == "");
      }
    }
}

TEST_CASE("per_sample: a parameter against an activation") {
  const auto plan = plan_of(2);
  const Tensor all = normal({2, 3}, 1), w = detail::add_replica_dim(all, plan), x = normal({5, 4, 3}, 2);
  const Tensor p = per_sample(w, x);
  CHECK(p.shape() == Shape{5, 1, 3});
  CHECK_FALSE(p.is_replicated());
  const auto begin = Slices(2, 5).boundaries();
  for (std::int64_t b = 0; b < 5; ++b) CHECK(same_bits(p[b][0], all[b < begin[1] ? 0 : 1]));
  CHECK(same_bits(per_sample(all[0], x), all[0]));  // outside a perturbed pass
  CHECK((per_sample(w, x) * x).shape() == x.shape());
  CHECK(per_sample(detail::add_replica_dim(normal({2}), plan_of(2)), x).shape() == Shape{5, 1, 1});
  CHECK(wrong_derivatives(
            [](auto& in) { return per_sample(detail::add_replica_dim(in[0], plan_of(2)), in[1]) * in[1]; },
            {all, x}) == "");
  CHECK_ERROR(per_sample(w, normal({3})), ShapeError, "[per_sample]", "[3]");
  CHECK_ERROR(per_sample(detail::add_replica_dim(all, plan_of(2)), normal({1, 3})), ShapeError,
              "[per_sample]", "M = 2", "1");
}

TEST_CASE("an operation of a user's own, with its rule for replicas") {
  // as documented: elementwise work on replicas is add_replica_dim(op(remove_replica_dim(x)))
  const auto scaled_sine = [](const Tensor& t) {
    const auto plain = [](const Tensor& x) {
      Tensor y = detail::unary(backend::Unary::sin, x);
      return record("scaled_sine", std::move(y), {x},
                    [x](const Tensor& g, Need) { return Grads{g * cos(x)}; });
    };
    return t.is_replicated()
               ? detail::add_replica_dim(plain(detail::remove_replica_dim(t)), t.impl().replicas)
               : plain(t);
  };
  CHECK(wrong_derivatives([&](auto& in) { return scaled_sine(in[0]); }, {normal({2, 3})}) == "");
  CHECK(wrong_derivatives(
            [&](auto& in) { return sum_replicas(scaled_sine(detail::add_replica_dim(in[0], plan_of(2)))); },
            {normal({2, 3})}) == "");
}
