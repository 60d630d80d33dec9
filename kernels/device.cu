// The CUDA backend's device: opened when it is first asked for, with one stream on which everything is
// queued, and the caching allocator over cudaMalloc.
#include "device.hpp"

#include <mutex>
#include <string>

#include "availability.hpp"
#include "caching_allocator.hpp"
#include "families.hpp"
#include "fault.hpp"
#include "lpf/backend/registry.hpp"
#include "memory.hpp"

namespace lpf::cuda {
namespace {

cudaStream_t the_stream = nullptr;
std::uint64_t* the_fault = nullptr;

void* from_system(std::size_t bytes) {
  void* block = nullptr;
  const cudaError_t status = cudaMalloc(&block, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgets it: it is no fault of a kernel
    return nullptr;
  }
  check_status(status, "cudaMalloc");
  return block;
}
void to_system(void* block, std::size_t) { check_status(cudaFree(block), "cudaFree"); }
void refuse(std::size_t bytes, const MemoryStats& stats) {
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  fail<DeviceError>("allocate", "out of memory on cuda:0: ", bytes, " bytes wanted, ", stats.in_use,
                    " in use here, ", free, " of the GPU's ", total, " free: a smaller batch, or fewer ",
                    "replicas, or ReplicaMemory::remade");
}

/// Never destroyed: tensors of static lifetime may outlive any other static.
CachingAllocator& allocator() {
  static auto* one = new CachingAllocator({from_system, to_system, refuse});
  return *one;
}

void synchronize() {
  check_status(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
  check_faults();
}
/// Pageable memory is copied aside before cudaMemcpyAsync returns; of pinned memory it would be read later.
void copy_from_host(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  cudaPointerAttributes attributes;
  check_status(cudaPointerGetAttributes(&attributes, from), "cudaPointerGetAttributes");
  check_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()), "cudaMemcpyAsync");
  if (attributes.type != cudaMemoryTypeUnregistered) synchronize();
}

Machine this_machine() {
  Machine m{};
  check_status(cudaDriverGetVersion(&m.driver), "cudaDriverGetVersion");
  check_status(cudaRuntimeGetVersion(&m.runtime), "cudaRuntimeGetVersion");
  if (m.driver == 0) return m;
  const cudaError_t status = cudaGetDeviceCount(&m.devices);
  if (status != cudaSuccess) {
    m.devices = 0;
    m.says = cudaGetErrorString(status);
    cudaGetLastError();
  }
  if (m.devices == 0) return m;
  cudaDeviceProp properties;
  check_status(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  m.major = properties.major;
  m.minor = properties.minor;
  m.name = properties.name;
  return m;
}

const Table& open(int index) {
  static std::mutex mutex;
  static Table table{};
  static std::string name;
  const std::lock_guard lock(mutex);
  if (the_stream && index == 0) return table;
  const Machine machine = this_machine();
  check_usable(index, machine);
  void* word = nullptr;
  check_status(cudaHostAlloc(&word, sizeof *the_fault, cudaHostAllocMapped), "cudaHostAlloc");
  the_fault = static_cast<std::uint64_t*>(word);
  *the_fault = 0;
  check_status(cudaStreamCreateWithFlags(&the_stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  name = "cuda (" + machine.name + ")";
  table.version = backend::contract_version;
  table.name = name.c_str();
  table.allocate = allocate;
  table.deallocate = deallocate;
  table.copy = copy;
  table.copy_from_host = copy_from_host;
  table.copy_to_host = copy_to_host;
  table.synchronize = synchronize;
  table.max_threads = [] { return 1; };
  table.memory_stats = [] { return allocator().stats(); };
  table.reset_peak = [] { allocator().reset_peak(); };
  table.release_cache = [] { allocator().release_cache(); };
  fill_families(table);
  return table;
}

}  // namespace

cudaStream_t stream() { return the_stream; }
std::uint64_t* fault_word() { return the_fault; }
void* allocate(std::size_t bytes) { return allocator().allocate(bytes); }
void deallocate(void* p, std::size_t bytes) noexcept { allocator().deallocate(p, bytes); }
void copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0)
    check_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
}
void copy_to_host(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0)
    check_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()), "cudaMemcpyAsync");
  synchronize();
}

}  // namespace lpf::cuda

namespace lpf::backend::cuda {

bool register_backend();
bool register_backend() { return register_cuda(lpf::cuda::open); }

}  // namespace lpf::backend::cuda
