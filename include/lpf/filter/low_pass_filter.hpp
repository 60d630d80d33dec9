// LPF-SGD (Bisla, Wang, Choromanska, AISTATS 2022): descend the loss convolved with a Gaussian,
//   (L ⊛ K)(θ) = E L(θ + s ⊙ ε), ε ~ N(0, I),   g = Σ_r (|B_r|/|B|) ∇L(θ + s ⊙ ε_r; B_r),
// B_1 … B_M slices of the batch B, s the standard deviations (filter/law.hpp), s ⊙ ε_r the paper's τ_i.
// One line more than SGD:
//
//   LowPassFilter filter({.M = 8, .gamma = 0.06});
//   for (auto [x, y] : loader) {
//     auto scope = filter.perturb(params);      // without this line it is SGD
//     auto loss = cross_entropy(net(x), y);
//     loss.backward();
//     optimizer.step();
//   }
#pragma once

#include "lpf/filter/part.hpp"
#include "lpf/filter/perturbation.hpp"

namespace lpf {

struct LowPassFilterOptions {
  std::int64_t M = 8;            ///< replicas, one per slice of the batch
  double gamma = 5e-4;           ///< radius γ₀
  double alpha = 1;              ///< the radius grows to αγ₀ (Radius); 1: constant
  std::int64_t total_steps = 0;  ///< T of the radius schedule, optimizer updates; required unless alpha is 1
  NoiseLaw law = NoiseLaw::filter_wise;
  Estimator estimator = Estimator::replicas;
  BatchNormPolicy batch_norm = BatchNormPolicy::per_replica;
  std::uint64_t seed = 0;  ///< of the noise
  /// Which parameters are perturbed; all trainable ones if empty.
  std::function<bool(const ParameterInfo&)> include = {};
  /// Stores each replica's gradient for Perturbation::gradient_statistics(), which takes [M, d]
  /// memory and M products.
  bool keep_replica_gradients = false;
  ReplicaMemory memory = ReplicaMemory::automatic;  ///< of the perturbed copies between forward and backward
};

/// Opens perturbed passes, each with fresh noise. Its only state is the number of passes.
class LowPassFilter {
 public:
  /// @throws ValueError for options out of range.
  explicit LowPassFilter(LowPassFilterOptions options)
      : options_(std::move(options)), draws_({.seed = options_.seed, .purpose = Purpose::perturbation}) {
    check_options();
  }

  /// Opens a perturbed pass over `params`, which ends with the returned scope. θ is not changed.
  /// `batch`: the number of samples. Without it the rows of the first operand that meets a parameter are the
  /// samples, so a model that begins with folded rows, [B·L, D] for [B, L, D], needs it.
  /// StateError if a pass over `params` is already open, or if the previous one ended before any parameter was
  /// read (once: the next call succeeds); ShapeError for fewer samples than replicas.
  /// Over a part of a batch (nn::BatchPart with its `batch`) the pass evaluates those of its M replicas whose slices
  /// lie in the part, and parts of one batch share a draw. ShapeError if a slice, or a pair, is cut.
  [[nodiscard("keep the scope: auto scope = filter.perturb(params)")]] filter::Perturbation perturb(
      const ParameterStore& params, std::optional<std::int64_t> batch = {}) {
    // [reading 2]
    check_.begin("perturb", params);
    const auto part = filter::replicas_of_part("perturb", options_.M, is_paired(options_.estimator));
    const NoiseKey key = part.next(draws_);  // ε is a function of it, replica, parameter and element
    const StepScalar radius = filter::radius_of_step(radius_of(options_), params);
    return filter::Perturbation(params, filter::segments_of(params, options_.law, options_.include),
                                part.of(pass_options(key, radius, batch)), check_.unread());
  }

  /// The offsets s ⊙ ε_r of pass `draw` at the present θ, [M, size] in the order of θ, as added by perturb().
  Tensor offsets(const ParameterStore& params, std::uint64_t draw) const {
    const NoiseKey key{.seed = options_.seed, .purpose = Purpose::perturbation, .draw = draw};
    return filter::offsets(params, filter::segments_of(params, options_.law, options_.include),
                           pass_options(key, gamma(params.updates()), {}));
  }

  /// γ after `updates` optimizer updates.
  double gamma(std::uint64_t updates) const { return radius_of(options_).at(updates); }
  const LowPassFilterOptions& options() const { return options_; }
  /// Number of passes so far; set it to resume from a checkpoint or to repeat a pass.
  std::uint64_t draws() const { return draws_.count(); }
  void set_draws(std::uint64_t n) { draws_.set_count(n); }

 private:
  void check_options() const;
  static Radius radius_of(const LowPassFilterOptions& o) { return {o.gamma, o.alpha, o.total_steps}; }
  filter::PassOptions pass_options(const NoiseKey& key, const StepScalar& radius,
                                   std::optional<std::int64_t> batch) const {
    return {.M = options_.M,
            .batch = batch,
            .gamma = radius,
            .estimator = options_.estimator,
            .batch_norm = options_.batch_norm,
            .keep_replica_gradients = options_.keep_replica_gradients,
            .key = key,
            .memory = options_.memory};
  }

  LowPassFilterOptions options_;
  DrawCounter draws_;
  filter::ScopeCheck check_;
};

inline void LowPassFilter::check_options() const {
  const auto& o = options_;
  check(o.M >= 1 && o.M < 0xFFFFFF, "LowPassFilter", "M must be at least 1, got ", o.M);
  check(std::isfinite(o.gamma) && o.gamma >= 0, "LowPassFilter",
        "gamma must be finite and not negative, got ", o.gamma);
  check(std::isfinite(o.alpha) && o.alpha >= 0, "LowPassFilter",
        "alpha must be finite and not negative, got ", o.alpha);
  check(o.alpha == 1 || o.total_steps > 0, "LowPassFilter", "alpha = ", o.alpha,
        " makes the radius grow over training: total_steps, the number of optimizer updates, must be given");
  check(o.estimator != Estimator::per_sample || !o.keep_replica_gradients, "LowPassFilter",
        "keep_replica_gradients needs replicas, of which per-sample noise has none: use Estimator::replicas");
  check(!is_paired(o.estimator) || o.M % 2 == 0, "LowPassFilter",
        "antithetic draws come in pairs: M must be even, got ", o.M);
}

}  // namespace lpf
