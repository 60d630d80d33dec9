// Tables, figures and files of digits.cpp.
#pragma once

#include <cmath>
#include <cstdio>
#include <lpf/report/log.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/report/table.hpp>

#include "training.hpp"

namespace digits_app {

inline const std::vector<std::pair<std::string, std::string>> columns{
    {"test error",
     "how many of 500 digits, never seen in training, are misread, in per cent: mean ± standard deviation "
     "over the "
     "seeds. This is what counts."},
    {"training loss",
     "cross-entropy on the 1,000 training digits, wrong labels included: near 0 means that the network has "
     "learnt even the wrong labels by heart."},
    {"LPF sharpness",
     "mean training loss after small Gaussian noise (5 % of each unit's size) is added to the weights: low "
     "means "
     "a flat minimum; ± is the standard error of the 96 draws."},
    {"λ_max",
     "largest eigenvalue of the Hessian of the training loss, with each unit's weights measured in their own "
     "size: the "
     "curvature in the steepest direction."},
    {"step", "time of one training step relative to SGD's: LPF-SGD makes one batched pass, SAM two passes."}};

inline void print_table(const Options& o, const std::vector<Run>& runs, double noise, HTMLReport& report) {
  TextTable table({"optimizer", "test error, %", "training loss", "LPF sharpness", "λ_max", "step"});
  const auto values = [&](const std::string& optimizer, auto f) {
    std::vector<double> out;
    for (const Run& r : runs)
      if (r.label_noise == noise && r.optimizer == optimizer) out.push_back(f(r));
    return out;
  };
  const auto median_step = [&](const std::string& optimizer) {
    auto v = values(optimizer, [](const Run& r) { return r.step_ms; });
    std::sort(v.begin(), v.end());
    return v.empty() ? std::nan("") : v[v.size() / 2];
  };
  for (const auto& optimizer : o.optimizers) {
    const auto all = values(optimizer, [](const Run& r) { return r.test_error; });
    const auto se =
        values(optimizer, [](const Run& r) { return r.lpf.standard_error * r.lpf.standard_error; });
    double squares = 0;
    for (double s : se) squares += s;
    const auto mean_of = [&](auto f) { return mean_sd(values(optimizer, f)).mean; };
    const double relative = median_step(optimizer) / median_step("sgd");
    table.add_row({title_of(optimizer), format_mean_sd(mean_sd(all)),
                   format_fixed(mean_of([](const Run& r) { return r.train_loss; }), 4),
                   concat(format_fixed(mean_of([](const Run& r) { return r.lpf.value; }), 4), " ± ",
                          format_fixed(std::sqrt(squares) / static_cast<double>(se.size()), 4)),
                   format_fixed(mean_of([](const Run& r) { return r.lambda_max; }), 2),
                   std::isnan(relative) ? "" : concat(format_fixed(relative, 2), " ×")});
  }
  const std::string what =
      noise == 0 ? "Clean labels"
                 : concat(format_fixed(100 * noise, 0), " % of the training labels drawn at random");
  std::printf("\n%s, %d seeds\n%s", what.c_str(), o.seeds, table.to_string(terminal_columns()).c_str());
  report.section(what).table(table, concat("Mean over ", o.seeds, " seeds."));

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
    losses.push_back(plot::mean_band(title_of(optimizer), epochs, loss));
    errors.push_back(plot::mean_band(title_of(optimizer), epochs, error));
    slices.push_back(plot::mean_band(title_of(optimizer), slice_positions(), slice));
  }
  report.figure(plot::line_chart(errors, {.title = "Test error while training",
                                          .x = {.title = "epoch"},
                                          .y = {.title = "test error, %", .min = 0}}),
                "Mean over the seeds; the band is ± one standard deviation.");
  report.figure(plot::line_chart(losses, {.title = "Training loss",
                                          .x = {.title = "epoch"},
                                          .y = {.title = "cross-entropy", .scale = plot::Scale::log}}),
                "At the unperturbed weights, on the labels as given.");
  report.figure(plot::line_chart(slices, {.title = "The loss around the three solutions",
                                          .x = {.title = "distance along the direction, in filter norms"},
                                          .y = {.title = "training loss", .min = 0}}),
                concat("Training loss along ", directions,
                       " random directions, each filter as long as the weight's own, the same draws for "
                       "every solution: a wide valley is a flat minimum."));
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
