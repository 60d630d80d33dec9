// Which backends this program has.
#pragma once

#include <atomic>

#include "lpf/backend/contract.hpp"
#include "lpf/core/device.hpp"

namespace lpf::backend {

inline std::atomic<const Table*> cpu_table_in_use{nullptr};
inline std::atomic<const Table*> cuda_table_in_use{nullptr};

/// Registers a CPU table; of several (translation units built for different processors) the highest level
/// serves.
inline bool register_cpu(const Table& table) {
  const Table* current = cpu_table_in_use.load();
  while (!current || current->level < table.level)
    if (cpu_table_in_use.compare_exchange_weak(current, &table)) break;
  return true;
}

/// The table of a device; DeviceError where there is none.
inline const Table& get(Device device) {
  const Table* table =
      (device.is_cpu() ? cpu_table_in_use : cuda_table_in_use).load(std::memory_order_relaxed);
  if (!table) [[unlikely]] {
    check<DeviceError>(device.is_cpu(), "device", device,
                       " is not available: this program was built without lpf::cuda; ",
                       "configure with -DLPF_CUDA=ON and link lpf::cuda");
    fail<DeviceError>("device", "no CPU backend is registered: include lpf/backend/backend.hpp");
  }
  return *table;
}

}  // namespace lpf::backend

namespace lpf {

inline Device Device::cuda(int index) {
  const Device device{DeviceType::cuda, index};
  backend::get(device);
  return device;
}

/// True if this program has a usable CUDA backend.
inline bool cuda_is_available() { return backend::cuda_table_in_use.load() != nullptr; }

}  // namespace lpf
