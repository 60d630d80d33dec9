// Products of float matrices. A kernel holds a tile of sums in registers: rows of one factor, read element by
// element where they lie, times vectors of columns of the other, read from a packed panel or, for few rows,
// where they lie as well. With a transposed right factor, whose rows are not contiguous, either its panels
// are transposed as they are packed, or the roles are exchanged: the kernel computes Cᵀ, reads the right
// factor in place and packs the left one, whichever moves less. A few rows are dot products instead
// (dot_products.hpp).
//
// An element of C is one chain of multiply-adds in each block of k; how k is cut depends on the shape alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "lpf/backend/contract.hpp"
#include "lpf/backend/cpu/scratch.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {
namespace product {

inline constexpr int register_bytes = LPF_VECTOR_BYTES > 16 ? LPF_VECTOR_BYTES : 16;
inline constexpr int width = register_bytes / static_cast<int>(sizeof(float));
#if LPF_VECTOR_BYTES == 64 || defined(__aarch64__)
inline constexpr int most_rows = 8;  // by 3 vectors of sums: 24 of 32 registers
#else
inline constexpr int most_rows = 4;  // 12 of 16
#endif
inline constexpr int most_vectors = 3;

typedef float Lanes __attribute__((vector_size(register_bytes)));
typedef float Quad __attribute__((vector_size(16)));

template <class Vector>
Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class Vector>
void store(float* to, Vector v) {
  std::memcpy(to, &v, sizeof v);
}

/// The left factor as a kernel reads it: numbers `row` elements apart; the next term of the sums is `step` elements on.
struct Factor {
  const float* data;
  std::int64_t row, step;
};

/// Rows or columns that are prefetched: weights are seldom in a near cache.
inline constexpr std::int64_t ahead = 8;

/// The vectors of a right factor, term by term: vector(v) and then next().
struct Vectors {
  const float* at;
  std::int64_t step;
  Lanes vector(int v) const {
    __builtin_prefetch(at + ahead * step + v * width);
    return load<Lanes>(at + v * width);
  }
  void next() { at += step; }
};

/// A tile: to[r·ld …] = or += the sums over `terms` of x's number r times y's vectors, for r ≥ skip. Y is Vectors, or
/// computes its vectors.
template <int rows, int vectors, class Y>
struct Tile {
  static void multiply(std::int64_t terms, const Factor& x, const Y& y, float* to, std::int64_t ld, bool add,
                       std::int64_t skip) {
    run(terms, x, y, to, ld, add, skip, std::make_integer_sequence<int, rows * vectors>{},
        std::make_integer_sequence<int, vectors>{});
  }

 private:
  // Fold expressions, so that compilers keep all sums in registers at -O2 too.
  template <int... i, int... v>
  __attribute__((noinline)) static void run(std::int64_t terms, const Factor& x, const Y& right, float* to,
                                            std::int64_t ld, bool add, std::int64_t skip,
                                            std::integer_sequence<int, i...>,
                                            std::integer_sequence<int, v...>) {
    constexpr int half = (rows + 1) / 2;
    Lanes s[static_cast<std::size_t>(rows * vectors)] = {};
    (__builtin_prefetch(to + i / vectors * ld + i % vectors * width, 1), ...);
    const float *p = x.data, *q = p + half * x.row;
    Y y = right;
    for (std::int64_t t = 0; t < terms; ++t, p += x.step, q += x.step, y.next()) {
      Lanes f[static_cast<std::size_t>(vectors)];
      ((f[v] = y.vector(v)), ...);
      (keep_in_register(f[v]), ...);
      ((s[i] +=
        (i / vectors < half ? p[i / vectors * x.row] : q[(i / vectors - half) * x.row]) * f[i % vectors]),
       ...);
    }
    const auto put = [add](float* at, Lanes sum) { store(at, add ? load<Lanes>(at) + sum : sum); };
    ((i / vectors >= skip ? put(to + i / vectors * ld + i % vectors * width, s[i]) : void()), ...);
  }
};

/// Rows [0, m) of x times one panel of y: whole tiles, halves, single rows. The last tile of a kind may
/// overlap the one before it, whose rows it skips.
template <int vectors, class Y>
void multiply_rows(std::int64_t m, std::int64_t terms, Factor x, const Y& y, float* to, std::int64_t ld,
                   bool add) {
  const float* const data = x.data;
  std::int64_t i = 0;
  while (i < m) {
    constexpr int half = most_rows / 2;
    const int rows = m >= most_rows && m - i > half ? most_rows : m >= half && m - i > 1 ? half : 1;
    const std::int64_t first = std::min(i, m - rows);
    x.data = data + first * x.row;
    (rows == most_rows ? Tile<most_rows, vectors, Y>::multiply
     : rows == half    ? Tile<half, vectors, Y>::multiply
                       : Tile<1, vectors, Y>::multiply)(terms, x, y, to + first * ld, ld, add, i - first);
    i = first + rows;
  }
}
inline void multiply_panel(std::int64_t vectors, std::int64_t m, std::int64_t terms, const Factor& x,
                           const Vectors& y, float* to, std::int64_t ld, bool add) {
  (vectors == 3   ? multiply_rows<3, Vectors>
   : vectors == 2 ? multiply_rows<2, Vectors>
                  : multiply_rows<1, Vectors>)(m, terms, x, y, to, ld, add);
}

/// Columns cut into panels of nearly equal width, of up to three vectors.
template <class F>
void for_each_panel(std::int64_t columns, F f) {
  std::int64_t vectors = (columns + width - 1) / width, panels = (vectors + most_vectors - 1) / most_vectors;
  for (std::int64_t column = 0; panels > 0; --panels) {
    const std::int64_t here = (vectors + panels - 1) / panels;
    f(column, here);
    vectors -= here;
    column += here * width;
  }
}

/// Transposes a block of 4×4.
inline void transpose(Quad& a, Quad& b, Quad& c, Quad& d) {
  const Quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5),
             ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  c = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
  d = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}

/// to[t·ld + j] = from[t·row + j·column] for `terms` rows of `count` columns, with zeros up to ld. One of the
/// strides is 1.
inline void pack_panel(const float* from, std::int64_t row, std::int64_t column, std::int64_t terms,
                       std::int64_t count, float* to, std::int64_t ld) {
  if (count < ld) std::fill_n(to, terms * ld, 0.0f);
  if (column == 1) {
    for (std::int64_t t = 0; t < terms; ++t, from += row, to += ld) {
      std::int64_t j = 0;
      for (; j + width <= count; j += width) {
        __builtin_prefetch(from + ahead * row + j);
        store(to + j, load<Lanes>(from + j));
      }
      for (; j + 4 <= count; j += 4) store(to + j, load<Quad>(from + j));
      for (; j < count; ++j) to[j] = from[j];
    }
    return;
  }
  std::int64_t j = 0;
  for (; j + 4 <= count; j += 4) {
    const float* p = from + j * column;
    std::int64_t t = 0;
    for (; t + 4 <= terms; t += 4, p += 4) {
      __builtin_prefetch(p + (ahead + t / 4 % 4) * column);  // each line of the next columns once
      Quad a = load<Quad>(p), b = load<Quad>(p + column), c = load<Quad>(p + 2 * column),
           d = load<Quad>(p + 3 * column);
      transpose(a, b, c, d);
      float* const at = to + t * ld + j;
      store(at, a), store(at + ld, b), store(at + 2 * ld, c), store(at + 3 * ld, d);
    }
    for (; t < terms; ++t, ++p)
      for (std::int64_t q = 0; q < 4; ++q) to[t * ld + j + q] = p[q * column];
  }
  for (; j < count; ++j)
    for (std::int64_t t = 0; t < terms; ++t) to[t * ld + j] = from[t * row + j * column];
}

/// C = or += alpha·sums, element (i, j) at c[i·row + j·column]. One of the strides is 1.
inline void write_sums(const float* sums, std::int64_t ld, std::int64_t rows, std::int64_t columns,
                       float alpha, bool add, float* c, std::int64_t row, std::int64_t column) {
  const auto put = [=]<class V>(float* at, V sum) {
    store(at, add ? load<V>(at) + alpha * sum : alpha * sum);
  };
  std::int64_t j = 0;
  if (column == 1) {
    for (; j + 4 <= columns; j += 4)
      for (std::int64_t i = 0; i < rows; ++i) put(c + i * row + j, load<Quad>(sums + i * ld + j));
  } else {
    for (; j + 4 <= columns; j += 4) {
      std::int64_t i = 0;
      for (; i + 4 <= rows; i += 4) {
        const float* const from = sums + i * ld + j;
        Quad p = load<Quad>(from), q = load<Quad>(from + ld), r = load<Quad>(from + 2 * ld),
             s = load<Quad>(from + 3 * ld);
        transpose(p, q, r, s);
        float* const at = c + i + j * column;
        put(at, p), put(at + column, q), put(at + 2 * column, r), put(at + 3 * column, s);
      }
      for (; i < rows; ++i)
        for (std::int64_t q = j; q < j + 4; ++q) put(c + i + q * column, sums[i * ld + q]);
    }
  }
  for (; j < columns; ++j)
    for (std::int64_t i = 0; i < rows; ++i) put(c + i * row + j * column, sums[i * ld + j]);
}

/// A matrix: element (i, j) at data[i·row + j·column].
template <class T>
struct Matrix {
  T* data;
  std::int64_t row, column;
  Matrix at(std::int64_t i, std::int64_t j) const { return {data + i * row + j * column, row, column}; }
};

/// Terms that are added to one number, one after another, in a block of k.
inline constexpr std::int64_t longest_chain = 256;

/// Blocks of nearly equal length, of at most `most`.
inline std::int64_t even_length(std::int64_t n, std::int64_t most) {
  const std::int64_t blocks = (n + most - 1) / most;
  return (n + blocks - 1) / blocks;
}

/// C = or += alpha·X·Y: X is read in place, panels of Y are packed. If a panel of C is no whole vectors of
/// its rows, its sums are completed elsewhere and then written.
inline void multiply_packed(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix<const float>& x,
                            const Matrix<const float>& y, const Matrix<float>& c, float alpha, bool add) {
  const std::int64_t depth = even_length(k, longest_chain), height = even_length(m, 512);
  float* const panel = scratch<float>(Scratch::panel, most_vectors * width * depth);
  for_each_panel(n, [&](std::int64_t j, std::int64_t vectors) {
    const std::int64_t ld = vectors * width, columns = std::min(ld, n - j);
    const bool direct = c.column == 1 && columns == ld && alpha == 1;
    float* const sums = direct ? nullptr : scratch<float>(Scratch::sums, height * ld);
    for (std::int64_t i = 0; i < m; i += height) {
      const std::int64_t rows = std::min(height, m - i);
      const Matrix to = c.at(i, j);
      for (std::int64_t p = 0; p < k; p += depth) {
        const std::int64_t terms = std::min(depth, k - p);
        const Matrix from = x.at(i, p), with = y.at(p, j);
        if (i == 0 || depth < k) pack_panel(with.data, with.row, with.column, terms, columns, panel, ld);
        multiply_panel(vectors, rows, terms, {from.data, from.row, from.column}, {panel, ld},
                       direct ? to.data : sums, direct ? to.row : ld, p > 0 || (direct && add));
      }
      if (!direct) write_sums(sums, ld, rows, columns, alpha, add, to.data, to.row, to.column);
    }
  });
}

/// C = or += X·Y for few rows, Y's and C's rows contiguous and of whole vectors: Y is read in place, some
/// rows at a time, which are adjacent in memory.
inline void multiply_in_place(std::int64_t m, std::int64_t n, std::int64_t k, const Matrix<const float>& x,
                              const Matrix<const float>& y, const Matrix<float>& c, bool add) {
  constexpr std::int64_t terms = 64;
  for (std::int64_t p = 0; p < k; p += terms)
    for_each_panel(n, [&](std::int64_t j, std::int64_t vectors) {
      multiply_panel(vectors, m, std::min(terms, k - p), {x.at(0, p).data, x.row, x.column},
                     {y.at(p, j).data, y.row}, c.at(0, j).data, c.row, add || p > 0);
    });
}

}  // namespace product
}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
