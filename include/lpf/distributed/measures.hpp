// Measures of sharpness by several processes: every rank gets the report of one process, to the bit.
//
//   const auto world = distributed::init();
//   const auto report = sharpness::measure(net, params, data, {.draws = 100, .ranks = distributed::ranks_of(*world)});
//
// All ranks have the same weights, data and options. Ranks share the passes of random draws (a pass has `replicas` of them),
// products with random vectors, and the batches of what is deterministic; only results are sent, noise never.
#pragma once

#include "lpf/distributed/communicator.hpp"
#include "lpf/sharpness/ranks.hpp"

namespace lpf::distributed {

/// `world` must outlive it.
inline sharpness::Ranks ranks_of(Communicator& world) {
  return {world.rank(), world.size(),
          [&world](const std::vector<double>& mine) { return all_gather(world, mine); }};
}

}  // namespace lpf::distributed
