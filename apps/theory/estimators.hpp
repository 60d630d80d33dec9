// (c) The error of the gradient estimate against M. The model Σ_j sin(w_j·x + b_j) with squared loss has a closed
// smoothed loss, so the error is against the exact gradient.
#pragma once

#include <algorithm>
#include <numeric>

#include "pass.hpp"

namespace theory {

/// Four sines of ten inputs on `samples` random points.
struct SineModel {
  static constexpr std::int64_t inputs = 10, units = 4;
  ParameterStore params{{.dtype = float64, .seed = 11}};
  nn::Linear layer{nn::Path(params) / "fc", inputs, units};
  Tensor x, t;  ///< [samples, inputs], [samples, 1]

  explicit SineModel(std::int64_t samples)
      : x(randn({samples, inputs}, {.seed = 12}, doubles)), t(randn({samples, 1}, {.seed = 13}, doubles)) {}

  /// Mean loss over the samples, repeated `times` times.
  Tensor loss(std::int64_t times) const {
    const auto repeated = [times](const Tensor& a) {
      return reshape(expand(unsqueeze(a, 0), a.shape().prepended(times)),
                     a.shape().with(0, times * a.size(0)));
    };
    const Tensor in = repeated(x), target = repeated(t);
    return mean(square(sub(sum(sin(layer(in)), {1}, true), target)));
  }
  /// The smoothed loss for noise of deviation s [units] on the rows of the weight and s_bias on the bias. The
  /// pre-activation is N(μ, τ²) with τ² = s²‖x‖² + s_bias², and the units are independent:
  /// Σ_j (E sin² u_j − (E sin u_j)²) + (Σ_j E sin u_j − t)².
  Tensor smoothed_loss(const Tensor& s, const Tensor& s_bias) const {
    const Tensor mu = layer(x);
    const Tensor variance =
        add(mul(sum(square(x), {1}, true), reshape(square(s), {1, units})), square(s_bias));
    const Tensor first = mul(exp(affine(variance, -.5, 0)), sin(mu));
    const Tensor second = affine(mul(exp(affine(variance, -2, 0)), cos(affine(mu, 2, 0))), -.5, .5);
    return mean(add(sum(sub(second, square(first)), {1}, true), square(sub(sum(first, {1}, true), t))));
  }
  /// Puts the samples into another order, so that the slices are random ones.
  void shuffle(const NoiseKey& key) {
    const auto off = no_grad();
    const auto keys = rand({x.size(0)}, key, doubles).to_vector<double>();
    std::vector<std::int64_t> order(keys.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](auto a, auto b) {
      return keys[static_cast<std::size_t>(a)] < keys[static_cast<std::size_t>(b)];
    });
    const Tensor index = from_vector(order, {std::ssize(order)});
    x = index_select(x, 0, index), t = index_select(t, 0, index);
  }
  Tensor gradient_of(const Tensor& loss) const {
    loss.backward();
    const Tensor g = params.gradient().detach().clone();
    params.zero_grad();
    return g;
  }
};

/// How the M draws meet the samples: each draw sees all of them (the average of the definition, M times the work), or
/// one slice of them (LPF-SGD).
enum class Draws { on_all_samples, on_slices };

struct EstimateError {
  std::int64_t M = 0;
  Measured root_mean_square;  ///< √E‖ĝ − g‖²
  double bias = 0;            ///< ‖mean of ĝ − g‖ over what it is for an unbiased estimate; about 1
};

inline EstimateError estimate_error(SineModel& model, Estimator estimator, Draws draws, std::int64_t M,
                                    double gamma, std::int64_t repetitions, std::uint64_t seed) {
  LowPassFilter filter({.M = M, .gamma = gamma, .estimator = estimator, .seed = seed});
  const Tensor scale = [&] {
    LowPassFilter other({.M = 1, .gamma = gamma});
    const auto scope = other.perturb(model.params);
    (void)model.loss(1);
    return scope.scale();
  }();
  const Tensor exact = model.gradient_of(
      model.smoothed_loss(narrow(scale, 0, 0, SineModel::units), narrow(scale, 0, SineModel::units, 1)));
  std::vector<double> squares;
  const Tensor total = zeros_like(exact);
  for (std::int64_t k = 0; k < repetitions; ++k) {
    Tensor error;
    model.shuffle({.seed = seed, .purpose = Purpose::shuffle, .draw = static_cast<std::uint64_t>(k)});
    {
      const auto scope = filter.perturb(model.params);
      error = sub(model.gradient_of(model.loss(draws == Draws::on_slices ? 1 : M)), exact);
    }
    squares.push_back(sum(square(error)).item());
    total.copy_(add(total, error));
  }
  const Measured m = measured(squares);
  const double root = std::sqrt(m.value), n = static_cast<double>(repetitions);
  return {M, {root, m.error / (2 * root)}, std::sqrt(sum(square(total)).item()) / n / (root / std::sqrt(n))};
}

/// The slope of log y over log x by least squares.
inline double log_slope(const std::vector<double>& x, const std::vector<double>& y) {
  double n = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (std::size_t i = 0; i < x.size(); ++i, ++n) {
    const double u = std::log(x[i]), v = std::log(y[i]);
    sx += u, sy += v, sxx += u * u, sxy += u * v;
  }
  return (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

/// The error of M draws on slices of B samples: c/M + (v − c)/B in the mean square, with v the variance of one sample's
/// gradient under its own draw and c the covariance of two samples' under a common one. Given are the mean squares with
/// one draw, c + (v − c)/B, and with a draw for each sample, v/B. For slices of samples in random order it is exact.
inline double sliced_error(double one, double each, double M, double B) {
  const double v = B * each, c = (one - each) / (1 - 1 / B);
  return c / M + (v - c) / B;
}

inline Section estimators(const Settings& s) {
  Section out{"estimators", "The error of the gradient estimate against M",
              "Root mean square of ‖ĝ − g‖ over independent repetitions, g the exact gradient of the "
              "smoothed loss. If "
              "the M draws are independent and all see the same samples, it falls as 1/√M."};
  const double gamma = .3;
  const std::vector<std::int64_t> Ms =
      s.quick ? std::vector<std::int64_t>{2, 8} : std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 64};
  const std::int64_t repetitions = s.size(400, 40), B = 64;
  for (const Draws draws : {Draws::on_all_samples, Draws::on_slices}) {
    const bool slices = draws == Draws::on_slices;
    SineModel model(slices ? B : 16);
    std::vector<std::string> header{"estimator"};
    for (const std::int64_t M : Ms) header.push_back(concat("M = ", M));
    header.insert(header.end(), {"slope", "largest bias"});
    TextTable table(header);
    std::vector<plot::Series> lines;
    int color = 0;
    double one = std::nan(""), each = std::nan("");
    for (const auto& [name, estimator] : named_estimators) {
      std::vector<std::string> row{name};
      std::vector<double> x, y;
      std::vector<Measured> at;
      double bias = 0;
      for (const std::int64_t M : Ms) {
        if (is_paired(estimator) && M % 2 != 0) {
          row.push_back("–");
          continue;
        }
        const EstimateError e = estimate_error(model, estimator, draws, M, gamma, repetitions,
                                               s.seed + static_cast<std::uint64_t>(1000 * M));
        x.push_back(static_cast<double>(M)), y.push_back(e.root_mean_square.value),
            at.push_back(e.root_mean_square);
        row.push_back(format(e.root_mean_square));
        bias = std::max(bias, e.bias);
        if (estimator == Estimator::replicas && M == 1) one = y[0] * y[0];
        if (estimator == Estimator::per_sample && M == 1) each = y[0] * y[0];
        out.records.push_back({{"draws", std::string(slices ? "slices" : "all samples")},
                               {"estimator", std::string(name)},
                               {"M", M},
                               {"error", e.root_mean_square.value},
                               {"standard_error", e.root_mean_square.error},
                               {"bias", e.bias}});
      }
      const double slope = log_slope(x, y);
      if (estimator == Estimator::replicas)
        out.result +=
            slices ? concat("; where each sees a slice of one batch, as M^", format_fixed(slope, 2), ".")
                   : concat("The gradient's error falls as M^", format_fixed(slope, 2),
                            " where the M draws (replicas) all see the same samples");
      row.push_back(format_fixed(slope, 3));
      row.push_back(format_fixed(bias, 2));
      table.add_row(row);
      lines.push_back({.name = name, .x = x, .y = y, .color = color});
      lines.push_back(dots("", x, at, color++));
      s.step();
    }
    std::vector<double> x, y;
    if (slices && std::isfinite(one) && std::isfinite(each)) {
      std::vector<std::string> row{"replicas, predicted"};
      for (const std::int64_t M : Ms) {
        x.push_back(static_cast<double>(M));
        y.push_back(std::sqrt(sliced_error(one, each, x.back(), static_cast<double>(B))));
        row.push_back(format_fixed(y.back(), 4));
      }
      row.insert(row.end(), {format_fixed(log_slope(x, y), 3), ""});
      table.add_row(row);
      lines.push_back({.name = "replicas, predicted", .x = x, .y = y, .color = dashed(0)});
    } else if (!slices) {
      for (const std::int64_t M : Ms)
        x.push_back(static_cast<double>(M)), y.push_back(lines[0].y[0] * std::sqrt(lines[0].x[0] / x.back()));
      lines.push_back({.name = "slope −1/2", .x = x, .y = y, .color = dashed(0)});
    }
    out.tables.emplace_back(concat(slices ? concat("M draws on M slices of ", B, " samples")
                                          : std::string("M draws, each on the same 16 samples"),
                                   "; ± is the standard error over ", repetitions, " repetitions"),
                            table);
    out.pictures.push_back(
        {slices ? "estimators-slices" : "estimators",
         plot::line_chart(lines, {.title = slices ? "Error of the gradient: draws on slices of one batch"
                                                  : "Error of the gradient: each draw on all samples",
                                  .x = {.title = "M", .scale = plot::Scale::log},
                                  .y = {.title = "root mean square error", .scale = plot::Scale::log}}),
         concat(error_bars, " over ", repetitions, " repetitions.")});
  }
  return out;
}

}  // namespace theory
