// measure() and compare(): shared draws, stopping, splitting, pairing, side effects; roots; error estimates.
#include "lpf/sharpness/compare.hpp"

#include "filter/networks.hpp"
#include "quadratic.hpp"

namespace lpf::test {
namespace {

using namespace sharpness;

Report measure_problem(const Problem& p, const MeasureOptions& o = {}) {
  return measure(p.net, p.params, Data{p.x, p.y}, o);
}

TEST_CASE("measure: one call gives every measure, and calls progress before each") {
  const Problem p(Kind::linear, 30);
  std::vector<std::string> order;
  MeasureOptions o{.draws = 20, .key = 7};
  o.spectrum.eigenpairs = 2;
  o.low_pass_blocks = true;
  o.pac_bayes.initial = zeros_like(p.params.theta());
  o.progress = [&](std::string_view next, std::size_t done, std::size_t total) {
    CHECK(done == order.size());
    CHECK(total == sharpness::names().size());
    order.emplace_back(next);
  };
  const Report r = measure_problem(p, o);
  CHECK(order.size() == sharpness::names().size() + 1);
  CHECK(order.front() == "low_pass");
  CHECK(order.back() == "");
  std::vector<std::string> names;
  for (const Measurement& m : r.measurements) {
    CAPTURE(m.name);
    names.push_back(m.name);
    CHECK(std::isfinite(m.estimate.value));
    CHECK(m.note == "");
  }
  std::vector<std::string> expected;
  for (const MeasureInfo& m : list())
    for (const QuantityInfo& q : m.quantities)
      if (q.key != "density" && q.key != "profile") expected.push_back(q.key);
  CHECK(names == expected);
  CHECK(names.front() == "low_pass");
  for (const char* name : {"low_pass", "pac_bayes_sigma", "pac_bayes_norm", "frobenius_norm", "trace",
                           "effective_dimension", "local_entropy", "local_entropy_gradient", "trace_hutchpp"})
    CHECK(r[name].standard_error > 0);
  CHECK(r["pac_bayes_norm"].value == r["pac_bayes_distance"].value);  // θ_init = 0
  CHECK(r["low_pass"].blocks.size() == 3);
  CHECK(r["trace"].blocks.size() == 3);
  CHECK(r["fisher_rao"].blocks.size() == 3);
  CHECK(r.eigenpairs.size() == 2);
  CHECK(r.eigenpairs[0].value == doctest::Approx(r["lambda_max"].value));
  CHECK(r.profile.y.size() == 6);
  CHECK(r.profile.y[0] == doctest::Approx(r.loss));
  CHECK(r.profile.y[1] == r["low_pass"].value);  // the same draws at the same σ
  CHECK(r.density.y.size() == 400);
  CHECK(r.samples == 30);
  CHECK_ERROR(r["λ"], ValueError, "'λ'", "low_pass, low_pass_fan_in, epsilon");
}

TEST_CASE("measure: the model is the same to the bit before and after, also where something throws") {
  for (const Kind kind : kinds)
    for (const bool training : {true, false}) {
      CAPTURE(name_of(kind));
      const Problem p(kind, 12);
      p.loss().backward();
      p.params.train(training);
      const Snapshot before{p.params};
      MeasureOptions o{.draws = 10};
      o.spectrum = {.steps = 5, .starts = 2};
      o.local_entropy_gradient.steps = 3;
      const Report a = measure_problem(p, o);
      CHECK(before.holds());
      {
        const auto off = no_grad();  // measures enable recording where they need it
        const Report b = measure_problem(p, o);
        CHECK_FALSE(is_grad_enabled());
        for (std::size_t i = 0; i < a.measurements.size(); ++i) {
          CAPTURE(a.measurements[i].name);
          CHECK(a.measurements[i].estimate.value == b.measurements[i].estimate.value);
        }
      }
      int calls = 0;
      const auto thrower = [&](const Tensor& x) {
        if (++calls == 5) throw std::runtime_error("the user's");
        return p.net(x);
      };
      for (const std::string m : {"low_pass", "trace", "sam", "local_entropy_gradient"}) {
        calls = m == "trace" || m == "local_entropy_gradient" ? 3 : 0;
        MeasureOptions one = o;
        one.draws = 100;
        one.measures = {m};
        CHECK_THROWS_WITH(measure(thrower, p.params, Data{p.x, p.y}, one), "the user's");
        CHECK(before.holds());
      }
    }
}

TEST_CASE("filter normalisation leaves the function as it is, and a rescaled network has the same measures") {
  const ParameterStore params({.seed = 4});  // float32
  const nn::Linear fc1(params / "fc1", 5, 8), fc2(params / "fc2", 8, 3, {.bias = false});
  const auto net = [&](const Tensor& x) { return fc2(relu(fc1(x))); };
  const Tensor x = normal({40, 5}, 1, float32);
  Tensor y = empty({40}, {.dtype = int64});
  for (std::int64_t i = 0; i < 40; ++i) y.data<std::int64_t>()[i] = i % 3;
  const Tensor before = net(x).detach();
  {
    // θ' = θ/c in the layers, and the factor restored after each as a constant
    const Landscape l(params, {x, y},
                      [&](const Tensor& a, const Tensor& b) { return cross_entropy(net(a), b); });
    const Tensor w = l.weights(), c = l.units();
    const auto part = [&](const Tensor& t, std::size_t i) {
      const auto& info = params.parameters()[i];
      return t.alias(info.shape, info.offset).to(float32);
    };
    const auto factor = [&](std::size_t i, std::int64_t n) {
      return slice(part(c, i).reshape({n, -1}), 1, 0, 1).reshape({1, n});
    };
    const Tensor h = mul(linear(x, part(w, 0), part(w, 1)), factor(0, 8));
    const Tensor out = mul(linear(relu(h), part(w, 2)), factor(2, 3));
    CHECK(relative_error(out, before, 1e-6) < 1e-6 * 100);
    CHECK(relative_error(out, before, 1) < 1e-6);
    for (std::int64_t k = 0; k < 8; ++k) {  // every unit has size 1
      double squares = 0;
      for (std::int64_t j = 0; j < 5; ++j) squares += std::pow(part(w, 0).data<float>()[k * 5 + j], 2);
      CHECK(std::sqrt(squares) + std::abs(part(w, 1).data<float>()[k]) == doctest::Approx(1).epsilon(1e-6));
    }
  }
  MeasureOptions o{.draws = 20};
  o.spectrum.steps = 20;
  const Report one = measure(net, params, Data{x, y}, o);
  fc1.weight.clean().detach().copy_(fc1.weight.clean().detach() * 16.0);
  fc1.bias.clean().detach().copy_(fc1.bias.clean().detach() * 16.0);
  fc2.weight.clean().detach().copy_(fc2.weight.clean().detach() / 16.0);
  const Report two = measure(net, params, Data{x, y}, o);
  for (const Measurement& m : one.measurements) {
    CAPTURE(m.name);
    CHECK(two[m.name].value == doctest::Approx(m.estimate.value).epsilon(2e-4));
  }
}

TEST_CASE("until: draws are made until the relative error is reached, or the most that is allowed") {
  const Quadratic q(with_eigenvalues({1, 2, 3, 4}, 3));
  const Landscape l = q.landscape();
  for (const double wanted : {0.1, 0.02}) {
    const Estimate e = low_pass(l, 0.8, {.key = 1, .until = {.relative_error = wanted}});
    CHECK(e.standard_error <= wanted * e.value);
    CHECK(e.draws < 10000);
    const Estimate less = low_pass(l, 0.8, {.draws = e.draws / 3, .key = 1});
    CHECK(less.standard_error > wanted * less.value);
    // the draws are those of a fixed number of draws
    CHECK(low_pass(l, 0.8, {.draws = e.draws, .key = 1}).value == e.value);
  }
  CHECK(low_pass(l, 0.8, {.until = {.relative_error = 1e-9, .max_draws = 100}}).draws == 100);
  const Hessian h(l);
  const Estimate trace = Probes(h).trace({.until = {.relative_error = 0.03}});
  CHECK(trace.standard_error <= 0.03 * trace.value);
  const Estimate entropy = local_entropy(l, {.gamma = 3}, {.until = {.relative_error = 0.02}});
  CHECK(entropy.standard_error <= 0.02 * entropy.value);
  const Quadratic minimum(q.A, 20, 0.3);
  minimum.params.theta().zero_();
  minimum.x.zero_();
  const PACBayes pac = pac_bayes(minimum.landscape(), {}, {.until = {.relative_error = 0.02}});
  CHECK(pac.sigma.standard_error <= 0.02 * pac.sigma.value);
  CHECK(pac.sigma.draws < 1000);
  CHECK_ERROR(low_pass(l, 0.1, {.until = {.relative_error = -1}}), ValueError, "relative_error");
}

TEST_CASE("the variance is split between draws and data, and the advised draws make the first small") {
  const Quadratic q(with_eigenvalues({1, 2, 3, 4}, 3), 50, 0.5);
  const Landscape l = q.landscape();
  const Estimate e = low_pass(l, 0.3, {.draws = 400});
  // draws: variance of the mean losses; data: of the samples' mean losses over the draws
  CHECK(e.standard_error == doctest::Approx(std::sqrt(mean_error(e.per_draw).squared)));
  double squares = 0, mean = 0;
  const auto at = l.losses();
  for (std::int64_t i = 0; i < 50; ++i) mean += at.at(0, i) / 50;
  for (std::int64_t i = 0; i < 50; ++i) squares += std::pow(at.at(0, i) - mean, 2);
  CHECK(e.data_error == doctest::Approx(std::sqrt(squares / 49 / 50)).epsilon(0.1));
  const Estimate advised = low_pass(l, 0.3, {.draws = e.advised_draws, .key = 9});
  const double enough = std::max(e.data_error * e.data_error / 10, std::pow(0.05 * e.value, 2));
  CHECK(std::pow(advised.standard_error, 2) < 2 * enough);
  CHECK(e.advised_draws > 2);
  // for a relative error that the data do not limit, the advice gives the number that reaches it
  const Estimate exact = low_pass(q.landscape(), 0.3, {.until = {.relative_error = 0.2}});
  CHECK(exact.advised_draws <= 2 * exact.draws);
}

TEST_CASE("standard errors are honest: they cover the exact value as often as they should [slow]") {
  const Quadratic q(with_eigenvalues({0.5, 1, 2, 3}, 3));
  const Landscape l = q.landscape();
  const Hessian h(l);
  const Vector g = q.A * q.displacement();
  const Vector lambda = eigenvalues_of(q.A);
  const double gamma = 10;
  const double entropy = q.loss() +
                         0.5 * lambda.map([&](double x) { return std::log(1 + x / gamma); }).sum() -
                         0.5 * g.dot((gamma * Matrix::identity(4) + q.A).inverse() * g);
  std::map<std::string, int> inside;
  constexpr int keys = 300;
  const auto count = [&](const char* name, const Estimate& e, double exact) {
    inside[name] += std::abs(e.value - exact) < 1.96 * e.standard_error;
  };
  for (std::uint64_t key = 0; key < keys; ++key) {
    count("low_pass", low_pass(l, 0.3, {.draws = 64, .key = key}), q.loss() + 0.045 * q.A.trace());
    count("local_entropy", local_entropy(l, {.gamma = gamma}, {.draws = 64, .key = key}), entropy);
    count("pac_bayes", pac_bayes(l, {}, {.draws = 64, .key = key}).sigma, std::sqrt(0.2 / q.A.trace()));
    Probes probes(h, key);
    count("trace", probes.trace({.draws = 64}), q.A.trace());
    count("frobenius_norm", probes.frobenius_norm({.draws = 64}), q.A.norm());
    count("effective_dimension", Spectrum(h, {.starts = 30, .key = key}).effective_dimension(),
          lambda.map([](double x) { return x / (x + 1); }).sum());
  }
  for (const auto& found : inside) {
    INFO(found.first);
    CHECK(found.second > keys * 0.90);  // 95 % ± 1.3 %
    CHECK(found.second < keys * 0.985);
  }
}

TEST_CASE("roots are those of bisection by hand, with the noise held fixed") {
  const Problem p(Kind::linear, 25);
  const Landscape l(p.params, {p.x, p.y}, [&](const Tensor& x, const Tensor& y) {
    return cross_entropy(p.net(x), y, {.reduction = Reduction::none});
  });
  const double clean = l.losses().mean(0);
  const auto bisect = [](auto f, double low, double high) {
    for (int i = 0; i < 100; ++i) {
      const double middle = (low + high) / 2;
      (f(middle) < 0.1 ? low : high) = middle;
    }
    return low;
  };
  const Tensor g = l.gradient();
  const double length = sharpness::detail::norm(g);
  const double along = bisect(
      [&](double distance) {
        const Tensor v = reshape(affine(g, distance / length, 0), {1, l.size()});
        return l.losses(l.at(v)).mean(0) - clean;
      },
      0, 3);
  CHECK(epsilon_sharpness(l, {.tolerance = 1e-6}).value == doctest::Approx(1 / along).epsilon(1e-6));
  CHECK(epsilon_sharpness(l).value == doctest::Approx(1 / along).epsilon(1e-4));
  const double sigma =
      bisect([&](double s) { return low_pass(l, s, {.draws = 10, .key = 6}).value - clean; }, 0, 3);
  CHECK(pac_bayes(l, {.tolerance = 1e-7}, {.draws = 10, .key = 6}).sigma.value ==
        doctest::Approx(sigma).epsilon(1e-6));
  CHECK(pac_bayes(l, {}, {.draws = 10, .key = 6}).sigma.value == doctest::Approx(sigma).epsilon(1e-4));
}

TEST_CASE("first_crossing: the first one on the grid, from either side, steps and infinities included") {
  const auto scalar = [](auto f) {
    return [f](const std::vector<double>& xs) {
      std::vector<double> out;
      for (const double x : xs) out.push_back(f(x));
      return out;
    };
  };
  for (const int at_once : {1, 3, 8})
    for (const double first : {1e-6, 1e-2, 1.0, 1e4}) {
      CAPTURE(at_once);
      CAPTURE(first);
      const RootOptions o{.first = first, .tolerance = 1e-8, .at_once = at_once};
      CHECK(first_crossing("t", scalar([](double x) { return x * x - 2; }), o).x ==
            doctest::Approx(std::sqrt(2.0)).epsilon(1e-8));
      CHECK(first_crossing("t", scalar([](double x) { return std::tanh(x) - 0.5; }), o).x ==
            doctest::Approx(std::atanh(0.5)).epsilon(1e-8));
      CHECK(first_crossing("t", scalar([](double x) { return x < 3 ? -1.0 : 1.0; }), o).x ==
            doctest::Approx(3).epsilon(1e-7));
      CHECK(first_crossing("t", scalar([](double x) { return x > 5 ? not_a_number : x - 4; }), o).x ==
            doctest::Approx(4).epsilon(1e-8));
    }
  const Root r =
      first_crossing("t", scalar([](double x) { return x * x - 2; }), {.first = 0.1, .tolerance = 1e-10});
  CHECK(r.slope == doctest::Approx(2 * std::sqrt(2.0)).epsilon(1e-4));
  CHECK(r.evaluations < 25);
  CHECK_ERROR(first_crossing("t", scalar([](double) { return -1.0; }), {.limit = 100}), NumericError,
              "no root");
  CHECK_ERROR(first_crossing("t", scalar([](double) { return 1.0; }), {}), NumericError, "at once");
  CHECK_ERROR(first_crossing("t", scalar([](double x) { return x > 5 ? infinity : -1.0; }), {}), NumericError,
              "infinity");
}

TEST_CASE("compare: paired differences, whose error is far below that of two measurements") {
  Matrix flat = with_eigenvalues({1, 2, 3, 4}, 3), sharp = 1.05 * flat;
  const Quadratic a(sharp), b(flat);
  const TensorDataset data{a.x, a.x};
  MeasureOptions o{.draws = 200, .key = 3, .filter_normalize = false, .sigma = 0.5};
  o.measures = {"low_pass", "trace", "local_entropy", "pac_bayes", "lambda_max"};
  const auto of = [&](const Quadratic& q) { return measure(q, q.params, data, o, q.losses()); };
  const Report ra = of(a), rb = of(b);
  const auto differences = compare(ra, rb);
  REQUIRE(differences.size() == 6);
  for (const Difference& d : differences) {
    CAPTURE(d.name);
    CHECK(d.value == ra[d.name].value - rb[d.name].value);
    if (d.name == "lambda_max") {
      CHECK(d.standard_error == 0);
      continue;
    }
    CHECK(d.standard_error > 0);
    CHECK(d.standard_error < 0.2 * std::hypot(ra[d.name].standard_error, rb[d.name].standard_error));
  }
  const Difference& low = differences[0];
  CHECK(std::abs(low.value - (a.loss() - b.loss() + 0.125 * (sharp - flat).trace())) <
        4.5 * low.standard_error);
  CHECK(low.data_error < ra["low_pass"].data_error);
  MeasureOptions other = o;
  other.draws = 100;
  CHECK_ERROR(compare(ra, measure(b, b.params, data, other, b.losses())), ValueError, "200 and 100 draws");
  other.until.relative_error = 0.1;
  CHECK_ERROR(compare(a, a.params, b, b.params, data, other, a.losses()), ValueError, "until");
}

TEST_CASE("measure: every entry of the registry adds the values that it names, and no other") {
  const Problem p(Kind::linear, 12);
  MeasureOptions o{.draws = 12};
  o.pac_bayes.initial = zeros_like(p.params.theta());
  for (const MeasureInfo& m : list()) {
    CAPTURE(m.name);
    o.measures = {m.name};
    const Report r = measure_problem(p, o);
    CHECK(&info(m.name) == &m);
    REQUIRE_FALSE(m.quantities.empty());
    for (const QuantityInfo& q : m.quantities) {
      CHECK(r.contains(q.key) == (q.key != "density" && q.key != "profile"));  // those are curves
      CHECK(&quantity(q.key) == &q);
      CHECK(&measure_of(q.key) == &m);
      CHECK_FALSE((q.title.empty() || q.sentence.empty()));
    }
    if (!r.measurements.empty()) CHECK(r.measurements.size() == m.quantities.size());
  }
  CHECK(measures_of({"trace", "pac_bayes_norm", "pac_bayes_sigma"}) ==
        std::vector<std::string>{"trace", "pac_bayes"});
  o.measures = {"lambda_mex"};
  CHECK_ERROR(measure_problem(p, o), ValueError, "no measure 'lambda_mex'", "did you mean 'lambda_max'");
  CHECK_ERROR(quantity("pac_bayes"), ValueError, "'pac_bayes'", "pac_bayes_");
}

TEST_CASE("measure: NaN weights, infinite losses, no root, no data: a clear message each") {
  const Problem p(Kind::linear, 6);
  MeasureOptions o{.draws = 4};
  o.measures = {"low_pass"};
  CHECK_ERROR(measure(p.net, p.params, Data{p.x, slice(p.y, 0, 0, 5)}, o), ShapeError,
              "same number of samples");
  CHECK_ERROR(measure(p.net, p.params, Data{slice(p.x, 0, 0, 0), slice(p.y, 0, 0, 0)}, o), ValueError,
              "no samples");
  CHECK_ERROR(measure(p.net, p.params, Data{p.x, p.y}, {.measures = {"low_pass"}, .draws = 1}), ValueError,
              "at least 2 draws");
  CHECK_ERROR(measure(p.net, p.params, Data{p.x, p.y}, {.replicas = 0}), ValueError, "replicas");
  {
    const filter::Perturbation scope(p.params, filter::segments_of(p.params, NoiseLaw::filter_wise, {}),
                                     {.M = 2});
    CHECK_ERROR(measure_problem(p, o), StateError, "open");
  }
  const auto whole = [&](const Tensor& x, const Tensor& y) { return cross_entropy(x, y); };
  CHECK_ERROR(measure(p.net, p.params, Data{p.x, p.y}, o, whole), ShapeError, "Reduction::none");
  // a flat loss has no root, but a trace
  const Quadratic flat(Matrix(3, 3));
  MeasureOptions some{.draws = 4};
  some.measures = {"epsilon", "pac_bayes", "trace"};
  const Report r = measure(flat, flat.params, Data{flat.x, flat.x}, some, flat.losses());
  CHECK(std::isnan(r["epsilon"].value));
  CHECK(r.measurements[0].note.find("no direction of ascent") != std::string::npos);
  CHECK(std::isnan(r["pac_bayes_sigma"].value));
  CHECK(r.measurements[1].note.find("no root") != std::string::npos);
  CHECK(r["trace"].value == 0);
  CHECK(std::isnan(r["pac_bayes_norm"].value));  // every value that a measure names has a row
  CHECK(r.measurements[2].note == r.measurements[1].note);
  for (const auto& info : p.params.parameters()) p.params.set_trainable(info.name, false);
  CHECK_ERROR(measure_problem(p, o), ValueError, "trainable");
  const Problem broken(Kind::linear, 6);
  broken.params.theta().data<double>()[3] = not_a_number;
  CHECK_ERROR(measure_problem(broken, o), NumericError, "weights hold NaN");
}

TEST_CASE("measure: options that one measure refuses are refused before anything is computed") {
  const Problem p(Kind::linear, 6);
  int calls = 0;
  const auto counted = [&](const Tensor& x) { return ++calls, p.net(x); };
  const auto refused = [&](const MeasureOptions& o, std::string_view what) {
    CHECK_ERROR(measure(counted, p.params, Data{p.x, p.y}, o), ValueError, what);
    CHECK_ERROR(checked_measures(o), ValueError, what);
  };
  refused({.draws = 4}, "[sharpness::trace_hutchpp] needs at least 6 products, got 4");
  refused({.draws = 1}, "at least 2 draws");
  refused({.sigma = -1}, "sigma");
  refused({.epsilon = {.epsilon = 0}}, "epsilon");
  refused({.pac_bayes = {.delta = 2}}, "delta");
  refused({.pac_bayes_draws = 1}, "pac_bayes");
  refused({.frobenius_draws = 1}, "frobenius");
  refused({.spectrum = {.starts = 0}}, "starts");
  refused({.local_entropy = {.gamma = 0}}, "gamma");
  refused({.local_entropy_gradient = {.average = 1}}, "average");
  refused({.chains = 1}, "local_entropy_gradient");
  refused({.sam = {.rho = 0}}, "rho");
  refused({.profile = {std::numeric_limits<double>::infinity()}}, "alpha");
  refused({.measures = {"low_pass", "lambda_mex"}}, "lambda_mex");
  CHECK(calls == 0);
  CHECK(checked_measures({.measures = {"trace"}, .draws = 4}).size() == 1);
}

TEST_CASE("measure: a value that is not finite is none, and says why; weights of zero have rows for all") {
  const Problem p(Kind::linear, 6);
  const auto near = [theta = p.params.theta().clone()](const Tensor& x, const Tensor& y) {
    return cross_entropy(x, y, {.reduction = Reduction::none});
  };
  int calls = 0;
  const auto infinite_later = [&](const Tensor& x, const Tensor& y) {  // the first call is at the weights
    const Tensor out = near(x, y);
    return ++calls == 1 ? out : affine(out, std::numeric_limits<double>::infinity(), 0);
  };
  const Report r =
      measure(p.net, p.params, Data{p.x, p.y}, {.measures = {"low_pass", "sam"}, .draws = 4}, infinite_later);
  REQUIRE(r.measurements.size() == 2);
  for (const Measurement& m : r.measurements) {
    CAPTURE(m.name);
    CHECK(std::isnan(m.estimate.value));
    CHECK(m.estimate.draws == 0);
    CHECK(m.note.find("not finite") != std::string::npos);
  }

  const Problem zero(Kind::linear, 6);
  zero.params.theta().zero_();
  const Report all = measure_problem(zero, {.draws = 6});
  for (const MeasureInfo& m : list())
    for (const QuantityInfo& q : m.quantities) {
      CAPTURE(q.key);
      if (all.contains(q.key)) CHECK((std::isfinite(all[q.key].value) || std::isnan(all[q.key].value)));
    }
  for (const Measurement& m : all.measurements) {
    CAPTURE(m.name);
    CHECK(std::isnan(m.estimate.value) == !m.note.empty());
    CHECK(quantity(m.name).key == m.name);
  }
  CHECK(all.contains("density"));  // Lanczos' method finds nothing: a row that says so
}

TEST_CASE(
    "passes of any number of samples, and draws in any number of replicas a pass, are the same measure") {
  const Problem p(Kind::conv, 23);
  const auto losses = [&](const Tensor& x, const Tensor& y) {
    return cross_entropy(p.net(x), y, {.reduction = Reduction::none});
  };
  const auto value = [&](std::int64_t samples, std::int64_t draws) {
    const Landscape l(p.params, {p.x, p.y}, losses, {.samples = samples});
    return low_pass(l, 0.05, {.draws = draws}).value;
  };
  for (const std::int64_t draws : {8, 11})
    for (const std::int64_t samples : {8, 40, 64, 10000})
      CHECK(value(samples, draws) == doctest::Approx(value(184, draws)).epsilon(1e-12));
}

}  // namespace
}  // namespace lpf::test
