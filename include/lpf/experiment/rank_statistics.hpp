// Runs in several processes, whatever their settings are: that these are the same, the statistics of a step, what the progress
// bar says, each rank's log.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lpf/backend/threads.hpp"
#include "lpf/core/os.hpp"
#include "lpf/distributed/agreement.hpp"
#include "lpf/experiment/setting_table.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/report/log.hpp"
#include "lpf/report/table.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf::experiment {

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
    machine_ = lpf::detail::os::host_name();
    log_.emplace(concat(folder, "/rank-", world.rank(), ".csv"), MetricLogOptions{.append = append});
  }
  /// After an epoch, whose training took this rank `seconds`, of which it was `communication` in collectives.
  void write(std::int64_t epoch, std::uint64_t updates, double seconds, double communication) {
    if (!log_) return;
    log_->write({{"epoch", epoch},
                 {"updates", updates},
                 {"ranks", world_.size()},
                 {"machine", machine_},
                 {"process", lpf::detail::os::process_id()},
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
