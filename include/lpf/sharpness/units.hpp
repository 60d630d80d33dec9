// Filter normalisation: each unit (w_k, b_k) is measured in units of its own size c_k = ‖w_k‖₂ + |b_k|
// (normalisation layers: |scale_k| + |shift_k|), so that rescaling layers without changing the function
// cannot change a measure. Dividing a unit by c_k and multiplying by it as a constant after the layer does
// not change the function; for a measure it is a change of variables θ = C θ', C = diag(c): noise of θ' with
// deviation σ is noise of θ with deviation σc, the Hessian in θ' is C H C. So layers need no support for it.
#pragma once

#include <map>

#include "lpf/filter/segments.hpp"

namespace lpf::sharpness {

namespace detail {

/// Output units of a parameter, and the number of elements of each.
inline std::int64_t units_in(const ParameterInfo& info) { return info.shape.rank() > 0 ? info.shape[0] : 1; }
inline std::int64_t unit_length(const ParameterInfo& info) {
  return info.numel() / std::max<std::int64_t>(1, units_in(info));
}

/// The layer whose units a parameter belongs to: "NAME.weight" and "NAME.bias" with the same number of units are one
/// layer, any other parameter is its own.
LPF_ONCE std::string layer_of(const ParameterInfo& info) {
  const auto dot = info.name.rfind('.');
  const std::string tail = dot == std::string::npos ? info.name : info.name.substr(dot + 1);
  const bool paired = tail == "weight" || tail == "bias";
  return concat(paired ? (dot == std::string::npos ? std::string() : info.name.substr(0, dot)) : info.name,
                "#", units_in(info));
}

}  // namespace detail

/// c of every element of θ, [size], zero between parameters and for parameters that are not trainable.
LPF_ONCE Tensor unit_sizes(const ParameterStore& params) {
  const auto& infos = params.parameters();
  const std::vector<double> theta = params.theta().to_vector();
  std::vector<double> c(theta.size(), 0.0);
  std::map<std::string, std::vector<double>> sizes;  // of each unit, by layer and number of units
  const auto each_unit = [&](const ParameterInfo& info, auto f) {
    const std::int64_t units = detail::units_in(info), length = detail::unit_length(info);
    auto& size = sizes[detail::layer_of(info)];
    size.resize(static_cast<std::size_t>(units), 0.0);
    for (std::int64_t k = 0; k < units; ++k)
      f(size[static_cast<std::size_t>(k)], static_cast<std::size_t>(info.offset + k * length),
        static_cast<std::size_t>(length));
  };
  for (const auto& info : infos)
    each_unit(info, [&](double& size, std::size_t first, std::size_t length) {
      double squares = 0;
      for (std::size_t i = first; i < first + length; ++i) squares += theta[i] * theta[i];
      size += std::sqrt(squares);
    });
  for (const auto& info : infos) {
    if (!info.trainable) continue;
    each_unit(info, [&](double& size, std::size_t first, std::size_t length) {
      for (std::size_t i = first; i < first + length; ++i) c[i] = size;
    });
  }
  return from_vector(c, {std::ssize(c)}).to(params.dtype()).to(params.device());
}

/// The rows of a store with one noise deviation each: a unit's weights, and each element of a
/// parameter of one axis.
LPF_ONCE filter::Segments unit_rows(const ParameterStore& params) {
  filter::Segments out;
  for (const ParameterInfo& info : params.parameters()) {
    out.segment_of.push_back(-1);
    if (!info.trainable || info.numel() == 0) continue;
    const std::int64_t rows = detail::units_in(info);
    out.segment_of.back() = std::ssize(out.segments);
    out.segments.push_back(
        {info.offset, rows, info.numel() / rows, out.rows, static_cast<std::uint32_t>(info.index)});
    out.rows += rows;
  }
  return out;
}

/// 1/√n of each row, [rows], with n the fan-in of its layer: the number of weights of one unit, which its bias shares. A
/// scale and shift of a normalisation have one weight a unit.
LPF_ONCE Tensor inverse_root_fan_in(const ParameterStore& params) {
  std::map<std::string, std::int64_t> fan_in;  // by layer
  for (const ParameterInfo& info : params.parameters()) {
    auto& n = fan_in[detail::layer_of(info)];
    n = std::max(n, detail::unit_length(info));
  }
  std::vector<double> out;
  for (const ParameterInfo& info : params.parameters())
    if (info.trainable && info.numel() > 0)
      out.insert(out.end(), static_cast<std::size_t>(detail::units_in(info)),
                 1 / std::sqrt(static_cast<double>(fan_in[detail::layer_of(info)])));
  return from_vector(out, {std::ssize(out)}).to(params.dtype()).to(params.device());
}

/// The value of a vector over θ at the first element of each row, [rows].
LPF_ONCE Tensor at_rows(const Tensor& over_theta, const filter::Segments& rows) {
  std::vector<std::int64_t> index;
  for (const auto& s : rows.segments)
    for (std::int64_t k = 0; k < s.rows; ++k) index.push_back(s.offset + k * s.length);
  return index_select(over_theta, 0, from_vector(index, {rows.rows}).to(over_theta.device()));
}

}  // namespace lpf::sharpness
