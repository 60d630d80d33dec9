// Options and report of measure(), and what measures share during a run: the landscape, and the Hessian, its
// products with random vectors and its Lanczos runs, each computed at first use.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/sharpness/ascent.hpp"
#include "lpf/sharpness/epsilon.hpp"
#include "lpf/sharpness/local_entropy.hpp"
#include "lpf/sharpness/local_entropy_gradient.hpp"
#include "lpf/sharpness/pac_bayes.hpp"
#include "lpf/sharpness/profile.hpp"
#include "lpf/sharpness/spectrum.hpp"
#include "lpf/sharpness/trace.hpp"

namespace lpf::sharpness {

struct MeasureOptions {
  std::vector<std::string> measures = {};  ///< by name, in this order (registry.hpp); all if empty
  std::int64_t draws =
      100;  ///< of low_pass, low_pass_fan_in, trace, local_entropy and profile; products of trace_hutchpp
  std::uint64_t key = 0;  ///< of all noise
  Until until = {};       ///< or as many draws as a relative error needs
  bool filter_normalize = true;
  std::int64_t replicas = 8;  ///< LandscapeOptions
  std::int64_t samples = 0;   ///< LandscapeOptions
  Ranks ranks = {};           ///< processes that share the work: the draws, or the batches of a product
  double sigma = 0.01;        ///< of low_pass
  double fan_in_sigma = 0.1;  ///< of low_pass_fan_in
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
  bool low_pass_blocks = false;  ///< as many additional draws for each block
  /// Called before each measure, and once after the last with an empty name.
  std::function<void(std::string_view next, std::size_t done, std::size_t total)> progress = {};
};

namespace detail {
/// `n` draws with the options' key, or as many as they say.
inline Draws draws_of(const MeasureOptions& o, std::int64_t n) {
  return {.draws = n, .key = o.key, .until = o.until};
}
}  // namespace detail

struct Measurement {
  std::string name;
  Estimate estimate;
  std::string note = {};  ///< the reason if the value is NaN
};

struct Report {
  double loss = 0;  ///< mean over the samples, at θ
  std::int64_t samples = 0;
  std::vector<Measurement> measurements;
  Curve density, profile;
  std::vector<Eigenpair> eigenpairs;

  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// ValueError if it was not measured.
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

/// One run of measure(), on which the entries of the registry compute their measures.
class Measuring {
 public:
  const Landscape& landscape;
  const std::function<Tensor(const Tensor&)> model;  ///< samples to outputs
  const MeasureOptions& options;
  const std::vector<Block> blocks;
  Report report;

  Measuring(const Landscape& l, std::function<Tensor(const Tensor&)> f, const MeasureOptions& o)
      : landscape(l), model(std::move(f)), options(o), blocks(blocks_of(l.params(), o.blocks)) {
    report.samples = l.samples();
    report.loss = l.losses().mean(0);
    check_finite();
  }

  /// Adds a value to the report.
  void add(std::string key, Estimate e) { report.measurements.push_back({std::move(key), std::move(e)}); }

  Draws draws(std::int64_t n) const { return detail::draws_of(options, n); }
  const Hessian& hessian() { return hessian_ ? *hessian_ : hessian_.emplace(landscape); }
  Probes& probes() { return probes_ ? *probes_ : probes_.emplace(hessian(), options.key, blocks); }
  LPF_ONCE const Spectrum& spectrum() {
    if (spectrum_) return *spectrum_;
    SpectrumOptions own = options.spectrum;
    own.key = options.key;
    spectrum_.emplace(hessian(), own);
    report.eigenpairs = spectrum_->eigenpairs();
    return *spectrum_;
  }

 private:
  LPF_ONCE void check_finite() const {
    const Tensor theta = landscape.params().theta();
    const bool sound = std::isfinite(detail::inner(theta, theta));
    check<NumericError>(sound, "sharpness::measure",
                        "the weights hold NaN or infinity: there is nothing to measure");
    check<NumericError>(std::isfinite(report.loss), "sharpness::measure",
                        "the loss at the weights as they are is ", report.loss, ": are the samples finite?");
  }

  std::optional<Hessian> hessian_;
  std::optional<Probes> probes_;
  std::optional<Spectrum> spectrum_;
};

}  // namespace lpf::sharpness
