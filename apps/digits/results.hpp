// Tables, figures and files of digits.cpp.
#pragma once

#include <cmath>
#include <cstdio>
#include <lpf/report/log.hpp>
#include <lpf/report/method_color.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/report/table.hpp>

#include "../text.hpp"
#include "training.hpp"

namespace digits_app {

inline const std::vector<std::pair<std::string, std::string>> columns{
    {"test error",
     "how many of 500 digits, never seen in training, are misread, in per cent: mean over the seeds, ± their "
     "standard deviation. This is what counts."},
    {"training loss",
     "cross-entropy on the 1,000 training digits, wrong labels included: near 0 means that the network has "
     "learnt even the wrong labels by heart."},
    {"LPF sharpness",
     "mean training loss after small Gaussian noise (5 % of each unit's size) is added to the weights; ± is "
     "the "
     "standard error of the 96 draws."},
    {"its rise",
     "LPF sharpness minus the training loss, what the noise adds: low means a flat minimum, whatever the "
     "loss "
     "is; ± as before."},
    {"λ_max",
     "largest eigenvalue of the Hessian of the training loss, with each unit's weights measured in their own "
     "size: the curvature in the steepest direction."},
    {"step", "time of one training step relative to SGD's: LPF-SGD makes one batched pass, SAM two passes."}};

/// What ± is in the tables.
inline const std::string plus_minus =
    "±: of the test error the standard deviation over the seeds, of LPF sharpness and its rise the standard "
    "error of "
    "the 96 draws.";

inline std::string name_of_task(double noise) {
  return noise == 0 ? "clean labels" : concat(format_fixed(100 * noise, 0), " % label noise");
}

/// f of the runs of an optimizer on a task.
template <class F>
std::vector<double> values_of(const std::vector<Run>& runs, double noise, const std::string& optimizer, F f) {
  std::vector<double> out;
  for (const Run& r : runs)
    if (r.label_noise == noise && r.optimizer == optimizer) out.push_back(f(r));
  return out;
}
inline double test_error_of(const Run& r) { return r.test_error; }

/// The result in words: "Test error with clean labels: SGD 2.96 %, …".
inline std::string result_text(const Options& o, const std::vector<Run>& runs) {
  std::string out;
  for (const double noise : o.label_noise) {
    out += concat(out.empty() ? "Test error with " : "; with ", name_of_task(noise), ": ");
    for (const auto& optimizer : o.optimizers)
      out += concat(&optimizer == &o.optimizers[0] ? "" : ", ", title_of(optimizer), " ",
                    format_fixed(mean_sd(values_of(runs, noise, optimizer, test_error_of)).mean, 2), " %");
  }
  return out + concat(" (mean of ", o.seeds, o.seeds == 1 ? " seed)." : " seeds).");
}

/// Test errors of all tasks: mean, deviation, single seeds.
inline plot::Svg test_error_chart(const Options& o, const std::vector<Run>& runs) {
  std::vector<plot::Group> groups;
  std::vector<std::string> categories;
  for (const double noise : o.label_noise) categories.push_back(name_of_task(noise));
  for (const auto& optimizer : o.optimizers) {
    plot::Group group{.name = title_of(optimizer), .color = plot::method_color(optimizer)};
    for (const double noise : o.label_noise) {
      const std::vector<double> errors = values_of(runs, noise, optimizer, test_error_of);
      group.value.push_back(mean_sd(errors).mean);
      group.error.push_back(mean_sd(errors).sd);
      group.points.push_back(errors);
    }
    groups.push_back(group);
  }
  return plot::dot_chart(categories, groups,
                         {.title = "Test error", .y = {.title = "test error, %", .min = 0}});
}

inline void print_table(const Options& o, const std::vector<Run>& runs, double noise, HTMLReport& report) {
  TextTable table(
      {"optimizer", "test error, %", "training loss", "LPF sharpness", "its rise", "λ_max", "step"});
  const auto values = [&](const std::string& optimizer, auto f) {
    return values_of(runs, noise, optimizer, f);
  };
  const auto median_step = [&](const std::string& optimizer) {
    auto v = values(optimizer, [](const Run& r) { return r.step_ms; });
    std::sort(v.begin(), v.end());
    return v.empty() ? std::nan("") : v[v.size() / 2];
  };
  for (const auto& optimizer : o.optimizers) {
    const auto se =
        values(optimizer, [](const Run& r) { return r.lpf.standard_error * r.lpf.standard_error; });
    double squares = 0;
    for (double s : se) squares += s;
    const std::string error = format_fixed(std::sqrt(squares) / static_cast<double>(se.size()), 4);
    const auto mean_of = [&](auto f) { return mean_sd(values(optimizer, f)).mean; };
    const double relative = median_step(optimizer) / median_step("sgd");
    table.add_row({title_of(optimizer), format_mean_sd(mean_sd(values(optimizer, test_error_of))),
                   format_fixed(mean_of([](const Run& r) { return r.train_loss; }), 4),
                   concat(format_fixed(mean_of([](const Run& r) { return r.lpf.value; }), 4), " ± ", error),
                   concat(format_fixed(mean_of([](const Run& r) { return r.rise(); }), 4), " ± ", error),
                   format_fixed(mean_of([](const Run& r) { return r.lambda_max; }), 2),
                   std::isnan(relative) ? "" : concat(format_fixed(relative, 2), " ×")});
  }
  const std::string what =
      noise == 0 ? "Clean labels"
                 : concat(format_fixed(100 * noise, 0), " % of the training labels drawn at random");
  program::print(concat("\n", what, ", ", o.seeds, " seeds\n"));
  std::printf("%s", table.to_string(terminal_columns()).c_str());
  report.section(what).table(table, concat("Mean over ", o.seeds, " seeds. ", plus_minus));

  std::vector<plot::Series> losses, errors, slices;
  std::vector<double> epochs;
  for (int e = 1; e <= o.epochs; ++e) epochs.push_back(e);
  for (const auto& optimizer : o.optimizers) {
    std::vector<std::vector<double>> loss, error, slice;
    for (const Run& r : runs) {
      if (r.label_noise != noise || r.optimizer != optimizer) continue;
      loss.push_back(r.loss_curve);
      error.push_back(r.error_curve);
      slice.insert(slice.end(), r.slices.begin(), r.slices.end());
    }
    const auto add = [&](std::vector<plot::Series>& all, const std::vector<double>& x,
                         const std::vector<std::vector<double>>& y) {
      all.push_back(plot::mean_band(title_of(optimizer), x, y));
      all.back().color = plot::method_color(optimizer);
    };
    add(losses, epochs, loss), add(errors, epochs, error), add(slices, slice_positions(), slice);
  }
  const std::string band = "Mean over the seeds; the band is ± one standard deviation over the seeds.";
  report.figure(plot::line_chart(errors, {.title = "Test error while training",
                                          .x = {.title = "epoch"},
                                          .y = {.title = "test error, %", .min = 0, .fit_end = true}}),
                band);
  report.figure(plot::line_chart(losses, {.title = "Training loss",
                                          .x = {.title = "epoch"},
                                          .y = {.title = "cross-entropy", .scale = plot::Scale::log}}),
                band + " At the unperturbed weights, on the labels as given.");
  report.figure(
      plot::line_chart(slices, {.title = "The loss around the solutions",
                                .x = {.title = "distance along the direction, in filter norms"},
                                .y = {.title = "training loss", .min = 0}}),
      concat("Training loss along ", directions,
             " random directions, each filter as long as the weight's own, the same draws for "
             "every solution: a wide valley is a flat minimum. Mean over directions and seeds; the band is "
             "± one standard deviation over both."));
}

inline void write_results(const Options& o, const std::vector<Run>& runs) {
  std::vector<Record> records;
  for (const Run& r : runs)
    records.push_back({{"label_noise", r.label_noise},
                       {"optimizer", r.optimizer},
                       {"seed", r.seed},
                       {"test_error", r.test_error},
                       {"validation_error", r.validation_error},
                       {"train_loss", r.train_loss},
                       {"lpf_sharpness", r.lpf.value},
                       {"lpf_sharpness_se", r.lpf.standard_error},
                       {"lpf_rise", r.rise()},
                       {"lambda_max", r.lambda_max},
                       {"step_ms", r.step_ms},
                       {"epochs", o.epochs},
                       {"M", o.M},
                       {"gamma", o.gamma},
                       {"alpha", o.alpha},
                       {"rho", o.rho},
                       {"estimator", o.estimator}});
  write_json_records(o.out + "/results.json", records);
  write_csv_records(o.out + "/results.csv", records);
}

}  // namespace digits_app
