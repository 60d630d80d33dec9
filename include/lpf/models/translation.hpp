// Translation with a Seq2SeqTransformer: a batch at a time, token by token, with the keys and values of what is there.
#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "lpf/models/transformer.hpp"
#include "lpf/text/decode.hpp"

namespace lpf::models {

/// A Seq2SeqTransformer as text::NextTokenModel: a row for each source of a batch.
class TranslationSteps {
 public:
  TranslationSteps(const Seq2SeqTransformer& network, const text::TokenBatch& batch)
      : network_(network), cache_(start(network, batch)) {}

  Tensor next(const Tensor& tokens) { return network_.step(tokens, cache_); }
  void select(const Tensor& rows) { cache_ = cache_.select(rows); }

 private:
  static nn::DecoderCache start(const Seq2SeqTransformer& network, const text::TokenBatch& batch) {
    const auto off = no_grad();
    const Tensor padding = batch.source_padding();
    return network.start(network.encode(batch.source, padding), padding);
  }

  const Seq2SeqTransformer& network_;
  nn::DecoderCache cache_;
};

struct TranslateOptions {
  text::BeamOptions beam = {.width = 1};
  std::int64_t more = 10;   ///< tokens of a translation beyond those of its source, at most
  std::int64_t batch = 64;  ///< sentences at a time, of similar lengths
};

/// The translations of `sources`, in their order, both without begin and end. In evaluation mode.
/// @throws ValueError for options out of range, or if the network returns NaN; IndexError for a token that the network's
/// vocabulary lacks.
inline std::vector<text::Tokens> translate(const ParameterStore& params, const Seq2SeqTransformer& network,
                                           std::span<const text::Tokens> sources,
                                           const TranslateOptions& options = {}) {
  check(options.batch >= 1 && options.more >= 0, "translate",
        "batch must be at least 1 and more not negative, got ", options.batch, " and ", options.more);
  const EvalMode eval(params);
  std::vector<std::size_t> order(sources.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return sources[a].size() < sources[b].size(); });
  std::vector<text::Tokens> out(sources.size());
  for (std::size_t first = 0; first < order.size(); first += static_cast<std::size_t>(options.batch)) {
    const std::size_t end = std::min(order.size(), first + static_cast<std::size_t>(options.batch));
    std::vector<text::Tokens> rows;
    for (std::size_t i = first; i < end; ++i) rows.push_back(sources[order[i]]);
    const text::TokenBatch batch = text::batch_of(rows);
    const auto limits = text::length_limits(batch, options.more);
    TranslationSteps steps(network, batch);
    auto found = options.beam.width == 1 ? text::greedy(steps, limits)
                                         : text::beam_search(steps, limits, options.beam);
    for (std::size_t i = first; i < end; ++i) out[order[i]] = std::move(found[i - first]);
  }
  return out;
}

}  // namespace lpf::models
