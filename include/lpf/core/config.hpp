// LPF_ONCE marks inline functions of some size. In headers alone they are compiled for size, which takes the
// compiler less time (3 % of examples/quickstart.cpp): they call the backend's loops and have none of their
// own. In a program that links lpf::compiled (which defines LPF_COMPILED) they are declarations whose code is
// not emitted: it is in the library, where src/compiled.cpp emits each once. That is what makes such a
// program quick to compile. Only headers that src/compiled.cpp includes (lpf/lpf.hpp's, and those of
// sharpness/) may use it.
#pragma once

#if defined(LPF_COMPILED) && defined(__clang__)
#  pragma clang diagnostic ignored \
      "-Wgnu-inline-cpp-without-extern"  // it is what is meant, and members cannot be extern
#  define LPF_ONCE __attribute__((gnu_inline, noinline))
#elif defined(LPF_COMPILED)
#  define LPF_ONCE \
    __attribute__((gnu_inline, optimize("O0")))  // of another level than its callers: GCC will not inline it
#elif defined(LPF_COMPILING)
#  define LPF_ONCE __attribute__((used))
#else
#  define LPF_ONCE __attribute__((cold))
#endif
