// Means over the seeds of a study's models, and Kendall's τ over them, with resamples for intervals and for paired
// differences between measures.
#pragma once

#include <lpf/sharpness/kendall.hpp>
#include <numeric>

#include "results.hpp"

namespace study {

using sharpness::Interval;
using sharpness::Resampled;

class Means {
 public:
  /// A model below `gate` % of training accuracy is left out, as is one that has not converged.
  Means(const Plan& plan, const Results& results, double gate, const sharpness::BootstrapOptions& bootstrap)
      : plan_(plan), results_(results), gate_(gate), bootstrap_(bootstrap) {
    std::vector<std::size_t> seeds(plan.seeds());
    std::iota(seeds.begin(), seeds.end(), std::size_t{0});
    all_ = over(seeds);
  }

  double gate() const { return gate_; }
  const sharpness::BootstrapOptions& options() const { return bootstrap_; }
  /// Of each configuration that has a model: the mean over all its seeds.
  const std::vector<Result>& all() const { return all_; }
  bool counts(const Result& r) const {
    return r.at("converged") > 0 && r.at("train_error") <= 100 - gate_ + 1e-9;
  }

  /// For each configuration the mean over those of `seeds` (with repetition) that count; NaN in a column if one value
  /// is NaN.
  const std::vector<Result>& over(std::span<const std::size_t> seeds) const {
    std::vector<std::size_t> key(seeds.begin(), seeds.end());
    std::sort(key.begin(), key.end());
    const auto [place, fresh] = by_seeds_.try_emplace(key);
    if (!fresh) return place->second;
    for (std::size_t c = 0; c < plan_.configurations(); ++c) {
      Result sum;
      double count = 0;
      for (const std::size_t seed : key) {
        const auto found = results_.find(seed * plan_.configurations() + c);
        if (found == results_.end() || !counts(found->second)) continue;
        for (const auto& [name, value] : found->second) sum[name] += value;
        ++count;
      }
      if (count == 0) continue;
      for (auto& [name, value] : sum) value /= count;
      place->second.push_back(std::move(sum));
    }
    return place->second;
  }

  struct Pairs {
    std::vector<double> x, y;
    std::vector<const Result*> of;
  };
  static Pairs pairs(const std::vector<Result>& means, const std::string& x, const std::string& y) {
    Pairs out;
    for (const Result& m : means)
      if (std::isfinite(m.at(x)) && std::isfinite(m.at(y)))
        out.x.push_back(m.at(x)), out.y.push_back(m.at(y)), out.of.push_back(&m);
    return out;
  }

  /// τ(x, y) over means of the seeds, resampled over the seeds.
  Resampled tau_over_seeds(const std::string& x, const std::string& y) const {
    std::map<const std::vector<Result>*, double> known;  // few seeds have few resamples
    return sharpness::resampled(
        plan_.seeds(),
        [&](std::span<const std::size_t> seeds) {
          const std::vector<Result>& means = over(seeds);
          const auto [place, fresh] = known.try_emplace(&means);
          if (fresh) {
            const Pairs p = pairs(means, x, y);
            place->second = sharpness::kendall_tau_b(p.x, p.y);
          }
          return place->second;
        },
        bootstrap_);
  }

  /// τ(x, y) over the means of all seeds, resampled over the configurations; with `factor`, only those where it has
  /// this value.
  Resampled tau_over_settings(const std::string& x, const std::string& y, const std::string& factor = {},
                              double value = 0) const {
    std::vector<const Result*> of;
    for (const Result& m : all_)
      if (factor.empty() || m.at(factor) == value) of.push_back(&m);
    return sharpness::resampled(
        of.size(),
        [&](std::span<const std::size_t> index) {
          std::vector<double> a, b;
          for (const std::size_t i : index) {
            const double p = of[i]->at(x), q = of[i]->at(y);
            if (std::isfinite(p) && std::isfinite(q)) a.push_back(p), b.push_back(q);
          }
          return sharpness::kendall_tau_b(a, b);
        },
        bootstrap_);
  }

  /// The granulated coefficient: over groups of settings that differ only in `factor`.
  Interval within(const std::string& factor, const std::string& x, const std::string& y) const {
    const Pairs p = pairs(all_, x, y);
    std::map<std::vector<double>, std::size_t> numbers;
    std::vector<std::size_t> group;
    for (const Result* m : p.of) {
      std::vector<double> rest;
      for (std::size_t k = 1; k < plan_.factors.size(); ++k)
        if (plan_.factors[k].name != factor) rest.push_back(m->at(plan_.factors[k].name));
      group.push_back(numbers.try_emplace(rest, numbers.size()).first->second);
    }
    return sharpness::granulated_kendall(group, p.x, p.y, bootstrap_);
  }

 private:
  const Plan& plan_;
  const Results& results_;
  double gate_;
  sharpness::BootstrapOptions bootstrap_;
  std::vector<Result> all_;
  mutable std::map<std::vector<std::size_t>, std::vector<Result>> by_seeds_;
};

}  // namespace study
