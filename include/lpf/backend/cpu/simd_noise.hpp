// Random numbers in bulk: many elements of a stream of core/philox.hpp and core/gaussian.hpp in one sweep,
// bit-identical to normal_at() and uniform_at() on every instruction set and for any splitting of the range.
//
// The functions run on the calling thread; callers split a range or the rows among threads. Compiled for x86-64 without
// AVX2, they use it where the processor has it (noise_at_run_time.hpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "lpf/backend/cpu/isa.hpp"
#include "lpf/backend/cpu/noise_vectors.hpp"
#include "lpf/backend/cpu/row_range.hpp"
#include "lpf/core/gaussian.hpp"
#include "lpf/core/philox.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

namespace noise {
#include "lpf/backend/cpu/noise_sweep.inc"
}  // namespace noise

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu

#if LPF_NOISE_AT_RUN_TIME
#  include "lpf/backend/cpu/noise_at_run_time.hpp"
#  define LPF_NOISE(call) (lpf::detail::has_fma() ? avx2_noise::call : noise::call)
#else
#  define LPF_NOISE(call) noise::call
#endif

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// out[i] = standard Gaussian number first_element + i of the stream, i < n; T is float or double. Like all
/// functions here, throws ValueError if the key or an element is out of the counter's range.
template <class T>
void normal_fill(const NoiseKey& key, std::int64_t first_element, std::int64_t n, T* out) {
  LPF_NOISE(normal(key, first_element, n, out));
}

/// out[i] = uniform number first_element + i of the stream in [0, 1), i < n.
template <class T>
void uniform_fill(const NoiseKey& key, std::int64_t first_element, std::int64_t n, T* out) {
  noise::sweep<noise::Uniform>(key, first_element, n, out);
}

/// out[i] = 32-bit word first_element + i of the stream, i < n.
inline void word_fill(const NoiseKey& key, std::int64_t first_element, std::int64_t n, std::uint32_t* out) {
  noise::sweep<noise::Words>(key, first_element, n, out);
}

/// A row of a parameter (a filter) is `len` contiguous elements with its own noise scale:
///   plus[row, col] = theta[row, col] + scale[row] * e, e = Gaussian number row * len + col of the stream,
/// for the rows of the range, and minus[row, col] = theta[row, col] - scale[row] * e, the other half of
/// an antithetic pair, unless minus is null. theta (null: 0) and scale are those of the whole parameter; plus
/// and minus begin with row rows.begin, and without minus plus may alias that row of theta. Throws
/// ValueError for an impossible range.
template <class T>
void perturb_rows(const NoiseKey& key, RowRange rows, std::int64_t len, const T* theta, const T* scale,
                  T* plus, T* minus = nullptr) {
  check(len >= 0 && rows.begin >= 0 && rows.begin <= rows.end &&
            rows.end <= INT64_MAX / std::max<std::int64_t>(1, len),
        "perturb_rows", "rows must be a range [begin, end), 0 <= begin <= end, of a length >= 0: got [",
        rows.begin, ", ", rows.end, ") of ", len);
  LPF_NOISE(perturb_rows(key, rows, len, theta, scale, plus, minus));
}
#undef LPF_NOISE

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
