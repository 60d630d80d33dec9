// Small host arrays for kernels: the first rows of slices, the segments of θ.
#pragma once

#include <algorithm>
#include <cstring>

#include "launch.hpp"
#include "memory.hpp"

namespace lpf::cuda {

namespace detail {

using UploadWord = std::uint64_t;
/// The data passed with one launch: 3.5 of the 4 KiB of a kernel's arguments.
struct UploadPiece {
  UploadWord word[448];
};
struct WritePiece {
  UploadPiece piece;
  UploadWord* to;
  LPF_DEVICE void operator()(std::int64_t i) const { to[i] = piece.word[i]; }
};

/// Copies whole words from the host to the device; the source may change once this returns. They are passed
/// as kernel arguments: in stream order, without synchronisation.
inline void upload(UploadWord* to, const void* from, std::size_t bytes) {
  constexpr std::size_t word = sizeof(UploadWord);
  for (std::size_t done = 0; done < bytes; done += sizeof(UploadPiece)) {
    WritePiece write{{}, to + done / word};
    const std::size_t size = std::min(sizeof write.piece, bytes - done);
    std::memcpy(&write.piece, static_cast<const std::byte*>(from) + done, size);
    each(static_cast<std::int64_t>((size + word - 1) / word), write);
  }
}

}  // namespace detail

/// A copy on the device of n host elements.
template <class T>
class Upload {
 public:
  Upload(const T* from, std::int64_t n) : memory_(elements(n)) {
    detail::upload(reinterpret_cast<detail::UploadWord*>(memory_.data()), from,
                   static_cast<std::size_t>(n) * sizeof(T));
  }
  const T* data() const { return memory_.data(); }

 private:
  static constexpr std::size_t word = sizeof(detail::UploadWord);
  /// n, rounded up to whole words.
  static std::int64_t elements(std::int64_t n) {
    return n + static_cast<std::int64_t>((word + sizeof(T) - 1) / sizeof(T));
  }

  Scratch<T> memory_;
};

}  // namespace lpf::cuda
