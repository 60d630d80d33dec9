// Index arithmetic in 32 bits wherever an array allows it: a GPU divides integers by a routine, of some
// twenty instructions in 32 bits and some hundred in 64, where a memory-bound kernel has room for about
// forty.
#pragma once

#include <cstdint>

#include "elements.hpp"

namespace lpf::cuda {

/// f.template operator()<T, I>() with T float, double or BFloat16, and I a signed integer in which every
/// number up to `largest` fits.
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
