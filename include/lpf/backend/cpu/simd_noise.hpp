// Random numbers in bulk: many elements of a stream of core/philox.hpp and core/gaussian.hpp in one sweep,
// bit-identical to normal_at() and uniform_at() on every instruction set and for any splitting of the range.
//
// The functions run on the calling thread; callers split a range or the rows among threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/cpu/noise_vectors.hpp"
#include "lpf/core/gaussian.hpp"
#include "lpf/core/philox.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {
namespace noise {

#if LPF_VECTOR_BYTES

/// Philox on two vectors of 64-bit lanes, one block per lane: a chunk. Only the lower half of a lane counts:
/// the multiplication ignores the upper half, so nothing is masked, blended or shuffled between rounds.
class Stream {
 public:
  LPF_INLINE explicit Stream(const NoiseKey& key) {
    const PhiloxWords counter = noise_counter(key, 0);
    for (int i = 1; i < 4; ++i) counter_[i] = U64(std::uint64_t{counter.word[i]});
    auto k0 = static_cast<std::uint32_t>(key.seed), k1 = static_cast<std::uint32_t>(key.seed >> 32);
    for (int round = 0; round < lpf::detail::kPhiloxRounds; ++round) {
      key_[round][0] = U64(U32(k0).v);
      key_[round][1] = U64(U32(k1).v);
      k0 += lpf::detail::kPhiloxWeyl0;
      k1 += lpf::detail::kPhiloxWeyl1;
    }
  }

  /// Word i of the chunk's blocks in w[i].
  LPF_INLINE void words(std::uint32_t first_block, U32 (&w)[4]) const {
    constexpr int last = lpf::detail::kPhiloxRounds - 1;
    State s[2];
    rounds(first_block, s, last);
    const Products a(s[0]), b(s[1]);
    w[0] = join_high(a.p1, b.p1) ^ join_low(s[0].c1, s[1].c1) ^ U32(key_[last][0].v);
    w[1] = join_low(a.p1, b.p1);
    w[2] = join_high(a.p0, b.p0) ^ join_low(s[0].c3, s[1].c3) ^ U32(key_[last][1].v);
    w[3] = join_low(a.p0, b.p0);
  }

  /// The first half of the chunk's blocks as pairs w[0], w[1] of 64-bit words, the second as w[2], w[3].
  LPF_INLINE void words(std::uint32_t first_block, U64 (&w)[4]) const {
    State s[2];
    rounds(first_block, s, lpf::detail::kPhiloxRounds);
    const U64 low = U64(std::uint64_t{0xFFFFFFFF});
    for (int i = 0; i < 2; ++i) {
      w[2 * i] = (s[i].c0 & low) | s[i].c1 << 32;
      w[2 * i + 1] = (s[i].c2 & low) | s[i].c3 << 32;
    }
  }

 private:
  struct State {
    U64 c0, c1, c2, c3;
  };
  struct Products {
    U64 p0, p1;
    LPF_INLINE explicit Products(const State& s)
        : p0(multiply_low(s.c0, U64(std::uint64_t{lpf::detail::kPhiloxMultiplier0}))),
          p1(multiply_low(s.c2, U64(std::uint64_t{lpf::detail::kPhiloxMultiplier1}))) {}
  };

  /// The first n rounds. The two vectors alternate, so that the processor has independent instructions.
  LPF_INLINE void rounds(std::uint32_t first_block, State (&states)[2], int n) const {
    const U64 block = U64(std::uint64_t{first_block}) + block_order();
    states[0] = {block, counter_[1], counter_[2], counter_[3]};
    states[1] = {block + U64(std::uint64_t{U64::lanes}), counter_[1], counter_[2], counter_[3]};
#  pragma GCC unroll 10
    for (int round = 0; round < n; ++round) {
#  pragma GCC unroll 2
      for (State& s : states) {
        const Products p(s);
        s = {(p.p1 >> 32) ^ s.c1 ^ key_[round][0], p.p1, (p.p0 >> 32) ^ s.c3 ^ key_[round][1], p.p0};
      }
    }
  }

  U64 counter_[4], key_[lpf::detail::kPhiloxRounds][2];
};

#else

/// Philox one block at a time (for double two, so that a chunk is four numbers as well).
class Stream {
 public:
  explicit Stream(const NoiseKey& key) : key_(key) {}
  void words(std::uint32_t first_block, U32 (&w)[4]) const {
    const PhiloxWords words = noise_words(key_, first_block);
    for (int i = 0; i < 4; ++i) w[i] = words.word[i];
  }
  void words(std::uint32_t first_block, U64 (&w)[4]) const {
    for (int i = 0; i < 4; i += 2) {
      const PhiloxWords words = noise_words(key_, first_block + static_cast<std::uint32_t>(i / 2));
      w[i] = lpf::detail::wide_word(words, 0);
      w[i + 1] = lpf::detail::wide_word(words, 1);
    }
  }

 private:
  NoiseKey key_;
};

#endif

// Work is done in chunks of four vectors.
template <class T>
using V = typename VectorsOf<T>::Values;
template <class T>
inline constexpr std::int64_t lanes = sizeof(V<T>) / sizeof(T);
template <class T>
inline constexpr std::int64_t chunk = 4 * lanes<T>;

// A law converts a chunk's words to its numbers, in order.
struct Words {
  static LPF_INLINE void draw(const U32 (&w)[4], U32 (&e)[4]) { interleave(w[0], w[1], w[2], w[3], e); }
};
struct Uniform {
  static LPF_INLINE void draw(const U32 (&w)[4], F32 (&e)[4]) {
    for (int i = 0; i < 4; ++i) e[i] = lpf::detail::uniform_f32<F32>(w[i]);
    interleave(e[0], e[1], e[2], e[3], e);
  }
  static LPF_INLINE void draw(const U64 (&w)[4], F64 (&e)[4]) {
    for (int i = 0; i < 4; ++i) e[i] = lpf::detail::uniform_f64<F64>(w[i]);
    interleave(e[0], e[1], e[2], e[3], e);
  }
};
struct Normal {
  static LPF_INLINE void draw(const U32 (&w)[4], F32 (&e)[4]) {
    for (int i = 0; i < 4; i += 2) lpf::detail::box_muller_f32(w[i], w[i + 1], e[i], e[i + 1]);
    interleave(e[0], e[1], e[2], e[3], e);
  }
  static LPF_INLINE void draw(const U64 (&w)[4], F64 (&e)[4]) {
    for (int i = 0; i < 4; i += 2) lpf::detail::box_muller_f64(w[i], w[i + 1], e[i], e[i + 1]);
    interleave(e[0], e[1], e[2], e[3], e);
  }
};

/// out[i] = element first + i of the stream under a law, i < n. Chunks start at block boundaries; the
/// remainders at both ends go through a buffer.
template <class Law, class T>
void sweep(const NoiseKey& key, std::int64_t first, std::int64_t n, T* out) {
  constexpr std::int64_t size = chunk<T>, per_block = 16 / sizeof(T);
  check_noise_range(key, first, n, per_block);
  const Stream stream(key);
  auto block = static_cast<std::uint32_t>(first / per_block);
  for (std::int64_t i = -(first % per_block); i < n;) {
    // Both loops are long chains of dependent instructions. The processor overlaps more iterations of each
    // than of one fused loop: this saves 15 to 20 % of the time.
    constexpr std::int64_t tile = 8;
    typename VectorsOf<T>::Words w[tile][4];
    const std::int64_t chunks = std::min(tile, (n - i + size - 1) / size);
    for (std::int64_t c = 0; c < chunks; ++c, block += size / per_block) stream.words(block, w[c]);
    for (std::int64_t c = 0; c < chunks; ++c, i += size) {
      V<T> e[4];
      Law::draw(w[c], e);
      const bool whole = i >= 0 && i + size <= n;
      T ragged[size];
      T* to = whole ? out + i : ragged;
      for (int k = 0; k < 4; ++k) store(to + k * lanes<T>, e[k]);
      if (whole) continue;
      const std::int64_t begin = std::max<std::int64_t>(0, -i), end = std::min(size, n - i);
      for (std::int64_t k = begin; k < end; ++k) out[i + k] = ragged[k];
    }
  }
}

}  // namespace noise

/// out[i] = standard Gaussian number first_element + i of the stream, i < n; T is float or double. Like all
/// functions here, throws ValueError if the key or an element is out of the counter's range.
template <class T>
void normal_fill(const NoiseKey& key, std::int64_t first_element, std::int64_t n, T* out) {
  noise::sweep<noise::Normal>(key, first_element, n, out);
}

/// out[i] = uniform number first_element + i of the stream in [0, 1), i < n.
template <class T>
void uniform_fill(const NoiseKey& key, std::int64_t first_element, std::int64_t n, T* out) {
  noise::sweep<noise::Uniform>(key, first_element, n, out);
}

/// out[i] = 32-bit word first_element + i of the stream, i < n.
inline void word_fill(const NoiseKey& key, std::int64_t first_element, std::int64_t n, std::uint32_t* out) {
  noise::sweep<noise::Words>(key, first_element, n, out);
}

/// Rows [begin, end) of a parameter: the part that one call perturbs.
struct RowRange {
  std::int64_t begin, end;
};

/// A row of a parameter (a filter) is `len` contiguous elements with its own noise scale:
///   plus[row, col] = theta[row, col] + scale[row] * e, e = Gaussian number row * len + col of the stream,
/// for the rows of the range, and minus[row, col] = theta[row, col] - scale[row] * e, the other half of
/// an antithetic pair, unless minus is null. theta (null: 0) and scale are those of the whole parameter; plus
/// and minus begin with row rows.begin, and without minus plus may alias that row of theta. Throws
/// ValueError for an impossible range.
template <class T>
void perturb_rows(const NoiseKey& key, RowRange rows, std::int64_t len, const T* theta, const T* scale,
                  T* plus, T* minus = nullptr) {
  check(len >= 0 && rows.begin >= 0 && rows.begin <= rows.end &&
            rows.end <= INT64_MAX / std::max<std::int64_t>(1, len),
        "perturb_rows", "rows must be a range [begin, end), 0 <= begin <= end, of a length >= 0: got [",
        rows.begin, ", ", rows.end, ") of ", len);
  constexpr std::int64_t tile = 2048;  // numbers, which fit the first-level cache
  alignas(64) T noise[tile], s[tile + 16];
  const std::int64_t first = rows.begin * len, end = rows.end * len;
  const auto shift = [&](std::int64_t i, const T* e, std::int64_t n, auto scale_of) {
    static constexpr T none[tile] = {};
    const T* from = theta ? theta + i : none;
    T *up = plus + (i - first), *down = minus + (i - first);
    if (minus) {
      LPF_SIMD
      for (std::int64_t k = 0; k < n; ++k) down[k] = lpf::detail::fnmadd(scale_of(k), e[k], from[k]);
    }
    LPF_SIMD
    for (std::int64_t k = 0; k < n; ++k) up[k] = lpf::detail::fmadd(scale_of(k), e[k], from[k]);
  };
  const T* scale_here = scale + rows.begin;
  std::int64_t row_end = first + len;
  for (std::int64_t i = first; i < end;) {
    const std::int64_t n = std::min(end - i, tile - i % 4);  // tiles after the first begin with a block
    normal_fill(key, i, n, noise);
    for (std::int64_t k = 0; k < n;) {  // row by row; the scales of short rows are expanded first
      if (i + k == row_end) row_end += len, ++scale_here;
      const std::int64_t stop = std::min(n, row_end - i);
      if (len >= 64) {
        shift(i + k, noise + k, stop - k, [w = *scale_here](std::int64_t) { return w; });
      } else {
        for (std::int64_t j = k; j < stop; j += 16)  // may run beyond the row: the next one overwrites it
          std::fill_n(s + j, 16, *scale_here);
      }
      k = stop;
    }
    if (len < 64) shift(i, noise, n, [&s](std::int64_t k) { return s[k]; });
    i += n;
  }
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
