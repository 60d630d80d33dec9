// Flipout (Wen, Vicol, Ba, Tran, Grosse, ICLR 2018): one draw of noise serves all replicas of a pass,
//   θ_r = θ + s ⊙ ε ⊙ a_r b_rᵀ,
// a_r a random sign for each output unit of a parameter (its first axis: filters; tokens of an embedding), b_r one
// for each input unit (its last axis: channels, the same at all taps; features). A parameter of one axis has an
// independent sign for each element. A sign times a Gaussian is a Gaussian, so every replica has the law N(0, Σ).
// Two replicas are uncorrelated, but share |ε|.
#pragma once

#include <vector>

#include "lpf/filter/options.hpp"

namespace lpf::filter {

/// The noise of a pass with Estimator::flipout or flipout_pairs, and the signs of its replicas.
class FlipoutNoise {
 public:
  LPF_ONCE explicit FlipoutNoise(const Pass& pass) : pass_(pass), theta_(pass.params.theta()) {
    noise_ = empty({theta_.numel()}, theta_.options());
    std::vector<std::int64_t> places;
    std::int64_t size = 0;
    for (const backend::Segment& s : pass.segments.segments) {
      places.push_back(s.offset);
      sign_place_.push_back(size);
      size += pass.options.M * (s.rows + s.inputs);
    }
    const auto count = std::ssize(places);
    const backend::Segment* segments = pass.segments.segments.data();
    NoiseKey key = pass.options.key;
    key.replica = 0;  // one draw for all replicas, also where this pass evaluates some of them
    theta_.backend().perturb(theta_.dtype(), segments, places.data(), count, key, nullptr, pass.scale.raw(),
                             1, false, theta_.dtype(), noise_.raw());
    signs_ = empty({size}, theta_.options());
    key.purpose = Purpose::signs;
    key.replica = pass.options.key.replica;
    theta_.backend().draw_signs(theta_.dtype(), segments, sign_place_.data(), count, key, pass.options.M,
                                is_paired(pass.options.estimator), signs_.raw());
  }

  /// Writes the replicas of some parameters, or with `origin` their offsets from θ alone (zeros of θ's length),
  /// to their places.
  LPF_ONCE void write(const std::vector<backend::Segment>& segments, const std::vector<std::int64_t>& places,
                      const Tensor& origin, const Tensor& to) const {
    std::vector<std::int64_t> signs;
    for (const backend::Segment& s : segments) signs.push_back(place_of_signs(s));
    theta_.backend().flip(theta_.dtype(), segments.data(), places.data(), signs.data(), std::ssize(segments),
                          origin.raw(), noise_.raw(), signs_.raw(), pass_.options.M, to.dtype(), to.raw());
  }

  Tensor noise_of(const backend::Segment& s) const { return noise_.alias({s.rows * s.length}, s.offset); }
  Tensor signs_of(const backend::Segment& s) const {
    return signs_.alias({pass_.options.M * (s.rows + s.inputs)}, place_of_signs(s));
  }

 private:
  std::int64_t place_of_signs(const backend::Segment& s) const {
    return sign_place_[static_cast<std::size_t>(pass_.segments.segment_of[s.parameter])];
  }

  const Pass& pass_;
  Tensor theta_, noise_, signs_;  // noise s ⊙ ε in the order of θ
  std::vector<std::int64_t> sign_place_;
};

}  // namespace lpf::filter
