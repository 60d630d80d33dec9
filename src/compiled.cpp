// The CPU backend, compiled once: lpf::compiled. A program that links it sees only the declaration of
// compiled_table().
#include "lpf/backend/cpu/cpu.hpp"

namespace lpf::backend::cpu {

const Table& compiled_table();
const Table& compiled_table() { return table; }

}  // namespace lpf::backend::cpu
