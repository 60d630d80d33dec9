// Exact products with the Hessian, without forming it:
//
//   H v = ∇⟨∇L, v⟩    (Pearlmutter, "Fast exact multiplication by the Hessian", 1994)
//
// One backward records the graph of the gradient; each product is one more backward through it.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <span>
#include <vector>

#include "lpf/autograd/engine.hpp"
#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/reduce.hpp"

namespace lpf {

/// v ↦ H v for the Hessian H of a scalar loss with respect to a list of tensors, concatenated to one
/// vector. Stores the graph of the gradient, so that each of many products (Lanczos, conjugate
/// gradients) costs one backward:
///
///   const HessianVectorProduct h(loss, parameters);
///   for (…) v = h(v);
///
/// The loss's graph is retained too; the leaves' own gradients are not changed. After an in-place change of a
/// parameter the next product throws StateError.
class HessianVectorProduct {
 public:
  /// @throws ShapeError unless the loss has one element; StateError if an input, or the loss, has no history.
  HessianVectorProduct(const Tensor& loss, std::span<const Tensor> inputs)
      : inputs_(inputs.begin(), inputs.end()), gradient_(grad(loss, inputs, {.create_graph = true})) {}
  HessianVectorProduct(const Tensor& loss, std::initializer_list<Tensor> inputs)
      : HessianVectorProduct(loss, std::span(inputs.begin(), inputs.size())) {}

  /// H v, one tensor per input; v has the inputs' shapes and dtypes. No history.
  /// @throws ShapeError, DTypeError if v does not fit the inputs.
  std::vector<Tensor> operator()(std::span<const Tensor> v) const {
    check<ShapeError>(v.size() == inputs_.size(), "hvp", "the vector has ", v.size(), " parts for ",
                      inputs_.size(), " inputs");
    std::vector<Tensor> product(inputs_.size());
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      check<ShapeError>(v[i].shape() == inputs_[i].shape(), "hvp", "part ", i, " of the vector has shape ",
                        v[i].shape(), ", the input ", inputs_[i].shape());
      check<DTypeError>(v[i].dtype() == inputs_[i].dtype(), "hvp", "part ", i, " of the vector is ",
                        name_of(v[i].dtype()), ", the input ", name_of(inputs_[i].dtype()));
    }
    Tensor along;  // ⟨∇L, v⟩, over the parts that depend on the inputs
    {
      const GradMode on(true);
      for (std::size_t i = 0; i < inputs_.size(); ++i) {
        if (!gradient_[i].requires_grad()) continue;
        const Tensor part = sum(mul(gradient_[i], v[i].detach()));
        along = along.defined() ? add(along, part) : part;
      }
    }
    if (along.defined()) return grad(along, inputs_, {.retain_graph = true});
    std::transform(inputs_.begin(), inputs_.end(), product.begin(), zeros_like);  // L is linear: H = 0
    return product;
  }
  std::vector<Tensor> operator()(std::initializer_list<Tensor> v) const {
    return (*this)(std::span(v.begin(), v.size()));
  }

  /// ∇L, computed by the constructor.
  std::vector<Tensor> gradient() const {
    std::vector<Tensor> out;
    for (const Tensor& g : gradient_) out.push_back(g.detach());
    return out;
  }

 private:
  std::vector<Tensor> inputs_;
  std::vector<Tensor> gradient_;
};

/// H v for one v: the product of the Hessian of `loss` with respect to `inputs` and a vector given in parts
/// of the inputs' shapes. The loss's graph is retained. For many v use one HessianVectorProduct.
inline std::vector<Tensor> hvp(const Tensor& loss, std::span<const Tensor> inputs,
                               std::span<const Tensor> v) {
  return HessianVectorProduct(loss, inputs)(v);
}
inline std::vector<Tensor> hvp(const Tensor& loss, std::initializer_list<Tensor> inputs,
                               std::initializer_list<Tensor> v) {
  return HessianVectorProduct(loss, inputs)(v);
}

}  // namespace lpf
