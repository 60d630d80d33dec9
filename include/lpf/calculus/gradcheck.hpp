// The checker of derivatives for every differentiable operation: compares backward with
// finite differences, in float64.
//
//   auto r = gradcheck([](auto& x) { return mul(x[0], x[1]); }, {a, b});
//   CHECK_MESSAGE(r.ok, r.message);
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "lpf/autograd/engine.hpp"
#include "lpf/backend/float64.hpp"
#include "lpf/core/gaussian.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf {

struct GradCheckOptions {
  double step = 1e-5;       ///< h: x is moved by ±h·max(1, |x|)
  double tolerance = 1e-6;  ///< two numbers a, b agree if |a − b| ≤ tolerance·max(1, |a|, |b|)
  std::uint64_t seed = 0;   ///< of the random cotangent
};

/// The result of a check. `worst` is the largest |a − b| / max(1, |a|, |b|) between backward and finite
/// differences, at element `element` of input `input` (−1 if nothing was compared).
struct GradCheckResult {
  bool ok = true;
  double worst = 0;
  int input = -1;
  std::int64_t element = -1;
  double analytic = 0, numeric = 0;
  std::string message;  ///< where and how the two differ, or a confirmation

  explicit operator bool() const { return ok; }
  friend std::ostream& operator<<(std::ostream& out, const GradCheckResult& r) { return out << r.message; }
};

/// A function of several float64 tensors with one float64 result. Integer operands are captured.
using GradCheckFunction = std::function<Tensor(const std::vector<Tensor>&)>;

namespace detail {

inline double scaled_error(double a, double b) {
  return std::abs(a - b) / std::max({1.0, std::abs(a), std::abs(b)});
}

/// True if the two are equal up to rounding: to 1e-12 of the largest element. Otherwise sets *where.
inline bool agree(const std::vector<double>& a, const std::vector<double>& b, std::size_t* where = nullptr) {
  if (a.size() != b.size()) return false;
  double largest = 1;
  for (const double v : a) largest = std::max(largest, std::isfinite(v) ? std::abs(v) : 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::abs(a[i] - b[i]) <= 1e-12 * largest || a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))
      continue;
    if (where) *where = i;
    return false;
  }
  return true;
}

inline Tensor normal_tensor(const Shape& shape, std::uint64_t seed, std::uint32_t which) {
  const Tensor out = empty(shape, {.dtype = float64});
  out.backend().normal(float64, {.seed = seed, .purpose = Purpose::user, .parameter = which}, 0, out.numel(),
                       out.raw());
  return out;
}

inline std::string element_name(const Shape& shape, std::int64_t element) {
  Shape at = shape;
  for (int i = shape.rank(); i-- > 0; element /= shape[i]) at[i] = element % shape[i];
  return concat(at, " of shape ", shape);
}

/// d⟨f(x), v⟩/dx by backward; zeros where f(x) has no history.
inline std::vector<Tensor> gradients_of(const Tensor& y, const std::vector<Tensor>& x, const Tensor& v,
                                        bool create_graph) {
  if (y.requires_grad())
    return grad(y, x, {.create_graph = create_graph, .retain_graph = true, .gradient = v});
  std::vector<Tensor> out;
  for (const Tensor& t : x) out.push_back(zeros_like(t));
  return out;
}

}  // namespace detail

/// Compares the gradient of f with central finite differences. With a random cotangent v (normal, from
/// `seed`), every element of Jᵀv for every input is compared with
///   Σ_k v_k (f_k(x + h e_i) − f_k(x − h e_i)) / 2h,
/// which has an error of about h²|f‴|/6 + 2⁻⁵³|f|/h. Also checked: each gradient has its input's shape and
/// dtype, f gives the same values twice (to 1e-12), and the gradient under create_graph (composed of
/// differentiable operations) equals the plain one (fused) to 1e-12 of its largest element. Inputs are
/// copied, and may be empty. Finite differences are meaningless at a kink, a tie or the edge of a domain:
/// keep the inputs at least a step away from them.
/// @throws DTypeError unless inputs and result are float64.
inline GradCheckResult gradcheck(const GradCheckFunction& f, const std::vector<Tensor>& inputs,
                                 const GradCheckOptions& options = {}) {
  std::vector<Tensor> leaves, moved;
  for (const Tensor& t : inputs) {
    check<DTypeError>(t.dtype() == float64, "gradcheck", "an input of shape ", t.shape(), " is ",
                      name_of(t.dtype()), ", needs float64");
    leaves.push_back(t.detach().clone().requires_grad_());
    moved.push_back(t.detach().clone());
  }
  GradCheckResult result;
  const auto failed = [&result](const auto&... what) {
    result.ok = false;
    result.message = concat("gradcheck: ", what...);
    return result;
  };

  const Tensor y = f(leaves);
  check<DTypeError>(y.dtype() == float64, "gradcheck", "the function returns ", name_of(y.dtype()),
                    ", needs float64");
  if (!detail::agree(y.to_vector(), f(moved).to_vector()))
    return failed("the function gives other values at a second call");

  const Tensor v = detail::normal_tensor(y.shape(), options.seed, 0);
  const auto plain = detail::gradients_of(y, leaves, v, false),
             graph = detail::gradients_of(y, leaves, v, true);
  for (std::size_t j = 0; j < inputs.size(); ++j) {
    const Shape& shape = inputs[j].shape();
    for (const Tensor& g : {plain[j], graph[j]})
      if (g.is_replicated() || g.shape() != shape || g.dtype() != float64)
        return failed("the gradient of input ", j, " is ", name_of(g.dtype()), " ", g.shape(),
                      g.is_replicated() ? " (replicated)" : "", ", the input float64 ", shape);
    const auto a = plain[j].to_vector(), b = graph[j].to_vector();
    std::size_t i = 0;
    if (!detail::agree(a, b, &i))
      return failed("fused and composed backward differ at input ", j, ", element ",
                    detail::element_name(shape, static_cast<std::int64_t>(i)), ": plain ", a[i],
                    ", under create_graph ", b[i], ", difference ", a[i] - b[i]);
  }

  const auto cotangent = v.to_vector();
  for (std::size_t j = 0; j < inputs.size(); ++j) {
    const auto analytic = plain[j].to_vector();
    const auto x = moved[j].to_vector();
    const auto set = [&t = moved[j]](std::size_t i, double value) {
      t.backend().fill(static_cast<double*>(t.raw()) + i, float64, 1, value);
    };
    for (std::size_t i = 0; i < analytic.size(); ++i) {
      const double here = x[i], h = options.step * std::max(1.0, std::abs(here));
      const double right = here + h, left = here - h;
      set(i, right);
      const auto above = f(moved).to_vector();
      set(i, left);
      const auto below = f(moved).to_vector();
      set(i, here);
      double numeric = 0;
      for (std::size_t k = 0; k < cotangent.size(); ++k) numeric += cotangent[k] * (above[k] - below[k]);
      numeric /= right - left;
      const double error = detail::scaled_error(analytic[i], numeric);
      if (result.input < 0 || error > result.worst || std::isnan(error)) {
        result.worst = error;
        result.input = static_cast<int>(j);
        result.element = static_cast<std::int64_t>(i);
        result.analytic = analytic[i];
        result.numeric = numeric;
      }
      if (std::isnan(error))
        return failed("NaN at input ", j, ", element ",
                      detail::element_name(inputs[j].shape(), result.element), ": backward gives ",
                      analytic[i], ", finite differences ", numeric);
    }
  }
  if (result.input < 0) {
    result.message = "gradcheck: no elements to compare";
    return result;
  }
  const std::string found =
      concat("worst at input ", result.input, ", element ",
             detail::element_name(inputs[static_cast<std::size_t>(result.input)].shape(), result.element),
             ": backward gives ", result.analytic, ", finite differences ", result.numeric, ", scaled error ",
             result.worst, ", tolerance ", options.tolerance);
  if (!(result.worst <= options.tolerance)) return failed(found);
  result.message = "gradcheck: ok, " + found;
  return result;
}

/// Compares second derivatives: gradcheck() of (x, v) ↦ Jᵀv, that is, the gradients of ⟨∇⟨f(x), v⟩, u⟩ for
/// random v and u with respect to x and to v, as backward through create_graph computes them. In the
/// result, inputs are f's, then v.
inline GradCheckResult gradgradcheck(const GradCheckFunction& f, const std::vector<Tensor>& inputs,
                                     const GradCheckOptions& options = {}) {
  std::vector<Tensor> x;
  for (const Tensor& t : inputs) x.push_back(t.detach().requires_grad_());
  x.push_back(detail::normal_tensor(f(x).shape(), options.seed, 1));
  const auto gradient = [&f](const std::vector<Tensor>& all) {
    const bool differentiable = all.back().requires_grad();  // false during finite differences
    std::vector<Tensor> leaves(all.begin(), all.end() - 1);
    if (!differentiable)
      for (Tensor& t : leaves) t = t.detach().requires_grad_();
    std::vector<Tensor> flat;
    for (const Tensor& g : detail::gradients_of(f(leaves), leaves, all.back(), differentiable))
      flat.push_back(reshape(g, {g.numel()}));
    return concatenate(flat);
  };
  GradCheckResult result = gradcheck(gradient, x, options);
  result.message = "second derivatives: " + result.message;
  return result;
}

}  // namespace lpf
