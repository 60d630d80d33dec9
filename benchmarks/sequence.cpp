// The translation Transformer: milliseconds of a training step, tokens a second of greedy decoding, and the memory of
// attention. Interleaved in one process, and optionally beside PyTorch: sequence --help.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <lpf/lpf.hpp>
#include <lpf/models/translation.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/report/table.hpp>
#include <nlohmann/json.hpp>
#include <thread>

#include "benchmark.hpp"

using namespace lpf;
using namespace lpf::benchmark;

namespace {

// As in peer_sequence.py: sequences of 16 to 20 tokens, padded, and translations of 30.
constexpr std::int64_t vocabulary = 4000, batch_size = 64, length = 20, translated = length + 10;

struct NetInfo {
  std::string name;
  std::int64_t dim, units;
  int layers;  // of the encoder, and of the decoder

  models::Seq2SeqOptions options() const {
    return {.vocabulary = vocabulary,
            .dim = dim,
            .heads = 4,
            .feedforward = units,
            .encoder_layers = layers,
            .decoder_layers = layers,
            .dropout = 0.1};
  }
  std::string request(const char* what) const {
    return concat("sequence ", what, " ", dim, " ", units, " ", layers, " ");
  }
};
/// That of `translate` by default, and that of its comparison in docs/translation.md.
const std::vector<NetInfo>& networks() {
  static const std::vector<NetInfo> all{{"transformer-256", 256, 512, 3}, {"transformer-128", 128, 512, 2}};
  return all;
}

/// Sources [B, L] and targets [B, L + 1].
text::TokenBatch make_batch() {
  std::vector<std::int64_t> source, target;
  text::TokenBatch out;
  for (std::int64_t row = 0; row < batch_size; ++row) {
    const std::int64_t own = length - row % 5;
    for (std::int64_t i = 0; i <= length; ++i) {
      const std::int64_t token = 4 + (row * 131 + i * 17 + row * i) % (vocabulary - 4);
      if (i < length) source.push_back(i < own ? token : text::SpecialTokens::pad);
      target.push_back(i <= own ? token : text::SpecialTokens::pad);
    }
    out.source_lengths.push_back(own), out.target_lengths.push_back(own + 1);
  }
  out.source = from_vector(source, {batch_size, length});
  out.target = from_vector(target, {batch_size, length + 1});
  return out;
}

class Training {
 public:
  Training(const NetInfo& info, const std::string& method, const char* estimator)
      : params_({.seed = 1}),
        net_(params_, info.options()),
        method_(optim::make(
            method, params_,
            {.lr = 1e-4, .M = 8, .gamma = 1e-3, .estimator = estimator_named(estimator), .rho = 0.05})),
        batch_(make_batch()),
        input_(batch_.input()),
        labels_(batch_.labels()) {}

  void step() {
    method_->step([&](std::int64_t) {
      return cross_entropy(net_(batch_.source, input_, batch_.source_padding()), labels_,
                           {.label_smoothing = 0.1, .ignore_index = text::SpecialTokens::pad});
    });
  }
  std::int64_t parameters() const { return params_.numel(); }

 private:
  ParameterStore params_;
  models::Seq2SeqTransformer net_;
  std::unique_ptr<optim::Method> method_;
  text::TokenBatch batch_;
  Tensor input_, labels_;
};

class Decoding {
 public:
  explicit Decoding(const NetInfo& info)
      : params_({.seed = 1}), net_(params_, info.options()), batch_(make_batch()) {
    const auto off = no_grad();
    // No translation ends before the limit, so that all do the same work.
    params_.tensor("generator.bias").narrow(0, text::SpecialTokens::end, 1).fill_(-1e9);
    params_.eval();
  }
  void run() const {
    models::TranslationSteps steps(net_, batch_);
    const auto found = text::greedy(steps, std::vector<std::int64_t>(batch_size, translated));
    for (const auto& tokens : found)
      check<StateError>(std::ssize(tokens) == translated, "sequence", "a translation has ", tokens.size(),
                        " tokens instead of ", translated);
  }

 private:
  ParameterStore params_;
  models::Seq2SeqTransformer net_;
  text::TokenBatch batch_;
};

/// A row of the table: what is timed, by whom, and a function that returns its milliseconds.
struct Work {
  std::string what, by;
  std::function<double(int threads)> milliseconds;
  std::vector<double> ms = {};

  double quantile(double q) const { return benchmark::quantile(ms, q); }
  /// Distance of the quartiles, as a share of the median.
  double spread() const { return (quantile(.75) - quantile(.25)) / quantile(.5); }
};

std::vector<Work> works_of(const NetInfo& net, Peer* peer) {
  std::vector<Work> out;
  const auto train = [&](const char* what, const char* method, const char* estimator) {
    const auto training = std::make_shared<Training>(net, method, estimator);
    out.push_back({what, "lpf", [training](int) { return milliseconds_of([&] { training->step(); }); }});
  };
  const auto ask = [&](const char* what, std::string request, const char* end) {
    if (peer)
      out.push_back({what, "pytorch", [peer, request = std::move(request), end](int threads) {
                       return peer->number(concat(request, threads, end));
                     }});
  };
  train("Adam", "adam", "replicas");
  ask("Adam", net.request("step") + "adam ", " 1");
  train("LPF-Adam, M = 8", "lpf-adam", "replicas");
  train("LPF-Adam, M = 8, flipout", "lpf-adam", "flipout");
  ask("LPF-Adam, M = 8, as published", net.request("step") + "lpf-adam ", " 1");
  train("SAM-Adam", "sam-adam", "replicas");
  const auto decoding = std::make_shared<Decoding>(net);
  out.push_back({"decoding", "lpf", [decoding](int) { return milliseconds_of([&] { decoding->run(); }); }});
  ask("decoding", net.request("decode") + "0 ", "");
  ask("decoding with a cache", net.request("decode") + "1 ", "");
  return out;
}

/// a / b, as a ratio of medians with the quartiles of the rounds' ratios.
struct Ratio {
  const char* name;
  const char *a, *a_by, *b, *b_by;
  const char* goal;
};
const std::vector<Ratio>& ratios() {
  static const std::vector<Ratio> all{
      {"Adam: this library / PyTorch", "Adam", "lpf", "Adam", "pytorch", "≤ 1.0"},
      {"LPF-Adam, M = 8 / Adam", "LPF-Adam, M = 8", "lpf", "Adam", "lpf", "≤ 1.6"},
      {"… flipout / Adam", "LPF-Adam, M = 8, flipout", "lpf", "Adam", "lpf", "≤ 1.15"},
      {"SAM-Adam / Adam", "SAM-Adam", "lpf", "Adam", "lpf", ""},
      {"LPF-Adam, M = 8: PyTorch as published / this", "LPF-Adam, M = 8, as published", "pytorch",
       "LPF-Adam, M = 8", "lpf", "≥ 4"},
      {"… / this, flipout", "LPF-Adam, M = 8, as published", "pytorch", "LPF-Adam, M = 8, flipout", "lpf",
       "≥ 4"},
      {"decoding, tokens/s: this / PyTorch", "decoding", "pytorch", "decoding", "lpf", "≥ 2"},
      {"… PyTorch with a cache", "decoding with a cache", "pytorch", "decoding", "lpf", "≥ 2"}};
  return all;
}

void print(const std::string& heading, const std::vector<Work>& works, double limit) {
  TextTable table({"", "by", "median ms", "quartiles", "tokens/s"});
  const Work* widest = &works[0];
  for (const Work& w : works) {
    if (w.spread() > widest->spread()) widest = &w;
    const double seconds = w.quantile(.5) * 1e-3;
    table.add_row({w.what, w.by, format_fixed(w.quantile(.5), 1),
                   concat(format_fixed(w.quantile(.25), 1), " – ", format_fixed(w.quantile(.75), 1)),
                   w.what.starts_with("decoding") ? format_fixed(batch_size * translated / seconds, 0) : ""});
  }
  const auto find = [&](const char* what, const char* by) {
    return std::find_if(works.begin(), works.end(),
                        [&](const Work& w) { return w.what == what && w.by == by; });
  };
  TextTable compared({"ratio of medians", "goal", "", "quartiles of the rounds"});
  for (const Ratio& r : ratios()) {
    const auto a = find(r.a, r.a_by), b = find(r.b, r.b_by);
    if (a == works.end() || b == works.end()) continue;
    if (a->spread() > limit || b->spread() > limit) {
      compared.add_row({r.name, r.goal, "busy", ""});
      continue;
    }
    std::vector<double> each;
    for (std::size_t i = 0; i < a->ms.size(); ++i) each.push_back(a->ms[i] / b->ms[i]);
    compared.add_row(
        {r.name, r.goal, format_fixed(a->quantile(.5) / b->quantile(.5), 2),
         concat(format_fixed(quantile(each, .25), 2), " – ", format_fixed(quantile(each, .75), 2))});
  }
  std::printf("%s\n%s\n%s", heading.c_str(), table.to_string().c_str(), compared.to_string().c_str());
  if (widest->spread() > limit)
    std::printf(
        "busy: the quartiles of %s (%s) lie %.0f %% of the median apart, and above %.0f %% no ratio is "
        "printed. Other programs use the machine: run this again when it is idle.\n",
        widest->what.c_str(), widest->by.c_str(), 100 * widest->spread(), 100 * limit);
  std::printf("\n");
  std::fflush(stdout);
}

/// Bytes at the peak of forward and backward of attention, of 8 heads of 64 features: the result, the gradients and
/// whatever is held between, without the operands.
std::size_t attention_memory(std::int64_t positions, bool composed) {
  const auto& backend = backend::get(default_device());
  const Shape shape{1, 8, positions, 64};
  const std::vector<Tensor> parts{randn(shape, {.seed = 1}).requires_grad_(),
                                  randn(shape, {.seed = 2}).requires_grad_(),
                                  randn(shape, {.seed = 3}).requires_grad_()};
  const Tensor g = randn(shape, {.seed = 4});
  backend.reset_peak();
  const std::size_t before = backend.memory_stats().in_use;
  const Tensor y = composed ? lpf::detail::composed_attention(parts[0], parts[1], parts[2], {}, 0.125, {})
                            : scaled_dot_product_attention(parts[0], parts[1], parts[2]);
  const auto gradients = grad(y, parts, {.gradient = g});
  return backend.memory_stats().peak - before;
}

void print_memory(nlohmann::json& records) {
  TextTable table(
      {"attention, forward and backward: L", "kernels, MB", "bytes a position", "composed, MB", "/ kernels"});
  for (std::int64_t positions = 64; positions <= 2048; positions *= 2) {
    const auto fused = static_cast<double>(attention_memory(positions, false)),
               composed = static_cast<double>(attention_memory(positions, true));
    table.add_row({std::to_string(positions), format_fixed(fused * 1e-6, 2),
                   format_fixed(fused / static_cast<double>(positions), 0), format_fixed(composed * 1e-6, 2),
                   format_fixed(composed / fused, 1)});
    records.push_back({{"what", "attention memory"},
                       {"positions", positions},
                       {"kernels_bytes", fused},
                       {"composed_bytes", composed}});
  }
  std::printf("%sbeside these a tile of scores a thread, at most 1 MB\n", table.to_string().c_str());
}

struct Options {
  std::vector<std::string> nets;
  std::vector<int> threads;
  int rounds = 11;
  double spread = 0.25;
  bool memory = true;
  std::string json, peer;
};

int run(int argc, char** argv) {
  Options o;
  std::vector<std::string> known;
  for (const NetInfo& n : networks()) known.push_back(n.name);
  o.nets = known;
  CLI::App app(
      "A training step of the translation Transformer, greedy decoding and the memory of attention, beside "
      "PyTorch "
      "if "
      "asked.");
  app.add_option("--nets", o.nets, "networks")
      ->check(CLI::IsMember(known))
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--threads", o.threads, "numbers of threads (default: 1 and all)")
      ->check(CLI::PositiveNumber)
      ->delimiter(',');
  app.add_option("--rounds", o.rounds, "rounds of interleaved timings")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--spread", o.spread,
                 "rows are compared if their quartiles lie at most this share of the median apart")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag(
      "--processor-time", processor_time,
      "count the processor time of all threads, of both libraries, instead of the time that passes, where "
      "others use the machine");
  app.add_flag("--memory,!--no-memory", o.memory, "the memory of attention too (the default)");
  app.add_option("--json", o.json, "write all figures to this file");
  app.add_option("--peer", o.peer, "a Python with PyTorch, to run the same beside it");
  if (const auto code = program::parse(app, "sequence", argc, argv)) return *code;
  if (o.threads.empty()) {
    o.threads = {1};
    if (num_threads() > 1) o.threads.push_back(num_threads());
  }
  const auto peer = Peer::of(
      o.peer, processor_time ? std::vector<std::string>{"--processor-time"} : std::vector<std::string>{});
  std::printf("%s, float32, batches of %lld sentences of 16 to 20 tokens, translations of %lld%s%s\n\n",
              backend::get(default_device()).name, static_cast<long long>(batch_size),
              static_cast<long long>(translated), processor_time ? ", processor time" : "",
              beside(peer).c_str());
  nlohmann::json records = nlohmann::json::array();
  for (const std::string& name : o.nets) {
    const NetInfo& net =
        *std::find_if(networks().begin(), networks().end(), [&](const NetInfo& n) { return n.name == name; });
    for (const int threads : o.threads) {
      set_num_threads(threads);
      std::vector<Work> works = works_of(net, peer.get());
      for (Work& w : works) w.milliseconds(threads);
      for (int round = 0; round < o.rounds; ++round) {
        for (Work& w : works) {
          // Lets the other library's threads stop spinning.
          if (peer) std::this_thread::sleep_for(std::chrono::milliseconds(30));
          w.ms.push_back(w.milliseconds(threads));
        }
        std::fprintf(stderr, "\r%s: round %d of %d ", name.c_str(), round + 1, o.rounds);
      }
      std::fprintf(stderr, "\r%40s\r", "");
      print(concat(name, ", ", Training(net, "adam", "replicas").parameters(), " parameters, ", threads,
                   " thread", threads == 1 ? "" : "s"),
            works, o.spread);
      for (const Work& w : works)
        records.push_back({{"net", name},
                           {"what", w.what},
                           {"by", w.by},
                           {"threads", threads},
                           {"processor_time", processor_time},
                           {"median_ms", w.quantile(.5)},
                           {"quartile1_ms", w.quantile(.25)},
                           {"quartile3_ms", w.quantile(.75)},
                           {"min_ms", w.quantile(0)},
                           {"rounds", w.ms.size()}});
      write_figures(o.json, records);
    }
  }
  if (o.memory) print_memory(records);
  write_figures(o.json, records);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return lpf::benchmark::main_of("sequence", run, argc, argv); }
