// The emulated device's memory: one region that the processor may touch only while a kernel runs, so that a
// program which reads or writes device memory on the host dies at that line.
#pragma once

#include <cstddef>

namespace lpf::cuda {

/// Opens the arena for as long as it lives.
class Access {
 public:
  Access();
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
};

}  // namespace lpf::cuda
