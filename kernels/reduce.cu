// Reductions of [outer, n, inner] over the middle axis. A block combines a chunk of it for up to 32 adjacent
// columns, whose elements it reads together; then the chunks' results are combined in the same way. The tree
// depends on the shape alone: the same bits in every run.
#include <algorithm>
#include <bit>
#include <cmath>

#include "elements.hpp"
#include "kernel_groups.hpp"
#include "launch.hpp"
#include "memory.hpp"

namespace lpf::cuda {
namespace {

using backend::Reduce;

// --- laws: the state of some elements, and the destination of the result

template <class T>
struct Sum {
  using State = T;
  Elements<T> y;
  LPF_DEVICE State none() const { return T(0); }
  LPF_DEVICE State one(T v, std::int64_t) const { return v; }
  LPF_DEVICE State join(State a, State b) const { return lpf::detail::wrapping_add(a, b); }
  LPF_DEVICE void put(std::int64_t k, State s) const { y.set(k, s); }
};

template <class T>
struct Product {
  using State = Computed<T>;
  Elements<T> y;
  LPF_DEVICE State none() const { return State(1); }
  LPF_DEVICE State one(State v, std::int64_t) const { return v; }
  LPF_DEVICE State join(State a, State b) const { return lpf::detail::wrapping_multiply(a, b); }
  LPF_DEVICE void put(std::int64_t k, State s) const { y.set(k, s); }
};

/// True if any element is not 0, or if all are.
template <class T>
struct Truth {
  using State = std::uint8_t;
  bool all;
  bool* y;
  LPF_DEVICE State none() const { return all; }
  LPF_DEVICE State one(Computed<T> v, std::int64_t) const { return v != Computed<T>(0); }
  LPF_DEVICE State join(State a, State b) const { return all ? a & b : a | b; }
  LPF_DEVICE void put(std::int64_t k, State s) const { y[k] = s != 0; }
};

/// The maximum or minimum, or its index: the first of equals; a NaN wins, as in NumPy and PyTorch.
template <class T>
struct Extreme {
  struct State {
    Computed<T> value;
    std::int64_t place;  // -1: none yet
  };
  bool least;
  Elements<T> y;
  std::int64_t* place;  // null: the result is the element
  LPF_DEVICE State none() const { return {Computed<T>(0), -1}; }
  LPF_DEVICE State one(Computed<T> v, std::int64_t j) const { return {v, j}; }
  LPF_DEVICE State join(State a, State b) const {
    if (a.place < 0 || b.place < 0) return a.place < 0 ? b : a;
    const bool nan_a = a.value != a.value, nan_b = b.value != b.value;
    const bool same = (nan_a && nan_b) || a.value == b.value;
    if (same) return a.place < b.place ? a : b;
    return nan_a || (!nan_b && (a.value < b.value) == least) ? a : b;
  }
  LPF_DEVICE void put(std::int64_t k, State s) const {
    if (place) {
      place[k] = s.place;
    } else {
      y.set(k, s.value);
    }
  }
};

// --- sources: the state of element k = (o·n + j)·inner + i

template <class Law, class T>
struct Input {
  Elements<T> x;
  LPF_DEVICE typename Law::State operator()(const Law& law, std::int64_t k, std::int64_t j) const {
    return law.one(x.get(k), j);
  }
};
template <class Law>
struct Partial {
  const typename Law::State* x;
  LPF_DEVICE typename Law::State operator()(const Law&, std::int64_t k, std::int64_t) const { return x[k]; }
};
template <class T>
struct Products {
  const T *x, *y;
  LPF_DEVICE double operator()(const Sum<double>&, std::int64_t k, std::int64_t) const {
    return static_cast<double>(x[k]) * static_cast<double>(y[k]);
  }
};

// --- the tree

/// One thread per result.
template <class Law, class Source>
struct ShortFold {
  Law law;
  Source source;
  std::int64_t n, inner;
  LPF_DEVICE void operator()(std::int64_t k) const {
    const std::int64_t first = k / inner * n * inner + k % inner;
    typename Law::State s = law.none();
    for (std::int64_t j = 0; j < n; ++j) s = law.join(s, source(law, first + j * inner, j));
    law.put(k, s);
  }
};

/// One block for `width` adjacent columns of a chunk of `rows`.
template <class Law, class Source>
struct LongFold {
  static constexpr int threads = 256;
  using State = typename Law::State;
  struct Shared {
    State part[threads];
  };
  Law law;
  Source source;
  std::int64_t n, inner, rows, chunks, tiles;
  int width;       // a power of two
  State* partial;  // [outer, chunks, inner]; null if there is one chunk

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t column = block.index % tiles * width, chunk = block.index / tiles % chunks,
                       o = block.index / tiles / chunks;
    block.each([&](int t) {
      const std::int64_t i = column + (t & (width - 1)),
                         end = (chunk + 1) * rows < n ? (chunk + 1) * rows : n;
      State s = law.none();
      if (i < inner)
        for (std::int64_t j = chunk * rows + t / width; j < end; j += threads / width)
          s = law.join(s, source(law, (o * n + j) * inner + i, j));
      shared.part[t] = s;
    });
    for (int half = threads / 2; half >= width; half /= 2)
      block.each([&](int t) {
        if (t < half) shared.part[t] = law.join(shared.part[t], shared.part[t + half]);
      });
    block.each([&](int t) {
      if (t >= width || column + t >= inner) return;
      if (partial) {
        partial[(o * chunks + chunk) * inner + column + t] = shared.part[t];
      } else {
        law.put(o * inner + column + t, shared.part[t]);
      }
    });
  }
};

template <class Law, class Source>
void fold(const Law& law, const Source& source, std::int64_t outer, std::int64_t n, std::int64_t inner) {
  if (outer * inner == 0) return;
  if (n <= 64) return each(outer * inner, ShortFold<Law, Source>{law, source, n, inner});
  using Fold = LongFold<Law, Source>;
  const int width =
      static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(std::min<std::int64_t>(inner, 32))));
  const std::int64_t rows = Fold::threads / width * 32, chunks = (n + rows - 1) / rows,
                     tiles = (inner + width - 1) / width;
  if (chunks == 1)
    return blocks(outer * tiles, Fold{law, source, n, inner, rows, chunks, tiles, width, nullptr});
  const Scratch<typename Law::State> partial(outer * chunks * inner);
  blocks(outer * chunks * tiles, Fold{law, source, n, inner, rows, chunks, tiles, width, partial.data()});
  fold(law, Partial<Law>{partial.data()}, outer, chunks, inner);
}

template <class T>
void reduce_typed(Reduce op, DType type, std::int64_t outer, std::int64_t n, std::int64_t inner,
                  const void* x, void* y) {
  const auto run = [&]<class Law>(const Law& law) { fold(law, Input<Law, T>{{x, type}}, outer, n, inner); };
  switch (op) {
    case Reduce::sum: return run(Sum<Computed<T>>{{y, type}});
    case Reduce::product: return run(Product<T>{{y, type}});
    case Reduce::any:
    case Reduce::all: return run(Truth<T>{op == Reduce::all, static_cast<bool*>(y)});
    default: {
      const bool place = op == Reduce::argmax || op == Reduce::argmin;
      run(Extreme<T>{op == Reduce::min || op == Reduce::argmin,
                     {y, type},
                     place ? static_cast<std::int64_t*>(y) : nullptr});
    }
  }
}
void reduce_any(Reduce op, DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x,
                void* y) {
  visit_arithmetic(type, [&](auto zero) { reduce_typed<decltype(zero)>(op, type, outer, n, inner, x, y); });
}

/// ‖v‖₂, and the factor for x.
template <class T>
struct Rescaling {
  double a, epsilon, limit;
  double* squares;  // then the factor
  T* norm;          // may be null
  LPF_DEVICE void operator()(std::int64_t) const {
    const double length = std::sqrt(*squares), factor = a / (length + epsilon);
    if (norm) *norm = static_cast<T>(length);
    *squares = factor > limit ? limit : factor;
  }
};
template <class T>
struct Rescale {
  const double* factor;
  const T *x, *base;  // base may be null
  T* y;
  LPF_DEVICE void operator()(std::int64_t i) const {
    y[i] = base ? base[i] + static_cast<T>(*factor) * x[i] : static_cast<T>(*factor) * x[i];
  }
};
void rescale(DType type, std::int64_t n, double a, double epsilon, double limit, const void* v, const void* x,
             const void* base, void* y, void* norm) {
  const Scratch<double> sum(1);
  const Sum<double> law{{sum.data(), DType::float64}};
  visit_floating("rescale", type, [&](auto zero) {
    using T = decltype(zero);
    fold(law, Products<T>{static_cast<const T*>(v), static_cast<const T*>(v)}, 1, n, 1);
    each(1, Rescaling<T>{a, epsilon, limit, sum.data(), static_cast<T*>(norm)});
    each(n,
         Rescale<T>{sum.data(), static_cast<const T*>(x), static_cast<const T*>(base), static_cast<T*>(y)});
  });
}

double dot(DType type, std::int64_t n, const void* x, const void* y) {
  const Scratch<double> sum(1);
  const Sum<double> law{{sum.data(), DType::float64}};
  visit_floating("dot", type, [&](auto zero) {
    using T = decltype(zero);
    fold(law, Products<T>{static_cast<const T*>(x), static_cast<const T*>(y)}, 1, n, 1);
  });
  double result;
  copy_to_host(&result, sum.data(), sizeof result);
  return result;
}

}  // namespace

void reduce(Table& t) {
  t.reduce = reduce_any;
  t.dot = dot;
  t.rescale = rescale;
}

}  // namespace lpf::cuda
