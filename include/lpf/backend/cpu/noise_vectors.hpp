// The vector types of simd_noise.hpp: reals F32 and F64, their unsigned counterparts U32 and U64,
// and the functions that core/gaussian.hpp needs for them, bit-identical to the scalar functions of
// the same names in lpf::detail.
//
// Products may be added only by fmadd and fnmadd: the compiler would contract them otherwise.
#pragma once

#include <bit>
#include <cstdint>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/core/gaussian.hpp"

#if LPF_VECTOR_BYTES
#  include <immintrin.h>
#endif

#define LPF_INLINE inline __attribute__((always_inline))

namespace lpf::backend::cpu {
inline namespace LPF_ISA {
namespace noise {

#if LPF_VECTOR_BYTES

/// A register of Ts, with the operators of the compilers' vector extension.
template <class T>
struct Vector {
  static constexpr int lanes = LPF_VECTOR_BYTES / sizeof(T);
  typedef T Register __attribute__((vector_size(LPF_VECTOR_BYTES)));
  Register v;

  Vector() = default;
  LPF_INLINE explicit Vector(T x) : v(x - Register{}) {}
  template <class OtherRegister>
  LPF_INLINE explicit Vector(OtherRegister x) : v(std::bit_cast<Register>(x)) {}

  friend LPF_INLINE Vector operator+(Vector a, Vector b) { return Vector(a.v + b.v); }
  friend LPF_INLINE Vector operator-(Vector a, Vector b) { return Vector(a.v - b.v); }
  friend LPF_INLINE Vector operator*(Vector a, Vector b) { return Vector(a.v * b.v); }
  friend LPF_INLINE Vector operator&(Vector a, Vector b) { return Vector(a.v & b.v); }
  friend LPF_INLINE Vector operator|(Vector a, Vector b) { return Vector(a.v | b.v); }
  friend LPF_INLINE Vector operator^(Vector a, Vector b) { return Vector(a.v ^ b.v); }
  friend LPF_INLINE Vector operator<<(Vector a, int n) { return Vector(a.v << n); }
  friend LPF_INLINE Vector operator>>(Vector a, int n) { return Vector(a.v >> n); }
};
using F32 = Vector<float>;
using F64 = Vector<double>;
using U32 = Vector<std::uint32_t>;
using U64 = Vector<std::uint64_t>;

LPF_INLINE U32 bits_of(F32 a) { return U32(a.v); }
LPF_INLINE U64 bits_of(F64 a) { return U64(a.v); }
LPF_INLINE F64 real_of_bits(U64 a) { return F64(a.v); }
LPF_INLINE F32 flip_sign(F32 a, U32 sign) { return F32((bits_of(a) ^ (sign & U32(1u << 31))).v); }
LPF_INLINE F64 flip_sign(F64 a, U64 sign) {
  return F64((bits_of(a) ^ (sign & U64(std::uint64_t{1} << 63))).v);
}
LPF_INLINE F64 divide(F64 a, F64 b) { return F64(a.v / b.v); }
LPF_INLINE F32 to_real(U32 a) {
  return F32(__builtin_convertvector(std::bit_cast<Vector<std::int32_t>::Register>(a.v), F32::Register));
}

template <class T>
LPF_INLINE Vector<T> load(const T* p) {
  Vector<T> a;
  __builtin_memcpy(&a.v, p, sizeof a.v);
  return a;
}
template <class T>
LPF_INLINE void store(T* p, Vector<T> a) {
  __builtin_memcpy(p, &a.v, sizeof a.v);
}

#  if LPF_VECTOR_BYTES == 64
#    define LPF_INTRINSIC(name) _mm512_##name
using Integers = __m512i;
LPF_INLINE F32 unsigned_to_real(U32 a) { return F32(__builtin_convertvector(a.v, F32::Register)); }
LPF_INLINE F64 to_real(U64 a) { return F64(__builtin_convertvector(a.v, F64::Register)); }
/// The block of each 64-bit lane, counted from a chunk's first, in the order that interleave() restores.
LPF_INLINE U64 block_order() { return U64(_mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7)); }
#  else
#    define LPF_INTRINSIC(name) _mm256_##name
using Integers = __m256i;
LPF_INLINE F32 unsigned_to_real(U32 a) {
  const F32 high = to_real(a >> 16), low = to_real(a & U32(0xFFFFu));
  return F32(_mm256_fmadd_ps(high.v, F32(0x1p16f).v, low.v));
}
LPF_INLINE F64 to_real(U64 a) {
  // Below 2^53: the halves become mantissas of 2^84 and 2^52, whose sum is exact.
  const U64 high = (a >> 32) | U64(0x4530000000000000u),
            low = (a & U64(std::uint64_t{0xFFFFFFFF})) | U64(0x4330000000000000u);
  return (real_of_bits(high) - F64(0x1.00000001p84)) + real_of_bits(low);
}
LPF_INLINE U64 block_order() { return U64(_mm256_setr_epi64x(0, 2, 1, 3)); }
#  endif

template <class T>
LPF_INLINE Integers raw(Vector<T> a) {
  return std::bit_cast<Integers>(a.v);
}

LPF_INLINE F32 fmadd(F32 a, F32 b, F32 c) { return F32(LPF_INTRINSIC(fmadd_ps)(a.v, b.v, c.v)); }
LPF_INLINE F64 fmadd(F64 a, F64 b, F64 c) { return F64(LPF_INTRINSIC(fmadd_pd)(a.v, b.v, c.v)); }
LPF_INLINE F32 fnmadd(F32 a, F32 b, F32 c) { return F32(LPF_INTRINSIC(fnmadd_ps)(a.v, b.v, c.v)); }
LPF_INLINE F64 fnmadd(F64 a, F64 b, F64 c) { return F64(LPF_INTRINSIC(fnmadd_pd)(a.v, b.v, c.v)); }
LPF_INLINE F32 square_root(F32 a) { return F32(LPF_INTRINSIC(sqrt_ps)(a.v)); }
LPF_INLINE F64 square_root(F64 a) { return F64(LPF_INTRINSIC(sqrt_pd)(a.v)); }
LPF_INLINE U32 shift_left(U32 a, U32 n) { return U32(LPF_INTRINSIC(sllv_epi32)(raw(a), raw(n))); }

/// The 64-bit products of the lower halves of the lanes.
LPF_INLINE U64 multiply_low(U64 a, U64 b) { return U64(LPF_INTRINSIC(mul_epu32)(raw(a), raw(b))); }

/// The lower (upper) halves of a's and b's 64-bit lanes, within each 128 bits: a, a, b, b.
LPF_INLINE U32 join_low(U64 a, U64 b) { return U32(LPF_INTRINSIC(shuffle_ps)(F32(a.v).v, F32(b.v).v, 0x88)); }
LPF_INLINE U32 join_high(U64 a, U64 b) {
  return U32(LPF_INTRINSIC(shuffle_ps)(F32(a.v).v, F32(b.v).v, 0xDD));
}

/// Transposes each 4 x 4 of the 128-bit lanes: from four vectors with one number of every block to
/// vectors with whole blocks in order.
template <class T>
LPF_INLINE void interleave(Vector<T> a, Vector<T> b, Vector<T> c, Vector<T> d, Vector<T> (&out)[4]) {
  const auto low_ab = LPF_INTRINSIC(unpacklo_epi32)(raw(a), raw(b)),
             low_cd = LPF_INTRINSIC(unpacklo_epi32)(raw(c), raw(d));
  const auto high_ab = LPF_INTRINSIC(unpackhi_epi32)(raw(a), raw(b)),
             high_cd = LPF_INTRINSIC(unpackhi_epi32)(raw(c), raw(d));
  out[0] = Vector<T>(LPF_INTRINSIC(unpacklo_epi64)(low_ab, low_cd));
  out[1] = Vector<T>(LPF_INTRINSIC(unpackhi_epi64)(low_ab, low_cd));
  out[2] = Vector<T>(LPF_INTRINSIC(unpacklo_epi64)(high_ab, high_cd));
  out[3] = Vector<T>(LPF_INTRINSIC(unpackhi_epi64)(high_ab, high_cd));
}
/// The same for doubles, two to a block: a and b are the first half of the chunk, c and d the rest.
LPF_INLINE void interleave(F64 a, F64 b, F64 c, F64 d, F64 (&out)[4]) {
  out[0] = F64(LPF_INTRINSIC(unpacklo_pd)(a.v, b.v));
  out[1] = F64(LPF_INTRINSIC(unpackhi_pd)(a.v, b.v));
  out[2] = F64(LPF_INTRINSIC(unpacklo_pd)(c.v, d.v));
  out[3] = F64(LPF_INTRINSIC(unpackhi_pd)(c.v, d.v));
}
#  undef LPF_INTRINSIC

#else  // scalars

using F32 = float;
using F64 = double;
using U32 = std::uint32_t;
using U64 = std::uint64_t;
using lpf::detail::fmadd;
using lpf::detail::fnmadd;

template <class T>
LPF_INLINE T load(const T* p) {
  return *p;
}
template <class T>
LPF_INLINE void store(T* p, T a) {
  *p = a;
}
template <class T>
LPF_INLINE void interleave(T a, T b, T c, T d, T (&out)[4]) {
  out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

#endif

/// The vectors for elements of a type, and those of the random words.
template <class T>
struct VectorsOf;
template <>
struct VectorsOf<float> {
  using Values = F32;
  using Words = U32;
};
template <>
struct VectorsOf<double> {
  using Values = F64;
  using Words = U64;
};
template <>
struct VectorsOf<std::uint32_t> {
  using Values = U32;
  using Words = U32;
};

}  // namespace noise
}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
