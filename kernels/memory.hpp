// The device's memory as the kernels' callers use it. device.cu and emulated/device.cpp have the functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lpf::cuda {

void* allocate(std::size_t bytes);
void deallocate(void* p, std::size_t bytes) noexcept;
void copy(void* to, const void* from, std::size_t bytes);          // on the device
void copy_to_host(void* to, const void* from, std::size_t bytes);  // waits for all that is queued

/// n elements on the device for what is queued until the end of the scope, uninitialised. Work is queued on
/// one stream, so the memory may serve again at once for what is queued later.
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
