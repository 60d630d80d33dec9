// One perturbed pass beside the published loop of separate passes.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "lpf/filter/unfused.hpp"
#include "lpf/ops/math.hpp"
#include "tensor_test.hpp"

namespace lpf::test {

inline constexpr double exactly = 1e-12;

/// Gives all parameters random values: noise in units of a bias that is 0 would be 0.
inline void randomize(const ParameterStore& params) {
  const auto off = no_grad();
  for (const auto& info : params.parameters())
    params.tensor(info.index).copy_(0.5 * normal(info.shape, 100 + info.index));
}

/// The larger of two differences between one pass, loss(0, batch), and the published loop over its slices: that of
/// the losses, and the largest of the gradients, relative to the largest element if that is above 1.
inline double against_loop(const ParameterStore& params, const LowPassFilterOptions& options,
                           std::int64_t batch,
                           const std::function<Tensor(std::int64_t from, std::int64_t to)>& loss) {
  LowPassFilter filter(options);
  params.zero_grad();
  double value = 0;
  {
    const auto scope = filter.perturb(params, batch);
    const Tensor l = loss(0, batch);
    l.backward();
    value = l.item();
  }
  const Tensor one = params.gradient().clone();
  params.zero_grad();
  const double expected = filter::unfused_gradient(params, filter, 0, batch, loss);
  const double largest = abs(params.gradient()).max().item();
  CHECK(sum(abs(params.gradient())).item() > 0.01);
  return std::max(std::abs(value - expected),
                  largest_difference(one, params.gradient()) / std::max(1.0, largest));
}

}  // namespace lpf::test
