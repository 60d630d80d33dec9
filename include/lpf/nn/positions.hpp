// Positions of sequences: fixed waves, and learned rows.
#pragma once

#include <cmath>

#include "lpf/backend/float64.hpp"
#include "lpf/nn/embedding.hpp"
#include "lpf/ops/math.hpp"
#include "lpf/ops/scan.hpp"

namespace lpf {

/// Positions first … first + length − 1 as waves (Vaswani et al. 2017), [length, dim]: columns 2i and 2i + 1 are the sine
/// and the cosine of position/10000^(2i/dim), computed in double, on the device.
/// @throws ValueError for a negative size or dim < 1.
LPF_ONCE Tensor sinusoidal_positions(std::int64_t length, std::int64_t dim, const TensorOptions& options = {},
                                     std::int64_t first = 0) {
  check(length >= 0 && first >= 0 && dim > 0, "sinusoidal_positions",
        "needs length ≥ 0, first ≥ 0 and dim > 0, got ", length, ", ", first, " and ", dim);
  const auto count = [&](std::int64_t n) { return detail::positions(n, options.device).to(float64); };
  const std::int64_t pairs = (dim + 1) / 2;
  const Tensor rate = exp(count(pairs) * (-2 * std::log(10000.0) / static_cast<double>(dim)));
  const Tensor angle = reshape(count(length) + static_cast<double>(first), {length, 1}) * rate;
  return slice(reshape(stack({sin(angle), cos(angle)}, 2), {length, 2 * pairs}), 1, 0, dim).to(options.dtype);
}

namespace nn {

/// x + sinusoidal_positions: x [B, L, dim], whose first position is `first`.
struct SinusoidalPositions {
  Tensor operator()(const Tensor& x, std::int64_t first = 0) const {
    check<ShapeError>(x.rank() == 3, "SinusoidalPositions", "needs sequences [B, L, dim], got ", x.shape());
    return x + sinusoidal_positions(x.size(1), x.size(2), x.options(), first);
  }
};

/// x + learned rows, one for each position below `most`, in a weight [most, dim]: x [B, L, dim]. Initial values N(0, 1),
/// as of Embedding.
struct LearnedPositions {
  Embedding embedding;

  LearnedPositions(const Path& p, std::int64_t most, std::int64_t dim, const EmbeddingOptions& options = {})
      : embedding(p, most, dim, options) {}

  /// @throws IndexError for positions beyond the table.
  Tensor operator()(const Tensor& x, std::int64_t first = 0) const {
    check<ShapeError>(x.rank() == 3, "LearnedPositions", "needs sequences [B, L, dim], got ", x.shape());
    return x + embedding.rows(
                   affine(lpf::detail::positions(x.size(1), x.device()), 1, static_cast<double>(first)));
  }
};

}  // namespace nn

}  // namespace lpf
