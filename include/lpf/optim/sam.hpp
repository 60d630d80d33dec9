// Sharpness-aware minimisation (Foret et al. 2021): g at θ, then e = ρ g/(‖g‖₂ + 1e-12), then the gradient at θ + e on the
// same batch, which any base optimizer takes at θ. ASAM (Kwon et al. 2021): e = ρ T²g/(‖Tg‖₂ + 1e-12), T = |θ| + η.
// Two passes. The second reads θ + e as one stored replica: θ is not written.
#pragma once

#include "lpf/autograd/engine.hpp"
#include "lpf/filter/perturbation.hpp"
#include "lpf/optim/optimizer.hpp"

namespace lpf::optim {

struct SamOptions {
  double rho = 0.05;      ///< ρ, radius of the ascent
  bool adaptive = false;  ///< ASAM
  double eta = 0.01;      ///< η of ASAM
  /// Batch norm in the second pass. `recomputed`: the batch's statistics, running ones left to the first pass (sound);
  /// `per_replica`: updated by both passes; `frozen`: running statistics used.
  BatchNormPolicy batch_norm = BatchNormPolicy::recomputed;
};

/// SAM around a base optimizer: Sam sam(params, sgd); loss = sam.step([&] { return cross_entropy(net(x), y); });
template <class Base>
class Sam {
 public:
  Sam(const ParameterStore& params, Base& base, const SamOptions& options = {}) : params_(params), base_(base), options_(options) {
    check(options.rho >= 0 && options.eta >= 0, "SAM", "rho and eta cannot be negative, got ", options.rho, " and ", options.eta);
  }

  /// One update. `loss` computes the mean loss of the batch; it is called twice. Returns the first pass's loss, at θ.
  template <class Loss>
  Tensor step(Loss loss) {
    params_.zero_grad();
    const Tensor at_theta = loss();
    at_theta.backward();
    const Tensor offset = ascent();
    params_.zero_grad();
    {
      filter::PassOptions pass{.M = 1, .batch_norm = options_.batch_norm};
      pass.offsets = offset;
      const filter::Perturbation scope(params_, filter::rows_of(params_, NoiseLaw::filter_wise, {}), pass, std::make_shared<bool>());
      loss().backward();
    }
    base_.step();
    return at_theta.detach();
  }

 private:
  /// The ascent e from the gradient, [1, size of θ].
  Tensor ascent() const {
    const auto off = no_grad();
    Tensor g = params_.gradient();
    const auto norm = [](const Tensor& v) { return std::sqrt(v.backend().dot(v.dtype(), v.numel(), v.raw(), v.raw())); };
    double length;
    if (options_.adaptive) {
      const Tensor T = affine(lpf::detail::unary(backend::Unary::absolute, params_.theta()), 1, options_.eta);
      const Tensor scaled = mul(T, g);
      length = norm(scaled);
      g = mul(T, scaled);
    } else {
      length = norm(g);
    }
    return reshape(affine(g, options_.rho / (length + 1e-12), 0), {1, g.numel()});
  }

  ParameterStore params_;
  Base& base_;
  SamOptions options_;
};

}  // namespace lpf::optim
