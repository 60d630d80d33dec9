// Pooling over windows of images, channels last: one thread per pack of channels of a pixel, adjacent threads
// on adjacent packs. Backward gathers: each pixel of x sums over the windows that contain it, in their order,
// so there are no atomics and the sums are bit-identical to the CPU's.
#include <algorithm>
#include <limits>

#include "indexing.hpp"
#include "kernel_groups.hpp"
#include "launch.hpp"
#include "packs.hpp"

namespace lpf::cuda {
namespace {

using backend::Pool2d;

/// Channels per thread; each maximum has an 8-byte index.
template <class T>
inline constexpr int max_pack = std::min(4, pack_width<T>);
template <class T>
inline constexpr int average_pack = pack_width<T>;

/// The fields of Pool2d as read by kernels; c and channels are counted in packs.
template <class I>
struct Windows {
  I h, w, c, kh, kw, p, q, stride_h, stride_w, pad_h, pad_w;
  bool count_include_pad;
  I own_divisor;

  Windows(const Pool2d& d, int pack)
      : h(I(d.h)),
        w(I(d.w)),
        c(I(d.c / pack)),
        kh(I(d.kh)),
        kw(I(d.kw)),
        p(I(d.p)),
        q(I(d.q)),
        stride_h(I(d.stride_h)),
        stride_w(I(d.stride_w)),
        pad_h(I(d.pad_h)),
        pad_w(I(d.pad_w)),
        count_include_pad(d.count_include_pad),
        own_divisor(I(d.divisor)) {}

  /// A pack of x or y: its sample, row, column and channel.
  struct Element {
    I sample, row, column, channel;
  };
  LPF_DEVICE Element of_x(I i) const { return {i / c / w / h, i / c / w % h, i / c % w, i % c}; }
  LPF_DEVICE Element of_y(I i) const { return {i / c / q / p, i / c / q % p, i / c % q, i % c}; }
  LPF_DEVICE I in_x(I sample, I row, I column, I channel) const {
    return ((sample * h + row) * w + column) * c + channel;
  }
  LPF_DEVICE I in_y(I sample, I row, I column, I channel) const {
    return ((sample * p + row) * q + column) * c + channel;
  }

  /// The part of an output pixel's window that lies inside the plane.
  struct Window {
    I top, bottom, left, right;
  };
  LPF_DEVICE Window window(I row, I column) const {
    const I top = row * stride_h - pad_h, left = column * stride_w - pad_w;
    return {std::max(I(0), top), std::min(h, top + kh), std::max(I(0), left), std::min(w, left + kw)};
  }
  /// The divisor of the average of an output pixel, whose window is v.
  LPF_DEVICE I divisor(I row, I column, const Window& v) const {
    if (own_divisor != 0) return own_divisor;
    if (!count_include_pad) return (v.bottom - v.top) * (v.right - v.left);
    return (std::min(row * stride_h + kh, h + 2 * pad_h) - row * stride_h) *
           (std::min(column * stride_w + kw, w + 2 * pad_w) - column * stride_w);
  }

  /// The output pixels whose windows contain a pixel of x: row·stride − pad ≤ y < row·stride − pad + kernel.
  LPF_DEVICE Window outputs(I row, I column) const {
    return {first(row, kh, stride_h, pad_h), std::min(p, (row + pad_h) / stride_h + 1),
            first(column, kw, stride_w, pad_w), std::min(q, (column + pad_w) / stride_w + 1)};
  }
  static LPF_DEVICE I first(I at, I kernel, I stride, I pad) {
    const I beyond = at + pad - kernel + 1;  // where the first such window begins, including padding
    return beyond > 0 ? (beyond + stride - 1) / stride : I(0);
  }
};

/// The largest number that occurs in a kernel.
std::int64_t largest(const Pool2d& d) {
  return std::max({d.n * d.h * d.w * d.c, d.n * d.p * d.q * d.c, d.h + d.stride_h + d.kh + 2 * d.pad_h,
                   d.w + d.stride_w + d.kw + 2 * d.pad_w, d.kh * d.kw, d.divisor});
}
std::int64_t inputs(const Pool2d& d) { return d.n * d.h * d.w * d.c; }
std::int64_t outputs(const Pool2d& d) { return d.n * d.p * d.q * d.c; }

template <class T, class I, int N>
void max_pool(const Pool2d& d, const T* x, T* y, std::int64_t* index) {
  const Windows<I> g(d, N);
  using C = Computed<T>;
  each(outputs(d) / N, [=] LPF_DEVICE(std::int64_t i) {
    const auto at = g.of_y(static_cast<I>(i));
    const auto v = g.window(at.row, at.column);
    C best[N];
    Pack<std::int64_t, N> place;
    LPF_UNROLL for (int k = 0; k < N; ++k) {
      best[k] = -std::numeric_limits<C>::infinity();
      place[k] = v.top * g.w + v.left;
    }
    for (I row = v.top; row < v.bottom; ++row)
      for (I column = v.left; column < v.right; ++column) {
        const auto values = load<N>(x + N * std::int64_t{g.in_x(at.sample, row, column, at.channel)});
        LPF_UNROLL for (int k = 0; k < N; ++k) {
          const C value = values[k];
          const bool more = value > best[k], nan = value != value;  // a NaN wins; of several, the last
          best[k] = (more | nan) ? value : best[k];
          place[k] = (more | nan) ? row * g.w + column : place[k];
        }
      }
    Pack<T, N> to;
    LPF_UNROLL for (int k = 0; k < N; ++k) to[k] = static_cast<T>(best[k]);
    store(y + N * i, to);
    store(index + N * i, place);
  });
}

template <class T, class I, int N>
void max_pool_backward(const Pool2d& d, const T* dy, const std::int64_t* index, T* dx) {
  const Windows<I> g(d, N);
  using C = Computed<T>;
  each(inputs(d) / N, [=] LPF_DEVICE(std::int64_t i) {
    const auto at = g.of_x(static_cast<I>(i));
    const auto v = g.outputs(at.row, at.column);
    const I here = at.row * g.w + at.column;
    C sum[N] = {};
    for (I row = v.top; row < v.bottom; ++row)
      for (I column = v.left; column < v.right; ++column) {
        const std::int64_t from = N * std::int64_t{g.in_y(at.sample, row, column, at.channel)};
        const auto places = load<N>(index + from);
        const auto gradients = load<N>(dy + from);
        LPF_UNROLL for (int k = 0; k < N; ++k) {
          const C added = sum[k] + gradients[k];
          sum[k] = places[k] == here ? added : sum[k];
        }
      }
    Pack<T, N> to;
    LPF_UNROLL for (int k = 0; k < N; ++k) to[k] = static_cast<T>(sum[k]);
    store(dx + N * i, to);
  });
}

template <class T, class I, int N>
void average_pool(const Pool2d& d, const T* x, T* y) {
  const Windows<I> g(d, N);
  using C = Computed<T>;
  each(outputs(d) / N, [=] LPF_DEVICE(std::int64_t i) {
    const auto at = g.of_y(static_cast<I>(i));
    const auto v = g.window(at.row, at.column);
    C sum[N] = {};
    for (I row = v.top; row < v.bottom; ++row)
      for (I column = v.left; column < v.right; ++column) {
        const auto values = load<N>(x + N * std::int64_t{g.in_x(at.sample, row, column, at.channel)});
        LPF_UNROLL for (int k = 0; k < N; ++k) sum[k] += values[k];
      }
    const C divisor = static_cast<C>(g.divisor(at.row, at.column, v));
    Pack<T, N> to;
    LPF_UNROLL for (int k = 0; k < N; ++k) to[k] = static_cast<T>(sum[k] / divisor);
    store(y + N * i, to);
  });
}

template <class T, class I, int N>
void average_pool_backward(const Pool2d& d, const T* dy, T* dx) {
  const Windows<I> g(d, N);
  using C = Computed<T>;
  each(inputs(d) / N, [=] LPF_DEVICE(std::int64_t i) {
    const auto at = g.of_x(static_cast<I>(i));
    const auto v = g.outputs(at.row, at.column);
    C sum[N] = {};
    for (I row = v.top; row < v.bottom; ++row)
      for (I column = v.left; column < v.right; ++column) {
        const auto gradients = load<N>(dy + N * std::int64_t{g.in_y(at.sample, row, column, at.channel)});
        const C divisor = static_cast<C>(g.divisor(row, column, g.window(row, column)));
        LPF_UNROLL for (int k = 0; k < N; ++k) sum[k] += gradients[k] / divisor;
      }
    Pack<T, N> to;
    LPF_UNROLL for (int k = 0; k < N; ++k) to[k] = static_cast<T>(sum[k]);
    store(dx + N * i, to);
  });
}

}  // namespace

void pool(Table& t) {
  t.max_pool2d = [](const Pool2d& d, const void* x, void* y, std::int64_t* index) {
    visit_indexed("max_pool2d", d.dtype, largest(d), [&]<class T, class I>() {
      const auto* from = static_cast<const T*>(x);
      auto* to = static_cast<T*>(y);
      visit_packs<max_pack<T>>(
          d.c, [&]<int N>() { max_pool<T, I, N>(d, from, to, index); }, from, to, index);
    });
  };
  t.max_pool2d_backward = [](const Pool2d& d, const void* dy, const std::int64_t* index, void* dx) {
    visit_indexed("max_pool2d", d.dtype, largest(d), [&]<class T, class I>() {
      const auto* from = static_cast<const T*>(dy);
      auto* to = static_cast<T*>(dx);
      visit_packs<max_pack<T>>(
          d.c, [&]<int N>() { max_pool_backward<T, I, N>(d, from, index, to); }, from, index, to);
    });
  };
  t.avg_pool2d = [](const Pool2d& d, const void* x, void* y) {
    visit_indexed("avg_pool2d", d.dtype, largest(d), [&]<class T, class I>() {
      const auto* from = static_cast<const T*>(x);
      auto* to = static_cast<T*>(y);
      visit_packs<average_pack<T>>(
          d.c, [&]<int N>() { average_pool<T, I, N>(d, from, to); }, from, to);
    });
  };
  t.avg_pool2d_backward = [](const Pool2d& d, const void* dy, void* dx) {
    visit_indexed("avg_pool2d", d.dtype, largest(d), [&]<class T, class I>() {
      const auto* from = static_cast<const T*>(dy);
      auto* to = static_cast<T*>(dx);
      visit_packs<average_pack<T>>(
          d.c, [&]<int N>() { average_pool_backward<T, I, N>(d, from, to); }, from, to);
    });
  };
}

}  // namespace lpf::cuda
