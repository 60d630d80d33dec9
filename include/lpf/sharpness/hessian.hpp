// Products with the Hessian of the mean loss over all samples, in units of the filters:
//
//   v ↦ C H C v,    H v = (1/N) Σ_b N_b H_b v
//
// exact (calculus/hvp.hpp), batches weighted by their number of samples. If all samples are one batch, its
// graph is recorded once; otherwise each product records the batches again, one at a time. In both cases
// memory does not grow with the number of products. Several processes share the batches.
#pragma once

#include <memory>

#include "lpf/calculus/hvp.hpp"
#include "lpf/sharpness/landscape.hpp"

namespace lpf::sharpness {

class Hessian {
 public:
  /// The landscape must outlive it; its weights must not change.
  explicit Hessian(const Landscape& landscape) : landscape_(landscape) {
    if (landscape.samples() <= landscape.options().samples) kept_ = record(0);
  }

  /// C H C v, v a vector over θ. Ranks share the batches; all call it.
  Tensor operator()(const Tensor& v) const { return product(v, is_shared()); }
  /// The same, by this process alone.
  Tensor alone(const Tensor& v) const { return product(v, false); }
  /// Whether ranks share a product, and so make each together.
  bool is_shared() const { return landscape_.ranks().size > 1 && !kept_; }

  const Landscape& landscape() const { return landscape_; }

 private:
  LPF_ONCE Tensor product(const Tensor& v, bool shared) const {
    const Tensor out = zeros_like(landscape_.units());
    const auto direction = landscape_.parts_of(mul(v, landscape_.units()));
    const auto add = [&](std::int64_t b, double factor, const Tensor& to) {
      landscape_.add_parts(kept_ ? (*kept_)(direction) : (*record(b))(direction), factor, to);
      return Ranks::Numbers{};
    };
    if (shared)
      landscape_.add_in_order(
          landscape_.batches(), [this](std::int64_t b) { return share(b); }, add, out);
    else
      for (std::int64_t b = 0; b < landscape_.batches(); ++b) add(b, share(b), out);
    return mul(out, landscape_.units());
  }
  /// Batch b's part of the samples.
  LPF_ONCE double share(std::int64_t b) const {
    const std::int64_t N = landscape_.samples(), n = landscape_.options().samples;
    return static_cast<double>(std::min(n, N - b * n)) / static_cast<double>(N);
  }
  LPF_ONCE std::unique_ptr<HessianVectorProduct> record(std::int64_t b) const {
    const EvalMode eval(landscape_.params());
    const GradMode on(true);
    const std::int64_t n = landscape_.options().samples;
    return std::make_unique<HessianVectorProduct>(mean(landscape_.part(b * n, n)),
                                                  landscape_.params().leaves());
  }

  const Landscape& landscape_;
  std::unique_ptr<HessianVectorProduct> kept_;
};

}  // namespace lpf::sharpness
