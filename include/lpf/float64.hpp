// float64 arithmetic beside lpf/dense.hpp in a program built from headers alone (backend/float64.hpp).
#pragma once

#include "lpf/backend/float64.hpp"
