// LPF-SGD in several processes: each evaluates its slices of every batch, with the noise that one process would draw.
//
//   data_parallel                            one process
//   mpirun -np 4 data_parallel               four, in a build with -DLPF_MPI=ON: the same bits
//
// docs/distributed.md describes what is the same, and what a model must not do.
#include <cstdio>
#include <exception>
#include <lpf/data/sets/digits.hpp>
#include <lpf/distributed/data_parallel.hpp>
#include <lpf/distributed/init.hpp>
#include <lpf/lpf.hpp>
#include <lpf/train/metrics.hpp>

using namespace lpf;

namespace {

struct Net {
  nn::Linear fc1, fc2;
  explicit Net(const nn::Path& p) : fc1(p / "fc1", 64, 128), fc2(p / "fc2", 128, 10) {}
  Tensor operator()(const Tensor& x) const { return fc2(relu(fc1(x))); }
};

int train(distributed::Communicator& world) {
  const auto [data, test] = split(digits(), {1000, 797}, 1);
  ParameterStore params({.seed = 4});
  const Net net(params);
  optim::SGD optimizer(params, {.lr = 0.1, .momentum = 0.9});
  LowPassFilter filter({.M = 8, .gamma = 0.06});

  distributed::DataParallel parallel(world, params, {.shards = 4, .replicas = 8});
  DataLoader loader(data,
                    {.batch_size = 64, .share = parallel.share()});  // this process's rows of each batch
  for (int epoch = 1; epoch <= 20; ++epoch)
    for (auto [x, y] : loader) {
      parallel.set_batch(loader.batch_samples());
      parallel.run([&, x = x, y = y] {  // for each shard of this process; then the gradients are added
        const auto scope = filter.perturb(params);
        const Tensor loss = cross_entropy(net(parallel.part(x)), parallel.part(y));
        loss.backward();
        return loss;
      });
      optimizer.step();
    }
  const auto result = evaluate(params, net, test.images, test.labels);
  const std::uint64_t hash = distributed::state_of(params);
  if (world.rank() == 0)
    std::printf("ranks: %d, test error %.1f %%, hash of the parameters %016llx\n", world.size(),
                100 * result.error, static_cast<unsigned long long>(hash));
  return 0;
}

}  // namespace

int main() {
  try {
    const auto world = distributed::init();
    return distributed::guarded(*world, "data_parallel", [&] { return train(*world); });
  } catch (const std::exception& e) { std::fprintf(stderr, "data_parallel: %s\n", e.what()); }
  return 1;
}
