// The rows of θ that a filter perturbs, and the radius of the coming update.
#pragma once

#include <functional>

#include "lpf/filter/law.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/index.hpp"

namespace lpf::filter {

/// The parameters for which `include` holds (all trainable ones if it is empty).
LPF_ONCE Segments segments_of(const ParameterStore& params, NoiseLaw law,
                              const std::function<bool(const ParameterInfo&)>& include) {
  Segments out;
  for (const ParameterInfo& info : params.parameters()) {
    out.segment_of.push_back(-1);
    if (!info.trainable || info.numel() == 0 || (include && !include(info))) continue;
    const bool matrix = info.shape.rank() > 1;
    const std::int64_t rows = matrix ? info.shape[0] : 1, length = info.numel() / rows;
    const auto index = static_cast<std::uint32_t>(info.index);
    out.segment_of.back() = std::ssize(out.segments);
    const std::int64_t inputs = info.shape.rank() > 0 ? info.shape[info.shape.rank() - 1] : 1;
    out.segments.push_back({info.offset, rows, length, out.rows, index, inputs});
    const bool whole = law == NoiseLaw::tensor_wise && matrix;
    const std::int64_t norms = whole ? 1 : rows;
    if (law != NoiseLaw::isotropic)
      out.norms.push_back(
          {info.offset, norms, info.numel() / norms, out.rows, rows / norms, matrix ? 0 : 1e-16});
    out.rows += rows;
  }
  return out;
}

/// γ of the coming update of `params`.
LPF_ONCE StepScalar radius_of_step(const Radius& radius, const ParameterStore& params) {
  return step_scalar([radius, params] { return radius.at(params.updates()); });
}

using Rows [[deprecated("use Segments")]] = Segments;
[[deprecated("use segments_of")]] inline Segments rows_of(
    const ParameterStore& params, NoiseLaw law, const std::function<bool(const ParameterInfo&)>& include) {
  return segments_of(params, law, include);
}

}  // namespace lpf::filter
