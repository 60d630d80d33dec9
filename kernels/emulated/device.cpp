// The emulated device: runs kernels as functions on the CPU, over memory that only they may access. For tests
// on machines without a GPU. Fresh memory is filled with NaN, since a GPU's may contain any; with the address
// sanitizer, unallocated memory is poisoned, so that a kernel which leaves its array is detected.
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "../availability.hpp"
#include "../caching_allocator.hpp"
#include "../fault.hpp"
#include "../kernel_groups.hpp"
#include "../memory.hpp"
#include "arena.hpp"
#include "lpf/backend/cuda/queue.hpp"
#include "lpf/backend/registry.hpp"

#if defined(__has_feature)  // clang; GCC has it from version 14 on
#  define LPF_POISONS __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#  define LPF_POISONS 1
#else
#  define LPF_POISONS 0
#endif
#if LPF_POISONS
#  include <sanitizer/asan_interface.h>
#  define LPF_POISON(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
#  define LPF_UNPOISON(p, bytes) ASAN_UNPOISON_MEMORY_REGION(p, bytes)
#else
#  define LPF_POISON(p, bytes)
#  define LPF_UNPOISON(p, bytes)
#endif

namespace lpf::cuda {
namespace {

/// The region; pages are allocated by the system on first access.
class Arena {
 public:
  static Arena& instance() {
    static auto* arena = new Arena;
    return *arena;
  }

  void open() {
    const std::lock_guard lock(mutex_);
    if (++open_ == 1) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::lock_guard lock(mutex_);
    if (--open_ == 0) protect(PROT_NONE);
  }

  void* allocate(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (const auto found = free_.find(bytes); found != free_.end()) {
      void* block = found->second;
      free_.erase(found);
      return block;
    }
    const std::size_t size = (bytes + gap + alignment - 1) / alignment * alignment;
    if (size > capacity - used_) return nullptr;
    std::byte* block = begin_ + used_;
    used_ += size;
    touched_ = std::max(touched_, (used_ + page - 1) / page * page);
    if (open_ > 0) protect(PROT_READ | PROT_WRITE);
    return block;
  }
  void free(void* block, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    free_.emplace(bytes, block);
  }

 private:
  static constexpr std::size_t capacity = std::size_t{8} << 30, alignment = 256, gap = 64, page = 1 << 21;

  Arena() {
    constexpr std::size_t all = capacity + page;
    void* region = mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check<DeviceError>(region != MAP_FAILED, "device", "no address space for the emulated device");
    void* aligned = region;
    std::size_t space = all;
    begin_ = static_cast<std::byte*>(std::align(page, capacity, aligned, space));
    madvise(begin_, capacity, MADV_HUGEPAGE);  // mprotect then takes microseconds, not hundreds of them
    LPF_POISON(begin_, capacity);
  }
  void protect(int how) {
    if (touched_ > 0) mprotect(begin_, touched_, how);
  }

  std::mutex mutex_;
  int open_ = 0;
  std::byte* begin_;
  std::size_t used_ = 0, touched_ = 0;
  std::multimap<std::size_t, void*> free_;
};

CachingAllocator& allocator() {
  static auto* one =
      new CachingAllocator({[](std::size_t bytes) { return Arena::instance().allocate(bytes); },
                            [](void* block, std::size_t bytes) { Arena::instance().free(block, bytes); },
                            [](std::size_t bytes, const MemoryStats& stats) {
                              fail<OutOfMemoryError>("allocate", "out of memory on cuda:0: ", bytes,
                                                     " bytes wanted, ", stats.in_use, " in use");
                            }});
  return *one;
}

/// Asynchronous copies: performed as late as possible, when somebody waits for them, so that code which does
/// not wait reads the NaNs of fresh memory, and memory that is overwritten too early gives wrong data.
class Copies {
 public:
  std::uint64_t copy(void* to, const void* from, std::size_t bytes) {
    const OutsideCapture outside(takes_a_batch);
    const std::lock_guard lock(mutex_);
    waiting_.push_back({to, from, bytes});
    return ++last_;
  }
  void make_up_to(std::uint64_t number) {
    refuse_in_capture(takes_a_batch);
    const std::lock_guard lock(mutex_);
    for (; made_ < number; ++made_) {
      lpf::cuda::copy(waiting_.front().to, waiting_.front().from, waiting_.front().bytes);
      waiting_.erase(waiting_.begin());
    }
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  std::mutex mutex_;
  std::vector<Copy> waiting_;
  std::uint64_t last_ = 0, made_ = 0;
};
Copies& copies() {
  static auto* one = new Copies;
  return *one;
}

/// The work of a captured step, to be run in that order.
struct Graph {
  std::vector<std::function<void()>> work;
  CachingAllocator::Pool memory;
  ~Graph() { allocator().release_pool(memory); }
};
std::unique_ptr<Graph> captured;  // by the capturing thread

const Table& open(int index) {
  check_usable(index,
               {.driver = 1, .runtime = 1, .devices = 1, .says = "", .major = 7, .minor = 5, .name = ""});
  static const Table table = [] {
    Table t{};
    t.version = backend::contract_version;
    t.name = "cuda (emulated)";
    t.allocate = allocate;
    t.deallocate = deallocate;
    t.copy = copy;
    t.copy_from_host = [](void* to, const void* from, std::size_t bytes) {
      const OutsideCapture outside(copies_from_host);
      copy(to, from, bytes);
      check_faults();
    };
    t.copy_to_host = copy_to_host;
    t.synchronize = [] {
      const OutsideCapture outside(reads_the_device);
      check_faults();
    };
    t.max_threads = [] { return 1; };
    t.memory_stats = [] { return allocator().stats(); };
    t.reset_peak = [] { allocator().reset_peak(); };
    t.release_cache = [] { allocator().release_cache(); };
    t.allocate_pinned = [](std::size_t bytes) { return ::operator new(bytes); };
    t.deallocate_pinned = [](void* p, std::size_t) { ::operator delete(p); };
    t.copy_beside = [](void* to, const void* from, std::size_t bytes) {
      return copies().copy(to, from, bytes);
    };
    t.queue_after = [](std::uint64_t number) { copies().make_up_to(number); };
    t.wait_for = t.queue_after;
    t.begin_capture = [] {
      enter_capture();
      captured = std::make_unique<Graph>();
    };
    t.end_capture = []() -> void* {
      Graph* graph = captured.release();
      leave_capture();
      return graph;
    };
    t.launch = [](void* graph) {
      const Access access;
      for (const auto& work : static_cast<Graph*>(graph)->work) work();
    };
    t.destroy_graph = [](void* graph) { delete static_cast<Graph*>(graph); };
    fill_kernel_groups(t);
    return t;
  }();
  return table;
}

}  // namespace

Access::Access() { Arena::instance().open(); }
Access::~Access() { Arena::instance().close(); }

void keep(std::function<void()> work) { captured->work.push_back(std::move(work)); }

void* allocate(std::size_t bytes) {
  void* block = allocator().allocate(bytes, capturing ? &captured->memory : nullptr);
  perform([=] {  // if captured, with every replay
    LPF_UNPOISON(block, bytes);
    std::memset(block, 0xFF, bytes);
  });
  return block;
}
void deallocate(void* p, std::size_t bytes) noexcept {
#if LPF_POISONS
  const auto close = [=] { LPF_POISON(p, bytes); };
  capturing ? keep(close) : close();
#endif
  allocator().deallocate(p, bytes);
}

void copy(void* to, const void* from, std::size_t bytes) {
  perform([=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  });
}
void copy_to_host(void* to, const void* from, std::size_t bytes) {
  const OutsideCapture outside(reads_the_device);
  copy(to, from, bytes);
  check_faults();
}
std::uint64_t* fault_word() {
  static std::uint64_t word = 0;
  return &word;
}

void* queue() { return nullptr; }
bool queue_is_done() { return true; }

bool register_emulated() { return backend::register_cuda(open); }

}  // namespace lpf::cuda
