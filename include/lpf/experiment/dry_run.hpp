// The cost of a run, estimated before it starts: parameters, memory, time. Steps are measured on noise
// images, so that no data are needed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lpf/core/os.hpp"
#include "lpf/experiment/data_splits.hpp"
#include "lpf/experiment/trainer.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/report/progress.hpp"

namespace lpf::experiment {

/// The cost of a run.
struct RunCost {
  struct Part {
    std::string name;  ///< "layer1"
    std::int64_t tensors = 0, parameters = 0;
  };
  std::vector<Part> parts;
  std::int64_t parameters = 0, buffers = 0;
  std::int64_t vectors = 0;         ///< of θ's length, in memory: θ, its gradient, the optimizer's state
  double vector_mb = 0;             ///< of one
  double replicas_mb = 0;           ///< of a perturbed pass
  double data_mb = 0, peak_mb = 0;  ///< of the images; of a step, without the images
  std::int64_t steps = 0;           ///< of an epoch
  std::int64_t measured_batch = 0;  ///< smaller than the batch: what follows was extrapolated
  double step_seconds = 0;          ///< on images in memory
  double loaded_seconds = 0;        ///< including loading and augmentation
  double evaluation_seconds = 0, run_seconds = 0;  ///< evaluation: of test and validation images
};
using Estimate [[deprecated("use RunCost")]] = RunCost;

namespace detail {

/// The classes cyclically.
inline Tensor noise_labels(const DataShape& data, std::int64_t n) {
  const Tensor y = empty({n}, {.dtype = int64, .device = Device::cpu()});
  for (std::int64_t i = 0; i < n; ++i) y.data<std::int64_t>()[i] = i % data.classes;
  return y;
}

/// Images of noise with their labels.
inline Batch noise_batch(const DataShape& data, std::int64_t n) {
  const Tensor x = empty({n, data.input[0], data.input[1], data.input[2]});
  x.backend().normal(x.dtype(), {.seed = 1}, 0, x.numel(), x.raw());
  return {x, noise_labels(data, n).to(x.device())};
}

/// A data set of n such images.
inline DataSplits noise_splits(const Settings& s, const DataShape& data, std::int64_t n) {
  Tensor x = empty({n, data.input[0], data.input[1], data.input[2]}, {.device = Device::cpu()});
  x.backend().uniform(x.dtype(), {.seed = 1}, 0, x.numel(), x.raw());
  if (!is_built_in(s.dataset) && s.data_noise == 0) x = affine(x, 255, 0).to(uint8);
  const TensorDataset all(x, noise_labels(data, n), data.classes);
  return {all, all.take(0), all.take(0), scaling_of(s, x)};
}

template <class F>
double seconds_of(F f) {
  const double begin = lpf::detail::monotonic_seconds();
  f();
  return lpf::detail::monotonic_seconds() - begin;
}

/// Sixteen steps on one batch in memory, and sixteen on batches from the loader, alternating.
inline void measure_loading(const Settings& s, const DataShape& data, Trainer& method,
                            const models::Model& net, RunCost& out) {
  constexpr std::int64_t steps = 16, rounds = 5;
  const DataSplits splits = noise_splits(s, data, steps * s.batch);
  DataLoader loader = train_loader(s, splits);
  const Batch kept = *loader.begin();
  const auto step = [&](const Batch& batch) {
    method.step([&] { return batch; }, [&](const Batch& b) { return cross_entropy(net(b.x), b.y); });
  };
  std::vector<double> in_memory, loaded;
  for (std::int64_t r = 0; r < rounds; ++r) {
    in_memory.push_back(seconds_of([&] {
      for (std::int64_t i = 0; i < steps; ++i) step(kept);
    }));
    loader.set_epoch(r + 1);
    loaded.push_back(seconds_of([&] {
      for (const Batch& batch : loader) step(batch);
    }));
  }
  out.step_seconds = *std::min_element(in_memory.begin(), in_memory.end()) / steps;
  out.loaded_seconds = *std::min_element(loaded.begin(), loaded.end()) / steps;
}

}  // namespace detail

/// Builds the network, measures a few steps and estimates the cost. A step of more than three seconds is
/// measured on fewer images. Throws as run() does for incompatible settings.
inline RunCost dry_run(const Settings& s) {
  validate(s);
  const Precision precision(s.precision);
  const DataShape data = data_shape(s);
  const ParameterStore params({.seed = s.seed});
  const models::Model net = make_model(s, params, data.input, data.classes);
  RunCost out;
  for (const ParameterInfo& info : params.parameters()) {
    const std::string name = info.name.substr(0, info.name.find('.'));
    if (out.parts.empty() || out.parts.back().name != name) out.parts.push_back({name});
    ++out.parts.back().tensors;
    out.parts.back().parameters += info.numel();
  }
  out.parameters = params.numel();
  for (const auto& b : params.buffers()) out.buffers += b.tensor.numel();
  out.steps = (data.train + s.batch - 1) / s.batch;
  Trainer method(s, params, out.steps);

  constexpr double megabyte = 1 << 20;
  out.vectors = 2 + method.state_vectors();
  out.vector_mb = static_cast<double>(params.theta().numel()) * 4 / megabyte;
  out.replicas_mb = static_cast<double>(method.replicas()) * out.vector_mb;
  const std::int64_t training_byte = is_built_in(s.dataset) || s.data_noise > 0 ? 4 : 1;  // float, or uint8
  out.data_mb = static_cast<double>((training_byte * data.train + data.test) * data.input.numel()) / megabyte;

  const double before = lpf::detail::os::peak_megabytes();
  const auto step = [&](std::int64_t n) {
    const Batch batch = detail::noise_batch(data, n);
    return detail::seconds_of([&] {
      method.step([&] { return batch; }, [&](const Batch& b) { return cross_entropy(net(b.x), b.y); });
    });
  };
  const std::int64_t full = std::min(s.batch, data.train);
  std::int64_t n = std::min(full, std::max<std::int64_t>({s.M, s.slices, 8}));
  step(n);  // allocates
  const auto scale = [&] { return static_cast<double>(full) / static_cast<double>(n); };
  double seconds = step(n);
  if (seconds * scale() < 3 && n < full) {
    n = full;
    step(n);
    seconds = step(n);
  }
  if (seconds < 1) {
    std::vector<double> more{seconds};
    for (int i = 0; i < 4; ++i) more.push_back(step(n));
    std::nth_element(more.begin(), more.begin() + 2, more.end());
    seconds = more[2];
  }
  out.measured_batch = n;
  out.step_seconds = out.loaded_seconds = seconds * scale();
  out.peak_mb = before + (lpf::detail::os::peak_megabytes() - before) * scale();
  if (n == s.batch && seconds < 0.5) detail::measure_loading(s, data, method, net, out);
  {
    const EvalMode mode(params);
    const auto off = no_grad();
    const Batch batch = detail::noise_batch(data, n);
    const double forward = detail::seconds_of([&] { net(batch.x); });
    out.evaluation_seconds = forward / static_cast<double>(n) * static_cast<double>(data.test + s.validation);
  }
  const std::int64_t evaluations = (s.epochs + s.evaluate_every - 1) / s.evaluate_every;
  out.run_seconds = static_cast<double>(s.epochs * out.steps) * out.loaded_seconds +
                    static_cast<double>(evaluations) * out.evaluation_seconds;
  return out;
}

}  // namespace lpf::experiment
