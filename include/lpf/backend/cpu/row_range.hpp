// A range of a parameter's rows.
#pragma once

#include <cstdint>

#include "lpf/backend/cpu/isa.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Rows [begin, end) of a parameter: the part that one call perturbs.
struct RowRange {
  std::int64_t begin, end;
};

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
