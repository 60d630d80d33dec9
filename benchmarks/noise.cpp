// Nanoseconds per random number on one core: the words of Philox, and what is made of them.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <vector>

#include "lpf/backend/cpu/cpu.hpp"
#include "lpf/backend/cpu/dropout.hpp"

namespace {

using namespace lpf;
using namespace lpf::backend::cpu;

constexpr std::int64_t kNumbers = 1 << 14;  // a buffer that stays in the second-level cache
constexpr int kRepeats = 101, kCalls = 16;

/// Times fill(key), which makes `numbers` numbers, and prints the median and the quartiles over the repeats.
void measure(const char* name, std::int64_t numbers, const std::function<void(const NoiseKey&)>& fill) {
  NoiseKey key{.seed = 1, .purpose = Purpose::measure};
  std::vector<double> times;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    for (int call = 0; call < kCalls; ++call, ++key.draw) fill(key);
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count() / (static_cast<double>(numbers) * kCalls));
  }
  std::sort(times.begin(), times.end());
  std::printf("%-34s %8.3f   %6.3f – %.3f\n", name, times[kRepeats / 2], times[kRepeats / 4],
              times[kRepeats * 3 / 4]);
}

}  // namespace

int main() {
  std::vector<std::uint32_t> words(kNumbers);
  std::vector<float> f32(kNumbers), theta(kNumbers, 1), scale(kNumbers, 0.1f), other(kNumbers);
  std::vector<double> f64(kNumbers);
  std::printf("instruction set %s, one core\n%-34s %8s   %s\n", LPF_ISA_NAME, "ns per number", "median",
              "quartiles");
  measure("philox, 32-bit words", kNumbers, [&](auto& key) { word_fill(key, 0, kNumbers, words.data()); });
  measure("uniform, float", kNumbers, [&](auto& key) { uniform_fill(key, 0, kNumbers, f32.data()); });
  measure("uniform, double", kNumbers, [&](auto& key) { uniform_fill(key, 0, kNumbers, f64.data()); });
  measure("dropout, float", kNumbers, [&](auto& key) {
    dropout<float>(DType::float32, key, 0, kNumbers, 0.5, theta.data(), f32.data());
  });
  measure("gaussian, float", kNumbers, [&](auto& key) { normal_fill(key, 0, kNumbers, f32.data()); });
  measure("gaussian, double", kNumbers, [&](auto& key) { normal_fill(key, 0, kNumbers, f64.data()); });
  for (const std::int64_t len : {1, 10, 25, 128, 784}) {
    const RowRange rows{0, kNumbers / len};
    char name[64];
    std::snprintf(name, sizeof name, "theta + s e, rows of %d", static_cast<int>(len));
    measure(name, rows.end * len,
            [&](auto& key) { perturb_rows(key, rows, len, theta.data(), scale.data(), f32.data()); });
  }
  measure("theta ± s e, rows of 784, a pair", kNumbers / 784 * 784, [&](auto& key) {
    perturb_rows(key, {0, kNumbers / 784}, 784, theta.data(), scale.data(), f32.data(), other.data());
  });
}
