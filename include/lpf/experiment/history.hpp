// Reading and writing the files of a run: config.json, the settings, and log.jsonl (the same as log.csv), a
// line per epoch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "lpf/experiment/settings.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/io/file.hpp"
#include "lpf/report/log.hpp"

namespace lpf::experiment {

/// One epoch. Errors are in per cent; missing values are NaN.
struct Epoch {
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  std::int64_t epoch = 0, updates = 0;
  double lr = none, gamma = none;                ///< of its last update
  double train_loss = none, train_error = none;  ///< means over its batches during training
  double validation_loss = none, validation_error = none, test_loss = none, test_error = none;
  double images_per_second = none, seconds = none;  ///< of training

  /// The criterion of the best epoch; NaN if not evaluated.
  double selection() const { return std::isnan(validation_error) ? test_error : validation_error; }
};

template <class E, class F>
void for_each_column(E& e, F f) {
  f("epoch", e.epoch), f("updates", e.updates), f("lr", e.lr), f("gamma", e.gamma);
  f("train_loss", e.train_loss), f("train_error", e.train_error);
  f("validation_loss", e.validation_loss), f("validation_error", e.validation_error);
  f("test_loss", e.test_loss), f("test_error", e.test_error);
  f("images_per_second", e.images_per_second), f("seconds", e.seconds);
}

inline Record record_of(const Epoch& e) {
  Record out;
  for_each_column(e, [&](const char* name, const auto& value) { out.push_back({name, value}); });
  return out;
}

/// The first epoch with the lowest selection(). ValueError if there is none.
inline const Epoch& best_epoch(const std::vector<Epoch>& history) {
  check(!history.empty(), "train", "no epoch is finished yet");
  return *std::min_element(history.begin(), history.end(), [](const Epoch& a, const Epoch& b) {
    return a.selection() < b.selection() || (!std::isnan(a.selection()) && std::isnan(b.selection()));
  });
}

/// The epoch whose test error is a run's result: the one chosen on validation images, where there are some, or else the
/// last one that was evaluated; never one chosen by the test error. ValueError if no epoch is finished.
inline const Epoch& result_epoch(const std::vector<Epoch>& history) {
  const Epoch& best = best_epoch(history);
  if (!std::isnan(best.validation_error)) return best;
  const auto last = std::find_if(history.rbegin(), history.rend(),
                                 [](const Epoch& e) { return !std::isnan(e.test_error); });
  return last == history.rend() ? history.back() : *last;
}
/// "epoch 40, chosen by validation error" or "last epoch, 60".
inline std::string name_of_result(const Epoch& e) {
  return std::isnan(e.validation_error) ? concat("last epoch, ", e.epoch)
                                        : concat("epoch ", e.epoch, ", chosen by validation error");
}

inline void write_config(const std::string& path, const Settings& s) { write_table(path, s); }

/// The settings of a run. Missing settings keep their defaults. IOError; FormatError for an invalid file.
inline Settings read_config(const std::string& path) { return read_table<Settings>("train", path); }

/// The epochs in log.jsonl. IOError; FormatError, with the line, for an invalid log. An incomplete last line,
/// left by a killed run, is skipped.
inline std::vector<Epoch> read_history(const std::string& path) {
  const std::string text = lpf::detail::read_file(path, "train");
  std::vector<Epoch> out;
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    Epoch& e = out.emplace_back();
    const std::string rule = concat(", line ", out.size(), ": is not a record of an epoch");
    const auto json = detail::parse_json("train", text.substr(at, end - at), rule.c_str(), path);
    try {
      for_each_column(e, [&](const char* name, auto& value) {
        const auto& field = json.at(name);
        if (!field.is_null()) field.get_to(value);
      });
    } catch (const nlohmann::json::exception&) { fail<FormatError>("train", "'", path, "'", rule); }
  }
  return out;
}

}  // namespace lpf::experiment
