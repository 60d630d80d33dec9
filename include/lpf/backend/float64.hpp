// float64 arithmetic for header-only programs. A dense network (lpf/dense.hpp) brings float32 and integers;
// this header adds double. lpf/lpf.hpp includes it, and lpf::compiled contains it.
#pragma once

#include "lpf/backend/backend.hpp"

#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/float64.hpp"
#endif
