#include "lpf/ops/shape.hpp"

#include <functional>
#include <limits>

#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/replicate.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// 0, 1, 2, … in this shape.
Tensor counted(const Shape& shape, DType dtype = float64) {
  return arange(shape.numel()).to(dtype).reshape(shape);
}

/// First and second derivatives of a linear f, composed with a square.
std::string wrong(const std::function<Tensor(const Tensor&)>& f, const Shape& shape) {
  return wrong_derivatives([&f](auto& in) { return f(in[0] * in[0]) * 2.0; }, {normal(shape)});
}

constexpr std::int64_t end = std::numeric_limits<std::int64_t>::max();

}  // namespace

TEST_CASE("reshape") {
  const Tensor x = counted({2, 3});
  CHECK(holds(reshape(x, Shape{3, 2}), {3, 2}, {0, 1, 2, 3, 4, 5}));
  CHECK(reshape(x, Shape{6}).raw() == x.raw());  // a view
  CHECK(x.reshape({-1}).shape() == Shape{6});
  CHECK(x.reshape({3, -1}).shape() == Shape{3, 2});
  CHECK(x.reshape({1, -1, 1}).shape() == Shape{1, 6, 1});
  CHECK(zeros({0, 3}).reshape({-1, 3}).shape() == Shape{0, 3});
  CHECK(zeros({0, 3}).reshape({5, 0}).shape() == Shape{5, 0});
  CHECK(full({}, 2).reshape({1, 1}).shape() == Shape{1, 1});
  CHECK(full({1}, 2).reshape(Shape{}).shape() == Shape{});
  CHECK_ERROR(reshape(x, Shape{4}), ShapeError, "[reshape]", "[2, 3]", "6", "[4]", "4");
  CHECK_ERROR(x.reshape({4, -1}), ShapeError, "[reshape]", "[2, 3]", "4");
  CHECK_ERROR(x.reshape({-1, -1}), ShapeError, "[reshape]", "only one size");
  CHECK_ERROR(x.reshape({-2, 3}), ShapeError, "-2");
  CHECK_ERROR(zeros({0}).reshape({0, -1}), ShapeError, "[reshape]");
  for (const Shape& shape : shapes)
    CHECK(wrong([](const Tensor& t) { return t.reshape({-1, 1}); }, shape) == "");
}

TEST_CASE("flatten, squeeze, unsqueeze") {
  const Tensor x = counted({2, 1, 3, 2});
  CHECK(x.flatten().shape() == Shape{12});
  CHECK(x.flatten(1).shape() == Shape{2, 6});
  CHECK(x.flatten(-2).shape() == Shape{2, 1, 6});
  CHECK(x.flatten(0, 2).shape() == Shape{6, 2});
  CHECK(x.flatten(1, 1).shape() == x.shape());
  CHECK(full({}, 1).flatten().shape() == Shape{1});
  CHECK(zeros({0, 2}).flatten().shape() == Shape{0});
  CHECK_ERROR(x.flatten(2, 1), ShapeError, "[flatten]", "axis 2", "axis 1");
  CHECK_ERROR(x.flatten(0, 4), ShapeError, "[flatten]", "axis 4", "rank 4");
  CHECK(x.squeeze(1).shape() == Shape{2, 3, 2});
  CHECK(x.squeeze(-3).shape() == Shape{2, 3, 2});
  CHECK_ERROR(x.squeeze(0), ShapeError, "[squeeze]", "axis 0", "[2, 1, 3, 2]");
  CHECK(x.unsqueeze(0).shape() == Shape{1, 2, 1, 3, 2});
  CHECK(x.unsqueeze(-1).shape() == Shape{2, 1, 3, 2, 1});
  CHECK(full({}, 1).unsqueeze(0).shape() == Shape{1});
  CHECK_ERROR(x.unsqueeze(5), ShapeError, "[unsqueeze]", "5");
  CHECK_ERROR(zeros({1, 1, 1, 1, 1, 1, 1, 1}).unsqueeze(0), ShapeError, "at most 8 axes");
  CHECK(wrong([](const Tensor& t) { return t.flatten(1).unsqueeze(1).squeeze(1); }, {2, 3, 2}) == "");
}

TEST_CASE("expand") {
  const Tensor x = counted({3, 1});
  CHECK(holds(expand(x, {3, 2}), {3, 2}, {0, 0, 1, 1, 2, 2}));
  CHECK(holds(expand(x, {2, 3, 1}), {2, 3, 1}, {0, 1, 2, 0, 1, 2}));
  CHECK(holds(expand(full({}, 5), {2, 2}), {2, 2}, {5, 5, 5, 5}));
  CHECK(expand(x, {3, 0}).numel() == 0);
  CHECK(expand(counted({1}), {0}).shape() == Shape{0});
  CHECK_ERROR(expand(x, {2, 2}), ShapeError, "[expand]", "[3, 1]", "[2, 2]");
  CHECK_ERROR(expand(x, {3}), ShapeError, "[expand]", "[3, 1]", "[3]");
  CHECK_ERROR(expand(counted({2, 3}), {2, 1}), ShapeError, "[expand]");
  for (const auto& [from, to] : std::vector<std::pair<Shape, Shape>>{{{}, {2, 3}},
                                                                     {{1}, {4}},
                                                                     {{3, 1}, {3, 2}},
                                                                     {{2}, {3, 2}},
                                                                     {{1, 2}, {3, 2}},
                                                                     {{1, 2, 1}, {2, 2, 3}},
                                                                     {{1}, {0}},
                                                                     {{0}, {2, 0}}})
    CHECK(wrong([to = to](const Tensor& t) { return expand(t, to); }, from) == "");
}

TEST_CASE("permute and transpose") {
  const Tensor x = counted({2, 3});
  CHECK(holds(x.transpose(), {3, 2}, {0, 3, 1, 4, 2, 5}));
  CHECK(holds(x.transpose(0, -1), {3, 2}, {0, 3, 1, 4, 2, 5}));
  CHECK(holds(x.transpose(1, 1), {2, 3}, {0, 1, 2, 3, 4, 5}));
  const Tensor y = counted({2, 3, 4}), z = y.permute({2, 0, 1});
  CHECK(z.shape() == Shape{4, 2, 3});
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 3; ++j)
      for (std::int64_t k = 0; k < 4; ++k) CHECK(z[k][i][j].item() == y[i][j][k].item());
  CHECK(same_bits(y.permute({-1, 0, 1}), z));
  CHECK(same_bits(z.permute({1, 2, 0}), y));
  CHECK(full({}, 3).permute({}).item() == 3);
  for (const DType dtype : {DType::bool_, uint8, int32, int64, float32})
    CHECK(holds(x.to(dtype).transpose().to(dtype).transpose().to(float64), {2, 3}, x.to(dtype).to_vector()));
  CHECK_ERROR(x.permute({0}), ShapeError, "[permute]", "1 axes", "[2, 3]");
  CHECK_ERROR(x.permute({0, 0}), ShapeError, "[permute]", "axis 0", "twice");
  CHECK_ERROR(x.permute({0, 2}), ShapeError, "[permute]", "axis 2");
  CHECK_ERROR(x.transpose(0, 2), ShapeError, "[transpose]", "axis 2");
  CHECK_ERROR(full({3}, 1).transpose(), ShapeError, "[transpose]");
  for (const Shape& shape : shapes)
    CHECK(wrong(
              [](const Tensor& t) {
                Axes axes;
                for (int i = t.rank(); i-- > 0;) axes.push_back((i + 1) % t.rank());
                return permute(t, axes);
              },
              shape) == "");
}

TEST_CASE("slice: Python's bounds") {
  const Tensor x = counted({5});
  CHECK(holds(slice(x, 0, 1, 3), {2}, {1, 2}));
  CHECK(holds(slice(x, 0, -2, end), {2}, {3, 4}));
  CHECK(holds(slice(x, 0, 0, -1), {4}, {0, 1, 2, 3}));
  CHECK(holds(slice(x, 0, -100, 100), {5}, {0, 1, 2, 3, 4}));
  CHECK(holds(slice(x, 0, 3, 2), {0}, {}));
  CHECK(holds(slice(x, 0, 7, 9), {0}, {}));
  CHECK(holds(slice(x, 0, 0, 5, 2), {3}, {0, 2, 4}));
  CHECK(holds(slice(x, 0, 1, 5, 2), {2}, {1, 3}));
  CHECK(holds(slice(x, 0, 1, 5, 100), {1}, {1}));
  CHECK(holds(slice(x, 0, 1, end, end), {1}, {1}));
  CHECK(slice(zeros({0, 2}), 0, 0, 3).shape() == Shape{0, 2});
  CHECK(holds(slice(counted({2, 3}), 1, 1, 3), {2, 2}, {1, 2, 4, 5}));
  CHECK(holds(slice(counted({2, 3}), -1, 0, 3, 2), {2, 2}, {0, 2, 3, 5}));
  CHECK(slice(x, 0, 1, 3).raw() == static_cast<void*>(static_cast<double*>(x.raw()) + 1));  // a view
  CHECK(slice(counted({1, 4}), 1, 1, 3).numel() == 2);  // also behind axes of size 1
  CHECK_ERROR(slice(x, 0, 0, 5, 0), ValueError, "[slice]", "step must be positive", "0");
  CHECK_ERROR(slice(x, 0, 5, 0, -1), ValueError, "[slice]", "-1");
  CHECK_ERROR(slice(x, 1, 0, 1), ShapeError, "[slice]", "axis 1", "rank 1");
  CHECK_ERROR(slice(full({}, 1), 0, 0, 1), ShapeError, "[slice]", "rank 0");
}

TEST_CASE("slice: derivatives") {
  for (const std::int64_t step : {1, 2, 3, 5, 7})
    for (const auto& [start, stop] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {0, 4}, {1, 4}, {2, 2}, {3, 4}, {0, 0}, {-3, -1}}) {
      CAPTURE(step);
      CAPTURE(start);
      CAPTURE(stop);
      const auto along = [&, start = start, stop = stop](int axis) {
        return [=](const Tensor& t) { return slice(t, axis, start, stop, step); };
      };
      CHECK(wrong(along(0), {4}) == "");
      CHECK(wrong(along(0), {4, 2}) == "");
      CHECK(wrong(along(1), {2, 4}) == "");
      CHECK(wrong(along(1), {2, 4, 2}) == "");
      CHECK(wrong(along(1), {0, 4}) == "");
      CHECK(wrong(along(0), {4, 0}) == "");
    }
}

TEST_CASE("narrow and indexing") {
  const Tensor x = counted({3, 2});
  CHECK(holds(x.narrow(0, 1, 2), {2, 2}, {2, 3, 4, 5}));
  CHECK(holds(x.narrow(1, 1, 1), {3, 1}, {1, 3, 5}));
  CHECK(x.narrow(0, 3, 0).shape() == Shape{0, 2});
  CHECK_ERROR(x.narrow(0, 2, 2), IndexError, "[narrow]", "axis 0", "[3, 2]", "2");
  CHECK_ERROR(x.narrow(0, -1, 1), IndexError, "[narrow]");
  CHECK_ERROR(x.narrow(0, 1, end), IndexError, "[narrow]");
  CHECK(holds(x[1], {2}, {2, 3}));
  CHECK(holds(x[-1], {2}, {4, 5}));
  CHECK(x[1].raw() == static_cast<void*>(static_cast<double*>(x.raw()) + 2));  // a view
  CHECK(x[2][1].item() == 5);
  CHECK_ERROR(x[3], IndexError, "[index]", "3", "[3, 2]");
  CHECK_ERROR(x[-4], IndexError, "[index]", "-4");
  CHECK_ERROR(full({}, 1)[0], IndexError, "[index]", "scalar");
  CHECK(wrong([](const Tensor& t) { return t[-1].narrow(0, 1, 1) + t[0][0]; }, {3, 2}) == "");
}

TEST_CASE("concatenate, stack, split") {
  const Tensor a = counted({2, 2}), b = counted({1, 2}) + 10.0;
  CHECK(holds(concatenate({a, b}), {3, 2}, {0, 1, 2, 3, 10, 11}));
  CHECK(holds(concatenate({a, a + 4.0}, -1), {2, 4}, {0, 1, 4, 5, 2, 3, 6, 7}));
  CHECK(holds(concatenate({a}), {2, 2}, {0, 1, 2, 3}));
  CHECK(holds(concatenate({zeros({0, 2}, {.dtype = float64}), b}), {1, 2}, {10, 11}));
  CHECK(concatenate({zeros({2, 0}), zeros({3, 0})}).shape() == Shape{5, 0});
  CHECK(concatenate({a.to(int64), b.to(int64)}).dtype() == int64);
  CHECK_ERROR(concatenate({a, counted({1, 3})}), ShapeError, "[concatenate]", "[2, 2]", "[1, 3]", "axis 0");
  CHECK_ERROR(concatenate({a, counted({2})}), ShapeError, "[concatenate]", "[2]");
  CHECK_ERROR(concatenate(std::initializer_list<Tensor>{}), ShapeError, "[concatenate]", "nothing");
  CHECK_ERROR(concatenate({a, a.to(float32)}), DTypeError, "[concatenate]", "float64", "float32");
  CHECK_ERROR(concatenate({a}, 2), ShapeError, "[concatenate]", "axis 2");
  CHECK_ERROR(concatenate({full({}, 1)}), ShapeError, "[concatenate]");

  CHECK(holds(stack({b, b + 1.0}), {2, 1, 2}, {10, 11, 11, 12}));
  CHECK(holds(stack({b, b + 1.0}, -1), {1, 2, 2}, {10, 11, 11, 12}));
  CHECK(holds(stack({full({}, 1), full({}, 2)}), {2}, {1, 2}));
  CHECK_ERROR(stack({a, b}), ShapeError, "[stack]", "[2, 2]", "[1, 2]");
  CHECK_ERROR(stack(std::initializer_list<Tensor>{}), ShapeError, "[stack]", "nothing");

  const Tensor x = counted({5, 2});
  const auto parts = split(x, 2);
  CHECK(parts.size() == 3);
  CHECK(parts[2].shape() == Shape{1, 2});
  CHECK(same_bits(concatenate(parts), x));
  CHECK(split(x, 100).size() == 1);
  CHECK(split(x, end, 1).size() == 1);
  CHECK(split(x, 1, -1).size() == 2);
  CHECK(split(zeros({0, 2}), 3).size() == 1);
  CHECK_ERROR(split(x, 0), ValueError, "[split]", "size must be positive");

  for (const int axis : {0, 1, -1})
    for (const auto& [first, second] :
         std::vector<std::pair<Shape, Shape>>{{{2, 3}, {2, 3}}, {{2, 0}, {2, 0}}, {{1, 1}, {1, 1}}}) {
      CAPTURE(axis);
      const auto join = [axis](const std::vector<Tensor>& in) {
        return concatenate({in[0] * in[1], in[1].transpose().transpose(), in[0]}, axis);
      };
      CHECK(wrong_derivatives(join, {normal(first, 1), normal(second, 2)}) == "");
      const auto pile = [axis](const std::vector<Tensor>& in) { return stack({in[0] * in[1], in[0]}, axis); };
      CHECK(wrong_derivatives(pile, {normal(first, 1), normal(second, 2)}) == "");
    }
  const auto ragged = [](const std::vector<Tensor>& in) {
    const auto p = split(in[0] * in[0], 2, 1);
    return p[0] * p[1] + p[2];
  };
  CHECK(wrong_derivatives(ragged, {normal({3, 5})}) == "");
}

TEST_CASE("clone and to") {
  const Tensor x = counted({2, 3});
  const Tensor y = x.clone();
  CHECK(same_bits(x, y));
  CHECK(x.raw() != y.raw());
  CHECK(zeros({0}).clone().shape() == Shape{0});
  CHECK(x.to(float64).is_same(x));
  CHECK(x.to(x.device()).is_same(x));
  const Tensor v = tensor({-1.7, 0.0, 0.5, 2.9});
  CHECK(holds(v.to(int64), {4}, {-1, 0, 0, 2}));  // towards zero
  CHECK(holds(v.to(int32), {4}, {-1, 0, 0, 2}));
  CHECK(holds(v.to(DType::bool_), {4}, {1, 0, 1, 1}));
  CHECK(holds(v.to(float32), {4}, {-1.7f, 0, 0.5, 2.9f}));
  CHECK(holds(tensor({true, false}).to(float32), {2}, {1, 0}));
  CHECK(holds(tensor({true, false}).to(int64), {2}, {1, 0}));
  CHECK(holds(tensor<std::uint8_t>({200}).to(int32), {1}, {200}));
  CHECK(holds(tensor<std::int64_t>({300}).to(uint8), {1}, {44}));
  for (const Shape& shape : shapes) CHECK(wrong([](const Tensor& t) { return t.clone(); }, shape) == "");
  const Tensor w = tensor({1.0, 2.0}).requires_grad_();
  sum(w.to(float32) * tensor({3.f, 4.f})).backward();  // the gradient has the leaf's dtype
  CHECK(w.grad().dtype() == float64);
  CHECK(holds(w.grad(), {2}, {3, 4}));
  CHECK_FALSE(w.to(int64).requires_grad());
}

TEST_CASE("copy_ and fill_") {
  const Tensor x = zeros({2, 3});
  x.copy_(counted({2, 3}, int64));
  CHECK(holds(x, {2, 3}, {0, 1, 2, 3, 4, 5}));
  x[1].fill_(7);  // through a view
  CHECK(holds(x, {2, 3}, {0, 1, 2, 7, 7, 7}));
  x.zero_();
  CHECK(holds(x, {2, 3}, {0, 0, 0, 0, 0, 0}));
  CHECK_ERROR(x.copy_(zeros({3})), ShapeError, "[copy_]", "[3]", "[2, 3]");
  zeros({0}).copy_(zeros({0}));
}

TEST_CASE("rearranging replicas") {
  const auto plan = std::make_shared<ReplicaPlan>(2);
  const Tensor all = normal({2, 3, 4}), w = detail::add_replica_dim(all, plan);
  const auto replicas = [](const Tensor& t) { return detail::remove_replica_dim(t); };
  CHECK(same_bits(replicas(w.reshape({6, 2})), all.reshape({2, 6, 2})));
  CHECK(same_bits(replicas(w.reshape({-1})), all.reshape({2, 12})));
  CHECK(same_bits(replicas(w.flatten()), all.reshape({2, 12})));
  CHECK(same_bits(replicas(w.transpose()), all.transpose()));
  CHECK(same_bits(replicas(w.permute({1, 0})), all.permute({0, 2, 1})));
  CHECK(same_bits(replicas(w.unsqueeze(0)), all.unsqueeze(1)));
  CHECK(same_bits(replicas(w.clone()), all));
  CHECK(same_bits(replicas(w.to(float32)), all.to(float32)));
  CHECK_ERROR(w.transpose(0, 2), ShapeError, "[transpose]", "rank 2");
  const auto f = [&](const std::vector<Tensor>& in) {
    return sum_replicas(detail::add_replica_dim(in[0] * in[0], plan).transpose().reshape({-1}));
  };
  CHECK(wrong_derivatives(f, {all}) == "");
  CHECK(same_bits(replicas(slice(w, 0, 0, 1)), slice(all, 1, 0, 1)));
  CHECK(same_bits(replicas(w[1]), slice(all, 1, 1, 2).reshape({2, 4})));
  CHECK(same_bits(replicas(concatenate({w, w})), concatenate({all, all}, 1)));
  const Tensor samples = expand(w, {2, 3, 4});  // along the axis of two samples, one of each replica
  CHECK(!samples.is_replicated());
  CHECK(same_bits(samples, all));
  if (w.device().is_cpu()) CHECK_ERROR(w.data<double>(), ReplicaError, "M = 2");
  CHECK_ERROR(w.to_vector(), ReplicaError, "M = 2");
}
