#include "lpf/core/philox.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

namespace {

using namespace lpf;

// The vectors for philox4x32 with 10 rounds in kat_vectors of the Random123 distribution.
static_assert(philox4x32({{0, 0, 0, 0}}, 0) == PhiloxWords{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
static_assert(philox4x32({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffffffffffff) ==
              PhiloxWords{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
static_assert(philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822) ==
              PhiloxWords{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});

constexpr NoiseKey a_key{
    .seed = 0x0123456789abcdef, .purpose = Purpose::dropout, .draw = 7, .replica = 0x345678, .parameter = 9};

TEST_CASE("a counter names block, parameter, draw, replica and purpose") {
  CHECK(noise_counter(a_key, 5) == PhiloxWords{{5, 9, 7, 0x01345678}});
  CHECK(noise_words(a_key, 5) == philox4x32({{5, 9, 7, 0x01345678}}, 0x0123456789abcdef));
  for (int i = 0; i < 4; ++i) CHECK(word_at(a_key, 20 + i) == noise_words(a_key, 5).word[i]);
  CHECK(static_cast<int>(Purpose::user) < 256);

  std::set<std::uint32_t> words{word_at(a_key, 0)};
  std::vector<NoiseKey> others(5, a_key);
  others[0].seed = 1;
  others[1].purpose = Purpose::init;
  others[2].draw = 8;
  others[3].replica = 0;
  others[4].parameter = 0;
  for (const NoiseKey& other : others) words.insert(word_at(other, 0));
  CHECK(words.size() == 6);
}

TEST_CASE("a key or an element without a counter is a ValueError") {
  NoiseKey key = a_key;
  key.draw = 0xffffffff;
  key.replica = 0xffffff;
  const std::int64_t elements = std::int64_t{1} << 34;
  CHECK_NOTHROW(word_at(key, elements - 1));
  CHECK_THROWS_WITH_AS(word_at(key, elements),
                       "[noise] elements [first, first + n) must lie in [0, 17179869184): "
                       "first is 17179869184, n is 1",
                       ValueError);
  CHECK_THROWS_AS(word_at(key, -1), ValueError);
  CHECK_NOTHROW(check_noise_range(key, elements, 0, 4));
  CHECK_THROWS_AS(check_noise_range(key, 1, elements, 4), ValueError);
  CHECK_THROWS_AS(check_noise_range(key, 1, INT64_MAX, 4), ValueError);
  CHECK_THROWS_AS(check_noise_range(key, elements / 2, 1, 2), ValueError);
  CHECK_THROWS_AS(check_noise_range(key, 0, -1, 4), ValueError);

  key.draw = std::uint64_t{1} << 32;
  CHECK_THROWS_WITH_AS(word_at(key, 0), "[noise] draw must be below 2^32, got 4294967296", ValueError);
  key.draw = 0;
  key.replica = 1u << 24;
  CHECK_THROWS_WITH_AS(word_at(key, 0), "[noise] replica must be below 2^24, got 16777216", ValueError);
}

TEST_CASE("bernoulli_at has the probability that is asked for") {
  const int n = 200000;
  for (const double p : {0.0, 0.1, 0.5, 0.9, 1.0}) {
    CAPTURE(p);
    int count = 0;
    for (int i = 0; i < n; ++i) count += bernoulli_at(a_key, i, p);
    CHECK(std::abs(count - n * p) <= 4 * std::sqrt(n * p * (1 - p)));
  }
  CHECK_THROWS_AS(bernoulli_at(a_key, 0, -0.1), ValueError);
  CHECK_THROWS_AS(bernoulli_at(a_key, 0, 1.1), ValueError);
  CHECK_THROWS_AS(bernoulli_at(a_key, 0, std::nan("")), ValueError);
}

TEST_CASE("uniform_below_at scales 64 bits") {
  __extension__ typedef unsigned __int128 Wide;
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{2}, std::int64_t{10}, std::int64_t{1000003},
                               std::int64_t{0xffffffff}, std::int64_t{0x100000000}}) {
    for (int i = 0; i < 1000; ++i) {
      const std::uint64_t bits = word_at(a_key, 2 * i) | std::uint64_t{word_at(a_key, 2 * i + 1)} << 32;
      const auto expected = static_cast<std::int64_t>(Wide{bits} * static_cast<std::uint64_t>(n) >> 64);
      REQUIRE(uniform_below_at(a_key, i, n) == expected);
    }
  }
  std::vector<double> count(10);
  for (int i = 0; i < 100000; ++i) ++count[static_cast<std::size_t>(uniform_below_at(a_key, i, 10))];
  double chi_squared = 0;
  for (const double c : count) chi_squared += (c - 10000) * (c - 10000) / 10000;
  CHECK(chi_squared < 27.9);  // 9 degrees of freedom: p > 0.001
  CHECK_THROWS_AS(uniform_below_at(a_key, 0, 0), ValueError);
  CHECK_THROWS_AS(uniform_below_at(a_key, 0, (std::int64_t{1} << 32) + 1), ValueError);
}

TEST_CASE("permutation shuffles by the key alone") {
  CHECK(permutation(0, a_key).empty());
  CHECK(permutation(1, a_key) == std::vector<std::int64_t>{0});
  CHECK(permutation(10, a_key) == std::vector<std::int64_t>{9, 1, 2, 3, 8, 4, 5, 7, 0, 6});
  CHECK_THROWS_AS(permutation(-1, a_key), ValueError);

  std::vector<std::int64_t> order = permutation(1000, a_key);
  NoiseKey next = a_key;
  ++next.draw;
  CHECK(permutation(1000, next) != order);
  std::sort(order.begin(), order.end());
  std::vector<std::int64_t> identity(1000);
  std::iota(identity.begin(), identity.end(), 0);
  CHECK(order == identity);
}

TEST_CASE("permutation gives each of the 24 orders of four equally often") {
  std::vector<double> count(256);
  const int draws = 24000;
  for (NoiseKey key = a_key; key.draw < a_key.draw + draws; ++key.draw) {
    std::size_t name = 0;
    for (const std::int64_t i : permutation(4, key)) name = name * 4 + static_cast<std::size_t>(i);
    ++count[name];
  }
  double chi_squared = 0;
  for (const double c : count) chi_squared += c > 0 ? (c - 1000) * (c - 1000) / 1000 : 0;
  CHECK(std::count(count.begin(), count.end(), 0.0) == 256 - 24);
  CHECK(chi_squared < 49.7);  // 23 degrees of freedom: p > 0.001
}

}  // namespace
