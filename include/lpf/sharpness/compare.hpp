// Two models on the same data with the same noise: the difference of a measure, and its standard error from
// the paired differences of the draws, far below that of two separate measurements. Samples are paired
// likewise where the measure uses them.
#pragma once

#include "lpf/sharpness/measure.hpp"

namespace lpf::sharpness {

struct Difference {
  std::string name;
  double a = 0, b = 0;        ///< the measure of each
  double value = 0;           ///< a − b
  double standard_error = 0;  ///< of the draws, paired; 0 where nothing is drawn
  double data_error = std::numeric_limits<double>::quiet_NaN();  ///< of the data, paired; NaN where unknown
};

/// a − b for every measure that both reports have with the same draws. The reports must be of the same data,
/// options and key. ValueError if their numbers of draws differ.
LPF_ONCE std::vector<Difference> compare(const Report& a, const Report& b) {
  const auto paired = [](const char* what, const std::string& name, const std::vector<double>& x,
                         const std::vector<double>& y) {
    check(x.size() == y.size(), "sharpness::compare", "'", name, "' of the two models has ", x.size(),
          " and ", y.size(), " ", what, ": measure both on the same data, with `draws` and not `until`");
    std::vector<double> difference;
    for (std::size_t i = 0; i < x.size(); ++i) difference.push_back(x[i] - y[i]);
    return std::sqrt(mean_error(difference).squared);
  };
  std::vector<Difference> out;
  for (const Measurement& m : a.measurements) {
    if (!b.contains(m.name)) continue;
    const Estimate &x = m.estimate, &y = b[m.name];
    Difference d{m.name, x.value, y.value, x.value - y.value};
    d.standard_error = paired("draws", m.name, x.per_draw, y.per_draw);
    const double data = paired("samples", m.name, x.per_sample, y.per_sample);
    if (!x.per_sample.empty()) d.data_error = data;
    out.push_back(d);
  }
  return out;
}

/// Measures both with the same key and compares them.
template <class A, class B, class Losses = decltype(&cross_entropy_of_samples)>
std::vector<Difference> compare(const A& a, const ParameterStore& params_a, const B& b,
                                const ParameterStore& params_b, const TensorDataset& data,
                                const MeasureOptions& options = {},
                                Losses losses = cross_entropy_of_samples) {
  check(options.until.relative_error <= 0, "sharpness::compare",
        "pairing needs the same draws for both models: give `draws` instead of `until`");
  return compare(measure(a, params_a, data, options, losses), measure(b, params_b, data, options, losses));
}

}  // namespace lpf::sharpness
