// The memory of the emulated device: one region that is accessible only while a kernel or a copy runs, so
// that host code which accesses device memory crashes at that line.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include "../capture.hpp"

namespace lpf::cuda {

/// Makes the region accessible during its lifetime; with several at once, until the last one ends.
class Access {
 public:
  Access();
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
};

/// Appends to the graph that this thread captures.
void keep(std::function<void()> work);
/// Runs work(), or records it: a copy of everything it needs, like a node of a CUDA graph.
template <class F>
void perform(F work) {
  if (capturing) return keep(std::move(work));
  const Access access;
  work();
}

/// Makes the emulated device this program's cuda:0. Not called before main(), nor in every program: without
/// it a test program has no CUDA.
bool register_emulated();

}  // namespace lpf::cuda
