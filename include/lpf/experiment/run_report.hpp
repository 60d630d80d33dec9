// report.html of a run: results, curves, settings.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "lpf/experiment/history.hpp"
#include "lpf/report/method_color.hpp"
#include "lpf/report/report.hpp"
#include "lpf/report/svg_lines.hpp"

namespace lpf::experiment {

namespace detail {

/// A column of the history over the epochs that have a value.
inline plot::Series curve(const std::string& name, const std::vector<Epoch>& history, double Epoch::*column) {
  plot::Series out{.name = name};
  for (const Epoch& e : history) {
    if (std::isnan(e.*column)) continue;
    out.x.push_back(static_cast<double>(e.epoch));
    out.y.push_back(e.*column);
  }
  return out;
}

/// The columns that have values, in the method's colour; the first is solid, the others have a pattern each.
inline std::vector<plot::Series> curves(const std::string& method, const std::vector<Epoch>& history,
                                        const std::vector<std::pair<std::string, double Epoch::*>>& columns) {
  std::vector<plot::Series> out;
  int pattern = 0;
  for (const auto& [name, column] : columns) {
    plot::Series s = curve(name, history, column);
    s.color = plot::detail::patterned(std::max(plot::method_color(method), 0) % plot::detail::palette_size,
                                      pattern++);
    if (!s.y.empty()) out.push_back(std::move(s));
  }
  return out;
}

inline std::string per_cent(double value) { return std::isnan(value) ? "–" : format_fixed(value, 2) + " %"; }

}  // namespace detail

/// The title of a run's report.
inline std::string title_of(const Settings& s) {
  return concat(s.optimizer, ", ", s.model, " on ", s.dataset);
}

inline HTMLReport run_report(const Settings& s, const std::vector<Epoch>& history,
                             const std::string& command) {
  const Epoch &best = best_epoch(history), &result = result_epoch(history);
  HTMLReport report({.title = title_of(s),
                     .lead = concat(detail::per_cent(result.test_error), " of the test images misread (",
                                    name_of_result(result), " of ", history.size(), ")."),
                     .command = command,
                     .seeds = std::to_string(s.seed)});
  TextTable table(
      {"", "epoch", "training loss", "training error", "validation error", "test loss", "test error"});
  const auto add = [&](const std::string& name, const Epoch& e) {
    table.add_row({name, std::to_string(e.epoch), format_general(e.train_loss),
                   detail::per_cent(e.train_error), detail::per_cent(e.validation_error),
                   format_general(e.test_loss), detail::per_cent(e.test_error)});
  };
  const bool by_test = std::isnan(best.validation_error);
  if (!by_test) add("lowest validation error", best);
  add("last", history.back());
  if (by_test) add("lowest test error", best);
  report.section("Results").table(
      table,
      by_test
          ? "The result is the last epoch's. The lowest test error, which the paper reports, is chosen by "
            "the test images themselves, and so a little too low."
          : "The result is that of the epoch with the lowest validation error.");
  const auto chart = [&](plot::ChartOptions options,
                         const std::vector<std::pair<std::string, double Epoch::*>>& columns,
                         std::string_view caption = "") {
    options.x.title = "epoch";
    report.figure(plot::line_chart(detail::curves(s.optimizer, history, columns), options), caption);
  };
  chart({.title = "Error", .y = {.title = "error, %", .min = 0, .fit_end = true}},
        {{"test", &Epoch::test_error},
         {"validation", &Epoch::validation_error},
         {"training", &Epoch::train_error}},
        "Training error is over the batches as they were trained on: augmented, and of the network "
        "with its noise.");
  chart({.title = "Loss", .y = {.title = "cross-entropy", .scale = plot::Scale::log}},
        {{"test", &Epoch::test_loss},
         {"validation", &Epoch::validation_loss},
         {"training", &Epoch::train_loss}},
        "Training loss, too, is of the network with its noise.");
  report.section("Schedule");
  chart({.title = "Learning rate and radius", .y = {.scale = plot::Scale::log}},
        {{"learning rate", &Epoch::lr}, {"radius γ", &Epoch::gamma}});
  chart({.title = "Speed", .y = {.title = "images/s", .min = 0}}, {{"training", &Epoch::images_per_second}});
  TextTable settings({"setting", "value", "meaning"}, {.align = {Align::left, Align::left, Align::left}});
  for_each_setting(s, [&](const char* name, const auto& value, const char* meaning) {
    settings.add_row({name, detail::setting_text(value), meaning});
  });
  report.section("Settings").table(settings);
  return report;
}

}  // namespace lpf::experiment
