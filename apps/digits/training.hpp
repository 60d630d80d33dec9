// One training run of digits.cpp and its measurements.
#pragma once

#include <algorithm>
#include <chrono>
#include <lpf/data/sets/digits.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/mlp.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/sharpness/lanczos.hpp>
#include <lpf/sharpness/low_pass.hpp>
#include <lpf/train/metrics.hpp>

namespace digits_app {

using namespace lpf;

struct Options {
  int seeds = 5, epochs = 60, threads = 0;
  std::vector<double> label_noise{0, 0.2};
  std::int64_t M = 8;
  double gamma = 0.06, alpha = 1, rho = 0.4;  // selected by digits --tune --seeds 10
  std::vector<std::string> optimizers{"sgd", "sam", "lpf-sgd"};
  std::string estimator = "replicas", out = "out/demo";
  double deadline = 3600;
  bool tune = false;
};

inline const std::string& title_of(const std::string& optimizer) { return optim::info(optimizer).title; }

// ": lower --gamma or --alpha"
inline std::string remedy_of(const std::string& optimizer) {
  std::string out;
  for (const auto& setting : optim::info(optimizer).strength)
    out += concat(out.empty() ? ": lower --" : " or --", setting);
  return out;
}

// One seed's data. Only training labels are noisy; validation and test labels stay clean.
struct Task {
  TensorDataset train, validation, test;
};
inline Task make_task(std::uint64_t seed, double label_noise) {
  const auto [train, validation, test] = split(digits(), {1000, 297, 500}, seed);
  return {with_label_noise(train, {.probability = label_noise, .seed = seed}), validation, test};
}

struct Run {
  double label_noise;
  std::string optimizer;
  int seed;
  double validation_error, test_error, train_loss, lambda_max, step_ms;
  sharpness::Estimate lpf;
  std::vector<double> loss_curve, error_curve;  // per epoch, at the unperturbed weights
  std::vector<std::vector<double>> slices;      // loss along random directions, by direction

  double rise() const { return lpf.value - train_loss; }  // both on all training digits
};

inline constexpr int slice_points = 41, directions = 5;
inline std::vector<double> slice_positions() {
  std::vector<double> a;
  for (int i = 0; i < slice_points; ++i) a.push_back(-1 + 2.0 * i / (slice_points - 1));
  return a;
}

// What is measured of a run, as numbers that processes send: seven, the curves, the slices.
inline std::vector<double> numbers_of(const Run& r) {
  std::vector<double> out{r.validation_error, r.test_error, r.train_loss,        r.lambda_max,
                          r.step_ms,          r.lpf.value,  r.lpf.standard_error};
  for (const auto* curve : {&r.loss_curve, &r.error_curve})
    out.insert(out.end(), curve->begin(), curve->end());
  for (const auto& slice : r.slices) out.insert(out.end(), slice.begin(), slice.end());
  return out;
}
// The run of those numbers.
inline Run run_of(double label_noise, const std::string& optimizer, int seed, int epochs,
                  const std::vector<double>& x) {
  Run out{label_noise, optimizer, seed, x[0], x[1], x[2], x[3], x[4], {.value = x[5], .standard_error = x[6]},
          {},          {},        {}};
  auto at = x.begin() + 7;
  const auto next = [&](int n) {
    at += n;
    return std::vector<double>(at - n, at);
  };
  out.loss_curve = next(epochs);
  out.error_curve = next(epochs);
  while (at != x.end()) out.slices.push_back(next(slice_points));
  return out;
}

inline double mean_loss(const models::MLP& net, const TensorDataset& data) {
  const auto guard = no_grad();
  return cross_entropy(net(data.images), data.labels).item();
}
inline double error_percent(const models::MLP& net, const TensorDataset& data) {
  const auto guard = no_grad();
  return 100.0 * static_cast<double>(count_errors(net(data.images), data.labels)) /
         static_cast<double>(data.size());
}

// Random directions, every filter scaled to the norm of the weight's (Li et al. 2018), the same draws for
// every solution.
inline Tensor landscape_offsets(const ParameterStore& params) {
  LowPassFilter unit({.M = directions, .gamma = 1, .seed = 7});
  const Tensor noise = unit.offsets(params, 0);
  const filter::Segments rows = filter::segments_of(params, NoiseLaw::filter_wise, {});
  const Tensor size = filter::scales(params, rows, 1);
  std::vector<float> d = noise.to_vector<float>();
  const auto norms = size.to_vector();
  const auto n = static_cast<std::size_t>(params.theta().numel());
  for (std::size_t k = 0; k < directions; ++k)
    for (const auto& s : rows.segments)
      for (std::int64_t r = 0; r < s.rows; ++r) {
        float* row = d.data() + k * n + s.offset + r * s.length;
        double squares = 1e-30;
        for (std::int64_t i = 0; i < s.length; ++i) squares += static_cast<double>(row[i]) * row[i];
        const auto factor =
            static_cast<float>(norms[static_cast<std::size_t>(s.first_scale + r)] / std::sqrt(squares));
        for (std::int64_t i = 0; i < s.length; ++i) row[i] *= factor;
      }
  std::vector<float> all;
  for (std::size_t k = 0; k < directions; ++k)
    for (double a : slice_positions())
      for (std::size_t i = 0; i < n; ++i) all.push_back(static_cast<float>(a) * d[k * n + i]);
  return from_vector(all, {directions * slice_points, static_cast<std::int64_t>(n)});
}

// A training run with its own state: a member of the population of seeds and optimizers.
struct Training {
  const Options& o;
  Task task;
  DataLoader loader;
  ParameterStore params;
  models::MLP net;
  std::unique_ptr<optim::Method> method;
  Run run;

  Training(const Options& options, const std::string& optimizer, double label_noise, int seed)
      : Training(options, optimizer, label_noise, seed, static_cast<std::uint64_t>(seed)) {}

  // Trains to the end. Reports the training loss after each epoch.
  template <class Report>
  Run train(bool measure, Report report) {
    std::vector<double> step_ms;
    for (int epoch = 0; epoch < o.epochs; ++epoch) {
      for (auto [x, y] : loader) {
        const auto start = std::chrono::steady_clock::now();
        method->step([&, x = x, y = y](std::int64_t) { return cross_entropy(net(x), y); });
        step_ms.push_back(
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
      }
      run.train_loss = mean_loss(net, task.train);
      check<NumericError>(std::isfinite(run.train_loss), "digits", "the loss of ", title_of(run.optimizer),
                          " is ", run.train_loss, " after epoch ", epoch + 1, remedy_of(run.optimizer));
      run.loss_curve.push_back(run.train_loss);
      run.error_curve.push_back(measure ? error_percent(net, task.test) : 0);
      report(run.train_loss);
    }
    run.validation_error = error_percent(net, task.validation);
    if (!measure) return run;  // tuning never evaluates the test set

    std::nth_element(step_ms.begin(), step_ms.begin() + std::ssize(step_ms) / 2, step_ms.end());
    run.step_ms = step_ms[step_ms.size() / 2];
    run.test_error = error_percent(net, task.test);
    const sharpness::Data data{task.train.images, task.train.labels};
    const auto losses = [&](const Tensor& x, const Tensor& y) {
      return cross_entropy(net(x), y, {.reduction = Reduction::none});
    };
    run.lpf = sharpness::low_pass(params, data, losses, {.sigma = 0.05, .draws = 96});
    run.lambda_max = sharpness::lambda_max(params, [&] { return cross_entropy(net(data.x), data.y); },
                                           {.steps = 60, .starts = 1});
    const auto along = sharpness::losses_at(params, landscape_offsets(params), data, losses);
    for (int k = 0; k < directions; ++k)
      run.slices.emplace_back(along.begin() + k * slice_points, along.begin() + (k + 1) * slice_points);
    return run;
  }

 private:
  Training(const Options& options, const std::string& optimizer, double label_noise, int number,
           std::uint64_t seed)
      : o(options),
        task(make_task(seed, label_noise)),
        loader(task.train, {.batch_size = 64, .seed = seed}),
        params({.seed = seed}),
        net(params, {64, 128, 128, 10}),
        method(optim::make(optimizer, params,
                           {.lr = 0.1,
                            .momentum = 0.9,
                            .seed = seed,
                            .total_steps = o.epochs * loader.batches(),
                            .M = o.M,
                            .gamma = o.gamma,
                            .alpha = o.alpha,
                            .estimator = estimator_named(o.estimator),
                            .rho = o.rho})),
        run{label_noise, optimizer, number, 0, 0, 0, 0, 0, {}, {}, {}, {}} {
    method->optimizer().set_schedule(
        schedule::cosine(static_cast<std::uint64_t>(o.epochs * loader.batches())));
  }
};

}  // namespace digits_app
