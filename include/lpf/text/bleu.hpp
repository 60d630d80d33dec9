// BLEU (Papineni, Roukos, Ward, Zhu, ACL 2002) of a corpus with one reference a sentence, as sacrebleu computes it by
// default (Post, WMT 2018): tokens of mteval-v13a, up to four words, exponential smoothing.
//
//   const text::BLEU bleu = text::corpus_bleu(translations, references);
//   std::printf("%s\n", bleu.to_string().c_str());
//
//   BLEU = 100 · min(1, e^(1 − r/c)) · (p₁ p₂ p₃ p₄)^¼
// with c words in the translations and r in the references, and p_n the share of the translations' n-grams that their
// references have, each at most as often as the reference has it. If no n-gram of an order is found, p_n is 1/2ᵏ of
// one n-gram, at the k-th such order.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/text/unicode.hpp"

namespace lpf::text {

struct BLEUOptions {
  bool lower_case = false;  ///< compare in lower case: sacrebleu's -lc
};

/// A corpus' BLEU and what it is made of; index n − 1 belongs to n-grams.
struct BLEU {
  double score = 0;                               ///< 0 to 100
  std::array<double, 4> precisions{};             ///< p_n, in per cent
  double brevity_penalty = 1;                     ///< min(1, e^(1 − r/c))
  std::array<std::int64_t, 4> correct{};          ///< n-grams found in the reference
  std::array<std::int64_t, 4> total{};            ///< n-grams of the translations
  std::int64_t length = 0, reference_length = 0;  ///< words: c and r

  /// "BLEU = 37.21 66.0/43.7/30.6/21.6 (BP = 1.000 ratio = 1.012 hyp_len = 13200 ref_len = 13044)"
  std::string to_string() const;
};

namespace detail {

inline void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
    text.replace(at, from.size(), to);
}

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Punctuation and symbols of ASCII that are words of their own in 13a: all but ' , - and .
inline bool is_symbol(char c) {
  return (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') || c == '/' || (c >= ':' && c <= '@') ||
         (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

/// Replaces pairs of adjacent bytes from left to right, each byte in one pair at most, as a regular expression does.
/// All pairs contain a byte of ASCII, so that bytes may stand for code points.
template <class Matches, class Write>
std::string replace_pairs(const std::string& text, Matches matches, Write write) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (i + 1 < text.size() && matches(text[i], text[i + 1])) {
      write(out, text[i], text[i + 1]);
      i += 2;
    } else {
      out += text[i++];
    }
  }
  return out;
}

}  // namespace detail

/// The words that BLEU compares, separated by single spaces: mteval-v13a's tokenisation, as in sacrebleu.
inline std::string tokenize_13a(std::string_view sentence) {
  using namespace detail;
  std::string line(sentence);
  replace_all(line, "<skipped>", "");
  replace_all(line, "-\n", "");
  replace_all(line, "\n", " ");
  replace_all(line, "&quot;", "\"");
  replace_all(line, "&amp;", "&");
  replace_all(line, "&lt;", "<");
  replace_all(line, "&gt;", ">");

  std::string spaced = " ";
  for (const char c : line) is_symbol(c) ? void(spaced.append({' ', c, ' '})) : void(spaced += c);
  spaced += "   ";
  const auto is_stop = [](char c) { return c == '.' || c == ','; };
  spaced = replace_pairs(
      spaced, [&](char a, char b) { return !is_digit(a) && is_stop(b); },
      [](std::string& out, char a, char b) {
        out.append({a, ' ', b, ' '});
      });
  spaced = replace_pairs(
      spaced, [&](char a, char b) { return is_stop(a) && !is_digit(b); },
      [](std::string& out, char a, char b) {
        out.append({' ', a, ' ', b});
      });
  spaced = replace_pairs(
      spaced, [&](char a, char b) { return is_digit(a) && b == '-'; },
      [](std::string& out, char a, char b) {
        out.append({a, ' ', b, ' '});
      });

  std::string out;
  for (const std::string_view word : words(spaced)) {
    if (!out.empty()) out += ' ';
    out += word;
  }
  return out;
}

namespace detail {

/// How often each n-gram of 1 to 4 words occurs. Words are numbers; the shorter n-grams end in −1.
using NGrams = std::map<std::array<int, 4>, std::int64_t>;

inline NGrams ngrams_of(const std::vector<int>& sentence) {
  NGrams out;
  for (std::size_t i = 0; i < sentence.size(); ++i) {
    std::array<int, 4> ngram{-1, -1, -1, -1};
    for (std::size_t n = 0; n < 4 && i + n < sentence.size(); ++n) {
      ngram[n] = sentence[i + n];
      ++out[ngram];
    }
  }
  return out;
}

inline std::size_t order_of(const std::array<int, 4>& ngram) {
  std::size_t n = 0;
  while (n + 1 < 4 && ngram[n + 1] >= 0) ++n;
  return n;
}

/// Score, precisions and penalty from the counts.
inline void finish(BLEU& bleu) {
  if (bleu.length < bleu.reference_length)
    bleu.brevity_penalty =
        bleu.length == 0
            ? 0
            : std::exp(1 - static_cast<double>(bleu.reference_length) / static_cast<double>(bleu.length));
  if (bleu.correct == std::array<std::int64_t, 4>{}) return;
  double smoothing = 1, logarithms = 0;
  bool all = true;
  for (std::size_t n = 0; n < 4; ++n) {
    if (bleu.total[n] == 0) {
      all = false;
      break;
    }
    const auto total = static_cast<double>(bleu.total[n]);
    if (bleu.correct[n] == 0) smoothing *= 2;
    bleu.precisions[n] =
        bleu.correct[n] == 0 ? 100 / (smoothing * total) : 100 * static_cast<double>(bleu.correct[n]) / total;
    logarithms += std::log(bleu.precisions[n]);
  }
  bleu.score = all ? bleu.brevity_penalty * std::exp(logarithms / 4) : 0;
}

}  // namespace detail

inline std::string BLEU::to_string() const {
  const auto fixed = [](double value, int decimals) {
    char buffer[40];
    return std::string(
        buffer, std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, decimals).ptr);
  };
  std::string parts;
  for (const double p : precisions) parts += (parts.empty() ? "" : "/") + fixed(p, 1);
  const double ratio =
      reference_length > 0 ? static_cast<double>(length) / static_cast<double>(reference_length) : 0;
  return concat("BLEU = ", fixed(score, 2), " ", parts, " (BP = ", fixed(brevity_penalty, 3),
                " ratio = ", fixed(ratio, 3), " hyp_len = ", length, " ref_len = ", reference_length, ")");
}

/// The BLEU of translations, each with its reference. 0 without a common word, or if no translation has four.
/// @throws ValueError if there are none, or not as many references.
inline BLEU corpus_bleu(std::span<const std::string> translations, std::span<const std::string> references,
                        const BLEUOptions& options = {}) {
  check(translations.size() == references.size() && !translations.empty(), "corpus_bleu",
        "needs one reference for each translation, and at least one, got ", translations.size(),
        " translations and ", references.size(), " references");
  BLEU out;
  for (std::size_t i = 0; i < translations.size(); ++i) {
    std::map<std::string, int, std::less<>> numbers;
    const auto numbered = [&](const std::string& sentence) {
      const std::string line(trim_end(sentence));
      const std::string tokens = tokenize_13a(options.lower_case ? lower_case(line) : line);
      std::vector<int> found;
      for (const std::string_view word : words(tokens))
        found.push_back(numbers.emplace(word, static_cast<int>(numbers.size())).first->second);
      return found;
    };
    const auto translation = numbered(translations[i]), reference = numbered(references[i]);
    out.length += std::ssize(translation), out.reference_length += std::ssize(reference);
    const detail::NGrams known = detail::ngrams_of(reference);
    for (const auto& [ngram, count] : detail::ngrams_of(translation)) {
      const std::size_t n = detail::order_of(ngram);
      out.total[n] += count;
      if (const auto found = known.find(ngram); found != known.end())
        out.correct[n] += std::min(count, found->second);
    }
  }
  detail::finish(out);
  return out;
}

}  // namespace lpf::text
