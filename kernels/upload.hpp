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

}  // namespace detail

/// A copy on the device of n elements of the host's, which may change or go once this is made. They travel as
/// arguments of a kernel: in the order of the stream, and without waiting for it.
template <class T>
class Upload {
 public:
  Upload(const T* from, std::int64_t n) : memory_(elements(n)) {
    auto* to = reinterpret_cast<detail::UploadWord*>(memory_.data());
    const auto* bytes = reinterpret_cast<const std::byte*>(from);
    const auto all = static_cast<std::size_t>(n) * sizeof(T);
    for (std::size_t done = 0; done < all; done += sizeof(detail::UploadPiece)) {
      detail::WritePiece write{{}, to + done / word};
      const std::size_t size = std::min(sizeof write.piece, all - done);
      std::memcpy(&write.piece, bytes + done, size);
      each(static_cast<std::int64_t>((size + word - 1) / word), write);
    }
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
