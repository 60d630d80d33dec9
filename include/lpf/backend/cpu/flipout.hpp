// Flipout (Wen et al. 2018): replicas that share one draw of noise, told apart by random signs of the rows and
// of the inputs of a weight.
#pragma once

#include <vector>

#include "lpf/backend/cpu/parallel.hpp"
#include "lpf/backend/cpu/product.hpp"
#include "lpf/backend/cpu/scratch.hpp"
#include "lpf/backend/cpu/simd_noise.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// out[i] = ±1 by bit i of the stream's words, i < n.
template <class T>
void fill_signs(const NoiseKey& key, std::int64_t n, T* out) {
  constexpr std::int64_t bits = 32, words = 4;
  check_noise_range(key, 0, (n + bits - 1) / bits, words);
  for (std::int64_t i = 0; i < n;) {
    const PhiloxWords block = noise_words(key, static_cast<std::uint32_t>(i / (bits * words)));
    for (std::int64_t w = 0; w < words && i < n; ++w, i += bits) {
      T signs[bits];
      LPF_SIMD
      for (int k = 0; k < bits; ++k)
        signs[k] = T(1) - T(2) * static_cast<T>(static_cast<std::int32_t>(block.word[w] >> k & 1));
      std::copy_n(signs, std::min<std::int64_t>(bits, n - i), out + i);
    }
  }
}

template <class T>
void draw_signs(DType, const Segment* segments, const std::int64_t* place, std::int64_t count,
                const NoiseKey& key, std::int64_t replicas, bool mirrored, void* out) {
  std::int64_t all = 0;
  for (std::int64_t s = 0; s < count; ++s) all += segments[s].rows + segments[s].inputs;
  const std::int64_t grain = 1 + (1 << 15) * count / std::max<std::int64_t>(1, all);
  parallel_for(replicas * count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t r = t / count, s = t % count, n = segments[s].rows + segments[s].inputs;
      NoiseKey stream = key;
      stream.replica += static_cast<std::uint32_t>(mirrored ? r / 2 : r);
      stream.parameter = segments[s].parameter;
      T* const to = static_cast<T*>(out) + place[s] + r * n;
      fill_signs(stream, n, to);
      if (mirrored && r % 2)
        for (std::int64_t i = 0; i < segments[s].rows; ++i) to[i] = -to[i];
    }
  });
}

/// Rows [begin, end) of one replica: out = θ + a bᵀ ⊙ noise. theta, noise and signs are those of the whole
/// parameter; out begins with row `begin`.
template <class T>
void flip_rows(const Segment& segment, std::int64_t begin, std::int64_t end, const T* theta, const T* noise,
               const T* signs, T* out) {
  const std::int64_t length = segment.length, inputs = segment.inputs;
  const T* b = signs + segment.rows;
  if (inputs < length) {  // the same signs at every tap
    T* const row = scratch<T>(Scratch::signs, length);
    for (std::int64_t i = 0; i < length; i += inputs) std::copy_n(b, inputs, row + i);
    b = row;
  }
  for (std::int64_t r = begin; r < end; ++r, out += length) {
    const T *w = theta + r * length, *e = noise + r * length, a = signs[r];
    std::int64_t k = 0;
    if constexpr (std::is_same_v<T, float>) {
      using namespace product;
      for (; k + width <= length; k += width)
        store(out + k, load<Lanes>(w + k) + a * load<Lanes>(b + k) * load<Lanes>(e + k));
    }
    LPF_SIMD
    for (std::int64_t j = k; j < length; ++j) out[j] = w[j] + a * b[j] * e[j];
  }
}

template <class T>
void flip(DType, const Segment* segments, const std::int64_t* place, const std::int64_t* sign_place,
          std::int64_t count, const void* theta, const void* noise, const void* signs, std::int64_t replicas,
          DType, void* out) {
  // A task is a few rows of one parameter, for all replicas: θ and the noise are read once.
  struct Task {
    std::int64_t segment, begin, end;
  };
  std::vector<Task> tasks;
  for (std::int64_t s = 0; s < count; ++s) {
    const std::int64_t rows = segments[s].rows,
                       step = std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, segments[s].length));
    for (std::int64_t row = 0; row < rows; row += step) tasks.push_back({s, row, std::min(rows, row + step)});
  }
  parallel_for(std::ssize(tasks), std::max<std::int64_t>(1, 8 / replicas),
               [&](std::int64_t first, std::int64_t last) {
                 for (std::int64_t t = first; t < last; ++t) {
                   const auto [s, begin, end] = tasks[static_cast<std::size_t>(t)];
                   const Segment& segment = segments[s];
                   const std::int64_t size = segment.rows * segment.length;
                   const T* const a = static_cast<const T*>(signs) + sign_place[s];
                   T* const to = static_cast<T*>(out) + place[s] + begin * segment.length;
                   for (std::int64_t r = 0; r < replicas; ++r)
                     flip_rows(segment, begin, end, static_cast<const T*>(theta) + segment.offset,
                               static_cast<const T*>(noise) + segment.offset,
                               a + r * (segment.rows + segment.inputs), to + r * size);
                 }
               });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
