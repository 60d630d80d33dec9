// The variance of the estimators of the smoothed gradient: after some epochs of training with LPF-SGD, the gradient of one
// batch is estimated many times with fresh noise at the same θ.
//
//   estimators                              a table for each of three networks on the digits
//   estimators --net mlp --draws 600
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/registry.hpp>
#include <lpf/report/table.hpp>

#include "program.hpp"

using namespace lpf;

namespace {

struct Options {
  std::vector<std::string> nets{"mlp", "lenet", "resnet"};
  std::vector<int> epochs{1, 10, 60};
  int draws = 600, threads = 0;
  std::int64_t batch = 64;
  double gamma = 0.06;
};

struct Row {
  std::string name;
  Estimator estimator;
  std::int64_t M;
};
std::vector<Row> rows_of(const Options& o) {
  return {{"replicas, M = 1", Estimator::replicas, 1},
          {"replicas, M = 8", Estimator::replicas, 8},
          {"antithetic, M = 8", Estimator::antithetic, 8},
          {"flipout, M = 8", Estimator::flipout, 8},
          {"flipout pairs, M = 8", Estimator::flipout_pairs, 8},
          {concat("replicas, M = ", o.batch), Estimator::replicas, o.batch},
          {concat("flipout, M = ", o.batch), Estimator::flipout, o.batch},
          {concat("flipout pairs, M = ", o.batch), Estimator::flipout_pairs, o.batch},
          {"per sample", Estimator::per_sample, 8}};
}

// The digits; for networks with convolutions every pixel becomes a square of 2×2.
TensorDataset digits_for(const std::string& net) {
  TensorDataset all = digits();
  if (net == "mlp") return all;
  const std::int64_t n = all.size();
  all.images =
      reshape(mul(reshape(all.images, {n, 8, 1, 8, 1, 1}), ones({1, 1, 2, 1, 2, 1})), {n, 16, 16, 1});
  return all;
}
models::Model network(const std::string& net, const ParameterStore& params) {
  if (net == "mlp") return models::make("digits-mlp", params, {.input = {8, 8, 1}});
  if (net == "lenet") return models::make("small-lenet", params, {.input = {16, 16, 1}});
  return models::make("double-descent-resnet18", params, {.input = {16, 16, 1}, .width = 4});
}

// tr Cov g of estimates with fresh noise, from ten groups of them, and the square of the length of their mean.
struct Spread {
  double variance, standard_error, mean_squared;
};
Spread spread(const ParameterStore& params, LowPassFilter& filter, int draws,
              const std::function<Tensor()>& loss) {
  constexpr int groups = 10;
  const auto length_squared = [](const Tensor& t) {
    return t.backend().dot(t.dtype(), t.numel(), t.raw(), t.raw());
  };
  Tensor sum = zeros_like(params.gradient());
  std::vector<double> variances;
  const double n = draws / groups;
  for (int group = 0; group < groups; ++group) {
    Tensor part = zeros_like(sum);
    double squares = 0;
    for (int i = 0; i < draws / groups; ++i) {
      params.zero_grad();
      const auto scope = filter.perturb(params);
      loss().backward();
      squares += length_squared(params.gradient());
      part.copy_(part + params.gradient());
    }
    variances.push_back((squares - length_squared(part) / n) / (n - 1));
    sum.copy_(sum + part);
  }
  params.zero_grad();
  const MeanSd of_groups = mean_sd(variances);
  return {of_groups.mean, of_groups.sd / std::sqrt(double{groups}),
          length_squared(sum) / (n * n * groups * groups)};
}

void study(const Options& o, const std::string& net) {
  const auto [train, rest] = split(digits_for(net), {1000, 797}, 0);
  DataLoader loader(train, {.batch_size = o.batch, .seed = 0});
  const ParameterStore params({.seed = 0});
  const models::Model model = network(net, params);
  optim::SGD optimizer(params, {.lr = 0.1, .momentum = 0.9});
  const int last = *std::max_element(o.epochs.begin(), o.epochs.end());
  optimizer.set_schedule(schedule::cosine(static_cast<std::uint64_t>(last * loader.batches())));
  // Statistics of whole batches for every row, so that a replica may be one sample.
  LowPassFilter filter({.M = 8, .gamma = o.gamma, .batch_norm = BatchNormPolicy::pooled});
  const Tensor x = train.images.narrow(0, 0, o.batch), y = train.labels.narrow(0, 0, o.batch);

  const std::vector<Row> rows = rows_of(o);
  std::vector<std::vector<std::string>> cells;
  for (const Row& row : rows) cells.push_back({row.name});
  std::vector<std::string> head{concat("tr Cov g, ", net)};
  for (int epoch = 1; epoch <= last; ++epoch) {
    for (auto [images, labels] : loader) {
      const auto scope = filter.perturb(params);
      cross_entropy(model(images), labels).backward();
      optimizer.step();
    }
    if (std::find(o.epochs.begin(), o.epochs.end(), epoch) == o.epochs.end()) continue;
    std::vector<Tensor> kept;  // running statistics, which passes update
    for (const auto& b : params.buffers()) kept.push_back(b.tensor.clone());
    double length = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      LowPassFilter estimates({.M = rows[i].M,
                               .gamma = o.gamma,
                               .estimator = rows[i].estimator,
                               .batch_norm = BatchNormPolicy::pooled,
                               .seed = 1});
      const Spread found = spread(params, estimates, o.draws, [&] { return cross_entropy(model(x), y); });
      cells[i].push_back(
          concat(format_general(found.variance, 3), " ± ", format_general(found.standard_error, 1)));
      if (i == 1) length = found.mean_squared;
    }
    for (std::size_t i = 0; i < kept.size(); ++i) params.buffers()[i].tensor.copy_(kept[i]);
    head.push_back(concat("epoch ", epoch, " (‖g‖² ", format_general(length, 3), ")"));
  }
  TextTable table(head);
  for (const auto& row : cells) table.add_row(row);
  std::printf("%s", table.to_string(terminal_columns()).c_str());
  program::print(concat("± is the standard error, from ten groups of the ", o.draws, " estimates.\n\n"));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app(
      "Variance of the estimators of the smoothed gradient, on three networks trained on the digits.");
  app.option_defaults()->always_capture_default();
  app.add_option("--net", o.nets, "networks")->check(CLI::IsMember(o.nets));
  app.add_option("--epochs", o.epochs, "of training with LPF-SGD, after which to measure")
      ->check(CLI::Range(1, 1000));
  app.add_option("--draws", o.draws, "estimates of the gradient of one batch")
      ->check(CLI::Range(20, 1000000));
  app.add_option("--batch", o.batch, "samples in the batch")->check(CLI::Range(8, 1000));
  app.add_option("--gamma", o.gamma, "radius of the noise, relative to each filter's norm")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--threads", o.threads, "processor threads; 0: all")->check(CLI::Range(0, 1024));
  return program::run(app, "estimators", argc, argv, [&](const std::string&) {
    set_num_threads(o.threads);
    program::usage([&] {
      check(o.batch % 2 == 0, "estimators",
            "--batch must be even, since replicas of one sample come in pairs, got ", o.batch);
    });
    for (const std::string& net : o.nets) study(o, net);
  });
}
