// The emulated device's memory: one region that the processor may touch only while a kernel or a copy runs,
// so that a program which reads or writes device memory on the host dies at that line.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include "../capture.hpp"

namespace lpf::cuda {

/// Opens the region for as long as it lives; of several at once, until the last has gone.
class Access {
 public:
  Access();
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
};

/// Adds to the graph that this thread captures.
void keep(std::function<void()> work);
/// Runs work(), or keeps it: a copy of all that it needs, as a node of a CUDA graph has.
template <class F>
void perform(F work) {
  if (capturing) return keep(std::move(work));
  const Access access;
  work();
}

/// Makes the emulated device this program's cuda:0. Not before main() and not in every program: without it a
/// test program is one without CUDA.
bool register_emulated();

}  // namespace lpf::cuda
