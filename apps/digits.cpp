// The main example: SGD, SAM and LPF-SGD train the same network from the same weights on real handwritten
// digits, with clean labels and with a fraction of wrong ones. Reports test error, sharpness of the
// solutions, and the cost of a step.
//
//   digits --help                all options
//   digits --tune --seeds 10     selects rho, gamma and alpha on the validation split, and prints all trials
//   mpirun -np 4 digits          the runs are shared by four processes (docs/distributed.md)
#include <algorithm>
#include <cstdio>
#include <lpf/distributed/population.hpp>
#include <lpf/io/output_folder.hpp>
#include <lpf/report/progress.hpp>
#include <mutex>
#include <optional>

#include "digits/results.hpp"
#include "processes.hpp"

using namespace digits_app;

namespace {

// Selects rho, gamma and alpha by the error on the validation split, averaged over the label-noise settings,
// with seeds that the comparison does not use. Each optimizer has one choice for all settings.
void tune(distributed::Communicator& world, const Options& o) {
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
                  {.label = "tuning", .style = program::progress_style(world)});
  std::size_t done = 0;
  std::map<std::string, const Candidate*> best;
  for (Candidate& c : candidates) {
    std::vector<std::string> row{title_of(c.optimizer), c.setting};
    for (double noise : o.label_noise) {
      distributed::Population seeds(world, o.seeds, [&](std::int64_t s) {
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
  if (world.rank() > 0) return;
  program::print(
      concat("Validation error, %, mean ± sd over ", o.seeds, " seeds that the comparison does not use\n"));
  std::printf("%s", table.to_string(terminal_columns()).c_str());
  for (const auto& [optimizer, c] : best)
    program::print(concat("lowest mean over the settings: ", title_of(optimizer), " ", c->setting, " (",
                          format_fixed(c->mean, 2), " %)\n"));
}

void compare(distributed::Communicator& world, const Options& o, const std::string& command) {
  const bool leads = world.rank() == 0;
  std::optional<OutputFolder> folder;
  if (leads) folder.emplace(o.out, "digits");
  for (const char* file : {"/report.html", "/test-error.svg", "/results.json", "/results.csv"})
    if (leads) program::check_writable(o.out + file, "digits");
  if (leads)
    program::print(concat("1,000 training digits, 500 test digits, network 64-128-128-10, ", o.epochs,
                          " epochs of batch 64.\n"));
  program::check_output("digits");
  std::size_t total = 0;  // epochs of this process's runs
  for (std::int64_t k = world.rank(); k < o.seeds * std::ssize(o.optimizers); k += world.size())
    total += o.label_noise.size() * static_cast<std::size_t>(o.epochs);
  ProgressBar bar(total, {.label = "training", .style = program::progress_style(world)});
  std::vector<Run> runs;
  std::size_t done = 0;
  std::mutex one_at_a_time;
  const auto report_epoch = [&](double loss) {
    const std::lock_guard lock(one_at_a_time);
    bar.update(++done, loss);
  };
  for (double noise : o.label_noise) {
    const std::int64_t n = std::ssize(o.optimizers);
    const auto optimizer = [&](std::int64_t k) { return o.optimizers[static_cast<std::size_t>(k % n)]; };
    const auto seed = [n](std::int64_t k) { return static_cast<int>(k / n); };
    distributed::Population members(world, o.seeds * n,
                                    [&](std::int64_t k) {  // interleaved: a slowdown affects all
                                      return Training(o, optimizer(k), noise, seed(k));
                                    });
    const auto all = members.each([&](Training& t) { return numbers_of(t.train(true, report_epoch)); });
    for (std::int64_t k = 0; k < std::ssize(all); ++k)
      runs.push_back(run_of(noise, optimizer(k), seed(k), o.epochs, all[static_cast<std::size_t>(k)]));
  }
  bar.finish();
  if (!leads) return;

  std::string names;
  for (const auto& optimizer : o.optimizers) names += concat(names.empty() ? "" : ", ", title_of(optimizer));
  const std::string result = result_text(o, runs);
  HTMLReport report({.title = "Handwritten digits: " + names,
                     .lead = result,
                     .command = command,
                     .seeds = concat("0 to ", o.seeds - 1)});
  const plot::Svg test_error = test_error_chart(o, runs);
  report.figure(test_error,
                concat("Mean over ", o.seeds,
                       " seeds, ± one standard deviation over the seeds; the small dots are the seeds."));
  report.text(
      "The optimizers train the same small network from the same weights. LPF-SGD descends the loss smoothed "
      "by "
      "Gaussian noise on the weights, and so towards wide valleys of the loss.");
  for (double noise : o.label_noise) print_table(o, runs, noise, report);
  report.section("What the columns mean").definitions(columns);
  program::print(concat(plus_minus, "\n\n"));
  std::printf("%s", definitions_text(columns).c_str());
  report.write(o.out + "/report.html");
  write_file_atomically(o.out + "/test-error.svg", test_error.markup);
  write_results(o, runs);
  program::print(concat("\n", result, "\nPictures: ", o.out, "/report.html, ", o.out,
                        "/test-error.svg\nNumbers: ", o.out, "/results.csv, ", o.out, "/results.json\n"));
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
  program::add_deadline(app, o.deadline);
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
    return program::in_processes(app, "digits", o.deadline, [&](auto& world) {
      distributed::check_same(world, "digits", "a command line", distributed::Hash().add(command).value());
      o.tune ? tune(world, o) : compare(world, o, command);
      return 0;
    });
  });
}
