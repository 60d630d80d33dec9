// Solutions of lesson 3 (docs/lessons/3-flatness.md): the LPF measure beside the trace, the loss over the distance, and
// a network of which one filter alone is rescaled.
#include <cstdio>
#include <lpf/report/table.hpp>
#include <lpf/sharpness/low_pass.hpp>

#include "flat_net.hpp"
#include "program.hpp"

using namespace lpf;

namespace {

/// A network trained by SGD (γ = 0) or LPF-SGD.
struct Trained {
  ParameterStore params;
  flat::Net net;

  Trained(const TensorDataset& data, double gamma, std::uint64_t seed) : params({.seed = seed}), net(params) {
    flat::train(params, net, data, gamma, 40);
  }
  /// The mean loss under noise of σ in units of the filters, or on all weights alike.
  sharpness::Estimate low_pass(const TensorDataset& data, double sigma, bool in_units = true) const {
    return sharpness::low_pass(params, {data.images, data.labels}, flat::losses_of(net),
                               {.sigma = sigma, .draws = sigma > 0 ? 200 : 2, .filter_normalize = in_units});
  }
};

void print(const char* title, const TextTable& table) {
  std::printf("%s\n%s\n", title, table.to_string(terminal_columns()).c_str());
}

/// 1. For small σ the loss rises under noise by σ²/2·trace; the trace is of the Hessian in units of the filters.
void rise_and_trace(const Trained& lpf, const TensorDataset& data) {
  const double trace =
      sharpness::measure(lpf.net, lpf.params, data, {.measures = {"trace"}, .draws = 200})["trace"].value;
  const double loss = lpf.low_pass(data, 0).value;
  TextTable table({"σ", "rise of the loss", "σ²/2·trace"});
  for (const double sigma : {0.005, 0.01, 0.02, 0.05, 0.1}) {
    const sharpness::Estimate noisy = lpf.low_pass(data, sigma);
    table.add_row({format_general(sigma),
                   format_fixed(noisy.value - loss, 4) + " ± " + format_fixed(noisy.standard_error, 4),
                   format_fixed(sigma * sigma / 2 * trace, 4)});
  }
  print("1. The rise of the loss and the trace, LPF-SGD", table);
}

/// 2. The loss at growing noise.
void profiles(const Trained& sgd, const Trained& lpf, const TensorDataset& data) {
  TextTable table({"σ", "SGD", "LPF-SGD"});
  for (const double sigma : {0.0, 0.02, 0.05, 0.1, 0.2})
    table.add_row({format_general(sigma), format_general(sgd.low_pass(data, sigma).value, 2),
                   format_general(lpf.low_pass(data, sigma).value, 2)});
  print("2. Training loss under noise", table);
}

/// 3. One filter times c, the weights that read it divided by c. The rows of the second layer have weights of other
/// filters too, and the unit of a row is the length of all of it.
void one_filter(const Trained& lpf, const TensorDataset& data) {
  TextTable table({"filter 0 of the first layer", "loss", "noise σ on all weights", "noise σ‖w_k‖"});
  const Tensor first = lpf.net.fc1.weight.clean().detach(), bias = lpf.net.fc1.bias.clean().detach(),
               second = lpf.net.fc2.weight.clean().detach();
  double before = 1;
  for (const double c : {1.0, 8.0, 64.0}) {
    const auto off = no_grad();
    const double by = c / before;
    first[0].copy_(first[0] * by);
    bias.narrow(0, 0, 1).copy_(bias.narrow(0, 0, 1) * by);
    for (std::int64_t row = 0; row < 10; ++row)
      second[row].narrow(0, 0, 1).copy_(second[row].narrow(0, 0, 1) / by);
    before = c;
    table.add_row({concat("times ", c), format_general(lpf.low_pass(data, 0).value, 2),
                   format_general(lpf.low_pass(data, 0.02, false).value, 2),
                   format_general(lpf.low_pass(data, 0.02).value, 2)});
  }
  print("3. One filter rescaled, LPF-SGD", table);
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 1;
  CLI::App app("Solutions of lesson 3");
  app.option_defaults()->always_capture_default();
  app.add_option("--seed", seed, "of data and weights");
  return program::run(app, "lesson3_solutions", argc, argv, [&](const std::string&) {
    const auto [clean, test] = split(digits(), {1000, 797}, seed);
    const TensorDataset data = with_label_noise(clean, {.probability = 0.2, .seed = seed});
    const Trained sgd(data, 0, seed), lpf(data, 0.06, seed);
    rise_and_trace(lpf, data);
    profiles(sgd, lpf, data);
    one_filter(lpf, data);
  });
}
