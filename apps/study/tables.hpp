// Tables and figures of a study, from the results of its models.
#pragma once

#include <lpf/io/output_folder.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/report/table.hpp>
#include <lpf/sharpness/kendall.hpp>
#include <numeric>

#include "results.hpp"

namespace study {

using sharpness::Interval;

inline std::string shown(double value) { return std::isfinite(value) ? format_fixed(value, 3) : "–"; }
inline std::string shown(const Interval& i) {
  if (!std::isfinite(i.value)) return "–";
  return concat(shown(i.value), " [", shown(i.low), ", ", shown(i.high), "]");
}

/// Writes report.html, values.csv (every number of the tables), models.csv, and an SVG for each measure.
class Tables {
 public:
  Tables(const Plan& plan, const Results& results, std::string out, std::int64_t resamples,
         const std::string& command)
      : plan_(plan),
        results_(results),
        out_(std::move(out)),
        bootstrap_{.resamples = resamples},
        report_({.title = "Sharpness against generalisation: " + plan.study,
                 .lead = lead(),
                 .command = command,
                 .seeds = concat(plan.seeds(), " seeds from 0")}) {
    std::printf("\n%s\n", lead().c_str());
  }

  /// False if there are too few models for a table.
  bool make() {
    std::vector<std::size_t> seeds(plan_.seeds());
    std::iota(seeds.begin(), seeds.end(), std::size_t{0});
    means_ = seed_means(seeds);
    if (means_.size() < 2) {
      std::printf("Fewer than two settings have converged models: no tables yet.\n");
      return false;
    }
    if (plan_.study == "grid") {
      overall();
      by_factor("Hyper-parameter against gap, and against measure", false);
      by_factor("Measure against gap, one hyper-parameter varying", true);
      scatter("gap", "batch_norm");
    } else if (plan_.study == "optimizers") {
      side_by_side();
    } else {
      const std::string factor = plan_.factors[1].name;
      const bool descent = plan_.study == "double-descent";
      along(factor, descent ? "test_error" : factor);
      curves(factor);
      scatter(descent ? "test_error" : factor, "");
    }
    write();
    return true;
  }

 private:
  std::string lead() const {
    std::size_t converged = 0;
    double seconds = 0;
    for (const auto& [id, r] : results_) {
      converged += r.at("converged") > 0;
      seconds += r.at("train_seconds") + r.at("measure_seconds");
    }
    return concat(plan_.description, ". ", results_.size(), " of ", plan_.size(), " models, ", converged,
                  plan_.stop > 0 ? " of them converged" : " of them finite", "; ", format_fixed(seconds, 0),
                  " s of training and measuring.");
  }

  /// For each configuration the mean over those of `seeds` (with repetition) that converged; NaN in a column
  /// if one value is NaN.
  std::vector<Result> seed_means(std::span<const std::size_t> seeds) const {
    std::vector<Result> out;
    for (std::size_t c = 0; c < plan_.configurations(); ++c) {
      Result sum;
      double count = 0;
      for (const std::size_t seed : seeds) {
        const auto found = results_.find(seed * plan_.configurations() + c);
        if (found == results_.end() || !(found->second.at("converged") > 0)) continue;
        for (const auto& [name, value] : found->second) sum[name] += value;
        ++count;
      }
      if (count == 0) continue;
      for (auto& [name, value] : sum) value /= count;
      out.push_back(std::move(sum));
    }
    return out;
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

  /// The granulated coefficient: over groups of settings that differ only in `factor`.
  Interval within(const std::string& factor, const std::string& x, const std::string& y) const {
    const Pairs p = pairs(means_, x, y);
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

  /// τ(x, y) over means of the seeds, with an interval over resampled seeds.
  Interval over_seeds(const std::string& x, const std::string& y) const {
    return sharpness::bootstrap(
        plan_.seeds(),
        [&](std::span<const std::size_t> seeds) {
          const Pairs p = pairs(seed_means(seeds), x, y);
          return sharpness::kendall_tau_b(p.x, p.y);
        },
        bootstrap_);
  }

  std::string keep(const std::string& table, const std::string& row, const std::string& column,
                   const Interval& i, double paper = unknown) {
    values_.push_back({{"table", table},
                       {"row", row},
                       {"column", column},
                       {"value", i.value},
                       {"low", i.low},
                       {"high", i.high},
                       {"paper", paper}});
    return shown(i);
  }
  void show(const std::string& heading, const std::string& words, const TextTable& table) {
    std::printf("\n%s\n%s\n%s", heading.c_str(), words.c_str(), table.to_string().c_str());
    report_.section(heading, words).table(table);
  }

  void overall() {
    TextTable table({"measure", "τ with the gap", "the paper's", "mean of the within-factor τ"});
    for (const Published& m : measures) {
      const Pairs p = pairs(means_, m.key, "gap");
      const Interval tau = sharpness::kendall(p.x, p.y, bootstrap_);
      double sum = 0;
      for (std::size_t k = 1; k < plan_.factors.size(); ++k)
        sum +=
            within(plan_.factors[k].name, m.key, "gap").value / static_cast<double>(plan_.factors.size() - 1);
      table.add_row({m.title, keep("gap", m.key, "all", tau, m.gap), shown(m.gap), shown(sum)});
    }
    show("Measure against gap",
         concat("Kendall's τ over ", means_.size(),
                " settings, each the mean of its seeds; 95 % intervals by bootstrap over settings."),
         table);
  }

  void by_factor(const std::string& heading, bool against_gap) {
    std::vector<std::string> header{"measure"};
    for (std::size_t k = 1; k < plan_.factors.size(); ++k) header.push_back(plan_.factors[k].name);
    TextTable table(header);
    const auto row = [&](const std::string& key, const std::string& title,
                         const std::map<std::string, double>& paper) {
      std::vector<std::string> cells{title}, theirs{"  the paper's"};
      for (std::size_t k = 1; k < plan_.factors.size(); ++k) {
        const std::string& factor = plan_.factors[k].name;
        const double value = paper.contains(factor) ? paper.at(factor) : unknown;
        const Interval tau = against_gap ? within(factor, key, "gap") : within(factor, factor, key);
        cells.push_back(keep(against_gap ? "gap-within" : "hyper-parameter", key, factor, tau, value));
        theirs.push_back(shown(value));
      }
      table.add_row(cells);
      if (!paper.empty()) table.add_row(theirs);
    };
    if (!against_gap) row("gap", "gap", published_gap);
    for (const Published& m : measures)
      row(m.key, m.title, against_gap ? std::map<std::string, double>{} : m.by_factor);
    show(heading,
         "τ over settings that differ in one hyper-parameter alone, the mean over all such groups; 95 % "
         "intervals "
         "by bootstrap over the groups.",
         table);
  }

  /// Each measure against `y` over the levels of a factor.
  void along(const std::string& factor, const std::string& y) {
    const double lpf = plan_.study == "data-noise" ? .916 : plan_.study == "label-noise" ? .867 : .851;
    TextTable table({"measure", "τ with " + y, "the paper's"});
    for (const Published& m : measures) {
      const double paper = m.key == "low_pass" ? lpf : unknown;
      table.add_row({m.title, keep(plan_.study, m.key, y, over_seeds(m.key, y), paper), shown(paper)});
    }
    if (y != "test_error")
      table.add_row({"test error", keep(plan_.study, "test_error", y, over_seeds("test_error", y)), "–"});
    show("Measure against " + y,
         concat("Kendall's τ over ", means_.size(), " levels of ", factor,
                ", each the mean of its seeds; 95 % intervals by bootstrap over seeds."),
         table);
    TextTable levels(
        {factor, "training loss", "train error, %", "test error, %", "LPF", "PAC-Bayes", "λ_max", "trace"});
    for (const Result& m : means_) {
      std::vector<std::string> cells{format_general(m.at(factor))};
      for (const char* key :
           {"train_loss", "train_error", "test_error", "low_pass", "pac_bayes_norm", "lambda_max", "trace"})
        cells.push_back(std::isfinite(m.at(key)) ? format_general(m.at(key), 3) : "–");
      levels.add_row(cells);
    }
    show("Levels", "Means over the seeds.", levels);
  }

  void side_by_side() {
    const std::vector<double>& kinds = plan_.factors[1].values;
    std::vector<std::string> header{"measure"};
    for (const double kind : kinds) header.push_back(optimizer_of(kind).title);
    TextTable plain(header);
    header.push_back("the paper's");
    TextTable table(header);
    const auto value = [&](const std::vector<Result>& means, double kind, const std::string& key) {
      for (const Result& m : means)
        if (m.at("optimizer") == kind) return m.at(key);
      return unknown;
    };
    for (const Published& m : measures) {
      std::vector<std::string> cells{m.title};
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        const Interval share = sharpness::bootstrap(
            plan_.seeds(),
            [&](std::span<const std::size_t> seeds) {
              const std::vector<Result> means = seed_means(seeds);
              double largest = -std::numeric_limits<double>::infinity();
              for (const double kind : kinds) largest = std::max(largest, value(means, kind, m.key));
              return value(means, kinds[k], m.key) / largest;
            },
            bootstrap_);
        cells.push_back(keep("optimizers", m.key, header[k + 1], share,
                             k < m.optimizers.size() ? m.optimizers[k] : unknown));
      }
      std::string paper;
      for (const double v : m.optimizers) paper += concat(paper.empty() ? "" : "  ", format_fixed(v, 2));
      cells.push_back(paper.empty() ? "–" : paper);
      table.add_row(cells);
    }
    show("Measures of the solutions",
         "Means over the seeds, as shares of the largest of the three; 95 % intervals by bootstrap over "
         "seeds.",
         table);
    for (const char* key : {"test_error", "train_error", "train_loss", "low_pass", "epsilon"}) {
      std::vector<std::string> cells{key};
      for (const double kind : kinds) {
        std::vector<double> values;
        for (const auto& [id, r] : results_)
          if (r.at("optimizer") == kind) values.push_back(r.at(key));
        cells.push_back(format_mean_sd(mean_sd(values), 4));
      }
      plain.add_row(cells);
    }
    show("In their own units", "Mean ± sample standard deviation over the seeds; errors in %.", plain);
  }

  /// A dot per setting: each measure against `y`, in two colours if `split` is a switch.
  void scatter(const std::string& y, const std::string& split) {
    report_.section("Pictures", "A dot is one setting, the mean of its seeds.");
    for (const Published& m : measures) {
      std::vector<plot::Series> series;
      for (const double level : split.empty() ? std::vector<double>{0} : std::vector<double>{0, 1}) {
        plot::Series s{.name = split.empty() ? "" : level > 0 ? "batch norm" : "no batch norm"};
        const Pairs p = pairs(means_, m.key, y);
        for (std::size_t i = 0; i < p.x.size(); ++i)
          if (split.empty() || p.of[i]->at(split) == level) s.x.push_back(p.x[i]), s.y.push_back(p.y[i]);
        series.push_back(std::move(s));
      }
      const plot::Svg chart = plot::scatter_chart(
          series, {.title = concat(m.title, " and the ", y),
                   .x = {.title = m.title, .scale = m.positive ? plot::Scale::log : plot::Scale::linear},
                   .y = {.title = y == "gap" ? "train − test accuracy, %" : y}});
      report_.figure(chart);
      write_file_atomically(concat(out_, "/", m.key, ".svg"), chart.markup);
    }
  }

  /// Errors and LPF along the factor, with bands over the seeds.
  void curves(const std::string& factor) {
    report_.section("Along " + factor, "Mean ± sample standard deviation over the seeds.");
    const auto band = [&](const std::string& name, const std::string& key) {
      plot::Series s{.name = name};
      for (const double level : plan_.factors[1].values) {
        std::vector<double> values;
        for (const auto& [id, r] : results_)
          if (r.at(factor) == level && std::isfinite(r.at(key))) values.push_back(r.at(key));
        const MeanSd at = mean_sd(values);
        if (std::isnan(at.sd)) continue;
        s.x.push_back(level), s.y.push_back(at.mean);
        s.low.push_back(at.mean - at.sd), s.high.push_back(at.mean + at.sd);
      }
      return s;
    };
    const plot::AxisOptions x{.title = factor,
                              .scale = factor == "width" ? plot::Scale::log : plot::Scale::linear};
    report_.figure(plot::line_chart({band("test error", "test_error"), band("training error", "train_error")},
                                    {.title = "Errors, %", .x = x, .y = {.title = "%", .min = 0}}));
    for (const Published& m : measures) {
      const plot::Series s = band(m.title, m.key);
      if (!s.x.empty()) report_.figure(plot::line_chart({s}, {.title = m.title, .x = x}));
    }
  }

  void write() {
    report_.write(out_ + "/report.html");
    write_csv_records(out_ + "/values.csv", values_);
    std::vector<Record> rows;
    for (const auto& [id, r] : results_) {
      rows.emplace_back();
      for (const auto& [name, value] : r) rows.back().emplace_back(name, value);
    }
    write_csv_records(out_ + "/models.csv", rows);
    std::printf("\nPictures: %s/report.html%s   numbers: %s/values.csv, %s/models.csv\n", out_.c_str(),
                plan_.study == "optimizers" ? "" : " and beside it", out_.c_str(), out_.c_str());
  }

  const Plan& plan_;
  const Results& results_;
  std::string out_;
  sharpness::BootstrapOptions bootstrap_;
  HTMLReport report_;
  std::vector<Result> means_;
  std::vector<Record> values_;
};

}  // namespace study
