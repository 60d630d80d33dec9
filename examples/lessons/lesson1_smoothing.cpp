// Lesson 1 (docs/lessons/1-smoothing.md): what a Gaussian does to a loss with a narrow and a wide valley, and why
// gradient descent ends in the one and LPF-SGD in the other.
#include <array>
#include <cstdio>
#include <lpf/filter/lpf_gradient.hpp>
#include <lpf/report/table.hpp>

#include "program.hpp"
#include "valleys.hpp"

using namespace lpf;

namespace {

struct Options {
  std::uint64_t seed = 1;
  std::int64_t M = 8;
  double sigma = 0.5, lr = 0.01;
  int steps = 2000;
};

/// The loss at a point, and its gradient: a vector of one number.
double loss_and_gradient(std::span<const double> theta, std::span<double> gradient) {
  gradient[0] = valleys::slope(theta[0]);
  return valleys::loss(theta[0]);
}

/// E L(θ + σε) as the mean of 10,000 draws, ± its standard error.
std::string mean_of_draws(double theta, double sigma, std::uint64_t seed) {
  std::array<double, 1> at{theta}, g{};
  const SmoothedLoss mean =
      lpf_gradient(loss_and_gradient, at, g, {.M = 10'000, .sigma = sigma, .key = {.seed = seed}});
  return format_fixed(mean.value, 2) + " ± " + format_fixed(mean.standard_error, 2);
}

/// Where so many updates lead. With σ = 0 they are gradient descent; otherwise each has the mean gradient at M points
/// θ + σε_r.
double descend(double start, double sigma, const Options& o) {
  std::array<double, 1> theta{start}, g{};
  for (int step = 0; step < o.steps; ++step) {
    const NoiseKey key{.seed = o.seed, .draw = static_cast<std::uint64_t>(step)};
    lpf_gradient(loss_and_gradient, theta, g, {.M = o.M, .sigma = sigma, .key = key});
    theta[0] -= o.lr * g[0];
  }
  return theta[0];
}

void run(const Options& o) {
  TextTable heights({"σ", "at −1", "10,000 draws", "at 2", "10,000 draws", "minima at"});
  for (const double sigma : {0.0, 0.1, 0.2, 0.3, 0.5, 1.0}) {
    std::string minima;
    for (const double m : valleys::minima(sigma))
      minima += (minima.empty() ? "" : " and ") + format_fixed(m, 2);
    const auto formula = [&](double theta) { return format_fixed(valleys::loss(theta, sigma), 2); };
    heights.add_row({format_general(sigma), formula(-1), mean_of_draws(-1, sigma, o.seed), formula(2),
                     mean_of_draws(2, sigma, o.seed), minima});
  }
  std::printf("The smoothed loss E L(θ + σε)\n%s\n", heights.to_string(terminal_columns()).c_str());

  TextTable ends({"start", "gradient descent", "its loss", "LPF-SGD", "its loss"});
  for (const double start : {-3.0, -2.0, -1.1, 0.0, 4.0}) {
    std::vector<std::string> row{format_general(start)};
    for (const double sigma : {0.0, o.sigma}) {
      const double end = descend(start, sigma, o);
      row.push_back(format_fixed(end, 1));
      row.push_back(format_fixed(valleys::loss(end), 2));
    }
    ends.add_row(row);
  }
  std::printf("Where %d updates end (σ %s, M %lld, learning rate %s)\n%s", o.steps,
              format_general(o.sigma).c_str(), static_cast<long long>(o.M), format_general(o.lr).c_str(),
              ends.to_string(terminal_columns()).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Lesson 1: smoothing a loss with a narrow and a wide valley");
  app.option_defaults()->always_capture_default();
  app.add_option("--seed", o.seed, "of the noise");
  app.add_option("--sigma", o.sigma, "standard deviation of LPF-SGD's noise");
  app.add_option("-M", o.M, "points at which LPF-SGD takes the gradient")->check(CLI::Range(1, 1'000'000));
  app.add_option("--lr", o.lr, "learning rate");
  app.add_option("--steps", o.steps, "updates")->check(CLI::Range(0, 1'000'000));
  return program::run(app, "lesson1_smoothing", argc, argv, [&](const std::string&) { run(o); });
}
