// Convolutions by the kernel of conv_kernel.hpp. Only the padding is
// materialised, for a band of rows at a time.
#pragma once

#include "lpf/backend/cpu/conv_gather.hpp"
#include "lpf/backend/cpu/conv_kernel.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// True where the kernel is faster: rows of several pixels, and filters of which one width fits the cache.
inline bool direct_serves(const Gather& g, std::int64_t in, std::int64_t out) {
  return g.cols >= 4 && g.taps() > 0 && g.taps() * in * out <= (1 << 22);
}

/// Output pixels in a band: a few hundred, fewer if they are large.
inline std::int64_t band_pixels(const Gather& g) {
  return std::clamp<std::int64_t>(65536 / std::max<std::int64_t>(1, g.c), 96, 384);
}

/// The input of the output rows [i0, i1) of the samples [n0, n1), from the first tap of the first pixel on,
/// copied with its padding where there is any.
template <class T>
struct Band {
  const T* data;
  std::int64_t row, sample;  // elements between rows, between samples

  Band(const Gather& g, const T* source, std::int64_t n0, std::int64_t n1, std::int64_t i0, std::int64_t i1) {
    const std::int64_t top = i0 * g.step_h + g.first_h,
                       rows = (i1 - i0 - 1) * g.step_h + (g.taps_h - 1) * g.tap_h + 1;
    const std::int64_t left = g.first_w, cols = (g.cols - 1) * g.step_w + (g.taps_w - 1) * g.tap_w + 1;
    source += n0 * g.h * g.w * g.c;
    if (top >= 0 && top + rows <= g.h && left >= 0 && left + cols <= g.w) {
      data = source + (top * g.w + left) * g.c;
      row = g.w * g.c;
      sample = g.h * row;
      return;
    }
    row = cols * g.c;
    sample = rows * row;
    T* to = conv_scratch<T, 0>((n1 - n0) * sample);
    data = to;
    const std::int64_t hi = std::clamp<std::int64_t>(g.w - left, 0, cols),
                       lo = std::clamp<std::int64_t>(-left, 0, hi);
    for (std::int64_t n = n0; n < n1; ++n, source += g.h * g.w * g.c)
      for (std::int64_t y = top; y < top + rows; ++y, to += row) {
        if (y < 0 || y >= g.h || hi == lo) {
          std::fill(to, to + row, T(0));
          continue;
        }
        std::fill(to, to + lo * g.c, T(0));
        std::memcpy(to + lo * g.c, source + (y * g.w + left + lo) * g.c,
                    static_cast<std::size_t>((hi - lo) * g.c) * sizeof(T));
        std::fill(to + hi * g.c, to + row, T(0));
      }
  }
};

/// The taps of a group in a band, in contiguous pieces: a row of taps where possible, else single taps.
struct TapPieces {
  bool rows;
  std::int64_t length;
  std::vector<std::int64_t> offset;

  TapPieces(const Gather& g, std::int64_t channels)
      : rows(g.tap_w == 1 && channels == g.c),
        length(rows ? g.taps_w * channels : channels),
        offset(static_cast<std::size_t>(rows ? g.taps_h : g.taps())) {}
  void locate(const Gather& g, std::int64_t row) {
    std::int64_t t = 0;
    for (std::int64_t& at : offset) {
      at = rows ? t * g.tap_h * row : t / g.taps_w * g.tap_h * row + t % g.taps_w * g.tap_w * g.c;
      ++t;
    }
  }
};

/// to[tap, channel in, channel out] = the filters at `from`, zero-padded from `count` output channels up to
/// K's. Read in memory order, since they are seldom in a near cache.
template <class K, class T>
void pack_width(const Convolution<T>& c, const T* from, std::int64_t count, T* to) {
  constexpr std::int64_t width = K::channels;
  const std::int64_t taps = std::ssize(c.tap_offset);
  const auto at = [&](std::int64_t t) { return from + c.tap_offset[static_cast<std::size_t>(t)]; };
  if (count < width) std::fill_n(to, taps * c.in * width, T(0));
  if (c.out_stride == 1) {
    for (std::int64_t i = 0; i < c.in; ++i)
      for (std::int64_t t = 0; t < taps; ++t) {
        T* const row = to + (t * c.in + i) * width;
        std::copy_n(at(t) + i * c.in_stride, count, row);
      }
    return;
  }
  // Channels: a cache line of each filter at a time, with the following ones prefetched.
  constexpr std::int64_t block = 16;
  for (std::int64_t t = 0; t < taps; ++t)
    for (std::int64_t i0 = 0; i0 < c.in; i0 += block)
      for (std::int64_t k = 0; k < count; ++k) {
        const T* const filter = at(t) + k * c.out_stride;
        __builtin_prefetch(filter + i0 + 4 * block);
        for (std::int64_t i = i0; i < std::min(i0 + block, c.in); ++i)
          to[(t * c.in + i) * width + k] = filter[i];
      }
}

/// Filters and bias of a slice in the kernel's layout: [group][width][tap][channel in][channel out].
template <class T>
void pack_filters(const Convolution<T>& c, std::int64_t slice, T* filters, T* bias) {
  for (std::int64_t group = 0; group < c.groups; ++group)
    for_each_width<T>(c.out, [&]<class K>(K, std::int64_t first, std::int64_t count) {
      pack_width<K>(c, c.filters + slice * c.filter_stride + group * c.group_stride + first * c.out_stride,
                    count, filters);
      filters += std::ssize(c.tap_offset) * c.in * K::channels;
      for (std::int64_t k = 0; k < K::channels; ++k)
        *bias++ = c.bias && k < count ? c.bias[slice * c.bias_stride + group * c.out + first + k] : T(0);
    });
}

/// A row of output pixels, `count` channels of the width of K.
template <class K, class T>
void convolve_row(const Walk& walk, const T* a, const T* filters, const T* bias, std::int64_t cols,
                  std::int64_t count, T* to, std::int64_t pixel_stride) {
  for_each_tile<K>(cols, [&]<class Tile>(Tile, std::int64_t j, std::int64_t) {
    if (count == K::channels)
      return Tile::pixels(walk, a + j * walk.row, filters, bias, to + j * pixel_stride, pixel_stride);
    T whole[Tile::rows * K::channels];
    Tile::pixels(walk, a + j * walk.row, filters, bias, whole, K::channels);
    for (int r = 0; r < Tile::rows; ++r)
      std::copy_n(whole + r * K::channels, count, to + (j + r) * pixel_stride);
  });
}

template <class T>
void convolve_directly(const Convolution<T>& c) {
  const Gather& g = c.g;
  const std::int64_t band = std::clamp<std::int64_t>(band_pixels(g) / g.cols, 1, g.rows);
  const std::int64_t bands = (g.rows + band - 1) / band, depth = g.taps() * c.in,
                     padded = padded_channels<T>(c.out);
  // Several small images at a time, so that filters are read from a far cache once for all of them.
  const std::int64_t together = std::clamp<std::int64_t>(band_pixels(g) / (g.rows * g.cols), 1,
                                                         std::max<std::int64_t>(1, c.samples / 16)),
                     groups_of_samples = (c.samples + together - 1) / together;
  auto work = [&](std::int64_t begin, std::int64_t end) {
    T* const packed = conv_scratch<T, 2>(c.groups * padded * depth);
    T* const packed_bias = conv_scratch<T, 1>(c.groups * padded);
    TapPieces taps(g, c.in);
    std::int64_t slice = -1;
    for (std::int64_t u = begin; u < end; ++u) {
      const std::int64_t i0 = u % bands * band, i1 = std::min(i0 + band, g.rows),
                         last = std::min((u / bands + 1) * together, c.samples);
      for (std::int64_t n0 = u / bands * together, n1; n0 < last; n0 = n1) {
        if (slice < 0 || (c.replicas > 1 && n0 >= c.slice_begin[slice + 1])) {
          slice = c.replicas == 1
                      ? 0
                      : std::upper_bound(c.slice_begin, c.slice_begin + c.replicas, n0) - c.slice_begin - 1;
          pack_filters(c, slice, packed, packed_bias);
        }
        n1 = c.replicas == 1 ? last : std::min(last, c.slice_begin[slice + 1]);
        const Band<T> source(g, c.source, n0, n1, i0, i1);
        taps.locate(g, source.row);
        Walk walk{taps.offset.data(), std::ssize(taps.offset), taps.length, g.step_w * g.c, 1, 0};
        const T *filters = packed, *bias = packed_bias;
        for (std::int64_t group = 0; group < c.groups; ++group)
          for_each_width<T>(c.out, [&]<class K>(K, std::int64_t first, std::int64_t count) {
            // Two rows of half as many pixels as the kernel has sums are processed as one row.
            const bool pairs = 2 * g.cols == K::rows && c.row_stride == g.cols * c.pixel_stride;
            const T* const channels = source.data + group * c.in;
            T* const to = c.target + group * c.out + first;
            for (std::int64_t n = n0; n < n1; ++n)
              for (std::int64_t i = i0, rows; i < i1; i += rows) {
                rows = pairs && i + 1 < i1 ? 2 : 1;
                walk.half = rows == 2 ? g.step_h * source.row : 0;
                convolve_row<K>(walk, channels + (n - n0) * source.sample + (i - i0) * g.step_h * source.row,
                                filters, bias, rows * g.cols, count,
                                to + n * c.sample_stride + i * c.row_stride, c.pixel_stride);
              }
            filters += depth * K::channels;
            bias += K::channels;
          });
      }
    }
  };
  parallel_for(groups_of_samples * bands, conv_grain(together * band * g.cols * depth * c.out * c.groups),
               work);
}

/// Copies rows of `count` channels contiguously, zero-padded to `channels`; `ld` becomes their new distance.
template <class T, int channels>
const T* fill_up(const T* from, std::int64_t rows, std::int64_t count, std::int64_t& ld) {
  T* const to = conv_scratch<T, 1>(rows * channels);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < channels; ++k) to[r * channels + k] = k < count ? from[r * ld + k] : T(0);
  ld = channels;
  return to;
}

/// dw [groups·out, taps, in] = Σ dy·x over the samples [begin, end) of a gather from x: the rows of one width
/// of output channels, from `wanted` on.
template <class T>
void filter_directly(const Gather& g, std::int64_t begin, std::int64_t end, std::int64_t groups,
                     std::int64_t in, std::int64_t out, std::int64_t wanted, const T* x, const T* dy, T* dw) {
  const std::int64_t depth = g.taps() * in, pixels = g.rows * g.cols;
  const std::int64_t together = std::max<std::int64_t>(1, band_pixels(g) / pixels);  // samples
  const std::int64_t band = std::clamp<std::int64_t>(band_pixels(g) / g.cols, 1, g.rows);
  TapPieces taps(g, in);
  std::vector<std::int64_t> rows;  // offsets
  for_each_width<T>(out, [&]<class K>(K, std::int64_t first, std::int64_t count) {
    if (first != wanted) return;
    T* const total = conv_scratch<T, 2>(groups * depth * K::channels);
    std::fill(total, total + groups * depth * K::channels, T(0));
    for (std::int64_t n0 = begin; n0 < end; n0 += together)
      for (std::int64_t i0 = 0; i0 < g.rows; i0 += band) {
        const std::int64_t n1 = std::min(n0 + together, end), i1 = std::min(i0 + band, g.rows);
        const Band<T> source(g, x, n0, n1, i0, i1);
        taps.locate(g, source.row);
        rows.clear();
        for (std::int64_t n = 0; n < n1 - n0; ++n)
          for (std::int64_t i = 0; i < i1 - i0; ++i)
            rows.push_back(n * source.sample + i * g.step_h * source.row);
        T* to = total;
        for (std::int64_t group = 0; group < groups; ++group) {
          const T* b = dy + ((n0 * g.rows + i0) * g.cols * groups + group) * out + first;
          Walk walk{rows.data(), std::ssize(rows), g.cols, 1, g.step_w * g.c, groups * out};
          if (count < K::channels) b = fill_up<T, K::channels>(b, std::ssize(rows) * g.cols, count, walk.ldb);
          for (const std::int64_t offset : taps.offset) {
            for_each_tile<typename K::OfTaps>(
                taps.length, [&]<class Tile>(Tile, std::int64_t j, std::int64_t skip) {
                  Tile::taps(walk, source.data + offset + group * in + j, b, to + j * K::channels, skip);
                });
            to += taps.length * K::channels;
          }
        }
      }
    for (std::int64_t group = 0; group < groups; ++group)
      for (std::int64_t k = 0; k < count; ++k)
        for (std::int64_t e = 0; e < depth; ++e)
          dw[(group * out + first + k) * depth + e] = total[(group * depth + e) * K::channels + k];
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
