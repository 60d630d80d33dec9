// Options of a perturbed pass, chosen by LowPassFilter, SAM, SmoothOut and the sharpness measures.
#pragma once

#include <optional>

#include "lpf/filter/estimators.hpp"
#include "lpf/filter/segments.hpp"

namespace lpf {

/// Storage of the perturbed copies of θ between forward and backward.
enum class ReplicaMemory {
  automatic,  ///< large weights of linear layers: `recomputed`; all others: `stored`
  stored,     ///< in memory, M times θ
  /// not stored: drawn where used, in forward and in backward, for linear layers tile by tile within the
  /// product. Bit-identical replicas; the noise is drawn twice
  recomputed,
  kept [[deprecated("use stored")]] = stored,
  remade [[deprecated("use recomputed")]] = recomputed
};

namespace filter {

struct PassOptions {
  std::int64_t M = 8;
  std::optional<std::int64_t> batch = {};  ///< samples; if empty, the rows of the pass's first operand
  StepScalar gamma = 0;
  Estimator estimator = Estimator::replicas;
  BatchNormPolicy batch_norm = BatchNormPolicy::per_replica;
  bool keep_replica_gradients = false;
  NoiseKey key = {};        ///< `replica`: the stream of the first replica
  bool cuts_slice = false;  ///< the samples are a part of one replica's slice (nn::BatchPart)
  ReplicaMemory memory = ReplicaMemory::automatic;  ///< stored perturbations are always in memory
  Tensor scale = {};  ///< [rows]: standard deviations instead of γ times the norms
  /// [M, size of θ]: added instead of noise (SAM's ascent, directions of a landscape)
  Tensor perturbations = {};
  /// [size of θ], with M = 1: read instead of θ, where a sum θ + perturbation is there already
  Tensor point = {};
};

/// State shared by the parts of a perturbed pass.
struct Pass {
  ParameterStore params;
  Segments segments;
  PassOptions options;
  Tensor scale;  ///< standard deviations s, [rows of the segments]; undefined with stored perturbations

  bool stored_perturbations() const { return options.perturbations.defined() || options.point.defined(); }
};

/// The pass for these options. ValueError and ShapeError for options that do not fit.
LPF_ONCE Pass make_pass(const ParameterStore& params, Segments segments, const PassOptions& options) {
  check(options.M >= 1, "perturb", "M must be at least 1, got ", options.M);
  check(!is_paired(options.estimator) || options.M % 2 == 0, "perturb",
        "antithetic draws come in pairs: M must be even, got ", options.M);
  Pass pass{params, std::move(segments), options, {}};
  if (options.point.defined()) {
    check<ShapeError>(options.M == 1 && options.point.shape() == params.theta().shape(), "perturb",
                      "a point is read by one replica and has the shape ", params.theta().shape(),
                      " of θ, got ", options.point.shape(), " for M = ", options.M);
    return pass;
  }
  if (pass.stored_perturbations()) {
    const Shape wanted{options.M, params.theta().numel()};
    check<ShapeError>(options.perturbations.shape() == wanted, "perturb", "perturbations for M = ", options.M,
                      " replicas need shape ", wanted, ", got ", options.perturbations.shape());
    return pass;
  }
  pass.scale = options.scale.defined() ? options.scale : scales(params, pass.segments, options.gamma);
  check<ShapeError>(pass.scale.shape() == Shape{pass.segments.rows}, "perturb", "scales for ",
                    pass.segments.rows, " rows are needed, got ", pass.scale.shape());
  return pass;
}

/// The slices of the pass's batch.
LPF_ONCE PlanPtr make_plan(const PassOptions& options) {
  if (options.batch) return std::make_shared<ReplicaPlan>(options.M, *options.batch);
  return std::make_shared<ReplicaPlan>(options.M);
}

}  // namespace filter
}  // namespace lpf
