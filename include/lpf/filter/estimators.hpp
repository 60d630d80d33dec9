// The estimators of the smoothed gradient.
#pragma once

#include <string>
#include <vector>

namespace lpf {

/// Estimators of the smoothed gradient; each takes one pass and is unbiased.
enum class Estimator {
  replicas,    ///< M draws, slice r of the batch reads θ_r (the definition)
  antithetic,  ///< M/2 draws, each with both signs on two slices: half the random numbers; M even
  per_sample,  ///< linear layers on [B, in] draw noise on pre-activations: in law a fresh ε per sample
  flipout,  ///< one draw, and signs a_r, b_r of outputs and inputs: θ_r = θ + s ⊙ ε ⊙ a_r b_rᵀ; any M ≤ B
  flipout_pairs,  ///< the same with the offset of slice 2j + 1 opposite to that of slice 2j; M even
};

/// True if one draw serves all replicas by signs.
constexpr bool is_flipout(Estimator e) { return e == Estimator::flipout || e == Estimator::flipout_pairs; }
/// True if neighbouring replicas have opposite offsets: M must be even.
constexpr bool is_paired(Estimator e) { return e == Estimator::antithetic || e == Estimator::flipout_pairs; }

/// An estimator by the name that programs and settings use.
struct NamedEstimator {
  const char* name;
  Estimator value;
};
inline constexpr NamedEstimator named_estimators[] = {{"replicas", Estimator::replicas},
                                                      {"antithetic", Estimator::antithetic},
                                                      {"per-sample", Estimator::per_sample},
                                                      {"flipout", Estimator::flipout},
                                                      {"flipout-pairs", Estimator::flipout_pairs}};
inline std::vector<std::string> estimator_names() {
  std::vector<std::string> out;
  for (const NamedEstimator& e : named_estimators) out.emplace_back(e.name);
  return out;
}
/// The estimator of that name; replicas for an unknown one.
inline Estimator estimator_named(const std::string& name) {
  for (const NamedEstimator& e : named_estimators)
    if (name == e.name) return e.value;
  return Estimator::replicas;
}

}  // namespace lpf
