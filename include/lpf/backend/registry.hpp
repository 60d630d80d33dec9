// The backends of this program.
#pragma once

#include <atomic>

#include "lpf/backend/contract.hpp"
#include "lpf/core/device.hpp"

namespace lpf::backend {

/// Groups of kernels, each registered by the operations that use it: a program that never includes
/// ops/conv.hpp does not compile convolutions.
enum class KernelGroup : int {
  core,
  core_float64,
  convolution,
  pooling,
  batch_normalization,
  layer_normalization,
  dropout,
  adam,
  scatter,
  scan,
  order,
  attention
};

inline Table cpu_table{};
inline int cpu_level[] = {-1, -1, -1, -1, -1, -1,
                          -1, -1, -1, -1, -1, -1};  // of each group; -1: not registered

/// The CPU's kernels for one element type each; entries that do not depend on a type are in
/// cpu_table only. bfloat16 has none.
inline Table cpu_float32{}, cpu_float64{}, cpu_bfloat16{}, cpu_int64{}, cpu_narrow_integers{};
inline const Table& cpu_typed_table(DType type) {
  switch (type) {
    case DType::float32: return cpu_float32;
    case DType::float64: return cpu_float64;
    case DType::bfloat16: return cpu_bfloat16;
    case DType::int64: return cpu_int64;
    default: return cpu_narrow_integers;
  }
}

/// Opens GPU `index` and returns its table, or throws a DeviceError with the reason. Null in a
/// program without a CUDA backend.
using CudaOpener = const Table& (*)(int index);
inline std::atomic<CudaOpener> cuda_opener{nullptr};
inline std::atomic<const Table*> cuda_table_in_use{nullptr};  // of cuda:0, once it has been opened

/// Called before main(); the GPU is opened at its first use.
inline bool register_cuda(CudaOpener opener) {
  cuda_opener.store(opener);
  return true;
}

[[gnu::cold, gnu::noinline]] inline const Table& open_cuda(Device device) {
  const CudaOpener opener = cuda_opener.load();
  check<DeviceError>(opener != nullptr, "device", device,
                     " is not available: this program was built without lpf::cuda; ",
                     "configure with -DLPF_CUDA=ON and link lpf::cuda");
  const Table& table = opener(device.index);
  check<DeviceError>(table.version == contract_version, "device", "lpf::cuda was built for version ",
                     table.version, " of the backends' contract, this program for ", contract_version,
                     ": build both from the same LPF");
  cuda_table_in_use.store(&table, std::memory_order_release);
  return table;
}

/// Registers a group of CPU kernels. Of several (translation units compiled for different processors) the one
/// with the highest level is used. Called before main().
inline bool register_cpu(KernelGroup group, int level, void (*fill)(Table&)) {
  int& current = cpu_level[static_cast<int>(group)];
  if (level > current) {
    fill(cpu_table);
    current = level;
  }
  return true;
}

/// The table of a device; DeviceError if there is none.
inline const Table& get(Device device) {
  if (device.is_cpu()) [[likely]]
    return cpu_table;
  const Table* table = cuda_table_in_use.load(std::memory_order_acquire);
  if (table && device.index == 0) [[likely]]
    return *table;
  return open_cuda(device);
}

}  // namespace lpf::backend

namespace lpf {

inline Device Device::cuda(int index) {
  const Device device{DeviceType::cuda, index};
  backend::get(device);
  return device;
}

inline void set_default_device(Device device) {
  backend::get(device);
  detail::default_gpu.store(device.is_cpu() ? -1 : device.index);
}

/// True if this program has a CUDA backend and this machine a GPU that it can use.
inline bool cuda_is_available() {
  try {
    backend::get({DeviceType::cuda, 0});
    return true;
  } catch (const DeviceError&) { return false; }
}

}  // namespace lpf
