// Brings in the CPU backend: its code, or, in a program linked with lpf::compiled, its declaration.
#pragma once

#include "lpf/backend/registry.hpp"

#ifdef LPF_COMPILED
namespace lpf::backend::cpu {
const Table& compiled_table();  // src/compiled.cpp
inline const bool compiled_registered = register_cpu(compiled_table());
}  // namespace lpf::backend::cpu
#else
#  include "lpf/backend/cpu/cpu.hpp"
#endif
