// Convolutions as products: for one tile of output pixels and one tap at a time, the source pixels are
// gathered into a small buffer of the thread (im2col) and multiplied by the filters; the input is never
// unfolded as a whole. For filters too large for conv_direct.hpp, and for narrow images.
#pragma once

#include "lpf/backend/cpu/conv_gather.hpp"
#include "lpf/backend/cpu/gemm_float64.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// to[row, channel] for output pixels [begin, end), numbered over all samples: the first `channels` of the
/// source pixel that each reads at tap t.
template <class T>
void gather_tile(const Gather& g, const T* from, std::int64_t channels, std::int64_t begin, std::int64_t end,
                 std::int64_t t, T* to) {
  const std::int64_t at_h = g.first_h + t / g.taps_w * g.tap_h, at_w = g.first_w + t % g.taps_w * g.tap_w;
  for (std::int64_t row = begin; row < end; ++row, to += channels) {
    const std::int64_t y = row / g.cols % g.rows * g.step_h + at_h, x = row % g.cols * g.step_w + at_w;
    if (y >= 0 && y < g.h && x >= 0 && x < g.w) {
      std::copy_n(from + ((row / (g.cols * g.rows) * g.h + y) * g.w + x) * g.c, channels, to);
    } else {
      std::fill_n(to, channels, T(0));
    }
  }
}

/// Rows of a batch cut into tiles of at most `tile` rows, none of which spans two slices.
class SliceTiles {
 public:
  SliceTiles(std::int64_t samples, std::int64_t replicas, const std::int64_t* slice_begin,
             std::int64_t pixels, std::int64_t tile)
      : tile_(tile), first_{0} {
    for (std::int64_t r = 0; r <= replicas; ++r)
      begin_.push_back((replicas == 1 ? r * samples : slice_begin[r]) * pixels);
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

/// Rows in a tile of `columns` columns, so that it fits the cache.
inline std::int64_t tile_rows(std::int64_t columns) {
  return std::clamp<std::int64_t>(65536 / std::max<std::int64_t>(1, columns) / 16 * 16, 32, 256);
}

/// C (m×n, rows ldc apart) += op(A)·op(B).
template <class T>
void add_product(bool ta, bool tb, std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                 std::int64_t lda, const T* b, std::int64_t ldb, T* c, std::int64_t ldc) {
  const Gemm g{dtype_of<T>(), ta, tb, m, n, k, a, lda, 0, b, ldb, 0, c, ldc, 0, 1, 1.0, 1.0};
  gemm_tile(g, a, b, c, 0, m, 0, n);
}

template <class T>
void convolve_by_products(const Convolution<T>& c) {
  const Gather& g = c.g;
  const bool identity = g.is_identity(), transposed = c.in_stride == 1;
  const bool dense = c.row_stride == g.cols * c.pixel_stride && c.sample_stride == g.rows * c.row_stride;
  const std::int64_t tile = tile_rows(c.in), channels_in = g.c, groups = c.groups;
  const SliceTiles tiles(c.samples, c.replicas, c.slice_begin, g.rows * g.cols, tile);
  auto work = [&](std::int64_t begin, std::int64_t end) {
    T* const gathered = conv_scratch<T, 0>(tile * c.in);
    T* const result = conv_scratch<T, 1>(tile * c.out);
    for (std::int64_t u = begin; u < end; ++u) {
      const auto [slice, first, last] = tiles[u / groups];
      const std::int64_t group = u % groups, rows = last - first;
      T* const to = dense ? c.target + first * c.pixel_stride + group * c.out : result;
      const std::int64_t ld = dense ? c.pixel_stride : c.out;
      const T* const bias = c.bias ? c.bias + slice * c.bias_stride + group * c.out : nullptr;
      for (std::int64_t i = 0; i < rows; ++i) {
        if (bias) {
          std::copy_n(bias, c.out, to + i * ld);
        } else {
          std::fill_n(to + i * ld, c.out, T(0));
        }
      }
      const T* const source = c.source + group * c.in;
      for (std::int64_t t = 0; t < g.taps(); ++t) {
        if (!identity) gather_tile(g, source, c.in, first, last, t, gathered);
        const T* const filters = c.filters + slice * c.filter_stride + group * c.group_stride +
                                 c.tap_offset[static_cast<std::size_t>(t)];
        add_product(false, transposed, rows, c.out, c.in, identity ? source + first * channels_in : gathered,
                    identity ? channels_in : c.in, filters, transposed ? c.out_stride : c.in_stride, to, ld);
      }
      for (std::int64_t row = first; !dense && row < last; ++row)
        std::copy_n(result + (row - first) * c.out, c.out,
                    c.target + row / (g.rows * g.cols) * c.sample_stride +
                        row / g.cols % g.rows * c.row_stride + row % g.cols * c.pixel_stride + group * c.out);
    }
  };
  parallel_for(tiles.count() * groups, conv_grain(tile * g.taps() * c.in * c.out), work);
}

/// dw [groups·out, taps, in] is computed in parts: some channels of one tap, in all groups.
inline std::int64_t product_width(std::int64_t in) { return std::min<std::int64_t>(in, 256); }

/// Channels [c0, c0 + product_width(in)) of tap t of dw = Σ dy·x over the samples
/// [begin, end) of a gather from x.
template <class T>
void filter_by_products(const Gather& g, std::int64_t begin, std::int64_t end, std::int64_t groups,
                        std::int64_t in, std::int64_t out, std::int64_t t, std::int64_t c0, const T* x,
                        const T* dy, T* dw) {
  const std::int64_t depth = g.taps() * in, width = std::min(product_width(in), in - c0),
                     tile = 2 * tile_rows(width);
  T* const gathered = conv_scratch<T, 0>(tile * width);
  const bool identity = g.is_identity();
  for (std::int64_t group = 0; group < groups; ++group) {
    T* const to = dw + group * out * depth + t * in + c0;
    for (std::int64_t k = 0; k < out; ++k) std::fill_n(to + k * depth, width, T(0));
    const T* const from = x + group * in + c0;
    for (std::int64_t row = begin * g.rows * g.cols; row < end * g.rows * g.cols; row += tile) {
      const std::int64_t last = std::min(row + tile, end * g.rows * g.cols);
      if (!identity) gather_tile(g, from, width, row, last, t, gathered);
      add_product(true, false, out, width, last - row, dy + (row * groups + group) * out, groups * out,
                  identity ? from + row * g.c : gathered, identity ? g.c : width, to, depth);
    }
  }
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
