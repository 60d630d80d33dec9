// Reports of all measures of a small network, for the tests over threads and those over MPI.
#pragma once

#include <cmath>
#include <cstring>

#include "filter/networks.hpp"
#include "lpf/sharpness/measure.hpp"

namespace lpf::test {

/// Every measure, with few draws and what is optional.
inline sharpness::MeasureOptions all_measures() {
  sharpness::MeasureOptions out{.draws = 21, .key = 7};
  out.spectrum = {.steps = 12, .starts = 3, .eigenpairs = 2};
  out.low_pass_blocks = true;
  out.chains = 11;
  out.local_entropy_gradient = {.steps = 4, .batch_size = 10};
  out.sam.steps = 4;
  return out;
}

inline sharpness::Report report_of(Kind kind, sharpness::MeasureOptions o) {
  const Problem p(kind, 30);
  o.pac_bayes.initial = zeros_like(p.params.theta());
  return sharpness::measure(p.net, p.params, sharpness::Data{p.x, p.y}, o);
}

/// What differs in any bit; "" if nothing does.
inline std::string difference_of(const sharpness::Report& a, const sharpness::Report& b) {
  const auto same = [](const std::vector<double>& x, const std::vector<double>& y) {
    return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), 8 * x.size()) == 0);
  };
  const auto numbers = [](const sharpness::Estimate& e) {
    std::vector<double> out{e.value, e.standard_error, static_cast<double>(e.draws),
                            std::isnan(e.data_error) ? -1 : e.data_error,
                            static_cast<double>(e.advised_draws)};
    for (const auto& block : e.blocks) out.push_back(block.value), out.push_back(block.standard_error);
    return out;
  };
  if (a.loss != b.loss || a.samples != b.samples) return "loss";
  if (a.measurements.size() != b.measurements.size()) return "number of values";
  for (std::size_t i = 0; i < a.measurements.size(); ++i) {
    const auto &x = a.measurements[i], &y = b.measurements[i];
    if (x.name != y.name || x.note != y.note) return "name or note of " + x.name + ": " + x.note;
    if (std::isnan(x.estimate.value) && std::isnan(y.estimate.value)) continue;
    if (!same(numbers(x.estimate), numbers(y.estimate))) return x.name;
    if (!same(x.estimate.per_draw, y.estimate.per_draw)) return "draws of " + x.name;
    if (!same(x.estimate.per_sample, y.estimate.per_sample)) return "samples of " + x.name;
  }
  for (const auto curve : {&sharpness::Report::density, &sharpness::Report::profile})
    if (!same((a.*curve).y, (b.*curve).y) || !same((a.*curve).standard_error, (b.*curve).standard_error))
      return "a curve";
  if (a.eigenpairs.size() != b.eigenpairs.size()) return "number of eigenpairs";
  for (std::size_t k = 0; k < a.eigenpairs.size(); ++k)
    if (a.eigenpairs[k].value != b.eigenpairs[k].value ||
        !same(a.eigenpairs[k].vector.to_vector(), b.eigenpairs[k].vector.to_vector()))
      return "an eigenpair";
  return "";
}

}  // namespace lpf::test
