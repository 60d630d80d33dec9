// float64 arithmetic in addition to lpf/dense.hpp in header-only programs (backend/float64.hpp).
#pragma once

#include "lpf/backend/float64.hpp"
