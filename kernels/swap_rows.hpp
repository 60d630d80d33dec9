// Replicas as groups of channels: converts [replicas, pixels, channels] to
// [pixels, replicas, channels] and back.
#pragma once

#include <cstdint>

#include "launch.hpp"

namespace lpf::cuda {

struct alignas(16) SixteenBytes {
  std::uint64_t half[2];
};

/// to [columns, rows, words] = from [rows, columns, words].
template <class Word>
struct SwapRows {
  std::int64_t rows, columns, words;
  const Word* from;
  Word* to;
  LPF_DEVICE void operator()(std::int64_t i) const {
    const std::int64_t pair = i / words, row = pair % rows, column = pair / rows;
    to[i] = from[(row * columns + column) * words + i % words];
  }
};

/// Likewise with `bytes` (an even number) instead of words.
inline void swap_rows(std::int64_t rows, std::int64_t columns, std::int64_t bytes, const void* from,
                      void* to) {
  const auto move = [&](auto word) {
    using Word = decltype(word);
    const std::int64_t words = bytes / static_cast<std::int64_t>(sizeof(Word));
    each(rows * columns * words,
         SwapRows<Word>{rows, columns, words, static_cast<const Word*>(from), static_cast<Word*>(to)});
  };
  const auto places = reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(to) |
                      static_cast<std::uintptr_t>(bytes);
  if (places % 16 == 0) return move(SixteenBytes{});
  if (places % 4 == 0) return move(std::uint32_t{});
  move(std::uint16_t{});
}

}  // namespace lpf::cuda
