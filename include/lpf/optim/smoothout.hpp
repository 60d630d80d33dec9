// SmoothOut (Wen et al. 2018): the gradient of the loss smoothed by a uniform distribution,
//   g = ∇L(θ + s ⊙ u),   u ~ U(−1, 1) for each element, one draw for the whole batch,
//   s = a (plain), or adaptive: a·‖w_k‖₂ for output filter k, a(‖p‖₂ + 1e-16) for biases, scales and shifts.
// Default a = 0.009 (Bisla et al. 2022). One line more than SGD, with any optimizer:
//
//   optim::SmoothOut smooth({.a = 0.009, .adaptive = true});
//   for (auto [x, y] : loader) {
//     auto scope = smooth.perturb(params);
//     cross_entropy(net(x), y).backward();
//     optimizer.step();
//   }
#pragma once

#include <functional>

#include "lpf/backend/capture.hpp"
#include "lpf/filter/part.hpp"
#include "lpf/filter/perturbation.hpp"

namespace lpf::optim {

struct SmoothOutOptions {
  double a = 0.009;       ///< a, half the width of the distribution
  bool adaptive = false;  ///< in proportion to the norm of each filter
  std::int64_t M = 1;     ///< draws, each for one of M consecutive slices of the batch
  /// Per slice. With M = 1 the slice is the batch: `per_replica` is ordinary batch norm with
  /// weights θ + s ⊙ u.
  BatchNormPolicy batch_norm = BatchNormPolicy::per_replica;
  std::uint64_t seed = 0;  ///< of the noise
  /// Which parameters are perturbed; all trainable ones if empty.
  std::function<bool(const ParameterInfo&)> include = {};
  /// u of pass `draw`, [M, size of θ] in the order of θ, to reproduce a run of another program; drawn from
  /// the seed if empty.
  std::function<Tensor(std::uint64_t draw)> noise = {};
};

/// Opens perturbed passes, each with fresh noise. Its only state is the number of passes.
class SmoothOut {
 public:
  explicit SmoothOut(SmoothOutOptions options = {}) : options_(std::move(options)), draws_(key(0)) {
    check(std::isfinite(options_.a) && options_.a >= 0, "SmoothOut",
          "a must be finite and not negative, got ", options_.a);
    check(options_.M >= 1 && options_.M < 0xFFFFFF, "SmoothOut", "M must be at least 1, got ", options_.M);
  }

  /// Opens a perturbed pass over `params`, which ends with the returned scope. θ is not changed. `batch`: the
  /// number of samples, as in LowPassFilter::perturb().
  /// StateError if one is already open, or if the previous one ended before any parameter was read (once:
  /// the next call succeeds).
  [[nodiscard("keep the scope: auto scope = smooth.perturb(params)")]] filter::Perturbation perturb(
      const ParameterStore& params, std::optional<std::int64_t> batch = {}) {
    check_.begin("SmoothOut", params);
    const auto part = filter::replicas_of_part("SmoothOut", options_.M);
    filter::PassOptions pass{.M = options_.M, .batch = batch, .batch_norm = options_.batch_norm};
    const Tensor given = given_noise(params, part.later ? draws() - 1 : draws());
    pass.perturbations = narrow(offsets(params, part.next(draws_), given), 0, part.first, part.count);
    return filter::Perturbation(params, rows(params), part.of(pass), check_.unread());
  }

  /// The offsets s ⊙ u of pass `draw` at the present θ, [M, size of θ], as added by perturb().
  Tensor offsets(const ParameterStore& params, std::uint64_t draw) const {
    return offsets(params, key(draw), given_noise(params, draw));
  }

  const SmoothOutOptions& options() const { return options_; }
  /// Number of passes so far; set it to resume from a checkpoint or to repeat a pass.
  std::uint64_t draws() const { return draws_.count(); }
  void set_draws(std::uint64_t n) { draws_.set_count(n); }

 private:
  NoiseKey key(std::uint64_t draw) const { return {options_.seed, Purpose::perturbation, draw, 0, 0}; }
  filter::Segments rows(const ParameterStore& params) const {
    return filter::segments_of(params, NoiseLaw::filter_wise, options_.include);
  }

  /// The user's u, checked; undefined if there is none.
  Tensor given_noise(const ParameterStore& params, std::uint64_t draw) const {
    if (!options_.noise) return {};
    check_not_captured("SmoothOut with noise of your own");
    const Tensor given = options_.noise(draw);
    const Shape shape{options_.M, params.theta().numel()};
    check<ShapeError>(!given.defined() || given.shape() == shape, "SmoothOut", "noise of M = ", options_.M,
                      " draws needs shape ", shape, ", got ", given.defined() ? given.shape() : Shape());
    return given;
  }

  Tensor offsets(const ParameterStore& params, const NoiseKey& draw, const Tensor& given) const {
    const auto off = no_grad();
    const filter::Segments own = rows(params);
    const Tensor theta = params.theta();
    const Shape shape{options_.M, theta.numel()};
    const Tensor scale = options_.adaptive ? filter::scales(params, own, options_.a)
                                           : full({own.rows}, options_.a, theta.options());
    const Tensor out = zeros(shape, theta.options());
    for (const auto& s : own.segments)
      for (std::int64_t r = 0; r < options_.M; ++r) {
        const Shape matrix{s.rows, s.length};
        const std::int64_t at = r * theta.numel() + s.offset;
        const Tensor u =
            given.defined() ? given.to(theta.dtype()).alias(matrix, at) : uniform(theta, draw, r, s);
        out.alias(matrix, at).copy_(mul(u, reshape(narrow(scale, 0, s.first_scale, s.rows), {s.rows, 1})));
      }
    return out;
  }

  /// U(−1, 1) for the elements of one parameter.
  static Tensor uniform(const Tensor& like, NoiseKey key, std::int64_t replica, const backend::Segment& s) {
    const Tensor u = empty({s.rows, s.length}, like.options());
    key.replica = static_cast<std::uint32_t>(replica);
    key.parameter = s.parameter;
    u.backend().uniform(u.dtype(), key, 0, u.numel(), u.raw());
    return affine(u, 2, -1);
  }

  SmoothOutOptions options_;
  DrawCounter draws_;
  filter::ScopeCheck check_;
};

}  // namespace lpf::optim
