// Batch normalisation (Ioffe & Szegedy 2015), as backend/cpu/norm.hpp computes it: sums in double, counted
// from the group's first row, variances as squares about the mean of a part, so that a large mean costs no
// digits. The passes over x are limited by memory: statistics read it twice (the second time from the cache,
// a part being small), backward reads x and dy twice, with no other array as large.
// x and its like may be bfloat16; the arrays of the channels are float32 then.
#include "columns.hpp"
#include "elements.hpp"
#include "families.hpp"

namespace lpf::cuda {
namespace {

using backend::BatchNorm;

constexpr std::int64_t blocks_of_sums = 512;   // parts are few, so that adding them up is short
constexpr std::int64_t blocks_of_maps = 4096;  // no sums, so as many as keep a GPU busy

/// partial [groups, parts, 2, channels]: of each part Σ (x − first) and Σ (x − first − mean)², with the
/// group's first row and the part's own mean.
template <class T>
struct PartialMoments {
  static constexpr int threads = Columns::threads;
  struct Shared {
    double sum[threads], squares[threads];
  };
  Columns columns;
  const T* x;
  double* partial;

  LPF_DEVICE double first(const Columns::Place& p) const {
    return static_cast<double>(x[columns.row_begin[p.group] * columns.channels + p.channel]);
  }
  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const Columns& c = columns;
    block.each([&](int t) {
      const auto p = c.place(block.index, t);
      double sum = 0;
      if (p.begin < p.end) {
        const double shift = first(p);
        for (std::int64_t row = p.begin; row < p.end; row += c.lanes)
          sum += static_cast<double>(x[row * c.channels + p.channel]) - shift;
      }
      shared.sum[t] = sum;
    });
    sum_lanes(block, shared.sum, c.width, c.lanes);
    block.each([&](int t) {
      const auto p = c.place(block.index, t);
      double squares = 0;
      if (p.begin < p.end) {
        const auto rows = static_cast<double>(p.end - c.first_row(p.group, p.part));
        const double centre = shared.sum[t % c.width] / rows, shift = first(p);
        for (std::int64_t row = p.begin; row < p.end; row += c.lanes) {
          const double d = static_cast<double>(x[row * c.channels + p.channel]) - shift - centre;
          squares += d * d;
        }
      }
      shared.squares[t] = squares;
    });
    sum_lanes(block, shared.squares, c.width, c.lanes);
    block.each([&](int t) {
      const auto p = c.place(block.index, t);
      if (!p.writes) return;
      double* to = partial + (p.group * c.parts + p.part) * 2 * c.channels + p.channel;
      to[0] = shared.sum[t];
      to[c.channels] = shared.squares[t];
    });
  }
};

/// Of all rows the mean m, and Σ (x − m)² = Σ over the parts of their squares + rows·(their mean − m)²
/// (Chan, Golub & LeVeque 1983).
template <class T>
struct MergedMoments {
  static constexpr int threads = Merge::threads;
  struct Shared {
    double sum[threads], squares[threads];
  };
  Columns columns;
  const double* partial;
  const T* x;
  Computed<T>*mean, *variance;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const Columns& c = columns;
    const auto from = [&](const Merge& m, std::int64_t part) {
      return partial + (m.group * c.parts + part) * 2 * c.channels + m.channel;
    };
    block.each([&](int t) {
      const Merge m(c, block.index, t);
      double sum = 0;
      for (std::int64_t part = m.lane; m.inside && part < c.parts; part += Merge::lanes)
        sum += *from(m, part);
      shared.sum[t] = sum;
    });
    sum_lanes(block, shared.sum, Merge::width, Merge::lanes);
    block.each([&](int t) {
      const Merge m(c, block.index, t);
      double squares = 0;
      for (std::int64_t part = m.lane; m.inside && part < c.parts; part += Merge::lanes) {
        const auto rows = static_cast<double>(c.first_row(m.group, part + 1) - c.first_row(m.group, part));
        if (rows == 0) continue;
        const double d =
            *from(m, part) / rows - shared.sum[t % Merge::width] / static_cast<double>(c.rows(m.group));
        squares += from(m, part)[c.channels] + rows * d * d;
      }
      shared.squares[t] = squares;
    });
    sum_lanes(block, shared.squares, Merge::width, Merge::lanes);
    block.each([&](int t) {
      const Merge m(c, block.index, t);
      if (m.lane > 0 || !m.inside || c.rows(m.group) == 0) return;
      const auto rows = static_cast<double>(c.rows(m.group));
      const std::int64_t to = m.group * c.channels + m.channel;
      const auto shift = static_cast<double>(x[c.row_begin[m.group] * c.channels + m.channel]);
      mean[to] = static_cast<Computed<T>>(shift + shared.sum[t] / rows);
      variance[to] = static_cast<Computed<T>>(shared.squares[t] / rows);
    });
  }
};

template <class T>
void statistics(const BatchNorm& b, const T* x, Computed<T>* mean, Computed<T>* variance) {
  const Upload rows(b.row_begin, b.groups + 1);
  const Columns c(b.groups, b.channels, b.row_begin, rows.data(), blocks_of_sums);
  if (c.blocks() == 0) return;
  const Scratch<double> partial(c.groups * c.parts * 2 * c.channels);
  blocks(c.blocks(), PartialMoments<T>{c, x, partial.data()});
  blocks(Merge::blocks(c), MergedMoments<T>{c, partial.data(), x, mean, variance});
}

/// y = f((x − mean)·(rstd·gamma) + beta + residual).
template <class T>
struct Normalize {
  Columns c;
  std::int64_t affine_stride;
  const T* x;
  const Computed<T>*mean, *rstd, *gamma, *beta;
  const T* residual;
  bool relu;
  T* y;

  LPF_DEVICE void operator()(const Columns::Place& p) const {
    if (p.begin >= p.end) return;
    const std::int64_t own = p.group * c.channels + p.channel, affine = p.group * affine_stride + p.channel;
    using C = Computed<T>;
    const C centre = mean[own], scale = gamma ? rstd[own] * gamma[affine] : rstd[own];
    const C shift = beta ? beta[affine] : C(0);
    for (std::int64_t row = p.begin; row < p.end; row += c.lanes) {
      const std::int64_t i = row * c.channels + p.channel;
      C v = (x[i] - centre) * scale + shift;
      if (residual) v += residual[i];
      y[i] = static_cast<T>(relu && v < C(0) ? C(0) : v);
    }
  }
};

template <class T>
void normalize(const BatchNorm& b, const T* x, const Computed<T>* mean, const Computed<T>* rstd,
               const Computed<T>* gamma, const Computed<T>* beta, const T* residual, bool relu, T* y) {
  const Upload rows(b.row_begin, b.groups + 1);
  const Columns c(b.groups, b.channels, b.row_begin, rows.data(), blocks_of_maps);
  blocks(c.blocks(),
         EachColumn<Normalize<T>>{c, {c, b.affine_stride, x, mean, rstd, gamma, beta, residual, relu, y}});
}

/// dy, or with the result y of relu dy where that is positive.
template <class T>
struct Masked {
  const T *dy, *y;
  LPF_DEVICE T operator[](std::int64_t i) const { return !y || y[i] > Computed<T>(0) ? dy[i] : T(0); }
};

/// Σ dy and Σ dy·(x − mean).
template <class T>
struct GradientSums {
  const T* x;
  Masked<T> dy;
  const Computed<T>* mean;
  T* dresidual;
  std::int64_t channels;

  LPF_DEVICE void operator()(std::int64_t group, std::int64_t row, std::int64_t channel, double& a,
                             double& b) const {
    const std::int64_t i = row * channels + channel;
    const T masked = dy[i];
    if (dresidual) dresidual[i] = masked;
    const auto d = static_cast<double>(masked);
    a += d;
    b += d * static_cast<double>(x[i] - mean[group * channels + channel]);
  }
};

/// The sums themselves for dx, total [groups, 2, channels], and from them dgamma and dbeta.
template <class T>
struct FinishGradients {
  const Computed<T>* rstd;
  double* total;
  Computed<T>*dgamma, *dbeta;
  std::int64_t channels;

  LPF_DEVICE void operator()(std::int64_t group, std::int64_t channel, double a, double b) const {
    const std::int64_t i = group * channels + channel;
    total[i + group * channels] = a;
    total[i + (group + 1) * channels] = b;
    if (dbeta) dbeta[i] = static_cast<Computed<T>>(a);
    if (dgamma) dgamma[i] = static_cast<Computed<T>>(b * static_cast<double>(rstd[i]));
  }
};

/// With x̂ = (x − mean)·rstd: dx = gamma·rstd·(dy − Σdy/rows − x̂·Σ(dy·x̂)/rows).
template <class T>
struct InputGradient {
  Columns c;
  std::int64_t affine_stride;
  const T* x;
  Masked<T> dy;
  const Computed<T>*mean, *rstd, *gamma;
  const double* total;
  T* dx;

  LPF_DEVICE void operator()(const Columns::Place& p) const {
    if (p.begin >= p.end) return;
    const std::int64_t own = p.group * c.channels + p.channel;
    const double* sum = total + 2 * p.group * c.channels + p.channel;
    const auto rows = static_cast<double>(c.rows(p.group)), r = static_cast<double>(rstd[own]);
    using C = Computed<T>;
    const C centre = mean[own],
            scale = gamma ? rstd[own] * gamma[p.group * affine_stride + p.channel] : rstd[own];
    const C offset = static_cast<C>(sum[0] / rows), slope = static_cast<C>(sum[c.channels] * r * r / rows);
    for (std::int64_t row = p.begin; row < p.end; row += c.lanes) {
      const std::int64_t i = row * c.channels + p.channel;
      dx[i] = static_cast<T>(scale * (dy[i] - offset - (x[i] - centre) * slope));
    }
  }
};

template <class T>
void backward(const BatchNorm& b, const T* x, const T* y, const T* dy, const Computed<T>* mean,
              const Computed<T>* rstd, const Computed<T>* gamma, T* dx, Computed<T>* dgamma,
              Computed<T>* dbeta, T* dresidual) {
  const Upload rows(b.row_begin, b.groups + 1);
  const Scratch<double> total(2 * b.groups * b.channels);
  sum_columns(Columns(b.groups, b.channels, b.row_begin, rows.data(), blocks_of_sums),
              GradientSums<T>{x, {dy, y}, mean, dresidual, b.channels},
              FinishGradients<T>{rstd, total.data(), dgamma, dbeta, b.channels});
  if (!dx) return;
  const Columns c(b.groups, b.channels, b.row_begin, rows.data(), blocks_of_maps);
  const Masked<T> masked = dresidual ? Masked<T>{dresidual, nullptr} : Masked<T>{dy, y};
  blocks(c.blocks(), EachColumn<InputGradient<T>>{
                         c, {c, b.affine_stride, x, masked, mean, rstd, gamma, total.data(), dx}});
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
  t.batch_norm_statistics = [](const BatchNorm& b, const void* x, void* mean, void* variance) {
    visit_real("batch_norm", b.dtype, [&](auto zero) {
      using T = decltype(zero);
      using C = Computed<T>;
      statistics(b, static_cast<const T*>(x), static_cast<C*>(mean), static_cast<C*>(variance));
    });
  };
  t.batch_norm = [](const BatchNorm& b, const void* x, const void* mean, const void* rstd, const void* gamma,
                    const void* beta, const void* residual, bool relu, void* y) {
    visit_real("batch_norm", b.dtype, [&](auto zero) {
      using T = decltype(zero);
      using C = Computed<T>;
      normalize(b, static_cast<const T*>(x), static_cast<const C*>(mean), static_cast<const C*>(rstd),
                static_cast<const C*>(gamma), static_cast<const C*>(beta), static_cast<const T*>(residual),
                relu, static_cast<T*>(y));
    });
  };
  t.batch_norm_backward = [](const BatchNorm& b, const void* x, const void* y, const void* dy,
                             const void* mean, const void* rstd, const void* gamma, void* dx, void* dgamma,
                             void* dbeta, void* dresidual) {
    visit_real("batch_norm", b.dtype, [&](auto zero) {
      using T = decltype(zero);
      using C = Computed<T>;
      backward(b, static_cast<const T*>(x), static_cast<const T*>(y), static_cast<const T*>(dy),
               static_cast<const C*>(mean), static_cast<const C*>(rstd), static_cast<const C*>(gamma),
               static_cast<T*>(dx), static_cast<C*>(dgamma), static_cast<C*>(dbeta),
               static_cast<T*>(dresidual));
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
