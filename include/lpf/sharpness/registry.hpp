// Every measure by name, with the values it reports:
//
//   for (const auto& m : sharpness::list()) std::cout << m.name << "\n";
//   sharpness::measure(net, params, data, {.measures = {"low_pass", "lambda_max"}});
//
// To add a measure, write its header and its entry in list(): measure() and every program then have it.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/sharpness/fisher_rao.hpp"
#include "lpf/sharpness/gradient_norm.hpp"
#include "lpf/sharpness/measuring.hpp"
#include "lpf/sharpness/shannon_entropy.hpp"

namespace lpf::sharpness {

/// One value of a report.
struct QuantityInfo {
  std::string key;       ///< Report::operator[]
  std::string title;     ///< in tables
  std::string sentence;  ///< its definition
};

struct MeasureInfo {
  std::string name;
  std::vector<QuantityInfo> quantities;  ///< the values it adds to the report
  void (*run)(Measuring&);
  /// Throws ValueError for options that run() would refuse; measure() calls it before it computes anything.
  void (*check)(const MeasureOptions&) = [](const MeasureOptions&) {};
};

namespace detail {

LPF_ONCE void run_low_pass(Measuring& m) {
  const MeasureOptions& o = m.options;
  Estimate e = low_pass(m.landscape, o.sigma, m.draws(o.draws));
  if (o.low_pass_blocks)
    e.blocks = low_pass_blocks(m.landscape, m.blocks, o.sigma, {.draws = e.draws, .key = o.key});
  m.add("low_pass", std::move(e));
}

LPF_ONCE void run_pac_bayes(Measuring& m) {
  PACBayes p = pac_bayes(m.landscape, m.options.pac_bayes, m.draws(m.options.pac_bayes_draws));
  m.add("pac_bayes_sigma", std::move(p.sigma));
  m.add("pac_bayes_norm", std::move(p.norm));
  if (m.options.pac_bayes.initial.defined()) m.add("pac_bayes_distance", std::move(p.distance));
}

LPF_ONCE void run_sam(Measuring& m) {
  AscentOptions options = m.options.sam;
  options.key = m.options.key;
  m.add("sam", sam_sharpness(m.landscape, options).sharpness);
}

}  // namespace detail

// clang-format off

/// All measures, in the order in which measure() computes them.
LPF_ONCE const std::vector<MeasureInfo>& list() {
  using M = Measuring&;
  using O = const MeasureOptions&;
  using detail::draws_of;
  static const std::vector<MeasureInfo> all{
      {"low_pass",
       {{"low_pass", "LPF", "mean loss after Gaussian noise of 1 % of each filter's size: the paper's measure; low is flat"}},
       detail::run_low_pass, [](O o) { detail::check_low_pass(o.sigma, draws_of(o, o.draws)); }},
      {"low_pass_fan_in",
       {{"low_pass_fan_in", "LPF, σ/√fan-in", "the same with noise of each unit, its weights together, of 10 % of its size: no more in a wide layer than in a narrow one"}},
       [](M m) { m.add("low_pass_fan_in", low_pass_fan_in(m.landscape, m.options.fan_in_sigma, m.draws(m.options.draws))); },
       [](O o) { detail::check_low_pass(o.fan_in_sigma, draws_of(o, o.draws), "sharpness::low_pass_fan_in"); }},
      {"epsilon",
       {{"epsilon", "ε-sharpness", "1 over the distance along the gradient at which the loss has risen by 0.1"}},
       [](M m) { m.add("epsilon", epsilon_sharpness(m.landscape, m.options.epsilon)); },
       [](O o) { detail::check_epsilon(o.epsilon); }},
      {"pac_bayes",
       {{"pac_bayes_sigma", "PAC-Bayes σ", "the noise, in units of the filters, that raises the mean loss by 0.1; here high is flat"},
        {"pac_bayes_norm", "PAC-Bayes, norm", "‖θ‖²/(4σ²) + ln(2N/δ), the bound's complexity as the published comparison used it"},
        {"pac_bayes_distance", "PAC-Bayes, distance", "the same with the distance to the initial weights, as the bound is defined"}},
       detail::run_pac_bayes,
       [](O o) { detail::check_pac_bayes(o.pac_bayes, draws_of(o, o.pac_bayes_draws)); }},
      {"frobenius_norm",
       {{"frobenius_norm", "‖H‖ Frobenius", "root of the sum of the squared eigenvalues of the Hessian"}},
       [](M m) { m.add("frobenius_norm", m.probes().frobenius_norm(m.draws(m.options.frobenius_draws))); },
       [](O o) { detail::check_draws("sharpness::frobenius_norm", o.frobenius_draws, o.until); }},
      {"fisher_rao",
       {{"fisher_rao", "Fisher-Rao norm", "θᵀHθ, the curvature along the weights themselves"}},
       [](M m) { m.add("fisher_rao", fisher_rao(m.hessian(), m.blocks)); }},
      {"lambda_max",
       {{"lambda_max", "λ_max", "largest eigenvalue: curvature of the steepest direction"}},
       [](M m) { m.add("lambda_max", {.value = m.spectrum().largest()}); },
       [](O o) { detail::check_spectrum(o.spectrum); }},
      {"trace",
       {{"trace", "trace", "sum of the eigenvalues: curvature of all directions together"}},
       [](M m) { m.add("trace", m.probes().trace(m.draws(m.options.draws))); },
       [](O o) { detail::check_draws("sharpness::trace", o.draws, o.until); }},
      {"effective_dimension",
       {{"effective_dimension", "effective dimension", "Σ λ/(λ+1): about how many directions are curved by more than 1"}},
       [](M m) { m.add("effective_dimension", m.spectrum().effective_dimension()); },
       [](O o) { detail::check_spectrum(o.spectrum); }},
      {"shannon_entropy",
       {{"shannon_entropy", "Shannon entropy", "how unsure the predictions are, in nats"}},
       [](M m) { m.add("shannon_entropy", shannon_entropy(m.landscape, m.model)); }},
      {"local_entropy",
       {{"local_entropy", "local entropy", "−ln of the mean of e^−loss around the weights; low is a wide valley"}},
       [](M m) { m.add("local_entropy", local_entropy(m.landscape, m.options.local_entropy, m.draws(m.options.draws))); },
       [](O o) { detail::check_local_entropy(o.local_entropy, draws_of(o, o.draws)); }},
      {"local_entropy_gradient",
       {{"local_entropy_gradient", "its gradient", "γ times how far 20 noisy steps of gradient descent drift from the weights"}},
       [](M m) { m.add("local_entropy_gradient",
                       local_entropy_gradient(m.landscape, m.options.local_entropy_gradient, m.draws(m.options.chains))); },
       [](O o) { detail::check_local_entropy_gradient(o.local_entropy_gradient, draws_of(o, o.chains)); }},
      {"sam",
       {{"sam", "SAM", "largest rise of the loss within a ball of radius 0.05"}},
       detail::run_sam, [](O o) { detail::check_ascent(o.sam); }},
      {"trace_hutchpp",
       {{"trace_hutchpp", "trace, Hutch++", "the same, the large eigenvalues exactly and the rest by draws"}},
       [](M m) { m.add("trace_hutchpp", trace_hutchpp(m.hessian(), m.options.draws, m.options.key)); },
       [](O o) { detail::check_hutchpp(o.draws); }},
      {"gradient_norm",
       {{"gradient_norm", "‖∇L‖", "length of the loss's gradient: how steep it still is at the weights"}},
       [](M m) { m.add("gradient_norm", gradient_norm(m.landscape, m.blocks)); }},
      {"density",  // Report::density
       {{"density", "density", "density of the eigenvalues (in --plot)"}},
       [](M m) { m.report.density = m.spectrum().density(); },
       [](O o) { detail::check_spectrum(o.spectrum); }},
      {"profile",  // Report::profile
       {{"profile", "profile", "mean loss at growing distance (in --plot)"}},
       [](M m) { m.report.profile = profile(m.landscape, m.options.profile, m.draws(m.options.draws)); },
       [](O o) { detail::check_profile(o.profile, draws_of(o, o.draws)); }},
  };
  return all;
}

// clang-format on

LPF_ONCE std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const MeasureInfo& m : list()) out.push_back(m.name);
  return out;
}

/// @throws ValueError, with the nearest names, for an unknown name.
LPF_ONCE const MeasureInfo& info(std::string_view name) {
  for (const MeasureInfo& m : list())
    if (m.name == name) return m;
  fail("sharpness", "there is no measure '", name, "'", lpf::detail::suggest(name, names()));
}

/// The measures that the options name, all if they name none. @throws ValueError for an unknown name, and for
/// options that one of them refuses: "draws" below 6 for trace_hutchpp, for example.
LPF_ONCE std::vector<const MeasureInfo*> checked_measures(const MeasureOptions& o) {
  std::vector<const MeasureInfo*> out;
  for (const std::string& name : o.measures.empty() ? names() : o.measures) {
    out.push_back(&info(name));
    out.back()->check(o);
  }
  return out;
}

/// The measure that reports a value. @throws ValueError, with the nearest keys, if there is none.
LPF_ONCE const MeasureInfo& measure_of(std::string_view key) {
  std::vector<std::string> keys;
  for (const MeasureInfo& m : list())
    for (const QuantityInfo& q : m.quantities) {
      if (q.key == key) return m;
      keys.push_back(q.key);
    }
  fail("sharpness", "no measure reports '", key, "'", lpf::detail::suggest(key, keys));
}

/// The quantity of a report's key. @throws ValueError, with the nearest keys, if there is none.
LPF_ONCE const QuantityInfo& quantity(std::string_view key) {
  const auto& all = measure_of(key).quantities;
  return *std::find_if(all.begin(), all.end(), [&](const QuantityInfo& q) { return q.key == key; });
}

/// The measures that report these keys, each once, ordered by their first key.
LPF_ONCE std::vector<std::string> measures_of(const std::vector<std::string>& keys) {
  std::vector<std::string> out;
  for (const std::string& key : keys)
    if (const std::string& name = measure_of(key).name; std::find(out.begin(), out.end(), name) == out.end())
      out.push_back(name);
  return out;
}

/// The names as constants.
struct [[deprecated("write the names: {.measures = {\"low_pass\", \"trace\"}}")]] Measure {
  static constexpr const char *low_pass = "low_pass", *epsilon = "epsilon", *pac_bayes = "pac_bayes",
                              *frobenius_norm = "frobenius_norm", *fisher_rao = "fisher_rao",
                              *lambda_max = "lambda_max", *trace = "trace",
                              *effective_dimension = "effective_dimension",
                              *shannon_entropy = "shannon_entropy", *local_entropy = "local_entropy",
                              *local_entropy_gradient = "local_entropy_gradient", *sam = "sam",
                              *trace_hutchpp = "trace_hutchpp", *density = "density", *profile = "profile";
};

}  // namespace lpf::sharpness
