// Trains and measures one model of a plan; the result is one line.
#pragma once

#include <functional>
#include <limits>
#include <lpf/data/sets/cifar.hpp>
#include <lpf/data/sets/digits.hpp>
#include <lpf/data/sets/mnist1d.hpp>
#include <lpf/data/statistics.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/registry.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/report/log.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/sharpness/measure.hpp>
#include <lpf/train/metrics.hpp>
#include <map>

#include "plan.hpp"
#include "published.hpp"

namespace study {

using namespace lpf;

/// A setting, or `otherwise` if the plan does not define it.
inline double setting(const FactorValues& s, const std::string& name, double otherwise = 0) {
  const auto found = s.find(name);
  return found == s.end() ? otherwise : found->second;
}

inline models::Model network(const Plan& plan, const ParameterStore& params, const FactorValues& s) {
  models::ModelOptions options{.input = plan.input(),
                               .width = static_cast<std::int64_t>(setting(s, "width")),
                               .skip = setting(s, "skip", 1) > 0};
  if (s.contains("batch_norm")) options.batch_norm = s.at("batch_norm") > 0;
  return models::make(plan.network, params, options);
}

struct Sets {
  TensorDataset train, test;
};

/// The set that the models draw their samples from, read once: the digits, MNIST-1D's training and test sequences as
/// images of one row, or CIFAR-10's training and test images in uint8.
inline Sets read_data(const Plan& plan, const std::string& folder) {
  if (plan.data == "digits") {
    const TensorDataset all = digits({.flat = false});
    return {all, all};
  }
  if (plan.data == "mnist1d") return {mnist1d_images(Split::train), mnist1d_images(Split::test)};
  const CIFAROptions raw{.dtype = DType::uint8};
  return {cifar10(folder, Split::train, raw), cifar10(folder, Split::test, raw)};
}

/// The seed's training and test set, pixels in [0, 1] (sequences as they are).
inline Sets draw_samples(const Plan& plan, const Sets& source, std::uint64_t seed) {
  if (plan.data == "digits") {
    auto [train, test] = split(source.train, {plan.train(), -1}, seed);
    return {std::move(train), std::move(test)};
  }
  if (plan.data == "mnist1d") return {split(source.train, {plan.train()}, seed)[0], source.test};
  const auto unit = [](const TensorDataset& data) -> TensorDataset {
    return {affine(data.images.to(float32), 1.0 / 255, 0), data.labels, data.classes()};
  };
  if (!plan.shared.contains("train")) return {unit(source.train), unit(source.test)};
  return {unit(split(source.train, {plan.train()}, seed)[0]), unit(source.test.take(plan.test()))};
}

/// The samples of a model: noise is added to the training images in [0, 1], then all are normalised.
inline Sets splits_of(const Plan& plan, const FactorValues& s, const Sets& source) {
  const auto seed = static_cast<std::uint64_t>(s.at("seed"));
  Sets sets = draw_samples(plan, source, seed);
  const ChannelStatistics clean = plan.data == "cifar10" && plan.normalize == Normalize::published
                                      ? cifar_statistics()
                                      : channel_statistics(sets.train.images);
  if (const double p = setting(s, "label_noise"); p > 0)
    sets.train = with_label_noise(sets.train, {.probability = p, .seed = seed});
  if (const double sigma = setting(s, "data_noise"); sigma > 0)
    sets.train = with_data_noise(sets.train, {.sigma = sigma, .seed = seed});
  if (plan.normalize != Normalize::none)
    for (TensorDataset* set : {&sets.train, &sets.test})
      set->images =
          normalize(set->images, plan.normalize == Normalize::own ? channel_statistics(set->images) : clean);
  return sets;
}

/// The optimizer of the settings, with the plan's schedule.
inline std::unique_ptr<optim::Method> method_of(const Plan& plan, const ParameterStore& params,
                                                const FactorValues& s, std::int64_t batches) {
  const optim::MethodOptions usual;
  auto method =
      optimizer_of(setting(s, "optimizer"))
          .make(params, {.lr = s.at("lr"),
                         .momentum = setting(s, "momentum"),
                         .weight_decay = setting(s, "weight_decay"),
                         .seed = static_cast<std::uint64_t>(s.at("seed")),
                         .M = static_cast<std::int64_t>(setting(s, "M", static_cast<double>(usual.M))),
                         .gamma = setting(s, "gamma", usual.gamma),
                         .law = setting(s, "tensor_wise") > 0 ? NoiseLaw::tensor_wise : usual.law,
                         .rho = setting(s, "rho", usual.rho)});
  schedule::Schedule factor = schedule::constant();
  if (plan.cosine) factor = schedule::cosine(static_cast<std::uint64_t>(plan.epochs * batches));
  if (!plan.milestones.empty())
    factor = schedule::per_epoch(schedule::multi_step({plan.milestones.begin(), plan.milestones.end()}),
                                 static_cast<std::uint64_t>(batches));
  method->optimizer().set_schedule(factor);
  return method;
}

struct Trained {
  int epochs = 0;
  Evaluation train{.loss = std::numeric_limits<double>::quiet_NaN(),
                   .error = std::numeric_limits<double>::quiet_NaN()},
      test = {};
  bool converged = false;  ///< reached the plan's loss, or finite if the plan has none
};

/// Trains the parameters according to the plan.
inline Trained train(const Plan& plan, const FactorValues& s, const ParameterStore& params,
                     const models::Model& net, const Sets& splits) {
  DataLoader loader(splits.train, {.batch_size = static_cast<std::int64_t>(s.at("batch_size")),
                                   .seed = static_cast<std::uint64_t>(s.at("seed"))});
  const auto method = method_of(plan, params, s, loader.batches());
  const auto over = [&](const TensorDataset& data) {
    return evaluate(params, net, data.images, data.labels, 1000);
  };
  Trained out;
  bool finite = true;
  const auto reached = [&] { return plan.stop > 0 && out.train.loss <= plan.stop; };
  const auto time_left = [&] { return out.epochs < plan.epochs && params.updates() < plan.updates; };
  while (time_left() && finite && !reached()) {
    RunningMean mean;
    const bool near = plan.check > 0 && out.train.loss <= 2 * plan.stop;
    for (auto [x, y] : loader) {
      const Tensor loss = method->step([&, x = x, y = y](std::int64_t) { return cross_entropy(net(x), y); });
      mean.add(loss.item(), static_cast<double>(x.size(0)));
      finite = std::isfinite(mean.value());
      if (near && params.updates() % static_cast<std::uint64_t>(plan.check) == 0)
        out.train = over(splits.train);
      if (!finite || reached()) break;
    }
    ++out.epochs;
    // An evaluation of all data costs a third of an epoch: only if it may end the training.
    if (finite && !reached() && (!time_left() || mean.value() <= 100 * plan.stop))
      out.train = over(splits.train);
  }
  out.test = over(splits.test);
  out.converged = finite && (plan.stop == 0 ? std::isfinite(out.train.loss) : out.train.loss <= plan.stop);
  return out;
}

/// A value at a noise: its key.
inline std::string at_sigma(const std::string& key, double sigma) {
  return concat(key, "@", format_general(sigma));
}

/// The names of what is measured, in the order of a model's line.
inline const std::vector<std::string> measured = [] {
  std::vector<std::string> out{"loss", "unit_size"};
  for (const Published& m : measures)
    if (m.from != Published::From::line) out.push_back(m.key);
  for (const double sigma : sigmas) out.push_back(at_sigma("low_pass", sigma));
  for (const double sigma : fan_in_sigmas) out.push_back(at_sigma("low_pass_fan_in", sigma));
  return out;
}();

/// Everything in `measured` that is defined, with its standard error.
inline std::map<std::string, sharpness::Estimate> measure(const Plan& plan, const ParameterStore& params,
                                                          const models::Model& net, const TensorDataset& data,
                                                          const Tensor& initial) {
  std::map<std::string, sharpness::Estimate> out;
  const std::uint64_t key = 1;
  const auto add = [&](const std::string& before, Published::From from, sharpness::MeasureOptions o) {
    std::vector<std::string> keys;
    for (const Published& m : measures)
      if (m.from == from) keys.push_back(m.key.substr(before.size()));
    o.measures = sharpness::measures_of(keys);
    o.key = key;
    const sharpness::Report report = sharpness::measure(net, params, data, o);
    for (const std::string& name : keys)
      if (report.contains(name)) out[before + name] = report[name];
    out["loss"].value = report.loss;
  };
  const std::int64_t fewer = std::min<std::int64_t>(32, plan.effort.draws);
  sharpness::MeasureOptions filters{.draws = plan.effort.draws},
      raw{.draws = fewer, .filter_normalize = false};
  filters.pac_bayes.initial = initial;
  filters.local_entropy.gamma = plan.local_entropy_gamma;
  filters.chains = plan.effort.chains;
  filters.spectrum = {.steps = plan.effort.steps, .starts = plan.effort.starts};
  raw.spectrum = {.steps = std::min<std::int64_t>(30, plan.effort.steps), .starts = 1};
  add("", Published::From::filters, filters);
  add("raw_", Published::From::raw, raw);

  const sharpness::Landscape landscape(
      params, {data.images, data.labels},
      [&](const Tensor& x, const Tensor& y) { return sharpness::cross_entropy_of_samples(net(x), y); });
  const sharpness::Draws draws{.draws = fewer, .key = key};
  for (const double sigma : sigmas)
    out[at_sigma("low_pass", sigma)] = sharpness::low_pass(landscape, sigma, draws);
  for (const double sigma : fan_in_sigmas)
    out[at_sigma("low_pass_fan_in", sigma)] = sharpness::low_pass_fan_in(landscape, sigma, draws);
  const auto size = static_cast<double>(landscape.dimension());
  out["unit_size"].value = std::sqrt(sum(square(landscape.units())).item() / size);  // root mean square
  return out;
}

/// A model of the plan before training: a member of a population.
struct Cell {
  std::size_t id;
  FactorValues settings;
  ParameterStore params;
  models::Model net;
  Cell(const Plan& plan, std::size_t i)
      : id(i),
        settings(plan.settings(i)),
        params({.seed = static_cast<std::uint64_t>(settings.at("seed"))}),
        net(network(plan, params, settings)) {}
};

/// Trains and measures a model; returns its line. A model that missed the plan's loss has no measures.
inline Record train_and_measure(const Plan& plan, const Cell& cell, const Sets& source) {
  const double start = lpf::detail::monotonic_seconds();
  const auto& [id, s, params, net] = cell;
  const Sets splits = splits_of(plan, s, source);
  const Tensor initial = params.theta().clone();
  const Trained trained = train(plan, s, params, net, splits);
  const double middle = lpf::detail::monotonic_seconds();

  Record line{{"study", plan.study}, {"grid", plan.grid}, {"variant", plan.variant}, {"id", id}};
  for (const Factor& f : plan.factors) line.emplace_back(f.name, s.at(f.name));
  line.emplace_back("epochs", trained.epochs);
  line.emplace_back("converged", trained.converged ? 1 : 0);
  line.emplace_back("train_loss", trained.train.loss);
  line.emplace_back("train_error", 100 * trained.train.error);
  line.emplace_back("test_loss", trained.test.loss);
  line.emplace_back("test_error", 100 * trained.test.error);
  line.emplace_back("gap", 100 * (trained.test.error - trained.train.error));
  std::map<std::string, sharpness::Estimate> found;
  if (trained.converged) found = measure(plan, params, net, splits.train, initial);
  for (const std::string& key : measured) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const auto at = found.find(key);
    line.emplace_back(key, at == found.end() ? nan : at->second.value);
    line.emplace_back(key + "_se", at == found.end() ? nan : at->second.standard_error);
  }
  line.emplace_back("train_seconds", middle - start);
  line.emplace_back("measure_seconds", lpf::detail::monotonic_seconds() - middle);
  return line;
}

}  // namespace study
