// Loss and error over a data set, the batches spread over the ranks.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "lpf/distributed/communicator.hpp"
#include "lpf/train/metrics.hpp"

namespace lpf::distributed {

/// evaluate() over the batches of a loader, of which rank p takes p, p + P, …: the same bits as one process has, on all
/// ranks. Every rank iterates over all batches.
template <class Net, class Batches>
Evaluation evaluate(Communicator& world, const ParameterStore& params, Net&& net, Batches&& batches) {
  const auto ranks = static_cast<std::size_t>(world.size());
  std::vector<double> own;  // loss, errors and samples of each batch
  std::size_t count = 0;
  for (const auto& [x, y] : batches) {
    if (count++ % ranks != static_cast<std::size_t>(world.rank())) continue;
    const Evaluation e = lpf::evaluate(params, net, std::vector{std::pair(x, y)});
    const auto n = static_cast<double>(e.samples);
    own.insert(own.end(), {e.loss, std::round(e.error * n), n});
  }
  const auto all = all_gather(world, own);
  RunningMean mean;
  double errors = 0, samples = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double* of_batch = &all[i % ranks].at(3 * (i / ranks));
    mean.add(of_batch[0], of_batch[2]);
    errors += of_batch[1], samples += of_batch[2];
  }
  return {mean.value(), errors / samples, static_cast<std::int64_t>(samples)};
}

}  // namespace lpf::distributed
