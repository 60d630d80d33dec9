// All settings of a training run. One table, for_each_setting(), defines each setting's name and meaning;
// flags, config.json, recipes and comparisons are generated from it:
//   experiment::Settings s = experiment::paper({.dataset = "cifar10", .optimizer = "lpf-sgd"});
//   experiment::set(s, "lr", "0.05");              // as a flag --lr 0.05 does
//   experiment::get(s, "lr");                      // "0.05"
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lpf/experiment/setting_table.hpp"
#include "lpf/models/registry.hpp"
#include "lpf/optim/registry.hpp"
#include "lpf/train/precision.hpp"

namespace lpf::experiment {

/// Settings that do not fit each other, the network or the data: known before the first update, and nothing has been
/// written.
class SettingsError : public ValueError {
  using ValueError::ValueError;
};

/// The settings, documented in for_each_setting().
struct Settings {
  std::string dataset = "digits", data = "", normalize = "none", augment = "none";
  std::int64_t image_size = 0, train_samples = 0, validation = 0;
  double label_noise = 0, data_noise = 0;

  std::string model = "mlp";
  std::int64_t width = 0;
  bool skip = true, bn_layers = true;
  std::string weights = "", weights_prefix = "";
  bool weights_partial = false;

  std::string optimizer = "lpf-sgd";
  std::int64_t epochs = 60, evaluate_every = 1, batch = 64;
  double lr = 0.1, momentum = 0.9, weight_decay = 0, clip_norm = 0;
  bool nesterov = false;
  std::string schedule = "cosine";
  Milestones milestones = {};
  double lr_factor = 0.1;
  std::int64_t patience = 10;

  std::int64_t M = 8;
  double gamma = 5e-4, alpha = 1;
  std::string law = "filter-wise", estimator = "replicas", batch_norm = "per-replica";

  double rho = 0.05, eta = 0.01;
  std::int64_t slices = 1;
  double a = 0.009;
  bool adaptive = false;
  std::int64_t inner_steps = 5;
  double inner_lr = 0.1, g0 = 0.5, g1 = 1e-4, g_max = 2.38;

  std::int64_t shards = 0;
  std::string precision = "float32";
  std::uint64_t seed = 0;
};

/// Calls f(name, value, meaning) for every setting of s.
template <class S, class F>
void for_each_setting(S& s, F f) {
  f("dataset", s.dataset, "what is learnt");
  f("data", s.data, "folder of the data set's files; digits and mnist1d are built in");
  f("normalize", s.normalize, "pixels in [0, 1] scaled by: nothing, the set's customary constants, its own");
  f("augment", s.augment, "of training images; each includes the one before it");
  f("image-size", s.image_size, "dataset folder: pictures are resized to this; 0: as they are");
  f("train-samples", s.train_samples, "training images, chosen by the seed; 0: all");
  f("validation", s.validation,
    "images kept from training, by which the result's epoch is chosen; 0: the last");
  f("label-noise", s.label_noise, "fraction of training labels drawn anew");
  f("data-noise", s.data_noise, "standard deviation of noise added to training pixels in [0, 1]");
  f("model", s.model, "the network");
  f("width", s.width, "of ResNets, or hidden units of mlp; 0: the network's own");
  f("skip", s.skip, "skip connections of ResNets");
  f("bn-layers", s.bn_layers, "batch norm in ResNets");
  f("weights", s.weights, "safetensors file with the weights to start from; none: drawn by the seed");
  f("weights-prefix", s.weights_prefix, "of the names in that file, as module. of DataParallel: is removed");
  f("weights-partial", s.weights_partial, "take from that file only what fits the network");
  f("optimizer", s.optimizer, "how it is trained");
  f("epochs", s.epochs, "passes over the training images; of entropy-sgd, each inner-steps passes");
  f("evaluate-every", s.evaluate_every, "epochs between evaluations; after the last there is one always");
  f("batch", s.batch, "images of a step");
  f("lr", s.lr, "learning rate");
  f("momentum", s.momentum, "of SGD and RMSprop");
  f("nesterov", s.nesterov, "Nesterov's momentum");
  f("weight-decay", s.weight_decay, "L2 in the gradient; of adamw, decoupled");
  f("clip-norm", s.clip_norm, "largest norm of a gradient; 0: any");
  f("schedule", s.schedule, "of the learning rate");
  f("milestones", s.milestones, "epochs at which multistep multiplies by lr-factor: 60,120,160");
  f("lr-factor", s.lr_factor, "see milestones and patience");
  f("patience", s.patience,
    "plateau multiplies by lr-factor after more evaluations than this without a lower loss (of validation, "
    "or "
    "else training)");
  f("M", s.M, "lpf, smoothout: perturbed copies of the network in a step");
  f("gamma", s.gamma, "lpf: radius of the noise, relative to what law says");
  f("alpha", s.alpha, "lpf: the radius grows to alpha times gamma over training");
  f("law", s.law, "lpf: what the noise is relative to");
  f("estimator", s.estimator, "lpf: how the noise is drawn");
  f("batch-norm", s.batch_norm, "whose statistics batch norm uses in a perturbed pass");
  f("rho", s.rho, "sam, asam: radius of the ascent");
  f("eta", s.eta, "asam: added to |theta|");
  f("slices", s.slices, "sam, asam: slices of the batch, each with an ascent of its own");
  f("a", s.a, "smoothout: half the width of the noise");
  f("adaptive", s.adaptive, "smoothout: noise relative to the norm of each filter");
  f("inner-steps", s.inner_steps, "entropy-sgd: Langevin steps of an update");
  f("inner-lr", s.inner_lr, "entropy-sgd: their learning rate");
  f("g0", s.g0, "entropy-sgd: scope at the beginning");
  f("g1", s.g1, "entropy-sgd: its growth an update");
  f("g-max", s.g_max, "entropy-sgd: its largest value; 0: none");
  f("shards", s.shards,
    "parts of a batch whose gradients are added in a fixed order, so that the result is the same to the bit "
    "for any "
    "number of processes that divides it; a power of two; 0: as many as processes");
  f("precision", s.precision, "of products; all but float32 need --device cuda");
  f("seed", s.seed, "of initial weights, order, noise and splits");
}

/// The values that a setting accepts; empty for a number or a text.
inline std::vector<std::string> choices(std::string_view setting) {
  if (setting == "dataset") return {"digits", "mnist1d", "mnist", "cifar10", "cifar100", "folder"};
  if (setting == "normalize") return {"none", "customary", "own"};
  if (setting == "augment") return {"none", "crop-flip", "cutout", "autoaugment"};
  if (setting == "optimizer") return optim::names();
  if (setting == "schedule") return {"constant", "multistep", "cosine", "linear", "one-cycle", "plateau"};
  if (setting == "law") return law_names();
  if (setting == "estimator") return estimator_names();
  if (setting == "precision") return precisions;
  if (setting == "batch-norm") return {"per-replica", "pooled", "frozen", "recomputed"};
  if (setting == "model") return models::names();
  return {};
}

inline std::vector<std::string> setting_names() {
  std::vector<std::string> out;
  const Settings s;
  for_each_setting(s, [&](const char* name, const auto&, const char*) { out.push_back(name); });
  return out;
}

/// Sets the setting of that name to the value of `text`. ValueError, with the nearest valid name or value, if
/// there is no such setting or value.
inline void set(Settings& s, std::string_view name, std::string_view text) {
  set_in_table("train", s, name, text, choices);
}

inline std::map<std::string, std::string> texts(const Settings& s) { return texts_of_table(s); }
inline std::string get(const Settings& s, const std::string& name) { return texts(s).at(name); }

/// The value of a numeric setting. ValueError for any other.
inline double number(const Settings& s, std::string_view name) {
  std::optional<double> out;
  for_each_setting(s, [&](const char* key, const auto& value, const char*) {
    if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(value)>>)
      if (key == name) out = static_cast<double>(value);
  });
  check(out.has_value(), "train", "there is no setting '", name, "' that is a number");
  return *out;
}

/// Is the data set a part of the library? It has floats, the others bytes.
inline bool is_built_in(std::string_view dataset) { return dataset == "digits" || dataset == "mnist1d"; }

/// Why a setting has no effect on a run with these settings: "--optimizer sgd does not use it"; empty if it has.
inline std::string unused(const Settings& s, std::string_view name) {
  const auto& all = optim::list();
  const bool of_methods = std::any_of(all.begin(), all.end(), [&](const auto& m) { return m.takes(name); });
  if (of_methods && !optim::info(s.optimizer).takes(name))
    return concat("--optimizer ", s.optimizer, " does not use it");
  const bool multistep = s.schedule == "multistep", plateau = s.schedule == "plateau";
  if ((name == "milestones" && !multistep) || (name == "lr-factor" && !multistep && !plateau))
    return concat("it is for --schedule multistep", name == "lr-factor" ? " and plateau" : "",
                  ", and this one is ", s.schedule);
  if (name == "patience" && !plateau)
    return concat("it is for --schedule plateau, and this one is ", s.schedule);
  if (name == "data" && is_built_in(s.dataset)) return concat("--dataset ", s.dataset, " is built in");
  if (name == "image-size" && s.dataset != "folder")
    return concat("it is for --dataset folder, and this one is ", s.dataset);
  if (name.starts_with("weights-") && s.weights.empty()) return "it needs --weights";
  return "";
}

/// The settings that differ, as "lr (0.1, now 0.05)", except `data`, a path on this computer.
inline std::string differences(const Settings& before, const Settings& now) {
  return differences_of_tables(before, now, [](std::string_view name) { return name == "data"; });
}

/// ValueError, naming the flag, for a setting out of range or incompatible settings. What optimizers,
/// networks and readers validate themselves is left to them.
inline void validate(const Settings& s) {
  check_numbers_of_table("train", s);
  const auto positive = [](const char* name, std::int64_t value) {
    check(value > 0 && value <= largest_setting, "train", "--", name, " must be from 1 to ", largest_setting,
          ", got ", value);
  };
  positive("epochs", s.epochs), positive("evaluate-every", s.evaluate_every);
  positive("batch", s.batch), positive("M", s.M);
  positive("slices", s.slices), positive("inner-steps", s.inner_steps);
  check(s.label_noise <= 1, "train", "--label-noise is a fraction, got ", s.label_noise);
  check(s.schedule != "multistep" || !s.milestones.empty(), "train",
        "--schedule multistep needs --milestones, as 60,120,160");
  for (const auto m : s.milestones) positive("milestones", m);
  check(s.schedule != "plateau" || (s.lr_factor > 0 && s.lr_factor < 1), "train",
        "--schedule plateau needs --lr-factor in (0, 1), got ", s.lr_factor);
  check(s.augment == "none" || s.dataset != "mnist1d", "train",
        "--augment is of images: it does not go with mnist1d, which are sequences");
  check(s.augment != "autoaugment" || (s.data_noise == 0 && s.dataset != "digits"), "train",
        "--augment autoaugment works on bytes: it goes neither with --data-noise nor with digits");
  if (const std::string& slices = optim::info(s.optimizer).slices; !slices.empty())
    check(number(s, slices) <= static_cast<double>(s.batch), "train", "--", slices, " ", get(s, slices),
          slices == "slices" ? "" : " slices", " cannot be cut from a --batch of ", s.batch);
}

}  // namespace lpf::experiment
