// The instruction set for which this translation unit is compiled. Code that depends on it is in the inline
// namespace lpf::backend::cpu::LPF_ISA, so that translation units with different flags can be linked.
#pragma once

#include "lpf/core/fma.hpp"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512BW__)
#  define LPF_ISA avx512
#  define LPF_ISA_NAME "avx512"
#  define LPF_VECTOR_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#  define LPF_ISA avx2
#  define LPF_ISA_NAME "avx2"
#  define LPF_VECTOR_BYTES 32
#elif defined(__aarch64__)
#  define LPF_ISA neon
#  define LPF_ISA_NAME "neon"
#  define LPF_VECTOR_BYTES 16
#else
#  define LPF_ISA portable
#  define LPF_ISA_NAME "portable"
#  define LPF_VECTOR_BYTES 0  // scalars
#endif
// GCC for 64-bit Windows cannot align the stack to more than 16 bytes, and stores wider registers there with vmovaps
// and vmovdqa, which crash at other addresses (its bug 54412). Compilers that are patched, as Debian's and MSYS2's
// are, cannot be told from those that are not. So AVX is refused there, and the noise at run time has registers of 16
// bytes, unless LPF_UNALIGNED_MOVES promises that the compiler, or the assembler, uses other instructions, as for
// lpf::native.
#if defined(_WIN64) && defined(__GNUC__) && !defined(__clang__) && !defined(LPF_UNALIGNED_MOVES)
#  define LPF_NARROW_STACK 1
#  if defined(__AVX__)
#    error "LPF: GCC's AVX crashes on Windows; add -Wa,-muse-unaligned-vector-move -DLPF_UNALIGNED_MOVES"
#  endif
#else
#  define LPF_NARROW_STACK 0
#endif
// Compiled for x86-64 without AVX2 and FMA; the noise uses them where the processor has them.
#if defined(__x86_64__) && !LPF_VECTOR_BYTES && LPF_FMA_AT_RUN_TIME
#  define LPF_NOISE_AT_RUN_TIME 1
#else
#  define LPF_NOISE_AT_RUN_TIME 0
#endif

// For an inner loop with independent iterations: makes GCC vectorise it at -O2 too. Clang vectorises by
// itself, and would warn where it considers it not worthwhile.
#if defined(__clang__)
#  define LPF_SIMD
#elif defined(_OPENMP) || defined(LPF_OPENMP_SIMD)
#  define LPF_SIMD _Pragma("omp simd")
#else
#  define LPF_SIMD _Pragma("GCC ivdep")
#endif

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Keeps a vector that several multiply-adds use in a register. With 16 registers GCC otherwise reads it from memory in
/// each of them, which two loads a cycle cannot feed: products on AVX2 were a third slower.
template <class Vector>
inline void keep_in_register([[maybe_unused]] Vector& v) {
#if LPF_VECTOR_BYTES == 32
  asm("" : "+x"(v));
#endif
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
