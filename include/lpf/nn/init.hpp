// Initial values of parameters. An initialiser is a function of the shape; its random numbers depend on the
// store's seed and the parameter's index, so that a layer added at the end does not change the others.
#pragma once

#include <cmath>
#include <functional>

#include "lpf/core/gaussian.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf::init {

/// Fills a new parameter (any float dtype) from a stream of random numbers.
using Initializer = std::function<void(const Tensor& parameter, const NoiseKey& key)>;

namespace detail {
/// values[i] = f(stream element i), drawn in float64 and rounded, so that float32 and float64
/// models have the same initial values. A program without arithmetic in float64 draws them block by block.
LPF_ONCE void draw(const Tensor& t, const NoiseKey& key, bool gaussian, double scale, double shift) {
  std::vector<double> values(static_cast<std::size_t>(t.numel()));
  if (const auto fill = gaussian ? backend::cpu_float64.normal : backend::cpu_float64.uniform) {
    fill(DType::float64, key, 0, t.numel(), values.data());
  } else {
    check_noise_range(key, 0, t.numel(), 2);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto block = static_cast<std::uint32_t>(i / 2);
      values[i] =
          (gaussian ? normal_block<double>(key, block) : uniform_block<double>(key, block)).value[i % 2];
    }
  }
  for (double& v : values) v = v * scale + shift;
  visit_floating("init", t.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::vector<T> rounded(values.begin(), values.end());
    t.backend().copy_from_host(t.raw(), rounded.data(), rounded.size() * sizeof(T));
  });
}
}  // namespace detail

LPF_ONCE Initializer constant(double value) {
  return
      [value](const Tensor& t, const NoiseKey&) { t.backend().fill(t.raw(), t.dtype(), t.numel(), value); };
}
LPF_ONCE Initializer zeros() { return constant(0); }
LPF_ONCE Initializer ones() { return constant(1); }
/// U(low, high).
LPF_ONCE Initializer uniform(double low, double high) {
  return [=](const Tensor& t, const NoiseKey& key) { detail::draw(t, key, false, high - low, low); };
}
/// N(mean, sd²).
LPF_ONCE Initializer normal(double mean = 0, double sd = 1) {
  return [=](const Tensor& t, const NoiseKey& key) { detail::draw(t, key, true, sd, mean); };
}

struct Fans {
  double in, out;
};
/// Inputs and outputs of one unit of a weight [out, …, in], both multiplied by
/// the size of the receptive field.
LPF_ONCE Fans fans(const Shape& shape) {
  check<ShapeError>(shape.rank() >= 2, "init", "fans need a weight of at least two axes, got ", shape);
  const auto field = static_cast<double>(shape.product(1, shape.rank() - 1));
  return {static_cast<double>(shape[shape.rank() - 1]) * field, static_cast<double>(shape[0]) * field};
}

/// PyTorch's default for weights and biases of Linear and Conv2d: U(−1/√fan_in, 1/√fan_in).
LPF_ONCE Initializer fan_in_uniform(double fan_in) {
  const double bound = fan_in > 0 ? 1 / std::sqrt(fan_in) : 0;
  return uniform(-bound, bound);
}

enum class Fan { in, out };

/// N(0, gain²/fan) (He et al. 2015); gain √2 for ReLU.
LPF_ONCE Initializer kaiming_normal(Fan mode = Fan::in, double gain = std::sqrt(2.0)) {
  return [=](const Tensor& t, const NoiseKey& key) {
    const Fans f = fans(t.shape());
    detail::draw(t, key, true, gain / std::sqrt(mode == Fan::in ? f.in : f.out), 0);
  };
}
/// U(−b, b), b = gain·√(3/fan) (He et al. 2015).
LPF_ONCE Initializer kaiming_uniform(Fan mode = Fan::in, double gain = std::sqrt(2.0)) {
  return [=](const Tensor& t, const NoiseKey& key) {
    const Fans f = fans(t.shape());
    const double bound = gain * std::sqrt(3 / (mode == Fan::in ? f.in : f.out));
    detail::draw(t, key, false, 2 * bound, -bound);
  };
}
/// N(0, 2·gain²/(fan_in + fan_out)) (Glorot & Bengio 2010).
LPF_ONCE Initializer xavier_normal(double gain = 1) {
  return [=](const Tensor& t, const NoiseKey& key) {
    const Fans f = fans(t.shape());
    detail::draw(t, key, true, gain * std::sqrt(2 / (f.in + f.out)), 0);
  };
}
/// U(−b, b), b = gain·√(6/(fan_in + fan_out)).
LPF_ONCE Initializer xavier_uniform(double gain = 1) {
  return [=](const Tensor& t, const NoiseKey& key) {
    const Fans f = fans(t.shape());
    const double bound = gain * std::sqrt(6 / (f.in + f.out));
    detail::draw(t, key, false, 2 * bound, -bound);
  };
}

}  // namespace lpf::init
