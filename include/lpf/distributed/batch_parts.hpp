// How a batch is cut for several processes: into shards, consecutive samples, of which a process has some. The
// slices of a perturbed pass stay whole, and the pairs of an antithetic one.
#pragma once

#include <functional>
#include <utility>

#include "lpf/core/error.hpp"
#include "lpf/core/slices.hpp"
#include "lpf/distributed/communicator.hpp"

namespace lpf::distributed {

/// A half-open range of samples.
struct Samples {
  std::int64_t first = 0, last = 0;
  std::int64_t count() const { return last - first; }
};

/// Shards of equal size, to one sample, slice or pair.
class BatchParts {
 public:
  /// `replicas`: the M of the passes (their slices, in SAM); 1 if there are none.
  /// @throws ValueError for fewer slices, or pairs, than shards.
  explicit BatchParts(std::int64_t shards = 1, std::int64_t replicas = 1, bool paired = false)
      : shards_(shards), replicas_(replicas), units_(paired ? replicas / 2 : replicas) {
    check(shards >= 1 && replicas >= 1, "distributed", "shards and replicas must be at least 1, got ", shards,
          " and ", replicas);
    check(replicas == 1 || units_ >= shards, "distributed", "the M = ", replicas, " slices of a batch are ",
          units_, paired ? " pairs, which cannot be shared by " : ", which cannot be shared by ", shards,
          " processes or shards: use fewer, or a larger M");
  }
  std::int64_t shards() const { return shards_; }

  /// The samples of shard s of a batch. @throws ShapeError for a batch too small to be cut.
  Samples of(std::int64_t s, std::int64_t batch) const {
    const std::int64_t least = replicas_ == 1 ? shards_ : replicas_;
    check<ShapeError>(batch >= least, "distributed", "a batch of ", batch, " samples has fewer than ", least,
                      replicas_ == 1 ? " shards" : " slices",
                      ": use another batch size, or drop the last batch");
    if (replicas_ == 1) return {Slices(shards_, batch).begin(s), Slices(shards_, batch).end(s)};
    const Slices units(shards_, units_), slices(replicas_, batch);
    const std::int64_t width = replicas_ / units_;
    return {slices.begin(width * units.begin(s)), slices.begin(width * units.end(s))};
  }
  /// Those of rank `rank` of `ranks`, which has consecutive shards.
  Samples of_rank(int rank, int ranks, std::int64_t batch) const {
    const std::int64_t each = shards_ / ranks;
    return {of(rank * each, batch).first, of((rank + 1) * each - 1, batch).last};
  }

 private:
  std::int64_t shards_, replicas_, units_;
};

/// The parts for a job. `shards` 0: one for each process.
/// @throws ValueError if `shards` is not 0 and not a power of two that the number of processes divides.
inline BatchParts batch_parts(const Communicator& world, std::int64_t shards, std::int64_t replicas,
                              bool paired) {
  check(shards >= 0 && (shards & (shards - 1)) == 0, "distributed",
        "shards must be a power of two, or 0, got ", shards);
  check(shards % world.size() == 0, "distributed", shards, " shards cannot be shared by ", world.size(),
        " processes: use a number of processes that divides it");
  return BatchParts(shards > 0 ? shards : world.size(), replicas, paired);
}

/// The rows [first, last) of a batch of n samples that this process evaluates (LoaderOptions::share); null: all.
inline std::function<std::pair<std::int64_t, std::int64_t>(std::int64_t)> share_of(const Communicator& world,
                                                                                   const BatchParts& parts) {
  if (world.size() == 1) return nullptr;
  return [parts, rank = world.rank(), ranks = world.size()](std::int64_t n) {
    const Samples own = parts.of_rank(rank, ranks, n);
    return std::pair(own.first, own.last);
  };
}

}  // namespace lpf::distributed
