// Options and outcome of a run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lpf/distributed/communicator.hpp"
#include "lpf/experiment/history.hpp"
#include "lpf/report/progress.hpp"

namespace lpf::experiment {

struct RunOptions {
  std::string out;           ///< output folder
  bool resume = false;       ///< resume the run in `out`, if there is one
  std::string command = "";  ///< for the report
  ProgressStyle progress = ProgressStyle::automatic;
  bool graphs = true;               ///< on a GPU, capture and replay steps (CapturedStep): bit-identical
  std::function<bool()> stop = {};  ///< called after each update: true saves and returns
  distributed::Communicator* world = nullptr;  ///< the job that this process is a part of; null: one process
};

struct Outcome {
  std::vector<Epoch> history;  ///< of the finished epochs
  std::uint64_t updates = 0;
  bool finished = false;
};

}  // namespace lpf::experiment
