// A caching allocator: freed blocks are kept by size class, so that a training step after the first asks the
// system for nothing. Not in the instruction-set namespace: a block may be freed by another translation unit
// than its maker.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include "lpf/backend/contract.hpp"

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
    const std::lock_guard lock(mutex_);
    auto& free_blocks = cache_[class_of(size)];
    void* block = nullptr;
    if (!free_blocks.empty()) {
      block = free_blocks.back();
      free_blocks.pop_back();
      stats_.cached -= size;
    } else {
      block = std::aligned_alloc(alignment, size);
      if (!block)
        fail<Error>("allocate", "out of memory: ", size, " bytes wanted, ", stats_.in_use, " in use");
      ++stats_.system_allocations;
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
    for (auto& blocks : cache_) {
      for (void* block : blocks) std::free(block);
      blocks.clear();
    }
    stats_.cached = 0;
  }

 private:
  // Sizes are m·2^e with m in {4..7}: four classes to an octave, at most a quarter wasted, none below 64
  // bytes.
  static std::size_t rounded(std::size_t bytes) {
    if (bytes <= 256) return std::max<std::size_t>((bytes + 63) / 64, 1) * 64;
    const std::size_t step = std::bit_floor(bytes - 1) / 4;
    return (bytes + step - 1) / step * step;
  }
  static std::size_t class_of(std::size_t size) {
    const auto exponent = static_cast<std::size_t>(std::bit_width(size) - 1);
    return exponent * 4 + ((size >> (exponent - 2)) & 3);
  }

  mutable std::mutex mutex_;
  std::vector<void*> cache_[64 * 4];
  MemoryStats stats_{};
};

}  // namespace lpf::backend::cpu
