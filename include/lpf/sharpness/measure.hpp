// All measures of a trained model in one call (Bisla, Wang, Choromanska 2022, section 3, and more):
//
//   const auto report = sharpness::measure(net, params, data, {.draws = 100, .key = 7});
//   report["low_pass"].value, report["low_pass"].standard_error, …
//
// Measures that need the same passes share them: trace and Frobenius norm share products with random vectors;
// λ_max, effective dimension, density and eigenpairs share Lanczos runs; all Hessian measures share one
// graph. Each header defines its measure; registry.hpp lists them by name. Evaluation mode is set during the
// call and the previous mode restored.
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

/// The measures named by the options. One without a value (no root, for example) is NaN, with a note.
LPF_ONCE Report measure_all(const Landscape& landscape, std::function<Tensor(const Tensor&)> model,
                            const MeasureOptions& o) {
  std::vector<const MeasureInfo*> measures;
  for (const std::string& name : o.measures.empty() ? names() : o.measures) measures.push_back(&info(name));
  Measuring run(landscape, std::move(model), o);
  for (std::size_t i = 0; i < measures.size(); ++i) {
    if (o.progress) o.progress(measures[i]->name, i, measures.size());
    try {
      measures[i]->run(run);
    } catch (const NumericError& e) {  // the other measures still run
      run.report.measurements.push_back(
          {measures[i]->quantities[0].key, {.value = std::numeric_limits<double>::quiet_NaN()}, e.what()});
    }
  }
  if (o.progress) o.progress("", measures.size(), measures.size());
  return std::move(run.report);
}

}  // namespace detail

/// Measures model(x), whose weights are `params`, on `data`. losses(output, target) returns the losses of the
/// samples, [B]. A measure without a value for this model (no root, for example) is NaN, with a note.
/// @throws NumericError if weights or loss are not finite; ValueError for options out of range and for an
/// unknown measure.
template <class Model, class Losses = decltype(&cross_entropy_of_samples)>
Report measure(const Model& model, const ParameterStore& params, const Data& data,
               const MeasureOptions& options = {}, Losses losses = cross_entropy_of_samples) {
  const Landscape landscape(params, data,
                            [&](const Tensor& x, const Tensor& y) { return losses(model(x), y); },
                            {options.filter_normalize, options.replicas, options.samples});
  return detail::measure_all(
      landscape, [&](const Tensor& x) { return model(x); }, options);
}
template <class Model, class Losses = decltype(&cross_entropy_of_samples)>
Report measure(const Model& model, const ParameterStore& params, const TensorDataset& data,
               const MeasureOptions& options = {}, Losses losses = cross_entropy_of_samples) {
  return measure(model, params, Data{data.images, data.labels}, options, losses);
}

}  // namespace lpf::sharpness
