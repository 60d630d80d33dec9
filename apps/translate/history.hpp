// What a run writes of each epoch: log.jsonl and log.csv, and the translations of a few sentences in samples.jsonl.
#pragma once

#include <limits>
#include <lpf/io/file.hpp>
#include <lpf/report/log.hpp>

#include "settings.hpp"

namespace translate {

/// One epoch. Missing values are NaN.
struct Epoch {
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  std::int64_t epoch = 0, updates = 0;
  double lr = none, gamma = none;  ///< of its last update
  double train_loss = none;        ///< a label's mean cross-entropy, smoothed as it was trained
  double validation_loss = none;   ///< a label's mean cross-entropy, not smoothed
  double validation_bleu = none;
  double tokens_per_second = none,
         seconds = none;  ///< of training; tokens of both languages, without padding
};

template <class E, class F>
void for_each_column(E& e, F f) {
  f("epoch", e.epoch), f("updates", e.updates), f("lr", e.lr), f("gamma", e.gamma);
  f("train_loss", e.train_loss), f("validation_loss", e.validation_loss),
      f("validation_bleu", e.validation_bleu);
  f("tokens_per_second", e.tokens_per_second), f("seconds", e.seconds);
}

/// A sentence as it was translated after an epoch.
struct Sample {
  std::int64_t epoch = 0;
  std::string source, reference, translation;
};

template <class E, class F>
void for_each_column(E& e, F f) requires std::is_same_v<std::remove_const_t<E>, Sample> {
  f("epoch", e.epoch), f("source", e.source), f("reference", e.reference), f("translation", e.translation);
}

template <class E>
Record record_of(const E& e) {
  Record out;
  for_each_column(e, [&](const char* name, const auto& value) { out.push_back({name, value}); });
  return out;
}

/// The records of a file in JSON lines. FormatError, with the line, for what is none. An incomplete last line, left by a
/// killed run, is skipped.
template <class E>
std::vector<E> read_records(const std::string& path) {
  const std::string text = lpf::detail::read_file(path, "translate");
  std::vector<E> out;
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    E& e = out.emplace_back();
    try {
      const auto json = nlohmann::json::parse(text.substr(at, end - at));
      for_each_column(e, [&](const char* name, auto& value) {
        const auto& field = json.at(name);
        if (!field.is_null()) field.get_to(value);
      });
    } catch (const nlohmann::json::exception&) {
      fail<FormatError>("translate", "'", path, "', line ", out.size(), ": is not a record of this program");
    }
  }
  return out;
}

/// The first epoch with the highest validation BLEU. ValueError if none was evaluated.
inline const Epoch& best_epoch(const std::vector<Epoch>& history) {
  const Epoch* best = nullptr;
  for (const Epoch& e : history)
    if (!std::isnan(e.validation_bleu) && (!best || e.validation_bleu > best->validation_bleu)) best = &e;
  check(best != nullptr, "translate", "no epoch has been evaluated yet");
  return *best;
}

}  // namespace translate
