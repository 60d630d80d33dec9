#include "lpf/ops/pool.hpp"

#include <limits>

#include "fixture_case.hpp"
#include "lpf/backend/backend.hpp"
#include "lpf/backend/threads.hpp"
#include "lpf/calculus/gradcheck.hpp"
#include "lpf/ops/math.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

struct Pool {
  Size2d kernel, stride, padding;
};
const std::vector<Pool> pools{{2, 2, 0}, {3, 2, 1},          {3, 1, 1}, {{3, 2}, {1, 3}, {1, 0}},
                              {1, 1, 0}, {{2, 1}, {4, 5}, 0}};
const std::vector<Shape> images{{2, 5, 6, 3}, {1, 4, 4, 1}, {0, 5, 5, 2}, {3, 7, 3, 17}};

/// The definition; an average over the whole window, or over its pixels inside the image, or the maximum.
enum class Kind { max, average, average_inside };
Tensor reference(const Tensor& x_, const Pool& p, Kind kind) {
  const Tensor x = on_host(x_);
  const Shape& s = x.shape();
  const std::int64_t rows = (s[1] + 2 * p.padding.h - p.kernel.h) / p.stride.h + 1,
                     cols = (s[2] + 2 * p.padding.w - p.kernel.w) / p.stride.w + 1;
  Tensor y = empty({s[0], rows, cols, s[3]}, x.options());
  for (std::int64_t e = 0; e < y.numel(); ++e) {
    const std::int64_t c = e % s[3], q = e / s[3] % cols, r = e / s[3] / cols % rows,
                       n = e / s[3] / cols / rows;
    double total = 0, largest = -std::numeric_limits<double>::infinity();
    int inside = 0;
    for (std::int64_t i = r * p.stride.h - p.padding.h; i < r * p.stride.h - p.padding.h + p.kernel.h; ++i)
      for (std::int64_t j = q * p.stride.w - p.padding.w; j < q * p.stride.w - p.padding.w + p.kernel.w;
           ++j) {
        if (i < 0 || i >= s[1] || j < 0 || j >= s[2]) continue;
        const double v = x.data<double>()[((n * s[1] + i) * s[2] + j) * s[3] + c];
        ++inside;
        total += v;
        largest = std::max(largest, v);
      }
    y.data<double>()[e] = kind == Kind::max       ? largest
                          : kind == Kind::average ? total / static_cast<double>(p.kernel.h * p.kernel.w)
                                                  : total / inside;
  }
  return y.to(x_.device());
}

}  // namespace

TEST_CASE("pool2d: agrees with the definition") {
  for (const Shape& shape : images)
    for (const Pool& p : pools) {
      CAPTURE(shape.to_string());
      CAPTURE(concat(p.kernel, p.stride, p.padding));
      const Tensor x = normal(shape, 1);
      CHECK(largest_difference(max_pool2d(x, p.kernel, {p.stride, p.padding}), reference(x, p, Kind::max)) ==
            0);
      CHECK(largest_difference(avg_pool2d(x, p.kernel, {p.stride, p.padding}),
                               reference(x, p, Kind::average)) < 1e-14);
      CHECK(largest_difference(avg_pool2d(x, p.kernel, {p.stride, p.padding, false}),
                               reference(x, p, Kind::average_inside)) < 1e-14);
    }
  const Tensor x = normal({2, 6, 6, 2}, 1);
  CHECK(largest_difference(max_pool2d(x, 3), reference(x, {3, 3, 0}, Kind::max)) == 0);
  CHECK(largest_difference(avg_pool2d(x, {2, 3}), reference(x, {{2, 3}, {2, 3}, 0}, Kind::average)) < 1e-14);
}

TEST_CASE("max_pool2d: every number of channels, in float32 and float64") {
  for (std::int64_t channels = 1; channels < 40; ++channels)
    for (const Pool& p : pools)
      for (const DType dtype : {float32, float64}) {
        CAPTURE(channels);
        CAPTURE(concat(p.kernel, p.stride, p.padding));
        // Few different values, so that there are ties.
        const Tensor x = round(normal({2, 6, 7, channels}, 1)).to(dtype).requires_grad_();
        const Tensor y = max_pool2d(x, p.kernel, {p.stride, p.padding});
        CHECK(largest_difference(y.detach().to(float64), reference(x.detach().to(float64), p, Kind::max)) ==
              0);
        // Each output's gradient goes to one pixel, of the same value.
        const Tensor dx = grad(sum(y), {x})[0].to(float64);
        CHECK(sum(dx).item() == static_cast<double>(y.numel()));
        CHECK(sum(mul(dx, x.detach().to(float64))).item() == sum(y.detach().to(float64)).item());
      }
}

TEST_CASE("pool2d: first and second derivatives agree with finite differences") {
  std::vector<GradCheckFunction> functions{[](const auto& t) { return global_avg_pool2d(t[0].square()); },
                                           [](const auto& t) {
                                             return adaptive_avg_pool2d(t[0].square(), {2, 3}).square();
                                           },
                                           [](const auto& t) {
                                             return adaptive_avg_pool2d(t[0].square(), {1, 1}).square();
                                           },
                                           [](const auto& t) {
                                             return adaptive_avg_pool2d(t[0], {7, 4}).square();
                                           }};
  for (const Pool& p : pools) {
    functions.push_back([p](const auto& t) {
      return max_pool2d(t[0], p.kernel, {p.stride, p.padding}).square();
    });
    functions.push_back([p](const auto& t) {
      return avg_pool2d(t[0], p.kernel, {p.stride, p.padding}).square();
    });
    functions.push_back([p](const auto& t) {
      return avg_pool2d(t[0], p.kernel, {p.stride, p.padding, false}).square();
    });
  }
  for (const auto& f : functions)
    for (const Shape& shape : {Shape{2, 5, 6, 2}, Shape{1, 4, 3, 1}}) {
      const auto first = gradcheck(f, {normal(shape, 2)}), second = gradgradcheck(f, {normal(shape, 3)});
      CHECK_MESSAGE(first.ok, first.message);
      CHECK_MESSAGE(second.ok, second.message);
    }
}

TEST_CASE("max_pool2d: the first of equals takes the gradient, overlapping windows add theirs") {
  const Tensor x = zeros({1, 3, 3, 1}).requires_grad_();
  sum(max_pool2d(x, 2, {.stride = 1})).backward();
  CHECK(x.grad().to_vector<int>() == std::vector<int>{1, 1, 0, 1, 1, 0, 0, 0, 0});
}

TEST_CASE("max_pool2d: a NaN in the window is the result, padding never") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Tensor x = tensor({1.f, nan, 5.f, 2.f, 3.f, -inf, -inf, -inf, -inf}).reshape({1, 3, 3, 1});
  const auto y = max_pool2d(x, 2, {.stride = 1}).to_vector();
  CHECK(std::isnan(y[0]));
  CHECK(std::isnan(y[1]));
  CHECK(y[2] == 3);
  CHECK(y[3] == 3);
  const Tensor low = full({1, 1, 1, 2}, -1e30);
  CHECK(max_pool2d(low, 2, {.padding = 1}).to_vector<float>() == std::vector<float>{-1e30f, -1e30f});
  const Tensor lowest = full({1, 2, 2, 1}, -static_cast<double>(inf)).requires_grad_();
  sum(max_pool2d(lowest, 2)).backward();
  CHECK(lowest.grad().to_vector<int>() == std::vector<int>{1, 0, 0, 0});
}

TEST_CASE("pool2d: the same bits for any number of threads") {
  const Tensor x = normal({16, 17, 17, 12}, 1).to(float32).requires_grad_();
  const auto run = [&](int threads) {
    set_num_threads(threads);
    const Tensor a = max_pool2d(x, 3, {.stride = 2, .padding = 1}),
                 b = avg_pool2d(x, 3, {.stride = 2, .padding = 1});
    const auto g = grad(sum(a.square()) + sum(b.square()), {x});
    set_num_threads(0);
    return std::vector<std::vector<float>>{a.to_vector<float>(), b.to_vector<float>(),
                                           g[0].to_vector<float>()};
  };
  CHECK(run(1) == run(2));
  CHECK(run(1) == run(5));
}

TEST_CASE("pool2d: strides, paddings and kernels as large as they come") {
  const Tensor x = normal({1, 5, 6, 2}).requires_grad_();
  const std::int64_t huge = std::int64_t{1} << 61;
  const auto same = [&](const Tensor& a, const Tensor& b) {
    CHECK(same_bits(a.detach(), b.detach()));
    CHECK(same_bits(grad(sum(square(a)), {x})[0], grad(sum(square(b)), {x})[0]));
  };
  for (const std::int64_t stride : {std::int64_t{100}, huge, INT64_MAX}) {
    same(max_pool2d(x, 3, {.stride = stride}), max_pool2d(x, 3, {.stride = 6}));
    same(avg_pool2d(x, 3, {.stride = stride}), avg_pool2d(x, 3, {.stride = 6}));
  }
  for (const std::int64_t size : {huge, 2 * huge, INT64_MAX}) {
    CHECK_ERROR(max_pool2d(x, size), ShapeError, "[max_pool2d]", "does not fit");
    CHECK_ERROR(avg_pool2d(x, {2, size}, {.stride = 1}), ShapeError, "[avg_pool2d]", "does not fit");
    CHECK_ERROR(max_pool2d(x, INT64_MAX, {.padding = size}), ValueError, "[max_pool2d]", "padding");
    CHECK_ERROR(avg_pool2d(x, 2, {.stride = huge, .padding = size}), ValueError, "[avg_pool2d]", "padding");
  }
}

TEST_CASE("pool2d: each misuse is a clear error") {
  const Tensor x = zeros({2, 5, 5, 4});
  CHECK_THROWS_WITH_AS(
      max_pool2d(x, {6, 2}),
      "[max_pool2d] a kernel that reaches over 6 pixels of height does not fit the input, which has 5 and 0 "
      "of padding: x is [2, 5, 5, 4]",
      ShapeError);
  CHECK_THROWS_AS(max_pool2d(zeros({5, 5, 4}), 2), ShapeError);
  CHECK_THROWS_AS(max_pool2d(x, 0), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, 2, {.stride = 0}), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, 2, {.stride = -1}), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, 2, {.padding = -1}), ValueError);
  CHECK_THROWS_AS(max_pool2d(x, 3, {.padding = 2}), ValueError);
  CHECK_THROWS_AS(avg_pool2d(x, 3, {.padding = {1, 2}}), ValueError);
  CHECK_THROWS_AS(avg_pool2d(x.to(int64), 3), DTypeError);
  CHECK_THROWS_AS(adaptive_avg_pool2d(x, 0), ValueError);
  CHECK_THROWS_AS(adaptive_avg_pool2d(zeros({2, 0, 5, 4}), 1), ShapeError);
  for (const std::int64_t many :
       {INT64_MAX, std::int64_t{1} << 62, (std::int64_t{1} << 62) + 1, std::int64_t{1} << 60})
    CHECK_ERROR(adaptive_avg_pool2d(x, {many, 3}), ShapeError, "2^60 elements");
  CHECK(adaptive_avg_pool2d(zeros({0, 5, 5, 4}), {std::int64_t{1} << 50, 3}).shape() ==
        Shape{0, std::int64_t{1} << 50, 3, 4});
  if (default_device().is_cpu())
    CHECK_ERROR(adaptive_avg_pool2d(x, {std::int64_t{1} << 50, 3}), OutOfMemoryError, "out of memory");
  CHECK_THROWS_AS(global_avg_pool2d(zeros({2, 5, 0, 4})), ShapeError);
  CHECK_THROWS_AS(global_avg_pool2d(zeros({2, 5})), ShapeError);
  const Tensor replicas = detail::add_replica_dim(zeros({2, 2, 5, 5, 4}), std::make_shared<ReplicaPlan>(2));
  CHECK_THROWS_AS(max_pool2d(replicas, 2), ReplicaError);
  CHECK_THROWS_AS(avg_pool2d(replicas, 2), ReplicaError);
}

TEST_CASE("pool2d: PyTorch's values and gradients") {
  const auto& file = FixtureFile::named("layers.safetensors");
  int cases = 0;
  for (const auto& item : file.cases) {
    const std::string& name = item.first;
    if (name.find("pool2d") == name.npos) continue;
    CAPTURE(name);
    ++cases;
    const auto& hyper = item.second;
    const auto pair = [&](const char* key) { return Size2d(hyper[key][0], hyper[key][1]); };
    const std::string op = hyper["op"];
    const Tensor x = file.at(name + "/x").clone().requires_grad_();
    const Tensor y =
        op == "max_pool2d" ? max_pool2d(x, pair("kernel"), {pair("stride"), pair("padding")})
        : op == "avg_pool2d"
            ? avg_pool2d(x, pair("kernel"), {pair("stride"), pair("padding"), hyper["count_include_pad"]})
        : op == "adaptive_avg_pool2d" ? adaptive_avg_pool2d(x, pair("output_size"))
                                      : global_avg_pool2d(x);
    y.backward(file.at(name + "/gy"));
    CHECK(largest_difference(y.detach(), file.at(name + "/y")) < 1e-10);
    CHECK(largest_difference(x.grad(), file.at(name + "/grad.x")) < 1e-10);
  }
  CHECK(cases == 14);
}
