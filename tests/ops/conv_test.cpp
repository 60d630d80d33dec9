#include "lpf/ops/conv.hpp"

#include "fixture_case.hpp"
#include "lpf/backend/backend.hpp"
#include "lpf/backend/threads.hpp"
#include "lpf/calculus/gradcheck.hpp"
#include "lpf/calculus/hvp.hpp"
#include "lpf/ops/math.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// Between a convolution of replicas and one of each alone: on a GPU the order of sums may differ.
double apart() { return default_device().is_cpu() ? 0 : 1e-12; }

/// The definition, and the gradients of ⟨y, dy⟩ derived from it.
struct Reference {
  std::vector<double> y, dx, dw, db;

  Reference(const Tensor& x_, const Tensor& w_, const Tensor& bias_, const Tensor& dy_,
            const Conv2dOptions& o) {
    const Tensor x = on_host(x_), w = on_host(w_), bias = bias_.defined() ? on_host(bias_) : bias_,
                 dy = on_host(dy_);
    const auto &xs = x.shape(), &ws = w.shape(), &ys = dy.shape();
    y.assign(static_cast<std::size_t>(dy.numel()), 0);
    dx.assign(static_cast<std::size_t>(x.numel()), 0);
    dw.assign(static_cast<std::size_t>(w.numel()), 0);
    db.assign(static_cast<std::size_t>(ws[0]), 0);
    const std::int64_t per_group = ws[0] / o.groups;
    std::size_t out = 0;
    for (std::int64_t n = 0; n < ys[0]; ++n)
      for (std::int64_t p = 0; p < ys[1]; ++p)
        for (std::int64_t q = 0; q < ys[2]; ++q)
          for (std::int64_t k = 0; k < ys[3]; ++k, ++out) {
            const double g = dy.data<double>()[out];
            if (bias.defined()) y[out] = bias.data<double>()[k];
            db[static_cast<std::size_t>(k)] += g;
            for (std::int64_t r = 0; r < ws[1]; ++r)
              for (std::int64_t s = 0; s < ws[2]; ++s)
                for (std::int64_t c = 0; c < ws[3]; ++c) {
                  const std::int64_t i = p * o.stride.h + r * o.dilation.h - o.padding.h;
                  const std::int64_t j = q * o.stride.w + s * o.dilation.w - o.padding.w;
                  if (i < 0 || i >= xs[1] || j < 0 || j >= xs[2]) continue;
                  const auto at_x = static_cast<std::size_t>(((n * xs[1] + i) * xs[2] + j) * xs[3] +
                                                             k / per_group * ws[3] + c);
                  const auto at_w = static_cast<std::size_t>(((k * ws[1] + r) * ws[2] + s) * ws[3] + c);
                  y[out] += x.data<double>()[at_x] * w.data<double>()[at_w];
                  dx[at_x] += g * w.data<double>()[at_w];
                  dw[at_w] += g * x.data<double>()[at_x];
                }
          }
  }
};

void check_against_reference(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dOptions& o) {
  CAPTURE(x.shape().to_string());
  CAPTURE(w.shape().to_string());
  CAPTURE(concat(o.stride, o.padding, o.dilation, o.groups));
  std::vector<Tensor> leaves{x.detach().requires_grad_(), w.detach().requires_grad_()};
  if (bias.defined()) leaves.push_back(bias.detach().requires_grad_());
  const Tensor y = conv2d(leaves[0], leaves[1], bias.defined() ? leaves[2] : Tensor(), o);
  const Tensor dy = normal(y.shape(), 9);
  const auto grads = grad(y, leaves, {.gradient = dy});
  const Reference expected(x, w, bias, dy, o);
  CHECK(largest_difference(y.detach(), from_vector(expected.y, y.shape())) < 1e-10);
  CHECK(largest_difference(grads[0], from_vector(expected.dx, x.shape())) < 1e-10);
  CHECK(largest_difference(grads[1], from_vector(expected.dw, w.shape())) < 1e-10);
  if (bias.defined()) CHECK(largest_difference(grads[2], from_vector(expected.db, bias.shape())) < 1e-10);
}

/// [M, shape…] as a replicated leaf.
Tensor replicated(const Tensor& plain, const PlanPtr& plan) { return detail::add_replica_dim(plain, plan); }

}  // namespace

TEST_CASE("conv2d: agrees with the definition on random shapes") {
  const NoiseKey key{.seed = 5, .purpose = Purpose::user};
  std::int64_t drawn = 0;
  const auto draw = [&](std::int64_t low, std::int64_t high) {
    const double u = 0.5 * std::erfc(-normal_at<double>(key, drawn++) / std::sqrt(2.0));
    return std::min(high, low + static_cast<std::int64_t>(u * static_cast<double>(high - low + 1)));
  };
  for (int i = 0; i < 120; ++i) {
    Conv2dOptions o{.stride = {draw(1, 3), draw(1, 3)},
                    .padding = {draw(0, 3), draw(0, 3)},
                    .dilation = {draw(1, 3), draw(1, 3)},
                    .groups = draw(1, 3)};
    const std::int64_t kh = draw(1, 4), kw = draw(1, 4);
    const auto size = [&](std::int64_t kernel, std::int64_t dilation, std::int64_t padding) {
      return std::max<std::int64_t>(1, (kernel - 1) * dilation + 1 - 2 * padding) + draw(0, 6);
    };
    const Tensor x = normal({draw(0, 3), size(kh, o.dilation.h, o.padding.h),
                             size(kw, o.dilation.w, o.padding.w), o.groups * draw(1, 4)},
                            1);
    const Tensor w = normal({o.groups * draw(1, 4), kh, kw, x.shape()[3] / o.groups}, 2);
    check_against_reference(x, w, draw(0, 1) ? normal({w.shape()[0]}, 3) : Tensor(), o);
  }
}

TEST_CASE("conv2d: agrees with the definition for every width of the kernel") {
  for (const std::int64_t filters : {1, 3, 4, 5, 8, 9, 12, 16, 17, 24, 31, 33, 48, 65})
    check_against_reference(normal({2, 5, 9, 3}, 1), normal({filters, 3, 3, 3}, 2), normal({filters}, 3),
                            {.padding = 1});
  for (const std::int64_t channels : {1, 2, 3, 4, 5, 7, 8, 9, 13, 17})
    check_against_reference(normal({2, 4, 6, channels}, 1), normal({9, 1, 2, channels}, 2), {},
                            {.padding = 1});
  for (std::int64_t width = 1; width < 20; ++width)
    check_against_reference(normal({2, 3, width, 2}, 1), normal({9, 3, 3, 2}, 2), normal({9}, 3),
                            {.padding = 1});
}

TEST_CASE("conv2d: agrees with the definition where bands, tiles, blocks and chunks are cut") {
  check_against_reference(normal({3, 33, 35, 3}, 1), normal({5, 3, 3, 3}, 2), normal({5}, 3), {.padding = 1});
  check_against_reference(normal({1, 9, 60, 4}, 1), normal({5, 3, 3, 4}, 2), {},
                          {.stride = 2, .padding = 1, .dilation = 2});
  check_against_reference(normal({40, 8, 8, 8}, 1), normal({8, 3, 3, 8}, 2), {}, {.padding = 1});
  check_against_reference(normal({7, 4, 4, 130}, 1), normal({6, 3, 3, 130}, 2), {}, {.padding = 1});
  check_against_reference(normal({2, 9, 9, 32}, 1), normal({32, 3, 3, 1}, 2), {},
                          {.padding = 1, .groups = 32});
  check_against_reference(normal({2, 9, 9, 20}, 1), normal({40, 3, 3, 10}, 2), normal({40}, 3),
                          {.padding = 1, .groups = 2});
  // Products: narrow images.
  check_against_reference(normal({200, 3, 3, 4}, 1), normal({70, 3, 3, 4}, 2), normal({70}, 3),
                          {.padding = 1});
  check_against_reference(normal({40, 7, 3, 300}, 1), normal({20, 1, 1, 300}, 2), normal({20}, 3), {});
  check_against_reference(normal({9, 5, 3, 66}, 1), normal({70, 3, 3, 33}, 2), {},
                          {.stride = 2, .padding = 1, .groups = 2});
}

TEST_CASE("conv2d: the gradient of an input of few channels, made a row at a time") {
  for (const std::int64_t channels : {1, 2, 3, 5, 6, 7, 11, 20})
    for (const std::int64_t kernel : {3, 5, 7})
      for (const std::int64_t padding : {std::int64_t{0}, kernel / 2, kernel - 1})
        check_against_reference(normal({3, 12, 11, channels}, 1), normal({7, kernel, kernel, channels}, 2),
                                {}, {.padding = padding});
  check_against_reference(normal({2, 23, 9, 3}, 1), normal({4, 4, 5, 3}, 2), normal({4}, 3),
                          {.padding = {6, 1}, .dilation = {3, 1}});
  check_against_reference(normal({1, 4, 30, 2}, 1), normal({5, 1, 9, 2}, 2), {}, {.padding = {2, 0}});
  const auto plan = std::make_shared<ReplicaPlan>(3);
  const Tensor x = normal({8, 12, 12, 6}, 1).requires_grad_(), w = normal({3, 16, 5, 5, 6}, 2);
  const Tensor y = conv2d(x, replicated(w, plan), {}, {}), dy = normal(y.shape(), 4);
  const Tensor dx = grad(y, {x}, {.gradient = dy})[0];
  const auto begin = Slices(plan->count(), 8).boundaries();
  for (std::size_t r = 0; r < 3; ++r) {
    const Tensor part = slice(x.detach(), 0, begin[r], begin[r + 1]).requires_grad_();
    const Tensor one = conv2d(part, w[static_cast<std::int64_t>(r)], {}, {});
    const Tensor expected = grad(one, {part}, {.gradient = slice(dy, 0, begin[r], begin[r + 1])})[0];
    CHECK(relative_error(slice(dx, 0, begin[r], begin[r + 1]), expected) <= apart());
  }
}

TEST_CASE("conv2d: agrees with the definition with more than 2^20 and 2^22 weights [slow]") {
  check_against_reference(normal({1, 5, 4, 262}, 1), normal({450, 3, 3, 262}, 2), normal({450}, 3),
                          {.padding = 1});
  check_against_reference(normal({1, 1, 4, 1040}, 1), normal({450, 3, 3, 1040}, 2), normal({450}, 3),
                          {.padding = 1});
  check_against_reference(normal({1, 2, 8, 1040}, 1), normal({450, 3, 3, 1040}, 2), {},
                          {.stride = 2, .padding = 1});
  check_against_reference(normal({1, 1, 4, 2060}, 1), normal({2040, 1, 1, 2060}, 2), {}, {});
}

TEST_CASE("conv2d: small images, several at a time and two rows at a time") {
  for (const std::int64_t width : {4, 5, 7, 8})
    for (const std::int64_t rows : {1, 2, 5})
      for (const std::int64_t filters : {5, 16, 33})
        check_against_reference(normal({70, rows, width, 3}, 1), normal({filters, 3, 3, 3}, 2),
                                normal({filters}, 3), {.padding = 1});
  check_against_reference(normal({50, 9, 8, 4}, 1), normal({32, 3, 3, 4}, 2), {},
                          {.stride = 2, .padding = 1});
  check_against_reference(normal({50, 3, 8, 4}, 1), normal({32, 3, 3, 2}, 2), {},
                          {.stride = {1, 2}, .padding = 1, .groups = 2});
  const auto plan = std::make_shared<ReplicaPlan>(5);
  const Tensor x = normal({83, 4, 4, 6}, 1), w = normal({5, 33, 3, 3, 6}, 2);
  const Tensor y = conv2d(x, replicated(w, plan), {}, {.padding = 1});
  const auto begin = Slices(plan->count(), 83).boundaries();
  for (std::size_t r = 0; r < 5; ++r)
    CHECK(relative_error(slice(y, 0, begin[r], begin[r + 1]),
                         conv2d(slice(x, 0, begin[r], begin[r + 1]), w[static_cast<std::int64_t>(r)], {},
                                {.padding = 1})) <= apart());
}

TEST_CASE("conv2d: sizes of one, nothing in the batch, windows that skip pixels") {
  check_against_reference(normal({1, 1, 1, 1}, 1), normal({1, 1, 1, 1}, 2), normal({1}, 3), {});
  check_against_reference(normal({0, 4, 4, 3}, 1), normal({2, 3, 3, 3}, 2), normal({2}, 3), {.padding = 1});
  check_against_reference(normal({2, 7, 8, 2}, 1), normal({3, 2, 2, 2}, 2), {}, {.stride = {3, 5}});
  check_against_reference(normal({1, 2, 2, 2}, 1), normal({3, 1, 1, 2}, 2), {}, {.stride = 4, .padding = 3});
  check_against_reference(normal({1, 5, 5, 1}, 1), normal({2, 5, 5, 1}, 2), {}, {.stride = 7});
}

TEST_CASE("conv2d: float32 is float64 rounded") {
  const Tensor x = normal({4, 12, 12, 16}, 1), w = normal({24, 3, 3, 16}, 2), b = normal({24}, 3);
  const Conv2dOptions o{.padding = 1};
  const Tensor y = conv2d(x.to(float32), w.to(float32), b.to(float32), o);
  CHECK(y.dtype() == float32);
  CHECK(largest_difference(y.to(float64), conv2d(x, w, b, o)) < 1e-4);
}

TEST_CASE("conv2d: first and second derivatives agree with finite differences") {
  const std::vector<Conv2dOptions> all{{},
                                       {.stride = 2, .padding = 1},
                                       {.stride = {1, 2}, .padding = {2, 0}, .dilation = {2, 1}},
                                       {.padding = 1, .groups = 2}};
  for (const auto& o : all) {
    const Tensor x = normal({2, 5, 4, 4}, 1), w = normal({2, 3, 2, 4 / o.groups}, 2), b = normal({2}, 3);
    const auto f = [&o](const std::vector<Tensor>& t) {
      return mul(conv2d(t[0], t[1], t[2], o), conv2d(t[0], t[1], {}, o));
    };
    const auto first = gradcheck(f, {x, w, b});
    CHECK_MESSAGE(first.ok, first.message);
    const auto second = gradgradcheck(f, {x, w, b});
    CHECK_MESSAGE(second.ok, second.message);
  }
}

TEST_CASE("conv2d: M replicas are M convolutions with weights of their own") {
  for (const std::int64_t samples : {8, 7}) {
    for (const std::int64_t m : {1, 3, 7}) {
      for (const bool one_by_one : {false, true}) {
        for (const std::int64_t width : {3, 6}) {
          CAPTURE(m);
          CAPTURE(samples);
          const std::int64_t size = one_by_one ? 1 : 3;
          const Conv2dOptions o =
              one_by_one ? Conv2dOptions{} : Conv2dOptions{.stride = {1, 2}, .padding = 1, .groups = 2};
          const std::int64_t channels = 4 / o.groups;
          const Tensor x = normal({samples, 5, width, 4}, 1).requires_grad_();
          const Tensor w = normal({m, 6, size, size, channels}, 2).requires_grad_();
          const Tensor b = normal({m, 6}, 3).requires_grad_();
          const auto plan = std::make_shared<ReplicaPlan>(m);
          const Tensor y = conv2d(x, replicated(w, plan), replicated(b, plan), o);
          const auto begin = Slices(plan->count(), samples).boundaries();

          std::vector<Tensor> parts;
          for (std::int64_t r = 0; r < m; ++r)
            parts.push_back(conv2d(
                slice(x, 0, begin[static_cast<std::size_t>(r)], begin[static_cast<std::size_t>(r) + 1]), w[r],
                b[r], o));
          const Tensor expected = concatenate(parts);
          CHECK(largest_difference(y.detach(), expected.detach()) < 1e-12);

          const Tensor dy = normal(y.shape(), 4);
          const auto one = grad(y, {x, w, b}, {.create_graph = true, .gradient = dy});
          const auto many = grad(expected, {x, w, b}, {.create_graph = true, .gradient = dy});
          for (std::size_t i = 0; i < 3; ++i)
            CHECK(largest_difference(one[i].detach(), many[i].detach()) < 1e-12);

          // Second derivatives: those of the norm of the gradient.
          const auto length = [](const std::vector<Tensor>& g) {
            return sum(g[0].square()) + sum(g[1].square());
          };
          const auto one2 = grad(length(one), {x, w}), many2 = grad(length(many), {x, w});
          for (std::size_t i = 0; i < 2; ++i) CHECK(largest_difference(one2[i], many2[i]) < 1e-8);
        }
      }
    }
  }
}

TEST_CASE("conv2d: a gradient wanted as a sum is the sum of the replicas' gradients") {
  const std::int64_t m = 3;
  const Tensor x = normal({7, 5, 5, 2}, 1).requires_grad_();
  const Tensor w = normal({m, 4, 3, 3, 2}, 2), b = normal({m, 4}, 3);
  const auto plan = std::make_shared<ReplicaPlan>(m);
  const auto run = [&](bool as_sum) {
    Tensor rw = w.alias({4, 3, 3, 2}), rb = b.alias({4});
    for (Tensor* t : {&rw, &rb}) {
      t->impl().replicas = plan;
      t->impl().sum_gradient = as_sum;
      t->requires_grad_();
    }
    const Tensor y = conv2d(x, rw, rb, {.padding = 1});
    auto g = grad(sum(y.square()), {x, rw, rb}, {.create_graph = true});
    CHECK(g[1].is_replicated() == !as_sum);
    CHECK(g[2].is_replicated() == !as_sum);
    if (!as_sum) g = {g[0], sum_replicas(g[1]), sum_replicas(g[2])};
    const auto second = grad(sum(g[0].square()), {x});
    return std::vector<Tensor>{g[0].detach(), g[1].detach(), g[2].detach(), second[0]};
  };
  const auto summed = run(true), each = run(false);
  for (std::size_t i = 0; i < 4; ++i) CHECK(largest_difference(summed[i], each[i]) < 1e-10);
}

TEST_CASE("conv2d: only the bias, or only the weight, is replicated") {
  const Tensor x = normal({5, 4, 4, 2}, 1), w = normal({3, 2, 2, 2}, 2), b = normal({3}, 3);
  const auto plan = std::make_shared<ReplicaPlan>(2);
  const Tensor mw = normal({2, 3, 2, 2, 2}, 4), mb = normal({2, 3}, 5);
  const Tensor head = slice(x, 0, 0, 3), tail = slice(x, 0, 3, 5);
  CHECK(largest_difference(conv2d(x, w, replicated(mb, plan)),
                           concatenate({conv2d(head, w, mb[0]), conv2d(tail, w, mb[1])})) < 1e-12);
  CHECK(largest_difference(conv2d(x, replicated(mw, plan), b),
                           concatenate({conv2d(head, mw[0], b), conv2d(tail, mw[1], b)})) < 1e-12);
}

TEST_CASE("conv2d: each replica gets the bits of its convolution alone") {
  const std::int64_t m = 4;
  struct Case {
    std::int64_t size, channels, filters;
  };
  // The last: filters so large that the sum over a slice is cut into few blocks.
  for (const auto& [size, channels, filters] :
       {Case{9, 3, 20}, {9, 16, 20}, {9, 72, 20}, {3, 24, 20}, {23, 130, 128}}) {
    const Conv2dOptions o{.padding = 1};
    const Tensor x = normal({30, size, size, channels}, 1, float32).requires_grad_();
    const Tensor w = normal({m, filters, 3, 3, channels}, 2, float32).requires_grad_();
    const auto plan = std::make_shared<ReplicaPlan>(m);
    const Tensor y = conv2d(x, replicated(w, plan), {}, o);
    const Tensor dy = normal(y.shape(), 3, float32);
    const auto all = grad(y, {x, w}, {.gradient = dy});
    const auto begin = Slices(plan->count(), 30).boundaries();
    for (std::int64_t r = 0; r < m; ++r) {
      const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
      const Tensor xr = slice(x.detach(), 0, from, to).clone().requires_grad_(),
                   wr = w.detach()[r].clone().requires_grad_();
      const Tensor yr = conv2d(xr, wr, {}, o);
      const auto alone = grad(yr, {xr, wr}, {.gradient = slice(dy, 0, from, to)});
      CHECK(same_bits(slice(y.detach(), 0, from, to), yr.detach()));
      CHECK(same_bits(slice(all[0], 0, from, to), alone[0]));
      CHECK(same_bits(all[1][r], alone[1]));
    }
  }
}

TEST_CASE("conv2d: the same bits for any number of threads") {
  struct Case {
    Shape x, w;
    Conv2dOptions options;
  };
  const std::vector<Case> cases{{{32, 16, 16, 8}, {16, 3, 3, 8}, {.padding = 1}},
                                {{16, 8, 8, 128}, {96, 3, 3, 128}, {.stride = 2, .padding = 1}},
                                {{20, 9, 9, 32}, {64, 1, 1, 32}, {}},
                                {{20, 9, 9, 32}, {64, 3, 3, 8}, {.groups = 4}},
                                {{300, 3, 3, 32}, {40, 3, 3, 32}, {.padding = 1}}};
  for (const auto& c : cases) {
    const Tensor x = normal(c.x, 1, float32).requires_grad_(), w = normal(c.w, 2, float32).requires_grad_();
    const Tensor b = normal({c.w[0]}, 3, float32).requires_grad_();
    const auto run = [&](int threads) {
      set_num_threads(threads);
      const Tensor y = conv2d(x, w, b, c.options);
      auto out = grad(y, {x, w, b}, {.gradient = normal(y.shape(), 4, float32)});
      out.push_back(y.detach());
      set_num_threads(0);
      return out;
    };
    const auto one = run(1);
    for (const int threads : {2, 3, 5}) {
      const auto several = run(threads);
      for (std::size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], several[i]));
    }
  }
}

TEST_CASE("conv2d: strides, paddings and dilations as large as they come") {
  const Tensor x = normal({1, 4, 5, 2}).requires_grad_(), w = normal({3, 3, 2, 2}, 2).requires_grad_();
  const std::int64_t huge = std::int64_t{1} << 61;
  // one position, wherever the next would be; a dilation with one tap
  const auto same = [&](const Tensor& filters, const Conv2dOptions& o, const Conv2dOptions& plain) {
    const Tensor a = conv2d(x, filters, {}, o), b = conv2d(x, filters, {}, plain);
    CHECK(same_bits(a.detach(), b.detach()));
    const auto f = grad(sum(square(a)), {x, filters}), g = grad(sum(square(b)), {x, filters});
    for (std::size_t i = 0; i < 2; ++i) CHECK(same_bits(f[i], g[i]));
  };
  for (const std::int64_t stride : {std::int64_t{100}, huge, INT64_MAX})
    same(w, {.stride = stride}, {.stride = 5});
  const Tensor one = normal({3, 1, 1, 2}, 3).requires_grad_();
  for (const std::int64_t dilation : {huge, INT64_MAX}) same(one, {.dilation = dilation}, {});
  // windows that lie in the padding see zeros: two corners, far apart
  const Tensor far = conv2d(x, w, ones({3}, x.options()), {.stride = INT64_MAX, .padding = 1 << 29});
  CHECK(far.detach().to_vector() == std::vector<double>(3, 1.0));
  CHECK(grad(sum(far), {x})[0].to_vector() == std::vector<double>(40, 0.0));
  for (const std::int64_t padding : {std::int64_t{1} << 30, huge, 2 * huge, INT64_MAX})
    CHECK_ERROR(conv2d(x, w, {}, {.stride = huge, .padding = padding}), ValueError, "[conv2d]", "padding",
                "at most 536870912", std::to_string(padding));
  for (const std::int64_t dilation : {huge, 2 * huge, INT64_MAX})
    CHECK_ERROR(conv2d(x, w, {}, {.dilation = dilation}), ShapeError, "[conv2d]", "does not fit",
                "x is [1, 4, 5, 2]");
  CHECK_ERROR(conv2d(x, w, {}, {.dilation = INT64_MAX}), ShapeError, "2·9223372036854775807 + 1");
  CHECK_ERROR(conv2d(x, w, {}, {.padding = 1 << 29}), ShapeError, "");  // more elements than there can be
}

TEST_CASE("conv2d: each misuse is a clear error") {
  const Tensor x = zeros({2, 5, 5, 4}), w = zeros({6, 3, 3, 4});
  CHECK_THROWS_WITH_AS(
      conv2d(x, zeros({6, 3, 3, 3})),
      "[conv2d] input has 4 channels, the weight expects 3: x is [2, 5, 5, 4], the weight is [6, 3, 3, 3]",
      ShapeError);
  CHECK_THROWS_AS(conv2d(zeros({5, 5, 4}), w), ShapeError);
  CHECK_THROWS_AS(conv2d(x, zeros({6, 3, 4})), ShapeError);
  CHECK_THROWS_AS(conv2d(x, zeros({6, 3, 3, 2}), {}, {.groups = 3}), ShapeError);
  CHECK_THROWS_AS(conv2d(x, zeros({5, 3, 3, 2}), {}, {.groups = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, {}, {.groups = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, {}, {.groups = 0}), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, {.stride = 0}), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, {.padding = {0, -1}}), ValueError);
  CHECK_THROWS_AS(conv2d(x, w, {}, {.dilation = 0}), ValueError);
  CHECK_THROWS_AS(conv2d(x, zeros({6, 0, 3, 4})), ValueError);
  CHECK_THROWS_AS(conv2d(x, zeros({6, 6, 6, 4})), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, {}, {.dilation = 3}), ShapeError);
  CHECK_THROWS_AS(conv2d(zeros({2, 0, 5, 4}), w, {}, {.padding = 2}), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w, zeros({4})), ShapeError);
  CHECK_THROWS_AS(conv2d(x, w.to(float64)), DTypeError);
  CHECK_THROWS_AS(conv2d(x, w, zeros({6}, {.dtype = float64})), DTypeError);
  CHECK_THROWS_AS(conv2d(x.to(int64), w.to(int64)), DTypeError);

  const auto plan = std::make_shared<ReplicaPlan>(2), other = std::make_shared<ReplicaPlan>(2);
  CHECK_THROWS_AS(conv2d(replicated(zeros({2, 2, 5, 5, 4}), plan), w), ReplicaError);
  CHECK_THROWS_AS(conv2d(x, replicated(zeros({2, 6, 3, 3, 4}), plan), replicated(zeros({2, 6}), other)),
                  ReplicaError);
  const auto too_many = std::make_shared<ReplicaPlan>(3);
  CHECK_THROWS_AS(conv2d(x, replicated(zeros({3, 6, 3, 3, 4}), too_many)), ShapeError);
}

TEST_CASE("conv2d: PyTorch's values, gradients and Hessian products") {
  const auto& file = FixtureFile::named("layers.safetensors");
  int cases = 0;
  for (const auto& item : file.cases) {
    const std::string& name = item.first;
    if (name.rfind("conv2d", 0) != 0) continue;
    CAPTURE(name);
    ++cases;
    const auto& hyper = item.second;
    const auto pair = [&](const char* key) { return Size2d(hyper[key][0], hyper[key][1]); };
    const Conv2dOptions o{pair("stride"), pair("padding"), pair("dilation"), hyper["groups"]};
    const auto get = [&](const std::string& what) {
      const Tensor t = file.at(concat(name, "/", what));
      return what.ends_with("weight") ? permute(t, {0, 2, 3, 1}) : t;  // OIHW in the fixture
    };
    std::vector<std::string> names{"x", "weight"};
    if (hyper["bias"]) names.push_back("bias");
    std::vector<Tensor> leaves, v;
    for (const auto& n : names) {
      leaves.push_back(get(n).clone().requires_grad_());
      v.push_back(get("v." + n));
    }
    const Tensor y = conv2d(leaves[0], leaves[1], leaves.size() > 2 ? leaves[2] : Tensor(), o);
    CHECK(largest_difference(y.detach(), get("y")) < 1e-10);
    const HessianVectorProduct h(sum(mul(y, get("gy"))), leaves);
    const auto g = h.gradient(), hv = h(v);
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      CHECK(largest_difference(g[i], get("grad." + names[i])) < 1e-10);
      CHECK(largest_difference(hv[i], get("hv." + names[i])) < 1e-10);
    }
  }
  CHECK(cases == 17);
}
