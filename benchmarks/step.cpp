// Milliseconds of one training step (forward, backward, update; data in memory) for several networks and
// every method, interleaved in one process, and optionally for PyTorch, on the CPU or a GPU: step --help.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <lpf/lpf.hpp>
#include <lpf/models/lenet.hpp>
#include <lpf/models/mlp.hpp>
#include <lpf/models/resnet.hpp>
#include <lpf/models/wide_resnet.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/report/table.hpp>
#include <lpf/train/captured_step.hpp>
#include <lpf/train/precision.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "benchmark.hpp"

using namespace lpf;
using namespace lpf::benchmark;

namespace {

using Clock = std::chrono::steady_clock;
using Net = std::function<Tensor(const Tensor&)>;

struct NetInfo {
  const char* name;
  Shape input;  // of one sample
  std::function<Net(const nn::Path&)> make;
};
const std::vector<NetInfo>& networks() {
  static const std::vector<NetInfo> all{
      {"mlp-64",
       {64},
       [](const nn::Path& p) {
         return models::MLP(p, {64, 128, 10});
       }},
      {"mlp-784",
       {784},
       [](const nn::Path& p) {
         return models::MLP(p, {784, 512, 512, 10});
       }},
      {"lenet", {28, 28, 1}, [](const nn::Path& p) { return models::SmallLeNet(p); }},
      {"resnet18-8",
       {32, 32, 3},
       [](const nn::Path& p) { return models::ResNet(p, models::double_descent_resnet18(8)); }},
      {"resnet18-32",
       {32, 32, 3},
       [](const nn::Path& p) { return models::ResNet(p, models::double_descent_resnet18(32)); }},
      {"resnet18-64",
       {32, 32, 3},
       [](const nn::Path& p) { return models::ResNet(p, models::double_descent_resnet18(64)); }},
      {"wrn-16-8", {32, 32, 3}, [](const nn::Path& p) {
         return models::WideResNet(p, {.depth = 16, .widen = 8});
       }}};
  return all;
}
/// The networks that are timed unless --nets is given.
std::vector<std::string> default_networks(bool gpu) {
  if (gpu) return {"mlp-784", "resnet18-64", "wrn-16-8"};
  return {"mlp-64", "mlp-784", "lenet", "resnet18-8", "resnet18-32", "resnet18-64"};
}

// One row of the table: a network, its training method, and the library that runs it.
struct Job {
  std::string net, method = "sgd", estimator = "replicas", by = "lpf";
  std::int64_t M = 1;
  int threads = 1;

  bool filtered() const { return optim::info(method).takes("estimator"); }
  std::string label() const {
    if (!filtered()) return method;
    return concat(method, " M=", M, estimator == "replicas" ? "" : concat(" ", estimator));
  }
};

/// A job of this library, with its own model, optimizer and data.
class Training {
 public:
  Training(const Job& job, std::int64_t batch, bool graphs)
      : params_({.seed = 1}),
        method_(optim::make(
            job.method, params_,
            {.lr = 0.01,
             .momentum = 0.9,
             // statistics of slices of one sample are refused
             .batch_norm = 2 * job.M > batch ? BatchNormPolicy::pooled : BatchNormPolicy::per_replica,
             .M = job.M,
             .gamma = 1e-3,
             .estimator = estimator_named(job.estimator),  // recomputed: replicas
             .memory =
                 job.estimator == "recomputed" ? ReplicaMemory::recomputed : ReplicaMemory::automatic})),
        captured_([this](const Tensor& x, const Tensor& y) { return step_on(x, y); },
                  {.enabled = graphs, .warm_up = 1}) {
    const auto info = std::find_if(networks().begin(), networks().end(),
                                   [&](const NetInfo& n) { return n.name == job.net; });
    check(info != networks().end(), "step", "there is no network '", job.net, "'");
    net_ = info->make(params_);
    std::vector<std::int64_t> shape{batch};
    for (int i = 0; i < info->input.rank(); ++i) shape.push_back(info->input[i]);
    x_ = zeros(Shape(shape));
    x_.backend().normal(x_.dtype(), {.seed = 2, .purpose = Purpose::measure}, 0, x_.numel(), x_.raw());
    std::vector<std::int64_t> labels(static_cast<std::size_t>(batch));
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i * 7 % 10);
    y_ = from_vector(labels, {batch});
  }

  /// Runs a step; on a GPU it is queued.
  void step() { captured_(x_, y_); }
  std::int64_t parameters() const { return params_.numel(); }

 private:
  Tensor step_on(const Tensor& x, const Tensor& y) {
    return method_->step([&](std::int64_t) { return cross_entropy(net_(x), y); });
  }

  ParameterStore params_;
  std::unique_ptr<optim::Method> method_;
  Net net_;
  Tensor x_, y_;
  CapturedStep<std::function<Tensor(const Tensor&, const Tensor&)>> captured_;
};

// The multiply-adds of a step's products and convolutions, counted at the backend's entries.
double flops_done = 0;
backend::Table uncounted;
double convolution_flops(const backend::Conv2d& c) {
  return 2.0 * static_cast<double>(c.n * c.p * c.q) *
         static_cast<double>(c.k * c.kh * c.kw * (c.c / c.groups));
}
double count_flops(Training& training) {
  uncounted = backend::cpu_table;
  backend::cpu_table.gemm = [](const backend::Gemm& g) {
    flops_done += 2.0 * static_cast<double>(g.m * g.n) * static_cast<double>(g.k * g.batch);
    uncounted.gemm(g);
  };
  backend::cpu_table.gemm_replicas = [](const backend::Gemm& g) {
    flops_done += 2.0 * static_cast<double>(g.m * g.n) * static_cast<double>(g.k * g.batch);
    uncounted.gemm_replicas(g);
  };
  backend::cpu_table.conv2d = [](const backend::Conv2d& c, const void* x, const void* w, const void* b,
                                 void* y) {
    flops_done += convolution_flops(c);
    uncounted.conv2d(c, x, w, b, y);
  };
  backend::cpu_table.conv2d_backward_data = [](const backend::Conv2d& c, const void* dy, const void* w,
                                               void* dx) {
    flops_done += convolution_flops(c);
    uncounted.conv2d_backward_data(c, dy, w, dx);
  };
  backend::cpu_table.conv2d_backward_filter = [](const backend::Conv2d& c, const void* x, const void* dy,
                                                 void* dw, bool per_replica) {
    flops_done += convolution_flops(c);
    uncounted.conv2d_backward_filter(c, x, dy, dw, per_replica);
  };
  flops_done = 0;
  training.step();
  backend::cpu_table = uncounted;
  return flops_done;
}

/// Milliseconds of one of PyTorch's steps, the mean over `steps`; negative if it does not support
/// the job (vmap and batch norm).
double step_ms(Peer& peer, const Job& job, int steps) {
  return peer.number(
      concat(job.net, " ", job.method, " ", job.M, " ", job.estimator, " ", job.threads, " ", steps));
}

struct Result {
  Job job;
  std::vector<double> ms;
  double gflop = 0, noise_ms = 0;
  std::int64_t parameters = 0;
  std::uint64_t allocations = 0;
  double peak_mb = 0, peak_rss_mb = 0;

  double quantile(double q) const { return benchmark::quantile(ms, q); }
  /// Distance of the quartiles, as a share of the median.
  double spread() const { return (quantile(.75) - quantile(.25)) / quantile(.5); }
};

/// Only draws n Gaussian numbers, on a CPU in pieces that fit the cache.
double draw_ms(std::int64_t n) {
  const auto& device = backend::get(default_device());
  static const Tensor piece = zeros({default_device().is_cpu() ? 1 << 16 : 1 << 24});
  return milliseconds_of([&] {
    for (std::int64_t i = 0; i < n; i += piece.numel())
      device.normal(DType::float32, {.seed = 3, .purpose = Purpose::measure}, i,
                    std::min(piece.numel(), n - i), piece.raw());
    device.synchronize();
  });
}

struct Options {
  std::vector<std::string> nets, methods{"sgd", "sam", "lpf-sgd"},
      estimators{"replicas", "recomputed", "antithetic", "per-sample", "flipout", "flipout-pairs"};
  std::vector<std::int64_t> M{1, 8, 32};
  std::vector<int> threads;
  std::int64_t batch = 128;
  int rounds = 11;
  double seconds = 30;
  std::string json, peer, memory_of, device = "cpu", precision = "float32";
  bool graphs = true, memory = true, tune = false;
  double spread = 0.25;

  /// The options passed to the peer, and to the processes that measure memory.
  std::vector<std::string> shared() const {
    std::vector<std::string> words{"--batch", std::to_string(batch), "--device",
                                   device,    "--precision",         precision};
    if (tune) words.emplace_back("--tune");
    return words;
  }
};

bool contains(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}
std::vector<Job> jobs_of(const Options& o, const std::string& net, int threads, bool peer) {
  std::vector<Job> jobs;
  for (const std::string& method : o.methods) {
    if (!optim::info(method).takes("estimator")) {
      jobs.push_back({.net = net, .method = method, .threads = threads});
      if (peer) jobs.push_back({.net = net, .method = method, .by = "pytorch", .threads = threads});
      continue;
    }
    for (const std::int64_t M : o.M) {
      for (const std::string& estimator : o.estimators) {
        if (is_paired(estimator_named(estimator)) && M % 2) continue;
        if (estimator == "recomputed" && M == 1) continue;
        if (estimator == "per-sample" && M != o.M.back()) continue;  // independent of M
        jobs.push_back({net, method, estimator, "lpf", M, threads});
      }
      // a perturbation of its own for each sample
      if (M == o.M.back() && M < o.batch && contains(o.estimators, "flipout"))
        jobs.push_back({net, method, "flipout", "lpf", o.batch, threads});
      if (peer) jobs.push_back({net, method, "published", "pytorch", M, threads});
      if (peer && M > 1) jobs.push_back({net, method, "vmap", "pytorch", M, threads});
    }
  }
  return jobs;
}

/// Interleaved rounds: each job in turn runs a few steps, with each number of threads, so that a change of the
/// machine's speed affects all.
std::vector<Result> measure(const Options& o, const std::string& net, Peer* peer) {
  std::vector<Result> results;
  std::vector<std::shared_ptr<Training>> trainings;  // the same for every number of threads
  std::vector<int> steps;
  std::vector<Job> jobs;
  for (const int threads : o.threads)
    for (const Job& job : jobs_of(o, net, threads, peer != nullptr)) jobs.push_back(job);
  for (const Job& job : jobs) {
    Result r;
    r.job = job;
    std::shared_ptr<Training> training;
    double ms = 0;
    if (job.by == "lpf") {
      set_num_threads(job.threads);
      const auto same = std::find_if(results.begin(), results.end(), [&](const Result& known) {
        return known.job.by == "lpf" && known.job.label() == job.label();
      });
      training = same == results.end() ? std::make_shared<Training>(job, o.batch, o.graphs)
                                       : trainings[static_cast<std::size_t>(same - results.begin())];
      training->step();
      r.gflop = count_flops(*training) * 1e-9;
      r.parameters = training->parameters();
      const auto before = backend::get(default_device()).memory_stats().system_allocations;
      backend::get(default_device()).synchronize();
      ms = milliseconds_of([&] {
        training->step();
        backend::get(default_device()).synchronize();
      });
      r.allocations = backend::get(default_device()).memory_stats().system_allocations - before;
    } else {
      ms = step_ms(*peer, job, 1);
      if (ms < 0) continue;  // not supported
      ms = step_ms(*peer, job, 1);
    }
    steps.push_back(std::clamp(lpf::detail::saturated<int>(10 / ms), 1, 200));
    results.push_back(std::move(r));
    trainings.push_back(std::move(training));
  }
  const auto start = Clock::now();
  for (int round = 0; round < o.rounds; ++round) {
    const std::chrono::duration<double> spent = Clock::now() - start;
    if (round >= 3 && spent.count() * (round + 1) / round > o.seconds * static_cast<double>(o.threads.size()))
      break;
    for (std::size_t i = 0; i < results.size(); ++i) {
      Result& r = results[i];
      // Lets the other library's threads stop spinning, and this job's data return to the cache.
      if (peer) std::this_thread::sleep_for(std::chrono::milliseconds(30));
      if (trainings[i]) set_num_threads(r.job.threads);
      if (trainings[i] && steps[i] > 1) trainings[i]->step();
      if (!trainings[i]) {
        r.ms.push_back(step_ms(*peer, r.job, steps[i]));
        continue;
      }
      const double ms = milliseconds_of([&] {
        for (int s = 0; s < steps[i]; ++s) trainings[i]->step();
        backend::get(default_device()).synchronize();
      });
      r.ms.push_back(ms / steps[i]);
      if (r.job.filtered() && r.job.estimator == "replicas") {
        const double draw = draw_ms(r.job.M * r.parameters);
        r.noise_ms = r.noise_ms == 0 ? draw : std::min(r.noise_ms, draw);
      }
    }
    std::fprintf(stderr, "\r%s: round %d of %d ", net.c_str(), round + 1, o.rounds);
  }
  std::fprintf(stderr, "\r%40s\r", "");
  return results;
}

/// The memory of one job, measured in its own process: peaks of the allocator and of the process, in MB.
void print_memory(const Options& o) {
  std::istringstream words(o.memory_of);
  Job job;
  words >> job.net >> job.method >> job.M >> job.estimator;
  Training training(job, o.batch, o.graphs);
  for (int i = 0; i < 3; ++i) training.step();
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("%.3f %.3f\n", static_cast<double>(backend::get(default_device()).memory_stats().peak) * 1e-6,
              static_cast<double>(usage.ru_maxrss) / 1024);
}
void ask_memory(const std::string& program, const Options& o, Result& r) {
  const std::string job = concat(r.job.net, " ", r.job.method, " ", r.job.M, " ", r.job.estimator);
  std::string command = r.job.by == "lpf" ? concat("'", program, "'", o.graphs ? "" : " --no-graphs")
                                          : concat("'", o.peer, "' '", LPF_PEER_SCRIPT, "'");
  for (const std::string& word : o.shared()) command += ' ' + word;
  command += concat(" --memory-of '", job, "'");
  std::FILE* pipe = ::popen(command.c_str(), "r");
  check<IOError>(pipe != nullptr, "step", "cannot run ", command);
  if (std::fscanf(pipe, "%lf %lf", &r.peak_mb, &r.peak_rss_mb) != 2) r.peak_mb = r.peak_rss_mb = 0;
  ::pclose(pipe);
}

/// The table of one network with one number of threads. A ratio of two rows is printed if the timings of both
/// spread by at most `limit`: between them the machine was equally fast.
void print(const std::vector<Result>& results, int threads, double limit) {
  const auto find = [&](const Job& job, const std::string& by, int with_threads) -> const Result* {
    const auto r = std::find_if(results.begin(), results.end(), [&](const Result& other) {
      return other.job.by == by && other.job.method == job.method && other.job.M == job.M &&
             other.job.threads == with_threads && other.job.estimator != "vmap" &&
             (by != job.by || other.job.estimator == job.estimator);
    });
    return r == results.end() ? nullptr : &*r;
  };
  const auto or_none = [](double v, int digits) { return v > 0 ? format_fixed(v, digits) : std::string(); };
  const auto ratio = [&](const Result* a, const Result* b) -> std::string {
    if (!a || !b || a == b) return "";
    if (a->spread() > limit || b->spread() > limit) return "busy";
    return format_fixed(a->quantile(.5) / b->quantile(.5), 2);
  };
  const int one = results.front().job.threads;
  const Result* sgd = find(Job{}, "lpf", threads);
  TextTable table({"", "by", "median ms", "quartiles", "GFLOP/s", "/ own SGD",
                   one == threads ? "" : concat("/ ", one, " thread", one == 1 ? "" : "s"), "added / noise",
                   "PyTorch / LPF", "peak MB", "RSS MB", "allocations"});
  const Result* widest = nullptr;
  for (const Result& r : results) {
    if (r.job.threads != threads) continue;
    if (!widest || r.spread() > widest->spread()) widest = &r;
    const bool ours = r.job.by == "lpf";
    const double median = r.quantile(.5);
    table.add_row({r.job.label(), r.job.by, format_fixed(median, 3),
                   concat(format_fixed(r.quantile(.25), 3), " – ", format_fixed(r.quantile(.75), 3)),
                   or_none(r.gflop / median * 1e3, 1), ours ? ratio(&r, sgd) : "",
                   ratio(&r, find(r.job, r.job.by, one)),
                   r.noise_ms > 0 && sgd ? format_fixed((median - sgd->quantile(.5)) / r.noise_ms, 2) : "",
                   ours ? ratio(find(r.job, "pytorch", threads), &r) : "", or_none(r.peak_mb, 1),
                   or_none(r.peak_rss_mb, 0), ours ? std::to_string(r.allocations) : ""});
  }
  std::printf("%s, %d thread%s\n%s", results[0].job.net.c_str(), threads, threads == 1 ? "" : "s",
              table.to_string().c_str());
  if (widest && widest->spread() > limit)
    std::printf(
        "busy: the quartiles of %s (%s) lie %.0f %% of the median apart, and above %.0f %% no ratio is "
        "printed. Other programs use the machine: run this again when it is idle.\n",
        widest->job.label().c_str(), widest->job.by.c_str(), 100 * widest->spread(), 100 * limit);
  std::printf("\n");
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  Options o;
  CLI::App app(
      "Milliseconds of a training step: SGD, SAM and LPF-SGD, for several networks, beside PyTorch if "
      "asked.");
  std::vector<std::string> known;
  for (const NetInfo& n : networks()) known.push_back(n.name);
  app.add_option("--nets", o.nets,
                 "networks (default: six on the CPU, on a GPU mlp-784, resnet18-64, wrn-16-8)")
      ->check(CLI::IsMember(known))
      ->delimiter(',');
  app.add_option("--methods", o.methods, "methods; the peer has sgd, sam and lpf-sgd")
      ->check(CLI::IsMember(optim::names()))
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--estimators", o.estimators,
                 "of LPF-SGD; recomputed: replicas that are drawn again in backward instead of kept; flipout "
                 "has a row of "
                 "one replica a sample too")
      ->check(CLI::IsMember(o.estimators))
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("-M", o.M, "replicas of LPF-SGD")
      ->check(CLI::PositiveNumber)
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--threads", o.threads, "numbers of threads (default: 1 and all)")
      ->check(CLI::PositiveNumber)
      ->delimiter(',');
  app.add_option("--batch", o.batch, "samples in a batch")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", o.rounds, "rounds of interleaved timings")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seconds", o.seconds, "limit for a network and number of threads; at least 3 rounds")
      ->capture_default_str();
  app.add_option("--spread", o.spread,
                 "a row is compared with others if its quartiles lie at most this share of the median apart")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--processor-time", processor_time,
               "count the processor time of all threads instead of the time that passes, where others use "
               "the machine");
  app.add_option("--json", o.json, "write all figures to this file");
  app.add_option("--peer", o.peer, "a Python with PyTorch, to run the same beside it");
  app.add_option("--device", o.device, "where the networks are trained")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_flag("--graphs,!--no-graphs", o.graphs, "on a GPU, replay a captured step (the default)");
  app.add_flag("--memory,!--no-memory", o.memory,
               "the peak memory of each row too, in a process of its own (the default)");
  app.add_option("--precision", o.precision, "of products; all but float32 need --device cuda")
      ->check(CLI::IsMember(precisions))
      ->capture_default_str();
  app.add_flag("--tune", o.tune,
               "on a GPU, time cuDNN's algorithms and take the fastest, deterministic or not; the peer too");
  app.add_option("--memory-of", o.memory_of, "internal: the memory of one row")->group("");
  if (const auto code = program::parse(app, "step", argc, argv)) return *code;
  if (o.device == "cuda") set_default_device(Device::cuda());
  if (o.nets.empty()) o.nets = default_networks(o.device == "cuda");
  const Precision precision(o.precision);
  lpf::cuda::options.tune_convolutions = lpf::cuda::options.nondeterministic = o.tune;
  if (!o.memory_of.empty()) return print_memory(o), 0;
  if (o.device == "cuda") o.threads = {1};  // the GPU's threads are not counted
  if (o.threads.empty()) {
    o.threads = {1};
    if (num_threads() > 1) o.threads.push_back(num_threads());
  }
  const auto peer = Peer::of(o.peer, o.shared());
  std::printf("%s, batch %lld, %s%s\n", backend::get(default_device()).name, static_cast<long long>(o.batch),
              o.precision.c_str(), beside(peer).c_str());
  std::printf(
      "added / noise: time that the replicas add to SGD's step / time of drawing M·d numbers alone.\n\n");
  nlohmann::json records = nlohmann::json::array();
  for (const std::string& net : o.nets) {
    std::vector<Result> results = measure(o, net, peer.get());
    for (Result& r : results) {
      if (o.memory && r.job.threads == o.threads.back()) ask_memory(argv[0], o, r);
      records.push_back({{"net", r.job.net},
                         {"method", r.job.method},
                         {"M", r.job.filtered() ? r.job.M : 0},
                         {"estimator", r.job.filtered() ? r.job.estimator : ""},
                         {"threads", r.job.threads},
                         {"precision", o.precision},
                         {"tuned", o.tune},
                         {"by", r.job.by},
                         {"batch", o.batch},
                         {"device", o.device},
                         {"parameters", r.parameters},
                         {"median_ms", r.quantile(.5)},
                         {"min_ms", r.quantile(0)},
                         {"quartile1_ms", r.quantile(.25)},
                         {"quartile3_ms", r.quantile(.75)},
                         {"rounds", r.ms.size()},
                         {"gflops", r.gflop / r.quantile(.5) * 1e3},
                         {"noise_ms", r.noise_ms},
                         {"peak_mb", r.peak_mb},
                         {"peak_rss_mb", r.peak_rss_mb},
                         {"system_allocations", r.allocations}});
    }
    for (const int threads : o.threads) print(results, threads, o.spread);
    write_figures(o.json, records);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return lpf::benchmark::main_of("step", run, argc, argv); }
