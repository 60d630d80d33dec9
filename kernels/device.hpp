// The GPU of this process: its stream, and error checks for calls to CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "lpf/core/error.hpp"

namespace lpf::cuda {

/// Throws DeviceError, with the call and CUDA's message, unless it succeeded.
inline void check_status(cudaError_t status, const char* call) {
  lpf::check<DeviceError>(status == cudaSuccess, "cuda", call, " failed: ", cudaGetErrorName(status), ", ",
                          cudaGetErrorString(status));
}

/// The stream on which all work is queued, in order. Waits for the end of another thread's capture.
cudaStream_t stream();

inline void check_launch() { check_status(cudaGetLastError(), "a kernel's launch"); }

}  // namespace lpf::cuda
