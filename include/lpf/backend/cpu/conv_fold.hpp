// The gradient of a convolution's input that has few channels, with stride 1. A row of dx gathers from the
// rows of dy that its filters' rows contributed to, as in conv_direct.hpp, but for all taps of a filter's row
// at once: they are the channels of
//   columns[q, (v, channel)] = Σ_u Σ_k dy[h + pad_h - u·dilation_h, q, k]·w[k, u, v, channel]
// which are then added along the row, dx[h, q + v - pad_w, channel] += columns[q, (v, channel)]. So registers
// are full although there are few channels, and the zeros around dy are not multiplied.
#pragma once

#include "lpf/backend/cpu/conv_direct.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// True where this takes at least a quarter fewer multiply-adds than conv_direct.hpp.
template <class T>
bool fold_serves(const Conv2d& c) {
  const bool plain = c.stride_h == 1 && c.stride_w == 1 && c.dilation_w == 1 && c.groups == 1 && c.q >= 4;
  const std::int64_t folded = c.p * c.kh * c.q * padded_channels<T>(c.kw * c.c),
                     gathered = c.h * c.w * c.kh * c.kw * padded_channels<T>(c.c);
  return plain && 4 * folded < 3 * gathered && c.kh * c.k * padded_channels<T>(c.kw * c.c) <= (1 << 20);
}

/// One row of dx [w, c] from `columns` [q, ld], into `to`, which has room for one more register.
template <class T>
void fold_row(const Conv2d& c, const T* columns, std::int64_t ld, T* to) {
  using K = Kernel<T, register_bytes / static_cast<int>(sizeof(T)) / 2, 1, 1>;
  for (std::int64_t j = 0; j < c.w; ++j) {
    const std::int64_t first = std::max<std::int64_t>(0, j + c.pad_w - c.q + 1),
                       last = std::min(c.kw - 1, j + c.pad_w);
    // A register may extend beyond the pixel: the next pixel's values overwrite the excess.
    for (std::int64_t e = 0; e < c.c; e += K::channels) {
      typename K::Register sum = {};
      for (std::int64_t v = first; v <= last; ++v) {
        typename K::Register part;
        std::memcpy(&part, columns + (j + c.pad_w - v) * ld + v * c.c + e, sizeof part);
        sum += part;
      }
      std::memcpy(to + j * c.c + e, &sum, sizeof sum);
    }
  }
}

/// dx of a convolution for which fold_serves() is true.
template <class T>
void conv2d_backward_data_folded(const Conv2d& c, const T* dy, const T* w, T* dx) {
  const std::int64_t across = c.kw * c.c, ld = padded_channels<T>(across);
  Convolution<T> filters{};  // as a convolution of dy whose taps are the filters' rows
  filters.groups = 1, filters.in = c.k, filters.out = across;
  filters.filters = w;
  filters.out_stride = 1, filters.in_stride = c.kh * across, filters.filter_stride = c.w_stride;
  for (std::int64_t u = 0; u < c.kh; ++u) filters.tap_offset.push_back(u * across);
  auto work = [&](std::int64_t begin, std::int64_t end) {
    T* const packed = conv_scratch<T, 2>(ld * c.kh * c.k);
    T* const zeros = conv_scratch<T, 1>(ld);
    constexpr std::int64_t spare = 64;  // elements that registers access beyond the end
    T* const columns = conv_scratch<T, 0>(c.q * ld + spare + c.w * c.c + spare);
    T* const row = columns + c.q * ld + spare;
    std::vector<std::int64_t> offset;
    std::int64_t slice = -1;
    for (std::int64_t n = begin; n < end; ++n) {
      if (slice < 0 || (c.replicas > 1 && n >= c.slice_begin[slice + 1])) {
        slice = c.replicas == 1
                    ? 0
                    : std::upper_bound(c.slice_begin, c.slice_begin + c.replicas, n) - c.slice_begin - 1;
        pack_filters(filters, slice, packed, zeros);
      }
      for (std::int64_t h = 0; h < c.h; ++h) {
        // The filters' rows that reach h are adjacent: row u meets dy's row h + pad_h - u·dilation_h.
        std::int64_t first = -1;
        offset.clear();
        for (std::int64_t u = 0; u < c.kh; ++u) {
          const std::int64_t p = h + c.pad_h - u * c.dilation_h;
          if (p < 0 || p >= c.p) continue;
          if (first < 0) first = u;
          offset.push_back(p * c.q * c.k);
        }
        T* const to = dx + (n * c.h + h) * c.w * c.c;
        if (first < 0) {
          std::fill_n(to, c.w * c.c, T(0));
          continue;
        }
        const Walk walk{offset.data(), std::ssize(offset), c.k, c.k, 1, 0};
        const T* part = packed;
        for_each_width<T>(across, [&]<class K>(K, std::int64_t at, std::int64_t) {
          convolve_row<K>(walk, dy + n * c.p * c.q * c.k, part + first * c.k * K::channels, zeros, c.q,
                          K::channels, columns + at, ld);
          part += c.kh * c.k * K::channels;
        });
        fold_row(c, columns, ld, row);
        std::copy_n(row, c.w * c.c, to);
      }
    }
  };
  parallel_for(c.n, conv_grain(c.p * c.kh * c.q * c.k * across), work);
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
