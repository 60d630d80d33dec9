// Vectors v over the weights, in units of the filters: the point v is the weights θ + C v, C = diag(c) with c
// the size of each unit (units.hpp). They are float64 tensors of θ's length on the CPU, zero between
// parameters and where nothing is trainable.
#pragma once

#include "lpf/backend/float64.hpp"
#include "lpf/ops/arithmetic.hpp"
#include "lpf/sharpness/units.hpp"

namespace lpf::sharpness {

/// Streams of random numbers, distinct from those of the draws, whose `draw` counts from 0.
enum class Stream : std::uint64_t {
  lanczos = 0xFFFFFFFF,
  probes = 0xFFFFFFFE,
  ascent = 0xFFFFFFFD,
  langevin = 0xFFFFFFFC,
  batches = 0xFFFFFFFB,
  sketch = 0xFFFFFFFA
};

namespace detail {

inline double inner(const Tensor& a, const Tensor& b) {
  return a.backend().dot(a.dtype(), a.numel(), a.raw(), b.raw());
}
inline double norm(const Tensor& a) { return std::sqrt(inner(a, a)); }
inline Tensor scaled(const Tensor& x, double a) { return affine(x, a, 0); }
/// y += a·x.
inline void add_scaled(double a, const Tensor& x, const Tensor& y) {
  y.backend().accumulate(y.dtype(), y.numel(), a, x.raw(), y.raw());
}

}  // namespace detail

class Coordinates {
 public:
  /// Without `filter_normalize` C is the identity. ValueError if nothing is trainable.
  LPF_ONCE explicit Coordinates(const ParameterStore& params, bool filter_normalize = true)
      : params_(params), rows_(unit_rows(params)) {
    check(rows_.rows > 0, "sharpness", "no parameter is trainable: there is nothing to perturb");
    const auto off = no_grad();
    sizes_ = filter_normalize ? unit_sizes(params_) : trained(params_);
    units_ = sizes_.to(Device::cpu()).to(float64);
  }

  const ParameterStore& params() const { return params_; }
  /// The rows of θ with one c each.
  const filter::Segments& rows() const { return rows_; }
  std::int64_t size() const { return units_.numel(); }            ///< of θ and of every v
  std::int64_t dimension() const { return params_.numel(true); }  ///< number of trainable elements
  /// c of every element of θ, zero where nothing is trainable.
  const Tensor& units() const { return units_; }
  /// Standard deviation of each row of the noise N(0, σ²c²), in θ's dtype.
  Tensor scale(double sigma) const { return affine(at_rows(sizes_, rows_), sigma, 0); }
  /// The same of N(0, σ²c²/n), n the fan-in of the layer: the noise of a unit's weights has the length σc on average,
  /// however many weights it has.
  Tensor fan_in_scale(double sigma) const { return mul(scale(sigma), inverse_root_fan_in(params_)); }

  /// C v in θ's dtype, v [size] or [M, size].
  LPF_ONCE Tensor offset(const Tensor& v) const {
    const auto off = no_grad();
    return mul(v, units_).to(params_.dtype()).to(params_.device());
  }
  /// θ (or another vector of its layout) in units of c; 0 where c is 0.
  LPF_ONCE Tensor in_units(const Tensor& over_theta) const {
    const auto off = no_grad();
    check<ShapeError>(over_theta.shape() == units_.shape(), "sharpness", "a vector over θ has shape ",
                      units_.shape(), ", got ", over_theta.shape());
    const Tensor w = over_theta.detach().to(Device::cpu()).to(float64), none = units_ == 0.0;
    return where(none, zeros_like(w), div(w, where(none, ones_like(w), units_)));
  }
  Tensor weights() const { return in_units(params_.theta()); }

  /// Standard normal numbers, independent of the gaps between parameters.
  LPF_ONCE Tensor random_vector(std::uint64_t key, Stream stream, std::uint32_t index) const {
    const auto off = no_grad();
    const Tensor drawn = empty({dimension()}, {float64, Device::cpu()}), out = zeros_like(units_);
    const NoiseKey noise{key, Purpose::measure, static_cast<std::uint64_t>(stream), index, 0};
    drawn.backend().normal(float64, noise, 0, drawn.numel(), drawn.raw());
    std::int64_t at = 0;
    for (const ParameterInfo& info : params_.parameters()) {
      if (!info.trainable) continue;
      out.alias({info.numel()}, info.offset).copy_(drawn.alias({info.numel()}, at));
      at += info.numel();
    }
    return mul(out, (units_ != 0.0).to(float64));
  }

  /// The parts of a vector over θ that belong to the trainable parameters, in their shapes and dtype.
  LPF_ONCE std::vector<Tensor> parts_of(const Tensor& over_theta) const {
    std::vector<Tensor> out;
    for (const ParameterInfo& info : params_.parameters())
      if (info.trainable)
        out.push_back(over_theta.alias(info.shape, info.offset).to(params_.dtype()).to(params_.device()));
    return out;
  }
  /// out += factor · the vector with these parts.
  LPF_ONCE void add_parts(const std::vector<Tensor>& parts, double factor, const Tensor& out) const {
    auto part = parts.begin();
    for (const ParameterInfo& info : params_.parameters()) {
      if (!info.trainable) continue;
      detail::add_scaled(factor, (part++)->detach().to(Device::cpu()).to(float64),
                         out.alias({info.numel()}, info.offset));
    }
  }

 private:
  LPF_ONCE static Tensor trained(const ParameterStore& params) {
    const Tensor out = zeros_like(params.theta());
    for (const ParameterInfo& info : params.parameters())
      if (info.trainable) out.alias({info.numel()}, info.offset).fill_(1);
    return out;
  }

  ParameterStore params_;
  filter::Segments rows_;
  Tensor sizes_, units_;  // c in θ's dtype, and in float64
};

}  // namespace lpf::sharpness
