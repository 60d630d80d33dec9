// A caching allocator: freed blocks are cached by size class, so that a training step after the first
// allocates nothing from the system. Work is queued on one stream, so a block may be reused before the work
// that used it has run. A captured step has its own blocks, in a pool: every replay of its graph uses their
// addresses, so they are reserved until it is destroyed. The CPU's allocator (lpf/backend/cpu/allocator.hpp)
// also has a cache for each thread.
#pragma once

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

using backend::MemoryStats;

class CachingAllocator {
 public:
  /// The source of blocks: `allocate` returns null if memory is exhausted, and `refuse` throws the error.
  struct System {
    void* (*allocate)(std::size_t bytes);
    void (*free)(void* block, std::size_t bytes);
    void (*refuse)(std::size_t bytes, const MemoryStats&);
  };
  explicit CachingAllocator(System system) : system_(system) {}

  /// The free blocks of one captured step, by size. Free or not, they count as in use.
  using Pool = std::map<std::size_t, std::vector<void*>>;

  /// Takes a block from `pool`, or allocates one for it, if there is a pool.
  void* allocate(std::size_t bytes, Pool* pool = nullptr) {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    if (pool) {
      void* block = nullptr;
      if (auto& kept = (*pool)[size]; !kept.empty()) {
        block = kept.back();
        kept.pop_back();
      } else {
        block = take(size);
      }
      pool_of_[block] = pool;
      return block;
    }
    return take(size);
  }

  void deallocate(void* block, std::size_t bytes) noexcept {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    if (const auto found = pool_of_.find(block); found != pool_of_.end()) {
      (*found->second)[size].push_back(block);
      pool_of_.erase(found);
      return;
    }
    give_back(block, size);
  }

  /// Releases the pool: its free blocks become available to all, the others when they are freed.
  void release_pool(const Pool& pool) noexcept {
    const std::lock_guard lock(mutex_);
    for (const auto& [size, blocks] : pool)
      for (void* block : blocks) give_back(block, size);
    std::erase_if(pool_of_, [&](const auto& used) { return used.second == &pool; });
  }

  MemoryStats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }
  void release_cache() {
    const std::lock_guard lock(mutex_);
    release();
  }

  // Sizes are m·2^e with m in {4..7}: four classes to an octave, at most a
  // quarter wasted, none below 64 bytes.
  static std::size_t rounded(std::size_t bytes) {
    if (bytes <= 256) return std::max<std::size_t>((bytes + 63) / 64, 1) * 64;
    const std::size_t step = std::bit_floor(bytes - 1) / 4;
    return (bytes + step - 1) / step * step;
  }

 private:
  static std::size_t class_of(std::size_t size) {
    const auto exponent = static_cast<std::size_t>(std::bit_width(size) - 1);
    return exponent * 4 + ((size >> (exponent - 2)) & 3);
  }

  void* take(std::size_t size) {
    auto& free_blocks = cache_[class_of(size)];
    void* block = nullptr;
    if (!free_blocks.empty()) {
      block = free_blocks.back();
      free_blocks.pop_back();
      stats_.cached -= size;
    } else {
      block = from_system(size);
    }
    stats_.in_use += size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return block;
  }
  void give_back(void* block, std::size_t size) {
    stats_.in_use -= size;
    stats_.cached += size;
    cache_[class_of(size)].push_back(block);
  }

  void* from_system(std::size_t size) {
    void* block = system_.allocate(size);
    if (!block && stats_.cached > 0) {  // free the blocks cached for other sizes, and retry
      release();
      block = system_.allocate(size);
    }
    if (!block) system_.refuse(size, stats_);
    ++stats_.system_allocations;
    return block;
  }
  void release() {
    for (std::size_t i = 0; i < std::size(cache_); ++i) {
      while (!cache_[i].empty()) {
        const std::size_t size = (4 + i % 4) << (i / 4 - 2);
        void* const block = cache_[i].back();
        cache_[i].pop_back();  // first: if freeing fails, the block is lost, but not freed twice
        stats_.cached -= size;
        system_.free(block, size);
      }
    }
  }

  System system_;
  mutable std::mutex mutex_;
  std::vector<void*> cache_[64 * 4];
  std::unordered_map<void*, Pool*> pool_of_;  // the pool of each block in use that belongs to one
  MemoryStats stats_{};
};

}  // namespace lpf::cuda
