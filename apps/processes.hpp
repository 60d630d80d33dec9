// What programs share that mpirun may start as several processes.
#pragma once

#include <lpf/distributed/init.hpp>
#include <lpf/report/progress.hpp>

#include "program.hpp"

namespace program {

/// The flag --deadline of in_processes().
inline void add_deadline(CLI::App& app, double& seconds) {
  app.add_option("--deadline", seconds,
                 "under mpirun: seconds that processes wait for one that has more to do, or does not answer")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
}

/// Connects the processes and calls work(world), whose exit code it returns. UsageError for --deadline without mpirun.
template <class Work>
int in_processes(const CLI::App& app, const char* name, double deadline, Work work) {
  refuse_unused(app, name, "--deadline", lpf::distributed::launched().ranks > 0,
                "it is for processes that mpirun has started");
  const auto world = lpf::distributed::init({.deadline = deadline});
  return lpf::distributed::guarded(*world, name, [&] { return work(*world); });
}

/// Rank 0 shows progress.
inline lpf::ProgressStyle progress_style(const lpf::distributed::Communicator& world) {
  return world.rank() == 0 ? lpf::ProgressStyle::automatic : lpf::ProgressStyle::none;
}

}  // namespace program
