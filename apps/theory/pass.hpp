// What the experiments of `theory` share: isotropic perturbed passes, functions of one parameter, results.
#pragma once

#include <cmath>
#include <functional>
#include <lpf/filter/low_pass_filter.hpp>
#include <lpf/lpf.hpp>
#include <lpf/report/log.hpp>
#include <lpf/report/method_color.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/report/table.hpp>
#include <string>
#include <utility>
#include <vector>

#include "closed_forms.hpp"

namespace theory {

using namespace lpf;

inline const TensorOptions doubles{.dtype = float64};

/// A value with its standard error.
struct Measured {
  double value = 0, error = 0;
};
inline Measured measured(const std::vector<double>& values) {
  const MeanSd m = mean_sd(values);
  return {m.mean, m.sd / std::sqrt(static_cast<double>(m.n))};
}
inline std::string format(const Measured& m) {
  const int decimals =
      m.error > 1e-9 ? std::clamp(1 - lpf::detail::saturated<int>(std::floor(std::log10(m.error))), 0, 8) : 4;
  return concat(format_fixed(m.value, decimals), " ± ", format_fixed(m.error, decimals));
}

/// A pass with the law N(0, σ²I): all rows of θ have the standard deviation σ.
inline filter::Perturbation isotropic_pass(const ParameterStore& params, double sigma, const NoiseKey& key,
                                           std::int64_t M, std::optional<std::int64_t> batch = {}) {
  filter::Segments rows = filter::segments_of(params, NoiseLaw::filter_wise, {});
  const filter::PassOptions options{
      .M = M, .batch = batch, .key = key, .scale = full({rows.rows}, sigma, {.dtype = params.dtype()})};
  return filter::Perturbation(params, std::move(rows), options);
}

/// The key of the noise of pass `draw`.
inline NoiseKey noise_key(std::uint64_t seed, std::uint64_t draw) {
  return {.seed = seed, .purpose = Purpose::perturbation, .draw = draw};
}

/// A model of one parameter, in double precision: its output is θ itself. The batch is of M empty samples, one for each
/// draw of the noise.
struct Point {
  ParameterStore params{{.dtype = float64}};
  nn::Parameter theta;

  explicit Point(const Tensor& start)
      : theta(nn::Path(params).parameter("theta", start.shape(), init::zeros())) {
    set(start);
  }
  void set(const Tensor& at) const { theta.clean().detach().copy_(at); }
  Tensor value() const { return theta.clean().detach().clone(); }

  /// θ_r of the M replicas of the open pass, [M, shape]; outside a pass M copies of θ.
  Tensor read(std::int64_t M) const {
    Shape shape{M};
    for (int i = 0; i < theta.info().shape.rank(); ++i) shape.push_back(1);
    const Tensor samples = zeros(shape, doubles);
    return expand(per_sample(theta, samples), theta.info().shape.prepended(M));
  }
};

/// A picture with the name of its file and its caption.
struct Picture {
  std::string file;
  plot::Svg chart;
  std::string caption = {};
};

/// A part of the program's result: tables, pictures, records for JSON.
struct Section {
  std::string name, title, text;
  std::string result = {};                                     ///< in a sentence
  std::vector<std::pair<std::string, TextTable>> tables = {};  ///< with captions
  std::vector<Picture> pictures = {};
  std::vector<Record> records = {};
};

/// What error bars are: see dots().
inline const std::string error_bars = "Error bars: ± two standard errors";

/// Size and seed of the experiments, and what is called after each step of them.
struct Settings {
  bool quick = false;
  std::uint64_t seed = 0;
  std::function<void()> step = [] {};

  /// A number of draws, steps or runs: a smaller one with --quick.
  std::int64_t size(std::int64_t whole, std::int64_t small) const { return quick ? small : whole; }
};

/// The colour of a bound or prediction: that of series k, dashed.
inline int dashed(int k) { return plot::detail::palette_size + k; }

/// The points of a measured curve, drawn as dots: a gap follows each.
inline plot::Series dots(std::string name, const std::vector<double>& x, const std::vector<Measured>& y,
                         int color) {
  plot::Series out{.name = std::move(name), .color = color};
  const double gap = std::nan("");
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (auto [v, at] : {std::pair{&out.x, x[i]}, {&out.y, y[i].value}}) v->insert(v->end(), {at, gap});
    out.low.insert(out.low.end(), {y[i].value - 2 * y[i].error, gap});
    out.high.insert(out.high.end(), {y[i].value + 2 * y[i].error, gap});
  }
  return out;
}

}  // namespace theory
