// LPF_ONCE declares an inline function of some size. Header-only, such functions are compiled for size, which
// compiles faster: they call the backend's loops and have none of their own. In a program that links
// lpf::compiled (which defines LPF_COMPILED) they are declarations whose code is not emitted: it is in the
// library, where src/compiled.cpp emits each once, so such a program compiles quickly. Only headers that
// src/compiled.cpp includes (lpf/lpf.hpp's, those of sharpness/ and of the Transformer) may use it.
//
// Refused: compilers that do not know C++20, that assume that there is no NaN, that compute floats in a wider
// type, which gives the noise other bits, and that have no exceptions.
#pragma once

#if __cplusplus < 202002L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 202002L)
#  error "LPF needs C++20: compile with -std=c++20"
#endif
#if !defined(__cpp_exceptions)
#  error "LPF reports errors by exceptions: compile without -fno-exceptions"
#endif
// 16 concerns float16 alone.
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#  error "LPF: floats are computed in a wider type (x87), so the noise differs: use -msse2 -mfpmath=sse"
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#  error "LPF: -ffast-math and -ffinite-math-only break is_nan, argmax and the losses: compile without them"
#endif

#if defined(LPF_COMPILED) && defined(__clang__)
// gnu_inline without extern is intended, and members cannot be extern.
#  pragma clang diagnostic ignored "-Wgnu-inline-cpp-without-extern"
#  define LPF_ONCE __attribute__((gnu_inline, noinline)) inline
#elif defined(LPF_COMPILED)
// An optimisation level other than the callers', so that GCC does not inline it.
#  define LPF_ONCE __attribute__((gnu_inline, optimize("O0"))) inline
#elif defined(LPF_COMPILING)
#  define LPF_ONCE __attribute__((used)) inline
#else
#  define LPF_ONCE __attribute__((cold)) inline
#endif
