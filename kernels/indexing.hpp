// 32-bit index arithmetic wherever an array allows it: a GPU divides integers in software, with about twenty
// instructions in 32 bits and about a hundred in 64, while a memory-bound kernel can afford about forty.
#pragma once

#include <cstdint>

#include "elements.hpp"

namespace lpf::cuda {

/// Calls f.template operator()<T, I>() with T float, double or BFloat16, and I a signed integer that
/// represents every number up to `largest`.
template <class F>
void visit_indexed(const char* operation, DType type, std::int64_t largest, F f) {
  visit_real(operation, type, [&](auto zero) {
    using T = decltype(zero);
    if (largest <= INT32_MAX) {
      f.template operator()<T, std::int32_t>();
    } else {
      f.template operator()<T, std::int64_t>();
    }
  });
}

}  // namespace lpf::cuda
