// All measures of a trained model in one call (Bisla, Wang, Choromanska 2022, section 3, and more):
//
//   const auto report = sharpness::measure(net, params, data, {.draws = 100, .key = 7});
//   report["low_pass"].value, report["low_pass"].standard_error, …
//
// Measures that need the same passes share them: trace and Frobenius norm their products with random vectors;
// λ_max, effective dimension, density and eigenpairs their Lanczos runs; all Hessian measures one graph. Each
// header says what its measure is. The model is in evaluation mode meanwhile, and afterwards as it was.
#pragma once

#include <optional>

#include "lpf/ops/loss.hpp"
#include "lpf/sharpness/ascent.hpp"
#include "lpf/sharpness/epsilon.hpp"
#include "lpf/sharpness/fisher_rao.hpp"
#include "lpf/sharpness/local_entropy.hpp"
#include "lpf/sharpness/local_entropy_gradient.hpp"
#include "lpf/sharpness/pac_bayes.hpp"
#include "lpf/sharpness/profile.hpp"
#include "lpf/sharpness/shannon_entropy.hpp"
#include "lpf/sharpness/spectrum.hpp"
#include "lpf/sharpness/trace.hpp"

namespace lpf::sharpness {

enum class Measure {
  low_pass,                // "low_pass"
  epsilon,                 // "epsilon"
  pac_bayes,               // "pac_bayes_sigma", "pac_bayes_norm", "pac_bayes_distance"
  frobenius_norm,          // "frobenius_norm"
  fisher_rao,              // "fisher_rao"
  lambda_max,              // "lambda_max"
  trace,                   // "trace"
  effective_dimension,     // "effective_dimension"
  shannon_entropy,         // "shannon_entropy"
  local_entropy,           // "local_entropy"
  local_entropy_gradient,  // "local_entropy_gradient"
  sam,                     // "sam"
  trace_hutchpp,           // "trace_hutchpp"
  density,                 // Report::density
  profile                  // Report::profile
};

inline const std::vector<Measure> all{Measure::low_pass,
                                      Measure::epsilon,
                                      Measure::pac_bayes,
                                      Measure::frobenius_norm,
                                      Measure::fisher_rao,
                                      Measure::lambda_max,
                                      Measure::trace,
                                      Measure::effective_dimension,
                                      Measure::shannon_entropy,
                                      Measure::local_entropy,
                                      Measure::local_entropy_gradient,
                                      Measure::sam,
                                      Measure::trace_hutchpp,
                                      Measure::density,
                                      Measure::profile};

struct MeasureOptions {
  std::vector<Measure> measures = all;
  std::int64_t draws = 100;  ///< of low_pass, trace, local_entropy and profile; products of trace_hutchpp
  std::uint64_t key = 0;     ///< of all noise
  Until until = {};          ///< or as many as a relative error needs
  bool filter_normalize = true;
  std::int64_t replicas = 8;  ///< LandscapeOptions
  std::int64_t samples = 0;   ///< LandscapeOptions
  double sigma = 0.01;        ///< of low_pass
  EpsilonOptions epsilon = {};
  PACBayesOptions pac_bayes = {};
  std::int64_t pac_bayes_draws = 10;
  std::int64_t frobenius_draws = 10;
  SpectrumOptions spectrum = {};  ///< its key is `key`
  LocalEntropyOptions local_entropy = {};
  LocalEntropyGradientOptions local_entropy_gradient = {};
  std::int64_t chains = 8;                                        ///< of local_entropy_gradient
  AscentOptions sam = {};                                         ///< its key is `key`
  std::vector<double> profile = {0, 0.01, 0.02, 0.05, 0.1, 0.2};  ///< the α
  BlockLevel blocks = BlockLevel::layer;
  bool low_pass_blocks = false;  ///< as many draws again for each block
  /// Called before each measure, and once after the last with an empty name.
  std::function<void(std::string_view next, std::size_t done, std::size_t total)> progress = {};
};

struct Measurement {
  std::string name;
  Estimate estimate;
  std::string note = {};  ///< why the value is NaN, where it is
};

struct Report {
  double loss = 0;  ///< mean over the samples, at θ
  std::int64_t samples = 0;
  std::vector<Measurement> measurements;
  Curve density, profile;
  std::vector<Eigenpair> eigenpairs;

  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// ValueError where it was not measured.
  const Estimate& operator[](std::string_view name) const {
    if (const Measurement* m = find(name)) return m->estimate;
    std::string names;
    for (const Measurement& m : measurements) names += concat(names.empty() ? "" : ", ", m.name);
    fail("sharpness::Report", "there is no '", name, "' among ", names);
  }

 private:
  LPF_ONCE const Measurement* find(std::string_view name) const {
    for (const Measurement& m : measurements)
      if (m.name == name) return &m;
    return nullptr;
  }
};

/// Cross-entropy of each sample, the mean over its tokens if it has several.
LPF_ONCE Tensor cross_entropy_of_samples(const Tensor& output, const Tensor& target) {
  const Tensor losses = cross_entropy(output, target, {.reduction = Reduction::none});
  if (losses.rank() <= 1) return losses;
  return mean(reshape(losses, {losses.size(0), losses.numel() / losses.size(0)}), {1});
}

namespace detail {

LPF_ONCE std::string_view name_of(Measure m) {
  constexpr std::string_view names[] = {"low_pass",
                                        "epsilon",
                                        "pac_bayes",
                                        "frobenius_norm",
                                        "fisher_rao",
                                        "lambda_max",
                                        "trace",
                                        "effective_dimension",
                                        "shannon_entropy",
                                        "local_entropy",
                                        "local_entropy_gradient",
                                        "sam",
                                        "trace_hutchpp",
                                        "density",
                                        "profile"};
  return names[static_cast<std::size_t>(m)];
}

/// The measures of one landscape; what several need is made when the first asks.
class Measuring {
 public:
  Measuring(const Landscape& landscape, std::function<Tensor(const Tensor&)> model, const MeasureOptions& o)
      : l_(landscape), model_(std::move(model)), o_(o), blocks_(blocks_of(landscape.params(), o.blocks)) {}

  LPF_ONCE Report run() {
    report_.samples = l_.samples();
    report_.loss = l_.losses().mean(0);
    check_finite();
    for (std::size_t i = 0; i < o_.measures.size(); ++i) {
      const Measure m = o_.measures[i];
      if (o_.progress) o_.progress(name_of(m), i, o_.measures.size());
      try {
        measure(m);
      } catch (const NumericError& e) {  // no root, say: the others have values all the same
        const bool root = m == Measure::pac_bayes;
        const std::string name = concat(name_of(m), root ? "_sigma" : "");
        report_.measurements.push_back({name, {.value = std::numeric_limits<double>::quiet_NaN()}, e.what()});
      }
    }
    if (o_.progress) o_.progress("", o_.measures.size(), o_.measures.size());
    return std::move(report_);
  }

 private:
  LPF_ONCE void check_finite() const {
    const Tensor theta = l_.params().theta();
    const bool sound = std::isfinite(inner(theta, theta));
    check<NumericError>(sound, "sharpness::measure",
                        "the weights hold NaN or infinity: there is nothing to measure");
    check<NumericError>(std::isfinite(report_.loss), "sharpness::measure",
                        "the loss at the weights as they are is ", report_.loss, ": are the samples finite?");
  }
  void add(std::string name, Estimate e) { report_.measurements.push_back({std::move(name), std::move(e)}); }
  Draws draws(std::int64_t n) const { return {.draws = n, .key = o_.key, .until = o_.until}; }
  const Hessian& hessian() { return hessian_ ? *hessian_ : hessian_.emplace(l_); }
  Probes& probes() { return probes_ ? *probes_ : probes_.emplace(hessian(), o_.key, blocks_); }
  LPF_ONCE const Spectrum& spectrum() {
    if (spectrum_) return *spectrum_;
    SpectrumOptions options = o_.spectrum;
    options.key = o_.key;
    spectrum_.emplace(hessian(), options);
    report_.eigenpairs = spectrum_->eigenpairs();
    return *spectrum_;
  }

  LPF_ONCE void measure(Measure m) {
    switch (m) {
      case Measure::low_pass: {
        Estimate e = low_pass(l_, o_.sigma, draws(o_.draws));
        if (o_.low_pass_blocks)
          e.blocks = low_pass_blocks(l_, blocks_, o_.sigma, {.draws = e.draws, .key = o_.key});
        return add("low_pass", std::move(e));
      }
      case Measure::epsilon: return add("epsilon", epsilon_sharpness(l_, o_.epsilon));
      case Measure::pac_bayes: {
        PACBayes p = pac_bayes(l_, o_.pac_bayes, draws(o_.pac_bayes_draws));
        add("pac_bayes_sigma", std::move(p.sigma));
        add("pac_bayes_norm", std::move(p.norm));
        if (o_.pac_bayes.initial.defined()) add("pac_bayes_distance", std::move(p.distance));
        return;
      }
      case Measure::frobenius_norm:
        return add("frobenius_norm", probes().frobenius_norm(draws(o_.frobenius_draws)));
      case Measure::fisher_rao: return add("fisher_rao", fisher_rao(hessian(), blocks_));
      case Measure::lambda_max: return add("lambda_max", {.value = spectrum().largest()});
      case Measure::trace: return add("trace", probes().trace(draws(o_.draws)));
      case Measure::effective_dimension: return add("effective_dimension", spectrum().effective_dimension());
      case Measure::shannon_entropy: return add("shannon_entropy", shannon_entropy(l_, model_));
      case Measure::local_entropy:
        return add("local_entropy", local_entropy(l_, o_.local_entropy, draws(o_.draws)));
      case Measure::local_entropy_gradient:
        return add("local_entropy_gradient",
                   local_entropy_gradient(l_, o_.local_entropy_gradient, draws(o_.chains)));
      case Measure::sam: {
        AscentOptions options = o_.sam;
        options.key = o_.key;
        return add("sam", sam_sharpness(l_, options).sharpness);
      }
      case Measure::trace_hutchpp: return add("trace_hutchpp", trace_hutchpp(hessian(), o_.draws, o_.key));
      case Measure::density: report_.density = spectrum().density(); return;
      case Measure::profile: report_.profile = profile(l_, o_.profile, draws(o_.draws)); return;
    }
  }

  const Landscape& l_;
  std::function<Tensor(const Tensor&)> model_;
  const MeasureOptions& o_;
  std::vector<Block> blocks_;
  std::optional<Hessian> hessian_;
  std::optional<Probes> probes_;
  std::optional<Spectrum> spectrum_;
  Report report_;
};

}  // namespace detail

/// Measures model(x), whose weights are `params`, on `data`. losses(output, target) gives the losses of the
/// samples, [B]. A measure that has no value for this model (no root, say) is NaN, with a note.
/// @throws NumericError where weights or loss are not finite; ValueError for options out of range.
template <class Model, class Losses = decltype(&cross_entropy_of_samples)>
Report measure(const Model& model, const ParameterStore& params, const Data& data,
               const MeasureOptions& options = {}, Losses losses = cross_entropy_of_samples) {
  const Landscape landscape(params, data,
                            [&](const Tensor& x, const Tensor& y) { return losses(model(x), y); },
                            {options.filter_normalize, options.replicas, options.samples});
  return detail::Measuring(
             landscape, [&](const Tensor& x) { return model(x); }, options)
      .run();
}
template <class Model, class Losses = decltype(&cross_entropy_of_samples)>
Report measure(const Model& model, const ParameterStore& params, const TensorDataset& data,
               const MeasureOptions& options = {}, Losses losses = cross_entropy_of_samples) {
  return measure(model, params, Data{data.images, data.labels}, options, losses);
}

}  // namespace lpf::sharpness
