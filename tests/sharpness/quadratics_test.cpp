// The paper's synthetic quadratics (supplement, figure 6) at a small size, and its two statements about the
// measures; apps/quadratics.cpp shows them at full size.
#include <numeric>

#include "lpf/sharpness/measure.hpp"
#include "quadratic.hpp"

namespace lpf::test {
namespace {

using namespace sharpness;

constexpr std::int64_t dimension = 20;

/// The measures near the minimum of a quadratic, displaced along the steepest direction.
std::map<std::string, double> measures_of(const Vector& eigenvalues, const Matrix& vectors) {
  const Quadratic q(vectors * Matrix::diagonal(eigenvalues) * vectors.transpose(), 1, 0);
  std::int64_t steepest = 0;
  for (std::int64_t i = 0; i < dimension; ++i)
    if (eigenvalues(i) > eigenvalues(steepest)) steepest = i;
  q.w.clean().detach().copy_(reshape(tensor_of(1e-3 * vectors.col(steepest)), {dimension}));
  MeasureOptions o{.draws = 400, .filter_normalize = false, .sigma = 1};
  o.measures = {"effective_dimension", "low_pass", "trace",      "frobenius_norm",
                "lambda_max",          "epsilon",  "fisher_rao", "pac_bayes"};
  o.pac_bayes_draws = o.frobenius_draws = 400;
  o.spectrum = {.steps = dimension, .starts = 100};
  o.pac_bayes.initial = 3 * normal({q.params.theta().numel()}, 8);
  const Report r = measure(q, q.params, Data{q.x, q.x}, o, q.losses());
  std::map<std::string, double> out;
  for (const Measurement& m : r.measurements)
    if (m.name != "pac_bayes_norm" && m.name != "pac_bayes_sigma") out[m.name] = m.estimate.value;
  return out;
}

/// The mean distance below 1 of each measure's curve, divided by its maximum.
std::map<std::string, double> reactions(const std::vector<std::map<std::string, double>>& sweep) {
  std::map<std::string, double> out;
  for (const auto& [name, first] : sweep[0]) {
    double largest = 0;
    for (const auto& point : sweep) largest = std::max(largest, point.at(name));
    for (const auto& point : sweep)
      out[name] += (1 - point.at(name) / largest) / static_cast<double>(sweep.size());
  }
  return out;
}

TEST_CASE(
    "quadratics (a): of flat directions the effective dimension sees most, then LPF, as the trace does "
    "[slow]") {
  const Matrix a = matrix_of(normal({dimension, dimension}, 4));
  const Eigensystem base = eigensystem_of(0.5 * (a.transpose() * a));
  Vector lambda = base.values;
  std::vector<std::map<std::string, double>> sweep;
  double exact = 0;  // reaction of the trace
  const double whole = lambda.sum();
  for (std::int64_t K = 0; K <= dimension; K += 4) {
    for (std::int64_t i = 0; i < K; ++i) lambda(i) = 1e-5 + 5e-5 * static_cast<double>(i);
    sweep.push_back(measures_of(lambda, base.vectors));
    exact += (1 - lambda.sum() / whole) / 6;
  }
  const auto r = reactions(sweep);
  for (const auto& found : r) {
    const std::string& name = found.first;
    const double value = found.second;
    CAPTURE(name);
    if (name != "effective_dimension") CHECK(r.at("effective_dimension") > value + 0.05);
    const bool same = name == "low_pass" || name == "trace" || name == "pac_bayes_distance";
    if (same) CHECK(value == doctest::Approx(exact).epsilon(0.1));
    if (!same && name != "effective_dimension") CHECK(r.at("low_pass") > value + 0.02);
  }
}

TEST_CASE(
    "quadratics (b): when all directions become flatter alike, ε-sharpness and effective dimension see "
    "least [slow]") {
  const Matrix vectors = orthogonal_of(matrix_of(normal({dimension, dimension}, 4)));
  std::vector<std::map<std::string, double>> sweep;
  for (const double kappa : {100.0, 80.0, 60.0, 40.0, 20.0, 1.0}) {
    Vector lambda(dimension);
    for (std::int64_t i = 0; i < dimension; ++i)
      lambda(i) = kappa * (0.9 + 0.2 * static_cast<double>(i) / (dimension - 1));
    sweep.push_back(measures_of(lambda, vectors));
  }
  const auto r = reactions(sweep);
  for (const auto& found : r) {
    const std::string& name = found.first;
    const double value = found.second;
    CAPTURE(name);
    if (name == "epsilon" || name == "effective_dimension") continue;
    CHECK(value == doctest::Approx(1 - 301.0 / 600).epsilon(0.01));  // they are proportional to κ
    CHECK(value > r.at("epsilon") + 0.1);
    CHECK(value > r.at("effective_dimension") + 0.1);
  }
}

}  // namespace
}  // namespace lpf::test
