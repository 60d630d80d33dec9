// Small arrays of the host's for kernels: where slices begin, the segments of θ.
#pragma once

#include <algorithm>
#include <cstring>

#include "launch.hpp"
#include "memory.hpp"

namespace lpf::cuda {

/// A copy on the device of n elements of the host's, which may change or go once this is made. They travel as
/// arguments of a kernel: in the order of the stream, and without waiting for it.
template <class T>
class Upload {
 public:
  Upload(const T* from, std::int64_t n)
      : memory_(words(n) * std::int64_t{sizeof(Word)} / std::int64_t{sizeof(T)} + 1) {
    auto* to = reinterpret_cast<Word*>(memory_.data());
    const auto bytes = static_cast<std::size_t>(n) * sizeof(T);
    for (std::size_t done = 0; done < bytes; done += sizeof(Piece)) {
      Piece piece{};
      const std::size_t size = std::min(sizeof(Piece), bytes - done);
      std::memcpy(&piece, reinterpret_cast<const std::byte*>(from) + done, size);
      write(piece, static_cast<std::int64_t>((size + sizeof(Word) - 1) / sizeof(Word)),
            to + done / sizeof(Word));
    }
  }
  const T* data() const { return memory_.data(); }

 private:
  using Word = std::uint64_t;
  struct Piece {
    Word word[448];  // 3.5 of the 4 KiB that a kernel's arguments may have
  };
  struct Write {
    Piece piece;
    Word* to;
    LPF_DEVICE void operator()(std::int64_t i) const { to[i] = piece.word[i]; }
  };
  static std::int64_t words(std::int64_t n) {
    return (n * std::int64_t{sizeof(T)} + std::int64_t{sizeof(Word)} - 1) / std::int64_t{sizeof(Word)};
  }
  static void write(const Piece& piece, std::int64_t n, Word* to) { each(n, Write{piece, to}); }

  Scratch<T> memory_;
};

}  // namespace lpf::cuda
