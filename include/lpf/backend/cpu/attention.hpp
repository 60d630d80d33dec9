// Attention: for some queries of one head at a time the scores with all keys, which stay in the cache, their softmax and
// the products with them. So memory beyond the operands is one tile a thread. Backward computes the scores of a tile again,
// and the weights from each query's largest score and sum.
#pragma once

#include <limits>

#include "lpf/backend/cpu/exponential.hpp"
#include "lpf/backend/cpu/gemm_float64.hpp"
#include "lpf/backend/cpu/reduce.hpp"
#include "lpf/backend/cpu/simd_noise.hpp"
#include "lpf/backend/cpu/typed.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

namespace attention_tiles {

/// A matrix of contiguous rows.
template <class T>
struct Rows {
  T* data;
  std::int64_t stride;
  Rows from(std::int64_t row) const { return {data + row * stride, stride}; }
};

/// C (m×n) = op(A)·op(B), or with `add` C + op(A)·op(B), of depth k.
template <class T>
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, Rows<const T> a, bool transpose_a,
              Rows<const T> b, bool transpose_b, Rows<T> c, bool add) {
  const Gemm g{.dtype = dtype_of<T>(),
               .transpose_a = transpose_a,
               .transpose_b = transpose_b,
               .m = m,
               .n = n,
               .k = k,
               .lda = a.stride,
               .ldb = b.stride,
               .ldc = c.stride,
               .beta = add ? 1.0 : 0.0};
  if (m > 0 && n > 0) gemm_tile(g, a.data, b.data, c.data, 0, m, 0, n);
}

/// Queries of a tile: a tile's scores fill at most about half a megabyte of floats, and at least 16 rows.
inline std::int64_t tile_rows(std::int64_t queries, std::int64_t keys) {
  constexpr std::int64_t most_scores = 1 << 17;
  const std::int64_t fit = most_scores / std::max<std::int64_t>(1, keys);
  return std::max<std::int64_t>(1, std::min(queries, std::clamp<std::int64_t>(fit, 16, 64)));
}

/// One head of one sample.
template <class T>
struct Head {
  const Attention& a;
  std::int64_t batch, head;

  std::int64_t begin(const Attention::Place& p, std::int64_t shared = 1) const {
    return batch * p.batch + head / shared * p.head;
  }
  template <class U>
  Rows<U> rows(U* data, const Attention::Place& p, std::int64_t shared = 1) const {
    return {data + begin(p, shared), p.row};
  }
  std::int64_t first_row() const { return (batch * a.heads + head) * a.queries; }  // in the statistics

  /// Keys that queries before `end` may attend to.
  std::int64_t visible(std::int64_t end) const {
    return a.causal ? std::clamp<std::int64_t>(a.first_query + end, 0, a.keys) : a.keys;
  }

  /// The scores of a query with the first `keys` keys from products: scaled, masked, −∞ where excluded.
  void mask(std::int64_t query, std::int64_t keys, T* s) const {
    constexpr T excluded = -std::numeric_limits<T>::infinity();
    const T scale = static_cast<T>(a.scale);
    LPF_SIMD
    for (std::int64_t j = 0; j < keys; ++j) s[j] *= scale;
    if (a.mask) {
      const std::int64_t* const by = a.mask_stride;
      const std::int64_t at = batch * by[0] + head * by[1] + query * by[2], step = by[3];
      if (a.mask_dtype == DType::bool_) {
        const bool* const m = static_cast<const bool*>(a.mask) + at;
        for (std::int64_t j = 0; j < keys; ++j) s[j] = m[j * step] ? s[j] : excluded;
      } else {
        const T* const m = static_cast<const T*>(a.mask) + at;
        for (std::int64_t j = 0; j < keys; ++j) s[j] += m[j * step];
      }
    }
    if (a.padding) {
      const bool* const p = a.padding + batch * a.keys;
      for (std::int64_t j = 0; j < keys; ++j) s[j] = p[j] ? excluded : s[j];
    }
    if (a.causal) {
      const std::int64_t own = visible(query + 1);
      if (own < keys) std::fill(s + own, s + keys, excluded);
    }
  }

  /// Calls f(j, kept) with 1/(1 − p) or 0 for the weights of a query with keys 0 … keys − 1.
  template <class F>
  void for_each_kept(std::int64_t query, std::int64_t keys, F f) const {
    const std::uint64_t threshold = bernoulli_threshold(1 - a.dropout);  // up to 2^32
    const T scale = threshold == 0 ? T(0) : static_cast<T>(1 / (1 - a.dropout));
    const std::int64_t first = a.first_element + (first_row() + query) * a.keys;
    constexpr std::int64_t tile = 512;
    std::uint32_t words[tile];
    for (std::int64_t j = 0; j < keys; j += tile) {
      const std::int64_t n = std::min(tile, keys - j);
      word_fill(a.key, first + j, n, words);
      for (std::int64_t i = 0; i < n; ++i) f(j + i, words[i] < threshold ? scale : T(0));
    }
  }
};

/// The largest number, NaN aside; −∞ of none.
template <class T>
T largest(std::int64_t n, const T* x) {
  constexpr std::int64_t lanes = 16;
  T lane[lanes];
  std::fill_n(lane, lanes, -std::numeric_limits<T>::infinity());
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    LPF_SIMD
    for (std::int64_t l = 0; l < lanes; ++l) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
  }
  for (std::int64_t l = 0; i < n; ++i, ++l) lane[l] = x[i] > lane[l] ? x[i] : lane[l];
  for (std::int64_t l = 1; l < lanes; ++l) lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
  return lane[0];
}

/// Scores to weights in place; writes the query's two statistics. `masked`: scores of −∞ may come from a mask.
template <class T>
void softmax_row(std::int64_t n, bool masked, T* s, T* statistics) {
  T top = largest(n, s);
  if (top == -std::numeric_limits<T>::infinity()) {
    if (masked && std::none_of(s, s + n, [](T x) { return x != x; })) {  // it attends to nothing
      statistics[0] = statistics[1] = T(0);
      std::fill_n(s, n, T(0));
      return;
    }
    top = T(0);
  }
  exponentials(n, s, top, T(1), s);
  const T by = static_cast<T>(1 / sum_tree<double>(n, AsDouble<T>{s}));
  LPF_SIMD
  for (std::int64_t j = 0; j < n; ++j) s[j] *= by;
  statistics[0] = top;
  statistics[1] = by;
}

}  // namespace attention_tiles

template <class T>
void attention(const Attention& a, const void* q, const void* k, const void* v, void* y, void* statistics) {
  using namespace attention_tiles;
  const bool masked = a.mask || a.padding || a.causal;
  const std::int64_t step = tile_rows(a.queries, a.keys), tiles = (a.queries + step - 1) / step;
  if (a.dropout > 0) check_noise_range(a.key, a.first_element, a.batch * a.heads * a.queries * a.keys, 4);
  const std::int64_t work = std::max<std::int64_t>(1, step * a.keys * (a.width + a.value_width));
  parallel_for(
      a.batch * a.heads * tiles, std::max<std::int64_t>(1, (1 << 17) / work),
      [&](std::int64_t t, std::int64_t end) {
        T* const scores = scratch<T>(Scratch::scores, step * a.keys);
        for (; t < end; ++t) {
          const Head<T> head{a, t / tiles / a.heads, t / tiles % a.heads};
          const std::int64_t first = t % tiles * step, rows = std::min(step, a.queries - first),
                             keys = head.visible(first + rows);
          const Rows<T> to = head.rows(static_cast<T*>(y), a.y).from(first);
          multiply<T>(rows, keys, a.width, head.rows(static_cast<const T*>(q), a.q).from(first), false,
                      head.rows(static_cast<const T*>(k), a.k, a.group), true, {scores, keys}, false);
          for (std::int64_t i = 0; i < rows; ++i) {
            T* const s = scores + i * keys;
            head.mask(first + i, keys, s);
            softmax_row(keys, masked, s, static_cast<T*>(statistics) + 2 * (head.first_row() + first + i));
            if (a.dropout > 0)
              head.for_each_kept(first + i, keys,
                                 [s](std::int64_t j, T kept) { s[j] = kept == T(0) ? T(0) : s[j] * kept; });
          }
          multiply<T>(rows, a.value_width, keys, {scores, keys}, false,
                      head.rows(static_cast<const T*>(v), a.v, a.group), false, to, false);
        }
      });
}

namespace attention_tiles {

/// Of a query: weights p from scores, and from dp = dy·vᵀ the gradient of the products q·kᵀ. Leaves in p the weights after
/// dropout and in dp that gradient. `sum` is Σ_j p_j·dp_j = y·dy.
template <class T>
void weights_backward(const Head<T>& head, std::int64_t query, std::int64_t keys, const T* statistics, T sum,
                      T* p, T* dp) {
  const T scale = static_cast<T>(head.a.scale);
  head.mask(query, keys, p);
  exponentials(keys, p, statistics[0], statistics[1], p);
  const auto slope = [scale, sum](T weight, T g) {
    return weight == T(0) ? T(0) : weight * (g - sum) * scale;
  };
  if (head.a.dropout > 0) {
    head.for_each_kept(query, keys, [p, dp, slope](std::int64_t j, T kept) {
      dp[j] = slope(p[j], kept == T(0) ? T(0) : dp[j] * kept);
      p[j] = kept == T(0) ? T(0) : p[j] * kept;
    });
  } else {
    LPF_SIMD
    for (std::int64_t j = 0; j < keys; ++j) dp[j] = slope(p[j], dp[j]);
  }
}

/// The gradients of one head of keys and values, and of the queries that share it.
template <class T>
struct HeadBackward {
  const Attention& a;
  const T *q, *k, *v, *y, *statistics, *dy;
  T *dq, *dk, *dv;

  void operator()(std::int64_t batch, std::int64_t shared) const {
    const std::int64_t step = tile_rows(a.queries, 2 * a.keys), tiles = (a.queries + step - 1) / step;
    T* const p = scratch<T>(Scratch::scores, 2 * step * a.keys);
    bool add = false;
    for (std::int64_t h = shared * a.group; h < (shared + 1) * a.group; ++h)
      for (std::int64_t t = tiles; t-- > 0; add = true)
        tile({a, batch, h}, t * step, std::min(step, a.queries - t * step), p, add);
    if (tiles == 0) clear({a, batch, shared * a.group}, 0);
  }

 private:
  /// Zeros in the gradients of keys and values from `key` on.
  void clear(const Head<T>& head, std::int64_t key) const {
    for (std::int64_t j = key; j < a.keys; ++j) {
      if (dk) std::fill_n(head.rows(dk, a.k, a.group).from(j).data, a.width, T(0));
      if (dv) std::fill_n(head.rows(dv, a.v, a.group).from(j).data, a.value_width, T(0));
    }
  }
  void tile(const Head<T>& head, std::int64_t first, std::int64_t rows, T* p, bool add) const {
    const std::int64_t keys = head.visible(first + rows);
    T* const dp = p + rows * keys;
    const Rows<const T> queries = head.rows(q, a.q).from(first), all_keys = head.rows(k, a.k, a.group),
                        values = head.rows(v, a.v, a.group), gradient = head.rows(dy, a.y).from(first),
                        result = head.rows(y, a.y).from(first);
    multiply<T>(rows, keys, a.width, queries, false, all_keys, true, {p, keys}, false);
    multiply<T>(rows, keys, a.value_width, gradient, false, values, true, {dp, keys}, false);
    for (std::int64_t i = 0; i < rows; ++i) {
      const T *of_y = result.from(i).data, *of_dy = gradient.from(i).data;
      const double sum = sum_tree<double>(a.value_width, [of_y, of_dy](std::int64_t e) {
        return static_cast<double>(of_y[e]) * static_cast<double>(of_dy[e]);
      });
      weights_backward(head, first + i, keys, statistics + 2 * (head.first_row() + first + i),
                       static_cast<T>(sum), p + i * keys, dp + i * keys);
    }
    if (!add) clear(head, keys);  // the last queries come first: no others see more keys
    if (dv)
      multiply<T>(keys, a.value_width, rows, {p, keys}, true, gradient, false, head.rows(dv, a.v, a.group),
                  add);
    if (dk)
      multiply<T>(keys, a.width, rows, {dp, keys}, true, queries, false, head.rows(dk, a.k, a.group), add);
    if (dq)
      multiply<T>(rows, a.width, keys, {dp, keys}, false, all_keys, false, head.rows(dq, a.q).from(first),
                  false);
  }
};

}  // namespace attention_tiles

template <class T>
void attention_backward(const Attention& a, const void* q, const void* k, const void* v, const void* y,
                        const void* statistics, const void* dy, void* dq, void* dk, void* dv) {
  const auto in = [](const void* p) { return static_cast<const T*>(p); };
  const auto out = [](void* p) { return static_cast<T*>(p); };
  const attention_tiles::HeadBackward<T> backward{a,      in(q),   in(k),   in(v),  in(y), in(statistics),
                                                  in(dy), out(dq), out(dk), out(dv)};
  const std::int64_t shared = a.heads / a.group,
                     work = std::max<std::int64_t>(1, 5 * a.group * a.queries * a.keys * a.width);
  parallel_for(a.batch * shared, std::max<std::int64_t>(1, (1 << 17) / work),
               [&](std::int64_t t, std::int64_t end) {
                 for (; t < end; ++t) backward(t / shared, t % shared);
               });
}

template <class T>
void fill_attention_of(Table& t) {
  t.attention = attention<T>;
  t.attention_backward = attention_backward<T>;
}
inline void fill_attention(Table& t) {
  fill_attention_of<float>(cpu_float32);
  fill_attention_of<double>(cpu_float64);
  t.attention = ByType<&Table::attention>::call;
  t.attention_backward = ByType<&Table::attention_backward>::call;
}
inline const bool attention_registered =
    register_cpu(KernelGroup::attention, LPF_VECTOR_BYTES, fill_attention);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
