// LPF_ONCE declares an inline function of some size. Header-only, such functions are compiled for size, which
// compiles faster: they call the backend's loops and have none of their own. In a program that links
// lpf::compiled (which defines LPF_COMPILED) they are declarations whose code is not emitted: it is in the
// library, where src/compiled.cpp emits each once, so such a program compiles quickly. Only headers that
// src/compiled.cpp includes (lpf/lpf.hpp's and those of sharpness/) may use it.
//
// A compiler that assumes that there is no NaN is refused.
#pragma once

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
