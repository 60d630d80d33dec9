// The job of this process: started by mpirun, mpiexec or srun, or alone.
//
//   int main() {
//     const auto world = distributed::init();
//     return distributed::guarded(*world, "train", [&] { … ; return 0; });
//   }
#pragma once

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>

#include "lpf/distributed/communicator.hpp"
#include "lpf/distributed/mpi.hpp"

namespace lpf::distributed {

struct InitOptions {
  /// Seconds that a collective may take. A rank waits that long for one that evaluates, or writes a checkpoint.
  double deadline = 600;
};

/// This process among those that mpirun, mpiexec or srun has started; 0 ranks: started without one of them.
struct Launched {
  int rank = 0, ranks = 0;
};
/// From the launcher's environment, without MPI: enough for a program whose processes share work by files (apps/study).
/// srun sets SLURM_STEP_NUM_TASKS, which a batch script itself does not have.
inline Launched launched() {
  const std::pair<const char*, const char*> names[] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                                       {"PMI_RANK", "PMI_SIZE"},
                                                       {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};
  for (const auto& [rank, ranks] : names) {
    const char *r = std::getenv(rank), *n = std::getenv(ranks);
    if (r && n) return {std::atoi(r), std::max(1, std::atoi(n))};
  }
  return {};
}

/// The job that this process is a part of; one process where there is no launcher.
/// @throws StateError for a process of several in a program without MPI; CommunicationError if the launcher is not of
/// the MPI that the program is linked with.
inline std::unique_ptr<Communicator> init(const InitOptions& options = {}) {
  const int processes = launched().ranks;
#ifdef LPF_MPI
  if (processes > 0) {
    auto world = std::make_unique<MPI>(options.deadline);
    check<CommunicationError>(world->size() == processes, "distributed", "this is one of ", processes,
                              " processes, but ", world->name(), " sees ", world->size(),
                              ": start it by the mpirun of that MPI");
    return world;
  }
#else
  static_cast<void>(options);
  check<StateError>(processes <= 1, "distributed", "this is one of ", processes,
                    " processes, but the program was built without MPI: configure with -DLPF_MPI=ON");
#endif
  return std::make_unique<OneProcess>();
}

/// Returns f(). In a job of several processes an exception ends the job: "NAME: rank R: message" is printed first. What
/// all ranks find is printed by rank 0; the others wait a moment.
template <class F>
int guarded(Communicator& world, const char* name, F f) {
  if (world.size() == 1) return f();
  try {
    return f();
  } catch (const std::exception& e) {
    if (world.rank() > 0) std::this_thread::sleep_for(std::chrono::seconds(1));
    std::fprintf(stderr, "%s: rank %d: %s\n", name, world.rank(), e.what());
    std::fflush(nullptr);
  }
  world.abort();
  return 1;
}

}  // namespace lpf::distributed
