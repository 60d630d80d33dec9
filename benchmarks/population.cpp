// Training K small networks (64-128-128-10, handwritten digits, batch 64): as a population, as separate
// processes of this library, as many at a time as there are threads, and, optionally, in PyTorch one after
// another on all threads. Interleaved: see population --help.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cstdio>
#include <iostream>
#include <lpf/data/sets/digits.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/mlp.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/report/table.hpp>
#include <lpf/train/population.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "benchmark.hpp"

using namespace lpf;
using namespace lpf::benchmark;

namespace {

struct Options {
  std::int64_t members = 32, batch = 64, M = 8;
  std::vector<std::string> methods{"sgd", "lpf-sgd"};
  int rounds = 9, epochs = 4, threads = 0;
  std::string json, peer, runs_of;
};

const TensorDataset& training_set() {
  static const TensorDataset data = split(digits(), {1000, 797}, 0)[0];
  return data;
}

/// One run, as a program for a single run would have it.
struct Run {
  ParameterStore params;
  models::MLP net;
  std::unique_ptr<optim::Method> trainer;
  DataLoader loader;

  Run(std::int64_t k, const Options& o, const std::string& method)
      : params({.seed = static_cast<std::uint64_t>(k)}),
        net(params, {64, 128, 128, 10}),
        trainer(optim::make(method, params,
                            {.lr = 0.05, .momentum = 0.9, .seed = params.seed(), .M = o.M, .gamma = 0.01})),
        loader(training_set(), {.batch_size = o.batch, .drop_last = true, .seed = params.seed()}) {}

  void step(const Tensor& x, const Tensor& y) {
    trainer->step([&](std::int64_t) { return cross_entropy(net(x), y); });
  }
  void train(int epochs) {
    for (int e = 0; e < epochs; ++e)
      for (auto [x, y] : loader) step(x, y);
  }
};

/// A short fingerprint of θ: FNV-1a of its bytes.
std::string fingerprint(const ParameterStore& params) {
  std::uint64_t hash = 14695981039346656037u;
  for (const float value : params.theta().span<float>())
    hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 1099511628211u;
  return std::to_string(hash);
}

struct Result {
  std::string method, by;
  std::vector<double> ms = {};  // per round, for the training of all members

  double quantile(double q) const { return benchmark::quantile(ms, q); }
};

/// The internal mode of a separate process: trains its runs one after another on each request.
int serve_runs(const Options& o) {
  std::istringstream words(o.runs_of);
  std::string method;
  std::int64_t first = 0, apart = 1;
  words >> method >> first >> apart;
  std::vector<std::unique_ptr<Run>> runs;
  for (std::int64_t k = first; k < o.members; k += apart) runs.push_back(std::make_unique<Run>(k, o, method));
  for (std::string request; std::getline(std::cin, request);) {
    for (const auto& run : runs) run->train(o.epochs);
    std::printf("%s\n", runs.empty() ? "" : fingerprint(runs[0]->params).c_str());
    std::fflush(stdout);
  }
  return 0;
}

/// Interleaved rounds: each method in turn trains all members for some epochs.
std::vector<Result> measure(const Options& o, const std::string& method, const std::string& program,
                            Peer* peer) {
  Population members(o.members, [&](std::int64_t k) { return Run(k, o, method); });
  Population lockstep(o.members, [&](std::int64_t k) { return Run(k, o, method); });
  const std::int64_t steps = o.epochs * members[0].loader.batches();
  std::vector<std::unique_ptr<Process>> separate;
  for (int i = 0; i < o.threads; ++i)
    separate.push_back(std::make_unique<Process>(std::vector<std::string>{
        program, "--threads", "1", "--members", std::to_string(o.members), "--batch", std::to_string(o.batch),
        "-M", std::to_string(o.M), "--epochs", std::to_string(o.epochs), "--runs-of",
        concat(method, " ", i, " ", o.threads)}));

  std::vector<std::string> answers;  // of the separate runs: each process's first member

  std::vector<std::pair<Result, std::function<double()>>> ways;
  ways.emplace_back(Result{method, "population"}, [&] {
    return milliseconds_of([&] { members.each([&](Run& run) { run.train(o.epochs); }); });
  });
  ways.emplace_back(Result{method, "… a step at a time"}, [&] {
    return milliseconds_of([&] {
      for (int e = 0; e < o.epochs; ++e)
        for (auto [x, y] : lockstep[0].loader) lockstep.each([&, x = x, y = y](Run& run) { run.step(x, y); });
    });
  });
  ways.emplace_back(Result{method, "separate runs"}, [&] {
    answers.clear();
    return milliseconds_of([&] {
      for (auto& process : separate) process->ask("train");
      for (auto& process : separate) answers.push_back(process->answer());
    });
  });
  if (peer)
    ways.emplace_back(Result{method, "PyTorch"}, [&] {
      return peer->number(
          concat("population ", method, " ", o.M, " ", o.threads, " ", o.members, " ", steps));
    });
  for (int round = -1; round < o.rounds; ++round)
    for (auto& [result, run] : ways) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));  // lets the others' threads stop spinning
      const double ms = run();
      if (round >= 0) result.ms.push_back(ms);
    }
  for (std::int64_t k = 0; k < std::min<std::int64_t>(o.threads, o.members); ++k)
    check<StateError>(answers[static_cast<std::size_t>(k)] == fingerprint(members[k].params), "population",
                      "member ", k, " is not where its separate run is: they must agree to the bit");

  std::vector<Result> results;
  for (auto& [result, run] : ways) results.push_back(std::move(result));
  return results;
}

int run(int argc, char** argv) {
  Options o;
  CLI::App app("Training many small networks: as a population, as separate runs, and in PyTorch if asked.");
  app.option_defaults()->always_capture_default();
  app.add_option("--members", o.members, "networks")->check(CLI::PositiveNumber);
  app.add_option("--methods", o.methods, "methods")->check(CLI::IsMember({"sgd", "lpf-sgd"}))->delimiter(',');
  app.add_option("-M", o.M, "replicas of LPF-SGD")->check(CLI::PositiveNumber);
  app.add_option("--batch", o.batch, "samples in a batch")->check(CLI::Range(1, 1000));
  app.add_option("--epochs", o.epochs, "of 1,000 digits that each member trains in a round")
      ->check(CLI::PositiveNumber);
  app.add_option("--rounds", o.rounds, "rounds of interleaved timings")->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads, "number of threads; 0: all")->check(CLI::NonNegativeNumber);
  app.add_option("--json", o.json, "write all figures to this file");
  app.add_option("--peer", o.peer, "a Python with PyTorch, to run the same beside it");
  app.add_option("--runs-of", o.runs_of, "internal: a process of separate runs")->group("");
  if (const auto code = program::parse(app, "population", argc, argv)) return *code;
  set_num_threads(o.threads);
  o.threads = num_threads();
  if (!o.runs_of.empty()) return serve_runs(o);

  const auto peer = Peer::of(o.peer, {"--batch", std::to_string(o.batch)});
  std::printf("%lld networks 64-128-128-10, batch %lld, float32, %d thread%s%s\n",
              static_cast<long long>(o.members), static_cast<long long>(o.batch), o.threads,
              o.threads == 1 ? "" : "s", beside(peer).c_str());
  nlohmann::json records = nlohmann::json::array();
  TextTable table({"", "by", "µs a member's step", "quartiles", "steps / s", "population is faster by"});
  for (const std::string& method : o.methods) {
    const std::vector<Result> results = measure(o, method, argv[0], peer.get());
    const bool perturbed = optim::info(method).takes("M");
    const double steps = static_cast<double>(o.members * o.epochs * (1000 / o.batch));
    for (const Result& r : results) {
      const auto us = [&](double q) { return r.quantile(q) * 1e3 / steps; };
      table.add_row({perturbed ? concat(method, " M=", o.M) : method, r.by, format_fixed(us(.5), 1),
                     concat(format_fixed(us(.25), 1), " – ", format_fixed(us(.75), 1)),
                     format_fixed(1e6 / us(.5), 0),
                     concat(format_fixed(r.quantile(.5) / results[0].quantile(.5), 2), " ×")});
      records.push_back({{"method", method},
                         {"M", perturbed ? o.M : 0},
                         {"by", r.by},
                         {"members", o.members},
                         {"batch", o.batch},
                         {"threads", o.threads},
                         {"rounds", r.ms.size()},
                         {"median_us", us(.5)},
                         {"min_us", us(0)},
                         {"quartile1_us", us(.25)},
                         {"quartile3_us", us(.75)},
                         {"steps_per_second", 1e6 / us(.5)}});
    }
  }
  std::printf("%s", table.to_string().c_str());
  write_figures(o.json, records);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return lpf::benchmark::main_of("population", run, argc, argv); }
