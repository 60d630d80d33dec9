// The main job: SGD, SAM and LPF-SGD train the same network from the same weights on real handwritten digits,
// with clean labels and with a part of them wrong. Shows test error, how flat the solutions are, and what a
// step costs.
//
//   digits --help                all options
//   digits --tune --seeds 10     chooses rho, gamma and alpha on the validation split, and prints all it
//   tried
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/io/atomic_file.hpp>
#include <lpf/lpf.hpp>
#include <lpf/report/log.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/sharpness/lanczos.hpp>
#include <lpf/train/metrics.hpp>
#include <lpf/train/population.hpp>
#include <mutex>

using namespace lpf;

namespace {

struct Options {
  int seeds = 5, epochs = 60, threads = 0;
  std::vector<double> label_noise{0, 0.2};
  std::int64_t M = 8;
  double gamma = 0.06, alpha = 1, rho = 0.4;  // chosen by digits --tune --seeds 10
  std::vector<std::string> optimizers{"sgd", "sam", "lpf-sgd"};
  std::string estimator = "replicas", out = "out/demo";
  bool tune = false;
};

const std::map<std::string, Estimator> estimators{{"replicas", Estimator::replicas},
                                                  {"antithetic", Estimator::antithetic},
                                                  {"per-sample", Estimator::per_sample}};
const std::map<std::string, std::string> titles{{"sgd", "SGD"}, {"sam", "SAM"}, {"lpf-sgd", "LPF-SGD"}};
const std::map<std::string, std::string> if_it_diverges{
    {"sgd", ""}, {"sam", ": lower --rho"}, {"lpf-sgd", ": lower --gamma or --alpha"}};

struct Mlp {
  nn::Linear fc1, fc2, fc3;
  explicit Mlp(nn::Path p) : fc1(p / "fc1", 64, 128), fc2(p / "fc2", 128, 128), fc3(p / "fc3", 128, 10) {}
  Tensor operator()(const Tensor& x) const { return fc3(relu(fc2(relu(fc1(x))))); }
};

// One seed's data. Only training labels are noisy; validation and test labels stay clean.
struct Task {
  TensorDataset train, validation, test;
};
Task make_task(std::uint64_t seed, double label_noise) {
  const auto [train, validation, test] = split(digits(), {1000, 297, 500}, seed);
  return {with_label_noise(train, {.probability = label_noise, .seed = seed}), validation, test};
}

struct Run {
  double label_noise;
  std::string optimizer;
  int seed;
  double validation_error, test_error, train_loss, lambda_max, step_ms;
  sharpness::Estimate lpf;
  std::vector<double> loss_curve, error_curve;  // an epoch each, at the unperturbed weights
  std::vector<std::vector<double>> slices;      // loss along random directions, by direction
};

constexpr int slice_points = 41, directions = 5;
std::vector<double> slice_positions() {
  std::vector<double> a;
  for (int i = 0; i < slice_points; ++i) a.push_back(-1 + 2.0 * i / (slice_points - 1));
  return a;
}

double mean_loss(const Mlp& net, const TensorDataset& data) {
  const auto guard = no_grad();
  return cross_entropy(net(data.images), data.labels).item();
}
double error_percent(const Mlp& net, const TensorDataset& data) {
  const auto guard = no_grad();
  return 100.0 * static_cast<double>(count_errors(net(data.images), data.labels)) /
         static_cast<double>(data.size());
}

// Random directions with every filter as long as the weight's own (Li et al. 2018), the same draws for every
// solution.
Tensor landscape_offsets(const ParameterStore& params) {
  LowPassFilter unit({.M = directions, .gamma = 1, .seed = 7});
  const Tensor noise = unit.offsets(params, 0);
  const filter::Segments rows = filter::segments_of(params, NoiseLaw::filter_wise, {});
  const Tensor size = filter::scales(params, rows, 1);
  std::vector<float> d = noise.to_vector<float>();
  const auto norms = size.to_vector();
  const auto n = static_cast<std::size_t>(params.theta().numel());
  for (std::size_t k = 0; k < directions; ++k)
    for (const auto& s : rows.segments)
      for (std::int64_t r = 0; r < s.rows; ++r) {
        float* row = d.data() + k * n + s.offset + r * s.length;
        double squares = 1e-30;
        for (std::int64_t i = 0; i < s.length; ++i) squares += static_cast<double>(row[i]) * row[i];
        const auto factor =
            static_cast<float>(norms[static_cast<std::size_t>(s.first_scale + r)] / std::sqrt(squares));
        for (std::int64_t i = 0; i < s.length; ++i) row[i] *= factor;
      }
  std::vector<float> all;
  for (std::size_t k = 0; k < directions; ++k)
    for (double a : slice_positions())
      for (std::size_t i = 0; i < n; ++i) all.push_back(static_cast<float>(a) * d[k * n + i]);
  return from_vector(all, {directions * slice_points, static_cast<std::int64_t>(n)});
}

// A training run with all that is its own: a member of the population of seeds and optimizers.
struct Training {
  const Options& o;
  Task task;
  DataLoader loader;
  ParameterStore params;
  Mlp net;
  optim::SGD sgd;
  optim::SAM<optim::SGD> sam;
  LowPassFilter filter;
  Run run;

  Training(const Options& options, const std::string& optimizer, double label_noise, int seed)
      : Training(options, optimizer, label_noise, seed, static_cast<std::uint64_t>(seed)) {}

  Training(const Training&) = delete;  // sam refers to sgd
  Training& operator=(const Training&) = delete;

  // Trains to the end. What it reports after each epoch: the training loss.
  template <class Report>
  Run train(bool measure, Report report) {
    std::vector<double> step_ms;
    for (int epoch = 0; epoch < o.epochs; ++epoch) {
      for (auto [x, y] : loader) {
        const auto start = std::chrono::steady_clock::now();
        if (run.optimizer == "sam") {
          sam.step([&, x = x, y = y] { return cross_entropy(net(x), y); });
        } else if (run.optimizer == "lpf-sgd") {
          auto scope = filter.perturb(params);
          cross_entropy(net(x), y).backward();
          sgd.step();
        } else {
          cross_entropy(net(x), y).backward();
          sgd.step();
        }
        step_ms.push_back(
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
      }
      run.train_loss = mean_loss(net, task.train);
      check<NumericError>(std::isfinite(run.train_loss), "digits", "the loss of ", titles.at(run.optimizer),
                          " is ", run.train_loss, " after epoch ", epoch + 1,
                          if_it_diverges.at(run.optimizer));
      run.loss_curve.push_back(run.train_loss);
      run.error_curve.push_back(measure ? error_percent(net, task.test) : 0);
      report(run.train_loss);
    }
    run.validation_error = error_percent(net, task.validation);
    if (!measure) return run;  // tuning never looks at the test set

    std::nth_element(step_ms.begin(), step_ms.begin() + std::ssize(step_ms) / 2, step_ms.end());
    run.step_ms = step_ms[step_ms.size() / 2];
    run.test_error = error_percent(net, task.test);
    const sharpness::Data data{task.train.images, task.train.labels};
    const auto losses = [&](const Tensor& x, const Tensor& y) {
      return cross_entropy(net(x), y, {.reduction = Reduction::none});
    };
    run.lpf = sharpness::low_pass(params, data, losses, {.sigma = 0.05, .draws = 96});
    run.lambda_max = sharpness::lambda_max(params, [&] { return cross_entropy(net(data.x), data.y); },
                                           {.steps = 60, .starts = 1});
    const auto along = sharpness::losses_at(params, landscape_offsets(params), data, losses);
    for (int k = 0; k < directions; ++k)
      run.slices.emplace_back(along.begin() + k * slice_points, along.begin() + (k + 1) * slice_points);
    return run;
  }

 private:
  Training(const Options& options, const std::string& optimizer, double label_noise, int number,
           std::uint64_t seed)
      : o(options),
        task(make_task(seed, label_noise)),
        loader(task.train, {.batch_size = 64, .seed = seed}),
        params({.seed = seed}),
        net(params),
        sgd(params, {.lr = 0.1, .momentum = 0.9}),
        sam(params, sgd, {.rho = o.rho}),
        filter({.M = o.M,
                .gamma = o.gamma,
                .alpha = o.alpha,
                .total_steps = o.epochs * loader.batches(),
                .estimator = estimators.at(o.estimator),
                .seed = seed}),
        run{label_noise, optimizer, number, 0, 0, 0, 0, 0, {}, {}, {}, {}} {
    sgd.set_schedule(schedule::cosine(static_cast<std::uint64_t>(o.epochs * loader.batches())));
  }
};

const std::vector<std::pair<std::string, std::string>> columns{
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

void print_table(const Options& o, const std::vector<Run>& runs, double noise, HTMLReport& report) {
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
    table.add_row({titles.at(optimizer), format_mean_sd(mean_sd(all)),
                   format_fixed(mean_of([](const Run& r) { return r.train_loss; }), 4),
                   concat(format_fixed(mean_of([](const Run& r) { return r.lpf.value; }), 4), " ± ",
                          format_fixed(std::sqrt(squares) / static_cast<double>(se.size()), 4)),
                   format_fixed(mean_of([](const Run& r) { return r.lambda_max; }), 2),
                   std::isnan(relative) ? "" : concat(format_fixed(relative, 2), " ×")});
  }
  const std::string what =
      noise == 0 ? "Clean labels"
                 : concat(format_fixed(100 * noise, 0), " % of the training labels drawn at random");
  std::printf("\n%s, %d seeds\n%s", what.c_str(), o.seeds, table.to_string().c_str());
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
    losses.push_back(plot::mean_band(titles.at(optimizer), epochs, loss));
    errors.push_back(plot::mean_band(titles.at(optimizer), epochs, error));
    slices.push_back(plot::mean_band(titles.at(optimizer), slice_positions(), slice));
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

void write_results(const Options& o, const std::vector<Run>& runs) {
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

// Chooses rho, gamma and alpha by the error on the validation split, averaged over the label-noise settings,
// with seeds that the comparison does not use. One choice an optimizer serves all settings.
int tune(const Options& o) {
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
    std::vector<std::string> row{titles.at(c.optimizer), c.setting};
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
              table.to_string().c_str());
  for (const auto& [optimizer, c] : best)
    std::printf("lowest mean over the settings: %s %s (%.2f %%)\n", titles.at(optimizer).c_str(),
                c->setting.c_str(), c->mean);
  return 0;
}

int compare(const Options& o, const std::string& command) {
  create_directories(o.out);
  // A folder that takes no files is an error now, not after training.
  AtomicFile(o.out + "/report.html", "digits");
  std::printf("%s\n", concat("1,000 training digits, 500 test digits, network 64-128-128-10, ", o.epochs,
                             " epochs of batch 64.")
                          .c_str());
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
    Population members(o.seeds * n, [&](std::int64_t k) {  // optimizers in turn: a slow moment meets them all
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
    plot::Group group{.name = titles.at(optimizer)};
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
  for (const auto& [name, meaning] : columns) std::printf("%-14s %s\n", name.c_str(), meaning.c_str());
  report.write(o.out + "/report.html");
  write_file_atomically(o.out + "/test-error.svg", test_error.markup);
  write_results(o, runs);
  std::printf("\nPictures: %s/report.html, %s/test-error.svg   numbers: %s/results.csv, %s/results.json\n",
              o.out.c_str(), o.out.c_str(), o.out.c_str(), o.out.c_str());
  return 0;
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
      ->check(CLI::IsMember({"replicas", "antithetic", "per-sample"}));
  app.add_option("--out", o.out, "folder for report.html, test-error.svg, results.csv and results.json");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_flag("--tune", o.tune, "choose rho, gamma and alpha on the validation split instead");
  CLI11_PARSE(app, argc, argv);
  try {
    set_num_threads(o.threads);
    std::string command = "digits";
    for (int i = 1; i < argc; ++i) command += concat(" ", argv[i]);
    const int result = o.tune ? tune(o) : compare(o, command);
    check<IOError>(std::fflush(stdout) == 0 && !std::ferror(stdout), "digits",
                   "the table could not be written: is the disk full?");
    return result;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "digits: %s\n", e.what());
    return 1;
  }
}
