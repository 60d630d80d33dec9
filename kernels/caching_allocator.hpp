// A caching allocator: freed blocks are kept by size class, so that a training step after the first asks the
// system for nothing. Work is queued on one stream, so a block may be handed out again before the work that
// used it has run. The CPU's (lpf/backend/cpu/allocator.hpp) has lists for each thread besides.
#pragma once

#include <algorithm>
#include <bit>
#include <mutex>
#include <vector>

#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

using backend::MemoryStats;

class CachingAllocator {
 public:
  /// Where blocks come from: `allocate` returns null where there is no more, which `refuse` then says by an
  /// error.
  struct System {
    void* (*allocate)(std::size_t bytes);
    void (*free)(void* block, std::size_t bytes);
    void (*refuse)(std::size_t bytes, const MemoryStats&);
  };
  explicit CachingAllocator(System system) : system_(system) {}

  void* allocate(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
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

  void deallocate(void* block, std::size_t bytes) noexcept {
    const std::size_t size = rounded(bytes);
    const std::lock_guard lock(mutex_);
    stats_.in_use -= size;
    stats_.cached += size;
    cache_[class_of(size)].push_back(block);
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

  // Sizes are m·2^e with m in {4..7}: four classes to an octave, at most a quarter wasted, none below 64
  // bytes.
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

  void* from_system(std::size_t size) {
    void* block = system_.allocate(size);
    if (!block && stats_.cached > 0) {  // what is kept for other sizes may do
      release();
      block = system_.allocate(size);
    }
    if (!block) system_.refuse(size, stats_);
    ++stats_.system_allocations;
    return block;
  }
  void release() {
    for (std::size_t i = 0; i < std::size(cache_); ++i) {
      for (void* block : cache_[i]) system_.free(block, (4 + i % 4) << (i / 4 - 2));
      cache_[i].clear();
    }
    stats_.cached = 0;
  }

  System system_;
  mutable std::mutex mutex_;
  std::vector<void*> cache_[64 * 4];
  MemoryStats stats_{};
};

}  // namespace lpf::cuda
