// Sharpness of a trained network: every measure of lpf/sharpness/, of any weights in a safetensors file: a
// checkpoint of LPF's, or a state_dict saved from PyTorch.
//
//   sharpness --train out/digits-mlp.safetensors        trains the digits network first, then measures it
//   sharpness net.safetensors --network resnet18 --data cifar10:data/cifar10 --normalize
//   sharpness a.safetensors --compare b.safetensors     two models, the same noise, paired differences
//   mpirun -np 4 sharpness …                            in four processes, with the numbers of one (docs/distributed.md)
//
// --json writes the numbers, --plot a page with the spectrum, the profile and the layers.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <lpf/data/sets/cifar.hpp>
#include <lpf/data/sets/digits.hpp>
#include <lpf/data/sets/idx.hpp>
#include <lpf/data/sets/mnist1d.hpp>
#include <lpf/distributed/agreement.hpp>
#include <lpf/distributed/measures.hpp>
#include <lpf/experiment/rank_statistics.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/registry.hpp>
#include <lpf/report/log.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/sharpness/compare.hpp>
#include <lpf/train/weights.hpp>
#include <memory>

#include "processes.hpp"

using namespace lpf;

namespace {

struct Options {
  std::string file, compare, initial, prefix, network = "digits-mlp", data = "digits", json, plot;
  models::ModelOptions model;
  bool normalize = false, train = false, blocks = false, raw = false, batch_norm = true;
  std::int64_t samples = 0, draws = 100, replicas = 8, samples_a_pass = 0;
  std::uint64_t seed = 0, key = 0;
  double relative_error = 0, deadline = 600;
  std::vector<std::string> measures;
  int threads = 0;
};

TensorDataset load_data(const Options& o) {
  const auto colon = o.data.find(':');
  const std::string kind = o.data.substr(0, colon);
  const std::string place = colon == std::string::npos ? "" : o.data.substr(colon + 1);
  const bool built_in = kind == "digits" || kind == "mnist1d";
  check(built_in || kind == "idx" || kind == "cifar10" || kind == "cifar100", "sharpness",
        "--data is digits, mnist1d, idx:FOLDER, cifar10:FOLDER or cifar100:FOLDER, got '", o.data, "'");
  check(built_in || !place.empty(), "sharpness", "--data ", kind, " needs a place: --data ", kind, ":FOLDER");
  const auto whole = [&]() -> TensorDataset {
    if (kind == "digits") return digits({.flat = false, .normalize = o.normalize});
    if (kind == "mnist1d") return mnist1d_images(Split::train);
    if (kind == "idx") return mnist(place, Split::train, {.normalize = o.normalize});
    if (kind == "cifar10") return cifar10(place, Split::train, {.normalize = o.normalize});
    return cifar100(place, Split::train, {.normalize = o.normalize});
  }();
  if (o.samples == 0) return whole;
  check(o.samples <= whole.size(), "sharpness", "--samples ", o.samples, ", but the data have ",
        whole.size());
  return split(whole, {o.samples, -1}, o.seed)[0];
}

// A network with weights from a file.
struct Loaded {
  ParameterStore params;
  models::Model net;

  Loaded(const Options& o, const TensorDataset& data) {
    models::ModelOptions options = o.model;
    options.input = data.images.shape().slice(1, 4);
    if (!o.batch_norm) options.batch_norm = false;
    net = models::make(o.network, params, options);
  }
  void load(const std::string& name, const std::string& prefix) const {
    std::string path = name;  // a checkpoint may be named without its extension
    if (!std::filesystem::exists(lpf::detail::path_of(path)) &&
        std::filesystem::exists(lpf::detail::path_of(path + ".safetensors")))
      path += ".safetensors";
    load_weights(path, params, {.prefix = prefix});
    const Tensor theta = params.theta();
    for (const double x : theta.to_vector())
      check<NumericError>(std::isfinite(x), "sharpness", "'", path,
                          "' holds NaN or infinite weights: the training that wrote it diverged");
  }
};

// ValueError if the network does not take such samples.
std::unique_ptr<Loaded> network_for(const Options& o, const TensorDataset& data) {
  try {
    return std::make_unique<Loaded>(o, data);
  } catch (const ShapeError& e) { throw program::UsageError(e.what()); }
}

void train_digits(const Options& o, const TensorDataset& data) {
  const auto folder = lpf::detail::path_of(o.file).parent_path();
  if (!folder.empty()) create_directories(lpf::detail::text_of(folder));
  program::check_writable(o.file, "sharpness");
  const ParameterStore params({.seed = o.seed});
  const models::Model net = models::make(o.network, params);
  DataLoader loader(data, {.batch_size = 64, .seed = o.seed});
  optim::SGD sgd(params, {.lr = 0.1, .momentum = 0.9});
  constexpr int epochs = 60;
  sgd.set_schedule(schedule::cosine(static_cast<std::uint64_t>(epochs * loader.batches())));
  ProgressBar bar(epochs, {.label = "training"});
  for (int epoch = 0; epoch < epochs; ++epoch) {
    double last = 0;
    for (auto [x, y] : loader) {
      const Tensor loss = cross_entropy(net(x), y);
      loss.backward();
      sgd.step();
      last = loss.item();
    }
    bar.update(static_cast<std::size_t>(epoch + 1), last);
  }
  bar.finish();
  save_weights(o.file, params);
}

sharpness::MeasureOptions measure_options(const Options& o, const TensorDataset& data) {
  sharpness::MeasureOptions out{.draws = o.draws, .key = o.key};
  out.until.relative_error = o.relative_error;
  out.filter_normalize = !o.raw;
  out.replicas = o.replicas;
  out.samples = o.samples_a_pass;
  out.low_pass_blocks = o.blocks;
  out.spectrum.eigenpairs = 5;
  out.measures = o.measures;
  if (!o.initial.empty()) {
    const Loaded initial(o, data);
    initial.load(o.initial, o.prefix);
    out.pac_bayes.initial = initial.params.theta();
  }
  program::usage([&] { sharpness::checked_measures(out); });
  return out;
}

std::string with_error(double value, double error) {
  if (std::isnan(value)) return "–";
  if (!(error > 0)) return format_general(value, 5);
  return concat(format_general(value, 5), " ± ", format_general(error, 2));
}

// Losses under noise, whose rise over the loss is shown beside them.
bool is_noisy_loss(const std::string& measure) {
  return measure == "low_pass" || measure == "low_pass_fan_in";
}
std::string rise_title(const std::string& measure) {
  return concat("  ", sharpness::quantity(measure).title, " − loss");
}

const char* const plus_minus =
    "±: standard error over the draws. Error of data: the standard error that comes from the choice of the "
    "samples.";

TextTable table_of(const sharpness::Report& report) {
  TextTable table({"measure", "value ± error of draws", "error of data", "draws", "advised"},
                  {.align = {Align::left, Align::left, Align::right, Align::right, Align::right}});
  for (const auto& m : report.measurements) {
    const auto& e = m.estimate;
    table.add_row({sharpness::quantity(m.name).title, with_error(e.value, e.standard_error),
                   std::isnan(e.data_error) ? "–" : format_general(e.data_error, 2),
                   e.draws > 0 ? std::to_string(e.draws) : "–",
                   e.advised_draws > 0 ? std::to_string(e.advised_draws) : "–"});
    if (is_noisy_loss(m.name))
      table.add_row({rise_title(m.name), with_error(e.value - report.loss, e.standard_error), "–",
                     e.draws > 0 ? std::to_string(e.draws) : "–", "–"});
  }
  return table;
}

TextTable blocks_of(const sharpness::Report& report) {
  TextTable table({"layer", "measure", "value ± error of draws"},
                  {.align = {Align::left, Align::left, Align::left}});
  for (const auto& m : report.measurements)
    for (const auto& b : m.estimate.blocks)
      table.add_row({b.name, concat(sharpness::quantity(m.name).title, " − loss"),
                     with_error(b.value, b.standard_error)});
  return table;
}

void write_json(const std::string& path, const Options& o, const sharpness::Report& report) {
  std::vector<Record> records;
  const auto add = [&](const std::string& measure, const std::string& block, double value, double error,
                       const sharpness::Estimate& e, const std::string& note) {
    records.push_back({{"file", o.file},
                       {"measure", measure},
                       {"block", block},
                       {"value", value},
                       {"standard_error", error},
                       {"draws", e.draws},
                       {"data_error", e.data_error},
                       {"advised_draws", e.advised_draws},
                       {"key", o.key},
                       {"note", note}});
  };
  add("loss", "", report.loss, 0, {}, "");
  for (const auto& m : report.measurements) {
    add(m.name, "", m.estimate.value, m.estimate.standard_error, m.estimate, m.note);
    if (is_noisy_loss(m.name))
      add(m.name + "_rise", "", m.estimate.value - report.loss, m.estimate.standard_error,
          {.draws = m.estimate.draws}, m.note);
    for (const auto& b : m.estimate.blocks) add(m.name, b.name, b.value, b.standard_error, {}, "");
  }
  for (std::size_t k = 0; k < report.eigenpairs.size(); ++k)
    add(concat("eigenvalue_", k + 1), "", report.eigenpairs[k].value, report.eigenpairs[k].residual, {},
        "standard_error is the residual");
  write_json_records(path, records);
}

// "net.safetensors: training loss 0.001; under noise (LPF) 0.012, a rise of 0.011; λ_max 3.2."
std::string result_text(const Options& o, const sharpness::Report& report) {
  std::string out = concat(o.file, ", network ", o.network, ", on ", report.samples, " samples of ", o.data,
                           ": training loss ", format_general(report.loss));
  const auto value = [&](const char* name) {
    return report.contains(name) ? report[name].value : std::nan("");
  };
  if (const double lpf = value("low_pass"); std::isfinite(lpf))
    out += concat("; under noise (LPF) ", format_general(lpf), ", a rise of ",
                  format_general(lpf - report.loss));
  if (const double steepest = value("lambda_max"); std::isfinite(steepest))
    out += concat("; λ_max ", format_general(steepest));
  return out + ".";
}

plot::Series band(const std::string& name, const sharpness::Curve& curve) {
  plot::Series out{.name = name, .x = curve.x, .y = curve.y};
  for (std::size_t i = 0; i < curve.y.size(); ++i) {
    out.low.push_back(curve.y[i] - curve.standard_error[i]);
    out.high.push_back(curve.y[i] + curve.standard_error[i]);
  }
  return out;
}

void write_plot(const std::string& path, const Options& o, const sharpness::Report& report,
                const std::string& command) {
  HTMLReport page({.title = "How sharp the minimum is",
                   .lead = result_text(o, report),
                   .command = command,
                   .seeds = concat("key ", o.key)});
  page.section("Measures")
      .table(table_of(report), concat(o.raw ? "In units of the weights" : "In units of the filters' sizes",
                                      ", in evaluation mode. ", plus_minus));
  std::vector<std::pair<std::string, std::string>> terms;
  for (const auto& m : report.measurements)
    terms.emplace_back(sharpness::quantity(m.name).title, sharpness::quantity(m.name).sentence);
  page.definitions(terms);
  if (!report.density.x.empty()) {
    const double top = *std::max_element(report.density.y.begin(), report.density.y.end());
    page.section("Spectrum of the Hessian")
        .figure(plot::line_chart({band("density", report.density)},
                                 {.title = "Density of the eigenvalues",
                                  .x = {.title = "eigenvalue"},
                                  .y = {.title = "density", .scale = plot::Scale::log, .min = top * 1e-6}}),
                "Stochastic Lanczos quadrature, smoothed; the band is ± the standard error over the starts.");
  }
  if (!report.profile.x.empty())
    page.section("Profile").figure(
        plot::line_chart({band("mean loss", report.profile)},
                         {.title = "Mean loss at distance α along random directions",
                          .x = {.title = "α, in units of the filters"},
                          .y = {.title = "loss", .min = 0}}),
        "The same directions at every α; the band is ± the standard error over the draws.");
  if (!blocks_of(report).rows().empty())
    page.section("Layers").table(blocks_of(report), concat("With noise on one layer alone. ", plus_minus));
  page.write(path);
}

void print(const sharpness::Report& report) {
  std::printf("training loss %s\n\n%s", format_general(report.loss).c_str(),
              table_of(report).to_string(terminal_columns()).c_str());
  program::print(concat(plus_minus, "\n\n"));
  for (const auto& m : report.measurements) {
    const sharpness::QuantityInfo& d = sharpness::quantity(m.name);
    program::print(concat(d.title, ": ", d.sentence, ".\n"));
    if (!m.note.empty()) program::print(concat("    no value: ", m.note, "\n"));
  }
  if (!report.eigenpairs.empty()) {
    std::string values = "largest eigenvalues:";
    for (const auto& e : report.eigenpairs) values += " " + format_general(e.value);
    program::print(values + "\n");
  }
}

void warn_if_not_converged(const std::string& file, const sharpness::Report& report) {
  if (report.loss <= 0.01) return;
  std::fprintf(
      stderr,
      "warning: %s has a training loss of %s. Models are compared when they have converged, to 0.01 or less: "
      "before that a measure says how far training went, not how flat the minimum is. (Or these are not "
      "the data it was trained on: --samples and --seed choose them, --normalize scales them.)\n",
      file.c_str(), format_general(report.loss).c_str());
}

// For the progress bar: ", 12 % communication"; empty for one process.
std::string communication(const distributed::Communicator& world, double share) {
  return world.size() == 1 ? "" : concat(", ", format_fixed(100 * share, 0), " % communication");
}

void check_agreement(distributed::Communicator& world, const std::string& command, const TensorDataset& data,
                     std::initializer_list<const Loaded*> models) {
  const auto same = [&](const char* what, const distributed::Hash& hash) {
    distributed::check_same(world, "sharpness", what, hash.value());
  };
  same("a command line", distributed::Hash().add(command));
  same("data", distributed::Hash().add(data.images).add(data.labels));
  distributed::Hash weights;
  for (const Loaded* m : models) weights.add(static_cast<std::int64_t>(distributed::state_of(m->params)));
  same("weights", weights);
}

// Everything that can be refused is refused before the first measure. Several processes measure together, and the first
// of them prints and writes.
void run(distributed::Communicator& world, Options o, const std::string& command) {
  const bool leads = world.rank() == 0;
  if (!leads) o.json.clear(), o.plot.clear();
  program::usage([&] {
    check(o.compare.empty() || o.relative_error == 0, "sharpness",
          "--compare pairs draw by draw: give --draws and not --relative-error");
    check(!o.train || (models::info(o.network).input == Shape{8, 8, 1} && o.data == "digits"), "sharpness",
          "--train trains digits-mlp on digits only");
  });
  program::check_writable(o.json, "sharpness");
  program::check_writable(o.plot, "sharpness");
  const TensorDataset data = program::usage([&] { return load_data(o); });
  const auto [a, b] = program::usage([&] { return std::pair(network_for(o, data), network_for(o, data)); });
  sharpness::MeasureOptions options = measure_options(o, data);
  if (!o.compare.empty()) b->load(o.compare, o.prefix);
  if (o.train && leads) train_digits(o, data);
  world.barrier();
  a->load(o.file, o.prefix);
  check_agreement(world, command, data, {a.get(), b.get()});
  options.ranks = distributed::ranks_of(world);
  if (leads)
    program::print(
        concat(o.file, ": network ", o.network, " on ", data.size(), " samples of ", o.data, "\n"));
  if (leads && world.size() > 1)
    std::fprintf(stderr, "sharpness: %s\n", experiment::description_of(world).c_str());
  program::check_output("sharpness");

  const auto measure = [&](const Loaded& m) {
    ProgressBar bar(sharpness::checked_measures(options).size(),
                    {.label = "measuring", .style = program::progress_style(world)});
    const double begin = lpf::detail::monotonic_seconds(), waited = world.seconds();
    options.progress = [&, begin, waited](std::string_view next, std::size_t done, std::size_t) {
      const double share =
          (world.seconds() - waited) / std::max(1e-9, lpf::detail::monotonic_seconds() - begin);
      if (!next.empty()) bar.set_label(concat(next, communication(world, share)));
      bar.update(done);
    };
    return sharpness::measure(m.net, m.params, data, options);
  };
  const sharpness::Report report = measure(*a);
  if (leads) warn_if_not_converged(o.file, report);
  if (leads) print(report);
  if (!o.json.empty()) write_json(o.json, o, report);
  if (!o.plot.empty()) write_plot(o.plot, o, report, command);
  if (o.compare.empty()) return;

  const sharpness::Report other = measure(*b);
  if (!leads) return;
  warn_if_not_converged(o.compare, other);
  TextTable table({"measure", o.file, o.compare, "difference ± paired error", "error of data"});
  for (const auto& d : sharpness::compare(report, other)) {
    const auto row = [&](const std::string& name, double one, double two, double data_error) {
      table.add_row({name, format_general(one, 5), format_general(two, 5),
                     with_error(one - two, d.standard_error),
                     std::isnan(data_error) ? "–" : format_general(data_error, 2)});
    };
    row(sharpness::quantity(d.name).title, d.a, d.b, d.data_error);
    if (is_noisy_loss(d.name)) row(rise_title(d.name), d.a - report.loss, d.b - other.loss, std::nan(""));
  }
  program::print("\nThe same noise for both, differences paired draw by draw:\n");
  std::printf("%s", table.to_string(terminal_columns()).c_str());
  program::print("±: standard error over the paired draws.\n");
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Measures how sharp the minimum is that a network was trained to.");
  app.option_defaults()->always_capture_default();
  app.add_option("file", o.file, "safetensors file with the weights, or the name of a checkpoint")
      ->required();
  app.add_option("--network", o.network, "which network they are of")->check(CLI::IsMember(models::names()));
  app.add_option("--classes", o.model.classes, "classes of the network")->check(CLI::Range(2, 100000));
  app.add_option("--width", o.model.width, "width of a ResNet; 0: its own")->check(CLI::Range(0, 100000));
  app.add_flag("!--no-batch-norm", o.batch_norm, "a ResNet without batch norm");
  app.add_flag("!--no-skip", o.model.skip, "a ResNet without skip connections");
  app.add_option("--data", o.data,
                 "training data: digits, mnist1d, idx:FOLDER, cifar10:FOLDER, cifar100:FOLDER");
  app.add_flag("--normalize", o.normalize, "normalise pixels by the set's mean and deviation");
  app.add_option("--samples", o.samples, "measure on so many, drawn at random; 0: all")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--seed", o.seed, "of that choice, and of --train");
  app.add_option("--measures", o.measures, "only these")->check(CLI::IsMember(sharpness::names()));
  app.add_option("--draws", o.draws, "random draws of a measure")->check(CLI::Range(2, 1000000));
  app.add_option("--relative-error", o.relative_error, "draw until this is reached instead; 0: do not")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--key", o.key, "of the noise: the same for models to be compared");
  app.add_flag("--raw", o.raw, "without filter normalisation");
  app.add_flag("--blocks", o.blocks, "LPF of each layer too, as many draws again for each");
  app.add_option("--initial", o.initial, "weights before training, for the PAC-Bayes distance");
  app.add_option("--prefix", o.prefix, "of the names in the files, as module. of DataParallel: is removed");
  app.add_option("--compare", o.compare, "a second file: paired differences");
  app.add_option("--replicas", o.replicas, "copies of the weights in a pass: less memory with fewer")
      ->check(CLI::Range(1, 1024));
  app.add_option("--samples-a-pass", o.samples_a_pass, "all copies counted; 0: by the size of a sample")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--json", o.json, "write the numbers to this file");
  app.add_option("--plot", o.plot, "write a page with table and pictures to this file (HTML)");
  app.add_flag("--train", o.train, "first train digits-mlp by SGD, and write its weights to the file");
  program::add_deadline(app, o.deadline);
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  return program::run(app, "sharpness", argc, argv, [&](const std::string& command) {
    set_num_threads(o.threads);
    const auto refuse_unused = [&](const char* flag, bool used, const char* reason) {
      program::refuse_unused(app, "sharpness", flag, used, reason);
    };
    const auto measures = [&](const char* name) {
      return o.measures.empty() || std::find(o.measures.begin(), o.measures.end(), name) != o.measures.end();
    };
    refuse_unused("--seed", o.samples > 0 || o.train, "it chooses --samples and the weights of --train");
    refuse_unused("--initial", measures("pac_bayes"), "--measures does not name pac_bayes");
    refuse_unused("--blocks", measures("low_pass"), "--measures does not name low_pass");
    return program::in_processes(app, "sharpness", o.deadline, [&](auto& world) {
      run(world, o, command);
      return 0;
    });
  });
}
