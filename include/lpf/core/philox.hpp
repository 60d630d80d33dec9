// The library's random integers. There are no stateful generators: a random word is a function of its name
// (seed, purpose, draw, replica, parameter, element). It does not depend on the thread count, the order of
// the work, the instruction set or the device, and any pass can be repeated from its key.
//
// The function is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC'11).
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/core/config.hpp"
#include "lpf/core/error.hpp"
#include "lpf/core/host_device.hpp"

namespace lpf {

/// Four 32-bit words: the counter and the output of Philox.
struct PhiloxWords {
  std::uint32_t word[4];
  bool operator==(const PhiloxWords&) const = default;
};

namespace detail {

inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53, kPhiloxMultiplier1 = 0xCD9E8D57;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9, kPhiloxWeyl1 = 0xBB67AE85;
inline constexpr int kPhiloxRounds = 10;

/// The full 64-bit product a·b.
LPF_HD constexpr std::uint64_t wide_product(std::uint32_t a, std::uint32_t b) {
#ifdef __CUDA_ARCH__
  if (!std::is_constant_evaluated()) {  // nvcc 13 adds a zero to the upper half of the product below
    std::uint64_t product = 0;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
  }
#endif
  return std::uint64_t{a} * b;
}

}  // namespace detail

/// Philox4x32-10: a bijection of the 128-bit counter for each 64-bit key, whose outputs pass BigCrush.
LPF_HD constexpr PhiloxWords philox4x32(PhiloxWords counter, std::uint64_t key) {
  std::uint32_t c0 = counter.word[0], c1 = counter.word[1], c2 = counter.word[2], c3 = counter.word[3];
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < detail::kPhiloxRounds; ++round) {
    const std::uint64_t p0 = detail::wide_product(detail::kPhiloxMultiplier0, c0);
    const std::uint64_t p1 = detail::wide_product(detail::kPhiloxMultiplier1, c2);
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += detail::kPhiloxWeyl0;
    k1 += detail::kPhiloxWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

/// The use of a stream of random numbers. Streams of different purposes never share a counter.
enum class Purpose : std::uint8_t {
  perturbation,
  dropout,
  init,
  shuffle,
  augmentation,
  label_noise,
  data_noise,
  split,
  measure,
  user,
  signs
};

/// Names one stream of random numbers; its elements are numbered from 0.
///
/// The counter of element e is (block, parameter, draw, replica | purpose << 24), where block = e / 4 for
/// float and for words, e / 2 for double. Words, uniforms and Gaussians of one key come from the same
/// bits: each use has a key of its own.
struct NoiseKey {
  std::uint64_t seed = 0;
  Purpose purpose = Purpose::user;
  std::uint64_t draw = 0;                  ///< index of the pass, epoch or repetition: < 2^32
  std::uint32_t replica = 0;               ///< < 2^24
  std::uint32_t parameter = 0;             ///< index of the parameter or of the layer
  const std::uint64_t* draw_at = nullptr;  ///< null, or where the device reads the draw of the step
  bool operator==(const NoiseKey&) const = default;
};

/// Throws ValueError unless elements [first, first + n) of the stream have counters, with
/// `per_block` elements to a block.
inline void check_noise_range(const NoiseKey& key, std::int64_t first, std::int64_t n, int per_block) {
  check(key.draw <= 0xFFFFFFFF, "noise", "draw must be below 2^32, got ", key.draw);
  check(key.replica <= 0xFFFFFF, "noise", "replica must be below 2^24, got ", key.replica);
  const std::int64_t limit = per_block * (std::int64_t{1} << 32);
  check(first >= 0 && n >= 0 && first <= limit && n <= limit - first, "noise",
        "elements [first, first + n) must lie in [0, ", limit, "): first is ", first, ", n is ", n);
}

/// The counter of a block of a stream. The key must have been checked.
LPF_HD constexpr PhiloxWords noise_counter(const NoiseKey& key, std::uint32_t block) {
  return {{block, key.parameter, static_cast<std::uint32_t>(key.draw),
           key.replica | static_cast<std::uint32_t>(key.purpose) << 24}};
}

/// The four words of a block of a stream: elements 4 block … 4 block + 3. The key must have been checked.
LPF_HD constexpr PhiloxWords noise_words(const NoiseKey& key, std::uint32_t block) {
  return philox4x32(noise_counter(key, block), key.seed);
}

/// Element `element` of the stream as a 32-bit word. Throws ValueError if the stream has no such element.
inline std::uint32_t word_at(const NoiseKey& key, std::int64_t element) {
  check_noise_range(key, element, 1, 4);
  return noise_words(key, static_cast<std::uint32_t>(element / 4)).word[element % 4];
}

/// The number of 32-bit words, out of 2^32, for which an event of the given probability occurs.
inline std::uint64_t bernoulli_threshold(double probability) {
  check(probability >= 0 && probability <= 1, "bernoulli", "probability must be in [0, 1], got ",
        probability);
  return static_cast<std::uint64_t>(probability * 0x1p32);
}

/// True with the given probability (to 2^-32), independently for each element. The decision depends on the
/// element's word alone, so a mask is the same for float and for double.
inline bool bernoulli_at(const NoiseKey& key, std::int64_t element, double probability) {
  return word_at(key, element) < bernoulli_threshold(probability);
}

/// A uniform integer in [0, n), 1 <= n <= 2^32, from 64 bits: floor(n w / 2^64). Each probability is exact to
/// 2^-64, a relative error of at most 2^-32. Two elements to a block.
inline std::int64_t uniform_below_at(const NoiseKey& key, std::int64_t element, std::int64_t n) {
  check_noise_range(key, element, 1, 2);
  check(n >= 1 && n <= std::int64_t{1} << 32, "uniform_below", "n must be in [1, 2^32], got ", n);
  const PhiloxWords words = noise_words(key, static_cast<std::uint32_t>(element / 2));
  const auto low = std::uint64_t{words.word[element % 2 * 2]},
             high = std::uint64_t{words.word[element % 2 * 2 + 1]};
  const auto range = static_cast<std::uint64_t>(n);
  return static_cast<std::int64_t>((high * range + (low * range >> 32)) >> 32);
}

/// A uniformly random permutation of 0 … n - 1 (Fisher and Yates' shuffle; step i uses element i of the
/// stream). Throws ValueError for n < 0 or n > 2^32.
LPF_ONCE std::vector<std::int64_t> permutation(std::int64_t n, const NoiseKey& key) {
  check(n >= 0 && n <= std::int64_t{1} << 32, "permutation", "n must be in [0, 2^32], got ", n);
  check_noise_range(key, 0, n, 2);
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  for (std::int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(uniform_below_at(key, i, i + 1))]);
  }
  return order;
}

}  // namespace lpf
