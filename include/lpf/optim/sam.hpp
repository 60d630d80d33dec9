// Sharpness-aware minimisation (Foret et al. 2021), two passes per update:
//   1. g = ∇L(θ);   e = ρ g/(‖g‖₂ + 1e-12), or ρ T²g/(‖Tg‖₂ + 1e-12), T = |θ| + η (ASAM, Kwon et al. 2021)
//   2. the gradient at θ + e on the same batch, which any base optimizer applies at θ
// m-sharpness (Foret et al., section 4.2): the batch is cut into slices, each with an ascent by its own
// gradient; still two passes. The second pass reads θ + e as stored replicas: θ is not written.
//
//   optim::SGD sgd(params, {.lr = 0.1, .momentum = 0.9, .weight_decay = 5e-4});
//   optim::SAM sam(params, sgd, {.rho = 0.05});
//   for (auto [x, y] : loader) sam.step([&, x = x, y = y] { return cross_entropy(net(x), y); });
//
// Weight decay, groups and the schedule are the base's; neither norm includes the decay.
#pragma once

#include <limits>
#include <type_traits>

#include "lpf/autograd/engine.hpp"
#include "lpf/filter/part.hpp"
#include "lpf/filter/perturbation.hpp"
#include "lpf/optim/clip.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct SAMOptions {
  double rho = 0.05;      ///< ρ, radius of the ascent
  bool adaptive = false;  ///< ASAM
  double eta = 0.01;      ///< η of ASAM
  /// Consecutive slices of the batch, each with its own ascent: replicas, which take [slices,
  /// size of θ] of memory.
  std::int64_t slices = 1;
  /// Batch norm in the second pass. `recomputed`: batch statistics; running ones are updated by the first
  /// pass only (sound); `per_replica`: updated by both passes; `frozen`: running statistics are used.
  BatchNormPolicy batch_norm = BatchNormPolicy::recomputed;
  /// Number of equal parts of a batch too large for one pass: step() then takes loss(k), the
  /// mean loss of part k.
  std::int64_t accumulate = 1;
  double clip_norm = 0;  ///< of the gradient applied by the base, as in clip_grad_norm(); 0: no limit
};
using SamOptions [[deprecated("use SAMOptions")]] = SAMOptions;

/// SAM around a base optimizer.
template <class Base>
class SAM {
 public:
  SAM(const ParameterStore& params, Base& base, const SAMOptions& options = {})
      : params_(params), base_(base), options_(options) {
    check(options.rho >= 0 && std::isfinite(options.rho) && options.eta >= 0 && std::isfinite(options.eta),
          "SAM", "rho and eta must be finite and not negative, got ", options.rho, " and ", options.eta);
    check(options.slices >= 1 && options.accumulate >= 1, "SAM",
          "slices and accumulate must be at least 1, got ", options.slices, " and ", options.accumulate);
    check(std::isfinite(options.clip_norm) && options.clip_norm >= 0, "SAM",
          "clip_norm must be finite and not negative, got ", options.clip_norm);
  }

  /// Performs one update. loss() computes the mean loss of the batch, or loss(k) that of its part k; each is
  /// called twice. Returns the first pass's loss, at θ. If it throws, θ is unchanged and the gradient zero.
  /// StateError if there is a gradient already. `batch`: the number of samples that one call of loss() sees,
  /// as in LowPassFilter::perturb().
  template <class Loss>
  Tensor step(Loss loss, std::optional<std::int64_t> batch = {}) {
    run_and_replay([this] {
      check<StateError>(
          !params_.has_gradient(), "SAM",
          "there is a gradient already, of a backward() before, which its two passes cannot be added "
          "to: give it the parts of a batch by accumulate = N and step([&](auto k) { loss of part k }), "
          "or clear it with params.zero_grad()");
    });
    Tensor at_theta;
    try {
      at_theta = options_.slices == 1 ? gradient_of_whole(loss) : gradient_by_slice(loss, batch);
    } catch (...) {
      params_.zero_grad();
      throw;
    }
    if (options_.clip_norm > 0) clip_grad_norm(params_, options_.clip_norm);
    base_.step();
    return at_theta;
  }

 private:
  struct Ascent {
    Tensor loss, offsets;  // offsets: [slices, size of θ]
  };

  /// The ascent from the gradient over all parts.
  template <class Loss>
  Tensor gradient_of_whole(Loss& loss) const {
    const Tensor at_theta = params_.gradient_in_parts([&] {
      Tensor total;
      for (std::int64_t k = 0; k < options_.accumulate; ++k) total = add_part(total, backward(loss, k));
      return total;
    });
    const Tensor point = ascent(params_.gradient(), params_.theta());
    params_.zero_grad();
    params_.gradient_in_parts([&] {
      for (std::int64_t k = 0; k < options_.accumulate; ++k) {
        filter::PassOptions pass{.M = 1, .batch_norm = options_.batch_norm};
        pass.point = point;
        const auto scope = pass_with(pass);
        backward(loss, k);
      }
      return at_theta;
    });
    return at_theta;
  }

  template <class Loss>
  Tensor gradient_by_slice(Loss& loss, std::optional<std::int64_t> batch) const {
    return params_.gradient_in_parts([&] { return gradient_of_slices(loss, batch); });
  }
  template <class Loss>
  Tensor gradient_of_slices(Loss& loss, std::optional<std::int64_t> batch) const {
    Tensor total;
    for (std::int64_t k = 0; k < options_.accumulate; ++k) {
      const auto [at_theta, offsets] = ascend_by_slice(loss, k, batch);
      const auto scope = pass_at(offsets, options_.batch_norm, batch);
      backward(loss, k);
      total = add_part(total, at_theta);
    }
    return total;
  }

  double share() const { return 1.0 / static_cast<double>(options_.accumulate); }

  template <class Loss>
  Tensor loss_of(Loss& loss, std::int64_t k) const {
    if constexpr (std::is_invocable_v<Loss&, std::int64_t>) {
      return loss(k);
    } else {
      check(options_.accumulate == 1, "SAM", "accumulate is ", options_.accumulate,
            ": the loss must take the number of the part, step([&](auto k) { loss of part k })");
      return loss();
    }
  }

  /// Adds the gradient of part k; returns its loss.
  template <class Loss>
  Tensor backward(Loss& loss, std::int64_t k) const {
    const Tensor l = loss_of(loss, k);
    l.backward(full_like(l, share()));
    return l;
  }
  /// The sum with a part's share of the loss; `total` is undefined before the first part.
  Tensor add_part(const Tensor& total, const Tensor& loss) const {
    Tensor part = mean_replicas(loss.detach());
    if (options_.accumulate > 1) part = affine(part, share(), 0);
    return total.defined() ? add(total, part) : part;
  }

  /// The first pass reads θ as replicas without offset, so that each slice has its own gradient, dL/dθ_r. Its
  /// factor, the slice's share of the batch, does not affect the direction.
  template <class Loss>
  Ascent ascend_by_slice(Loss& loss, std::int64_t k, std::optional<std::int64_t> batch) const {
    const std::int64_t m = filter::replicas_of_part("SAM", options_.slices).count,
                       size = params_.theta().numel();
    auto scope =
        pass_at(zeros({m, size}, params_.theta().options()), BatchNormPolicy::per_replica, batch, true);
    std::vector<const ParameterInfo*> infos;
    std::vector<Tensor> replicas;
    for (const ParameterInfo& info : params_.parameters()) {
      if (!info.trainable || info.numel() == 0) continue;
      infos.push_back(&info);
      replicas.push_back(scope.read(info.index));
    }
    const Tensor at_theta = loss_of(loss, k);
    const auto gradients = grad(at_theta, replicas);
    const auto off = no_grad();
    const Tensor offsets = zeros({m, size}, params_.theta().options());
    for (std::int64_t r = 0; r < m; ++r) {
      const Tensor g = zeros({size}, offsets.options());
      for (std::size_t i = 0; i < infos.size(); ++i) {
        if (!gradients[i].is_replicated()) continue;  // the loss does not use it
        const std::int64_t n = infos[i]->numel();
        g.alias({n}, infos[i]->offset).copy_(lpf::detail::remove_replica_dim(gradients[i]).alias({n}, r * n));
      }
      offsets[r].copy_(ascent(g));
    }
    return {at_theta, offsets};
  }

  /// A pass in which slice r reads θ + offsets[r].
  filter::Perturbation pass_at(const Tensor& offsets, BatchNormPolicy batch_norm,
                               std::optional<std::int64_t> batch, bool keep_gradients = false) const {
    filter::PassOptions pass{.M = offsets.size(0),
                             .batch = batch,
                             .batch_norm = batch_norm,
                             .keep_replica_gradients = keep_gradients};
    pass.perturbations = offsets;
    return pass_with(pass);
  }
  filter::Perturbation pass_with(const filter::PassOptions& pass) const {
    const auto part = filter::replicas_of_part("SAM", options_.slices);
    return filter::Perturbation(params_, filter::segments_of(params_, NoiseLaw::filter_wise, {}),
                                part.of(pass));
  }

  /// from + e, e the ascent from a gradient, all in θ's layout; e alone if `from` is undefined.
  Tensor ascent(const Tensor& g, const Tensor& from = {}) const {
    const auto off = no_grad();
    Tensor direction = g, v = g;  // e = ρ·direction/(‖v‖₂ + 1e-12)
    if (options_.adaptive) {
      const Tensor T = affine(lpf::detail::unary(backend::Unary::absolute, params_.theta()), 1, options_.eta);
      v = mul(T, g);
      direction = mul(T, v);
    }
    const Tensor e = empty_like(g);
    g.backend().rescale(g.dtype(), g.numel(), options_.rho, 1e-12, std::numeric_limits<double>::infinity(),
                        v.raw(), direction.raw(), from.defined() ? from.raw() : nullptr, e.raw(), nullptr);
    return e;
  }

  ParameterStore params_;
  Base& base_;
  SAMOptions options_;
};

#ifdef __GNUC__
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#endif
template <class Base>
class [[deprecated("use SAM")]] Sam : public SAM<Base>{
  public : Sam(const ParameterStore& params, Base& base, const SAMOptions& options = {}) :
      SAM<Base>(params, base, options){}
};
#ifdef __GNUC__
#  pragma GCC diagnostic pop
#endif

}  // namespace lpf::optim
