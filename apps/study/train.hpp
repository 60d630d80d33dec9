// Trains and measures one model of a plan; the result is one line.
#pragma once

#include <functional>
#include <limits>
#include <lpf/data/sets/cifar.hpp>
#include <lpf/data/sets/digits.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/registry.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/report/log.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/sharpness/measure.hpp>
#include <lpf/train/metrics.hpp>
#include <optional>

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
  models::ModelOptions options{.width = static_cast<std::int64_t>(setting(s, "width")),
                               .skip = setting(s, "skip", 1) > 0};
  if (s.contains("batch_norm")) options.batch_norm = s.at("batch_norm") > 0;
  return models::make(plan.network, params, options);
}

struct Sets {
  TensorDataset train, test;
};

/// The seed's training and test set. Noise is added to the training set, to pixels in [0, 1].
inline Sets splits_of(const Plan& plan, const FactorValues& s, const std::string& folder) {
  const auto seed = static_cast<std::uint64_t>(s.at("seed"));
  const auto sets = [&]() -> Sets {
    if (plan.data == "cifar10") return {cifar10(folder, Split::train), cifar10(folder, Split::test)};
    auto [train, test] = split(digits(), {static_cast<std::int64_t>(s.at("train")), -1}, seed);
    return {std::move(train), std::move(test)};
  };
  Sets splits = sets();
  const ChannelStatistics clean = channel_statistics(splits.train.images);
  if (const double p = setting(s, "label_noise"); p > 0)
    splits.train = with_label_noise(splits.train, {.probability = p, .seed = seed});
  if (const double sigma = setting(s, "data_noise"); sigma > 0)
    splits.train = with_data_noise(splits.train, {.sigma = sigma, .seed = seed});
  if (plan.data == "cifar10")
    for (TensorDataset* set : {&splits.train, &splits.test}) set->images = normalize(set->images, clean);
  return splits;
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

/// The values in a model's line, those with published figures.
inline const std::vector<std::string> measured = [] {
  std::vector<std::string> out;
  for (const Published& m : measures) out.push_back(m.key);
  return out;
}();

inline sharpness::Report measure(const Plan& plan, const ParameterStore& params, const models::Model& net,
                                 const TensorDataset& data, const Tensor& initial) {
  sharpness::MeasureOptions m{.measures = sharpness::measures_of(measured), .key = 1};
  m.pac_bayes.initial = initial;
  m.local_entropy.gamma = plan.local_entropy_gamma;
  if (plan.small()) m.spectrum.steps = 40;
  return sharpness::measure(net, params, data, m);
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
inline Record train_and_measure(const Plan& plan, const Cell& cell, const std::string& folder) {
  const double start = lpf::detail::monotonic_seconds();
  const auto& [id, s, params, net] = cell;
  const Sets splits = splits_of(plan, s, folder);
  const Tensor initial = params.theta().clone();
  const Trained trained = train(plan, s, params, net, splits);
  const double middle = lpf::detail::monotonic_seconds();

  Record line{{"study", plan.study}, {"grid", plan.grid}, {"id", id}};
  for (const Factor& f : plan.factors) line.emplace_back(f.name, s.at(f.name));
  line.emplace_back("epochs", trained.epochs);
  line.emplace_back("converged", trained.converged ? 1 : 0);
  line.emplace_back("train_loss", trained.train.loss);
  line.emplace_back("train_error", 100 * trained.train.error);
  line.emplace_back("test_loss", trained.test.loss);
  line.emplace_back("test_error", 100 * trained.test.error);
  line.emplace_back("gap", 100 * (trained.test.error - trained.train.error));
  std::optional<sharpness::Report> report;
  if (trained.converged) report = measure(plan, params, net, splits.train, initial);
  for (const std::string& key : measured) {
    const bool known = report && report->contains(key);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    line.emplace_back(key, known ? (*report)[key].value : nan);
    line.emplace_back(key + "_se", known ? (*report)[key].standard_error : nan);
  }
  line.emplace_back("train_seconds", middle - start);
  line.emplace_back("measure_seconds", lpf::detail::monotonic_seconds() - middle);
  return line;
}

}  // namespace study
