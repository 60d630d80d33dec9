// All settings of a translation run, in one table: flags, config.json and comparisons are made from it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <lpf/experiment/setting_table.hpp>
#include <lpf/optim/registry.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace translate {

using namespace lpf;

/// The settings, documented in for_each_setting(). The values are those for Multi30k.
struct Settings {
  std::string data = "", from = "de", to = "en", train_files = "", validation_files = "", test_files = "";
  std::int64_t train_pairs = 0, validation_pairs = 1000;
  bool lower_case = true;
  std::string pieces = "", weights = "";
  std::int64_t vocabulary = 4000, longest = 99;

  std::int64_t dim = 256, heads = 4, feedforward = 512, encoder_layers = 3, decoder_layers = 3;
  double dropout = 0.1;
  bool norm_first = false, tied = false;

  std::string optimizer = "lpf-adam";
  std::int64_t epochs = 20, max_steps = 0, batch = 64, batch_tokens = 0;
  double lr = 0;
  std::int64_t warm_up = 0;
  double beta2 = 0.98, epsilon = 1e-9, weight_decay = 0, clip_norm = 0, label_smoothing = 0.1;

  std::int64_t M = 8;
  double gamma = 5e-4, alpha = 15;
  std::string law = "filter-wise", estimator = "replicas";
  double rho = 0.01, eta = 0.01;
  std::int64_t inner_steps = 5;
  double inner_lr = 0.1, g0 = 0.5, g1 = 1e-4;

  std::int64_t evaluate_every = 1, shards = 0;
  std::uint64_t seed = 0;
};

/// Calls f(name, value, meaning) for every setting of s.
template <class S, class F>
void for_each_setting(S& s, F f) {
  f("data", s.data,
    "folder with train.LANGUAGE, val.LANGUAGE and test*.LANGUAGE, plain or .gz; or 'numbers', built in");
  f("from", s.from, "language of the source: the ending of its files");
  f("to", s.to, "language of the target");
  f("train-files", s.train_files, "instead of --data: SOURCE,TARGET, two files with a sentence a line");
  f("validation-files", s.validation_files, "SOURCE,TARGET; none: pairs kept from training");
  f("test-files", s.test_files, "SOURCE,TARGET; none: no test");
  f("train-pairs", s.train_pairs, "pairs to train on, the first ones; 0: all");
  f("validation-pairs", s.validation_pairs, "pairs kept from training where there are no validation files");
  f("lower-case", s.lower_case, "train and translate in lower case");
  f("pieces", s.pieces, "file of pieces (--make-pieces writes one); none: made of the training sentences");
  f("vocabulary", s.vocabulary, "number of pieces of both languages together");
  f("longest", s.longest, "pieces of a training sentence at most, in both languages");
  f("dim", s.dim, "features of a token");
  f("heads", s.heads, "heads of attention");
  f("feedforward", s.feedforward, "units of the layers between");
  f("encoder-layers", s.encoder_layers, "layers that read the source");
  f("decoder-layers", s.decoder_layers, "layers that write the target");
  f("dropout", s.dropout, "of attention, units, residuals and embeddings");
  f("norm-first", s.norm_first, "layer norm before attention and units, not after the residual");
  f("tied", s.tied, "the generator uses the embedding's weight");
  f("weights", s.weights, "safetensors file with the weights to start from; none: drawn by the seed");
  f("optimizer", s.optimizer, "how it is trained");
  f("epochs", s.epochs,
    "passes over the training pairs; of entropy-adam each takes inner-steps batches an update");
  f("max-steps", s.max_steps, "updates of the run at most; 0: by epochs alone");
  f("batch", s.batch, "sentences of a batch at most");
  f("batch-tokens", s.batch_tokens,
    "tokens of one language in a batch, with padding, instead; 0: by sentences");
  f("lr", s.lr, "learning rate where warm-up ends; 0: 1/sqrt(dim * warm-up) (Vaswani et al.)");
  f("warm-up", s.warm_up, "updates of linear warm-up, then the inverse square root; 0: a tenth of all");
  f("beta2", s.beta2, "of Adam");
  f("epsilon", s.epsilon, "of Adam");
  f("weight-decay", s.weight_decay, "L2 in the gradient; of adamw, decoupled");
  f("clip-norm", s.clip_norm, "largest norm of a gradient; 0: any");
  f("label-smoothing", s.label_smoothing,
    "share of the target that is spread over all pieces (Szegedy et al.)");
  f("M", s.M, "lpf: perturbed copies of the network in a step");
  f("gamma", s.gamma, "lpf: radius of the noise, relative to a filter's norm");
  f("alpha", s.alpha, "lpf: the radius grows to alpha times gamma over training");
  f("law", s.law, "lpf: what the noise is relative to");
  f("estimator", s.estimator, "lpf: how the noise is drawn");
  f("rho", s.rho, "sam, asam: radius of the ascent");
  f("eta", s.eta, "asam: added to |theta|");
  f("inner-steps", s.inner_steps, "entropy: Langevin steps of an update");
  f("inner-lr", s.inner_lr, "entropy: their learning rate");
  f("g0", s.g0, "entropy: scope at the beginning");
  f("g1", s.g1, "entropy: its growth an update");
  f("evaluate-every", s.evaluate_every,
    "epochs between translations of the validation sentences; after the last always");
  f("shards", s.shards,
    "parts of a batch added in a fixed order: then the number of processes is no part of the result; a power "
    "of two; 0: "
    "one a process");
  f("seed", s.seed, "of initial weights, order, dropout and noise");
}

/// The optimizers: those of the registry around Adam and its relatives, and Entropy-SGD's dynamics around Adam.
inline std::vector<std::string> optimizers() {
  std::vector<std::string> out = optim::names();
  std::erase(out, "entropy-sgd");
  out.push_back("entropy-adam");
  return out;
}

/// The values that a setting accepts; empty for a number or a text.
inline std::vector<std::string> choices(std::string_view setting) {
  if (setting == "optimizer") return optimizers();
  if (setting == "law") return experiment::law_names();
  if (setting == "estimator") return estimator_names();
  return {};
}

/// Sets the setting of that name. ValueError, with the nearest name or value, for one that does not exist.
inline void set(Settings& s, std::string_view name, std::string_view text) {
  experiment::set_in_table("translate", s, name, text, choices);
}

/// Whether a setting is the name of a file or a folder, which may be another one where a run goes on.
inline bool is_place(std::string_view name) {
  return name == "data" || name == "pieces" || name == "weights" || name.ends_with("-files");
}

/// The settings that differ, as "lr (0.1, now 0.05)", except places on this computer.
inline std::string differences(const Settings& before, const Settings& now) {
  return experiment::differences_of_tables(before, now, is_place);
}

/// The settings of a run. IOError; FormatError for a file that is not one.
inline Settings read_config(const std::string& path) {
  return experiment::read_table<Settings>("translate", path);
}

/// Why a setting has no effect; empty if it has.
inline std::string unused(const Settings& s, std::string_view name) {
  const bool entropy = s.optimizer == "entropy-adam";
  const auto of = [&](std::initializer_list<std::string_view> names, bool used) {
    return std::find(names.begin(), names.end(), name) != names.end() && !used;
  };
  const auto takes = [&](std::string_view setting) {
    return !entropy && optim::info(s.optimizer).takes(setting);
  };
  const std::string base = entropy ? "adam" : optim::info(s.optimizer).optimizer;
  if (of({"M", "gamma", "alpha", "law", "estimator", "rho", "eta"}, takes(name)) ||
      of({"inner-steps", "inner-lr", "g0", "g1"}, entropy) || of({"beta2", "epsilon"}, base == "adam"))
    return concat("--optimizer ", s.optimizer, " does not use it");
  if (of({"from", "to"}, s.train_files.empty() && s.data != "numbers"))
    return "the files are given otherwise";
  if (of({"validation-pairs"}, !s.train_files.empty() && s.validation_files.empty()))
    return "it is for --train-files without --validation-files";
  if (of({"vocabulary"}, s.pieces.empty())) return "--pieces are given";
  if (of({"validation-files", "test-files"}, !s.train_files.empty())) return "it needs --train-files";
  if (of({"batch"}, s.batch_tokens == 0)) return "--batch-tokens decides";
  if (of({"data"}, s.train_files.empty())) return "--train-files are given";
  return "";
}

/// ValueError, naming the flag, for a setting out of range. What layers and optimizers check is left to them.
inline void validate(const Settings& s) {
  constexpr std::int64_t largest = experiment::largest_setting;
  experiment::check_numbers_of_table("translate", s);
  const auto within = [](const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
    check(value >= least && value <= most, "translate", "--", name, " must be from ", least, " to ", most,
          ", got ", value);
  };
  within("epochs", s.epochs, 1, largest), within("batch", s.batch, 1, 1'000'000);
  within("M", s.M, 1, 1'000'000), within("evaluate-every", s.evaluate_every, 1, largest);
  within("longest", s.longest, 2, 10'000), within("inner-steps", s.inner_steps, 1, 1'000'000);
  within("dim", s.dim, 1, 100'000), within("heads", s.heads, 1, 100'000);
  within("feedforward", s.feedforward, 1, 1'000'000);
  within("encoder-layers", s.encoder_layers, 0, 1000), within("decoder-layers", s.decoder_layers, 0, 1000);
  check(s.estimator != "per-sample", "translate",
        "--estimator per-sample is for layers of one row a sample; those of a Transformer have a row a token "
        "and would "
        "read replicas: give --estimator replicas, which is the same here");
  check(s.label_smoothing <= 1, "translate", "--label-smoothing is a share, got ", s.label_smoothing);
  if (s.optimizer.starts_with("lpf-"))
    check(s.batch_tokens > 0 || s.M <= s.batch, "translate", "--M ", s.M,
          " slices cannot be cut from a --batch of ", s.batch);
}

/// Settings of their own for a kind of data, before flags.
inline Settings settings_for(std::string_view recipe, std::string_view data) {
  check(recipe.empty() || recipe == "paper" || recipe == "multi30k", "translate", "there is no recipe '",
        recipe, "': paper (WMT14 with 32,000 pieces) and multi30k are there");
  Settings s;
  if (recipe == "paper") {
    s.vocabulary = 32000, s.dim = 512, s.heads = 8, s.feedforward = 512, s.lower_case = false;
    s.warm_up = 4000;
  } else if (recipe.empty() && data == "numbers") {
    s.vocabulary = 70, s.dim = 64, s.heads = 4, s.feedforward = 128, s.encoder_layers = s.decoder_layers = 1;
    s.epochs = 15;
  }
  return s;
}

}  // namespace translate
