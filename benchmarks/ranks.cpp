// A training step by several processes under mpirun: milliseconds, those of them in collectives, and bytes sent. Data are
// random and in memory. Rank 0 prints one line of JSON.
//
//   ranks --net resnet18 --width 32 --batch 128                         one process
//   mpirun -np 2 --bind-to core ranks --net resnet18 --width 32 --batch 128          strong scaling: the same batch
//   mpirun -np 2 --bind-to core ranks --net resnet18 --width 32 --batch 128 --weak   weak: 128 samples for each
//   mpirun -np 2 ranks --sums                                           all-reduces alone, of growing length
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <lpf/backend/threads.hpp>
#include <lpf/distributed/data_parallel.hpp>
#include <lpf/distributed/init.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/registry.hpp>
#include <lpf/ops/random.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/train/metrics.hpp>
#include <nlohmann/json.hpp>

using namespace lpf;

namespace {

struct Options {
  std::string net = "resnet18", method = "sgd";
  std::int64_t width = 32, batch = 128, M = 8, shards = 0;
  int steps = 10, warm_up = 2, threads = 1;
  bool weak = false, sums = false;
};

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

// Seconds of f() on the slowest rank: all begin together.
template <class F>
double timed(distributed::Communicator& world, F f) {
  world.barrier();
  const double begin = lpf::detail::monotonic_seconds();
  f();
  const auto all = distributed::all_gather(world, lpf::detail::monotonic_seconds() - begin);
  return *std::max_element(all.begin(), all.end());
}

void time_steps(distributed::Communicator& world, const Options& o) {
  const ParameterStore params({.seed = 1});
  const Shape input = o.net == "mlp" ? Shape{28, 28, 1} : models::info(o.net).input;
  const models::Model net = models::make(o.net, params, {.input = input, .width = o.width});
  const std::int64_t batch = o.batch * (o.weak ? world.size() : 1);
  const auto& info = optim::info(o.method);
  const bool filtered = info.takes("estimator");
  const auto method =
      optim::make(o.method, params, {.lr = 0.01, .momentum = 0.9, .M = o.M, .gamma = 0.01, .rho = 0.05});
  distributed::DataParallel parallel(world, params,
                                     {.shards = o.shards, .replicas = filtered ? o.M : 1, .check_every = 0});
  const auto share = parallel.share();
  const auto rows = share ? share(batch) : std::pair<std::int64_t, std::int64_t>(0, batch);
  const Tensor x = randn(input.prepended(rows.second - rows.first),
                         {.seed = 1, .draw = static_cast<std::uint64_t>(world.rank())});
  const Tensor y = zeros({rows.second - rows.first}, {int64});
  std::vector<double> seconds, communication;
  double sent = 0;
  for (int step = 0; step < o.warm_up + o.steps; ++step) {
    double waited = 0;
    const double took = timed(world, [&] {
      const double before = world.sent();
      waited = world.seconds();
      parallel.set_batch(batch);
      method->step([&](std::int64_t) { return cross_entropy(net(parallel.part(x)), parallel.part(y)); });
      waited = world.seconds() - waited;
      sent = world.sent() - before;
    });
    if (step < o.warm_up) continue;
    seconds.push_back(took);
    communication.push_back(waited);
  }
  nlohmann::ordered_json out{
      {"ranks", world.size()},
      {"net", concat(o.net, "-", o.width)},
      {"method", o.method},
      {"batch", batch},
      {"parameters", params.numel()},
      {"theta", params.theta().numel()},
      {"step_ms", 1e3 * median(seconds)},
      {"least_ms", 1e3 * *std::min_element(seconds.begin(), seconds.end())},
      {"communication_ms", 1e3 * median(communication)},
      {"least_communication_ms", 1e3 * *std::min_element(communication.begin(), communication.end())},
      {"sent_bytes", sent}};
  if (world.rank() == 0) std::printf("%s\n", out.dump().c_str());
}

void time_sums(distributed::Communicator& world, const Options& o) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (std::int64_t n = 1; n <= (1 << 22); n *= 4) {
    const Tensor x = ones({n});
    const auto time_of = [&](auto sum) {
      std::vector<double> seconds;
      for (int i = 0; i < o.warm_up + o.steps; ++i) {
        const double took = timed(world, [&] { sum(world, x); });
        if (i >= o.warm_up) seconds.push_back(took);
      }
      return 1e3 * median(seconds);
    };
    const double mpi = time_of(distributed::all_reduce), own = time_of(distributed::all_reduce_pairwise);
    out.push_back({{"bytes", 4 * n}, {"all_reduce_ms", mpi}, {"pairwise_ms", own}});
  }
  if (world.rank() == 0) std::printf("%s\n", out.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Times training steps of several processes.");
  app.option_defaults()->always_capture_default();
  app.add_option("--net", o.net, "network")->check(CLI::IsMember(models::names()));
  app.add_option("--width", o.width, "its width");
  app.add_option("--method", o.method, "how it is trained")->check(CLI::IsMember(optim::names()));
  app.add_option("-M", o.M, "of lpf-…: replicas");
  app.add_option("--batch", o.batch, "samples of a step");
  app.add_flag("--weak", o.weak, "as many for each process");
  app.add_option("--shards", o.shards, "parts added in a fixed order");
  app.add_option("--steps", o.steps, "timed");
  app.add_option("--warm-up", o.warm_up, "before them");
  app.add_option("--threads", o.threads, "of a process");
  app.add_flag("--sums", o.sums, "all-reduces alone");
  CLI11_PARSE(app, argc, argv);
  const auto world = distributed::init();
  return distributed::guarded(*world, "ranks", [&] {
    set_num_threads(o.threads);
    o.sums ? time_sums(*world, o) : time_steps(*world, o);
    return 0;
  });
}
