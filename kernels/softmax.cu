// Softmax and cross-entropy over rows. The maximum of a row is subtracted before exponentiation, so no logit
// overflows; sums over a row are in double, in trees.
#include <cmath>
#include <limits>

#include "fault.hpp"
#include "kernel_groups.hpp"
#include "rows.hpp"

namespace lpf::cuda {
namespace {

/// The shared memory of a block.
template <class T, int threads>
struct RowSums {
  T top[threads];
  double sum[threads], others[threads];
};

/// The first two steps of both: at each row's head its maximum, and Σ exp(x − top).
template <class T, int Lanes, class Shared>
LPF_DEVICE void sum_exponentials(const Block& block, Shared& shared, std::int64_t rows, std::int64_t n,
                                 const T* x) {
  using Rows = RowThreads<Lanes>;
  block.each([&](int t) {
    const std::int64_t row = Rows::row(block, t);
    T top = -std::numeric_limits<T>::infinity();
    for (std::int64_t i = Rows::lane(t); row < rows && i < n; i += Lanes) {
      const T value = x[row * n + i];
      top = value > top ? value : top;
    }
    shared.top[t] = top;
  });
  Rows::reduce(block, shared.top, [](T a, T b) { return a > b ? a : b; });
  block.each([&](int t) {
    const std::int64_t row = Rows::row(block, t);
    const T top = shared.top[Rows::head(t)];
    double sum = 0;
    for (std::int64_t i = Rows::lane(t); row < rows && i < n; i += Lanes)
      sum += static_cast<double>(std::exp(x[row * n + i] - top));
    shared.sum[t] = sum;
  });
  Rows::sum(block, shared.sum);
}

template <class T, int Lanes>
struct Softmax {
  using Rows = RowThreads<Lanes>;
  static constexpr int threads = Rows::threads;
  using Shared = RowSums<T, threads>;
  std::int64_t rows, n;
  bool logarithm;
  const T* x;
  T* y;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    sum_exponentials<T, Lanes>(block, shared, rows, n, x);
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      if (row >= rows) return;
      const T top = shared.top[Rows::head(t)];
      const double sum = shared.sum[Rows::head(t)];
      const T log_sum = static_cast<T>(std::log(sum)), scale = static_cast<T>(1 / sum);
      for (std::int64_t i = Rows::lane(t); i < n; i += Lanes) {
        const T value = x[row * n + i] - top;
        y[row * n + i] = logarithm ? value - log_sum : std::exp(value) * scale;
      }
    });
  }
};

/// dx = y·(dy − Σ dy·y), or for the logarithm y: dx = dy − exp(y)·Σ dy.
template <class T, int Lanes>
struct SoftmaxGradient {
  using Rows = RowThreads<Lanes>;
  static constexpr int threads = Rows::threads;
  struct Shared {
    double sum[threads];
  };
  std::int64_t rows, n;
  bool logarithm;
  const T *y, *dy;
  T* dx;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      double sum = 0;
      for (std::int64_t i = Rows::lane(t); row < rows && i < n; i += Lanes) {
        const auto g = static_cast<double>(dy[row * n + i]);
        sum += logarithm ? g : static_cast<double>(y[row * n + i]) * g;
      }
      shared.sum[t] = sum;
    });
    Rows::sum(block, shared.sum);
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      if (row >= rows) return;
      const T sum = static_cast<T>(shared.sum[Rows::head(t)]);
      for (std::int64_t i = Rows::lane(t); i < n; i += Lanes) {
        const T p = y[row * n + i], g = dy[row * n + i];
        dx[row * n + i] = logarithm ? g - std::exp(p) * sum : p * (g - sum);
      }
    });
  }
};

/// loss = −Σ_k q_k log softmax(x)_k with q = (1 − smoothing)·onehot(target) + smoothing/n, and for backward
/// max x and log Σ exp(x − max x); 0 in ignored rows.
template <class T, int Lanes>
struct CrossEntropy {
  using Rows = RowThreads<Lanes>;
  static constexpr int threads = Rows::threads;
  using Shared = RowSums<T, threads>;
  std::int64_t rows, n;
  IndexGuard guard;
  double smoothing;
  std::int64_t ignore_index;
  const T* x;
  const std::int64_t* target;
  T *loss, *normalizer;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    sum_exponentials<T, Lanes>(block, shared, rows, n, x);
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      double others = 0;  // a logit of −∞ (a masked class) must not be multiplied by 0
      if (smoothing > 0)
        for (std::int64_t i = Rows::lane(t); row < rows && i < n; i += Lanes)
          others += static_cast<double>(x[row * n + i] - shared.top[Rows::head(t)]);
      shared.others[t] = others;
    });
    Rows::sum(block, shared.others);
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      if (row >= rows || Rows::lane(t) > 0) return;
      if (target[row] == ignore_index || !guard.allows(target[row], n)) {
        loss[row] = normalizer[2 * row] = normalizer[2 * row + 1] = T(0);
        return;
      }
      const T top = shared.top[t];
      const double log_sum = std::log(shared.sum[t]);
      double value = log_sum - static_cast<double>(x[row * n + target[row]] - top);
      if (smoothing > 0)
        value = (1 - smoothing) * value + smoothing * (log_sum - shared.others[t] / static_cast<double>(n));
      loss[row] = static_cast<T>(value);
      normalizer[2 * row] = top;
      normalizer[2 * row + 1] = static_cast<T>(log_sum);
    });
  }
};

/// dx = dloss·(softmax(x) − q).
template <class T, int Lanes>
struct CrossEntropyGradient {
  using Rows = RowThreads<Lanes>;
  static constexpr int threads = Rows::threads;
  struct Shared {};
  std::int64_t rows, n;
  double smoothing;
  std::int64_t ignore_index;
  const T* x;
  const std::int64_t* target;
  const T *normalizer, *dloss;
  T* dx;

  LPF_DEVICE void operator()(const Block& block, Shared&) const {
    block.each([&](int t) {
      const std::int64_t row = Rows::row(block, t);
      if (row >= rows) return;
      const bool ignored = target[row] == ignore_index;
      const T g = dloss[row], top = normalizer[2 * row], log_sum = normalizer[2 * row + 1],
              label = static_cast<T>(1 - smoothing),
              spread = static_cast<T>(smoothing / static_cast<double>(n));
      for (std::int64_t i = Rows::lane(t); i < n; i += Lanes) {
        T value = ignored ? T(0) : g * (std::exp(x[row * n + i] - top - log_sum) - spread);
        if (!ignored && i == target[row]) value -= g * label;
        dx[row * n + i] = value;
      }
    });
  }
};

}  // namespace

void softmax(Table& t) {
  t.softmax = [](DType type, std::int64_t rows, std::int64_t n, bool logarithm, const void* x, void* y) {
    visit_floating("softmax", type, [&](auto zero) {
      using T = decltype(zero);
      each_row<T, Softmax>(rows, n, logarithm, static_cast<const T*>(x), static_cast<T*>(y));
    });
  };
  t.softmax_backward = [](DType type, std::int64_t rows, std::int64_t n, bool logarithm, const void* y,
                          const void* dy, void* dx) {
    visit_floating("softmax", type, [&](auto zero) {
      using T = decltype(zero);
      each_row<T, SoftmaxGradient>(rows, n, logarithm, static_cast<const T*>(y), static_cast<const T*>(dy),
                                   static_cast<T*>(dx));
    });
  };
  t.cross_entropy = [](DType type, std::int64_t rows, std::int64_t n, double smoothing,
                       std::int64_t ignore_index, const void* x, const std::int64_t* target, void* loss,
                       void* normalizer) {
    visit_floating("cross_entropy", type, [&](auto zero) {
      using T = decltype(zero);
      each_row<T, CrossEntropy>(rows, n, IndexGuard(Indexed::cross_entropy), smoothing, ignore_index,
                                static_cast<const T*>(x), target, static_cast<T*>(loss),
                                static_cast<T*>(normalizer));
    });
  };
  t.cross_entropy_backward = [](DType type, std::int64_t rows, std::int64_t n, double smoothing,
                                std::int64_t ignore_index, const void* x, const std::int64_t* target,
                                const void* normalizer, const void* dloss, void* dx) {
    visit_floating("cross_entropy", type, [&](auto zero) {
      using T = decltype(zero);
      each_row<T, CrossEntropyGradient>(rows, n, smoothing, ignore_index, static_cast<const T*>(x), target,
                                        static_cast<const T*>(normalizer), static_cast<const T*>(dloss),
                                        static_cast<T*>(dx));
    });
  };
}

}  // namespace lpf::cuda
