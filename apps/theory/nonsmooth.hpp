// (e) A convex problem that is not smooth: L(θ) = ‖Aθ − b‖₁/n with sparse outliers in b, whose minimum is known
// exactly. The smoothed loss is Σ_i of smoothed |·| with deviations σ‖a_i‖.
#pragma once

#include "pass.hpp"

namespace theory {

struct LeastDeviations {
  std::int64_t n = 100, d = 20;
  Tensor A, b, solution;  ///< [n, d], [n], [d]
  std::vector<double> row_norm, outlier;
  double minimum = 0, lipschitz = 0;  ///< L(θ*), and ‖A‖₂/√n, which no subgradient exceeds
  double certificate = 0;             ///< below 1: θ* is the only minimum

  /// Every `period`-th b is an outlier. NumericError if θ* is not certified to be the minimum: too many outliers.
  explicit LeastDeviations(std::uint64_t seed = 0, std::size_t period = 10) {
    const auto off = no_grad();
    A = randn({n, d}, {.seed = seed, .draw = 1}, doubles);
    solution = randn({d}, {.seed = seed, .draw = 2}, doubles);
    const auto wild = randn({n}, {.seed = seed, .draw = 3}, doubles).to_vector<double>();
    outlier.assign(static_cast<std::size_t>(n), 0);
    for (std::size_t i = 0; i < outlier.size(); i += period) outlier[i] = 3 * wild[i];
    b = add(reshape(matmul(A, reshape(solution, {d, 1})), {n}), from_vector(outlier, {n}));
    row_norm = sqrt(sum(square(A), {1})).to_vector<double>();
    for (const double v : outlier) minimum += std::abs(v) / static_cast<double>(n);
    Tensor v = ones({d, 1}, doubles);
    double size = 0;
    for (int i = 0; i < 500; ++i) {
      v = matmul(A.transpose(), matmul(A, v));
      size = std::sqrt(sum(square(v)).item());
      v = affine(v, 1 / size, 0);
    }
    lipschitz = std::sqrt(size / static_cast<double>(n));
    certify();
    check<NumericError>(certificate < 1, "LeastDeviations",
                        "the solution is not certified to be the minimum, its largest "
                        "dual sign is ",
                        certificate, ": choose another seed or fewer outliers");
  }

  /// Losses [B, …] at points θ [B, …, d].
  Tensor losses(const Tensor& theta) const {
    const Shape front = theta.shape().slice(0, theta.rank() - 1);
    const Tensor flat = reshape(theta, {theta.numel() / d, d});
    return reshape(mean(abs(sub(matmul(flat, A.transpose()), b)), {1}), front);
  }
  /// The smoothed loss at a point, from the closed form.
  double smoothed(const Tensor& theta, double sigma) const {
    const auto off = no_grad();
    const auto r = sub(matmul(A, reshape(theta, {d, 1})), reshape(b, {n, 1})).to_vector<double>();
    double total = 0;
    for (std::size_t i = 0; i < r.size(); ++i) total += smoothed_abs(r[i], sigma * row_norm[i]).value;
    return total / static_cast<double>(n);
  }

 private:
  /// θ* is the minimum if signs s_i in [−1, 1] of the zero residuals exist with Σ s_i a_i + Σ_outliers sign·a_i = 0, and
  /// the only one if all |s_i| < 1. Taken are those of least norm, by conjugate gradients on AᵀA.
  void certify() {
    const Tensor zero = empty({n, 1}, doubles), signs = empty({n, 1}, doubles);
    for (std::int64_t i = 0; i < n; ++i) {
      const double o = outlier[static_cast<std::size_t>(i)];
      zero[i].fill_(o == 0 ? 1 : 0);
      signs[i].fill_(o > 0 ? -1 : o < 0 ? 1 : 0);  // of the residual Aθ* − b
    }
    const Tensor clean = mul(A, zero), right = affine(matmul(A.transpose(), signs), -1, 0);
    Tensor x = zeros({d, 1}, doubles), r = right, p = r;
    double rr = sum(square(r)).item();
    for (std::int64_t k = 0; k < 4 * d && rr > 1e-28; ++k) {
      const Tensor ap = matmul(clean.transpose(), matmul(clean, p));
      const double a = rr / sum(mul(p, ap)).item();
      x = add(x, affine(p, a, 0)), r = sub(r, affine(ap, a, 0));
      const double next = sum(square(r)).item();
      p = add(r, affine(p, next / rr, 0));
      rr = next;
    }
    certificate = amax(abs(matmul(clean, x))).item();
  }
};

/// The smoothed loss at θ by `draws` draws of a perturbed pass.
inline Measured measured_smoothed(const LeastDeviations& problem, const Tensor& theta, double sigma,
                                  std::int64_t draws, const NoiseKey& key) {
  const auto off = no_grad();
  const Point point(theta);
  const auto scope = isotropic_pass(point.params, sigma, key, draws);
  return measured(problem.losses(point.read(draws)).to_vector<double>());
}

struct DeviationRuns {
  std::int64_t seeds = 4, steps = 400, M = 1;
  double sigma = 0;
  bool shrink = false;  ///< σ/√t instead of σ
  std::uint64_t seed = 0;
};
/// Learning rates that are tried, each divided by √t.
inline const std::vector<double>& tried_rates() {
  static const std::vector<double> all{.02, .05, .1, .2, .5, 1, 2};
  return all;
}

struct DeviationResult {
  double rate = 0;  ///< the best of the rates tried
  Measured excess;  ///< L(θ_T) − L(θ*) over the seeds, with it
};

/// SGD on the smoothed loss from θ = 0, M draws a step; all rates and seeds at once, as rows of one parameter. The loss
/// of a row is multiplied by its rate.
inline DeviationResult deviation_runs(const LeastDeviations& problem, const DeviationRuns& o) {
  const std::int64_t rates = std::ssize(tried_rates());
  const Point point(zeros({rates, o.seeds, problem.d}, doubles));
  const Tensor rate = from_vector(tried_rates(), {1, rates, 1});
  optim::SGD optimizer(point.params, {.lr = 1});
  optimizer.set_schedule([](std::uint64_t t) { return 1 / std::sqrt(static_cast<double>(t + 1)); });
  for (std::int64_t t = 0; t < o.steps; ++t) {
    const double sigma = o.shrink ? o.sigma / std::sqrt(static_cast<double>(t + 1)) : o.sigma;
    const auto scope =
        isotropic_pass(point.params, sigma, noise_key(o.seed, static_cast<std::uint64_t>(t)), o.M);
    mean(sum(mul(problem.losses(point.read(o.M)), rate), {1, 2})).backward();
    optimizer.step();
  }
  const auto off = no_grad();
  const auto at = problem.losses(point.value()).to_vector<double>();
  DeviationResult best;
  for (std::int64_t k = 0; k < rates; ++k) {
    std::vector<double> excess;
    for (std::int64_t r = 0; r < o.seeds; ++r)
      excess.push_back(at[static_cast<std::size_t>(k * o.seeds + r)] - problem.minimum);
    const Measured m = measured(excess);
    if (k == 0 || m.value < best.excess.value) best = {tried_rates()[static_cast<std::size_t>(k)], m};
  }
  return best;
}

inline Section nonsmooth(const Settings& s) {
  const LeastDeviations problem(s.seed);
  const double R = std::sqrt(sum(square(problem.solution)).item());
  Section out{
      "nonsmooth", "A convex problem that is not smooth",
      concat("‖Aθ − b‖₁/n, n = ", problem.n, ", d = ", problem.d, ", a tenth of b are outliers. Minimum ",
             format_fixed(problem.minimum, 4), ", unique (largest dual sign ",
             format_fixed(problem.certificate, 3), "), L = ", format_fixed(problem.lipschitz, 3), ".")};
  TextTable excess({"σ", "smoothed − loss at the minimum", "closed", "errors off", "at θ = 0", "bound Lσ√d"});
  plot::Series closed{.name = "at the minimum, closed", .color = 0},
      bound{.name = "bound Lσ√d", .color = dashed(0)};
  std::vector<double> at;
  std::vector<Measured> found;
  double farthest = 0, share = 0;  // from the closed form in standard errors; largest part of the bound
  const Tensor origin = zeros_like(problem.solution);
  for (const double sigma : {.01, .03, .1, .3, 1.0}) {
    Measured m = measured_smoothed(problem, problem.solution, sigma, s.size(4000, 500),
                                   noise_key(s.seed, static_cast<std::uint64_t>(found.size())));
    m.value -= problem.minimum;
    const double exact = problem.smoothed(problem.solution, sigma) - problem.minimum;
    const double far = problem.smoothed(origin, sigma) - problem.smoothed(origin, 0);
    const double most = excess_bound(problem.lipschitz, sigma, static_cast<double>(problem.d));
    excess.add_row({format_general(sigma), format(m), format_general(exact),
                    format_fixed((m.value - exact) / m.error, 1), format_general(far), format_general(most)});
    out.records.push_back({{"experiment", std::string("excess")},
                           {"method", std::string("")},
                           {"M", 0},
                           {"sigma", sigma},
                           {"measured", m.value},
                           {"error", m.error},
                           {"exact", exact},
                           {"bound", most}});
    farthest = std::max(farthest, std::abs(m.value - exact) / m.error), share = std::max(share, exact / most);
    closed.x.push_back(sigma), closed.y.push_back(exact);
    bound.x.push_back(sigma), bound.y.push_back(most);
    at.push_back(sigma), found.push_back(m);
  }
  s.step();
  out.result = concat("At the minimum the smoothed loss exceeds the loss by ", format_general(100 * share, 2),
                      " % of the bound Lσ√d at most, within ", format_fixed(farthest, 1),
                      " standard errors of the closed form. ");
  out.tables.emplace_back("The smoothed loss over the loss; ± is the standard error over the draws", excess);
  out.pictures.push_back({"excess",
                          plot::line_chart({bound, closed, dots("measured", at, found, 0)},
                                           {.title = "Smoothed loss minus loss",
                                            .x = {.title = "σ", .scale = plot::Scale::log},
                                            .y = {.title = "excess", .scale = plot::Scale::log}}),
                          concat(error_bars, " over the draws.")});

  DeviationRuns o{.seeds = s.size(4, 2), .steps = s.size(400, 50), .seed = s.seed};
  const double guarantee = problem.lipschitz * R / std::sqrt(static_cast<double>(o.steps));
  TextTable table({"method", "M", "best rate", "L(θ_T) − L(θ*)"});
  std::vector<plot::Series> lines;
  std::vector<double> Ms;
  for (std::int64_t M = 1; M <= s.size(256, 4); M *= 4) Ms.push_back(static_cast<double>(M));
  const DeviationResult plain = deviation_runs(problem, o);
  table.add_row({"subgradient", "–", format_general(plain.rate), format_fixed(plain.excess.value, 5)});
  lines.push_back({.name = "subgradient",
                   .x = Ms,
                   .y = std::vector<double>(Ms.size(), plain.excess.value),
                   .color = plot::method_color("sgd")});
  lines.push_back({.name = "its guarantee LR/√T",
                   .x = Ms,
                   .y = std::vector<double>(Ms.size(), guarantee),
                   .color = dashed(0)});
  s.step();
  DeviationResult best = plain;
  std::string best_name = "the subgradient method";
  int pattern = 0;
  struct Method {
    std::string name;
    double sigma;
    bool shrink;
  };
  for (const Method& m : std::vector<Method>{{"σ = .03", .03, false}, {"σ = .3/√t", .3, true}}) {
    std::vector<Measured> ends;
    std::vector<double> values;
    for (const double M : Ms) {
      o.M = static_cast<std::int64_t>(M), o.sigma = m.sigma, o.shrink = m.shrink;
      const DeviationResult r = deviation_runs(problem, o);
      table.add_row({m.name, concat(o.M), format_general(r.rate), format(r.excess)});
      out.records.push_back({{"experiment", std::string("descent")},
                             {"method", m.name},
                             {"M", o.M},
                             {"sigma", m.sigma},
                             {"measured", r.excess.value},
                             {"error", r.excess.error},
                             {"exact", 0.0},
                             {"bound", guarantee}});
      if (r.excess.value < best.excess.value)
        best = r, best_name = concat("smoothing with ", m.name, ", M = ", o.M);
      ends.push_back(r.excess), values.push_back(r.excess.value);
      s.step();
    }
    const int color = plot::detail::patterned(plot::method_color("lpf-sgd"), pattern++);
    lines.push_back({.name = m.name, .x = Ms, .y = values, .color = color});
    lines.push_back(dots("", Ms, ends, color));
  }
  out.result += concat("After ", o.steps, " steps ", best_name,
                       " is nearest to the minimal loss: ", format_general(best.excess.value, 2),
                       " above it, the subgradient method ", format_general(plain.excess.value, 2), ".");
  out.tables.emplace_back(
      concat("After ", o.steps, " steps with the best of ", tried_rates().size(),
             " rates c/√t; R = ‖θ*‖ = ", format_fixed(R, 2), ", LR/√T = ", format_fixed(guarantee, 3),
             "; ± is the standard error over ", o.seeds, " seeds of the noise"),
      table);
  out.pictures.push_back(
      {"nonsmooth",
       plot::line_chart(lines, {.title = "Loss above the minimum after training",
                                .x = {.title = "M", .scale = plot::Scale::log},
                                .y = {.title = "L(θ_T) − L(θ*)", .scale = plot::Scale::log}}),
       concat(error_bars, " over ", o.seeds, " seeds.")});
  return out;
}

}  // namespace theory
