// What a run in several processes adds to one in one: how batches are cut, and what the ranks must agree about.
#pragma once

#include <algorithm>
#include <string>

#include "lpf/distributed/data_parallel.hpp"
#include "lpf/experiment/data_splits.hpp"
#include "lpf/experiment/rank_statistics.hpp"
#include "lpf/experiment/settings.hpp"

namespace lpf::experiment {

/// How the settings' method cuts a batch.
inline distributed::DataParallelOptions parallel_options(const Settings& s) {
  const auto& method = optim::info(s.optimizer);
  const bool sliced = !method.slices.empty();
  return {.shards = s.shards,
          .replicas = sliced ? static_cast<std::int64_t>(number(s, method.slices)) : 1,
          .paired = method.takes("estimator") && is_paired(estimator_named(s.estimator))};
}
inline distributed::BatchParts parts_of(const Settings& s, const distributed::Communicator& world) {
  const auto o = parallel_options(s);
  return distributed::batch_parts(world, o.shards, o.replicas, o.paired);
}

/// ShapeError if a batch of an epoch is too small for the parts.
inline void check_batches(const distributed::BatchParts& parts, const DataLoader& loader) {
  const std::int64_t batch = loader.options().batch_size, rest = loader.size() % batch;
  if (parts.shards() == 1) return;
  if (loader.size() >= batch) parts.of(0, batch);
  if (rest > 0 && !loader.options().drop_last) parts.of(0, rest);
}

/// CommunicationError for a rank that has other settings, another version, other data, or does not see the run's
/// folder (`begun`: there is a checkpoint).
inline void check_agreement(distributed::Communicator& world, const Settings& s, const DataSplits& splits,
                            const std::string& out, bool begun) {
  if (world.size() == 1) return;
  check_same_settings(world, "train", s);
  distributed::Hash data;
  for (const TensorDataset* part : {&splits.train, &splits.validation, &splits.test})
    data.add(part->images).add(part->labels);
  distributed::check_same(world, "train", "data", data.value());
  distributed::check_same(
      world, "train", concat("a view of '", out, "' (is it on a file system that all ranks share?)"), begun);
}

}  // namespace lpf::experiment
