// Three updates of a small network in parts of its batches, by the processes of a job: for the tests over threads and
// those over MPI.
#pragma once

#include "filter/networks.hpp"
#include "lpf/distributed/data_parallel.hpp"
#include "lpf/optim/registry.hpp"

namespace lpf::test {

struct Training {
  Kind kind = Kind::linear;
  std::string method = "sgd";
  optim::MethodOptions options = {.lr = 0.05, .momentum = 0.9};
  std::int64_t shards = 0, batch = 19;
  int accumulate = 1;  // batches of an update
};

/// The state of a model after three updates.
struct Trained {
  Tensor theta;
  std::vector<Tensor> buffers;
  std::vector<std::uint64_t> counters;
  double loss = 0;  // sum of the batches' losses, over all ranks
};

inline std::int64_t replicas_of(const Training& t) {
  const auto& slices = optim::info(t.method).slices;
  return slices.empty() ? 1 : slices == "M" ? t.options.M : t.options.slices;
}

inline Trained train(distributed::Communicator& world, const Training& t) {
  const Problem model(t.kind, t.batch);
  const auto method = optim::make(t.method, model.params, t.options);
  distributed::DataParallel parallel(world, model.params,
                                     {.shards = t.shards,
                                      .replicas = replicas_of(t),
                                      .paired = t.method == "lpf-sgd" && is_paired(t.options.estimator),
                                      .check_every = 1});
  const auto share = parallel.share();
  double loss = 0;
  for (std::uint64_t step = 0; step < 3; ++step) {
    const Problem data(t.kind, t.batch, 10 + step);
    const auto [first, last] = share ? share(t.batch) : std::pair<std::int64_t, std::int64_t>(0, t.batch);
    const Tensor x = slice(data.x, 0, first, last), y = slice(data.y, 0, first, last);
    parallel.set_batch(t.batch);
    const auto part_loss = [&](std::int64_t) {
      return cross_entropy(model.net(parallel.part(x)), parallel.part(y));
    };
    for (int k = 1; k < t.accumulate; ++k)  // a first gradient, to which the method adds its own
      parallel.run([&] {
        const Tensor l = part_loss(0);
        l.backward();
        return l.detach();
      });
    for (const double l : distributed::all_gather(world, method->step(part_loss).item())) loss += l;
  }
  return {model.params.theta().clone(), buffers_of(model.params), counters_of(model.params), loss};
}

inline Trained train_alone(const Training& t) {
  distributed::OneProcess world;
  return train(world, t);
}

inline optim::MethodOptions lpf_options(Estimator estimator, std::int64_t M = 6,
                                        BatchNormPolicy policy = BatchNormPolicy::per_replica) {
  return {.lr = 0.05,
          .momentum = 0.9,
          .seed = 7,
          .batch_norm = policy,
          .M = M,
          .gamma = 0.2,
          .estimator = estimator};
}
inline const std::vector<Estimator> estimators = {Estimator::replicas, Estimator::antithetic,
                                                  Estimator::per_sample, Estimator::flipout,
                                                  Estimator::flipout_pairs};

}  // namespace lpf::test
