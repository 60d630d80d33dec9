// Brings in the CPU backend: its code, or, in a program linked with lpf::compiled, its declaration.
#pragma once

#include "lpf/backend/registry.hpp"

#ifdef LPF_COMPILED
namespace lpf::backend::cpu {
bool register_compiled();  // src/compiled.cpp: all families
inline const bool compiled_registered = register_compiled();
}  // namespace lpf::backend::cpu
#else
#  include "lpf/backend/cpu/cpu.hpp"
#endif
