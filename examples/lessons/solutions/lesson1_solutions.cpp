// Solutions of lesson 1 (docs/lessons/1-smoothing.md): the price of curvature, the width at which the narrow valley is
// gone, large learning rates, and the error of M draws.
#include <array>
#include <cstdio>
#include <lpf/filter/lpf_gradient.hpp>
#include <lpf/report/table.hpp>

#include "program.hpp"
#include "valleys.hpp"

using namespace lpf;

namespace {

void print(const char* title, const TextTable& table) {
  std::printf("%s\n%s\n", title, table.to_string(terminal_columns()).c_str());
}

/// 1. A quadratic θᵀHθ/2 with H = (3 1; 1 2), at θ = (1, −1): smoothing adds σ²/2·tr H, the same at every θ.
void price_of_curvature(std::uint64_t seed) {
  const auto quadratic = [](std::span<const double> t, std::span<double> g) {
    g[0] = 3 * t[0] + t[1];
    g[1] = t[0] + 2 * t[1];
    return (g[0] * t[0] + g[1] * t[1]) / 2;
  };
  std::array<double, 2> theta{1, -1}, g{};
  TextTable table({"σ", "smoothed − loss", "σ²/2·tr H"});
  const double loss = quadratic(theta, g);
  for (const double sigma : {0.1, 0.5, 1.0}) {
    const auto smoothed =
        lpf_gradient(quadratic, theta, g, {.M = 1'000'000, .sigma = sigma, .key = {.seed = seed}});
    table.add_row({format_general(sigma), format_fixed(smoothed.value - loss, 2),
                   format_fixed(sigma * sigma / 2 * (3 + 2), 2)});
  }
  print("1. The price of curvature", table);
}

/// 2. By bisection: two minima below, one above.
void vanishing_valley() {
  double low = 0, high = 1;
  while (high - low > 1e-4) {
    const double middle = (low + high) / 2;
    (valleys::minima(middle).size() > 1 ? low : high) = middle;
  }
  std::printf("2. The narrow valley, of width %s, is gone from σ = %s on\n\n",
              format_general(valleys::w).c_str(), format_fixed(high, 2).c_str());
}

/// 3. Gradient descent from −3. Where it ends is the mean of its last hundred points, as it may not come to rest.
void large_learning_rates() {
  TextTable table({"learning rate", "2/curvature of the valley it is in", "ends at"});
  for (const double lr : {0.01, 0.014, 0.02, 0.1, 1.0}) {
    double theta = -3, mean = 0;
    for (int step = 0; step < 20'000; ++step) {
      theta -= lr * valleys::slope(theta);
      if (step >= 19'900) mean += theta / 100;
    }
    const bool narrow = mean < 0;
    table.add_row({format_general(lr), narrow ? "0.015" : "4", format_fixed(mean, 1)});
  }
  print("3. Large learning rates", table);
}

/// 4. The standard deviation of the gradient's estimate, over 2,000 estimates.
void error_of_draws(std::uint64_t seed) {
  const auto loss = [](std::span<const double> t, std::span<double> slope) {
    slope[0] = valleys::slope(t[0]);
    return valleys::loss(t[0]);
  };
  TextTable table({"M", "at −1.1", "pairs ±ε", "at 2", "pairs ±ε"});
  for (const std::int64_t M : {2, 8, 32, 128}) {
    std::vector<std::string> row{std::to_string(M)};
    for (const double at : {-1.1, 2.0})
      for (const bool pairs : {false, true}) {
        std::vector<double> estimates;
        for (std::uint64_t draw = 0; draw < 2000; ++draw) {
          const std::array<double, 1> theta{at};
          std::array<double, 1> g{};
          lpf_gradient(loss, theta, g,
                       {.M = M, .sigma = 0.5, .antithetic = pairs, .key = {.seed = seed, .draw = draw}});
          estimates.push_back(g[0]);
        }
        row.push_back(format_fixed(mean_sd(estimates).sd, 2));
      }
    table.add_row(row);
  }
  print("4. The deviation of the gradient's estimate, σ 0.5", table);
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 1;
  CLI::App app("Solutions of lesson 1");
  app.option_defaults()->always_capture_default();
  app.add_option("--seed", seed, "of the noise");
  return program::run(app, "lesson1_solutions", argc, argv, [&](const std::string&) {
    price_of_curvature(seed);
    vanishing_valley();
    large_learning_rates();
    error_of_draws(seed);
  });
}
