// A digest of the noise's bits, and how the program draws it.
#include <bit>
#include <cstdio>
#include <lpf/backend/cpu/simd_noise.hpp>
#include <vector>

using namespace lpf;

int main() {
  std::uint64_t digest = 0;
  const auto add = [&digest](std::uint64_t bits) { digest = (digest ^ bits) * 0x100000001b3u; };
  const NoiseKey key{.seed = 7, .purpose = Purpose::perturbation, .draw = 2, .replica = 1};
  for (const std::int64_t n : {1, 3, 64, 100000}) {
    std::vector<float> floats(static_cast<std::size_t>(n));
    std::vector<double> doubles(floats.size());
    backend::cpu::normal_fill(key, n % 5, n, floats.data());
    backend::cpu::normal_fill(key, n % 5, n, doubles.data());
    for (const float x : floats) add(std::bit_cast<std::uint32_t>(x));
    for (const double x : doubles) add(std::bit_cast<std::uint64_t>(x));
    backend::cpu::uniform_fill(key, n % 5, n, floats.data());
    for (const float x : floats) add(std::bit_cast<std::uint32_t>(x));
  }
  for (const std::int64_t length : {3, 70}) {
    const std::int64_t rows = 100;
    const std::vector<float> theta(static_cast<std::size_t>(rows * length), 1), scale(100, 0.5f);
    std::vector<float> plus = theta, minus = theta;
    backend::cpu::perturb_rows(key, {0, rows}, length, theta.data(), scale.data(), plus.data(), minus.data());
    for (const float x : plus) add(std::bit_cast<std::uint32_t>(x));
    for (const float x : minus) add(std::bit_cast<std::uint32_t>(x));
  }
  return std::printf("%016llx\n", static_cast<unsigned long long>(digest)) < 0;
}
