// What the convolution kernels share: gathering the input pixels that a tile of output pixels reads (im2col
// of a tile) into a small buffer of the thread, and cutting a batch into tiles.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "lpf/backend/cpu/gemm.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Which source pixels an output pixel reads: tap (u, v) of output (i, j) reads source pixel
/// (i·step_h + first_h + u·tap_h, j·step_w + first_w + v·tap_w), or zero outside the source.
struct Gather {
  std::int64_t rows, cols;  // output pixels of a sample
  std::int64_t h, w, c;     // the source [n, h, w, c]
  std::int64_t step_h, step_w, first_h, first_w, tap_h, tap_w;
  std::int64_t taps_h, taps_w;

  std::int64_t taps() const { return taps_h * taps_w; }
  /// Output pixel i reads source pixel i alone: there is nothing to gather.
  bool is_identity() const {
    return taps() == 1 && step_h == 1 && step_w == 1 && first_h == 0 && first_w == 0 && rows == h &&
           cols == w;
  }
};

/// A buffer that the thread keeps.
template <class T, int which>
T* conv_scratch(std::int64_t count) {
  struct Block {
    void* data = nullptr;
    std::size_t bytes = 0;
    ~Block() { ::operator delete (data, std::align_val_t{64}); }
  };
  thread_local Block block;
  if (const auto bytes = static_cast<std::size_t>(count) * sizeof(T); block.bytes < bytes) {
    ::operator delete (block.data, std::align_val_t{64});
    block = Block{nullptr, 0};
    block.data = ::operator new (bytes, std::align_val_t{64});
    block.bytes = bytes;
  }
  return static_cast<T*>(block.data);
}

/// to[row, tap, channel] for output pixels [begin, end) of all samples, counted through, and taps [t0, t1):
/// the first `channels` of each source pixel.
template <class T>
void gather_tile(const Gather& g, const T* from, std::int64_t channels, std::int64_t begin, std::int64_t end,
                 std::int64_t t0, std::int64_t t1, T* to) {
  const bool neighbours = g.tap_w == 1 && channels == g.c;  // a row of taps lies in one piece
  const auto copy = [](T* out, const T* in, std::int64_t n) {
    std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(T));
  };
  std::int64_t j = begin % g.cols, i = begin / g.cols % g.rows;
  const T* sample = from + begin / (g.cols * g.rows) * g.h * g.w * g.c;
  for (std::int64_t row = begin; row < end; ++row) {
    for (std::int64_t t = t0; t < t1;) {
      const std::int64_t v = t % g.taps_w, run = neighbours ? std::min(t1 - t, g.taps_w - v) : 1;
      const std::int64_t y = i * g.step_h + g.first_h + t / g.taps_w * g.tap_h;
      const std::int64_t x = j * g.step_w + g.first_w + v * g.tap_w;
      std::int64_t lo = 0, hi = 0;  // the taps of this run that lie inside
      if (y >= 0 && y < g.h) {
        hi = std::clamp<std::int64_t>(g.w - x, 0, run);
        lo = std::clamp<std::int64_t>(-x, 0, hi);
      }
      std::fill(to, to + lo * channels, T(0));
      if (hi > lo) copy(to + lo * channels, sample + (y * g.w + x + lo) * g.c, (hi - lo) * channels);
      std::fill(to + hi * channels, to + run * channels, T(0));
      to += run * channels;
      t += run;
    }
    if (++j == g.cols) {
      j = 0;
      if (++i == g.rows) {
        i = 0;
        sample += g.h * g.w * g.c;
      }
    }
  }
}

/// Rows of a batch cut into tiles of at most `tile`, none of which crosses from one slice into the next.
class SliceTiles {
 public:
  SliceTiles(const Conv2d& c, std::int64_t pixels, std::int64_t tile) : tile_(tile), first_{0} {
    for (std::int64_t r = 0; r <= c.replicas; ++r)
      begin_.push_back((c.replicas == 1 ? r * c.n : c.slice_begin[r]) * pixels);
    for (std::size_t r = 0; r + 1 < begin_.size(); ++r)
      first_.push_back(first_.back() + (begin_[r + 1] - begin_[r] + tile - 1) / tile);
  }
  std::int64_t count() const { return first_.back(); }

  struct Tile {
    std::int64_t slice, begin, end;
  };
  Tile operator[](std::int64_t i) const {
    const auto r =
        static_cast<std::size_t>(std::upper_bound(first_.begin(), first_.end(), i) - first_.begin() - 1);
    const std::int64_t begin = begin_[r] + (i - first_[r]) * tile_;
    return {static_cast<std::int64_t>(r), begin, std::min(begin + tile_, begin_[r + 1])};
  }

 private:
  std::int64_t tile_;
  std::vector<std::int64_t> begin_, first_;  // of each slice: its first row, its first tile
};

/// Taps in one product (their columns should be a few hundred), and rows in a tile of that many columns (it
/// should fit the cache).
inline std::int64_t taps_at_once(std::int64_t taps, std::int64_t channels) {
  return std::clamp<std::int64_t>(512 / std::max<std::int64_t>(1, channels), 1,
                                  std::max<std::int64_t>(1, taps));
}
inline std::int64_t tile_rows(std::int64_t columns) {
  return std::clamp<std::int64_t>(65536 / std::max<std::int64_t>(1, columns) / 16 * 16, 32, 256);
}
inline std::int64_t conv_grain(std::int64_t work) {
  return std::max<std::int64_t>(1, (1 << 17) / std::max<std::int64_t>(1, work));
}

/// C (m×n, rows ldc apart) = op(A)·op(B), or added to it.
template <class T>
void tile_product(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                  std::int64_t lda, const T* b, std::int64_t ldb, bool add, T* c, std::int64_t ldc) {
  const Gemm g{dtype_of<T>(), ta, tb, m, n, k, a, lda, 0, b, ldb, 0, c, ldc, 0, 1, 1.0, add ? 1.0 : 0.0};
  gemm_tile(g, a, b, c, 0, m, 0, n);
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
