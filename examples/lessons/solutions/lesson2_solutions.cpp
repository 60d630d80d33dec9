// Solutions of lesson 2 (docs/lessons/2-digits.md): the radius from too small to too large, SGD with smaller learning
// rates, the error over the epochs, and labels that are all right.
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/dense.hpp>
#include <lpf/report/table.hpp>

#include "program.hpp"

using namespace lpf;

namespace {

struct Net {
  nn::Linear fc1, fc2, fc3;
  explicit Net(const nn::Path& p)
      : fc1(p / "fc1", 64, 128), fc2(p / "fc2", 128, 128), fc3(p / "fc3", 128, 10) {}
  Tensor operator()(const Tensor& x) const { return fc3(relu(fc2(relu(fc1(x))))); }
};

struct Run {
  double gamma = 0, lr = 0.1, noise = 0.2;  // γ = 0 is SGD
  int epochs = 40;
};

struct Curves {
  std::vector<double> test_error, learned;  // after each epoch, in per cent
};

double percent(const Tensor& is_true) { return 100 * mean(is_true.to(float32)).item(); }

Curves train(const Run& run, std::uint64_t seed) {
  const auto [clean, test] = split(digits(), {1000, 797}, seed);
  const TensorDataset noisy = with_label_noise(clean, {.probability = run.noise, .seed = seed});
  DataLoader loader(noisy, {.batch_size = 64, .drop_last = true, .seed = seed});
  ParameterStore params({.seed = seed});
  const Net net(params);
  optim::SGD optimizer(params, {.lr = run.lr, .momentum = 0.9});
  LowPassFilter filter({.M = 8, .gamma = run.gamma, .seed = seed});
  const Tensor is_wrong = noisy.labels != clean.labels;
  Curves out;
  for (int epoch = 0; epoch < run.epochs; ++epoch) {
    for (const auto& [x, y] : loader) {
      const auto scope = filter.perturb(params);
      cross_entropy(net(x), y).backward();
      optimizer.step();
    }
    const auto off = no_grad();
    const Tensor given_back = logical_and(argmax(net(noisy.images), 1) == noisy.labels, is_wrong);
    out.test_error.push_back(percent(argmax(net(test.images), 1) != test.labels));
    out.learned.push_back(run.noise > 0 ? 100 * percent(given_back) / percent(is_wrong) : 0);
  }
  return out;
}

void print(const char* title, const TextTable& table) {
  std::printf("%s\n%s\n", title, table.to_string(terminal_columns()).c_str());
}

std::string digits_of(double percent) { return format_fixed(percent, 1); }

void radii(std::uint64_t seed) {
  TextTable table({"γ", "test error, %", "wrong labels learned, %"});
  for (const double gamma : {0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.3}) {
    const Curves c = train({.gamma = gamma}, seed);
    table.add_row({format_general(gamma), digits_of(c.test_error.back()), format_fixed(c.learned.back(), 0)});
  }
  print("1. The radius", table);
}

void learning_rates(std::uint64_t seed) {
  TextTable table(
      {"learning rate", "SGD: test error, %", "wrong labels learned, %", "LPF-SGD: test error, %"});
  for (const double lr : {0.1, 0.03, 0.01, 0.003}) {
    const Curves sgd = train({.lr = lr}, seed), lpf = train({.gamma = 0.06, .lr = lr}, seed);
    table.add_row({format_general(lr), digits_of(sgd.test_error.back()), format_fixed(sgd.learned.back(), 0),
                   digits_of(lpf.test_error.back())});
  }
  print("2. Smaller learning rates", table);
}

void epochs(std::uint64_t seed) {
  const Curves sgd = train({}, seed), lpf = train({.gamma = 0.06}, seed);
  TextTable table({"epoch", "SGD: test error, %", "wrong labels learned, %", "LPF-SGD: test error, %",
                   "wrong labels learned, %"});
  for (const std::size_t epoch : {1u, 2u, 5u, 10u, 20u, 40u})
    table.add_row({std::to_string(epoch), digits_of(sgd.test_error[epoch - 1]),
                   format_fixed(sgd.learned[epoch - 1], 0), digits_of(lpf.test_error[epoch - 1]),
                   format_fixed(lpf.learned[epoch - 1], 0)});
  print("3. The epochs", table);
}

void clean_labels(std::uint64_t seed) {
  TextTable table({"labels drawn at random, %", "SGD: test error, %", "LPF-SGD: test error, %"});
  for (const double noise : {0.0, 0.2, 0.4})
    table.add_row({format_general(100 * noise), digits_of(train({.noise = noise}, seed).test_error.back()),
                   digits_of(train({.gamma = 0.06, .noise = noise}, seed).test_error.back())});
  print("4. Fewer and more wrong labels", table);
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 1;
  CLI::App app("Solutions of lesson 2");
  app.option_defaults()->always_capture_default();
  app.add_option("--seed", seed, "of data, weights and noise");
  return program::run(app, "lesson2_solutions", argc, argv, [&](const std::string&) {
    radii(seed);
    learning_rates(seed);
    epochs(seed);
    clean_labels(seed);
  });
}
