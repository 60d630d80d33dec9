// lpf::compiled: the CPU backend and the library's functions, compiled once. A program that links it is
// compiled with LPF_COMPILED, sees their declarations, and emits none of them.
#define LPF_COMPILING
#include "lpf/backend/cpu/cpu.hpp"
#include "lpf/lpf.hpp"

namespace lpf::backend::cpu {

const Table& compiled_table();
const Table& compiled_table() { return table; }

}  // namespace lpf::backend::cpu
