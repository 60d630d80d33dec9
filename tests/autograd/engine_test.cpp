#include "lpf/autograd/engine.hpp"

#include <chrono>
#include <memory>
#include <thread>

#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/embedding.hpp"
#include "lpf/ops/linear.hpp"
#include "lpf/ops/matmul.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

double largest(const Tensor& t) { return amax(abs(reshape(t, {t.numel()})), 0).item(); }
Tensor leaf(double value) { return full({}, value, {.dtype = float64}).requires_grad_(); }

}  // namespace

TEST_CASE("backward adds to the leaves' gradients") {
  const Tensor x = tensor({1.0, 2.0}).requires_grad_(), y = tensor({3.0, 4.0}).requires_grad_();
  CHECK_FALSE(x.grad().defined());
  sum(x * y).backward();
  CHECK(holds(x.grad(), {2}, {3, 4}));
  CHECK(holds(y.grad(), {2}, {1, 2}));
  sum(x * y).backward();
  CHECK(holds(x.grad(), {2}, {6, 8}));
  x.zero_grad();
  CHECK_FALSE(x.grad().defined());
  sum(x).backward();
  CHECK(holds(x.grad(), {2}, {1, 1}));
  CHECK(holds(y.grad(), {2}, {2, 4}));
  CHECK_FALSE(x.grad().requires_grad());
}

TEST_CASE("a gradient of one's own, and what has a default") {
  const Tensor x = tensor({1.0, 2.0}).requires_grad_();
  (x * x).backward(tensor({1.0, 10.0}));
  CHECK(holds(x.grad(), {2}, {2, 40}));
  CHECK_ERROR((x * x).backward(), ShapeError, "[backward]", "[2]", "explicit gradient");
  CHECK_ERROR((x * x).backward(tensor({1.0})), ShapeError, "[backward]", "[1]", "[2]");
  CHECK_ERROR((x * x).backward(tensor({1.f, 1.f})), DTypeError, "[backward]", "float32", "float64");
  x.zero_grad();
  reshape(sum(x), {1, 1}).backward();  // any one-element tensor has a default
  CHECK(holds(x.grad(), {2}, {1, 1}));
  const Tensor seed = tensor({5.0, 6.0});
  x.zero_grad();
  (x + 0.0).backward(seed);
  (x + 0.0).backward(seed);
  CHECK(holds(x.grad(), {2}, {10, 12}));
  CHECK(holds(seed, {2}, {5, 6}));  // unchanged
  const Tensor a = leaf(2);
  a.backward();
  CHECK(a.grad().item() == 1);
}

TEST_CASE("what has no history") {
  const Tensor x = tensor({1.0});
  CHECK_ERROR(sum(x).backward(), StateError, "[backward]", "no history");
  CHECK_ERROR(grad(sum(x), {x}), StateError, "[grad]", "does not require a gradient");
  const Tensor w = leaf(1);
  CHECK_ERROR(grad(sum(x), {w}), StateError, "[grad]", "no history");
  CHECK_ERROR(tensor<std::int64_t>({1}).requires_grad_(), DTypeError, "[requires_grad_]", "int64");
  CHECK_ERROR((w * w).requires_grad_(), StateError, "[requires_grad_]", "leaf", "detach()");
  CHECK(w.is_leaf());
  CHECK(x.is_leaf());
  CHECK_FALSE((w * w).is_leaf());
  w.requires_grad_(false);
  CHECK_FALSE((w * w).requires_grad());
}

TEST_CASE("a graph is freed by backward unless it is retained") {
  const Tensor x = leaf(3);
  const Tensor y = x * x;
  y.backward({}, true);
  y.backward();
  CHECK(x.grad().item() == 12);
  CHECK_ERROR(y.backward(), StateError, "[backward]", "'mul'", "freed", "retain_graph");
  CHECK_ERROR(grad(y, {x}), StateError, "freed");
  const Tensor trunk = exp(x), left = trunk * 2.0, right = trunk * 3.0;
  left.backward();
  CHECK_ERROR(right.backward(), StateError, "'exp'", "freed");
  const Tensor z = x * x;
  grad(z, {x}, {.retain_graph = true});
  grad(z, {x}, {.create_graph = true});
  CHECK(grad(z, {x})[0].item() == 6);
  CHECK_ERROR(grad(z, {x}), StateError, "freed");
}

TEST_CASE("backward frees memory as it goes") {
  const auto in_use = [] { return backend::get(default_device()).memory_stats().in_use; };
  const Tensor x = normal({1000}).requires_grad_();
  const auto before = in_use();
  {
    Tensor y = x;
    for (int i = 0; i < 50; ++i) y = tanh(y);
    y = sum(y);
    CHECK(in_use() > before + 40 * 8000);
    y.backward();
    CHECK(in_use() < before + 4 * 8000);  // y still exists, its graph does not
  }
  x.zero_grad();
  CHECK(in_use() == before);
}

TEST_CASE("diamonds: each node is visited once, when all of its gradient is there") {
  const Tensor x = leaf(0.5);
  int visits = 0;
  const auto counted = [&visits](const Tensor& t) {
    return record("counted", t.detach() * 1.0, {t}, [&visits](const Tensor& g, Need) {
      ++visits;
      return Grads{g};
    });
  };
  const Tensor trunk = counted(x);
  const Tensor a = exp(trunk), b = sin(trunk) * a, c = trunk * trunk;
  (a + b + c + trunk).backward();
  CHECK(visits == 1);
  CHECK(x.grad().item() ==
        doctest::Approx(std::exp(0.5) * (1 + std::sin(0.5) + std::cos(0.5)) + 2 * 0.5 + 1).epsilon(1e-14));
  Tensor y = x;  // 2^40 paths
  for (int i = 0; i < 40; ++i) y = y + y;
  CHECK(grad(y, {x})[0].item() == std::pow(2.0, 40));
}

TEST_CASE("grad(): leaves and results of operations, nothing accumulated") {
  const Tensor x = leaf(2), w = leaf(5), other = leaf(1);
  const Tensor h = x * x, y = h * w;
  const auto g = grad(y, {x, h, w, other, y}, {.retain_graph = true});
  CHECK(g[0].item() == 20);
  CHECK(g[1].item() == 5);
  CHECK(g[2].item() == 4);
  CHECK(g[3].item() == 0);
  CHECK(g[4].item() == 1);
  CHECK_FALSE(x.grad().defined());
  CHECK_FALSE(w.grad().defined());
  CHECK_FALSE(g[0].requires_grad());
  CHECK(grad(y, {x}, {.retain_graph = true, .gradient = full({}, 3, {.dtype = float64})})[0].item() == 60);
  CHECK(grad(y, {x, x})[1].item() == 20);  // the same input twice
}

TEST_CASE("gradients of gradients") {
  const Tensor x = leaf(1.5);
  Tensor y = sin(x);
  const double expected[] = {std::cos(1.5), -std::sin(1.5), -std::cos(1.5), std::sin(1.5), std::cos(1.5)};
  for (const double e : expected) {
    y = grad(y, {x}, {.create_graph = true})[0];
    CHECK(y.requires_grad());
    CHECK(y.item() == doctest::Approx(e).epsilon(1e-14));
  }
  // a penalty on the gradient enters a loss like any other term
  const Tensor w = leaf(3);
  const Tensor slope = grad(w * w * w, {w}, {.create_graph = true})[0];  // 3w²
  (slope * slope).backward();                                            // 9w⁴
  CHECK(w.grad().item() == doctest::Approx(36 * 27));
  CHECK_FALSE(w.grad().requires_grad());
}

TEST_CASE("no_grad, detach, and modes that nest") {
  const Tensor x = leaf(2);
  {
    const auto off = no_grad();
    CHECK_FALSE(is_grad_enabled());
    CHECK_FALSE((x * x).requires_grad());
    {
      const GradMode on(true);
      CHECK((x * x).requires_grad());
    }
    CHECK_FALSE((x * x).requires_grad());
  }
  CHECK(is_grad_enabled());
  try {
    const auto off = no_grad();
    fail("op", "x");
  } catch (const Error&) {}
  CHECK(is_grad_enabled());  // also after an exception
  const Tensor y = (x * x).detach() * x;
  CHECK(grad(y, {x})[0].item() == 4);
  CHECK(x.detach().raw() == x.raw());
  CHECK_FALSE(x.detach().requires_grad());
  // backward itself records nothing, create_graph does, whatever the mode around it
  const auto off = no_grad();
  Tensor z;
  {
    const GradMode on(true);
    z = x * x;
  }
  CHECK(grad(z, {x}, {.create_graph = true})[0].requires_grad());
}

TEST_CASE("changes in place") {
  const Tensor x = leaf(2);
  const Tensor y = x * x;
  CHECK_ERROR(x.fill_(3), StateError, "[fill_]", "leaf", "no_grad()");
  CHECK_ERROR(y.fill_(3), StateError, "[fill_]", "result of an operation", "detach()");
  CHECK_ERROR(x.copy_(full({}, 1)), StateError, "[copy_]");
  {
    const auto off = no_grad();
    x.fill_(3);
  }
  CHECK(x.item() == 3);
  CHECK_ERROR(y.backward(), StateError, "[backward]", "'mul'",
              "changed in place between forward and backward");
  (x * x).backward();  // a separate graph
  CHECK(x.grad().item() == 6);

  const Tensor w = normal({2, 2}).requires_grad_();
  const Tensor z = sum(w * w);
  {
    const auto off = no_grad();
    w[0].fill_(1);  // through a view
  }
  CHECK_ERROR(z.backward(), StateError, "changed in place");
  const Tensor v = sum(w * w);
  w.detach().fill_(1);  // and through an alias
  CHECK_ERROR(grad(v, {w}), StateError, "changed in place");
}

TEST_CASE("an operation whose backward gives the wrong shape is caught at the leaf") {
  const Tensor x = normal({3}).requires_grad_();
  const auto broken = [](const Tensor& t, Shape shape, DType dtype) {
    return record("broken", t.detach() * 1.0, {t},
                  [=](const Tensor&, Need) { return Grads{ones(shape, {.dtype = dtype})}; });
  };
  CHECK_ERROR(sum(broken(x, {2}, float64)).backward(), ShapeError, "[backward]", "[2]", "[3]");
  CHECK_ERROR(sum(broken(x, {3}, float32)).backward(), ShapeError, "[backward]", "float32", "float64");
}

TEST_CASE("an exception in a backward function leaves the engine usable") {
  const Tensor x = leaf(2);
  const Tensor y =
      record("thrower", x.detach() * 1.0, {x}, [](const Tensor&, Need) -> Grads { fail("thrower", "no"); });
  CHECK_ERROR(y.backward(), ValueError, "[thrower] no");
  CHECK(is_grad_enabled());
  CHECK(grad(x * x, {x})[0].item() == 4);
}

TEST_CASE("the gradient buffer of a store is filled in place") {
  const Tensor x = tensor({1.0, 2.0}).requires_grad_(), buffer = zeros({2}, {.dtype = float64});
  static_cast<LeafNode&>(*x.node()).set_buffer(buffer, nullptr);
  sum(x * x).backward();
  CHECK(holds(buffer, {2}, {2, 4}));
  CHECK(x.grad().raw() == buffer.raw());
  x.zero_grad();
  CHECK(holds(buffer, {2}, {0, 0}));
  sum(x).backward();
  CHECK(holds(buffer, {2}, {1, 1}));
}

TEST_CASE("[slow] a chain of a million operations: backward, destruction, and both at once") {
  constexpr int length = 1000000;
  const auto chain = [](const Tensor& x) {
    Tensor y = x;
    for (int i = 0; i < length; ++i)
      y = i % 2 ? affine(y, 1, 1e-6) : y * x;  // every other one saves its operands
    return y;
  };
  const Tensor x = leaf(1);
  const auto start = std::chrono::steady_clock::now();
  const double expected = [&] {
    double y = 1, d = 1;
    for (int i = 0; i < length; ++i) {
      if (i % 2) {
        y += 1e-6;
      } else {
        d += y;
      }
    }
    return d;
  }();
  chain(x).backward();
  CHECK(x.grad().item() == doctest::Approx(expected).epsilon(1e-9));
  { const Tensor unused = chain(x); }
  {
    const Tensor kept = chain(x);
    kept.backward({}, true);
  }
  CHECK(grad(chain(x), {x})[0].item() == doctest::Approx(expected).epsilon(1e-9));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  MESSAGE("four chains: ", seconds.count(), " s");
}

TEST_CASE("[slow] the gradient of a long chain has a long graph of its own") {
  const Tensor x = leaf(0.5);
  Tensor y = x;
  for (int i = 0; i < 50000; ++i) y = tanh(y * 1.0000001) + x * 1e-6;
  const Tensor g = grad(y, {x}, {.create_graph = true})[0];
  const Tensor second = grad(g, {x})[0];
  CHECK(std::isfinite(second.item()));
}

TEST_CASE("threads: each with a graph of its own") {
  const auto train = [](std::uint64_t seed) {
    const Tensor w = normal({8, 4}, seed, float32).requires_grad_(), b = zeros({8}).requires_grad_();
    for (std::uint64_t i = 0; i < 30; ++i) {
      mean(tanh(linear(normal({16, 4}, seed + i, float32), w, b)).square()).backward();
      const auto off = no_grad();
      for (const Tensor& p : {w, b}) {
        p.copy_(p - p.grad() * 0.1);
        p.zero_grad();
      }
    }
    return w.detach();
  };
  const std::vector<Tensor> expected = {train(1), train(2)};
  std::vector<Tensor> found(2);
  {
    std::thread first([&] { found[0] = train(1); }), second([&] { found[1] = train(2); });
    first.join();
    second.join();
  }
  for (std::size_t i = 0; i < 2; ++i) CHECK(same_bits(found[i], expected[i]));
}

TEST_CASE("threads: modes are of one thread, and a graph may be used by another") {
  const auto off = no_grad();
  const Tensor x = leaf(2);
  Tensor y;
  std::thread other([&] {
    CHECK(is_grad_enabled());
    CHECK_FALSE(is_anomaly_enabled());
    y = x * x;
  });
  other.join();
  CHECK_FALSE(is_grad_enabled());
  CHECK(grad(y, {x})[0].item() == 4);
}

TEST_CASE("gradients that operations add to the parameters' buffer themselves") {
  const Tensor x = normal({6, 5}, 1), rows = tensor<std::int64_t>({0, 3, 1, 3, 4, 0});
  // How often the product meets the weight, and whether something else does before or after it.
  for (const int products : {1, 2})
    for (const int others : {0, 1, 2})
      for (const bool first : {false, true})
        for (const bool perturbed : {false, true}) {
          CAPTURE(products);
          CAPTURE(others);
          CAPTURE(first);
          CAPTURE(perturbed);
          const ParameterStore params({.dtype = float64, .seed = 3});
          const nn::Linear layer(nn::Path(params) / "fc", 5, 5);
          const auto loss_of = [&](const Tensor& w, const Tensor& b) {
            Tensor loss = zeros({}, {.dtype = float64});
            const auto other = [&] {  // rows of the weight, whose gradient comes another way
              for (int i = 0; i < others; ++i) loss = add(loss, sum(square(embedding(rows, w))));
            };
            if (first) other();
            for (int i = 0; i < products; ++i) loss = add(loss, sum(square(linear(x, w, b))));
            if (!first) other();
            return loss;
          };
          LowPassFilter filter({.M = 2, .gamma = 0.1, .seed = 1});
          std::unique_ptr<filter::Perturbation> scope;
          if (perturbed) scope.reset(new filter::Perturbation(filter.perturb(params)));
          const auto read = [&](std::size_t i) { return scope ? scope->read(i) : params.tensor(i); };
          const auto asked =
              grad(loss_of(read(0), read(1)), {params.tensor(0), params.tensor(1)}, {.retain_graph = true});
          CHECK(largest(params.gradient()) == 0);
          for (const int times : {1, 2}) {  // they add up
            loss_of(read(0), read(1)).backward({}, true);
            for (std::size_t i : {0u, 1u})
              CHECK(largest(sub(params.tensor(i).grad(), affine(asked[i], times, 0))) < 1e-12);
          }
        }
}

TEST_CASE("a parameter's own gradient may be the gradient that backward begins with") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Linear layer(nn::Path(params) / "fc", 2, 2);
  const Tensor w = params.tensor(0);
  add(w, zeros({2, 2}, {.dtype = float64})).backward(ones({2, 2}, {.dtype = float64}));
  add(w, zeros({2, 2}, {.dtype = float64})).backward(w.grad());
  CHECK(sum(w.grad()).item() == 8);
}
