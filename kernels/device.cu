// The device of the CUDA backend: opened at first use, with one stream for all work, and the caching
// allocator on top of cudaMalloc.
#include "device.hpp"

#include <memory>
#include <mutex>
#include <string>

#include "availability.hpp"
#include "caching_allocator.hpp"
#include "capture.hpp"
#include "fault.hpp"
#include "kernel_groups.hpp"
#include "lpf/backend/cuda/queue.hpp"
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
    cudaGetLastError();  // clear it: it is no error of a kernel
    return nullptr;
  }
  check_status(status, "cudaMalloc");
  return block;
}
void to_system(void* block, std::size_t) { check_status(cudaFree(block), "cudaFree"); }
void refuse(std::size_t bytes, const MemoryStats& stats) {
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  fail<OutOfMemoryError>("allocate", "out of memory on cuda:0: ", bytes, " bytes wanted, ", stats.in_use,
                         " in use here, ", free, " of the GPU's ", total, " free: a smaller batch, or fewer ",
                         "replicas, or ReplicaMemory::recomputed");
}

/// Never destroyed: tensors of static lifetime may outlive any other static.
CachingAllocator& allocator() {
  static auto* one = new CachingAllocator({from_system, to_system, refuse});
  return *one;
}

/// Must be outside a capture: synchronising with a capturing stream ends the capture.
void wait(const OutsideCapture&) {
  check_status(cudaStreamSynchronize(the_stream), "cudaStreamSynchronize");
  check_faults();
}
void synchronize() { wait(OutsideCapture(reads_the_device)); }
/// Synchronises, because cudaMemcpyAsync may return before it has read `from`: always for pinned memory, and
/// for pageable memory that the GPU accesses directly ("If pageable memory must first be staged to pinned
/// memory, the driver may synchronize with the stream"; all else "should be fully asynchronous").
void copy_from_host(void* to, const void* from, std::size_t bytes) {
  const OutsideCapture outside(copies_from_host);
  if (bytes == 0) return;
  check_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, the_stream), "cudaMemcpyAsync");
  wait(outside);
}

/// Page-locked memory, which the device reads concurrently with the CPU. Cached
/// when freed: locking pages is slow.
CachingAllocator& pinned_allocator() {
  static auto* one = new CachingAllocator(
      {[](std::size_t bytes) -> void* {
         void* block = nullptr;
         if (cudaHostAlloc(&block, bytes, cudaHostAllocDefault) == cudaSuccess) return block;
         cudaGetLastError();
         return nullptr;
       },
       [](void* block, std::size_t) { check_status(cudaFreeHost(block), "cudaFreeHost"); },
       [](std::size_t bytes, const MemoryStats& stats) {
         fail<DeviceError>("allocate", "no page-locked memory: ", bytes, " bytes wanted, ", stats.in_use,
                           " in use here; let the loader prefetch fewer batches");
       }});
  return *one;
}

/// Copies on a separate stream, numbered from 1 on. Events are reused in a ring: a copy
/// older than the ring has completed.
class Copies {
 public:
  std::uint64_t copy(void* to, const void* from, std::size_t bytes) {
    const OutsideCapture outside(takes_a_batch);
    const std::lock_guard lock(mutex_);
    if (!stream_) make();
    cudaEvent_t& done = ring_[(last_ + 1) % std::size(ring_)];
    check_status(cudaEventSynchronize(done), "cudaEventSynchronize");
    check_status(cudaEventRecord(queued_, stream()), "cudaEventRecord");
    check_status(cudaStreamWaitEvent(stream_, queued_, 0), "cudaStreamWaitEvent");
    check_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
    check_status(cudaEventRecord(done, stream_), "cudaEventRecord");
    return ++last_;
  }
  void queue_after(std::uint64_t number) {
    const OutsideCapture outside(takes_a_batch);
    const std::lock_guard lock(mutex_);
    if (const cudaEvent_t done = event_of(number))
      check_status(cudaStreamWaitEvent(stream(), done, 0), "cudaStreamWaitEvent");
  }
  void wait_for(std::uint64_t number) {
    refuse_in_capture(takes_a_batch);
    const std::lock_guard lock(mutex_);
    if (const cudaEvent_t done = event_of(number))
      check_status(cudaEventSynchronize(done), "cudaEventSynchronize");
  }

 private:
  void make() {
    for (cudaEvent_t& event : ring_)
      check_status(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    check_status(cudaEventCreateWithFlags(&queued_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    check_status(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  /// Null if that copy has completed.
  cudaEvent_t event_of(std::uint64_t number) const {
    return number == 0 || number + std::size(ring_) <= last_ ? nullptr : ring_[number % std::size(ring_)];
  }

  std::mutex mutex_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t queued_ = nullptr, ring_[16] = {};
  std::uint64_t last_ = 0;
};
Copies& copies() {
  static auto* one = new Copies;  // never destroyed: CUDA may be gone at exit
  return *one;
}

using Pool = CachingAllocator::Pool;
std::unique_ptr<Pool> captured_memory;  // while a step is captured

struct Graph {
  cudaGraphExec_t executable = nullptr;
  std::unique_ptr<Pool> memory;

  ~Graph() {
    // "If the executable graph is in-flight, it will not be terminated, but rather freed asynchronously on
    // completion". Its memory may be reused at once: work queued later runs later.
    if (executable) cudaGraphExecDestroy(executable);
    allocator().release_pool(*memory);
  }
};

void begin_capture() {
  enter_capture();
  try {
    captured_memory = std::make_unique<Pool>();
    // Relaxed: memory may be allocated during the capture. Forbidden operations are
    // refused before they reach CUDA.
    check_status(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  } catch (...) {
    leave_capture();
    throw;
  }
}
void* end_capture() {
  auto graph = std::make_unique<Graph>();
  cudaGraph_t kept = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream(), &kept);
  graph->memory = std::move(captured_memory);
  leave_capture();
  if (ended != cudaSuccess) cudaGetLastError();  // reported here: the device is unaffected
  check_status(ended, "cudaStreamEndCapture");
  const cudaError_t made = cudaGraphInstantiate(&graph->executable, kept, 0);
  cudaGraphDestroy(kept);
  if (made != cudaSuccess) {
    graph->executable = nullptr;
    cudaGetLastError();
  }
  check_status(made, "cudaGraphInstantiate");
  return graph.release();
}
void launch_graph(void* graph) {
  check_status(cudaGraphLaunch(static_cast<Graph*>(graph)->executable, stream()), "cudaGraphLaunch");
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
  table.allocate_pinned = [](std::size_t bytes) { return pinned_allocator().allocate(bytes); };
  table.deallocate_pinned = [](void* p, std::size_t bytes) { pinned_allocator().deallocate(p, bytes); };
  table.copy_beside = [](void* to, const void* from, std::size_t bytes) {
    return copies().copy(to, from, bytes);
  };
  table.queue_after = [](std::uint64_t number) { copies().queue_after(number); };
  table.wait_for = [](std::uint64_t number) { copies().wait_for(number); };
  table.begin_capture = begin_capture;
  table.end_capture = end_capture;
  table.launch = launch_graph;
  table.destroy_graph = [](void* graph) { delete static_cast<Graph*>(graph); };
  fill_kernel_groups(table);
  return table;
}

}  // namespace

cudaStream_t stream() {
  if (capture_under_way && !capturing) const std::lock_guard wait(capture_mutex);
  return the_stream;
}
std::uint64_t* fault_word() { return the_fault; }
void* allocate(std::size_t bytes) {
  return allocator().allocate(bytes, capturing ? captured_memory.get() : nullptr);
}
void deallocate(void* p, std::size_t bytes) noexcept { allocator().deallocate(p, bytes); }
void copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0)
    check_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()), "cudaMemcpyAsync");
}
void copy_to_host(void* to, const void* from, std::size_t bytes) {
  const OutsideCapture outside(reads_the_device);
  if (bytes > 0)
    check_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, the_stream), "cudaMemcpyAsync");
  wait(outside);
}

void* queue() { return stream(); }
bool queue_is_done() {
  const cudaError_t status = cudaStreamQuery(the_stream);
  if (status == cudaErrorNotReady) return false;
  check_status(status, "cudaStreamQuery");
  return true;
}

}  // namespace lpf::cuda

namespace lpf::backend::cuda {

bool register_backend();
bool register_backend() { return register_cuda(lpf::cuda::open); }

}  // namespace lpf::backend::cuda
