// Scratch memory of a thread, reused between calls.
#pragma once

#include <array>
#include <cstdint>
#include <new>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/core/os.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// What a buffer is for: functions that call each other use different ones.
enum class Scratch { panel, sums, replica, mirrored_replica, signs, scores, count };

/// A buffer of the thread with room for `bytes`, aligned to 64 bytes. Its content is lost when a larger one is
/// asked for.
inline void* scratch_bytes(Scratch which, std::size_t bytes) {
  struct Block {
    void* data = nullptr;
    std::size_t size = 0;
    ~Block() { ::operator delete (data, std::align_val_t{64}); }
  };
  using Blocks = std::array<Block, static_cast<std::size_t>(Scratch::count)>;
  Block& block = lpf::detail::os::of_thread<Blocks>()[static_cast<std::size_t>(which)];
  if (block.size < bytes) {
    ::operator delete (block.data, std::align_val_t{64});
    block.data = nullptr;
    block.size = 0;
    block.data = ::operator new (bytes, std::align_val_t{64});
    block.size = bytes;
  }
  return block.data;
}
template <class T>
T* scratch(Scratch which, std::int64_t count) {
  return static_cast<T*>(scratch_bytes(which, static_cast<std::size_t>(count) * sizeof(T)));
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
