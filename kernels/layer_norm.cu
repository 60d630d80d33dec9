// Layer normalisation (Ba, Kiros & Hinton 2016): each row by its own mean and variance, with sums in double.
// The gradients of weight and bias are column sums.
#include "columns.hpp"
#include "kernel_groups.hpp"
#include "rows.hpp"

namespace lpf::cuda {
namespace {

/// y = (x − mean − rest)·rstd·weight + bias, and mean, rest and rstd of each row.
template <class T, int Lanes>
struct LayerNorm {
  using Rows = RowThreads<Lanes>;
  static constexpr int threads = Rows::threads;
  struct Shared {
    double sum[threads], squares[threads];
  };
  std::int64_t rows, n;
  double epsilon;
  const T *x, *weight, *bias;
  T *y, *mean, *rest, *rstd;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const auto count = static_cast<double>(n);
    // Counted from the row's first number, so that a large mean costs no digits.
    const auto first = [&](std::int64_t row) {
      return row < rows && n > 0 ? static_cast<double>(x[row * n]) : 0;
    };
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      double sum = 0;
      for (std::int64_t i = Rows::lane(t); row < rows && i < n; i += Lanes)
        sum += static_cast<double>(x[row * n + i]) - first(row);
      shared.sum[t] = sum;
    });
    Rows::sum(block, shared.sum);
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      const double m = shared.sum[Rows::head(t)] / count;
      double squares = 0;
      for (std::int64_t i = Rows::lane(t); row < rows && i < n; i += Lanes) {
        const double d = static_cast<double>(x[row * n + i]) - first(row) - m;
        squares += d * d;
      }
      shared.squares[t] = squares;
    });
    Rows::sum(block, shared.squares);
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      if (row >= rows) return;
      const double m = shared.sum[Rows::head(t)] / count;
      const T centre = static_cast<T>(first(row) + m),
              left = static_cast<T>(first(row) - static_cast<double>(centre) + m);
      const T r = static_cast<T>(1 / std::sqrt(shared.squares[Rows::head(t)] / count + epsilon));
      const T shift = T(0) - left * r;
      if (Rows::lane(t) == 0) {
        mean[row] = centre;
        rest[row] = left;
        rstd[row] = r;
      }
      for (std::int64_t i = Rows::lane(t); i < n; i += Lanes) {
        T value = (x[row * n + i] - centre) * r + shift;
        if (weight) value *= weight[i];
        if (bias) value += bias[i];
        y[row * n + i] = value;
      }
    });
  }
};

/// With x̂ = (x − mean − rest)·rstd and g = dy·weight: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) over each row.
template <class T, int Lanes>
struct LayerNormGradient {
  using Rows = RowThreads<Lanes>;
  static constexpr int threads = Rows::threads;
  struct Shared {
    double sum[threads], product[threads];
  };
  std::int64_t rows, n;
  const T *x, *dy, *mean, *rest, *rstd, *weight;
  T* dx;

  LPF_DEVICE T normal(std::int64_t row, std::int64_t i) const {
    return (x[row * n + i] - mean[row]) * rstd[row] + (T(0) - rest[row] * rstd[row]);
  }
  LPF_DEVICE T gradient(std::int64_t row, std::int64_t i) const {
    const T g = dy[row * n + i];
    return weight ? g * weight[i] : g;
  }
  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      double sum = 0, product = 0;
      for (std::int64_t i = Rows::lane(t); row < rows && i < n; i += Lanes) {
        const T g = gradient(row, i);
        sum += static_cast<double>(g);
        product += static_cast<double>(g * normal(row, i));
      }
      shared.sum[t] = sum;
      shared.product[t] = product;
    });
    Rows::sum(block, shared.sum);
    Rows::sum(block, shared.product);
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      if (row >= rows) return;
      const auto count = static_cast<double>(n);
      const T offset = static_cast<T>(shared.sum[Rows::head(t)] / count);
      const T slope = static_cast<T>(shared.product[Rows::head(t)] / count);
      const T r = rstd[row];
      for (std::int64_t i = Rows::lane(t); i < n; i += Lanes)
        dx[row * n + i] = r * (gradient(row, i) - offset - normal(row, i) * slope);
    });
  }
};

/// Σ dy and Σ dy·x̂ over the rows.
template <class T, int N>
struct ParameterSums {
  static constexpr int pack = N, at_once = 4;
  const T *x, *dy, *mean, *rest, *rstd;

  struct Item {
    Pack<T, N> x, dy;
    T mean, rstd, shift;
  };
  LPF_DEVICE bool own(const Columns&, std::int64_t, std::int64_t) const { return false; }
  LPF_DEVICE Item load(std::int64_t i, std::int64_t row) const {
    return {lpf::cuda::load<N>(x + i), lpf::cuda::load<N>(dy + i), mean[row], rstd[row],
            T(0) - rest[row] * rstd[row]};
  }
  template <int K>
  LPF_DEVICE void add(bool, const Item (&items)[K], std::int64_t, std::int64_t, double (&a)[N],
                      double (&b)[N]) const {
    LPF_UNROLL for (int k = 0; k < N; ++k) {
      T sum = 0, product = 0;
      LPF_UNROLL for (int row = 0; row < K; ++row) {
        const Item& item = items[row];
        sum += item.dy[k];
        product += item.dy[k] * ((item.x[k] - item.mean) * item.rstd + item.shift);
      }
      a[k] += static_cast<double>(sum);
      b[k] += static_cast<double>(product);
    }
  }
};
template <class T>
struct FinishParameters {
  T *dweight, *dbias;

  LPF_DEVICE void operator()(const Columns&, std::int64_t, std::int64_t channel, double a, double b) const {
    if (dweight) dweight[channel] = static_cast<T>(b);
    if (dbias) dbias[channel] = static_cast<T>(a);
  }
};

template <class T>
void backward(std::int64_t rows, std::int64_t n, const T* x, const T* dy, const T* mean, const T* rest,
              const T* rstd, const T* weight, T* dx, T* dweight, T* dbias) {
  if (dx) each_row<T, LayerNormGradient>(rows, n, x, dy, mean, rest, rstd, weight, dx);
  if (!dweight && !dbias) return;
  const std::int64_t all[] = {0, rows};
  visit_packs<std::min(4, pack_width<T>)>(
      n,
      [&]<int N>() {
        sum_columns(RowGroups(1, all), n, ParameterSums<T, N>{x, dy, mean, rest, rstd},
                    FinishParameters<T>{dweight, dbias});
      },
      x, dy);
}

}  // namespace

void layer_norm(Table& t) {
  t.layer_norm = [](DType type, std::int64_t rows, std::int64_t n, double epsilon, const void* x,
                    const void* weight, const void* bias, void* y, void* mean, void* rest, void* rstd) {
    visit_floating("layer_norm", type, [&](auto zero) {
      using T = decltype(zero);
      each_row<T, LayerNorm>(rows, n, epsilon, static_cast<const T*>(x), static_cast<const T*>(weight),
                             static_cast<const T*>(bias), static_cast<T*>(y), static_cast<T*>(mean),
                             static_cast<T*>(rest), static_cast<T*>(rstd));
    });
  };
  t.layer_norm_backward = [](DType type, std::int64_t rows, std::int64_t n, const void* x, const void* dy,
                             const void* mean, const void* rest, const void* rstd, const void* weight,
                             void* dx, void* dweight, void* dbias) {
    visit_floating("layer_norm", type, [&](auto zero) {
      using T = decltype(zero);
      backward(rows, n, static_cast<const T*>(x), static_cast<const T*>(dy), static_cast<const T*>(mean),
               static_cast<const T*>(rest), static_cast<const T*>(rstd), static_cast<const T*>(weight),
               static_cast<T*>(dx), static_cast<T*>(dweight), static_cast<T*>(dbias));
    });
  };
}

}  // namespace lpf::cuda
