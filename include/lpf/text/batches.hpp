// Batches of pairs of token sequences, of similar lengths and padded, for training a model of sequences:
//
//   text::TokenLoader loader(pairs, {.tokens = 2000, .seed = 1});
//   for (std::int64_t step = 0; step < steps; ++step) {
//     const text::TokenBatch batch = loader.next();
//     const Tensor logits = model(batch.source, batch.input());  // [B, T − 1, pieces]
//     cross_entropy(logits, batch.labels(), {.ignore_index = text::SpecialTokens::pad}).backward();
//   }
//
// Nothing has a generator: a batch is a function of (seed, epoch, number of the batch).
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lpf/core/philox.hpp"
#include "lpf/data/loader.hpp"
#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf::text {

/// A sentence as numbers of pieces.
using Tokens = std::vector<std::int32_t>;

/// The numbers of the pieces that are no text.
struct SpecialTokens {
  static constexpr std::int32_t pad = 0;      ///< fills a row of a batch
  static constexpr std::int32_t unknown = 1;  ///< a character that no piece has
  static constexpr std::int32_t begin = 2;    ///< before the first piece of a target
  static constexpr std::int32_t end = 3;      ///< behind the last piece
};

/// Pairs of sentences in pieces, without begin and end.
struct TokenPairs {
  std::vector<Tokens> source, target;

  std::int64_t size() const { return std::ssize(source); }
};

/// Sentences of one batch, a row each: source `… end`, target `begin … end`, filled up with pad.
struct TokenBatch {
  Tensor source;                                             ///< int64 [B, S]
  Tensor target;                                             ///< int64 [B, T]; undefined for sources alone
  std::vector<std::int64_t> source_lengths, target_lengths;  ///< tokens without pad

  std::int64_t size() const { return source.size(0); }
  /// True where a source has only pad: PyTorch's key_padding_mask, [B, S].
  Tensor source_padding() const { return padding(source); }
  /// What a decoder reads, [B, T − 1]: token t is there to predict label t.
  Tensor input() const { return narrow(target, 1, 0, target.size(1) - 1); }
  /// What it is to predict, [B, T − 1]; pad where there is nothing to predict.
  Tensor labels() const { return narrow(target, 1, 1, target.size(1) - 1); }
  /// Number of labels that are not pad.
  std::int64_t label_count() const {
    return std::accumulate(target_lengths.begin(), target_lengths.end(), std::int64_t{0}) - size();
  }

  static Tensor padding(const Tensor& tokens) { return tokens == static_cast<double>(SpecialTokens::pad); }
};

namespace detail {

/// Rows of tokens, filled up with pad: int64 [rows, longest].
inline Tensor padded(std::span<const Tokens* const> rows, bool with_begin, Device device,
                     std::vector<std::int64_t>& lengths) {
  std::int64_t longest = 0;
  for (const Tokens* row : rows) {
    lengths.push_back(std::ssize(*row) + 1 + (with_begin ? 1 : 0));
    longest = std::max(longest, lengths.back());
  }
  std::vector<std::int64_t> all(rows.size() * static_cast<std::size_t>(longest), SpecialTokens::pad);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto to = all.begin() + static_cast<std::ptrdiff_t>(i) * longest;
    if (with_begin) *to++ = SpecialTokens::begin;
    *std::copy(rows[i]->begin(), rows[i]->end(), to) = SpecialTokens::end;
  }
  return from_vector(all, {std::ssize(rows), longest}, device);
}

}  // namespace detail

/// The batch of some pairs, in this order. IndexError for a pair that does not exist, ValueError for none.
inline TokenBatch batch_of(const TokenPairs& pairs, std::span<const std::int64_t> samples,
                           Device device = default_device()) {
  check(!samples.empty(), "batch_of", "a batch needs a sentence");
  std::vector<const Tokens*> source, target;
  for (const std::int64_t i : samples) {
    check<IndexError>(i >= 0 && i < pairs.size(), "batch_of", "there is no pair ", i, ": there are ",
                      pairs.size());
    source.push_back(&pairs.source[static_cast<std::size_t>(i)]);
    target.push_back(&pairs.target[static_cast<std::size_t>(i)]);
  }
  TokenBatch out;
  out.source = detail::padded(source, false, device, out.source_lengths);
  out.target = detail::padded(target, true, device, out.target_lengths);
  return out;
}

/// A batch of sources to translate, in this order. ValueError for none.
inline TokenBatch batch_of(std::span<const Tokens> sources, Device device = default_device()) {
  check(!sources.empty(), "batch_of", "a batch needs a sentence");
  std::vector<const Tokens*> rows;
  for (const Tokens& s : sources) rows.push_back(&s);
  TokenBatch out;
  out.source = detail::padded(rows, false, device, out.source_lengths);
  return out;
}

struct TokenLoaderOptions {
  std::int64_t sentences = 64;  ///< at most, in a batch …
  std::int64_t tokens = 0;  ///< … or, unless it is 0, at most this many tokens of one language, with padding
  std::int64_t least = 1;   ///< sentences of a batch at least, whatever their lengths: LPF's M
  std::uint64_t seed = 0;   ///< of the order
  Device device = default_device();
};

/// Cuts pairs into batches of similar lengths. In each epoch the pairs are sorted by the longer side, then the other,
/// in a random order where both are equal, and cut; the batches come in a random order. An epoch has the same number
/// of batches always.
class TokenLoader {
 public:
  /// ValueError for options out of range, or fewer pairs than `least`.
  explicit TokenLoader(TokenPairs pairs, const TokenLoaderOptions& options = {})
      : pairs_(std::move(pairs)), options_(options) {
    check(options.sentences >= 1 && options.tokens >= 0 && options.least >= 1, "TokenLoader",
          "sentences and least must be at least 1, tokens not negative, got ", options.sentences, ", ",
          options.least, " and ", options.tokens);
    check(options.tokens > 0 || options.least <= options.sentences, "TokenLoader", "a batch of at most ",
          options.sentences, " sentences cannot have ", options.least);
    check(pairs_.source.size() == pairs_.target.size() && pairs_.size() >= options.least, "TokenLoader",
          "needs as many targets as sources, and at least ", options.least, " pairs, got ",
          pairs_.source.size(), " and ", pairs_.target.size());
    cut();
  }

  /// Number of pairs.
  std::int64_t size() const { return pairs_.size(); }
  /// Number of batches in an epoch.
  std::int64_t batches() const { return std::ssize(begin_) - 1; }
  const TokenPairs& pairs() const { return pairs_; }
  const TokenLoaderOptions& options() const { return options_; }

  /// The pairs of batch `number` of an epoch. IndexError if it does not exist.
  std::vector<std::int64_t> samples(std::int64_t epoch, std::int64_t number) const {
    check<IndexError>(epoch >= 0 && epoch <= 0xFFFFFFFF && number >= 0 && number < batches(), "TokenLoader",
                      "there is no batch ", number, " of epoch ", epoch, ": an epoch has ", batches());
    if (order_epoch_ != epoch) {
      order_ = sorted(permutation(size(), key(epoch, 0)));
      turns_ = permutation(batches(), key(epoch, 1));
      order_epoch_ = epoch;
    }
    const auto at = static_cast<std::size_t>(turns_[static_cast<std::size_t>(number)]);
    return {order_.begin() + begin_[at], order_.begin() + begin_[at + 1]};
  }
  TokenBatch batch(std::int64_t epoch, std::int64_t number) const {
    return batch_of(pairs_, samples(epoch, number), options_.device);
  }

  /// The next batch; after the last of an epoch comes the first of the next one.
  TokenBatch next() {
    if (state_.batch == batches()) state_ = {state_.epoch + 1, 0};
    TokenBatch out = batch(state_.epoch, state_.batch);
    ++state_.batch;
    return out;
  }

  /// The position: `batch` batches of epoch `epoch` have been returned.
  LoaderState state() const { return state_; }
  /// Continues from this position. ValueError if it does not exist.
  void restore(LoaderState state) {
    check(state.epoch >= 0 && state.epoch <= 0xFFFFFFFF && state.batch >= 0 && state.batch <= batches(),
          "TokenLoader", "there is no batch ", state.batch, " of epoch ", state.epoch, ": an epoch has ",
          batches(), " batches; was the state saved with other data or another size of the batch?");
    state_ = state;
  }

 private:
  NoiseKey key(std::int64_t epoch, std::uint32_t use) const {
    return {.seed = options_.seed,
            .purpose = Purpose::shuffle,
            .draw = static_cast<std::uint64_t>(epoch),
            .parameter = use};
  }

  /// Length of the longer side, with begin and end, and of the other.
  std::pair<std::int64_t, std::int64_t> lengths(std::int64_t pair) const {
    const auto i = static_cast<std::size_t>(pair);
    const std::int64_t s = std::ssize(pairs_.source[i]) + 1, t = std::ssize(pairs_.target[i]) + 2;
    return {std::max(s, t), std::min(s, t)};
  }
  std::vector<std::int64_t> sorted(std::vector<std::int64_t> order) const {
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return lengths(a) < lengths(b); });
    return order;
  }

  /// Cuts the sorted pairs: evenly by sentences, or greedily by tokens. The sorted lengths are those of every epoch.
  void cut() {
    const std::int64_t n = size();
    begin_ = {0};
    if (options_.tokens == 0) {
      std::int64_t parts = (n + options_.sentences - 1) / options_.sentences;
      parts = std::max<std::int64_t>(1, std::min(parts, n / options_.least));
      for (std::int64_t i = 1; i <= parts; ++i) begin_.push_back(n / parts * i + std::min(i, n % parts));
      return;
    }
    std::vector<std::int64_t> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    all = sorted(std::move(all));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t rows = i + 1 - begin_.back();
      const bool full = rows * lengths(all[static_cast<std::size_t>(i)]).first > options_.tokens;
      if (full && rows > options_.least) begin_.push_back(i);
    }
    if (begin_.size() > 1 && n - begin_.back() < options_.least) begin_.pop_back();
    begin_.push_back(n);
  }

  TokenPairs pairs_;
  TokenLoaderOptions options_;
  std::vector<std::int64_t> begin_;  // of each batch in the sorted order, and the end
  LoaderState state_;
  mutable std::int64_t order_epoch_ = -1;  // of order_ and turns_
  mutable std::vector<std::int64_t> order_, turns_;
};

}  // namespace lpf::text
