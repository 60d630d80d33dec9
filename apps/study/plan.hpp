// Plans of studies: factors and their values, in addition to settings common to all models.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <lpf/core/error.hpp>
#include <lpf/core/shape.hpp>
#include <lpf/optim/registry.hpp>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace study {

/// The settings of one model: a value of each factor, and the common settings.
using FactorValues = std::map<std::string, double>;

/// A hyper-parameter and its values.
struct Factor {
  std::string name;
  std::vector<double> values;
};

/// Factor "optimizer": settings and results store its index in this list, so new ones are appended.
inline const std::vector<std::string> optimizers{"sgd", "sam", "lpf-sgd", "adam"};
inline const lpf::optim::MethodInfo& optimizer_of(double number) {
  return lpf::optim::info(optimizers.at(static_cast<std::size_t>(number)));
}
/// The index of the optimizer of that name.
inline double optimizer_number(std::string_view name) {
  const auto found = std::find(optimizers.begin(), optimizers.end(), name);
  lpf::check(found != optimizers.end(), "study", "no study has the optimizer '", name, "'");
  return static_cast<double>(found - optimizers.begin());
}

/// What the pixels, in [0, 1] and then with noise, are normalised by.
enum class Normalize {
  none,
  published,  ///< the constants of the published experiments; of the digits and MNIST-1D, for which there are none, the
              ///< training samples' mean and deviation before noise is added
  own  ///< each set, noise included, by its own mean and deviation: noisy images are not larger than others
};
inline const std::vector<std::string> normalize_names{"none", "published", "own"};

/// Random numbers that the measures take.
struct Effort {
  std::int64_t draws = 100;              ///< of LPF, the trace, local entropy
  std::int64_t steps = 100, starts = 2;  ///< of Lanczos' method
  std::int64_t chains = 8;               ///< of local entropy's gradient
};

struct Plan {
  std::string study, grid;             ///< names: --study, --grid
  std::string description = {};        ///< the rest of summary()
  std::string variant = {};            ///< what was changed of the plan, see varied(); empty: nothing
  std::string data;                    ///< digits, mnist1d or cifar10
  std::string network;                 ///< of the registry of models
  std::vector<Factor> factors;         ///< the seeds first
  FactorValues shared = {};            ///< common to all models
  int epochs;                          ///< maximum, if `stop` is given
  std::vector<int> milestones = {};    ///< epochs: learning rate × 0.1; none with `cosine`
  bool cosine = false;                 ///< to 0 at the last epoch
  std::uint64_t updates = 1ull << 40;  ///< maximum
  /// Training loss that ends the training; a model that does not reach it is not measured.
  double stop = 0;
  /// Updates between evaluations once the loss is within twice `stop`, so that all stop at about the same
  /// loss; 0: only after each epoch, as published.
  int check = 0;
  double local_entropy_gamma = 100;
  Effort effort = {};
  Normalize normalize = Normalize::published;
  /// Training accuracy in % below which the tables leave a model out (the published noise studies': 99).
  double gate = 0;

  std::size_t size() const {
    std::size_t n = 1;
    for (const Factor& f : factors) n *= f.values.size();
    return n;
  }
  /// Networks of some thousand weights on some hundred samples.
  bool small() const { return grid != "paper"; }
  bool has_factor(const std::string& name) const {
    return std::any_of(factors.begin(), factors.end(), [&](const Factor& f) { return f.name == name; });
  }
  /// Training and test images, where they are a part of the set.
  std::int64_t train() const { return static_cast<std::int64_t>(shared.at("train")); }
  std::int64_t test() const { return data == "cifar10" ? 2000 : data == "mnist1d" ? 1000 : 1797 - train(); }
  /// Of a sample, [H, W, C].
  lpf::Shape input() const {
    return data == "cifar10"   ? lpf::Shape{32, 32, 3}
           : data == "mnist1d" ? lpf::Shape{1, 40, 1}
                               : lpf::Shape{8, 8, 1};
  }
  /// Data, task and network, in a sentence without its full stop.
  std::string summary() const {
    std::string out = data == "cifar10" ? "CIFAR-10" : data == "mnist1d" ? "MNIST-1D" : "digits";
    if (shared.contains("train")) out += lpf::concat(", ", train(), " to train and ", test(), " to test");
    out += description + "; network " + network;
    if (shared.contains("width")) out += lpf::concat(" of width ", shared.at("width"));
    if (shared.contains("batch_norm"))
      out += shared.at("batch_norm") > 0 ? ", batch norm" : ", no batch norm";
    return out + "; " + normalization();
  }
  /// How the samples are normalised: only CIFAR-10 has published constants.
  std::string normalization() const {
    const std::string samples = data == "mnist1d" ? "sequences" : "images";
    if (normalize == Normalize::none) return samples + " not normalised";
    if (normalize == Normalize::own) return samples + " normalised: each set by its own mean and deviation";
    return samples + (data == "cifar10" ? " normalised by the published constants"
                                        : " normalised by the clean training set's mean and deviation");
  }
  std::size_t seeds() const { return factors[0].values.size(); }
  /// Number of models, not counting seeds.
  std::size_t configurations() const { return size() / seeds(); }
  /// The values of model `id`; the seed varies slowest, so that a study begins with complete seeds.
  FactorValues settings(std::size_t id) const {
    FactorValues out = shared;
    for (std::size_t k = factors.size(); k-- > 0; id /= factors[k].values.size())
      out[factors[k].name] = factors[k].values[id % factors[k].values.size()];
    return out;
  }
};

namespace detail {

inline std::vector<double> range(double first, double last, double step) {
  std::vector<double> out;
  for (int i = 0; first + i * step <= last + step / 2; ++i)
    out.push_back(std::round((first + i * step) * 1e6) / 1e6);
  return out;
}

inline std::vector<Plan> make_plans() {
  const std::vector<double> three{0, 1, 2}, five{0, 1, 2, 3, 4}, off_on{0, 1};
  const double sgd = optimizer_number("sgd"), sam = optimizer_number("sam"),
               lpf_sgd = optimizer_number("lpf-sgd"), adam = optimizer_number("adam");
  const std::vector<double> label_levels = range(0, 0.9, 0.1), data_levels = range(0, 3.8, 0.2);
  const FactorValues noisy{{"lr", 0.1}, {"momentum", 0.9}, {"weight_decay", 5e-4}, {"batch_size", 128}};
  const auto with = [](FactorValues a, const FactorValues& b) {
    for (const auto& [name, value] : b) a[name] = value;
    return a;
  };
  std::vector<double> widths = range(1, 61, 2);
  widths.push_back(64);
  return {
      {.study = "grid",
       .grid = "small",
       .description = "; a tenth of the labels drawn at random",
       .data = "digits",
       .network = "mlp",
       .factors = {{"seed", three},
                   {"momentum", {0, 0.5, 0.9}},
                   {"width", {32, 64}},
                   {"weight_decay", {0, 3e-4}},
                   {"lr", {0.08, 0.04, 0.02}},
                   {"batch_size", {8, 32, 128}},
                   {"batch_norm", off_on}},
       .shared = {{"train", 300}, {"label_noise", 0.1}},
       .epochs = 6000,
       .updates = 20000,
       .stop = 0.01,
       .check = 4,
       .effort = {.draws = 32, .steps = 20, .starts = 1, .chains = 2}},
      // The paper's factor `skip` is left out.
      {.study = "grid",
       .grid = "medium",
       .data = "digits",
       .network = "tiny-resnet18",
       .factors = {{"seed", three},
                   {"momentum", {0, 0.5, 0.9}},
                   {"width", {4, 8}},
                   {"lr", {0.01, 0.005}},
                   {"batch_size", {8, 32}},
                   {"batch_norm", off_on}},
       .shared = {{"train", 300}, {"weight_decay", 1e-4}},
       .epochs = 500,
       .milestones = {150, 200},
       .stop = 0.01,
       .effort = {.draws = 24, .steps = 12, .starts = 1, .chains = 2}},
      {.study = "grid",
       .grid = "paper",
       .description = "; w of the network: 8w channels in its first stage",
       .data = "cifar10",
       .network = "narrow-resnet18",
       .factors = {{"seed", three},
                   {"momentum", {0, 0.5, 0.9}},
                   {"width", {4, 6, 8}},
                   {"weight_decay", {0, 1e-4, 5e-4}},
                   {"lr", {0.01, 0.0075, 0.005}},
                   {"batch_size", {32, 128, 512}},
                   {"skip", off_on},
                   {"batch_norm", off_on}},
       .epochs = 500,
       .milestones = {150, 200},
       .stop = 0.01},
      {.study = "label-noise",
       .grid = "small",
       .data = "digits",
       .network = "mlp",
       .factors = {{"seed", three}, {"label_noise", label_levels}},
       .shared = with(noisy, {{"train", 500}, {"width", 128}, {"batch_norm", 1}}),
       .epochs = 350,
       .milestones = {150, 250},
       .local_entropy_gamma = 10,
       .effort = {.steps = 40},
       .gate = 99},
      {.study = "label-noise",
       .grid = "paper",
       .data = "cifar10",
       .network = "resnet18",
       .factors = {{"seed", five}, {"label_noise", label_levels}},
       .shared = noisy,
       .epochs = 350,
       .milestones = {150, 250},
       .local_entropy_gamma = 10,
       .gate = 99},
      {.study = "data-noise",
       .grid = "small",
       .data = "digits",
       .network = "mlp",
       .factors = {{"seed", three}, {"data_noise", data_levels}},
       .shared = with(noisy, {{"train", 500}, {"width", 128}, {"batch_norm", 1}}),
       .epochs = 350,
       .milestones = {150, 200},
       .local_entropy_gamma = 10,
       .effort = {.steps = 40},
       .gate = 99},
      {.study = "data-noise",
       .grid = "paper",
       .data = "cifar10",
       .network = "resnet18",
       .factors = {{"seed", five}, {"data_noise", data_levels}},
       .shared = noisy,
       .epochs = 350,
       .milestones = {150, 200},
       .local_entropy_gamma = 10,
       .gate = 99},
      {.study = "double-descent",
       .grid = "small",
       .description = "; a fifth of the labels drawn at random",
       .data = "digits",
       .network = "mlp",
       .factors = {{"seed", three}, {"width", {2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96}}},
       .shared = {{"train", 500},
                  {"label_noise", 0.2},
                  {"optimizer", adam},
                  {"lr", 1e-3},
                  {"batch_size", 128},
                  {"batch_norm", 1}},
       .epochs = 1000,
       .local_entropy_gamma = 10,
       .effort = {.steps = 40}},
      {.study = "double-descent",
       .grid = "paper",
       .description = "; a fifth of the labels drawn at random",
       .data = "cifar10",
       .network = "double-descent-resnet18",
       .factors = {{"seed", three}, {"width", widths}},
       .shared = {{"label_noise", 0.2}, {"optimizer", adam}, {"lr", 1e-4}, {"batch_size", 128}},
       .epochs = 4000,
       .local_entropy_gamma = 10},
      {.study = "optimizers",
       .grid = "small",
       .description = "; SAM ρ 0.4, LPF-SGD γ 0.06, M 8",
       .data = "digits",
       .network = "mlp",
       .factors = {{"seed", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}, {"optimizer", {sgd, sam, lpf_sgd}}},
       .shared = {{"train", 1000},
                  {"width", 128},
                  {"lr", 0.1},
                  {"momentum", 0.9},
                  {"batch_size", 64},
                  {"rho", 0.4},
                  {"gamma", 0.06},
                  {"M", 8}},
       .epochs = 60,
       .cosine = true,
       .effort = {.steps = 40},
       .normalize = Normalize::none},
      {.study = "optimizers",
       .grid = "paper",
       .description = "; SAM ρ 0.05, LPF-SGD γ 0.002, M 1, tensor-wise",
       .data = "cifar10",
       .network = "resnet18",
       .factors = {{"seed", five}, {"optimizer", {sgd, sam, lpf_sgd}}},
       .shared = with(noisy, {{"rho", 0.05}, {"gamma", 0.002}, {"M", 1}, {"tensor_wise", 1}}),
       .epochs = 200,
       .milestones = {100, 120}}};
}

}  // namespace detail

inline const Plan& plan_of(const std::string& study, const std::string& grid) {
  static const std::vector<Plan> plans = detail::make_plans();
  for (const Plan& p : plans)
    if (p.study == study && p.grid == grid) return p;
  lpf::fail("study", "there is no study '", study, "' of size '", grid, "'");
}

/// Changes of a plan: a counter-example, or another network.
struct Variation {
  std::string network = {}, normalize = {}, batch_norm = {};  ///< names; on, off; empty: the plan's
  std::string data = {};  ///< as many samples of this set instead of digits
};

/// The plan with these changes; `variant` names them, and its results are of no other variant.
inline Plan varied(Plan plan, const Variation& v) {
  const auto note = [&](const auto&... words) {
    plan.variant += lpf::concat(plan.variant.empty() ? "" : ", ", words...);
  };
  lpf::check(plan.small() || v.data.empty(), "study", "the paper's size is on CIFAR-10 as it is");
  if (!v.network.empty() && v.network != plan.network) {
    plan.network = v.network;
    plan.effort = {.draws = 50, .steps = 20, .starts = 1, .chains = 2};
    plan.shared.erase("width");  // that of the network
    for (Factor& f : plan.factors)
      if (f.name == "width" && v.network.starts_with("convnet"))
        f.values = {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32};
    note(v.network);
  }
  if (!v.batch_norm.empty()) {
    std::erase_if(plan.factors, [](const Factor& f) { return f.name == "batch_norm"; });
    plan.shared["batch_norm"] = v.batch_norm == "on" ? 1 : 0;
    note("batch norm ", v.batch_norm);
  }
  if (!v.normalize.empty()) {
    const auto found = std::find(normalize_names.begin(), normalize_names.end(), v.normalize);
    lpf::check(found != normalize_names.end(), "study",
               "images are normalised by none, published or own, not '", v.normalize, "'");
    plan.normalize = static_cast<Normalize>(found - normalize_names.begin());
    note("normalize ", v.normalize);
  }
  if (!v.data.empty() && v.data != plan.data) {
    plan.data = v.data;
    note(v.data == "cifar10" ? "CIFAR-10" : "MNIST-1D");
  }
  return plan;
}

/// The folder of a plan's results, unless another is given.
inline std::string folder_of(const Plan& plan) {
  std::string out = lpf::concat("out/study-", plan.study, "-", plan.grid);
  for (const char c : plan.variant.empty() ? "" : "-" + plan.variant)
    if (c != ',') out += c == ' ' ? '-' : static_cast<char>(std::tolower(c));
  return out;
}

}  // namespace study
