// One perturbed pass: until the end of the scope every parameter reads as M replicas θ_r = θ + s ⊙ ε_r, and
// the gradients with respect to the replicas add up to the gradient with respect to θ.
#pragma once

#include <exception>
#include <memory>
#include <vector>

#include "lpf/filter/clean.hpp"
#include "lpf/filter/pre_activation_noise.hpp"
#include "lpf/filter/replica_buffer.hpp"
#include "lpf/filter/scope_check.hpp"
#include "lpf/filter/statistics.hpp"

namespace lpf::filter {

/// The scope of a perturbed pass on this thread, opened by LowPassFilter::perturb() and SmoothOut::perturb().
class Perturbation final : public nn::ReplicaContext {
 public:
  /// `unread`, if given, becomes true if the pass ends, not by an exception, before any parameter was read.
  /// @throws StateError if a pass over `params` is open; ValueError and ShapeError for options that do not
  /// fit.
  Perturbation(const ParameterStore& params, Segments segments, const PassOptions& options,
               std::shared_ptr<bool> unread = nullptr)
      : pass_(make_pass(params, std::move(segments), options)),
        plan_(make_plan(options)),
        known_(params.parameters().size()),
        version_(params.version()),
        unread_(std::move(unread)) {
    open_pass(params, this);
  }
  ~Perturbation() override {
    close_pass(this);
    if (!used_ && unread_ && std::uncaught_exceptions() <= exceptions_) *unread_ = true;
  }
  Perturbation(const Perturbation&) = delete;
  Perturbation& operator=(const Perturbation&) = delete;

  std::int64_t M() const { return pass_.options.M; }
  double gamma() const { return pass_.options.gamma.value; }
  const NoiseKey& key() const { return pass_.options.key; }
  /// Standard deviation s of each perturbed row of θ, in the order of the store.
  const Tensor& scale() const { return pass_.scale; }

  /// Mean loss of each replica over its slice, from the losses of the samples [B].
  std::vector<double> replica_losses(const Tensor& losses) const {
    return filter::replica_losses(losses, plan_);
  }
  /// Statistics of the replicas' gradients over the perturbed parameters, after backward() in a pass that
  /// stores them. After several backward() calls: of the last.
  GradientStatistics gradient_statistics() const {
    check<StateError>(
        pass_.options.keep_replica_gradients, "gradient_statistics",
        "this pass summed its replicas' gradients: set keep_replica_gradients in the filter's options");
    return gradients_->statistics(plan_);
  }
  /// Runs f() without the perturbation, for example for the loss at θ itself. Nothing is recorded, and
  /// running statistics and random counters are restored.
  template <class F>
  auto clean(F f) const {
    const CleanScope scope(pass_.params, this);
    return f();
  }

  // --- for layers
  Tensor read(std::size_t parameter) override;
  Tensor pre_activation_noise(const Tensor& x, std::size_t weight, const std::size_t* bias) override;
  BatchNormPolicy batch_norm_policy() const override { return pass_.options.batch_norm; }
  bool shares_noise() const override { return is_flipout(pass_.options.estimator); }
  bool cuts_slice() const override { return pass_.options.cuts_slice; }
  const PlanPtr& plan() const override { return plan_; }

 private:
  /// Records a use of the pass. StateError if θ has changed since it began.
  void check_use() {
    used_ = true;
    check<StateError>(
        pass_.params.version() == version_, "perturb",
        "the parameters were updated inside this perturbed pass: end its scope, and open a new one for the "
        "next pass");
  }

  Pass pass_;                                 // θ, its perturbed rows, and s
  PlanPtr plan_;                              // the slices of the batch
  ReplicaBuffer buffer_{pass_};               // θ_r
  PreActivationNoise pre_activation_{pass_};  // Estimator::per_sample
  std::vector<Tensor> known_;                 // the value each parameter reads as
  std::shared_ptr<ReplicaGradients> gradients_ = std::make_shared<ReplicaGradients>();
  std::uint64_t version_;  // of θ
  std::shared_ptr<bool> unread_;
  int exceptions_ = std::uncaught_exceptions();
  bool used_ = false;
};

/// θ_r = θ + s ⊙ ε_r, recorded so that dL/dθ = Σ_r dL/dθ_r: s ⊙ ε_r is a constant. A parameter excluded from
/// the filter reads as θ.
inline Tensor Perturbation::read(std::size_t parameter) {
  check_use();
  const Tensor leaf = pass_.params.tensor(parameter);
  if (!pass_.segments.of(parameter)) return leaf;
  pre_activation_.check_unused(parameter);
  Tensor& known = known_[parameter];
  const bool recorded = known.defined() && known.requires_grad();
  if (recorded || (known.defined() && !is_grad_enabled())) return lpf::detail::as_operand(known);

  // [reading 5]
  Tensor replicas = buffer_.replicas(parameter);
  replicas.impl().replicas = plan_;
  const bool keep = pass_.options.keep_replica_gradients;
  replicas.impl().sum_gradient = !keep;  // an operation may add the gradients of the replicas up itself
  const auto backward = [keep, parameter, gradients = gradients_](const Tensor& g, Need) {
    if (!g.is_replicated()) return Grads{g};  // already summed
    if (keep) gradients->keep(parameter, g);
    return Grads{sum_replicas(g)};
  };
  known = record("perturb", std::move(replicas), {leaf}, backward);
  lpf::detail::set_gradient_destination(known, leaf, !keep);
  return lpf::detail::as_operand(known);
}

/// Noise on a linear layer's pre-activations instead of its weights; undefined with other estimators.
inline Tensor Perturbation::pre_activation_noise(const Tensor& x, std::size_t weight,
                                                 const std::size_t* bias) {
  if (pass_.options.estimator != Estimator::per_sample) return {};
  if (!pass_.segments.of(weight) && !(bias && pass_.segments.of(*bias))) return {};
  if (plan_->batch_is_given() && x.size(0) != plan_->batch()) return {};  // several rows a sample
  check_use();
  for (const std::size_t* parameter : {static_cast<const std::size_t*>(&weight), bias})
    if (parameter) pre_activation_.check_unused(*parameter, known_[*parameter].defined());
  plan_->slices("perturb", x.size(0));
  const Tensor noise = pre_activation_.draw(x, weight, bias);
  if (plan_->count() > 1) {  // each sample has weights of its own
    noise.impl().from_samples = true;
    noise.impl().sample_axis = 0;
  }
  return noise;
}

}  // namespace lpf::filter
