// Values that backward needs, changed in place between forward and backward.
#include "lpf/lpf.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

struct SavedCase {
  const char* name;
  std::function<Tensor(const Tensor& x, const Tensor& value)> loss;  // backward needs `value`
  Shape x, value;
  bool needs_value = true;  // false: what backward reads was computed from it in forward
};

const std::vector<SavedCase> saved_cases = {
    {"mul", [](auto& x, auto& v) { return x * v; }, {3}, {3}},
    {"div", [](auto& x, auto& v) { return x / v; }, {3}, {3}},
    {"pow", [](auto& x, auto& v) { return pow(square(x), v); }, {3}, {3}},
    {"maximum", [](auto& x, auto& v) { return maximum(x, v); }, {3}, {3}},
    {"where", [](auto& x, auto& v) { return where(v > 0.0, x, v); }, {3}, {3}, false},
    {"matmul", [](auto& x, auto& v) { return matmul(x, v); }, {2, 3}, {3, 2}},
    {"linear", [](auto& x, auto& v) { return linear(v, x); }, {2, 3}, {4, 3}},
    {"linear, input", [](auto& x, auto& v) { return linear(x, v); }, {2, 3}, {4, 3}},
    {"conv2d", [](auto& x, auto& v) { return conv2d(v, x); }, {2, 2, 2, 1}, {1, 3, 3, 1}},
    {"conv2d, image", [](auto& x, auto& v) { return conv2d(x, v); }, {1, 3, 3, 1}, {2, 2, 2, 1}},
    {"layer_norm",
     [](auto& x, auto& v) { return layer_norm(v, x, zeros({4}, {.dtype = float64})); },
     {4},
     {2, 4}},
    {"mse_loss", [](auto& x, auto& v) { return mse_loss(x, v); }, {3}, {3}, false},
    {"bce", [](auto& x, auto& v) { return bce_with_logits(x, v); }, {3}, {3}},
};

/// Runs backward after change(): the gradient of x must be that before the change, or an error must say that a
/// value changed. Returns true for the error.
bool refuses(const char* name, const Tensor& x, const std::function<Tensor()>& loss,
             const std::function<void()>& change, bool graph) {
  CAPTURE(std::string(name));
  const auto gradient = [&](const Tensor& l) { return grad(l, {x}, {.create_graph = graph})[0].detach(); };
  const Tensor expected = gradient(loss()), l = loss();
  change();
  try {
    const Tensor after = gradient(l);
    CHECK(same_bits(after, expected));
    return false;
  } catch (const StateError& e) {
    CHECK(std::string(e.what()).find("was changed in place between forward and backward") !=
          std::string::npos);
    return true;
  }
}

TEST_CASE("a value that backward needs was changed in place: an error that names the operation") {
  for (const SavedCase& c : saved_cases)
    for (const bool graph : {false, true}) {
      const Tensor x = uniform(c.x, 0.5, 1.5, 1).requires_grad_(), value = uniform(c.value, 0.5, 1.5, 2);
      const auto loss = [&] { return sum(c.loss(x, value)); };
      CHECK(refuses(
                c.name, x, loss, [&] { value.fill_(0.25); }, graph) == c.needs_value);
      const auto change_a_part = [&] {
        value.reshape({-1}).slice(0, 0, 1).copy_(full({1}, 0.5, {.dtype = float64}));  // through a view
      };
      CHECK(refuses(c.name, x, loss, change_a_part, graph) == c.needs_value);
    }
  const Tensor x = normal({3}).requires_grad_(), value = normal({3}), loss = sum(x * value);
  value.fill_(0);
  CHECK_ERROR(loss.backward(), StateError, "[backward]", "a value that 'mul' needs was changed in place",
              "clone()");
}

TEST_CASE("a result was changed through detach(): an error where backward reads it") {
  const std::vector<std::pair<const char*, std::function<Tensor(const Tensor&)>>> functions = {
      {"exp", [](auto& x) { return exp(x); }},
      {"tanh", [](auto& x) { return tanh(x); }},
      {"sigmoid", [](auto& x) { return sigmoid(x); }},
      {"sqrt", [](auto& x) { return sqrt(x); }},
      {"relu", [](auto& x) { return relu(x); }},
      {"softmax", [](auto& x) { return softmax(x, -1); }},
      {"log_softmax", [](auto& x) { return log_softmax(x, -1); }},
  };
  int refused = 0;
  for (const auto& [name, f] : functions)
    for (const bool graph : {false, true}) {
      const Tensor x = uniform({2, 3}, 0.5, 1.5).requires_grad_(), g = normal({2, 3});
      Tensor y;
      const auto loss = [&, &f = f] {
        y = f(x);
        return sum(y * g);
      };
      refused += refuses(
          name, x, loss, [&] { y.detach().zero_(); }, graph);
    }
  CHECK(refused >= 2);  // softmax and log_softmax read their results unless a graph is made
}

TEST_CASE("indices, labels and masks count too") {
  const Tensor x = normal({4, 3}).requires_grad_(), labels = integers({4}, [](auto i) { return i % 3; });
  const Tensor loss = cross_entropy(x, labels);
  labels.fill_(0);
  CHECK_ERROR(loss.backward(), StateError, "cross_entropy", "changed in place");

  const Tensor rows = integers({2}, [](auto i) { return i; }), y = sum(index_select(x, 0, rows));
  rows.fill_(0);
  CHECK_ERROR(y.backward(), StateError, "changed in place");
}

TEST_CASE("what backward does not need may change") {
  const Tensor x = normal({3}).requires_grad_(), value = normal({3});
  const Tensor a = sum(x + value), b = sum(x - value), c = sum(value * 2.0 + x);
  value.fill_(7);
  a.backward();
  b.backward();
  c.backward();
  CHECK(holds(x.grad(), {3}, {3, 3, 3}));
  const Tensor y = exp(x), loss = sum(y * 3.0) + sum(x * full({3}, 2, {.dtype = float64}));
  value.fill_(8);  // another value
  loss.backward();
}

TEST_CASE("a batch buffer that is refilled before backward") {
  const Tensor w = normal({3}).requires_grad_(), batch = normal({4, 3}, 2);
  const Tensor first = mean(square(sum(batch * w, {1})));
  batch.copy_(normal({4, 3}, 3));
  CHECK_ERROR(first.backward(), StateError, "'mul'", "changed in place");
  mean(square(sum(batch * w, {1}))).backward();
}

TEST_CASE("a gradient used as a value, and changed by backward itself") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 3, 2);
  const Tensor x = normal({4, 3});
  mean(square(fc(x))).backward();
  const Tensor g = params.gradient(), used = g.clone();
  sum(params.leaves()[0] * reshape(narrow(used, 0, 0, 6), {2, 3})).backward();  // a copy
  const Tensor loss = sum(square(params.leaves()[0] * reshape(g.alias({6}), {2, 3})));
  mean(square(fc(x))).backward();  // adds to g
  CHECK_ERROR(loss.backward(), StateError, "changed in place");
}

TEST_CASE("a gradient used as a value, and cleared or scaled before backward") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 3, 2);
  const Tensor x = normal({4, 3}), w = params.leaves()[0];
  const std::vector<std::function<void()>> changes = {[&] { params.zero_grad(); }, [&] { w.zero_grad(); },
                                                      [&] { optim::clip_grad_norm(params, 1e-3); },
                                                      [&] { optim::clip_grad_value(params, 1e-3); }};
  for (const auto& change : changes) {
    mean(square(fc(x))).backward();
    const Tensor loss = sum(square(w) * reshape(params.gradient().alias({6}), {2, 3}));
    change();
    CHECK_ERROR(grad(loss, {w}), StateError, "changed in place");
    params.zero_grad();
    CHECK_FALSE(params.has_gradient());
  }
}

TEST_CASE("memory of the caller, and writes through pointers, are not watched") {
  std::vector<double> memory = {1, 2, 3};
  const Tensor x = normal({3}).requires_grad_(), value = wrap(memory.data(), {3}), other = normal({3});
  const Tensor loss = sum(x * value) + sum(x * other);
  memory[0] = 5;
  other.data<double>()[0] = 4;
  loss.backward();
  CHECK(x.grad().to_vector()[0] == 9);
}

TEST_CASE("threads: a change on one thread does not disturb backward on another") {
  const Tensor x = normal({64}).requires_grad_(), mine = normal({64}), others = normal({64});
  const Tensor loss = sum(exp(x) * mine);
  std::thread([&] { others.fill_(0); }).join();
  loss.backward();
  const Tensor again = sum(exp(x) * mine);
  std::thread([&] { mine.fill_(0); }).join();
  CHECK_ERROR(again.backward(), StateError, "changed in place");
}

}  // namespace
}  // namespace lpf::test
