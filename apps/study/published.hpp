// The measures of a study, and the paper's values for them: τ with the gap (the authors' notebook),
// by hyper-parameter (supplement, table 7; the gap itself: table 6), with the noise levels and along width, and
// for three optimizers' solutions (table 10).
#pragma once

#include <limits>
#include <map>
#include <string>
#include <vector>

namespace study {

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

struct Published {
  std::string key, title;
  double gap = unknown;
  std::map<std::string, double> by_factor = {};
  std::vector<double> optimizers = {};  ///< SGD, SAM, LPF-SGD on CIFAR-10, ResNet-18, relative to the largest
  bool positive = true;                 ///< can be plotted on a logarithmic axis
  /// What it is computed from: filter units and the registry of measures; the weights as they are, without filter
  /// normalisation ("raw_" before the registry's key); or other values of the line (results.hpp).
  enum class From { filters, raw, line } from = From::filters;
};

/// L, L_σ − L, (L_σ − L)/L and their like are over these σ too; σ/√fan-in over those.
inline const std::vector<double> sigmas{0.002, 0.005, 0.01, 0.02, 0.05, 0.1}, fan_in_sigmas{0.03, 0.1, 0.3};

namespace detail {

inline std::map<std::string, double> factors(double momentum, double width, double decay, double lr,
                                             double batch, double skip, double norm) {
  return {{"momentum", momentum}, {"width", width}, {"weight_decay", decay}, {"lr", lr},
          {"batch_size", batch},  {"skip", skip},   {"batch_norm", norm}};
}

}  // namespace detail

inline const std::map<std::string, double> published_gap =
    detail::factors(-.971, -.680, -.314, -.793, .988, -.269, -.096);

/// τ with the level of noise, or with the test error along width: by study.
inline double published_tau(const std::string& study, const std::string& key) {
  static const std::map<std::string, std::map<std::string, double>> all{
      {"data-noise", {{"low_pass", .916}, {"lambda_max", .67}, {"frobenius_norm", .95}, {"trace", .80}}},
      {"label-noise", {{"low_pass", .867}}},
      {"double-descent", {{"low_pass", .851}}}};
  const auto found = all.find(study);
  return found != all.end() && found->second.contains(key) ? found->second.at(key) : unknown;
}

inline const std::vector<Published> measures{
    {.key = "train_loss", .title = "training loss", .from = Published::From::line},
    {"low_pass", "LPF", .606, detail::factors(-.994, .874, -.767, -.934, .998, -.543, .954), {1, .40, .17}},
    {.key = "low_pass_rise", .title = "LPF − L", .positive = false, .from = Published::From::line},
    {.key = "low_pass_ratio", .title = "(LPF − L)/L", .positive = false, .from = Published::From::line},
    {"low_pass_fan_in", "LPF, σ/√fan-in"},
    {.key = "low_pass_fan_in_rise",
     .title = "LPF, σ/√fan-in, − L",
     .positive = false,
     .from = Published::From::line},
    {"epsilon",
     "ε-sharpness",
     .383,
     detail::factors(-.781, .147, -.321, -.772, .967, .509, 1),
     {.52, .36, 1}},
    {"pac_bayes_norm",
     "PAC-Bayes",
     .466,
     detail::factors(-.994, .981, -.669, -.971, .996, .322, .996),
     {1, .70, .58}},
    {"pac_bayes_distance", "PAC-Bayes, distance"},
    {"frobenius_norm",
     "‖H‖ Frobenius",
     .481,
     detail::factors(-.930, .029, -.474, -.826, .994, .218, .996),
     {1, .34, .71}},
    {"fisher_rao",
     "Fisher-Rao",
     .270,
     detail::factors(-.824, -.226, -.037, -.545, .855, -.605, 1),
     {1, .45, .46},
     false},
    {"lambda_max", "λ_max", unknown, detail::factors(-.891, -.063, -.291, -.692, .981, .263, .996)},
    {"trace", "trace", unknown, detail::factors(-.942, -.127, -.381, -.745, .984, -.199, .987), {}, false},
    {"effective_dimension", "effective dimension", unknown,
     detail::factors(-.360, -.137, -.147, -.139, .335, -.268, .047)},
    {"shannon_entropy",
     "Shannon entropy",
     .296,
     detail::factors(-.723, -.174, .246, -.352, .718, .613, .950),
     {1, .61, .21}},
    {"local_entropy", "local entropy"},
    {"local_entropy_gradient", "entropy's gradient", -.064,
     detail::factors(-.169, .954, -.036, -.112, .117, .013, .241)},
    {.key = "raw_low_pass", .title = "LPF, raw", .from = Published::From::raw},
    {.key = "raw_frobenius_norm", .title = "‖H‖ Frobenius, raw", .from = Published::From::raw},
    {.key = "raw_lambda_max", .title = "λ_max, raw", .from = Published::From::raw},
    {.key = "raw_trace", .title = "trace, raw", .positive = false, .from = Published::From::raw}};

/// What makes a raw measure differ from one in filter units: rows of the tables by hyper-parameter.
inline const std::vector<Published> units{
    {.key = "unit_size", .title = "filters' size c", .from = Published::From::line},
    {.key = "raw_trace_c2",
     .title = "trace, raw, · mean c²",
     .positive = false,
     .from = Published::From::line}};

}  // namespace study
