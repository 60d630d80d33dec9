// The device's memory, for the callers of kernels. The functions are in device.cu and emulated/device.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lpf::cuda {

void* allocate(std::size_t bytes);
void deallocate(void* p, std::size_t bytes) noexcept;
void copy(void* to, const void* from, std::size_t bytes);          // on the device
void copy_to_host(void* to, const void* from, std::size_t bytes);  // waits for all queued work

/// n uninitialised elements on the device, for work queued until the end of the scope. Work is queued on one
/// stream, so the memory may be reused at once by later work.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t n)
      : bytes_(static_cast<std::size_t>(n) * sizeof(T)), data_(static_cast<T*>(allocate(bytes_))) {}
  ~Scratch() { deallocate(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }

 private:
  std::size_t bytes_;
  T* data_;
};

}  // namespace lpf::cuda
