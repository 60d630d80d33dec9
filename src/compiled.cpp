// The CPU backend, compiled once: lpf::compiled.
#if __has_include(<lpf/backend/cpu/cpu.hpp>)
#  include <lpf/backend/cpu/cpu.hpp>
#endif
