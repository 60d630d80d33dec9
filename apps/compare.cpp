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
#include <lpf/report/progress.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <map>

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
  return plot::mean_band(g.name, x, y);
}

void write_report(const std::string& path, const std::vector<Configuration>& groups, const TextTable& table,
                  const std::string& command) {
  HTMLReport report({.title = "Runs compared", .command = command});
  report.section("Results").table(
      table,
      "Mean ± standard deviation over the seeds. The best epoch is that of the lowest "
      "validation error; without validation images, of the lowest test error.");
  const auto chart = [&](const char* title, plot::AxisOptions y, double Epoch::*column) {
    std::vector<plot::Series> all;
    for (const Configuration& g : groups) all.push_back(curve(g, column));
    report.figure(plot::line_chart(all, {.title = title, .x = {.title = "epoch"}, .y = std::move(y)}),
                  "Mean over the seeds; the band is ± one standard deviation.");
  };
  chart("Test error", {.title = "test error, %", .min = 0}, &Epoch::test_error);
  chart("Test loss", {.title = "cross-entropy"}, &Epoch::test_loss);
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
    const TextTable table = table_of(groups);
    std::printf("%s", table.to_string(terminal_columns()).c_str());
    for (const Configuration& g : groups)
      for (const Run& r : g.runs)
        if (std::ssize(r.history) < r.epochs)
          std::printf("%s, seed %llu: %zu of %lld epochs so far\n", g.name.c_str(),
                      static_cast<unsigned long long>(r.seed), r.history.size(),
                      static_cast<long long>(r.epochs));
    write_report(out, groups, table, command);
    std::printf("curves: %s\n", out.c_str());
  });
}
