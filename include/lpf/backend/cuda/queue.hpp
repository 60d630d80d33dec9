// The stream on which the CUDA backend queues all its work, for libraries that queue work of their own (NCCL). Defined in
// lpf::cuda.
#pragma once

namespace lpf::cuda {

/// A cudaStream_t. Device::cuda() must have been opened.
void* queue();
/// Whether all that was queued is done. @throws DeviceError for work that has failed.
bool queue_is_done();

}  // namespace lpf::cuda
