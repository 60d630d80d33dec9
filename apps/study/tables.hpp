// Tables and figures of a study, from the results of its models.
#pragma once

#include <lpf/io/output_folder.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/report/table.hpp>

#include "../text.hpp"
#include "means.hpp"

namespace study {

inline std::string shown(double value) { return std::isfinite(value) ? format_fixed(value, 3) : "–"; }
inline std::string shown(const Interval& i) {
  if (!std::isfinite(i.value)) return "–";
  return concat(shown(i.value), " [", shown(i.low), ", ", shown(i.high), "]");
}

/// Writes report.html, values.csv (every number of the tables), models.csv, and an SVG for each measure.
class Tables {
 public:
  Tables(const Plan& plan, const Results& results, std::string out, std::int64_t resamples, double gate,
         const std::string& command)
      : plan_(plan),
        results_(results),
        out_(std::move(out)),
        means_(plan, results, gate, {.resamples = resamples}),
        report_({.title = "Sharpness against generalisation: " + plan.study,
                 .lead = models(),
                 .command = command,
                 .seeds = concat(plan.seeds(), " seeds from 0")}) {
    program::print(concat("\n", models(), "\n"));
  }

  /// False if there are too few models for a table.
  bool make() {
    if (means_.all().size() < 2) {
      program::print("Fewer than two settings have converged models: no tables yet.\n");
      return false;
    }
    report_.text(models());
    if (plan_.study == "grid") {
      overall();
      over_sigma("gap", "settings");
      by_factor("Hyper-parameter against gap, and against measure", false);
      by_factor("Measure against gap, one hyper-parameter varying", true);
      scatter("gap", plan_.has_factor("batch_norm") ? "batch_norm" : "");
    } else if (plan_.study == "optimizers") {
      side_by_side();
    } else {
      const std::string factor = plan_.factors[1].name;
      const bool descent = plan_.study == "double-descent";
      along(factor, descent ? "test_error" : factor);
      over_sigma(descent ? "test_error" : factor, "seeds");
      curves(factor);
      scatter(descent ? "test_error" : factor, "");
    }
    write();
    return true;
  }

 private:
  std::string models() const {
    std::size_t converged = 0, counted = 0;
    double seconds = 0;
    for (const auto& [id, r] : results_) {
      converged += r.at("converged") > 0;
      counted += means_.counts(r);
      seconds += r.at("train_seconds") + r.at("measure_seconds");
    }
    std::string gate;
    if (means_.gate() > 0)
      gate =
          concat(", ", counted, " of a training accuracy of at least ", format_general(means_.gate()), " %");
    return concat(plan_.summary(), ". ", results_.size(), " of ", plan_.size(), " models, ", converged,
                  plan_.stop > 0 ? " of them converged" : " of them finite", gate, "; ",
                  format_fixed(seconds, 0), " s of training and measuring.");
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
    program::print(concat("\n", heading, "\n", words, "\n"));
    std::printf("%s", table.to_string(terminal_columns()).c_str());
    report_.section(heading, words).table(table);
  }

  /// τ of every measure, by key.
  using Taus = std::map<std::string, Resampled>;
  template <class F>
  static Taus taus(F tau) {
    Taus out;
    for (const Published& m : measures) out[m.key] = tau(m.key);
    return out;
  }
  /// "LPF's τ with the gap is .61 [.5, .7], after those of …": the result of a table of τ.
  std::string result(const std::string& y, const Taus& all) const {
    std::vector<std::pair<double, std::string>> strength;
    for (const Published& m : measures)
      if (const double tau = all.at(m.key).interval(means_.options().level).value; std::isfinite(tau))
        strength.emplace_back(tau, m.key);
    std::stable_sort(strength.begin(), strength.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    std::string out = concat("Kendall's τ with ", y, ": LPF ", shown(interval(all.at("low_pass"))));
    std::size_t best = 0;
    for (std::size_t i = 0; i < strength.size() && best < 3; ++i)
      out +=
          concat(best++ == 0 ? "; the highest of " + std::to_string(strength.size()) + " measures: " : ", ",
                 title_of(strength[i].second), " ", shown(interval(all.at(strength[i].second))));
    return out + ". In brackets: 95 % intervals.";
  }
  static std::string title_of(const std::string& key) {
    for (const Published& m : measures)
      if (m.key == key) return m.title;
    return key == "test_error" ? "test error, %" : key == "train_error" ? "training error, %" : key;
  }
  /// The paired difference of LPF's τ, or that of another measure, and the τ of `key`, as a cell.
  std::string ahead(const Taus& of, const std::string& leader, const std::string& key) const {
    if (leader == key) return "";
    return shown((of.at(leader) - of.at(key)).interval(means_.options().level));
  }
  void keep_differences(const std::string& table, const Taus& of) {
    for (const Published& a : measures)
      for (const Published& b : measures)
        if (a.key != b.key)
          keep(concat(table, "-difference"), a.key, b.key, (of.at(a.key) - of.at(b.key)).interval());
  }
  Interval interval(const Resampled& r) const { return r.interval(means_.options().level); }

  void overall() {
    const bool split = plan_.has_factor("batch_norm");
    std::vector<std::string> header{"measure", "τ with the gap", "the paper's"};
    if (split) header.insert(header.end(), {"τ without batch norm", "τ with batch norm"});
    header.insert(header.end(), {"within-factor τ", "LPF's τ − this", "σ/√fan-in's τ − this"});
    TextTable table(header);
    const Taus all = taus([&](const std::string& key) { return means_.tau_over_settings(key, "gap"); });
    for (const Published& m : measures) {
      std::vector<std::string> cells{m.title, keep("gap", m.key, "all", interval(all.at(m.key)), m.gap),
                                     shown(m.gap)};
      for (const double level : {0.0, 1.0})
        if (split)
          cells.push_back(keep("gap", m.key, level > 0 ? "batch norm" : "no batch norm",
                               interval(means_.tau_over_settings(m.key, "gap", "batch_norm", level))));
      double sum = 0;
      for (std::size_t k = 1; k < plan_.factors.size(); ++k)
        sum += means_.within(plan_.factors[k].name, m.key, "gap").value /
               static_cast<double>(plan_.factors.size() - 1);
      cells.insert(cells.end(),
                   {shown(sum), ahead(all, "low_pass", m.key), ahead(all, "low_pass_fan_in", m.key)});
      table.add_row(cells);
    }
    keep_differences("gap", all);
    report_.lead(result("the gap", all));
    show("Measure against gap",
         concat("Kendall's τ over ", means_.all().size(),
                " settings, each the mean of its seeds; 95 % intervals by bootstrap over settings, of "
                "differences paired."),
         table);
  }

  /// LPF, its rise and their ratio at several σ, and the same with σ/√fan-in.
  void over_sigma(const std::string& y, const std::string& resampled) {
    TextTable table({"noise", "τ of L_σ", "τ of L_σ − L", "τ of (L_σ − L)/L"});
    const auto rows = [&](const std::string& key, const std::vector<double>& values, const char* unit) {
      for (const double sigma : values) {
        std::vector<std::string> cells{concat("σ ", format_general(sigma), unit)};
        for (const char* kind : {"", "_rise", "_ratio"}) {
          const std::string name = at_sigma(key + kind, sigma);
          cells.push_back(keep("sigma", name, y,
                               interval(resampled == "seeds" ? means_.tau_over_seeds(name, y)
                                                             : means_.tau_over_settings(name, y))));
        }
        table.add_row(cells);
      }
    };
    rows("low_pass", sigmas, "");
    rows("low_pass_fan_in", fan_in_sigmas, "/√fan-in");
    show("Over the size of the noise",
         concat("Kendall's τ with ", y, "; 95 % intervals by bootstrap over ", resampled, "; 32 draws."),
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
        const Interval tau =
            against_gap ? means_.within(factor, key, "gap") : means_.within(factor, factor, key);
        cells.push_back(keep(against_gap ? "gap-within" : "hyper-parameter", key, factor, tau, value));
        theirs.push_back(shown(value));
      }
      table.add_row(cells);
      if (!paper.empty()) table.add_row(theirs);
    };
    if (!against_gap) row("gap", "gap", published_gap);
    for (const Published& m : measures)
      row(m.key, m.title, against_gap ? std::map<std::string, double>{} : m.by_factor);
    if (!against_gap)
      for (const Published& m : units) row(m.key, m.title, {});
    show(heading,
         "τ over settings that differ in one hyper-parameter alone, the mean over all such groups; 95 % "
         "intervals "
         "by bootstrap over the groups.",
         table);
  }

  /// Each measure against `y` over the levels of a factor.
  void along(const std::string& factor, const std::string& y) {
    const Taus all = taus([&](const std::string& key) { return means_.tau_over_seeds(key, y); });
    TextTable table({"measure", "τ with " + y, "the paper's", "LPF's τ − this", "σ/√fan-in's τ − this"});
    for (const Published& m : measures) {
      const double paper = published_tau(plan_.study, m.key);
      table.add_row({m.title, keep(plan_.study, m.key, y, interval(all.at(m.key)), paper), shown(paper),
                     ahead(all, "low_pass", m.key), ahead(all, "low_pass_fan_in", m.key)});
    }
    keep_differences(plan_.study, all);
    report_.lead(result(y == "test_error" ? "the test error" : y, all));
    if (y != "test_error")
      table.add_row({"test error",
                     keep(plan_.study, "test_error", y, interval(means_.tau_over_seeds("test_error", y))),
                     "–", "", ""});
    show("Measure against " + y,
         concat(
             "Kendall's τ over ", means_.all().size(), " levels of ", factor,
             ", each the mean of its seeds; 95 % intervals by bootstrap over seeds, of differences paired."),
         table);
    TextTable levels({factor, "training loss", "train error, %", "test error, %", "LPF", "LPF − L",
                      "σ/√fan-in", "λ_max", "trace"});
    for (const Result& m : means_.all()) {
      std::vector<std::string> cells{format_general(m.at(factor))};
      for (const char* key : {"train_loss", "train_error", "test_error", "low_pass", "low_pass_rise",
                              "low_pass_fan_in", "lambda_max", "trace"})
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
              const std::vector<Result>& means = means_.over(seeds);
              double largest = -std::numeric_limits<double>::infinity();
              for (const double kind : kinds) largest = std::max(largest, value(means, kind, m.key));
              return value(means, kinds[k], m.key) / largest;
            },
            means_.options());
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
    std::string lead;
    for (const char* key : {"test_error", "train_error", "train_loss", "low_pass", "low_pass_rise",
                            "low_pass_fan_in", "low_pass_fan_in_rise", "epsilon", "lambda_max"}) {
      std::vector<std::string> cells{title_of(key)};
      for (const double kind : kinds) {
        std::vector<double> values;
        for (const auto& [id, r] : results_)
          if (r.at("optimizer") == kind) values.push_back(r.at(key));
        if (key == std::string("test_error"))
          lead += concat(lead.empty() ? "Test error: " : ", ", optimizer_of(kind).title, " ",
                         format_mean_sd(mean_sd(values)), " %");
        cells.push_back(format_mean_sd(mean_sd(values), 4));
      }
      plain.add_row(cells);
    }
    report_.lead(lead + "; mean over the seeds ± their sample standard deviation.");
    show("In their own units", "Mean ± sample standard deviation over the seeds; errors in %.", plain);
  }

  /// A dot per setting: each measure against `y`, in two colours if `split` is a switch.
  void scatter(const std::string& y, const std::string& split) {
    report_.section("Pictures");
    for (const Published& m : measures) {
      const Means::Pairs all = Means::pairs(means_.all(), m.key, y);
      const double tau = sharpness::kendall_tau_b(all.x, all.y);
      std::vector<plot::Series> series;
      for (const double level : split.empty() ? std::vector<double>{0} : std::vector<double>{0, 1}) {
        plot::Series s{.name = split.empty() ? "" : level > 0 ? "batch norm" : "no batch norm"};
        const Means::Pairs p = Means::pairs(means_.all(), m.key, y);
        for (std::size_t i = 0; i < p.x.size(); ++i)
          if (split.empty() || p.of[i]->at(split) == level) s.x.push_back(p.x[i]), s.y.push_back(p.y[i]);
        series.push_back(std::move(s));
      }
      const plot::Svg chart = plot::scatter_chart(
          series, {.title = concat(m.title, " and the ", y, ": τ ", format_fixed(tau, 2)),
                   .x = {.title = m.title, .scale = m.positive ? plot::Scale::log : plot::Scale::linear},
                   .y = {.title = y == "gap" ? "train − test accuracy, %" : y}});
      report_.figure(chart, "A dot is one setting, the mean of its seeds.");
      write_file_atomically(concat(out_, "/", m.key, ".svg"), chart.markup);
    }
  }

  /// Errors and LPF along the factor, with bands over the seeds.
  void curves(const std::string& factor) {
    report_.section("Along " + factor);
    const char* caption = "Mean over the seeds; the band is ± their sample standard deviation.";
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
                                    {.title = "Errors, %", .x = x, .y = {.title = "%", .min = 0}}),
                   caption);
    for (const Published& m : measures) {
      const plot::Series s = band(m.title, m.key);
      if (!s.x.empty()) report_.figure(plot::line_chart({s}, {.title = m.title, .x = x}), caption);
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
    program::print(concat("\nPictures: ", out_, "/report.html",
                          plan_.study == "optimizers" ? "" : " and beside it", "\nNumbers: ", out_,
                          "/values.csv, ", out_, "/models.csv\n"));
  }

  const Plan& plan_;
  const Results& results_;
  std::string out_;
  Means means_;
  HTMLReport report_;
  std::vector<Record> values_;
};

}  // namespace study
