// Small arrays of the host's for kernels: where slices begin, the segments of θ.
#pragma once

#include <algorithm>
#include <cstring>

#include "launch.hpp"
#include "memory.hpp"

namespace lpf::cuda {

namespace detail {

using UploadWord = std::uint64_t;
/// As much as travels with one launch: 3.5 of the 4 KiB that a kernel's arguments may have.
struct UploadPiece {
  UploadWord word[448];
};
struct WritePiece {
  UploadPiece piece;
  UploadWord* to;
  LPF_DEVICE void operator()(std::int64_t i) const { to[i] = piece.word[i]; }
};

/// Whole words of the host's to the device, which may change or go once this returns. They travel as
/// arguments of a kernel: in the order of the stream, and without waiting for it.
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

/// A copy on the device of n elements of the host's.
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
  /// n, rounded up so that whole words fit.
  static std::int64_t elements(std::int64_t n) {
    return n + static_cast<std::int64_t>((word + sizeof(T) - 1) / sizeof(T));
  }

  Scratch<T> memory_;
};

}  // namespace lpf::cuda
