// Lesson 3 (docs/lessons/3-flatness.md): how flat the minima of SGD and LPF-SGD are, by three measures, and why the
// size of the noise follows the size of the weights.
#include <cstdio>
#include <lpf/report/table.hpp>
#include <lpf/sharpness/low_pass.hpp>

#include "flat_net.hpp"
#include "program.hpp"

using namespace lpf;

namespace {

struct Options {
  std::uint64_t seed = 1;
  int epochs = 40;
  std::int64_t draws = 50;
  double gamma = 0.06, sigma = 0.05, factor = 8;
};

void run(const Options& o) {
  const auto [clean, test] = split(digits(), {1000, 797}, o.seed);
  const TensorDataset data = with_label_noise(clean, {.probability = 0.2, .seed = o.seed});

  // Three measures at the minima of both methods. Each filter is measured in units of its own size.
  TextTable minima({"minimum of", "test error, %", "loss L", "LPF measure", "trace", "λ_max"});
  TextTable scales({"minimum of", "first layer", "loss L", "noise σ on all weights", "noise σ‖w_k‖", "λ_max",
                    "λ_max in units of the filters"});
  for (const double gamma : {0.0, o.gamma}) {
    const std::string name = gamma > 0 ? "LPF-SGD" : "SGD";
    ParameterStore params({.seed = o.seed});
    const flat::Net net(params);
    flat::train(params, net, data, gamma, o.epochs);

    const auto measure = [&](bool in_units) {
      return sharpness::measure(net, params, data,
                                {.measures = {"low_pass", "trace", "lambda_max"},
                                 .draws = o.draws,
                                 .filter_normalize = in_units,
                                 .sigma = o.sigma,
                                 .spectrum = {.steps = 40}});
    };
    const sharpness::Report report = measure(true);
    const auto show = [](double value) { return format_general(value, value < 100 ? 2 : 3); };
    minima.add_row({name, format_fixed(flat::error(net, test), 1), format_fixed(report.loss, 2),
                    format_fixed(report["low_pass"].value, 2), show(report["trace"].value),
                    show(report["lambda_max"].value)});

    // The same network, its first layer scaled up and its second down: all outputs are the same.
    for (const double c : {1.0, o.factor}) {
      if (c != 1) flat::rescale(net, c);
      const sharpness::Report units = measure(true), plain = measure(false);
      scales.add_row({name, c == 1 ? "as trained" : concat("times ", c), format_fixed(units.loss, 2),
                      show(plain["low_pass"].value), show(units["low_pass"].value),
                      show(plain["lambda_max"].value), show(units["lambda_max"].value)});
    }
  }
  std::printf("Flatness at the minima, 20 %% of the labels drawn at random\n%s\n",
              minima.to_string(terminal_columns()).c_str());
  std::printf("Loss under noise, and λ_max, of a network and of the same one rescaled (σ %s)\n%s",
              format_general(o.sigma).c_str(), scales.to_string(terminal_columns()).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Lesson 3: what flatness is, and why its unit is the size of a filter");
  app.option_defaults()->always_capture_default();
  app.add_option("--seed", o.seed, "of data and weights");
  app.add_option("--epochs", o.epochs, "passes over the training images")->check(CLI::Range(1, 100'000));
  app.add_option("--gamma", o.gamma, "radius of LPF-SGD");
  app.add_option("--sigma", o.sigma, "of the LPF measure");
  app.add_option("--draws", o.draws, "of the LPF measure and the trace")->check(CLI::Range(2, 100'000));
  app.add_option("--factor", o.factor, "of the first layer; the second is divided by it")
      ->check(CLI::Range(0.01, 100.0));
  return program::run(app, "lesson3_flatness", argc, argv, [&](const std::string&) { run(o); });
}
