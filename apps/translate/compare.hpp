// A comparison of optimizers that can be stopped and resumed: radii by the validation sentences, then seeds. A finished
// run is a row of results.jsonl, or of the file of --records, and is not made again.
#pragma once

#include <algorithm>
#include <cstdio>

#include "run.hpp"

namespace translate {

namespace detail {

/// The setting that is an optimizer's radius; "" if it has none.
inline std::string radius_of(const std::string& optimizer) {
  return optimizer.starts_with("lpf-") ? "gamma" : optimizer.starts_with("sam") ? "rho" : "";
}

}  // namespace detail

/// Why a setting has no effect on any run of a comparison; empty if it has.
inline std::string unused_in_comparison(Settings s, const std::vector<std::string>& optimizers,
                                        std::string_view name) {
  if (name == "optimizer") return "--compare names the optimizers";
  std::string reason;
  for (const std::string& optimizer : optimizers) {
    s.optimizer = optimizer;
    const std::string found = name == detail::radius_of(optimizer)
                                  ? concat("--", name, "s has the radii of ", optimizer)
                                  : unused(s, name);
    if (found.empty()) return "";
    if (reason.empty()) reason = found;
  }
  return reason;
}

struct ComparisonOptions {
  std::vector<std::string> optimizers = {"adam", "lpf-adam", "sam-adam"};
  std::vector<double> gammas = {1e-3, 3e-3, 1e-2}, rhos = {0.02, 0.05, 0.1};
  std::int64_t seeds = 3;        ///< runs of each optimizer; seeds from Settings::seed on
  std::int64_t tune_epochs = 0;  ///< of a run that chooses a radius; 0: as many as the others
  std::string records = "";      ///< file of the finished runs' rows; "": results.jsonl of the output folder
};

/// One run of the comparison.
struct Job {
  std::string phase;  ///< "radius" or "seed"
  Settings settings;
  double radius = Epoch::none;  ///< of the optimizer's setting "gamma" or "rho"; NaN if it has none

  std::string name() const {
    return concat(phase, "-", settings.optimizer, std::isnan(radius) ? "" : "-",
                  std::isnan(radius) ? "" : format_general(radius), "-seed", settings.seed);
  }
};

/// What is known of a finished run.
struct Row {
  std::string phase, optimizer, settings;  ///< all settings but places, as JSON
  double radius = Epoch::none;
  std::int64_t seed = 0, updates = 0;
  double validation_bleu = Epoch::none, validation_loss = Epoch::none, train_loss = Epoch::none;
  double test_bleu = Epoch::none, test_loss = Epoch::none, step_ms = Epoch::none,
         tokens_per_second = Epoch::none;
};

template <class E, class F>
void for_each_column(E& e, F f) requires std::is_same_v<std::remove_const_t<E>, Row> {
  f("phase", e.phase), f("optimizer", e.optimizer), f("radius", e.radius), f("seed", e.seed),
      f("updates", e.updates);
  f("validation_bleu", e.validation_bleu), f("validation_loss", e.validation_loss),
      f("train_loss", e.train_loss);
  f("test_bleu", e.test_bleu), f("test_loss", e.test_loss), f("step_ms", e.step_ms);
  f("tokens_per_second", e.tokens_per_second), f("settings", e.settings);
}

namespace detail {

/// A run's settings but for places, in a row.
inline std::string settings_text(const Settings& s) {
  auto json = experiment::json_of_table(s);
  for (const auto& [name, text] : experiment::texts_of_table(s))
    if (is_place(name)) json.erase(name);
  return lpf::detail::json_text(json);
}

/// ValueError for a value that is there twice.
template <class T>
void check_distinct(const char* flag, std::vector<T> values) {
  std::sort(values.begin(), values.end());
  const auto twice = std::adjacent_find(values.begin(), values.end());
  check(twice == values.end(), "translate", "--", flag, " names ", twice == values.end() ? T() : *twice,
        " twice");
}

}  // namespace detail

class Comparison {
 public:
  Comparison(const Settings& s, const ComparisonOptions& c, std::string out, std::string command,
             std::function<bool()> stop)
      : settings_(s),
        options_(c),
        out_(std::move(out)),
        command_(std::move(command)),
        stop_(std::move(stop)) {
    check(c.seeds >= 1 && c.seeds <= 1000, "translate", "--seeds must be from 1 to 1000, got ", c.seeds);
    check(c.tune_epochs >= 0 && c.tune_epochs <= 1'000'000, "translate",
          "--tune-epochs must be from 0 to 1000000, got ", c.tune_epochs);
    check(!c.optimizers.empty() && !c.gammas.empty() && !c.rhos.empty(), "translate",
          "--compare, --gammas and --rhos need at least one value each");
    detail::check_distinct("compare", c.optimizers);
    detail::check_distinct("gammas", c.gammas), detail::check_distinct("rhos", c.rhos);
    for (const auto& name : c.optimizers) {
      set(settings_, "optimizer", name);  // ValueError for an unknown one
      check_settings(settings_);
    }
    settings_.optimizer = s.optimizer;
    records_ = c.records.empty() ? out_ + "/results.jsonl" : c.records;
    check(records_.ends_with(".jsonl"), "translate", "--records needs a name that ends with .jsonl, got '",
          records_, "'");
    read();
  }

  /// Whether a run has its row already.
  bool is_made(const Job& j) const { return find(j) != nullptr; }
  /// Reads the data of a comparison that has not begun: throws what its first run would, and writes nothing.
  void check_data() const {
    if (std::filesystem::exists(lpf::detail::path_of(records_))) return;
    const Sentences sentences = read_sentences(settings_);
    const text::Pieces pieces = pieces_for(settings_, "", sentences.train);
    for (const std::string& optimizer : options_.optimizers) {
      Settings s = settings_;
      s.optimizer = optimizer;
      (void)loader_for(s, pieces, sentences.train);
    }
  }

  /// The runs that choose the radii: none where there is one radius.
  std::vector<Job> radius_jobs() const {
    std::vector<Job> out;
    for (const std::string& optimizer : options_.optimizers)
      if (radii(optimizer).size() > 1)
        for (const double r : radii(optimizer))
          out.push_back(job("radius", optimizer, r, settings_.seed + 1000));
    return out;
  }
  /// The runs of the table, with the radius chosen.
  std::vector<Job> seed_jobs(const std::string& optimizer, double radius) const {
    std::vector<Job> out;
    for (std::int64_t i = 0; i < options_.seeds; ++i)
      out.push_back(job("seed", optimizer, radius, settings_.seed + static_cast<std::uint64_t>(i)));
    return out;
  }

  /// The radius with the highest validation BLEU, the first of equal ones; of no runs the first radius.
  double chosen(const std::string& optimizer) const {
    const auto all = radii(optimizer);
    double best = all[0], bleu = -1;
    for (const Job& j : radius_jobs())
      if (const Row* row = j.settings.optimizer == optimizer ? find(j) : nullptr;
          row && row->validation_bleu > bleu)
        best = j.radius, bleu = row->validation_bleu;
    return best;
  }

  /// Makes the runs that are not made yet. False if it was stopped.
  bool operator()() {
    const OutputFolder folder(out_, "translate");
    read();
    MetricLog log(records_, {.append = true});
    for (const Job& j : radius_jobs())
      if (!make(j, log)) return false;
    for (const std::string& optimizer : options_.optimizers)
      for (const Job& j : seed_jobs(optimizer, chosen(optimizer)))
        if (!make(j, log)) return false;
    log.close();
    write_file_atomically(out_ + "/table.md", table());
    return true;
  }

  /// The results so far in Markdown.
  std::string table() const {
    std::string out;
    if (!radius_jobs().empty()) {
      out += "| optimizer | radius | validation BLEU | validation loss |\n|---|---|---|---|\n";
      for (const Job& j : radius_jobs())
        if (const Row* row = find(j))
          out += concat("| ", j.settings.optimizer, " | ", detail::radius_of(j.settings.optimizer), " ",
                        format_general(j.radius), " | ", format_fixed(row->validation_bleu, 2), " | ",
                        format_fixed(row->validation_loss, 4), " |\n");
      out += '\n';
    }
    out +=
        "Mean over the seeds, ± their sample standard deviation.\n\n"
        "| optimizer | radius | seeds | test BLEU | test loss | validation BLEU | training loss | a step, ms "
        "| tokens/s |\n"
        "|---|---|---|---|---|---|---|---|---|\n";
    for (const std::string& optimizer : options_.optimizers) {
      const auto rows = of(optimizer);
      if (rows.empty()) continue;
      const auto cell = [&](double Row::*value, int decimals) {
        std::vector<double> all;
        for (const Row* r : rows) all.push_back(r->*value);
        return format_mean_sd(mean_sd(all), decimals);
      };
      const std::string setting = detail::radius_of(optimizer);
      out += concat("| ", optimizer, " | ",
                    setting.empty() ? "" : setting + " " + format_general(rows[0]->radius), " | ",
                    rows.size(), " | ", cell(&Row::test_bleu, 2), " | ", cell(&Row::test_loss, 4), " | ",
                    cell(&Row::validation_bleu, 2), " | ", cell(&Row::train_loss, 4), " | ",
                    cell(&Row::step_ms, 1), " | ", cell(&Row::tokens_per_second, 0), " |\n");
    }
    return out;
  }

 private:
  std::vector<double> radii(const std::string& optimizer) const {
    const std::string setting = detail::radius_of(optimizer);
    if (setting.empty()) return {Epoch::none};
    return setting == "gamma" ? options_.gammas : options_.rhos;
  }

  Job job(const std::string& phase, const std::string& optimizer, double radius, std::uint64_t seed) const {
    Job out{phase, settings_, radius};
    out.settings.optimizer = optimizer, out.settings.seed = seed;
    if (!std::isnan(radius))
      (detail::radius_of(optimizer) == "gamma" ? out.settings.gamma : out.settings.rho) = radius;
    if (phase == "radius" && options_.tune_epochs > 0) out.settings.epochs = options_.tune_epochs;
    return out;
  }

  void read() {
    if (std::filesystem::exists(lpf::detail::path_of(records_))) rows_ = read_records<Row>(records_);
  }

  const Row* find(const Job& j) const {
    for (const Row& r : rows_) {
      const bool same = r.phase == j.phase && r.optimizer == j.settings.optimizer &&
                        r.seed == static_cast<std::int64_t>(j.settings.seed) &&
                        (r.radius == j.radius || (std::isnan(r.radius) && std::isnan(j.radius)));
      if (!same) continue;
      const std::string different =
          differences(experiment::table_of_text<Settings>("translate", r.settings, records_), j.settings);
      check<StateError>(different.empty(), "translate", "'", records_, "' has the run ", j.name(),
                        " with other settings: ", different, ". Give them again, or choose another ",
                        options_.records.empty() ? "--out" : "file for --records");
      return &r;
    }
    return nullptr;
  }
  /// The rows of the table's runs of an optimizer.
  std::vector<const Row*> of(const std::string& optimizer) const {
    std::vector<const Row*> out;
    for (const Job& j : seed_jobs(optimizer, chosen(optimizer)))
      if (const Row* row = find(j)) out.push_back(row);
    return out;
  }
  /// Makes a run unless it is known. False if it was stopped.
  bool make(const Job& j, MetricLog& log) {
    if (find(j)) return true;
    const std::string folder = concat(out_, "/runs/", j.name());
    const Outcome done = run(
        j.settings, {.out = folder, .resume = true, .command = command_, .label = j.name(), .stop = stop_});
    if (!done.finished) return false;
    const Epoch& best = best_epoch(done.history);
    Row row{j.phase, j.settings.optimizer, detail::settings_text(j.settings), j.radius};
    row.seed = static_cast<std::int64_t>(j.settings.seed),
    row.updates = static_cast<std::int64_t>(done.updates);
    row.validation_bleu = best.validation_bleu, row.validation_loss = best.validation_loss;
    row.train_loss = done.history.back().train_loss;
    row.test_bleu = done.test.bleu, row.test_loss = done.test.loss;
    double seconds = 0, tokens = 0;
    for (const Epoch& e : done.history) seconds += e.seconds, tokens += e.seconds * e.tokens_per_second;
    row.step_ms = 1000 * seconds / static_cast<double>(done.updates),
    row.tokens_per_second = tokens / seconds;
    log.write(record_of(row));
    rows_.push_back(row);
    for (const char* name :
         {"/checkpoint.safetensors", "/checkpoint.state.safetensors"}) {  // only the best is kept
      std::error_code ignored;
      std::filesystem::remove(lpf::detail::path_of(folder + name), ignored);
    }
    std::printf("%s: validation BLEU %s, test BLEU %s, a step %s ms\n", j.name().c_str(),
                format_fixed(row.validation_bleu, 2).c_str(), format_fixed(row.test_bleu, 2).c_str(),
                format_fixed(row.step_ms, 1).c_str());
    std::fflush(stdout);
    return true;
  }

  Settings settings_;
  ComparisonOptions options_;
  std::string out_, command_, records_;
  std::function<bool()> stop_;
  std::vector<Row> rows_;
};

}  // namespace translate
