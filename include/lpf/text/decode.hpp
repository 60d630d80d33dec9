// Greedy decoding and beam search, of a whole batch at once, with any model that predicts the next token:
//
//   model.next(tokens)   tokens int64 [R], the last of each row, begin at first: the logits of the next one, [R, pieces]
//   model.select(rows)   keeps rows `rows`, int64 [R'], in this order, of whatever the model remembers (keys and values
//                        of attention); a row may be there several times, or not at all
//
// At the beginning the model has a row for each sentence. Rows whose sentences are finished are removed.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "lpf/autograd/grad_mode.hpp"
#include "lpf/ops/index.hpp"
#include "lpf/ops/logsumexp.hpp"
#include "lpf/ops/reduce.hpp"
#include "lpf/ops/topk.hpp"
#include "lpf/text/batches.hpp"

namespace lpf::text {

template <class M>
concept NextTokenModel = requires(M& model, const Tensor& x) {
  { model.next(x) } -> std::same_as<Tensor>;
  model.select(x);
};

/// Tokens that each sentence of a batch may get at most, the end included: those of its source, its end included, and
/// `more`.
inline std::vector<std::int64_t> length_limits(const TokenBatch& batch, std::int64_t more = 10) {
  std::vector<std::int64_t> out = batch.source_lengths;
  for (auto& n : out) n += more;
  return out;
}

struct BeamOptions {
  std::int64_t width = 4;  ///< hypotheses of a sentence that are followed at a time; 1: greedy decoding
  /// A finished hypothesis of n tokens, the end included, has the score (sum of log-probabilities) / nᵖ. 0 prefers
  /// short ones, 1 compares means.
  double length_power = 0;
};

namespace detail {

inline Tensor index_tensor(const std::vector<std::int64_t>& values) {
  return from_vector(values, {std::ssize(values)});
}

/// A hypothesis: its tokens without the end, and their log-probability.
struct Hypothesis {
  Tokens tokens;
  double log_probability = 0;
  double score = -std::numeric_limits<double>::infinity();  // of a finished one
};

/// What is known of one sentence.
struct BeamSentence {
  std::int64_t limit;
  std::vector<Hypothesis> alive;  // the best first; row i of the sentence's rows in the model
  std::int64_t finished = 0;
  Hypothesis best;  // of the finished ones
};

/// A continuation of a hypothesis by one token.
struct Continuation {
  double log_probability;
  double logit;
  std::size_t hypothesis;
  std::int32_t token;

  /// The likelier first; of equal ones, that of the first hypothesis, then the lower token.
  bool operator<(const Continuation& other) const {
    return std::tuple(-log_probability, hypothesis, -logit, token) <
           std::tuple(-other.log_probability, other.hypothesis, -other.logit, other.token);
  }
};

class Beam {
 public:
  Beam(std::span<const std::int64_t> limits, const BeamOptions& options) : options_(options) {
    for (const std::int64_t limit : limits) sentences_.push_back({limit, {Hypothesis{}}, 0, {}});
    for (auto& s : sentences_)
      if (s.limit <= 0) s.alive.clear();
  }

  /// The rows in the model, sentence by sentence.
  template <class F>
  void each_row(F f) const {
    for (const auto& s : sentences_)
      for (const auto& h : s.alive) f(h);
  }

  /// Advances all hypotheses, from the `k` best tokens of each row with their logits and the rows' log Σ exp(logit).
  /// Returns the rows to keep.
  std::vector<std::int64_t> advance(std::int64_t k, const std::vector<double>& logits,
                                    const std::vector<std::int64_t>& tokens,
                                    const std::vector<double>& total) {
    std::vector<std::int64_t> rows;
    std::size_t row = 0;
    for (auto& s : sentences_) {
      std::vector<Continuation> all;
      for (std::size_t h = 0; h < s.alive.size(); ++h)
        for (std::size_t j = 0; j < static_cast<std::size_t>(k); ++j) {
          const std::size_t at = (row + h) * static_cast<std::size_t>(k) + j;
          all.push_back({s.alive[h].log_probability + logits[at] - total[row + h], logits[at], h,
                         static_cast<std::int32_t>(tokens[at])});
        }
      std::sort(all.begin(), all.end());
      for (const std::size_t h : continued(s, all)) rows.push_back(static_cast<std::int64_t>(row + h));
      row += std::exchange(previous_, 0);
    }
    return rows;
  }

  std::vector<Tokens> results() {
    std::vector<Tokens> out;
    for (auto& s : sentences_) out.push_back(std::move(s.best.tokens));
    return out;
  }

 private:
  double score(const Hypothesis& h, std::size_t tokens) const {
    return h.log_probability / std::pow(static_cast<double>(tokens), options_.length_power);
  }
  void finish(BeamSentence& s, Hypothesis h, std::size_t tokens) const {
    h.score = score(h, tokens);
    ++s.finished;
    if (s.finished == 1 || h.score > s.best.score) s.best = std::move(h);
  }

  /// Chooses the hypotheses that a sentence goes on with, the best of its continuations, and finishes those that end.
  /// Returns for each the one that it continues.
  std::vector<std::size_t> continued(BeamSentence& s, const std::vector<Continuation>& all) {
    previous_ = s.alive.size();
    std::vector<Hypothesis> next;
    std::vector<std::size_t> from;
    const auto width = static_cast<std::size_t>(options_.width);
    for (std::size_t i = 0; i < all.size() && next.size() < width; ++i) {
      const Continuation& c = all[i];
      Hypothesis h{s.alive[c.hypothesis].tokens, c.log_probability};
      if (c.token == SpecialTokens::end) {
        if (i < width) finish(s, h, h.tokens.size() + 1);
        continue;
      }
      h.tokens.push_back(c.token);
      next.push_back(std::move(h)), from.push_back(c.hypothesis);
    }
    if (!next.empty() && std::ssize(next[0].tokens) >= s.limit) {
      for (const auto& h : next) finish(s, h, h.tokens.size());
      next.clear();
    }
    // A longer hypothesis has no higher probability, and at best the score that it would have at the limit.
    const bool decided =
        s.finished > 0 && !next.empty() &&
        (s.finished >= options_.width || s.best.score >= score(next[0], static_cast<std::size_t>(s.limit)));
    if (decided) next.clear();
    if (next.empty()) from.clear();
    s.alive = std::move(next);
    return from;
  }

  BeamOptions options_;
  std::vector<BeamSentence> sentences_;
  std::size_t previous_ = 0;  // hypotheses of a sentence before its step
};

}  // namespace detail

/// Beam search: for each row of the model the tokens, without begin and end, of the finished hypothesis with the highest
/// score. In each step the `width` likeliest continuations of a sentence's hypotheses are followed; those of them that
/// end are finished, and others take their place. The search ends when `width` are finished, or no other can have a
/// higher score; at the limit hypotheses are finished as they are. Of equally likely continuations the one of the better
/// hypothesis, then the lower token comes first, so that the result is a function of the logits.
/// @throws ValueError for options out of range, or NaN among the logits; ShapeError if the model returns others than
/// [rows, pieces].
template <NextTokenModel M>
std::vector<Tokens> beam_search(M& model, std::span<const std::int64_t> limits,
                                const BeamOptions& options = {}) {
  check(options.width >= 1 && options.width <= 10'000, "beam_search", "width must be from 1 to 10000, got ",
        options.width);
  check(std::isfinite(options.length_power) && options.length_power >= 0, "beam_search",
        "length_power must be finite and not negative, got ", options.length_power);
  const auto off = no_grad();
  detail::Beam beam(limits, options);
  std::vector<std::int64_t> rows(limits.size());
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  std::erase_if(rows, [&](std::int64_t i) { return limits[static_cast<std::size_t>(i)] <= 0; });
  std::size_t held = limits.size();  // rows in the model
  while (!rows.empty()) {
    const bool same = rows.size() == held && std::is_sorted(rows.begin(), rows.end()) &&
                      std::adjacent_find(rows.begin(), rows.end()) == rows.end();
    if (!same) model.select(detail::index_tensor(rows));
    held = rows.size();
    std::vector<std::int64_t> last;
    beam.each_row(
        [&](const auto& h) { last.push_back(h.tokens.empty() ? SpecialTokens::begin : h.tokens.back()); });
    const Tensor logits = model.next(detail::index_tensor(last));
    check<ShapeError>(logits.rank() == 2 && logits.size(0) == std::ssize(rows) && logits.size(1) > 0,
                      "beam_search", "the model must return [", rows.size(), ", pieces], got ",
                      logits.shape());
    const std::int64_t k = std::min(options.width + 1, logits.size(1));
    const auto [values, tokens] = topk(logits, k);
    const auto total = logsumexp(logits, {1}).template to_vector<double>();
    for (const double t : total)
      check(std::isfinite(t), "beam_search",
            "the model returned NaN or infinity: has its training diverged?");
    rows = beam.advance(k, values.template to_vector<double>(), tokens.template to_vector<std::int64_t>(),
                        total);
  }
  return beam.results();
}

/// Greedy decoding: for each row of the model the likeliest next token, of equal ones the lowest, up to the end or the
/// limit. The tokens are without begin and end. What beam_search() with width 1 returns, in less time. Throws likewise.
template <NextTokenModel M>
std::vector<Tokens> greedy(M& model, std::span<const std::int64_t> limits) {
  const auto off = no_grad();
  std::vector<Tokens> out(limits.size());
  std::vector<std::int64_t> open(limits.size());  // the sentence of each row
  std::iota(open.begin(), open.end(), std::int64_t{0});
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<std::int64_t> last(limits.size(), SpecialTokens::begin);
  while (true) {
    std::vector<std::int64_t> keep, still_open, tokens;
    for (std::size_t row = 0; row < open.size(); ++row) {
      const std::int64_t sentence = open[row];
      if (last[row] == SpecialTokens::end || std::ssize(out[at(sentence)]) >= limits[at(sentence)]) continue;
      keep.push_back(static_cast<std::int64_t>(row)), still_open.push_back(sentence),
          tokens.push_back(last[row]);
    }
    if (keep.empty()) return out;
    if (keep.size() < open.size()) model.select(detail::index_tensor(keep));
    open = std::move(still_open);
    const Tensor logits = model.next(detail::index_tensor(tokens));
    check<ShapeError>(logits.rank() == 2 && logits.size(0) == std::ssize(open) && logits.size(1) > 0,
                      "greedy", "the model must return [", open.size(), ", pieces], got ", logits.shape());
    const Tensor best = argmax(logits, 1);
    check(!any(is_nan(logits)).template item<bool>(), "greedy",
          "the model returned NaN: has its training diverged?");
    last = best.template to_vector<std::int64_t>();
    for (std::size_t row = 0; row < open.size(); ++row)
      if (last[row] != SpecialTokens::end) out[at(open[row])].push_back(static_cast<std::int32_t>(last[row]));
  }
}

}  // namespace lpf::text
