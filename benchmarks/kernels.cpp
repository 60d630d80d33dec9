// Products and convolutions of the six networks of step.cpp, relative to this processor's measured peak of
// multiply-adds and its measured memory bandwidth. With one thread and with all.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <lpf/backend/cpu/parallel.hpp>
#include <lpf/lpf.hpp>
#include <lpf/report/table.hpp>
#include <nlohmann/json.hpp>

#include "benchmark.hpp"

using namespace lpf;

namespace {

constexpr int rounds = 15;

/// Seconds of a call, a mean over `calls`.
double seconds_of(const std::function<void()>& f, int calls) {
  return 1e-3 / calls * benchmark::milliseconds_of([&] {
           for (int i = 0; i < calls; ++i) f();
         });
}

/// Multiply-adds per second (counted as two operations) of all threads on registers, with enough
/// independent chains to hide the latency, and no more than there are registers for.
double peak_gflops() {
  constexpr int bytes = std::max(16, LPF_VECTOR_BYTES), width = bytes / 4, chains = bytes == 64 ? 20 : 12;
  constexpr std::int64_t steps = 200000;
  const int threads = num_threads();
  std::vector<float> sums(static_cast<std::size_t>(threads));
  const auto work = [&] {
    backend::cpu::parallel_for(threads, 1, [&](std::int64_t begin, std::int64_t end) {
      for (; begin < end; ++begin) {
        typedef float Lanes __attribute__((vector_size(width * sizeof(float))));
        Lanes a[chains], x = Lanes{} + 0.999f, y = Lanes{} + 1e-3f;
        for (int c = 0; c < chains; ++c) a[c] = Lanes{} + static_cast<float>(c);
        for (std::int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 20
          for (int c = 0; c < chains; ++c) a[c] = a[c] * x + y;
        }
        for (int c = 1; c < chains; ++c) a[0] += a[c];
        sums[static_cast<std::size_t>(begin)] = a[0][0];
      }
    });
  };
  return 2.0 * width * chains * static_cast<double>(steps) * threads / seconds_of(work, 2) * 1e-9;
}

/// y += a·x over arrays larger than any cache: bytes read and written per second.
double bandwidth_gb() {
  constexpr std::int64_t n = 1 << 26;
  const Tensor x = ones({n}), y = ones({n});
  std::vector<double> rates;
  for (int i = 0; i < rounds; ++i)
    rates.push_back(12e-9 * n /
                    seconds_of([&] { x.backend().accumulate(float32, n, 1e-3, x.raw(), y.raw()); }, 1));
  return benchmark::quantile(rates, .5);
}

struct Product {
  const char* what;
  std::int64_t batch, m, n, k;
  bool transpose_a, transpose_b;
};
const Product products[] = {
    {"1024³", 1, 1024, 1024, 1024, false, false},
    {"mlp-784 fc1, forward", 1, 128, 512, 784, false, true},
    {"mlp-784 fc1, forward, M = 8", 8, 16, 512, 784, false, true},
    {"mlp-784 fc1, forward, M = 32", 32, 4, 512, 784, false, true},
    {"mlp-784 fc2, input's gradient", 1, 128, 512, 512, false, false},
    {"mlp-784 fc2, input's gradient, M = 8", 8, 16, 512, 512, false, false},
    {"mlp-784 fc1, weight's gradient", 1, 512, 784, 128, true, false},
    {"mlp-64 fc1, forward", 1, 128, 128, 64, false, true},
    {"mlp-64 fc1, forward, M = 8", 8, 16, 128, 64, false, true},
    {"mlp-64 fc2, forward", 1, 128, 10, 128, false, true},
};

struct Image {
  const char* what;
  std::int64_t size, in, out, kernel, stride, padding;
};
const Image convolutions[] = {
    {"lenet conv1", 28, 1, 6, 5, 1, 0},
    {"lenet conv2", 12, 6, 16, 5, 1, 0},
    {"resnet stem, width 8", 32, 3, 8, 3, 1, 1},
    {"3×3, 8 channels, 32²", 32, 8, 8, 3, 1, 1},
    {"3×3, 16 channels, 16²", 16, 16, 16, 3, 1, 1},
    {"3×3, 32 channels, 32²", 32, 32, 32, 3, 1, 1},
    {"3×3, 64 channels, 32²", 32, 64, 64, 3, 1, 1},
    {"3×3, 128 channels, 16²", 16, 128, 128, 3, 1, 1},
    {"3×3, 256 channels, 8²", 8, 256, 256, 3, 1, 1},
    {"3×3, 512 channels, 4²", 4, 512, 512, 3, 1, 1},
    {"3×3 stride 2, 64 to 128, 32²", 32, 64, 128, 3, 2, 1},
    {"1×1 stride 2, 64 to 128, 32²", 32, 64, 128, 1, 2, 0},
};

int run(int argc, char** argv) {
  CLI::App app("Products and convolutions against this processor's peak.");
  std::string json;
  std::int64_t batch = 128;
  double limit = 0.25;
  int busy = 0;
  app.add_option("--json", json, "write all figures to this file");
  app.add_option("--batch", batch, "images in a batch")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--spread", limit,
                 "a row is compared with the peak if its quartiles lie at most this share apart")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  if (const auto code = program::parse(app, "kernels", argc, argv)) return *code;
  const int all = num_threads();
  nlohmann::json records = nlohmann::json::array();
  for (const int threads : all > 1 ? std::vector{1, all} : std::vector{1}) {
    set_num_threads(threads);
    const double bandwidth = bandwidth_gb();
    TextTable table({"", "GFLOP/s", "of peak", "quartiles"});
    std::vector<double> peaks;
    // A kernel and the peak are timed in turn, so that a change of the machine's speed affects both.
    const auto add = [&](const std::string& what, double flops, const std::function<void()>& f) {
      f();
      const int calls = std::clamp(lpf::detail::saturated<int>(0.005 / seconds_of(f, 1)), 1, 10000);
      std::vector<double> rates, shares;
      for (int i = 0; i < rounds; ++i) {
        const double peak = peak_gflops();
        rates.push_back(flops / seconds_of(f, calls) * 1e-9);
        shares.push_back(rates.back() / peak);
        peaks.push_back(peak);
      }
      const auto percent = [&](double q) { return format_fixed(100 * benchmark::quantile(shares, q), 0); };
      const double rate = benchmark::quantile(rates, .5), share = benchmark::quantile(shares, .5),
                   spread = (benchmark::quantile(shares, .75) - benchmark::quantile(shares, .25)) / share;
      const bool steady = spread <= limit;
      busy += !steady;
      table.add_row({what, format_fixed(rate, 1), steady ? percent(.5) + " %" : "busy",
                     percent(.25) + " – " + percent(.75) + " %"});
      records.push_back({{"what", what},
                         {"threads", threads},
                         {"gflops", rate},
                         {"of_peak", share},
                         {"of_peak_quartile1", benchmark::quantile(shares, .25)},
                         {"of_peak_quartile3", benchmark::quantile(shares, .75)},
                         {"bandwidth_gb", bandwidth}});
    };
    for (const Product& p : products) {
      const Tensor a = ones({p.batch, p.m, p.k}), b = ones({p.batch, p.k, p.n}),
                   c = zeros({p.batch, p.m, p.n});
      const backend::Gemm g{float32,
                            p.transpose_a,
                            p.transpose_b,
                            p.m,
                            p.n,
                            p.k,
                            a.raw(),
                            p.transpose_a ? p.m : p.k,
                            p.m * p.k,
                            b.raw(),
                            p.transpose_b ? p.k : p.n,
                            p.k * p.n,
                            c.raw(),
                            p.n,
                            p.m * p.n,
                            p.batch,
                            1,
                            0};
      add(concat("product, ", p.what),
          2.0 * static_cast<double>(p.batch * p.m * p.n) * static_cast<double>(p.k),
          [&] { a.backend().gemm(g); });
    }
    for (const Image& i : convolutions) {
      const std::int64_t q = (i.size + 2 * i.padding - i.kernel) / i.stride + 1;
      const Tensor x = ones({batch, i.size, i.size, i.in}), w = ones({i.out, i.kernel, i.kernel, i.in}),
                   y = zeros({batch, q, q, i.out});
      const Tensor dx = zeros(x.shape()), dw = zeros(w.shape());
      const std::int64_t whole[] = {0, batch};
      const backend::Conv2d c{float32,  batch, i.size, i.size,   i.in,     i.out,     i.kernel,
                              i.kernel, q,     q,      i.stride, i.stride, i.padding, i.padding,
                              1,        1,     1,      1,        whole,    0,         0};
      const double flops =
          2.0 * static_cast<double>(batch * q * q) * static_cast<double>(i.out * i.kernel * i.kernel * i.in);
      add(concat("convolution, ", i.what, ", forward"), flops,
          [&] { x.backend().conv2d(c, x.raw(), w.raw(), nullptr, y.raw()); });
      add(concat("convolution, ", i.what, ", input's gradient"), flops,
          [&] { x.backend().conv2d_backward_data(c, y.raw(), w.raw(), dx.raw()); });
      add(concat("convolution, ", i.what, ", weight's gradient"), flops,
          [&] { x.backend().conv2d_backward_filter(c, x.raw(), y.raw(), dw.raw(), false); });
    }
    std::printf("%s, %d thread%s: peak %.0f GFLOP/s, memory %.1f GB/s\n%s\n",
                backend::get(Device::cpu()).name, threads, threads == 1 ? "" : "s",
                benchmark::quantile(peaks, .5), bandwidth, table.to_string().c_str());
    std::fflush(stdout);
  }
  if (busy > 0)
    std::printf(
        "busy: the quartiles of %d rows lie more than %.0f %% of their median apart. Other programs use the "
        "machine: run this again when it is idle.\n",
        busy, 100 * limit);
  benchmark::write_figures(json, records);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return lpf::benchmark::main_of("kernels", run, argc, argv); }
