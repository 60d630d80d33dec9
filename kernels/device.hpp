// The GPU of this process: its stream, and the check of every call to the vendor's libraries.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "lpf/core/error.hpp"

namespace lpf::cuda {

/// Throws DeviceError, with the call and CUDA's own words, unless it returned success.
inline void check_status(cudaError_t status, const char* call) {
  lpf::check<DeviceError>(status == cudaSuccess, "cuda", call, " failed: ", cudaGetErrorName(status), ", ",
                          cudaGetErrorString(status));
}

/// All work is queued on this stream, in order. Waits for the end of another thread's capture.
cudaStream_t stream();

inline void check_launch() { check_status(cudaGetLastError(), "a kernel's launch"); }

}  // namespace lpf::cuda
