// Nanoseconds per random number on one core: the words of Philox, and the numbers derived from them. With
// --device cuda: the same on a GPU, compared with its memory bandwidth.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <lpf/models/registry.hpp>
#include <vector>

#include "benchmark.hpp"
#include "lpf/backend/cpu/cpu.hpp"
#include "lpf/backend/cpu/dropout.hpp"
#include "lpf/lpf.hpp"

namespace {

using namespace lpf;
using namespace lpf::backend::cpu;

constexpr std::int64_t kNumbers = 1 << 14;  // a buffer that fits the second-level cache
constexpr int kRepeats = 101, kCalls = 16;

/// Times fill(key), which generates `numbers` numbers, and prints the median and
/// the quartiles over the repeats.
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

/// Median seconds of the work that f() queues on the GPU.
double seconds_on_gpu(const std::function<void()>& f) {
  const auto& gpu = backend::get(Device::cuda());
  std::vector<double> times;
  for (int repeat = 0; repeat < 21; ++repeat) {
    gpu.synchronize();
    times.push_back(benchmark::milliseconds_of([&] {
                      for (int call = 0; call < kCalls; ++call) f();
                      gpu.synchronize();
                    }) *
                    1e-3 / kCalls);
  }
  return benchmark::quantile(times, .5);
}

/// θ of WRN-28-10 into 8 replicas, and the Gaussians alone, compared with a copy on the device, which
/// reads and writes each byte once.
void measure_gpu() {
  set_default_device(Device::cuda());
  const auto& gpu = backend::get(Device::cuda());
  ParameterStore params({.seed = 1});
  models::make("wrn-28-10", params);
  constexpr std::int64_t M = 8;
  const Tensor theta = params.theta(), out = empty({M * theta.numel()}), copy = empty_like(out);
  const filter::Segments rows = filter::segments_of(params, NoiseLaw::filter_wise, {});
  const Tensor scale = filter::scales(params, rows, 1e-3);
  std::vector<std::int64_t> place;
  for (const auto& segment : rows.segments) place.push_back(M * segment.offset);
  const NoiseKey key{.seed = 1, .purpose = Purpose::measure};
  const auto bytes = static_cast<double>(out.numel()) * 4, numbers = static_cast<double>(out.numel());
  const double copied =
      2 * bytes / seconds_on_gpu([&] { gpu.copy(copy.raw(), out.raw(), static_cast<std::size_t>(bytes)); });
  const double drawn = seconds_on_gpu([&] { gpu.normal(float32, key, 0, out.numel(), out.raw()); });
  std::printf("%s\ncopy on the device: %.0f GB/s\n", gpu.name, copied * 1e-9);
  std::printf("gaussian, float: %.4f ns a number, %.2f of that bandwidth\n", drawn / numbers * 1e9,
              bytes / drawn / copied);
  for (const bool antithetic : {false, true}) {
    const double made = seconds_on_gpu([&] {
      gpu.perturb(float32, rows.segments.data(), place.data(), std::ssize(rows.segments), key, theta.raw(),
                  scale.raw(), M, antithetic, float32, out.raw());
    });
    std::printf("θ of WRN-28-10 (%.1f M) into %d replicas%s: %.2f ms, %.2f of that bandwidth\n",
                static_cast<double>(params.numel()) * 1e-6, static_cast<int>(M),
                antithetic ? ", antithetic" : "", made * 1e3,
                (bytes + bytes / static_cast<double>(M)) / made / copied);
  }
}

void measure_cpu() {
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

int run(int argc, char** argv) {
  std::string device = "cpu";
  CLI::App app("Nanoseconds per random number.");
  app.add_option("--device", device, "where they are drawn")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  if (const auto code = program::parse(app, "noise", argc, argv)) return *code;
  device == "cuda" ? measure_gpu() : measure_cpu();
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return benchmark::main_of("noise", run, argc, argv); }
