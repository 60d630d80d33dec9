// Capture of a step, on the device: the work that one thread queues is recorded as a graph (device.cu,
// emulated/device.cpp). One thread captures at a time; work of other threads waits until the capture has
// ended, so that it is not captured.
#pragma once

#include <atomic>
#include <mutex>

#include "lpf/core/error.hpp"

namespace lpf::cuda {

inline std::mutex capture_mutex;  // locked by the capturing thread from the beginning of a capture to its end
inline std::atomic<bool> capture_under_way{false};
inline thread_local bool capturing = false;  // true on the thread that captures

/// StateError on a thread that captures: names the forbidden operation `what`, and the remedy.
inline void refuse_in_capture(const char* what) {
  check<StateError>(!capturing, "captured step", "may not ", what);
}

inline void enter_capture() {
  refuse_in_capture("begin another captured step");
  capture_mutex.lock();
  capturing = true;
  capture_under_way = true;
}
inline void leave_capture() noexcept {
  capture_under_way = false;
  capturing = false;
  capture_mutex.unlock();
}

/// No capture begins during its lifetime; waits for the end of another thread's capture.
class OutsideCapture {
 public:
  explicit OutsideCapture(const char* what) {
    refuse_in_capture(what);
    lock_ = std::unique_lock(capture_mutex);
  }

 private:
  std::unique_lock<std::mutex> lock_;
};

inline constexpr const char* reads_the_device =
    "read from the device (item(), to_vector(), a norm as a number), which would wait for it: return the "
    "tensor from the step and read it there";
inline constexpr const char* copies_from_host =
    "copy from the host, as every replay would copy the same: make the tensor before the first step, or hand "
    "it to the step as an argument";
inline constexpr const char* takes_a_batch =
    "take a batch from a loader: take it before, and hand it to the step as an argument";

}  // namespace lpf::cuda
