// Which measure of sharpness predicts generalization? (Bisla, Wang, Choromanska 2022, section 3.)
//
//   --study grid            networks trained by SGD to a training loss of 0.01, over a grid of
//                           hyper-parameters: each measure against the gap, training − test accuracy
//   --study label-noise     and data-noise: each measure against the noise level
//   --study double-descent  each measure against the test error, over the width
//   --study optimizers      measures of the solutions of SGD, SAM and LPF-SGD, side by side
//
// in two sizes each: --grid small, on digits, for two cores and minutes; --grid paper, the paper's own. The study
// `grid` has a third: --grid medium, narrow ResNets. --network, --batch-norm, --normalize and --data vary a plan.
//
//   study                                    the small grid
//   study --shard 0/2 & study --shard 1/2    divided between two processes or machines; each writes a file
//   mpirun -np 4 study                       the same, divided between four processes
//   study --merge other/results-1-of-2.jsonl adds files from elsewhere; --merge-only trains nothing
//   study --grid paper --dry-run             lists what would be trained: 2916 ResNets
//
// A killed study resumes after the last complete model (study/results.hpp).
#include <cstdio>
#include <lpf/distributed/init.hpp>

#include "program.hpp"
#include "study/tables.hpp"

using namespace lpf;

namespace {

struct Options {
  std::string study = "grid", grid = "small", shard, out, data;
  study::Variation variation;
  double gate = -1;
  std::vector<std::string> merge;
  bool dry_run = false, merge_only = false;
  std::int64_t resamples = 1000;
  std::size_t limit = 0;
  int threads = 0;
};

void describe(const study::Plan& plan, const study::Shard& shard) {
  std::string words = concat("study '", plan.study, "', size '", plan.grid, "': ", plan.size(), " models; ",
                             plan.summary(), "; at most ", plan.epochs, " epochs");
  if (plan.stop > 0) words += concat(", to a training loss of ", format_general(plan.stop));
  program::print(words + "\n");
  std::vector<std::pair<std::string, std::string>> factors;
  for (const study::Factor& f : plan.factors) {
    std::string values;
    for (const double v : f.values)
      values += concat(values.empty() ? "" : " ",
                       f.name == "optimizer" ? study::optimizer_of(v).title : format_general(v));
    factors.emplace_back("  " + f.name, values);
  }
  for (const auto& [name, value] : plan.shared)
    if (name != "optimizer") factors.emplace_back("  " + name, format_general(value));
  std::printf("%s", definitions_text(factors).c_str());
  std::printf("shard %zu of %zu: %zu models\n", shard.index, shard.count,
              (plan.size() + shard.count - 1 - shard.index) / shard.count);
}

struct Task {
  study::Plan plan;
  study::Shard shard;
};

// What the command line asks for, checked.
Task task_of(const CLI::App& app, const Options& o) {
  for (const char* flag : {"--shard", "--limit", "--threads"})
    program::refuse_unused(app, "study", flag, !o.merge_only, "--merge-only trains nothing");
  for (const char* flag :
       {"--out", "--limit", "--merge", "--resamples", "--gate", "--merge-only", "--threads"})
    program::refuse_unused(app, "study", flag, !o.dry_run, "--dry-run trains nothing and writes nothing");
  const study::Plan& own = study::plan_of(o.study, o.grid);
  study::Variation variation = o.variation;
  if (variation.data.empty() && own.small() && !o.data.empty()) variation.data = "cifar10";
  check(o.data.empty() || variation.data.empty() || variation.data == "cifar10", "study",
        "--data is the folder of CIFAR-10, and --dataset ", variation.data, " is built in");
  const study::Plan plan = study::varied(own, variation);
  const distributed::Launched job = distributed::launched();
  const study::Shard shard = study::shard_of(!o.shard.empty() ? o.shard
                                             : job.ranks > 0  ? concat(job.rank, "/", job.ranks)
                                                              : "0/1");
  try {
    (void)study::network(plan, ParameterStore(), plan.settings(0));
  } catch (const ShapeError& e) { throw program::UsageError(e.what()); }  // it does not take such samples
  return {plan, shard};
}

void run(const Task& task, const Options& o, const std::string& command) {
  const auto& [plan, shard] = task;
  describe(plan, shard);
  if (o.dry_run) return;
  program::check_output("study");
  const std::string out = o.out.empty() ? study::folder_of(plan) : o.out;
  // Shards share the folder; two processes with the same one would write to the same file.
  const OutputFolder folder(out, "study", concat(".lock-", shard.index, "-of-", shard.count));
  for (const char* file : {"/report.html", "/values.csv", "/models.csv"})
    program::check_writable(out + file, "study");
  if (!o.merge_only)
    study::train_shard(plan, shard, out, study::read_all(study::result_files(out, o.merge), plan), o.limit,
                       o.data.empty() ? "data/cifar10" : o.data);
  const study::Results results = study::read_all(study::result_files(out, o.merge), plan);
  study::Tables(plan, results, out, o.resamples, o.gate < 0 ? plan.gate : o.gate, command).make();
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Sharpness against generalisation over many networks.");
  app.option_defaults()->always_capture_default();
  app.add_option("--study", o.study, "which question")
      ->check(CLI::IsMember({"grid", "label-noise", "data-noise", "double-descent", "optimizers"}));
  app.add_option("--grid", o.grid, "its size")->check(CLI::IsMember({"small", "medium", "paper"}));
  app.add_option("--shard", o.shard, "i/n: train every n-th model, from the i-th; under mpirun: RANK/RANKS");
  app.add_option("--limit", o.limit, "train at most so many in this run; 0: all");
  app.add_option("--merge", o.merge, "results of other shards")->check(CLI::ExistingFile);
  app.add_flag("--merge-only", o.merge_only, "train nothing, make the tables of what is there");
  app.add_flag("--dry-run", o.dry_run, "say what would be trained");
  app.add_option("--dataset", o.variation.data, "instead of the plan's")
      ->check(CLI::IsMember({"digits", "mnist1d", "cifar10"}));
  app.add_option("--data", o.data,
                 "folder of CIFAR-10: as many of its images instead of digits; for the paper's size all "
                 "(default: data/cifar10)");
  app.add_option("--network", o.variation.network, "instead of the plan's")
      ->check(CLI::IsMember(models::names()));
  app.add_option("--batch-norm", o.variation.batch_norm, "instead of the plan's")
      ->check(CLI::IsMember({"on", "off"}));
  app.add_option("--normalize", o.variation.normalize,
                 "images: none, by the published constants, or each set by its own mean and deviation")
      ->check(CLI::IsMember(study::normalize_names));
  app.add_option("--gate", o.gate,
                 "training accuracy in % below which the tables leave a model out (default: the plan's)")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--resamples", o.resamples, "of the bootstrap")->check(CLI::Range(1, 1000000));
  app.add_option("--out", o.out, "folder for results and tables (default: out/study-STUDY-GRID)");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  return program::run(app, "study", argc, argv, [&](const std::string& command) {
    set_num_threads(o.threads);
    run(program::usage([&] { return task_of(app, o); }), o, command);
  });
}
