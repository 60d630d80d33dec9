// A caching allocator: freed blocks are cached by size class, so that a training step after the first
// allocates nothing from the system. Not in the instruction-set namespace: a block may be freed by another
// translation unit than the one that allocated it.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <new>
#include <vector>

#include "lpf/backend/contract.hpp"
#include "lpf/core/os.hpp"

namespace lpf::backend::cpu {

class CachingAllocator {
 public:
  static constexpr std::size_t alignment = 64;

  /// The process-wide allocator. Never destroyed: tensors of static lifetime may outlive any other static.
  static CachingAllocator& instance() {
    static auto* allocator = new CachingAllocator;
    return *allocator;
  }

  void* allocate(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    void* block = nullptr;
    if (ThreadCache* own = thread_cache()) block = own->take(size);
    if (!block) {
      const std::lock_guard lock(mutex_);
      block = take(cache_[class_of(size)]);
      if (!block) {
        block = lpf::detail::os::allocate_aligned(alignment, size);
        if (!block)
          fail<OutOfMemoryError>("allocate", "out of memory: ", size, " bytes wanted, ", in_use_.load(),
                                 " in use: use smaller batches or models, or free tensors");
        ++system_allocations_;
        held_ += size;
      }
    }
    const std::size_t now = in_use_ += size;
    for (std::size_t peak = peak_; now > peak && !peak_.compare_exchange_weak(peak, now);) {}
    return block;
  }

  void deallocate(void* block, std::size_t bytes) noexcept {
    const std::size_t size = rounded(bytes);
    in_use_ -= size;
    if (ThreadCache* own = thread_cache(); own && own->keep(block, size)) return;
    const std::lock_guard lock(mutex_);
    cache_[class_of(size)].push_back(block);
  }

  MemoryStats stats() const {
    const std::size_t in_use = in_use_, held = held_;
    return {in_use, peak_, held - std::min(held, in_use), system_allocations_};
  }
  void reset_peak() { peak_ = in_use_.load(); }
  /// Frees the cached blocks, except those in other threads' caches.
  void release_cache() {
    if (ThreadCache* own = thread_cache()) own->clear();
    const std::lock_guard lock(mutex_);
    for (std::size_t c = 0; c < classes; ++c) {
      if (cache_[c].empty()) continue;  // no sizes below 64
      for (void* block : cache_[c]) lpf::detail::os::free_aligned(block);
      held_ -= cache_[c].size() * size_of_class(c);
      cache_[c].clear();
    }
  }

 private:
  static constexpr std::size_t classes = 64 * 4;
  using Blocks = std::vector<void*>;

  static void* take(Blocks& blocks) {
    if (blocks.empty()) return nullptr;
    void* block = blocks.back();
    blocks.pop_back();
    return block;
  }

  /// Some megabytes of blocks that a thread freed and will reuse: they are still in its core's cache. Passing
  /// them between threads would move them between caches, and the lock with them: a fifth of a step where two
  /// threads train two small networks. A thread caches at most as many blocks as it took: one that frees
  /// blocks allocated by another (the batches of a loader) returns them.
  class ThreadCache {
   public:
    ~ThreadCache() {
      clear();
      gone_ = true;
    }
    void* take(std::size_t size) {
      ++taken_[class_of(size)];
      void* block = CachingAllocator::take(blocks_[class_of(size)]);
      if (block) bytes_ -= size;
      return block;
    }
    bool keep(void* block, std::size_t size) {
      constexpr std::size_t most = 8 << 20;
      if (taken_[class_of(size)] == 0) return false;
      --taken_[class_of(size)];
      if (bytes_ + size > most) return false;
      blocks_[class_of(size)].push_back(block);
      bytes_ += size;
      return true;
    }
    /// Returns all blocks to the allocator.
    void clear() {
      CachingAllocator& all = instance();
      const std::lock_guard lock(all.mutex_);
      for (std::size_t c = 0; c < classes; ++c) {
        all.cache_[c].insert(all.cache_[c].end(), blocks_[c].begin(), blocks_[c].end());
        blocks_[c].clear();
      }
      bytes_ = 0;
    }
    static inline thread_local bool gone_ = false;  // tensors of static lifetime are freed afterwards

   private:
    Blocks blocks_[classes];
    std::uint32_t taken_[classes] = {};  // blocks taken minus blocks freed by this thread
    std::size_t bytes_ = 0;
  };
  static ThreadCache* thread_cache() {
    if (ThreadCache::gone_) return nullptr;
    return &lpf::detail::os::of_thread<ThreadCache>();
  }

  // Sizes are m·2^e with m in {4..7}: four classes to an octave, at most a
  // quarter wasted, none below 64 bytes.
  static std::size_t rounded(std::size_t bytes) {
    if (bytes <= 256) return std::max<std::size_t>((bytes + 63) / 64, 1) * 64;
    const std::size_t step = std::bit_floor(bytes - 1) / 4;
    return (bytes + step - 1) / step * step;
  }
  static std::size_t class_of(std::size_t size) {
    const std::size_t exponent = 63u - static_cast<unsigned>(std::countl_zero(std::uint64_t{size}));
    return exponent * 4 + ((size >> (exponent - 2)) & 3);
  }
  static std::size_t size_of_class(std::size_t c) { return (4 + c % 4) << (c / 4 - 2); }

  std::mutex mutex_;
  Blocks cache_[classes];
  std::atomic<std::size_t> in_use_{0}, peak_{0}, held_{0};  // held_: from the system, in use or cached
  std::atomic<std::uint64_t> system_allocations_{0};
};

}  // namespace lpf::backend::cpu
