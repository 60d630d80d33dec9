// Lesson 2 (docs/lessons/2-digits.md): a small network learns to read handwritten digits although a fifth of its
// labels are drawn at random. SGD learns the wrong labels too; LPF-SGD does not.
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/dense.hpp>
#include <lpf/report/table.hpp>

#include "program.hpp"

using namespace lpf;

namespace {

struct Options {
  std::uint64_t seed = 0;
  int seeds = 3, epochs = 40;
  double noise = 0.2, lr = 0.1;
};

/// The filter of a training run. γ = 0 is no noise, and so SGD.
struct Setting {
  std::string name;
  std::int64_t M;
  double gamma;
  Estimator estimator = Estimator::replicas;
};
const std::vector<Setting> settings{{"SGD", 1, 0},
                                    {"LPF-SGD", 8, 0.02},
                                    {"LPF-SGD", 8, 0.06},
                                    {"LPF-SGD", 1, 0.06},
                                    {"LPF-SGD, flipout", 64, 0.06, Estimator::flipout},
                                    {"LPF-SGD, per sample", 8, 0.06, Estimator::per_sample}};

struct Net {
  nn::Linear fc1, fc2, fc3;
  explicit Net(const nn::Path& p)
      : fc1(p / "fc1", 64, 128), fc2(p / "fc2", 128, 128), fc3(p / "fc3", 128, 10) {}
  Tensor operator()(const Tensor& x) const { return fc3(relu(fc2(relu(fc1(x))))); }
};

/// In per cent: the error on images that were not trained on, and how many of the wrong labels the network gives
/// back.
struct Result {
  double test_error, learned;
};

double percent(const Tensor& is_true) { return 100 * mean(is_true.to(float32)).item(); }

Result train(const Setting& s, std::uint64_t seed, const Options& o) {
  const auto [clean, test] = split(digits(), {1000, 797}, seed);
  const TensorDataset noisy = with_label_noise(clean, {.probability = o.noise, .seed = seed});
  DataLoader loader(noisy, {.batch_size = 64, .drop_last = true, .seed = seed});

  ParameterStore params({.seed = seed});
  const Net net(params);
  optim::SGD optimizer(params, {.lr = o.lr, .momentum = 0.9});
  LowPassFilter filter({.M = s.M, .gamma = s.gamma, .estimator = s.estimator, .seed = seed});
  for (int epoch = 0; epoch < o.epochs; ++epoch) {
    for (const auto& [x, y] : loader) {
      const auto scope = filter.perturb(params);
      cross_entropy(net(x), y).backward();
      optimizer.step();
    }
  }

  const auto off = no_grad();
  const Tensor is_wrong = noisy.labels != clean.labels;
  const Tensor given_back = logical_and(argmax(net(noisy.images), 1) == noisy.labels, is_wrong);
  return {percent(argmax(net(test.images), 1) != test.labels), 100 * percent(given_back) / percent(is_wrong)};
}

void run(const Options& o) {
  TextTable table({"method", "M", "γ", "test error, %", "wrong labels learned, %"});
  for (const Setting& s : settings) {
    std::vector<double> errors, learned;
    for (int i = 0; i < o.seeds; ++i) {
      const Result r = train(s, o.seed + static_cast<std::uint64_t>(i), o);
      errors.push_back(r.test_error);
      learned.push_back(r.learned);
    }
    table.add_row({s.name, std::to_string(s.M), format_general(s.gamma),
                   format_fixed(mean_sd(errors).mean, 1), format_fixed(mean_sd(learned).mean, 0)});
  }
  std::printf("%s %% of the labels drawn at random; means of %d networks\n%s",
              format_general(100 * o.noise).c_str(), o.seeds, table.to_string(terminal_columns()).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Lesson 2: SGD and LPF-SGD on digits with wrong labels");
  app.option_defaults()->always_capture_default();
  app.add_option("--seed", o.seed, "of the first network; the others have the next ones");
  app.add_option("--seeds", o.seeds, "networks for each row")->check(CLI::Range(1, 1000));
  app.add_option("--epochs", o.epochs, "passes over the training images")->check(CLI::Range(1, 100'000));
  app.add_option("--noise", o.noise, "share of the labels that are drawn at random")
      ->check(CLI::Range(0.01, 1.0));
  app.add_option("--lr", o.lr, "learning rate");
  return program::run(app, "lesson2_digits", argc, argv, [&](const std::string&) { run(o); });
}
