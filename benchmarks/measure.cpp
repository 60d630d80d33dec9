// The time of the LPF measure, 100 draws of a network 64-128-128-10 on 1,000 samples, compared with
// its matrix products alone and, optionally, with PyTorch evaluating one draw after another.
// Interleaved: see measure --help.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <lpf/lpf.hpp>
#include <lpf/models/mlp.hpp>
#include <lpf/report/table.hpp>
#include <lpf/sharpness/measure.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "benchmark.hpp"

using namespace lpf;
using namespace lpf::benchmark;

namespace {

struct Options {
  std::int64_t draws = 100, samples = 1000;
  int rounds = 15, threads = 0;
  std::string json, peer;
};

Tensor gaussian(const Shape& shape) {
  const Tensor t = empty(shape);
  t.backend().normal(t.dtype(), {.seed = 1, .purpose = Purpose::measure}, 0, t.numel(), t.raw());
  return t;
}

/// The products alone, one draw after another, each with its own weights.
class Products {
 public:
  explicit Products(const Options& o) : draws_(o.draws), samples_(o.samples) {
    for (const auto& [in, out] : {std::pair{64, 128}, {128, 128}, {128, 10}}) {
      x_.push_back(gaussian({samples_, in}));
      w_.push_back(gaussian({draws_, out, in}));
      y_.push_back(empty({samples_, out}));
    }
  }
  void run() const {
    for (std::int64_t draw = 0; draw < draws_; ++draw)
      for (std::size_t i = 0; i < x_.size(); ++i) {
        const std::int64_t in = x_[i].size(1), out = y_[i].size(1);
        x_[i].backend().gemm({float32, false, true, samples_, out, in, x_[i].raw(), in, 0,
                              w_[i].data<float>() + draw * out * in, in, 0, y_[i].raw(), out, 0, 1, 1.0,
                              0.0});
      }
  }

 private:
  std::int64_t draws_, samples_;
  std::vector<Tensor> x_, w_, y_;
};

int run(int argc, char** argv) {
  Options o;
  CLI::App app("The LPF measure's time beside its products alone, and beside PyTorch.");
  app.option_defaults()->always_capture_default();
  app.add_option("--draws", o.draws, "perturbed copies")->check(CLI::Range(2, 100000));
  app.add_option("--samples", o.samples, "on which the loss is taken")->check(CLI::Range(10, 1000000));
  app.add_option("--rounds", o.rounds, "rounds of interleaved timings")->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads, "number of threads; 0: all")->check(CLI::NonNegativeNumber);
  app.add_option("--json", o.json, "write all figures to this file");
  app.add_option("--peer", o.peer, "a Python with PyTorch, to run the same beside it");
  if (const auto code = program::parse(app, "measure", argc, argv)) return *code;
  set_num_threads(o.threads);
  o.threads = num_threads();

  const auto peer = Peer::of(o.peer, {"--batch", "128"});
  const ParameterStore params({.seed = 1});
  const models::MLP net(params, {64, 128, 128, 10});
  std::vector<std::int64_t> labels(static_cast<std::size_t>(o.samples));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int64_t>(i % 10);
  const TensorDataset data(gaussian({o.samples, 64}), from_vector(labels, {o.samples}), 10);
  const Products products(o);
  double value = 0;

  struct Way {
    std::string name;
    std::function<double()> milliseconds;
  };
  std::vector<Way> ways{{"LPF measure",
                         [&] {
                           return milliseconds_of([&] {
                             const auto report = sharpness::measure(
                                 net, params, data, {.measures = {"low_pass"}, .draws = o.draws, .key = 7});
                             value = report["low_pass"].value;
                           });
                         }},
                        {"its products alone", [&] { return milliseconds_of([&] { products.run(); }); }},
                        {"PyTorch, draw after draw", [&] {
                           return peer->number(concat("measure ", o.draws, " ", o.threads, " ", o.samples));
                         }}};
  if (!peer) ways.pop_back();
  std::vector<std::vector<double>> ms(ways.size());
  for (int round = -1; round < o.rounds; ++round)
    for (std::size_t i = 0; i < ways.size(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));  // lets the others' threads stop spinning
      ways[i].milliseconds();
      const double time = ways[i].milliseconds();
      if (round >= 0) ms[i].push_back(time);
    }

  std::printf("%lld draws, %lld samples, network 64-128-128-10, float32, %d thread%s%s; LPF %.4f\n",
              static_cast<long long>(o.draws), static_cast<long long>(o.samples), o.threads,
              o.threads == 1 ? "" : "s", beside(peer).c_str(), value);
  TextTable table({"", "ms", "quartiles", "/ products"});
  nlohmann::json records = nlohmann::json::array();
  for (std::size_t i = 0; i < ways.size(); ++i) {
    const auto at = [&](double q) { return quantile(ms[i], q); };
    table.add_row({ways[i].name, format_fixed(at(.5), 2),
                   concat(format_fixed(at(.25), 2), " – ", format_fixed(at(.75), 2)),
                   format_fixed(at(.5) / quantile(ms[1], .5), 2)});
    records.push_back({{"what", ways[i].name},
                       {"draws", o.draws},
                       {"samples", o.samples},
                       {"threads", o.threads},
                       {"median_ms", at(.5)},
                       {"quartile1_ms", at(.25)},
                       {"quartile3_ms", at(.75)}});
  }
  std::printf("%s", table.to_string().c_str());
  write_figures(o.json, records);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return lpf::benchmark::main_of("measure", run, argc, argv); }
