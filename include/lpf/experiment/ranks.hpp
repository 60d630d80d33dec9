// What a run in several processes adds to one in one: how batches are cut, what the ranks must agree about, and the
// statistics of a step.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lpf/backend/threads.hpp"
#include "lpf/distributed/data_parallel.hpp"
#include "lpf/experiment/data_splits.hpp"
#include "lpf/experiment/settings.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/report/log.hpp"
#include "lpf/report/table.hpp"

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

/// CommunicationError, with what differs, for a rank whose settings are not those of rank 0.
template <class S>
void check_same_settings(distributed::Communicator& world, const char* program, const S& s) {
  std::string text;
  for (const auto& [name, value] : texts_of_table(s)) text += concat(name, "=", value, "\n");
  const std::string first = distributed::broadcast(world, text);
  std::string different;
  if (first != text) {
    S of_first;
    for (std::size_t at = 0, end; (end = first.find('\n', at)) != std::string::npos; at = end + 1) {
      const std::size_t equals = first.find('=', at);
      set(of_first, first.substr(at, equals - at), first.substr(equals + 1, end - equals - 1));
    }
    different = differences(of_first, s);
  }
  check<distributed::CommunicationError>(different.empty(), program, "rank ", world.rank(),
                                         " has other settings than rank 0: ", different);
  distributed::check_same(world, program, "a version of LPF", backend::contract_version);
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

/// Loss and errors of one part of a batch.
struct PartStatistics {
  double loss, errors, samples;
};

/// From the loss and the number of errors of each part, in turn, and its number of samples.
inline std::vector<PartStatistics> part_statistics(const std::vector<Tensor>& seen,
                                                   const std::vector<double>& sizes) {
  std::vector<PartStatistics> out;
  for (std::size_t i = 0; i < sizes.size(); ++i)
    out.push_back({seen[2 * i].item(), static_cast<double>(seen[2 * i + 1].item<std::int64_t>()), sizes[i]});
  return out;
}

/// One step, over all ranks.
struct StepStatistics {
  std::vector<PartStatistics> parts;  ///< of all ranks, in the order of the samples
  bool stop = false;                  ///< a rank has been told to stop
  int slowest = 0;                    ///< the rank that computed longest
};

/// What each rank knows about its parts of a step. `busy`: seconds without communication.
inline StepStatistics gather_step(distributed::Communicator& world, const std::vector<PartStatistics>& own,
                                  bool stop, double busy) {
  std::vector<PartStatistics> mine = own;
  mine.push_back({stop ? 1.0 : 0.0, busy, 0});
  std::vector<PartStatistics> all(mine.size() * static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  StepStatistics out;
  double longest = -1;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if ((i + 1) % mine.size() != 0) {
      out.parts.push_back(all[i]);
      continue;
    }
    out.stop |= all[i].loss != 0;
    if (all[i].errors > longest) longest = all[i].errors, out.slowest = static_cast<int>(i / mine.size());
  }
  return out;
}

/// "4 processes (Open MPI v4.1.4), threads each: 1"; empty for one process.
inline std::string description_of(const distributed::Communicator& world) {
  if (world.size() == 1) return "";
  return concat(world.size(), " processes (", world.name(), "), threads each: ", num_threads());
}
/// For the progress bar: ", 12 % communication, slowest rank 3"; empty for one process.
inline std::string of_ranks(const distributed::Communicator& world, double communication, int slowest) {
  if (world.size() == 1) return "";
  return concat(", ", format_fixed(100 * communication, 0), " % communication, slowest rank ", slowest);
}

/// What each rank of several writes of its epochs: FOLDER/rank-3.csv, with the machine and the process that it is. A run
/// that goes on appends to them.
class RankLog {
 public:
  RankLog(const distributed::Communicator& world, const std::string& folder, bool append) : world_(world) {
    if (world.size() == 1) return;
    create_directories(folder);
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) == 0) machine_ = name;
    log_.emplace(concat(folder, "/rank-", world.rank(), ".csv"), MetricLogOptions{.append = append});
  }
  /// After an epoch, whose training took this rank `seconds`, of which it was `communication` in collectives.
  void write(std::int64_t epoch, std::uint64_t updates, double seconds, double communication) {
    if (!log_) return;
    log_->write({{"epoch", epoch},
                 {"updates", updates},
                 {"ranks", world_.size()},
                 {"machine", machine_},
                 {"process", static_cast<std::int64_t>(::getpid())},
                 {"threads", num_threads()},
                 {"seconds", seconds},
                 {"communication_seconds", communication},
                 {"sent_mb", (world_.sent() - sent_) / 1e6}});
    sent_ = world_.sent();
  }

 private:
  const distributed::Communicator& world_;
  std::string machine_;
  std::optional<MetricLog> log_;
  double sent_ = 0;  // at the last line
};

}  // namespace lpf::experiment
