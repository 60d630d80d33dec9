// The main example: SGD, SAM and LPF-SGD train the same network from the same weights on real handwritten
// digits, with clean labels and with a fraction of wrong ones. Reports test error, sharpness of the
// solutions, and the cost of a step.
//
//   digits --help                all options
//   digits --tune --seeds 10     selects rho, gamma and alpha on the validation split, and prints all trials
#include <algorithm>
#include <cstdio>
#include <lpf/io/output_folder.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/train/population.hpp>
#include <mutex>

#include "digits/results.hpp"
#include "program.hpp"

using namespace digits_app;

namespace {

// Selects rho, gamma and alpha by the error on the validation split, averaged over the label-noise settings,
// with seeds that the comparison does not use. Each optimizer has one choice for all settings.
void tune(const Options& o) {
  struct Candidate {
    std::string optimizer, setting;
    Options options;
    double mean = 0;
  };
  std::vector<Candidate> candidates{{"sgd", "", o}};
  for (double rho : {0.05, 0.1, 0.2, 0.4, 0.8}) {
    candidates.push_back({"sam", concat("rho ", rho), o});
    candidates.back().options.rho = rho;
  }
  for (double alpha : {1.0, 5.0})
    for (double gamma : {0.02, 0.03, 0.045, 0.06, 0.08, 0.1}) {
      if (gamma * alpha > 0.25) continue;
      candidates.push_back({"lpf-sgd", concat("gamma ", gamma, ", alpha ", alpha), o});
      candidates.back().options.gamma = gamma;
      candidates.back().options.alpha = alpha;
    }
  std::vector<std::string> header{"optimizer", "setting"};
  for (double noise : o.label_noise) header.push_back(concat("label noise ", noise));
  TextTable table(header);
  ProgressBar bar(candidates.size() * o.label_noise.size() * static_cast<std::size_t>(o.seeds),
                  {.label = "tuning"});
  std::size_t done = 0;
  std::map<std::string, const Candidate*> best;
  for (Candidate& c : candidates) {
    std::vector<std::string> row{title_of(c.optimizer), c.setting};
    for (double noise : o.label_noise) {
      Population seeds(o.seeds, [&](std::int64_t s) {
        return Training(c.options, c.optimizer, noise, 1000 + static_cast<int>(s));
      });
      const std::vector<double> errors =
          seeds.each([](Training& t) { return t.train(false, [](double) {}).validation_error; });
      bar.update(done += errors.size());
      row.push_back(format_mean_sd(mean_sd(errors)));
      c.mean += mean_sd(errors).mean / static_cast<double>(o.label_noise.size());
    }
    table.add_row(row);
    const Candidate*& leader = best[c.optimizer];
    if (!leader || c.mean < leader->mean) leader = &c;
  }
  bar.finish();
  std::printf("Validation error, %%, mean ± sd over %d seeds that the comparison does not use\n%s", o.seeds,
              table.to_string(terminal_columns()).c_str());
  for (const auto& [optimizer, c] : best)
    std::printf("lowest mean over the settings: %s %s (%s %%)\n", title_of(optimizer).c_str(),
                c->setting.c_str(), format_fixed(c->mean, 2).c_str());
}

void compare(const Options& o, const std::string& command) {
  const OutputFolder folder(o.out, "digits");
  for (const char* file : {"/report.html", "/test-error.svg", "/results.json", "/results.csv"})
    program::check_writable(o.out + file, "digits");
  std::printf("%s\n", concat("1,000 training digits, 500 test digits, network 64-128-128-10, ", o.epochs,
                             " epochs of batch 64.")
                          .c_str());
  program::check_output("digits");
  const std::size_t total =
      o.label_noise.size() * static_cast<std::size_t>(o.seeds * o.epochs) * o.optimizers.size();
  ProgressBar bar(total, {.label = "training"});
  std::vector<Run> runs;
  std::size_t done = 0;
  std::mutex one_at_a_time;
  const auto report_epoch = [&](double loss) {
    const std::lock_guard lock(one_at_a_time);
    bar.update(++done, loss);
  };
  for (double noise : o.label_noise) {
    const std::int64_t n = std::ssize(o.optimizers);
    Population members(o.seeds * n, [&](std::int64_t k) {  // interleaved: a slowdown affects all optimizers
      return Training(o, o.optimizers[static_cast<std::size_t>(k % n)], noise, static_cast<int>(k / n));
    });
    for (Run& run : members.each([&](Training& t) { return t.train(true, report_epoch); }))
      runs.push_back(std::move(run));
  }
  bar.finish();

  HTMLReport report({.title = "Flat minima read digits better",
                     .lead =
                         "SGD, SAM and LPF-SGD train the same small network from the same weights. LPF-SGD "
                         "descends the loss smoothed by Gaussian noise on the weights, so it ends in wide "
                         "valleys of the loss.",
                     .command = command,
                     .seeds = concat("0 to ", o.seeds - 1)});
  for (double noise : o.label_noise) print_table(o, runs, noise, report);
  std::vector<plot::Group> groups;
  std::vector<std::string> categories;
  for (double noise : o.label_noise)
    categories.push_back(noise == 0 ? "clean labels"
                                    : concat(format_fixed(100 * noise, 0), " % label noise"));
  for (const auto& optimizer : o.optimizers) {
    plot::Group group{.name = title_of(optimizer)};
    for (double noise : o.label_noise) {
      std::vector<double> errors;
      for (const Run& r : runs)
        if (r.label_noise == noise && r.optimizer == optimizer) errors.push_back(r.test_error);
      group.value.push_back(mean_sd(errors).mean);
      group.error.push_back(mean_sd(errors).sd);
      group.points.push_back(errors);
    }
    groups.push_back(group);
  }
  const plot::Svg test_error =
      plot::dot_chart(categories, groups, {.title = "Test error", .y = {.title = "test error, %", .min = 0}});
  report.section("All together").figure(test_error, "Mean, standard deviation, and each seed.");
  report.section("What the columns mean").definitions(columns);
  std::printf("\n");
  std::printf("%s", definitions_text(columns).c_str());
  report.write(o.out + "/report.html");
  write_file_atomically(o.out + "/test-error.svg", test_error.markup);
  write_results(o, runs);
  std::printf("\nPictures: %s/report.html, %s/test-error.svg   numbers: %s/results.csv, %s/results.json\n",
              o.out.c_str(), o.out.c_str(), o.out.c_str(), o.out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app(
      "Trains a small network on real handwritten digits with SGD, SAM and LPF-SGD, and compares the minima "
      "they find.");
  app.option_defaults()->always_capture_default();
  app.add_option("--seeds", o.seeds, "number of repetitions")->check(CLI::Range(1, 1000));
  app.add_option("--epochs", o.epochs, "passes over the training data")->check(CLI::Range(1, 100000));
  app.add_option("--label-noise", o.label_noise, "fractions of training labels drawn at random")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--gamma", o.gamma, "radius of LPF-SGD's noise, relative to each filter's norm")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--alpha", o.alpha, "the radius grows to alpha·gamma over training")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-M", o.M, "perturbed copies of the network in a step, each on a part of the batch")
      ->check(CLI::Range(1, 40));  // an epoch's last batch has 40 samples
  app.add_option("--rho", o.rho, "radius of SAM's ascent")->check(CLI::NonNegativeNumber);
  app.add_option("--optimizer", o.optimizers, "which to run")
      ->check(CLI::IsMember({"sgd", "sam", "lpf-sgd"}));
  app.add_option("--estimator", o.estimator, "how LPF-SGD draws its noise")
      ->check(CLI::IsMember(estimator_names()));
  app.add_option("--out", o.out, "folder for report.html, test-error.svg, results.csv and results.json");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_flag("--tune", o.tune, "choose rho, gamma and alpha on the validation split instead");
  return program::run(app, "digits", argc, argv, [&](const std::string& command) {
    set_num_threads(o.threads);
    const auto runs = [&](const char* optimizer) {
      return std::find(o.optimizers.begin(), o.optimizers.end(), optimizer) != o.optimizers.end();
    };
    const auto refuse_unused = [&](const char* flag, bool used, const char* reason) {
      program::refuse_unused(app, "digits", flag, used, reason);
    };
    for (const char* flag : {"--gamma", "--alpha", "--rho", "--optimizer", "--out"})
      refuse_unused(flag, !o.tune, "--tune tries values of its own, and prints them");
    for (const char* flag : {"--gamma", "--alpha", "-M", "--estimator"})
      refuse_unused(flag, o.tune || runs("lpf-sgd"), "--optimizer does not name lpf-sgd");
    refuse_unused("--rho", runs("sam"), "--optimizer does not name sam");
    program::usage([&] {
      LowPassFilter({.M = o.M, .gamma = o.gamma, .alpha = 1, .estimator = estimator_named(o.estimator)});
    });
    o.tune ? tune(o) : compare(o, command);
  });
}
