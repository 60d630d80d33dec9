// Sharpness-aware minimisation (Foret et al. 2021): g at θ, then e = ρ g/(‖g‖₂ + 1e-12), then the gradient at
// θ + e on the same batch, which any base optimizer takes at θ. ASAM (Kwon et al. 2021): e = ρ T²g/(‖Tg‖₂ +
// 1e-12), T = |θ| + η. m-sharpness (Foret et al., section 4.2): the batch is cut into slices, and each
// ascends by its own gradient. Two passes, however many slices. The second reads θ + e as stored replicas: θ
// is not written.
#pragma once

#include "lpf/autograd/engine.hpp"
#include "lpf/filter/perturbation.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct SamOptions {
  double rho = 0.05;      ///< ρ, radius of the ascent
  bool adaptive = false;  ///< ASAM
  double eta = 0.01;      ///< η of ASAM
  /// Consecutive slices of the batch, each with an ascent of its own: replicas, which take [slices, size of
  /// θ] of memory.
  std::int64_t slices = 1;
  /// Batch norm in the second pass. `recomputed`: the batch's statistics, running ones left to the first pass
  /// (sound); `per_replica`: updated by both passes; `frozen`: running statistics used.
  BatchNormPolicy batch_norm = BatchNormPolicy::recomputed;
};

/// SAM around a base optimizer: Sam sam(params, sgd); loss = sam.step([&] { return cross_entropy(net(x), y);
/// });
template <class Base>
class Sam {
 public:
  Sam(const ParameterStore& params, Base& base, const SamOptions& options = {})
      : params_(params), base_(base), options_(options) {
    check(options.rho >= 0 && std::isfinite(options.rho) && options.eta >= 0 && std::isfinite(options.eta),
          "SAM", "rho and eta must be finite and not negative, got ", options.rho, " and ", options.eta);
    check(options.slices >= 1, "SAM", "slices must be at least 1, got ", options.slices);
  }

  /// One update. `loss` computes the mean loss of the batch; it is called twice. Returns the first pass's
  /// loss, at θ.
  template <class Loss>
  Tensor step(Loss loss) {
    params_.zero_grad();
    const auto [at_theta, offsets] = options_.slices == 1 ? ascend(loss) : ascend_by_slice(loss);
    params_.zero_grad();
    {
      const auto scope = pass_at(offsets, options_.batch_norm);
      loss().backward();
    }
    base_.step();
    return at_theta.detach();
  }

 private:
  struct Ascent {
    Tensor loss, offsets;  // offsets: [slices, size of θ]
  };

  template <class Loss>
  Ascent ascend(Loss& loss) const {
    const Tensor at_theta = loss();
    at_theta.backward();
    return {at_theta, reshape(ascent(params_.gradient()), {1, params_.gradient().numel()})};
  }

  /// The first pass reads θ as replicas without offset, so that each slice has its own gradient, dL/dθ_r;
  /// that it carries the slice's share of the batch does not matter to its direction.
  template <class Loss>
  Ascent ascend_by_slice(Loss& loss) const {
    const std::int64_t m = options_.slices, size = params_.theta().numel();
    auto scope = pass_at(zeros({m, size}, params_.theta().options()), BatchNormPolicy::per_replica, true);
    std::vector<const ParameterInfo*> infos;
    std::vector<Tensor> replicas;
    for (const ParameterInfo& info : params_.parameters()) {
      if (!info.trainable || info.numel() == 0) continue;
      infos.push_back(&info);
      replicas.push_back(scope.read(info.index));
    }
    const Tensor at_theta = loss();
    const auto gradients = grad(at_theta, replicas);
    const auto off = no_grad();
    const Tensor offsets = zeros({m, size}, params_.theta().options());
    for (std::int64_t r = 0; r < m; ++r) {
      const Tensor g = zeros({size}, offsets.options());
      for (std::size_t i = 0; i < infos.size(); ++i) {
        if (!gradients[i].is_replicated()) continue;  // the loss does not use it
        const std::int64_t n = infos[i]->numel();
        g.alias({n}, infos[i]->offset).copy_(lpf::detail::unhide(gradients[i]).alias({n}, r * n));
      }
      offsets[r].copy_(ascent(g));
    }
    return {at_theta, offsets};
  }

  /// A pass in which slice r reads θ + offsets[r].
  filter::Perturbation pass_at(const Tensor& offsets, BatchNormPolicy batch_norm,
                               bool keep_gradients = false) const {
    filter::PassOptions pass{
        .M = offsets.size(0), .batch_norm = batch_norm, .keep_replica_gradients = keep_gradients};
    pass.offsets = offsets;
    return filter::Perturbation(params_, filter::rows_of(params_, NoiseLaw::filter_wise, {}), pass,
                                std::make_shared<bool>());
  }

  /// The ascent e from a gradient, both of θ's layout.
  Tensor ascent(Tensor g) const {
    const auto off = no_grad();
    const auto norm = [](const Tensor& v) {
      return std::sqrt(v.backend().dot(v.dtype(), v.numel(), v.raw(), v.raw()));
    };
    double length;
    if (options_.adaptive) {
      const Tensor T = affine(lpf::detail::unary(backend::Unary::absolute, params_.theta()), 1, options_.eta);
      const Tensor scaled = mul(T, g);
      length = norm(scaled);
      g = mul(T, scaled);
    } else {
      length = norm(g);
    }
    return affine(g, options_.rho / (length + 1e-12), 0);
  }

  ParameterStore params_;
  Base& base_;
  SamOptions options_;
};

}  // namespace lpf::optim
