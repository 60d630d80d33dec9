// Products with the Hessian of the mean loss over all samples, in units of the filters:
//
//   v ↦ C H C v,    H v = (1/N) Σ_b N_b H_b v
//
// exact (calculus/hvp.hpp), batches weighted by their number of samples. If all samples are one batch, its
// graph is recorded once; otherwise each product records the batches again, one at a time. In both cases
// memory does not grow with the number of products.
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

  /// C H C v, v a vector over θ.
  LPF_ONCE Tensor operator()(const Tensor& v) const {
    const Tensor out = zeros_like(landscape_.units());
    const auto direction = landscape_.parts_of(mul(v, landscape_.units()));
    const std::int64_t N = landscape_.samples(), n = landscape_.options().samples;
    for (std::int64_t at = 0; at < N; at += n) {
      const double share = static_cast<double>(std::min(n, N - at)) / static_cast<double>(N);
      landscape_.add_parts(kept_ ? (*kept_)(direction) : (*record(at))(direction), share, out);
    }
    return mul(out, landscape_.units());
  }

  const Landscape& landscape() const { return landscape_; }

 private:
  LPF_ONCE std::unique_ptr<HessianVectorProduct> record(std::int64_t at) const {
    const EvalMode eval(landscape_.params());
    const GradMode on(true);
    return std::make_unique<HessianVectorProduct>(mean(landscape_.part(at, landscape_.options().samples)),
                                                  landscape_.params().leaves());
  }

  const Landscape& landscape_;
  std::unique_ptr<HessianVectorProduct> kept_;
};

}  // namespace lpf::sharpness
