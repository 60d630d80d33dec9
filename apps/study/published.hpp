// The measures of a study, and the paper's values for them: τ with the gap (the authors' notebook),
// by hyper-parameter (supplement, table 7; the gap itself: table 6), and for three optimizers'
// solutions (table 10).
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
};

namespace detail {

inline std::map<std::string, double> factors(double momentum, double width, double decay, double lr,
                                             double batch, double skip, double norm) {
  return {{"momentum", momentum}, {"width", width}, {"weight_decay", decay}, {"lr", lr},
          {"batch_size", batch},  {"skip", skip},   {"batch_norm", norm}};
}

}  // namespace detail

inline const std::map<std::string, double> published_gap =
    detail::factors(-.971, -.680, -.314, -.793, .988, -.269, -.096);

inline const std::vector<Published> measures{
    {"low_pass", "LPF", .606, detail::factors(-.994, .874, -.767, -.934, .998, -.543, .954), {1, .40, .17}},
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
     detail::factors(-.169, .954, -.036, -.112, .117, .013, .241)}};

}  // namespace study
