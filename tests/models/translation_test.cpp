// Translation with a Seq2SeqTransformer: with the cache as by the whole network, in batches as alone, greedy as beam 1.
#include "lpf/models/translation.hpp"

#include <set>

#include "lpf/ops/softmax.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// A network of random weights, large enough that its translations differ and end.
struct RandomTranslator {
  ParameterStore params{{.dtype = float64, .seed = 3}};
  models::Seq2SeqTransformer network{nn::Path(params),
                                     {.vocabulary = 12,
                                      .dim = 8,
                                      .heads = 2,
                                      .feedforward = 16,
                                      .encoder_layers = 1,
                                      .decoder_layers = 2,
                                      .dropout = 0.3}};
  RandomTranslator() { params.theta().copy_(params.theta() * 2.5); }
  /// The end's part of the generator's bias.
  void set_end(double value) const {
    for (const auto& info : params.parameters())
      if (info.name == "generator.bias")
        params.theta().alias({1}, info.offset + text::SpecialTokens::end).fill_(value);
  }
};

std::vector<text::Tokens> sources_of(std::int64_t n) {
  std::vector<text::Tokens> out;
  for (std::int64_t i = 0; i < n; ++i) {
    text::Tokens& s = out.emplace_back();
    for (std::int64_t t = 0; t < 1 + (i * 5) % 9; ++t)
      s.push_back(static_cast<std::int32_t>(4 + (i * i + 3 * t) % 8));
  }
  return out;
}

/// Greedy decoding without a cache: the whole network for each token.
text::Tokens by_whole_network(const RandomTranslator& m, const text::Tokens& source) {
  const auto off = no_grad();
  const text::TokenBatch batch = text::batch_of(std::vector<text::Tokens>{source});
  std::vector<std::int64_t> target{text::SpecialTokens::begin};
  text::Tokens out;
  while (std::ssize(out) < batch.source_lengths[0] + 10) {
    const Tensor logits = m.network(batch.source, from_vector(target, {1, std::ssize(target)}));
    const auto next = argmax(logits[0][std::ssize(target) - 1], 0).item<std::int64_t>();
    if (next == text::SpecialTokens::end) break;
    out.push_back(static_cast<std::int32_t>(next)), target.push_back(next);
  }
  return out;
}

}  // namespace

TEST_CASE("translation: the cache and the batch give what the whole network gives for one sentence") {
  const RandomTranslator m;
  const auto sources = sources_of(23);
  std::vector<text::Tokens> found;
  std::size_t ended = 0;
  // Until some sentences end before their limits.
  for (double bias = 0; bias < 40 && ended < 5; bias += 0.25) {
    m.set_end(bias);
    found = models::translate(m.params, m.network, sources, {.batch = 5});
    ended = 0;
    for (std::size_t i = 0; i < sources.size(); ++i) ended += found[i].size() < sources[i].size() + 11;
  }
  CHECK(m.params.training());  // restored
  const EvalMode eval(m.params);
  std::set<text::Tokens> different;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    INFO("sentence ", i);
    CHECK(found[i] == by_whole_network(m, sources[i]));
    different.insert(found[i]);
  }
  CHECK(different.size() > 5);
  CHECK(ended >= 5);
  CHECK(ended < sources.size());
  CHECK(models::translate(m.params, m.network, sources, {.batch = 64}) == found);
  CHECK(models::translate(m.params, m.network, {}).empty());
}

TEST_CASE("translation: a beam of 1 is greedy; a wider one finds likelier sentences") {
  const RandomTranslator m;
  const EvalMode eval(m.params);
  const auto off = no_grad();
  const auto sources = sources_of(12);
  const text::TokenBatch batch = text::batch_of(sources);
  const auto limits = text::length_limits(batch);
  models::TranslationSteps a(m.network, batch), b(m.network, batch), c(m.network, batch);
  const auto greedy = text::greedy(a, limits);
  CHECK(text::beam_search(b, limits, {.width = 1}) == greedy);
  const auto wide = text::beam_search(c, limits, {.width = 6});
  CHECK(wide != greedy);
  const auto log_probability = [&](std::size_t i, const text::Tokens& tokens) {
    const text::TokenBatch one = text::batch_of({{sources[i]}, {tokens}}, std::vector<std::int64_t>{0});
    const bool ends = std::ssize(tokens) < limits[i];
    const Tensor log_p = log_softmax(m.network(one.source, one.input()));
    const Tensor chosen = gather(log_p, 2, unsqueeze(one.labels(), 2));
    return sum(narrow(chosen, 1, 0, std::ssize(tokens) + (ends ? 1 : 0))).item();
  };
  double total_greedy = 0, total_wide = 0;
  for (std::size_t i = 0; i < sources.size(); ++i)
    total_greedy += log_probability(i, greedy[i]), total_wide += log_probability(i, wide[i]);
  CHECK(total_wide > total_greedy);
}

TEST_CASE("translation: what it refuses") {
  const RandomTranslator m;
  const std::vector<text::Tokens> one{{4, 5}}, strange{{99}};
  CHECK_ERROR(models::translate(m.params, m.network, one, {.batch = 0}), ValueError,
              "batch must be at least 1");
  CHECK_ERROR(models::translate(m.params, m.network, one, {.more = -1}), ValueError, "more not negative");
  CHECK_THROWS_AS(models::translate(m.params, m.network, strange), IndexError);
  m.params.theta().fill_(not_a_number);
  CHECK_ERROR(models::translate(m.params, m.network, one), ValueError, "NaN");
}
