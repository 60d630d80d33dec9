// Compares runs of train.cpp: the settings that differ, mean ± standard deviation over the seeds, and their
// curves on one page.
//
//   for s in 0 1 2; do
//     train --seed $s --out runs/sgd-$s --optimizer sgd
//     train --seed $s --out runs/lpf-$s
//   done
//   compare runs/*
//
// Runs that differ only in the seed form one row.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <lpf/experiment/history.hpp>
#include <lpf/report/method_color.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <map>
#include <set>

#include "program.hpp"

using namespace lpf;
using experiment::Epoch;

namespace {

struct Run {
  std::uint64_t seed;
  std::int64_t epochs;  // configured
  std::vector<Epoch> history;
};

// The runs of one configuration.
struct Configuration {
  std::map<std::string, std::string> settings;  // without the seed and the data folder
  std::string name;
  std::vector<Run> runs;
  int color = -1;

  template <class F>
  std::vector<double> values(F f) const {
    std::vector<double> out;
    for (const Run& r : runs) out.push_back(f(r));
    return out;
  }
};

std::vector<Configuration> read_runs(const std::vector<std::string>& folders) {
  std::vector<Configuration> groups;
  for (const auto& folder : folders) {
    if (!std::filesystem::exists(lpf::detail::path_of(folder + "/config.json"))) {
      std::fprintf(stderr, "compare: '%s' has no config.json: it is no run, and is left out\n",
                   folder.c_str());
      continue;
    }
    const auto settings = experiment::read_config(folder + "/config.json");
    auto history = experiment::read_history(folder + "/log.jsonl");
    if (history.empty()) {
      std::fprintf(stderr, "compare: '%s' has no finished epoch, and is left out\n", folder.c_str());
      continue;
    }
    auto texts = experiment::texts(settings);
    texts.erase("seed");
    texts.erase("data");
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const Configuration& g) { return g.settings == texts; });
    if (group == groups.end()) group = groups.insert(groups.end(), Configuration{texts, "", {}});
    for (const Run& r : group->runs)
      check(r.seed != settings.seed, "compare", "'", folder, "' is a second run of seed ", settings.seed,
            " with the same settings: give each run once");
    group->runs.push_back({settings.seed, settings.epochs, std::move(history)});
  }
  check(!groups.empty(), "compare", "there is no run to compare: give the folders that train wrote");
  return groups;
}

// "lpf-sgd, M 8, gamma 0.06": the optimizer and the settings that differ between its groups. Settings that
// follow from the optimizer alone are omitted to keep names short.
void name_groups(std::vector<Configuration>& groups) {
  for (Configuration& g : groups) {
    g.name = g.settings.at("optimizer");
    for (const auto& [name, text] : g.settings)
      if (std::any_of(groups.begin(), groups.end(), [&, n = name, t = text](const Configuration& other) {
            return other.settings.at("optimizer") == g.settings.at("optimizer") && other.settings.at(n) != t;
          }))
        g.name += concat(", ", name, " ", text);
  }
}

// Configurations of one optimizer have its colour, and a pattern each; where all are of one optimizer, or one of them has
// no colour, the colours tell the configurations apart.
void color_groups(std::vector<Configuration>& groups) {
  std::set<std::string> optimizers;
  for (const Configuration& g : groups) optimizers.insert(g.settings.at("optimizer"));
  if (optimizers.size() == 1 && groups.size() > 1) return;
  std::set<int> taken;
  for (const std::string& name : optimizers) {
    if (plot::method_color(name) < 0) return;
    taken.insert(plot::method_color(name));
  }
  std::set<std::string> named;
  for (Configuration& g : groups) {
    const std::string& optimizer = g.settings.at("optimizer");
    g.color = plot::method_color(optimizer);
    if (named.insert(optimizer).second) continue;  // the first has the optimizer's own pattern
    while (taken.contains(g.color)) g.color = plot::detail::patterned(g.color, 1);
    taken.insert(g.color);
  }
}

// The result of a run: at the epoch chosen on validation images, or else the last; never one that test images chose.
double result_of(const Run& r) { return experiment::result_epoch(r.history).test_error; }

// "Test error at the last epoch, lowest first: lpf-sgd 2.20 %, sam 2.28 %."
std::string result_text(const std::vector<Configuration>& groups) {
  std::vector<std::pair<double, std::string>> all;
  bool validated = true;
  for (const Configuration& g : groups) {
    all.emplace_back(mean_sd(g.values(result_of)).mean, g.name);
    for (const Run& r : g.runs)
      validated = validated && !std::isnan(experiment::result_epoch(r.history).validation_error);
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.first < b.first || (!std::isnan(a.first) && std::isnan(b.first));
  });
  std::string out =
      concat("Test error ", validated ? "at the epoch with the lowest validation error" : "at the last epoch",
             groups.size() > 1 ? ", lowest first: " : ": ");
  constexpr std::size_t most = 6;
  for (std::size_t i = 0; i < std::min(all.size(), most); ++i)
    out += concat(i == 0 ? "" : "; ", all[i].second, " ",
                  std::isnan(all[i].first) ? "–" : format_fixed(all[i].first, 2) + " %");
  return out + (all.size() > most ? concat("; and ", all.size() - most, " more.") : ".");
}

double best_test_error(const Run& r) { return experiment::best_epoch(r.history).test_error; }
double last_test_error(const Run& r) {
  const auto judged = [](const Epoch& e) { return !std::isnan(e.test_error); };
  const auto last = std::find_if(r.history.rbegin(), r.history.rend(), judged);
  return last == r.history.rend() ? Epoch::none : last->test_error;
}

TextTable table_of(const std::vector<Configuration>& groups) {
  TextTable table({"configuration", "seeds", "best epoch, test error, %", "last epoch, test error, %",
                   "validation error, %", "training loss", "an epoch, s"});
  for (const Configuration& g : groups) {
    const auto cell = [&](auto f, int decimals = 2) {
      return format_mean_sd(mean_sd(g.values(f)), decimals);
    };
    table.add_row({g.name, std::to_string(g.runs.size()), cell(best_test_error), cell(last_test_error),
                   cell([](const Run& r) { return experiment::best_epoch(r.history).validation_error; }),
                   cell([](const Run& r) { return r.history.back().train_loss; }, 4),
                   cell(
                       [](const Run& r) {
                         double seconds = 0;
                         for (const Epoch& e : r.history) seconds += e.seconds;
                         return seconds / static_cast<double>(r.history.size());
                       },
                       1)});
  }
  return table;
}

// The mean over a group's seeds, for the epochs that all of them have finished.
plot::Series curve(const Configuration& g, double Epoch::*column) {
  std::size_t epochs = g.runs[0].history.size();
  for (const Run& r : g.runs) epochs = std::min(epochs, r.history.size());
  std::vector<double> x;
  std::vector<std::vector<double>> y(g.runs.size());
  for (std::size_t i = 0; i < epochs; ++i) {
    if (std::isnan(g.runs[0].history[i].*column)) continue;  // not evaluated in this epoch, in any run
    x.push_back(static_cast<double>(i + 1));
    for (std::size_t k = 0; k < g.runs.size(); ++k) y[k].push_back(g.runs[k].history[i].*column);
  }
  plot::Series out = plot::mean_band(g.name, x, y);
  out.color = g.color;
  return out;
}

void write_report(const std::string& path, const std::vector<Configuration>& groups, const TextTable& table,
                  const std::string& command) {
  HTMLReport report({.title = "Runs compared", .lead = result_text(groups), .command = command});
  report.section("Results").table(table,
                                  "Mean ± standard deviation over the seeds. The best epoch is that of the "
                                  "lowest validation error; without "
                                  "validation images, of the lowest test error, which the test images chose "
                                  "themselves: a little too low.");
  const auto chart = [&](const char* title, plot::AxisOptions y, double Epoch::*column) {
    std::vector<plot::Series> all;
    for (const Configuration& g : groups) all.push_back(curve(g, column));
    report.figure(plot::line_chart(all, {.title = title, .x = {.title = "epoch"}, .y = std::move(y)}),
                  "Mean over the seeds; the band is ± one standard deviation over the seeds.");
  };
  chart("Test error", {.title = "test error, %", .min = 0, .fit_end = true}, &Epoch::test_error);
  chart("Test loss", {.title = "cross-entropy", .scale = plot::Scale::log}, &Epoch::test_loss);
  chart("Training loss", {.title = "cross-entropy", .scale = plot::Scale::log}, &Epoch::train_loss);
  TextTable settings({"configuration", "settings that differ"}, {.align = {Align::left, Align::left}});
  for (const Configuration& g : groups) {
    std::string words;
    for (const auto& [name, text] : g.settings)
      if (std::any_of(groups.begin(), groups.end(),
                      [&, n = name, t = text](const Configuration& o) { return o.settings.at(n) != t; }))
        words += concat(words.empty() ? "" : ", ", name, " ", text.empty() ? "–" : text);
    settings.add_row({g.name, words});
  }
  report.section("Settings").table(settings);
  report.write(path);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> folders;
  std::string out = "compare.html";
  CLI::App app("Compares runs of train: mean and standard deviation over seeds, and curves.");
  app.add_option("runs", folders, "folders that train wrote")->required();
  app.add_option("--out", out, "the page to write")->capture_default_str();
  return program::run(app, "compare", argc, argv, [&](const std::string& command) {
    program::check_writable(out, "compare");
    std::vector<Configuration> groups = read_runs(folders);
    name_groups(groups);
    color_groups(groups);
    const TextTable table = table_of(groups);
    std::printf("%s", table.to_string(terminal_columns()).c_str());
    program::print("± is the standard deviation over the seeds.\n");
    for (const Configuration& g : groups)
      for (const Run& r : g.runs)
        if (std::ssize(r.history) < r.epochs)
          program::print(concat(g.name, ", seed ", r.seed, ": ", r.history.size(), " of ", r.epochs,
                                " epochs so far\n"));
    write_report(out, groups, table, command);
    program::print(concat(result_text(groups), "\ncurves: ", out, "\n"));
  });
}
