#include "lpf/ops/loss.hpp"

#include "fixture_case.hpp"
#include "lpf/backend/threads.hpp"
#include "lpf/ops/linear.hpp"

namespace lpf::test {
namespace {

constexpr std::int64_t ignored = -100;

Tensor labels(const std::vector<std::int64_t>& values) {
  return from_vector(values, {static_cast<std::int64_t>(values.size())});
}

Reduction reduction_of(const FixtureCase& c) {
  const std::string name = c.hyper.value("reduction", "mean");
  return name == "mean" ? Reduction::mean : name == "sum" ? Reduction::sum : Reduction::none;
}

TEST_CASE("loss: PyTorch's values") {
  const std::string file = "losses.safetensors";
  int cases = for_each_case(file, "cross_entropy", [](const FixtureCase& c) {
    check_case(c, {"x"}, [&](auto leaf) {
      return cross_entropy(leaf.at("x"), c["target"],
                           {.reduction = reduction_of(c),
                            .label_smoothing = c.hyper["label_smoothing"],
                            .ignore_index = c.hyper["ignore_index"],
                            .weight = c["class_weight"]});
    });
  });
  CHECK(cases == 22);
  cases = for_each_case(file, "nll", [](const FixtureCase& c) {
    check_case(c, {"x"}, [&](auto leaf) {
      return nll_loss(leaf.at("x"), c["target"],
                      {.reduction = reduction_of(c),
                       .ignore_index = c.hyper["ignore_index"],
                       .weight = c["class_weight"]});
    });
  });
  CHECK(cases == 7);
  const auto names = [](const FixtureCase& c) {
    return c.contains("grad.target") ? std::vector<std::string>{"x", "target"}
                                     : std::vector<std::string>{"x"};
  };
  cases = for_each_case(file, "mse", [&](const FixtureCase& c) {
    check_case(c, names(c),
               [&](auto leaf) { return mse_loss(leaf.at("x"), leaf.at("target"), reduction_of(c)); });
  });
  cases += for_each_case(file, "l1", [&](const FixtureCase& c) {
    check_case(c, names(c),
               [&](auto leaf) { return l1_loss(leaf.at("x"), leaf.at("target"), reduction_of(c)); });
  });
  cases += for_each_case(file, "smooth_l1", [&](const FixtureCase& c) {
    check_case(c, names(c), [&](auto leaf) {
      return smooth_l1_loss(leaf.at("x"), c["target"],
                            {.beta = c.hyper["beta"], .reduction = reduction_of(c)});
    });
  });
  CHECK(cases == 10);
  cases = for_each_case(file, "bce_with_logits", [](const FixtureCase& c) {
    check_case(c, {"x"}, [&](auto leaf) {
      return bce_with_logits(
          leaf.at("x"), c["target"],
          {.reduction = reduction_of(c), .pos_weight = c["pos_weight"], .weight = c["weight"]});
    });
  });
  CHECK(cases == 7);
}

/// Cross-entropy by its definition, one loss per row of x [rows, classes].
std::vector<double> naive(const Tensor& x_, const Tensor& target_, double smoothing,
                          std::int64_t ignore_index, const std::vector<double>& weight) {
  const Tensor x = on_host(x_), target = on_host(target_);
  const std::int64_t rows = x.size(0), classes = x.size(1);
  std::vector<double> loss;
  for (std::int64_t r = 0; r < rows; ++r) {
    const double* z = x.data<double>() + r * classes;
    double total = 0, value = 0;
    for (std::int64_t k = 0; k < classes; ++k) total += std::exp(z[k]);
    for (std::int64_t k = 0; k < classes; ++k) {
      const bool hit = k == target.data<std::int64_t>()[r];
      const double q = (hit ? 1 - smoothing : 0) + smoothing / static_cast<double>(classes);
      value -= q * weight[static_cast<std::size_t>(k)] * (z[k] - std::log(total));
    }
    loss.push_back(target.data<std::int64_t>()[r] == ignore_index ? 0 : value);
  }
  return loss;
}

TEST_CASE("cross_entropy: against the definition") {
  for (const double smoothing : {0.0, 0.1, 1.0})
    for (const bool weighted : {false, true})
      for (const std::int64_t ignore_index : {ignored, std::int64_t{2}}) {
        const Tensor x = normal({6, 4}), target = labels({0, 3, 2, ignore_index, 1, 2});
        const std::vector<double> weight = weighted ? std::vector{0.5, 2.0, 1.25, 3.0} : std::vector(4, 1.0);
        const auto expected = naive(x, target, smoothing, ignore_index, weight);
        CrossEntropyOptions o{.reduction = Reduction::none,
                              .label_smoothing = smoothing,
                              .ignore_index = ignore_index,
                              .weight = weighted ? from_vector(weight, {4}) : Tensor()};
        CHECK(relative_error(cross_entropy(x, target, o), from_vector(expected, {6})) < 1e-14);
        double total = 0, count = 0;
        for (std::size_t i = 0; i < 6; ++i) {
          const auto label = target[static_cast<std::int64_t>(i)].item<std::int64_t>();
          total += expected[i];
          if (label != ignore_index) count += weight[static_cast<std::size_t>(label)];
        }
        o.reduction = Reduction::sum;
        CHECK(cross_entropy(x, target, o).item() == doctest::Approx(total).epsilon(1e-13));
        o.reduction = Reduction::mean;
        CHECK(cross_entropy(x, target, o).item() == doctest::Approx(total / count).epsilon(1e-13));
        // float32 uses the same sweep
        if (!weighted) {
          const Tensor small = cross_entropy(x.to(float32), target, o);
          CHECK(small.item() == doctest::Approx(total / count).epsilon(1e-6));
        }
      }
}

TEST_CASE("cross_entropy: derivatives, fused and composed") {
  const Tensor target = labels({2, 0, ignored, 1, 2});
  const Tensor weight = from_vector<double>({0.5, 2, 1.5}, {3});
  for (const auto reduction : {Reduction::mean, Reduction::sum, Reduction::none})
    for (const double smoothing : {0.0, 0.2})
      for (const bool weighted : {false, true}) {
        const CrossEntropyOptions o{
            .reduction = reduction, .label_smoothing = smoothing, .weight = weighted ? weight : Tensor()};
        check_derivatives([&](auto& x) { return cross_entropy(x[0], target, o); }, {normal({5, 3})});
        check_derivatives([&](auto& x) { return cross_entropy(x[0], softmax(x[1]), o); },
                          {normal({2, 3}), normal({2, 3}, 2)});
      }
  const Tensor tokens = reshape(labels({1, 0, 1, ignored, 0, 0}), {2, 3});
  check_derivatives([&](auto& x) { return cross_entropy(x[0], tokens); }, {normal({2, 3, 2})});
  check_derivatives([&](auto& x) { return cross_entropy(x[0], labels({0, 0})); }, {normal({2, 1})});
  check_derivatives([&](auto& x) { return cross_entropy(x[0], labels({}), {.reduction = Reduction::sum}); },
                    {normal({0, 3})});
  check_derivatives([&](auto& x) { return cross_entropy(x[0], full({}, 1, {.dtype = int64})); },
                    {normal({3})});
  const Tensor many = from_vector(std::vector<std::int64_t>{40, 0}, {2});
  check_derivatives([&](auto& x) { return cross_entropy(x[0], many, {.label_smoothing = 0.3}); },
                    {normal({2, 41})});
}

TEST_CASE("cross_entropy: extreme logits and ignored rows") {
  for (const DType type : {float32, float64}) {
    const Tensor x = from_vector<double>({1e4, -1e4, 0, -1e4, -1e4, 1e4, 1e4, 1e4, -1e4}, {3, 3})
                         .to(type)
                         .requires_grad_();
    const Tensor loss = cross_entropy(x, labels({0, 0, 1}), {.reduction = Reduction::none});
    CHECK(relative_error(loss, from_vector<double>({0, 2e4, std::log(2.0)}, {3}).to(type)) < 1e-6);
    for (const bool create_graph : {false, true}) {
      const Tensor g = grad(sum(loss), {x}, {.create_graph = create_graph, .retain_graph = true})[0].detach();
      CHECK(relative_error(g, from_vector<double>({0, 0, 0, -1, 0, 1, 0.5, -0.5, 0}, {3, 3}).to(type)) <
            1e-7);
    }
  }
  // the content of an ignored row does not matter, nor does a class that no row may have
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const Tensor x = from_vector<double>({1, 2, -inf, nan, nan, nan}, {2, 3}).requires_grad_();
  const Tensor loss = cross_entropy(x, labels({1, ignored}));
  CHECK(loss.item() == doctest::Approx(std::log(1 + std::exp(-1.0))));
  for (const bool create_graph : {false, true}) {
    const auto g = grad(loss, {x}, {.create_graph = create_graph, .retain_graph = true})[0].to_vector();
    CHECK(g[0] == doctest::Approx(1 / (1 + std::exp(1.0))));
    for (std::size_t i = 2; i < 6; ++i) CHECK(g[i] == 0);
  }
  // the mean over nothing
  CHECK(std::isnan(cross_entropy(normal({2, 3}), labels({ignored, ignored})).item()));
  CHECK(std::isnan(cross_entropy(normal({0, 3}), labels({})).item()));
  CHECK(cross_entropy(normal({0, 3}), labels({}), {.reduction = Reduction::none}).shape() == Shape{0});
  CHECK(cross_entropy(normal({2, 3}), labels({ignored, ignored}), {.reduction = Reduction::sum}).item() == 0);
  CHECK(std::isnan(
      cross_entropy(normal({2, 3}), labels({ignored, ignored}), {.weight = ones({3}, {.dtype = float64})})
          .item()));
}

TEST_CASE("cross_entropy: an offset that the logits of a row have in common costs no digits") {
  const Tensor target = labels({1, 0, 2, ignored, 1});
  const std::vector<double> apart{0, 0, 0, 0.5, -1, 2, 3, -2, 1, 1, 2, 3, -8, 0, 8};
  for (const DType type : {float32, float64})
    for (const double offset : {0.0, 1e3, -1e3, 1e7, -1e7, 1e8, -1e8, 1e30, -1e30, 1e300, -1e300}) {
      if (type == float32 && std::abs(offset) > 1e38) continue;
      std::vector<double> values;
      for (const double d : apart) values.push_back(offset + d);
      const Tensor x = from_vector(values, {5, 3}).to(type).requires_grad_();
      values = x.to_vector();  // as rounded: their differences are exact in double
      for (const double smoothing : {0.0, 0.1, 1.0}) {
        INFO(name_of(type), " offset ", offset, " smoothing ", smoothing);
        std::vector<double> expected;
        for (std::size_t row = 0; row < 5; ++row) {
          const double* z = values.data() + 3 * row;
          const double top = std::max({z[0], z[1], z[2]});
          const double total = std::exp(z[0] - top) + std::exp(z[1] - top) + std::exp(z[2] - top);
          for (std::int64_t k = 0; k < 3; ++k) {
            const auto label = target[static_cast<std::int64_t>(row)].item<std::int64_t>();
            const double q = (k == label ? 1 - smoothing : 0) + smoothing / 3;
            expected.push_back(label == ignored ? 0 : (std::exp(z[k] - top) / total - q) / 4);
          }
        }
        const Tensor truth = from_vector(expected, {5, 3});
        // Roundings: of x − max x − log Σ, at most 19 in size, but small where exp of it is not.
        const double tolerance = 4 * (type == float32 ? 0x1p-24 : 0x1p-53);
        for (const bool weighted : {false, true})
          for (const bool create_graph : {false, true}) {
            const Tensor weight = weighted ? ones({3}, {type}) : Tensor();
            const Tensor loss = cross_entropy(x, target, {.label_smoothing = smoothing, .weight = weight});
            const Tensor g = grad(loss, {x}, {.create_graph = create_graph})[0].detach();
            INFO("weighted ", weighted, " create_graph ", create_graph);
            CHECK(relative_error(g.to(float64), truth) <= tolerance);
          }
      }
    }
}

TEST_CASE("cross_entropy and nll_loss: where all labels are ignored the mean is NaN, its gradient 0") {
  const Tensor target = labels({ignored, ignored}), weight = uniform({3}, 0.5, 2);
  for (const bool create_graph : {false, true})
    for (const double smoothing : {0.0, 0.1})
      for (const bool weighted : {false, true}) {
        INFO("create_graph ", create_graph, " smoothing ", smoothing, " weighted ", weighted);
        const Tensor x = normal({2, 3}).requires_grad_(), w = weighted ? weight : Tensor();
        const Tensor loss = cross_entropy(x, target, {.label_smoothing = smoothing, .weight = w});
        CHECK(std::isnan(loss.item()));
        CHECK(grad(loss, {x}, {.create_graph = create_graph})[0].to_vector() == std::vector<double>(6, 0.0));
        const Tensor nll = nll_loss(x, target, {.weight = w});
        CHECK(std::isnan(nll.item()));
        CHECK(grad(nll, {x}, {.create_graph = create_graph})[0].to_vector() == std::vector<double>(6, 0.0));
      }
}

TEST_CASE("cross_entropy: an ignore_index that a double does not hold") {
  const Tensor x = normal({2, 3});
  for (const std::int64_t ignore : {INT64_MAX, INT64_MIN, (std::int64_t{1} << 53) + 1, std::int64_t{-1}}) {
    INFO("ignore_index ", ignore);
    const Tensor target = labels({1, ignore}), weight = ones({3}, x.options());
    const double expected = cross_entropy(x, labels({1, ignored})).item();
    CHECK(cross_entropy(x, target, {.ignore_index = ignore}).item() == expected);
    CHECK(cross_entropy(x, target, {.ignore_index = ignore, .weight = weight}).item() ==
          doctest::Approx(expected).epsilon(1e-15));
  }
}

TEST_CASE("losses: the mean of n equal losses is that loss, and its gradient 1/n") {
  for (const DType type : {float32, float64}) {
    std::vector<std::int64_t> wrong;
    for (std::int64_t n = 1; n <= 10000; ++n) {
      const Tensor x = full({n, 1}, -1, {type}).requires_grad_();
      const Tensor loss = nll_loss(x, zeros({n}, {int64}));
      const double g = grad(loss, {x})[0].detach().narrow(0, n - 1, 1).reshape({1}).item();
      const double share = type == float32 ? -1.F / static_cast<float>(n) : -1 / static_cast<double>(n);
      if (loss.item() != 1 || g != share || mse_loss(x.detach(), zeros({n, 1}, {type})).item() != 1)
        wrong.push_back(n);
    }
    CHECK(wrong == std::vector<std::int64_t>{});
  }
}

TEST_CASE("smooth_l1_loss at infinity") {
  for (const bool create_graph : {false, true})
    for (const double beta : {0.0, 0.5, 2.0}) {
      INFO("beta ", beta, " create_graph ", create_graph);
      const double inf = std::numeric_limits<double>::infinity();
      const Tensor x = from_vector<double>({inf, -inf, 1e200, 0}, {4}).requires_grad_();
      const Tensor loss =
          smooth_l1_loss(x, zeros({4}, x.options()), {.beta = beta, .reduction = Reduction::none});
      CHECK(loss.to_vector() == std::vector<double>{inf, inf, 1e200, 0});
      const Tensor g = grad(sum(loss), {x}, {.create_graph = create_graph})[0];
      CHECK(g.to_vector() == std::vector<double>{1, -1, 1, 0});
    }
}

TEST_CASE("losses that are other losses") {
  const Tensor x = normal({5, 4}), target = labels({1, 3, ignored, 0, 2});
  const Tensor weight = uniform({4}, 0.5, 2);
  for (const auto reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    const auto plain = cross_entropy(x, target, {.reduction = reduction});
    CHECK(relative_error(plain, nll_loss(log_softmax(x), target, {.reduction = reduction})) < 1e-14);
    CHECK(relative_error(
              plain, cross_entropy(x, target, {.reduction = reduction, .weight = ones({4}, x.options())})) <
          1e-14);
    CHECK(relative_error(cross_entropy(x, target, {.reduction = reduction, .weight = weight}),
                         nll_loss(log_softmax(x), target, {.reduction = reduction, .weight = weight})) <
          1e-14);
    const Tensor a = normal({3, 2}), b = normal({3, 2}, 2);
    CHECK(relative_error(smooth_l1_loss(a, b, {.beta = 0, .reduction = reduction}),
                         l1_loss(a, b, reduction)) == 0);
    CHECK(relative_error(smooth_l1_loss(a, b, {.beta = 1e3, .reduction = reduction}),
                         affine(mse_loss(a, b, reduction), 5e-4, 0)) < 1e-15);
    // binary cross-entropy is cross-entropy over the classes (0, x)
    const Tensor z = normal({6}), t = uniform({6}, 0, 1);
    CHECK(relative_error(bce_with_logits(z, t, {.reduction = reduction}),
                         cross_entropy(stack({zeros_like(z), z}, 1), stack({1.0 - t, t}, 1),
                                       {.reduction = reduction})) < 1e-14);
  }
  // one-hot soft targets
  const Tensor full_labels = labels({1, 3, 0, 0, 2});
  CHECK(relative_error(cross_entropy(x, one_hot(full_labels, 4, float64), {.label_smoothing = 0.1}),
                       cross_entropy(x, full_labels, {.label_smoothing = 0.1})) < 1e-14);
}

TEST_CASE("losses of two tensors: derivatives and extreme values") {
  const Tensor x = affine(normal({3, 4}), 2, 0), t = affine(normal({3, 4}, 2), 2, 0),
               soft = uniform({3, 4}, 0, 1);
  const Tensor p = uniform({4}, 0.5, 3), w = uniform({3, 1}, 0.5, 2);
  for (const auto reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    check_derivatives([&](auto& v) { return mse_loss(v[0], v[1], reduction); }, {x, t});
    check_derivatives([&](auto& v) { return l1_loss(v[0], v[1], reduction); }, {x, t});
    check_derivatives(
        [&](auto& v) { return smooth_l1_loss(v[0], v[1], {.beta = 0.7, .reduction = reduction}); }, {x, t});
    check_derivatives(
        [&](auto& v) {
          return bce_with_logits(v[0], v[1], {.reduction = reduction, .pos_weight = p, .weight = w});
        },
        {x, soft});
    check_derivatives(
        [&](auto& v) {
          return nll_loss(v[0], labels({1, ignored, 3}), {.reduction = reduction, .weight = p});
        },
        {x});
  }
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{0, 2}}) {
    check_derivatives([&](auto& v) { return mse_loss(v[0], v[1], Reduction::sum); },
                      {normal(shape), normal(shape, 2)});
    check_derivatives([&](auto& v) { return bce_with_logits(v[0], v[1], {.reduction = Reduction::sum}); },
                      {normal(shape), uniform(shape, 0, 1)});
  }
  // accurate where sigmoid(x) is 0 or 1
  const Tensor far = from_vector<double>({-1e4, -40, 1e4, 40, -1e4}, {5}).requires_grad_();
  const Tensor loss =
      bce_with_logits(far, from_vector<double>({0, 0, 1, 1, 1}, {5}), {.reduction = Reduction::none});
  CHECK(relative_error(loss, from_vector<double>({0, std::exp(-40.0), 0, std::exp(-40.0), 1e4}, {5}), 0) <
        1e-14);
  const Tensor g = grad(sum(loss), {far})[0];
  CHECK(relative_error(g, from_vector<double>({0, std::exp(-40.0), 0, -std::exp(-40.0), -1}, {5}), 1e-300) <
        1e-14);
  CHECK(std::isnan(mse_loss(normal({0}), normal({0})).item()));
}

TEST_CASE("cross_entropy: the same bits for any number of threads") {
  for (const Shape& shape : {Shape{3, 60000}, Shape{900, 100}}) {
    const Tensor x = normal(shape, 1, float32).requires_grad_();
    const Tensor target = integers({shape[0]}, [&](std::int64_t i) { return i * 7 % shape[1]; });
    std::vector<Tensor> results;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      const Tensor y = cross_entropy(x, target, {.label_smoothing = 0.1});
      results.push_back(y.detach());
      results.push_back(grad(y, {x})[0]);
    }
    set_num_threads(0);
    for (std::size_t i = 2; i < results.size(); ++i) CHECK(same_bits(results[i], results[i % 2]));
  }
}

TEST_CASE("cross_entropy: the gradient of replicas is that of separate passes") {
  // B = 7 in M = 3 slices of 3, 2, 2
  const auto plan = std::make_shared<ReplicaPlan>(3);
  const Tensor x = normal({7, 4}), all = normal({3, 5, 4}, 2).requires_grad_(),
               target = labels({0, 1, 2, 3, 4, ignored, 1});
  const Tensor w = detail::add_replica_dim(all, plan);
  const Tensor loss = cross_entropy(linear(x, w), target, {.label_smoothing = 0.1});
  const Tensor one = grad(loss, {all})[0];
  const std::vector<std::int64_t> begin{0, 3, 5, 7};
  double total = 0;
  for (std::int64_t r = 0; r < 3; ++r) {
    const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
    const Tensor own = all.detach()[r].clone().requires_grad_();
    const Tensor part = affine(cross_entropy(linear(slice(x, 0, from, to), own), slice(target, 0, from, to),
                                             {.reduction = Reduction::sum, .label_smoothing = 0.1}),
                               1.0 / 6, 0);
    total += part.item();
    CHECK(relative_error(one[r], grad(part, {own})[0]) < 1e-13);
  }
  CHECK(loss.item() == doctest::Approx(total).epsilon(1e-14));
}

TEST_CASE("loss: errors") {
  const Tensor x = normal({2, 3, 4});
  const Tensor target = reshape(labels({0, 1, 2, 3, 0, 7}), {2, 3});
  CHECK_INDEX_ERROR(cross_entropy(x, target), "[cross_entropy]", "label 7", "position [1, 2]", "4 classes");
  CHECK_INDEX_ERROR(cross_entropy(normal({3, 4}), labels({0, -1, 2})), "label -1", "position [1]",
                    "4 classes");
  CHECK_INDEX_ERROR(nll_loss(normal({3, 4}), labels({0, 1, 4})), "[nll_loss]", "label 4", "position [2]");
  CHECK_ERROR(cross_entropy(normal({3, 4}), labels({0, 1})), ShapeError, "[3, 4]", "need shape [3]",
              "got [2]");
  CHECK_ERROR(cross_entropy(x, labels({0, 1})), ShapeError, "[2, 3]", "got [2]");
  CHECK_ERROR(cross_entropy(normal({3, 4}), normal({3, 5})), ShapeError, "[3, 4]", "[3, 5]");
  CHECK_ERROR(cross_entropy(normal({3, 4}), normal({3, 4}, 1, float32)), DTypeError, "cross_entropy",
              "float64", "float32");
  CHECK_ERROR(cross_entropy(normal({3, 4}), labels({0, 1, 2}).to(int32)), DTypeError, "int32", "int64");
  CHECK_ERROR(cross_entropy(normal({3, 4}), labels({0, 1, 2}).to(float64)), DTypeError, "labels are float64",
              ".to(int64)");
  CHECK_ERROR(cross_entropy(arange(3), labels({})), DTypeError, "cross_entropy");
  CHECK_ERROR(cross_entropy(normal({3, 0}), labels({0, 1, 2})), ShapeError, "cross_entropy", "[3, 0]");
  CHECK_ERROR(cross_entropy(full({}, 1), labels({})), ShapeError, "cross_entropy");
  CHECK_ERROR(cross_entropy(normal({1, 4}), labels({0}), {.label_smoothing = 1.5}), ValueError,
              "label_smoothing", "1.5");
  CHECK_ERROR(cross_entropy(normal({1, 4}), labels({0}), {.label_smoothing = std::nan("")}), ValueError,
              "label_smoothing");
  CHECK_ERROR(cross_entropy(normal({1, 4}), labels({0}), {.weight = normal({3})}), ShapeError,
              "class weights", "[3]", "[4]");
  CHECK_ERROR(nll_loss(normal({1, 4}), labels({0}), {.weight = normal({4}, 1, float32)}), DTypeError,
              "nll_loss");
  CHECK_ERROR(mse_loss(normal({3, 1}), normal({3})), ShapeError, "mse_loss", "[3, 1]", "[3]");
  CHECK_ERROR(l1_loss(normal({3}), normal({3}, 1, float32)), DTypeError, "l1_loss");
  CHECK_ERROR(smooth_l1_loss(normal({3}), normal({3}), {.beta = -1}), ValueError, "smooth_l1_loss", "-1");
  CHECK_ERROR(bce_with_logits(normal({3}), normal({2})), ShapeError, "bce_with_logits");
  CHECK_ERROR(bce_with_logits(normal({3}), normal({3}), {.pos_weight = normal({2, 3})}), ShapeError,
              "bce_with_logits", "[2, 3]");
}

}  // namespace
}  // namespace lpf::test
