// The device of a tensor.
#pragma once

#include <atomic>
#include <string>

#include "lpf/core/error.hpp"

namespace lpf {

enum class DeviceType : int { cpu = 0, cuda = 1 };

/// A device; Device::cpu() by default. An absent device throws a DeviceError when
/// memory is first allocated on it.
struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  static constexpr Device cpu() { return {}; }
  static Device cuda(int index = 0);  // defined in backend/registry.hpp, which checks that it exists

  constexpr bool is_cpu() const { return type == DeviceType::cpu; }
  constexpr bool is_cuda() const { return type == DeviceType::cuda; }
  LPF_ONCE std::string to_string() const { return is_cpu() ? std::string("cpu") : concat("cuda:", index); }
  friend constexpr bool operator==(Device, Device) = default;
};

namespace detail {
inline std::atomic<int> default_gpu{-1};  // its index; −1: the CPU
}
/// The device of new tensors, parameter stores and batches if none is named: the CPU, or that of
/// the last set_default_device().
inline Device default_device() {
  const int gpu = detail::default_gpu.load(std::memory_order_relaxed);
  return gpu < 0 ? Device::cpu() : Device{DeviceType::cuda, gpu};
}
/// For all threads. DeviceError, and no change, if there is no such device.
void set_default_device(Device device);  // defined in backend/registry.hpp

}  // namespace lpf
