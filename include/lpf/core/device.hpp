// Where a tensor lives.
#pragma once

#include <string>

#include "lpf/core/error.hpp"

namespace lpf {

enum class DeviceType : int { cpu = 0, cuda = 1 };

/// A device; Device::cpu() by default. Asking for one that is not there is a DeviceError when memory is first
/// needed.
struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  static constexpr Device cpu() { return {}; }
  static Device cuda(int index = 0);  // defined in backend/registry.hpp: it looks whether there is one

  constexpr bool is_cpu() const { return type == DeviceType::cpu; }
  constexpr bool is_cuda() const { return type == DeviceType::cuda; }
  std::string to_string() const { return is_cpu() ? std::string("cpu") : concat("cuda:", index); }
  friend constexpr bool operator==(Device, Device) = default;
};

}  // namespace lpf
