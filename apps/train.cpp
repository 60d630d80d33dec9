// Trains any of the paper's networks with any of its optimizers, or a variation of your own:
//
//   train                                                  LPF-SGD on the built-in digits
//   train --recipe paper/cifar10-resnet18-lpf --data DIR   a row of the paper's tables; --recipes lists them
//   train --dataset cifar10 --data DIR --model wrn-16-8 --optimizer lpf-sgd -M 8 --seed 1 --out runs/x
//   train --resume --out runs/x                            resumes a run, bit-identically
//   train --resume --out runs/x --epochs 300               goes on to more epochs (see experiment.hpp)
//   mpirun -np 4 train --shards 4 …                         in four processes, with the bits of one (docs/distributed.md)
//   train --weights net.safetensors --weights-partial      starts from weights, as far as they fit
//
// Settings not given have the paper's value for the network and the optimizer. The output folder is described
// in lpf/experiment/experiment.hpp. compare.cpp compares runs.
#include <cstdio>
#include <filesystem>
#include <lpf/backend/threads.hpp>
#include <lpf/distributed/nccl.hpp>
#include <lpf/experiment/dry_run.hpp>
#include <lpf/experiment/experiment.hpp>
#include <lpf/experiment/paper_result.hpp>
#include <lpf/train/signals.hpp>
#include <map>
#include <optional>

#include "processes.hpp"
#include "setting_flags.hpp"

using namespace lpf;
using experiment::Settings;

namespace {

using program::Given;

struct Options {
  std::string recipe, out, device = "cpu";
  int threads = 0;
  double deadline = 600;
  bool resume = false, dry_run = false, recipes = false, optimizers = false, models = false, graphs = true;
};

// A recipe, an existing run, or the paper's values, overridden by the given settings.
Settings settings_of(const Options& o, const Given& given) {
  const auto or_empty = [&](const char* name) {
    const auto found = given.find(name);
    return found == given.end() ? std::string() : found->second;
  };
  Settings s;
  if (!o.recipe.empty()) {
    s = experiment::recipe(o.recipe).settings;
  } else if (o.resume && (given.empty() || Checkpoint::exists(o.out + "/checkpoint"))) {
    s = experiment::read_config(o.out + "/config.json");
  } else {
    s = experiment::paper(
        {or_empty("dataset"), or_empty("model"), or_empty("optimizer"), or_empty("augment")});
  }
  for (const auto& [name, text] : given) experiment::set(s, name, text);
  for (const auto& [name, text] : given) {
    const std::string reason = experiment::unused(s, name);
    check(reason.empty(), "train", "--", name, " ", text, " has no effect: ", reason);
  }
  return s;
}

void print_recipes() {
  const bool narrow = terminal_columns() < 72;  // the longest name has 51
  TextTable table({"recipe", "published error, %", "epochs", "batch", "lr", "M", "γ", "α"});
  for (const auto& r : experiment::recipes()) {
    const Settings& s = r.settings;
    const bool lpf = optim::info(s.optimizer).takes("gamma");
    std::string name = r.name;
    if (narrow) name.insert(name.find('/') + 1, " ");  // where a line may end
    table.add_row(
        {name,
         concat(format_fixed(r.error, r.error < 1 ? 3 : 2), r.sd > 0 ? " ± " + format_fixed(r.sd, 2) : ""),
         std::to_string(s.epochs), std::to_string(s.batch), format_general(s.lr),
         lpf ? std::to_string(s.M) : "", lpf ? format_general(s.gamma) : "",
         lpf ? format_general(s.alpha) : ""});
  }
  std::printf("%s", table.to_string(terminal_columns()).c_str());
}

void print_optimizers() {
  TextTable table({"optimizer", "", "settings besides clip-norm, schedule and seed"},
                  {.align = {Align::left, Align::left, Align::left}});
  for (const auto& m : optim::list()) {
    std::string settings;
    for (const auto& name : m.settings) settings += (settings.empty() ? "" : ", ") + name;
    table.add_row({m.name, m.description, settings});
  }
  std::printf("%s", table.to_string(terminal_columns()).c_str());
}

void print_models() {
  TextTable table({"model", "", "width"}, {.align = {Align::left, Align::left, Align::left}});
  for (const auto& m : models::list()) table.add_row({m.name, m.description, m.width});
  std::printf("%s", table.to_string(terminal_columns()).c_str());
}

void print_dry_run(const Settings& s) {
  const experiment::RunCost e = experiment::dry_run(s);
  TextTable parts({"part", "tensors", "parameters"});
  for (const auto& p : e.parts)
    parts.add_row({p.name, std::to_string(p.tensors), std::to_string(p.parameters)});
  parts.add_rule().add_row({"all", "", std::to_string(e.parameters)});
  std::printf("%s\n\n%s", experiment::title_of(s).c_str(), parts.to_string(terminal_columns()).c_str());
  const auto mb = [](double x) { return concat(format_fixed(x, x < 10 ? 1 : 0), " MB"); };
  TextTable table({"it takes", ""}, {.align = {Align::left, Align::left}});
  table.add_row({"parameters, gradient, state", concat(e.vectors, " × ", mb(e.vector_mb))});
  table.add_row({"replicas", mb(e.replicas_mb)});
  table.add_row({"images", mb(e.data_mb)});
  table.add_row({"all of a step, without the images", mb(e.peak_mb)});
  const auto time = [](double x) {
    return x < 1 ? format_general(1000 * x, 3) + " ms" : format_fixed(x, 1) + " s";
  };
  table.add_row({"a step", concat(time(e.step_seconds), " for ", s.batch, " images")});
  if (e.loaded_seconds != e.step_seconds)
    table.add_row({"a step, its images loaded",
                   concat(time(e.loaded_seconds), ", ", format_fixed(e.loaded_seconds / e.step_seconds, 2),
                          " times that")});
  table.add_row({"an epoch",
                 concat(e.steps, " steps, ", format_duration(static_cast<double>(e.steps) * e.loaded_seconds),
                        ", and ", format_duration(e.evaluation_seconds), " for the evaluation")});
  table.add_row({concat("the run, ", s.epochs, " epochs"), format_duration(e.run_seconds)});
  std::printf("\n%s", table.to_string(terminal_columns()).c_str());
  if (e.measured_batch < s.batch)
    std::printf("Extrapolated from steps of %lld images.\n", static_cast<long long>(e.measured_batch));
}

experiment::Outcome outcome_of(const Settings& s, const experiment::RunOptions& options) {
  try {
    return experiment::run(s, options);
  } catch (const experiment::SettingsError& e) { throw program::UsageError(e.what()); }
}

int train(distributed::Communicator& world, const Options& o, const Settings& s, const std::string& command) {
  const StopSignals stop;
  const bool leads = world.rank() == 0;
  if (leads)
    program::print(concat(experiment::title_of(s), ", ", s.epochs, " epochs; results in ", o.out, "\n"));
  program::check_output("train");
  const auto outcome = outcome_of(s, {.out = o.out,
                                      .resume = o.resume,
                                      .command = command,
                                      .graphs = o.graphs,
                                      .stop = [&] { return stop.received() != 0; },
                                      .world = &world});
  if (!leads) return outcome.finished ? 0 : 1;
  if (!outcome.finished) {
    std::fprintf(
        stderr,
        "\ntrain: stopped by %s after %llu updates, in epoch %zu; go on with\n    train --resume --out %s\n",
        StopSignals::name_of(stop.received()).c_str(), static_cast<unsigned long long>(outcome.updates),
        outcome.history.size() + 1, o.out.c_str());
    return 128 + stop.received();
  }
  const auto& result = experiment::result_epoch(outcome.history);
  program::print(concat(experiment::name_of_result(result), ": test error ",
                        format_fixed(result.test_error, 2), " %, test loss ",
                        format_general(result.test_loss), "; curves: ", o.out, "/report.html\n"));
  return 0;
}

// The settings of a run or a dry run, checked; none where lists are printed.
std::optional<Settings> checked(const CLI::App& app, const Options& o, const Given& given) {
  for (const char* list : {"--recipes", "--optimizers", "--models"})
    if (app.count(list) > 0) {
      program::refuse_others(app, "train", {list}, concat(list, " prints a list and ends"));
      return {};
    }
  program::refuse_unused(app, "train", "--graphs", o.device == "cuda" && !o.dry_run,
                         "steps of a run on a GPU are captured, others are not");
  program::refuse_unused(app, "train", "--out", !o.dry_run || o.resume, "--dry-run writes nothing");
  check(!o.resume || !o.out.empty(), "train", "--resume needs --out, the folder of the run to go on with");
  check<IOError>(!o.resume || std::filesystem::exists(lpf::detail::path_of(o.out + "/config.json")), "train",
                 "'", o.out,
                 "' has no run to go on with (no config.json): check --out, or begin one without --resume");
  const Settings s = settings_of(o, given);
  experiment::validate(s);
  return s;
}

int work(distributed::Communicator& world, Options o, const std::optional<Settings>& s,
         const std::string& command) {
  if ((!s || o.dry_run) && world.rank() > 0) return 0;
  if (o.recipes) return print_recipes(), 0;
  if (o.optimizers) return print_optimizers(), 0;
  if (o.models) return print_models(), 0;
  set_num_threads(o.threads);
  if (o.device == "cuda") {
    distributed::use_gpus(world, o.deadline);
    set_default_device(Device::cuda());
  }
  if (o.out.empty()) o.out = concat("runs/", s->dataset, "-", s->model, "-", s->optimizer, "-seed", s->seed);
  if (o.dry_run) return program::usage([&] { print_dry_run(*s); }), 0;
  return train(world, o, *s, command);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  Given given;
  CLI::App app(
      "Trains a network of the LPF-SGD paper. The defaults shown are those of LPF-SGD on the digits; another "
      "data "
      "set, network or optimizer has the paper's values.");
  program::add_settings(app, given, experiment::paper({}),
                        [](const char* name) { return experiment::choices(name); });
  app.add_option("--recipe", o.recipe, "settings of a row of the paper's tables, by name");
  app.add_flag("--recipes", o.recipes, "list the recipes, with the published errors");
  app.add_flag("--optimizers", o.optimizers, "list the optimizers, with the settings that each takes");
  app.add_flag("--models", o.models, "list the networks");
  app.add_option("--out", o.out, "folder of the results; otherwise runs/ and a name of the main settings");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  program::add_deadline(app, o.deadline);
  app.add_option("--device", o.device, "where the network is trained")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_flag("--graphs,!--no-graphs", o.graphs, "on a GPU, replay a captured step (the default)");
  app.add_flag("--resume", o.resume, "go on with the run in --out; with more --epochs, to those");
  app.add_flag("--dry-run", o.dry_run, "say what the run would take, and make none");
  return program::run(app, "train", argc, argv, [&](const std::string& command) {
    const auto settings = program::usage([&] { return checked(app, o, given); });
    return program::in_processes(app, "train", o.deadline,
                                 [&](auto& world) { return work(world, o, settings, command); });
  });
}
