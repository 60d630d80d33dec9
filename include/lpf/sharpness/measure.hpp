// All measures of a trained model in one call (Bisla, Wang, Choromanska 2022, section 3, and more):
//
//   const auto report = sharpness::measure(net, params, data, {.draws = 100, .key = 7});
//   report["low_pass"].value, report["low_pass"].standard_error, …
//
// Measures that need the same passes share them: trace and Frobenius norm share products with random vectors;
// λ_max, effective dimension, density and eigenpairs share Lanczos runs; all Hessian measures share one
// graph. Each header defines its measure; registry.hpp lists them by name. Evaluation mode is set during the
// call and the previous mode restored. Several processes measure together by MeasureOptions::ranks (ranks.hpp): every one
// gets the report that one process would, to the bit.
#pragma once

#include "lpf/ops/loss.hpp"
#include "lpf/sharpness/registry.hpp"

namespace lpf::sharpness {

/// Cross-entropy of each sample; the mean over its tokens if it has several.
LPF_ONCE Tensor cross_entropy_of_samples(const Tensor& output, const Tensor& target) {
  const Tensor losses = cross_entropy(output, target, {.reduction = Reduction::none});
  if (losses.rank() <= 1) return losses;
  return mean(reshape(losses, {losses.size(0), losses.numel() / losses.size(0)}), {1});
}

namespace detail {

/// Gives the quantities of a measure that are not finite, or not there, the value NaN and a note. `first` is the
/// index of the measure's first value in the report, `reason` why it was left, if it was.
LPF_ONCE void note_missing_values(Report& report, const MeasureInfo& m, std::size_t first,
                                  const std::string& reason) {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  for (std::size_t i = first; i < report.measurements.size(); ++i) {
    Measurement& found = report.measurements[i];
    if (std::isfinite(found.estimate.value)) continue;
    found.note =
        concat("it is ", found.estimate.value, ": the loss is not finite at the weights it was taken at");
    found.estimate = {.value = none};
  }
  if (reason.empty()) return;
  for (const QuantityInfo& q : m.quantities)
    if (!report.contains(q.key)) report.measurements.push_back({q.key, {.value = none}, reason});
}

/// The measures named by the options. One without a value (no root, for example) is NaN, with a note.
LPF_ONCE Report measure_all(const Landscape& landscape, std::function<Tensor(const Tensor&)> model,
                            const MeasureOptions& o) {
  const std::vector<const MeasureInfo*> measures = checked_measures(o);
  Measuring run(landscape, std::move(model), o);
  for (std::size_t i = 0; i < measures.size(); ++i) {
    if (o.progress) o.progress(measures[i]->name, i, measures.size());
    const std::size_t first = run.report.measurements.size();
    std::string reason;
    try {
      measures[i]->run(run);
    } catch (const NumericError& e) { reason = e.what(); }  // the other measures still run
    note_missing_values(run.report, *measures[i], first, reason);
  }
  if (o.progress) o.progress("", measures.size(), measures.size());
  return std::move(run.report);
}

}  // namespace detail

/// Measures model(x), whose weights are `params`, on `data`. losses(output, target) returns the losses of the
/// samples, [B]. A measure without a value for this model (no root, for example) is NaN, with a note.
/// @throws NumericError if weights or loss are not finite; ValueError for options out of range and for an
/// unknown measure, before anything is computed (checked_measures()).
template <class Model, class Losses = decltype(&cross_entropy_of_samples)>
Report measure(const Model& model, const ParameterStore& params, const Data& data,
               const MeasureOptions& options = {}, Losses losses = cross_entropy_of_samples) {
  const Landscape landscape(params, data,
                            [&](const Tensor& x, const Tensor& y) { return losses(model(x), y); },
                            {options.filter_normalize, options.replicas, options.samples, options.ranks});
  return detail::measure_all(
      landscape, [&](const Tensor& x) { return model(x); }, options);
}
template <class Model, class Losses = decltype(&cross_entropy_of_samples)>
Report measure(const Model& model, const ParameterStore& params, const TensorDataset& data,
               const MeasureOptions& options = {}, Losses losses = cross_entropy_of_samples) {
  return measure(model, params, Data{data.images, data.labels}, options, losses);
}

}  // namespace lpf::sharpness
