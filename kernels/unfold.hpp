// Convolution as a product: unfold() copies the window of each output pixel into a row of `columns`
// (im2col); fold() is its adjoint, a sum over the windows that contain a pixel (col2im), as a
// gather and so without atomics.
//   columns [slices, groups, pixels, kh, kw, C/groups]
// Adjacent slices of one length are processed together: the same range of pixels of each (numbered over
// all P·Q pixels of its samples).
#pragma once

#include <algorithm>

#include "elements.hpp"
#include "indexing.hpp"
#include "launch.hpp"
#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// A range of pixels in each of several slices of `samples` samples.
struct Tile {
  std::int64_t slices, samples, first, pixels;
};

/// The parameters of a convolution and a tile for unfold() and fold().
template <class I>
struct Unfolded {
  I h, w, c, p, q, kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups, in;
  I samples, first, pixels;

  Unfolded(const backend::Conv2d& d, const Tile& t)
      : h(I(d.h)),
        w(I(d.w)),
        c(I(d.c)),
        p(I(d.p)),
        q(I(d.q)),
        kh(I(d.kh)),
        kw(I(d.kw)),
        stride_h(I(d.stride_h)),
        stride_w(I(d.stride_w)),
        pad_h(I(d.pad_h)),
        pad_w(I(d.pad_w)),
        dilation_h(I(d.dilation_h)),
        dilation_w(I(d.dilation_w)),
        groups(I(d.groups)),
        in(I(d.c / d.groups)),
        samples(I(t.samples)),
        first(I(t.first)),
        pixels(I(t.pixels)) {}
};

/// The largest number that occurs in the kernels below, for x of `slices`·`samples` samples.
inline std::int64_t largest_index(const backend::Conv2d& d, const Tile& t) {
  return std::max({t.slices * t.samples * d.h * d.w * d.c, t.slices * t.pixels * d.kh * d.kw * d.c,
                   d.h + 2 * d.pad_h + d.stride_h + d.kh * d.dilation_h,
                   d.w + 2 * d.pad_w + d.stride_w + d.kw * d.dilation_w});
}

/// x at the slices' first sample; `width` divides C/groups.
template <class T, class I, int width>
void unfold_by(const backend::Conv2d& d, const Tile& tile, const T* x, T* columns) {
  using Some = Pack<T, width>;
  const Unfolded<I> u(d, tile);
  const auto* from = reinterpret_cast<const Some*>(x);
  auto* to = reinterpret_cast<Some*>(columns);
  each(tile.slices * tile.pixels * d.kh * d.kw * d.c / width, [=] LPF_DEVICE(std::int64_t at) {
    const I packs = u.in / width;
    I i = static_cast<I>(at);
    const auto next = [&](I size) {
      const I digit = i % size;
      i /= size;
      return digit;
    };
    const I channel = next(packs), s = next(u.kw), r = next(u.kh), pixel = u.first + next(u.pixels),
            group = next(u.groups), slice = i;
    const I sample = slice * u.samples + pixel / (u.p * u.q);
    const I row = pixel / u.q % u.p * u.stride_h - u.pad_h + r * u.dilation_h;
    const I column = pixel % u.q * u.stride_w - u.pad_w + s * u.dilation_w;
    const bool inside = row >= 0 && row < u.h && column >= 0 && column < u.w;
    to[at] = inside ? from[((sample * u.h + row) * u.w + column) * (u.c / width) + group * packs + channel]
                    : Some{};
  });
}

/// dx of the tile's samples (it consists of whole ones), written once; dx at the slices' first sample.
template <class T, class I, int width>
void fold_by(const backend::Conv2d& d, const Tile& tile, const Computed<T>* columns, T* dx) {
  using Some = Pack<Computed<T>, width>;
  const Unfolded<I> u(d, tile);
  const auto* from = reinterpret_cast<const Some*>(columns);
  auto* to = reinterpret_cast<Pack<T, width>*>(dx);
  const I samples = static_cast<I>(tile.pixels / (d.p * d.q)),
          first_sample = static_cast<I>(tile.first / (d.p * d.q));
  each(tile.slices * samples * d.h * d.w * d.c / width, [=] LPF_DEVICE(std::int64_t at) {
    const I packs = u.in / width;
    I i = static_cast<I>(at);
    const auto next = [&](I size) {
      const I digit = i % size;
      i /= size;
      return digit;
    };
    const I channel = next(packs), group = next(u.groups), column = next(u.w), row = next(u.h),
            sample = next(samples), slice = i;
    Some sum{};
    for (I r = 0; r < u.kh; ++r) {
      const I reach = row + u.pad_h - r * u.dilation_h, p = reach / u.stride_h;
      if (reach < 0 || p * u.stride_h != reach || p >= u.p) continue;
      for (I s = 0; s < u.kw; ++s) {
        const I across = column + u.pad_w - s * u.dilation_w, q = across / u.stride_w;
        if (across < 0 || q * u.stride_w != across || q >= u.q) continue;
        const I pixel = (sample * u.p + p) * u.q + q;
        const Some part =
            from[((((slice * u.groups + group) * u.pixels + pixel) * u.kh + r) * u.kw + s) * packs + channel];
        for (int v = 0; v < width; ++v) sum.value[v] += part.value[v];
      }
    }
    Pack<T, width> out;
    for (int v = 0; v < width; ++v) out.value[v] = static_cast<T>(sum.value[v]);
    to[(((slice * u.samples + first_sample + sample) * u.h + row) * u.w + column) * (u.c / width) +
       group * packs + channel] = out;
  });
}

/// Calls f.template operator()<I, width>() with 16 bytes of Ts per thread if x and
/// the channels of a group allow it.
template <class T, class F>
void visit_packs(const backend::Conv2d& d, const Tile& tile, const void* x, F f) {
  constexpr int widest = 16 / sizeof(T);
  const bool wide = d.c / d.groups % widest == 0 && reinterpret_cast<std::uintptr_t>(x) % 16 == 0;
  if (largest_index(d, tile) > INT32_MAX) {
    f.template operator()<std::int64_t, 1>();
  } else if (wide) {
    f.template operator()<std::int32_t, widest>();
  } else {
    f.template operator()<std::int32_t, 1>();
  }
}
template <class T>
void unfold(const backend::Conv2d& d, const Tile& tile, const T* x, T* columns) {
  visit_packs<T>(d, tile, x, [&]<class I, int width>() { unfold_by<T, I, width>(d, tile, x, columns); });
}
template <class T>
void fold(const backend::Conv2d& d, const Tile& tile, const Computed<T>* columns, T* dx) {
  visit_packs<Computed<T>>(d, tile, dx,
                           [&]<class I, int width>() { fold_by<T, I, width>(d, tile, columns, dx); });
}

}  // namespace lpf::cuda
