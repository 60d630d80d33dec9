// The paper's hyper-parameters (Bisla, Wang, Choromanska, AISTATS 2022, tables 3 and 4, with the settings of
// its supplement and of its authors' logged runs): paper() by network and optimizer; recipes() by name, with
// the published error:
//
//   const experiment::Settings s = experiment::recipe("paper/cifar10-wrn-16-8-cutout-lpf").settings;
//
// Where text and logs differ, the logs are used: LPF-SGD on ResNets with tensor-wise noise, PyramidNets for
// 300 epochs, Entropy-SGD's scope without a bound.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/experiment/settings.hpp"

namespace lpf::experiment {

/// A training problem; empty fields follow from the others.
struct Choice {
  std::string dataset = "", model = "", optimizer = "", augment = "";
};

namespace detail {

inline bool is_wide_family(std::string_view model) {
  return model.starts_with("wrn") || model.starts_with("shake") || model.starts_with("pyramid");
}

inline bool is_mlp(std::string_view model) { return model.ends_with("mlp"); }

/// Sets everything independent of the optimizer.
inline void set_network(Settings& s) {
  const bool cifar100 = s.dataset == "cifar100";
  s.schedule = "multistep", s.batch = 128;
  if (is_mlp(s.model)) {
    s.schedule = "cosine", s.batch = 64;
  } else if (s.model.ends_with("lenet")) {
    s.epochs = 150, s.lr = 0.01, s.milestones = {50, 100}, s.weight_decay = 5e-4;
  } else if (s.model.starts_with("wrn")) {
    s.epochs = 200, s.lr = 0.1, s.milestones = {60, 120, 160}, s.lr_factor = 0.2;
    s.nesterov = true, s.weight_decay = 5e-4;
  } else if (s.model.starts_with("shake")) {
    s.epochs = 1800, s.lr = 0.2, s.schedule = "cosine", s.weight_decay = 1e-4;
  } else if (s.model.starts_with("pyramid")) {
    s.epochs = 300, s.lr = cifar100 && s.model == "pyramidnet-110" ? 0.5 : 0.1;
    s.milestones = {150, 225}, s.weight_decay = 1e-4;
  } else if (s.model == "narrow-resnet18") {  // of the sharpness study, which varies all of these
    s.epochs = 500, s.lr = 0.01, s.milestones = {150, 200}, s.weight_decay = 5e-4;
  } else if (s.model == "double-descent-resnet18") {
    s.epochs = 4000, s.lr = 0.1, s.schedule = "constant", s.label_noise = 0.2;
  } else if (s.dataset == "folder") {  // TinyImageNet
    s.epochs = 100, s.lr = 0.1, s.milestones = {30, 60, 90}, s.weight_decay = 1e-4, s.image_size = 64;
  } else {
    s.epochs = 200, s.lr = 0.1, s.milestones = {100, 120}, s.weight_decay = 5e-4;
  }
  const bool own = detail::is_wide_family(s.model) || s.dataset == "folder";
  s.normalize = is_built_in(s.dataset) ? "none" : own ? "own" : "customary";
}

/// Sets the radius and the number of replicas.
inline void set_filter(Settings& s) {
  const bool cifar100 = s.dataset == "cifar100";
  if (is_mlp(s.model)) {
    s.M = 8, s.gamma = 0.06;
  } else if (is_wide_family(s.model)) {
    s.M = 8, s.gamma = 5e-4, s.alpha = 15;
    if (s.model == "wrn-28-10") s.alpha = cifar100 ? 25 : 35;
    if (s.model == "wrn-28-10" && cifar100 && s.augment == "autoaugment") s.gamma = 7e-4, s.alpha = 15;
  } else if (s.model.ends_with("lenet")) {
    s.M = 1, s.gamma = 1e-3;
  } else {
    s.M = 1, s.gamma = s.dataset == "folder" ? 1e-3 : 2e-3, s.law = "tensor-wise";
  }
}

inline void set_optimizer(Settings& s) {
  const optim::MethodInfo& method = optim::info(s.optimizer);
  if (method.wrapper == "lpf") {
    set_filter(s);
  } else {
    s.M = 1;
  }
  if (method.wrapper.ends_with("sam")) {
    s.batch_norm = "recomputed";
    if (is_mlp(s.model)) s.rho = 0.2;
  }
  if (!method.customary.of_sgd) {
    s.lr = method.customary.lr;
    if (s.model == "double-descent-resnet18") s.lr = std::min(s.lr, 1e-4);
    s.nesterov = false;
    s.weight_decay = method.customary.weight_decay;
  }
  if (s.optimizer == "entropy-sgd") {  // one epoch is five passes
    s.lr = 0.5, s.epochs = std::max<std::int64_t>(1, s.epochs / 5), s.nesterov = false;
    s.g_max = 0;
    for (auto& m : s.milestones) m /= 5;
  }
}

}  // namespace detail

/// The paper's settings for a network, or the nearest ones if the paper lacks it. Those for digits and
/// MNIST-1D are this library's own.
inline Settings paper(const Choice& choice = {}) {
  Settings s;
  const auto given = [&](const char* name, const std::string& value, const std::string& otherwise) {
    set(s, name, value.empty() ? otherwise : value);
  };
  given("dataset", choice.dataset, "digits");
  given("model", choice.model,
        s.dataset == "digits"    ? "mlp"
        : s.dataset == "mnist1d" ? "convnet1d"
        : s.dataset == "mnist"   ? "lenet"
                                 : "resnet18");
  given("optimizer", choice.optimizer, "lpf-sgd");
  given("augment", choice.augment,
        detail::is_wide_family(s.model) && s.dataset != "mnist1d" ? "crop-flip" : "none");
  detail::set_network(s);
  detail::set_optimizer(s);
  return s;
}

/// A row of the paper's tables for one optimizer.
struct PaperResult {
  std::string name;
  Settings settings;
  double error, sd;  ///< published, in per cent: mean of five seeds' best epochs; sd 0 if not given
};
using Recipe [[deprecated("use PaperResult")]] = PaperResult;

namespace detail {

struct Figure {
  double error = 0, sd = 0;
};

inline void add_unaugmented(std::vector<PaperResult>& out) {
  constexpr std::array<const char*, 3> optimizers{"sgd", "sam", "lpf-sgd"}, endings{"sgd", "sam", "lpf"};
  struct Row {
    const char *dataset, *model, *name;
    std::array<Figure, 3> figures;  // of SGD, SAM, LPF-SGD; 0 if not published
  };
  const std::vector<Row> rows{
      {"cifar10", "resnet18", "cifar10-resnet18", {{{11.49, .44}, {10.00, .18}, {9.04, .21}}}},
      {"cifar10", "resnet50", "cifar10-resnet50", {{{10.21}, {8.81}, {8.60}}}},
      {"cifar10", "resnet101", "cifar10-resnet101", {{{9.49}, {8.33}, {8.69}}}},
      {"cifar100", "resnet18", "cifar100-resnet18", {{{38.29}, {36.17}, {30.02}}}},
      {"cifar100", "resnet50", "cifar100-resnet50", {{{35.55}, {33.15}, {30.64}}}},
      {"cifar100", "resnet101", "cifar100-resnet101", {{{32.73}, {30.70}, {29.89}}}},
      {"mnist", "lenet", "mnist-lenet", {{{.646}, {.626}, {.598}}}},
      {"folder", "resnet18", "tinyimagenet-resnet18", {{{64.14}, {}, {59.12}}}}};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < 3; ++i)
      if (row.figures[i].error > 0)
        out.push_back({concat("paper/", row.name, "-", endings[i]),
                       paper({.dataset = row.dataset, .model = row.model, .optimizer = optimizers[i]}),
                       row.figures[i].error, row.figures[i].sd});
  Settings entropy = paper({.dataset = "cifar10", .model = "resnet18", .optimizer = "entropy-sgd"});
  out.push_back({"paper/cifar10-resnet18-entropy-sgd", std::move(entropy), 10.88, .37});
}

inline void add_augmented(std::vector<PaperResult>& out) {
  struct Row {
    const char *model, *augment;
    std::array<Figure, 6> figures;  // of SGD, SAM, LPF-SGD on CIFAR-10, then on CIFAR-100
  };
  // clang-format off
  const std::vector<Row> rows{
      {"wrn-16-8", "crop-flip", {{{4.23, .20}, {3.77, .08}, {3.75, .04}, {20.56, .23}, {19.44, .27}, {18.92, .17}}}},
      {"wrn-16-8", "cutout", {{{3.86, .16}, {3.34, .09}, {3.25, .14}, {20.00, .10}, {18.85, .15}, {18.27, .12}}}},
      {"wrn-16-8", "autoaugment", {{{3.30, .08}, {2.90, .10}, {3.13, .09}, {19.27, .22}, {18.07, .19}, {17.57, .13}}}},
      {"wrn-28-10", "crop-flip", {{{3.97, .12}, {3.22, .06}, {3.48, .13}, {19.07, .30}, {17.40, .05}, {17.44, .17}}}},
      {"wrn-28-10", "cutout", {{{3.11, .05}, {2.69, .08}, {2.74, .05}, {18.29, .15}, {17.10, .09}, {16.87, .20}}}},
      {"wrn-28-10", "autoaugment", {{{2.62, .07}, {2.26, .07}, {2.51, .06}, {17.34, .27}, {15.85, .14}, {15.94, .11}}}},
      {"shake-shake-26-2x96d", "crop-flip", {{{2.83, .06}, {2.65, .08}, {2.54, .03}, {17.11, .10}, {16.91, .08}, {16.56, .30}}}},
      {"shake-shake-26-2x96d", "cutout", {{{2.46, .01}, {2.19, .03}, {2.21, .05}, {17.00, .43}, {16.59, .22}, {16.14, .16}}}},
      {"shake-shake-26-2x96d", "autoaugment", {{{2.07, .14}, {1.95, .13}, {1.97, .11}, {15.71, .13}, {15.32, .16}, {15.00, .02}}}},
      {"pyramidnet-110", "crop-flip", {{{3.78, .11}, {3.15, .01}, {3.57, .16}, {18.45, .27}, {18.27, .18}, {18.20, .26}}}},
      {"pyramidnet-110", "cutout", {{{2.94, .12}, {2.49, .19}, {2.54, .02}, {17.71, .15}, {17.40, .29}, {17.34, .21}}}},
      {"pyramidnet-110", "autoaugment", {{{2.21, .04}, {2.02, .03}, {2.08, .06}, {16.91, .05}, {15.84, .12}, {15.64, .06}}}},
      {"pyramidnet-272", "crop-flip", {{{3.34, .10}, {2.89, .13}, {3.29, .08}, {17.64, .17}, {16.97, .21}, {16.71, .05}}}},
      {"pyramidnet-272", "cutout", {{{2.59, .02}, {2.37, .01}, {2.34, .10}, {16.88, .04}, {16.08, .18}, {15.86, .04}}}},
      {"pyramidnet-272", "autoaugment", {{{2.09, .24}, {2.00, .00}, {2.04, .05}, {15.05, .25}, {14.66, .23}, {14.68, .06}}}}};
  // clang-format on
  constexpr std::array<const char*, 3> optimizers{"sgd", "sam", "lpf-sgd"}, endings{"sgd", "sam", "lpf"};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < 6; ++i) {
      const char* dataset = i < 3 ? "cifar10" : "cifar100";
      out.push_back({concat("paper/", dataset, "-", row.model, "-", row.augment, "-", endings[i % 3]),
                     paper({dataset, row.model, optimizers[i % 3], row.augment}), row.figures[i].error,
                     row.figures[i].sd});
    }
}

}  // namespace detail

/// All rows of both tables except ImageNet's.
inline const std::vector<PaperResult>& recipes() {
  static const std::vector<PaperResult> all = [] {
    std::vector<PaperResult> out;
    detail::add_unaugmented(out);
    detail::add_augmented(out);
    return out;
  }();
  return all;
}

/// ValueError, listing the nearest names, if there is none of this name.
inline const PaperResult& recipe(std::string_view name) {
  std::vector<std::string> names;
  for (const PaperResult& r : recipes()) {
    if (r.name == name) return r;
    names.push_back(r.name);
  }
  fail("train", "there is no recipe '", name, "'", lpf::detail::suggest(name, names),
       "; --recipes lists all");
}

}  // namespace lpf::experiment
