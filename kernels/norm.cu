// Batch normalisation (Ioffe & Szegedy 2015), as defined in backend/cpu/norm.hpp. The
// passes are memory-bound: statistics read x once, backward reads x and dy twice, and there
// is no other array of that size.
//
// Values are taken relative to the group's first row, so that a large mean costs no digits. A thread adds the
// few rows that it reads at a time in the type in which elements are computed, and these partial sums in
// double: a GPU converts to double, and adds in it, at a fraction of its float rate. A partial sum has an
// error of an ulp or two of float of its terms, and the total no more.
// x and arrays of its shape may be bfloat16; the per-channel arrays are float32 then.
#include "columns.hpp"
#include "elements.hpp"
#include "kernel_groups.hpp"

namespace lpf::cuda {
namespace {

using backend::BatchNorm;

/// Channels per thread: of one that sums, with two doubles for each, and of one that does not.
template <class T>
inline constexpr int sum_pack = std::min(4, pack_width<T>);
template <class T>
inline constexpr int map_pack = pack_width<T>;

/// Σ d and Σ d² of d = x − the group's first row. For a partial sum of n rows Σ d² is Σ (d − r)² + (Σ d)²/n
/// with its own mean r, the second term in double. The sum of squares about the mean, Σ d² − (Σ d)²/rows,
/// keeps its digits because the reference is one of the rows: no row is farther from the mean than
/// √(rows·variance), so that Σ d² is at most rows + 1 times as large.
template <class T, int N>
struct Moments {
  static constexpr int pack = N, at_once = 8;
  using C = Computed<T>;
  const T* x;

  LPF_DEVICE Pack<T, N> own(const Columns& c, std::int64_t group, std::int64_t channel) const {
    return lpf::cuda::load<N>(x + c.row_begin[group] * c.channels + channel);
  }
  LPF_DEVICE Pack<T, N> load(std::int64_t i, std::int64_t) const { return lpf::cuda::load<N>(x + i); }
  template <int K>
  LPF_DEVICE void add(const Pack<T, N>& first, const Pack<T, N> (&items)[K], std::int64_t, std::int64_t,
                      double (&a)[N], double (&b)[N]) const {
    LPF_UNROLL for (int k = 0; k < N; ++k) {
      C sum = 0, squares = 0;
      LPF_UNROLL for (int row = 0; row < K; ++row) sum += items[row][k] - C(first[k]);
      const C mean = sum * C(1.0 / K);
      LPF_UNROLL for (int row = 0; row < K; ++row) {
        const C d = items[row][k] - C(first[k]) - mean;
        squares += d * d;
      }
      const auto s = static_cast<double>(sum);
      a[k] += s;
      b[k] += s * s * (1.0 / K) + static_cast<double>(squares);
    }
  }
};
template <class T>
struct FinishMoments {
  const T* x;
  Computed<T>*mean, *rest, *variance;

  LPF_DEVICE void operator()(const Columns& c, std::int64_t group, std::int64_t channel, double a,
                             double b) const {
    const auto rows = static_cast<double>(c.rows(group));
    if (rows == 0) return;
    const std::int64_t to = group * c.channels + channel;
    const auto first = static_cast<double>(x[c.row_begin[group] * c.channels + channel]);
    mean[to] = static_cast<Computed<T>>(first + a / rows);
    rest[to] = static_cast<Computed<T>>(first - static_cast<double>(mean[to]) + a / rows);
    const double squares = b - a * a / rows;  // ∞ − ∞ where the squares overflow
    variance[to] = static_cast<Computed<T>>((squares == squares ? squares : b) / rows);
  }
};

template <class T>
void statistics(const BatchNorm& b, const T* x, Computed<T>* mean, Computed<T>* rest, Computed<T>* variance) {
  const RowGroups rows(b.groups, b.row_begin);
  visit_packs<sum_pack<T>>(
      b.channels,
      [&]<int N>() {
        sum_columns(rows, b.channels, Moments<T, N>{x}, FinishMoments<T>{x, mean, rest, variance});
      },
      x);
}

/// y = f((x − mean)·(rstd·weight) + (bias − rest·(rstd·weight)) + residual).
template <class T, int N>
struct Normalize {
  static constexpr int pack = N, at_once = 4;
  using C = Computed<T>;
  std::int64_t affine_stride;
  const T* x;
  const C *mean, *rest, *rstd, *weight, *bias;
  const T* residual;
  bool relu;
  T* y;

  struct Own {
    Pack<C, N> centre, scale, shift;
  };
  LPF_DEVICE Own own(const Columns& c, std::int64_t group, std::int64_t channel) const {
    const std::int64_t at = group * c.channels + channel, affine = group * affine_stride + channel;
    Own o{lpf::cuda::load<N>(mean + at), lpf::cuda::load<N>(rstd + at), {}};
    if (bias) o.shift = lpf::cuda::load<N>(bias + affine);
    if (weight) {
      const auto g = lpf::cuda::load<N>(weight + affine);
      LPF_UNROLL for (int k = 0; k < N; ++k) o.scale[k] *= g[k];
    }
    if (rest) {
      const auto left = lpf::cuda::load<N>(rest + at);
      LPF_UNROLL for (int k = 0; k < N; ++k) o.shift[k] -= left[k] * o.scale[k];
    }
    return o;
  }
  struct Item {
    Pack<T, N> x{}, residual{};
  };
  LPF_DEVICE Item load(std::int64_t i, std::int64_t) const {
    Item item;
    item.x = lpf::cuda::load<N>(x + i);
    if (residual) item.residual = lpf::cuda::load<N>(residual + i);
    return item;
  }
  LPF_DEVICE void write(const Own& o, const Item& item, std::int64_t i) const {
    Pack<T, N> to;
    LPF_UNROLL for (int k = 0; k < N; ++k) {
      C v = (item.x[k] - o.centre[k]) * o.scale[k] + o.shift[k];
      if (residual) v += item.residual[k];
      to[k] = static_cast<T>(relu && v < C(0) ? C(0) : v);
    }
    store(y + i, to);
  }
};

template <class T>
void normalize(const BatchNorm& b, const T* x, const Computed<T>* mean, const Computed<T>* rest,
               const Computed<T>* rstd, const Computed<T>* weight, const Computed<T>* bias, const T* residual,
               bool relu, T* y) {
  const RowGroups rows(b.groups, b.row_begin);
  visit_packs<map_pack<T>>(
      b.channels,
      [&]<int N>() {
        map_columns(rows, b.channels,
                    Normalize<T, N>{b.affine_stride, x, mean, rest, rstd, weight, bias, residual, relu, y});
      },
      x, mean, rest, rstd, weight, bias, residual, y);
}

/// The input of backward: x, and dy, or with the result y of relu, 0 where y ≤ 0.
template <class T, int N>
struct Gradients {
  const T *x, *dy, *y;
  struct Item {
    Pack<T, N> x{}, dy{}, y{};
  };
  LPF_DEVICE Item load(std::int64_t i) const {
    Item item;
    item.x = lpf::cuda::load<N>(x + i);
    item.dy = lpf::cuda::load<N>(dy + i);
    if (y) item.y = lpf::cuda::load<N>(y + i);
    return item;
  }
  LPF_DEVICE Computed<T> dy_of(const Item& item, int k) const {
    const Computed<T> result = item.y[k], gradient = item.dy[k];
    const bool masked = y, off = result <= 0;
    return (masked & off) ? 0 : gradient;  // selected, not branched: adjacent elements differ
  }
};

/// Σ dy and Σ dy·(x − mean), and the masked dy in dresidual.
template <class T, int N>
struct GradientSums {
  static constexpr int pack = N, at_once = 4;
  using C = Computed<T>;
  Gradients<T, N> from;
  const C* mean;
  T* dresidual;

  LPF_DEVICE Pack<C, N> own(const Columns& c, std::int64_t group, std::int64_t channel) const {
    return lpf::cuda::load<N>(mean + group * c.channels + channel);
  }
  using Item = typename Gradients<T, N>::Item;
  LPF_DEVICE Item load(std::int64_t i, std::int64_t) const { return from.load(i); }
  template <int K>
  LPF_DEVICE void add(const Pack<C, N>& centre, const Item (&items)[K], std::int64_t i, std::int64_t step,
                      double (&a)[N], double (&b)[N]) const {
    C sum[N] = {}, product[N] = {};
    LPF_UNROLL for (int row = 0; row < K; ++row) {
      const Item& item = items[row];
      Pack<T, N> masked;
      LPF_UNROLL for (int k = 0; k < N; ++k) {
        const C d = from.dy_of(item, k);
        masked[k] = static_cast<T>(d);
        sum[k] += d;
        product[k] += d * (item.x[k] - centre[k]);
      }
      if (dresidual) store(dresidual + i + row * step, masked);
    }
    LPF_UNROLL for (int k = 0; k < N; ++k) {
      a[k] += static_cast<double>(sum[k]);
      b[k] += static_cast<double>(product[k]);
    }
  }
};

/// dweight, dbias and, for dx, slope = rstd²·Σ dy·(x − mean − rest)/rows and offset = Σ dy/rows − rest·slope.
template <class T>
struct FinishGradients {
  using C = Computed<T>;
  const C *rest, *rstd;
  C *offset, *slope, *dweight, *dbias;

  LPF_DEVICE void operator()(const Columns& c, std::int64_t group, std::int64_t channel, double a,
                             double b) const {
    const std::int64_t i = group * c.channels + channel;
    const auto rows = static_cast<double>(c.rows(group)), r = static_cast<double>(rstd[i]);
    const double left = rest ? static_cast<double>(rest[i]) : 0;
    b -= a * left;
    slope[i] = static_cast<C>(b * r * r / rows);
    offset[i] = static_cast<C>(a / rows - left * static_cast<double>(slope[i]));
    if (dbias) dbias[i] = static_cast<C>(a);
    if (dweight) dweight[i] = static_cast<C>(b * r);
  }
};

/// With x̂ = (x − mean − rest)·rstd: dx = weight·rstd·(dy − Σdy/rows − x̂·Σ(dy·x̂)/rows).
template <class T, int N>
struct InputGradient {
  static constexpr int pack = N, at_once = 4;
  using C = Computed<T>;
  std::int64_t affine_stride;
  Gradients<T, N> from;
  const C *mean, *rstd, *weight, *offset, *slope;
  T* dx;

  struct Own {
    Pack<C, N> centre, scale, offset, slope;
  };
  LPF_DEVICE Own own(const Columns& c, std::int64_t group, std::int64_t channel) const {
    const std::int64_t at = group * c.channels + channel;
    Own o{lpf::cuda::load<N>(mean + at), lpf::cuda::load<N>(rstd + at), lpf::cuda::load<N>(offset + at),
          lpf::cuda::load<N>(slope + at)};
    if (weight) {
      const auto g = lpf::cuda::load<N>(weight + group * affine_stride + channel);
      LPF_UNROLL for (int k = 0; k < N; ++k) o.scale[k] *= g[k];
    }
    return o;
  }
  using Item = typename Gradients<T, N>::Item;
  LPF_DEVICE Item load(std::int64_t i, std::int64_t) const { return from.load(i); }
  LPF_DEVICE void write(const Own& o, const Item& item, std::int64_t i) const {
    Pack<T, N> to;
    LPF_UNROLL for (int k = 0; k < N; ++k) to[k] = static_cast<T>(
        o.scale[k] * (from.dy_of(item, k) - o.offset[k] - (item.x[k] - o.centre[k]) * o.slope[k]));
    store(dx + i, to);
  }
};

template <class T>
void backward(const BatchNorm& b, const T* x, const T* y, const T* dy, const Computed<T>* mean,
              const Computed<T>* rest, const Computed<T>* rstd, const Computed<T>* weight, T* dx,
              Computed<T>* dweight, Computed<T>* dbias, T* dresidual) {
  using C = Computed<T>;
  const RowGroups rows(b.groups, b.row_begin);
  const Scratch<C> offset(b.groups * b.channels), slope(b.groups * b.channels);
  visit_packs<sum_pack<T>>(
      b.channels,
      [&]<int N>() {
        sum_columns(rows, b.channels, GradientSums<T, N>{{x, dy, y}, mean, dresidual},
                    FinishGradients<T>{rest, rstd, offset.data(), slope.data(), dweight, dbias});
      },
      x, y, dy, mean, dresidual);
  if (!dx) return;
  if (dresidual) dy = dresidual, y = nullptr;
  visit_packs<map_pack<T>>(
      b.channels,
      [&]<int N>() {
        map_columns(rows, b.channels,
                    InputGradient<T, N>{
                        b.affine_stride, {x, dy, y}, mean, rstd, weight, offset.data(), slope.data(), dx});
      },
      x, y, dy, mean, rstd, weight, offset.data(), slope.data(), dx);
}

/// y[c] = keep·y[c] + Σ_r weight[r]·x[r, c].
template <class T>
struct WeightedRows {
  std::int64_t rows, channels;
  double keep;
  const double* weight;
  const T* x;
  T* y;

  LPF_DEVICE void operator()(std::int64_t c) const {
    double sum = keep * static_cast<double>(y[c]);
    for (std::int64_t r = 0; r < rows; ++r) sum += weight[r] * static_cast<double>(x[r * channels + c]);
    y[c] = static_cast<T>(sum);
  }
};

}  // namespace

void norm(Table& t) {
  t.batch_norm_statistics = [](const BatchNorm& b, const void* x, void* mean, void* rest, void* variance) {
    visit_real("batch_norm", b.dtype, [&](auto zero) {
      using T = decltype(zero);
      using C = Computed<T>;
      statistics(b, static_cast<const T*>(x), static_cast<C*>(mean), static_cast<C*>(rest),
                 static_cast<C*>(variance));
    });
  };
  t.batch_norm = [](const BatchNorm& b, const void* x, const void* mean, const void* rest, const void* rstd,
                    const void* weight, const void* bias, const void* residual, bool relu, void* y) {
    visit_real("batch_norm", b.dtype, [&](auto zero) {
      using T = decltype(zero);
      using C = Computed<T>;
      normalize(b, static_cast<const T*>(x), static_cast<const C*>(mean), static_cast<const C*>(rest),
                static_cast<const C*>(rstd), static_cast<const C*>(weight), static_cast<const C*>(bias),
                static_cast<const T*>(residual), relu, static_cast<T*>(y));
    });
  };
  t.batch_norm_backward = [](const BatchNorm& b, const void* x, const void* y, const void* dy,
                             const void* mean, const void* rest, const void* rstd, const void* weight,
                             void* dx, void* dweight, void* dbias, void* dresidual) {
    visit_real("batch_norm", b.dtype, [&](auto zero) {
      using T = decltype(zero);
      using C = Computed<T>;
      backward(b, static_cast<const T*>(x), static_cast<const T*>(y), static_cast<const T*>(dy),
               static_cast<const C*>(mean), static_cast<const C*>(rest), static_cast<const C*>(rstd),
               static_cast<const C*>(weight), static_cast<T*>(dx), static_cast<C*>(dweight),
               static_cast<C*>(dbias), static_cast<T*>(dresidual));
    });
  };
  t.weighted_rows = [](DType type, std::int64_t rows, std::int64_t channels, double keep,
                       const double* weight, const void* x, void* y) {
    const Upload weights(weight, rows);
    visit_floating("batch_norm", type, [&](auto zero) {
      using T = decltype(zero);
      each(channels, WeightedRows<T>{rows, channels, keep, weights.data(), static_cast<const T*>(x),
                                     static_cast<T*>(y)});
    });
  };
}

}  // namespace lpf::cuda
