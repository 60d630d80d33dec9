// The sequence-to-sequence Transformer: PyTorch's values, the paper's size, decoding, and losses of tokens in a pass.
#include "lpf/models/transformer.hpp"

#include <cstdint>

#include "fixture_case.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/train/weights.hpp"
#include "perturbed_loop.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

const models::Seq2SeqOptions tiny{.vocabulary = 7,
                                  .dim = 4,
                                  .heads = 2,
                                  .feedforward = 6,
                                  .encoder_layers = 2,
                                  .decoder_layers = 2,
                                  .dropout = 0};

/// Token sequences of several lengths: the tokens [B, L] and where they are padding (token 0).
struct Sequences {
  Tensor tokens, padding;
  Sequences(std::int64_t batch, std::int64_t length, std::int64_t vocabulary, std::int64_t seed) {
    tokens = integers({batch, length}, [=](std::int64_t i) {
      const std::int64_t b = i / length, t = i % length, own = 1 + (b * 7 + seed) % length;
      return t < own ? 1 + (i * i + seed * i) % (vocabulary - 1) : 0;
    });
    padding = tokens == 0.0;
  }
};

}  // namespace

TEST_CASE("transformer: PyTorch's names, logits, gradients and Hessian products") {
  const int cases = for_each_case("attention.safetensors", "seq2seq", [](const FixtureCase& c) {
    const ParameterStore params({.dtype = float64});
    const models::Seq2SeqTransformer net(params, tiny);
    const auto padding = [&](const char* name) { return c.at(name).to(DType::bool_); };
    check_module_case(c, params, {}, [&](const auto&) {
      return net(c.at("source"), c.at("target"), padding("source_padding"), padding("target_padding"));
    });
  });
  CHECK(cases == 1);
}

TEST_CASE("transformer: the paper's number of parameters, and its initial values") {
  const ParameterStore params;
  const models::Seq2SeqTransformer net(params);
  CHECK(params.numel() == 45424896);
  CHECK(params.parameters()[0].name == "embedding.weight");
  CHECK(params.tensor("transformer.encoder.layers.2.linear1.weight").shape() == Shape{512, 512});
  for (const auto& info : params.parameters()) {
    CAPTURE(info.name);
    const double largest = abs(params.tensor(info.index)).max().item();
    if (info.shape.rank() == 2) {  // U(−b, b) with b² = 6/(in + out)
      const double bound = std::sqrt(6.0 / static_cast<double>(info.shape[0] + info.shape[1]));
      CHECK(largest <= bound * (1 + 1e-6));
      CHECK(largest > 0.99 * bound);
    }
  }
  const ParameterStore tied;
  const models::Seq2SeqTransformer shared(tied, {.tied_generator = true});
  CHECK(tied.numel() == 45424896 - 32000 * 512);
  CHECK_ERROR(models::Seq2SeqTransformer(ParameterStore(), {.dim = 10, .heads = 3}), ValueError,
              "10 features");
  CHECK_ERROR(models::Seq2SeqTransformer(ParameterStore(), {.vocabulary = 0}), ValueError, "embedding");
}

TEST_CASE("transformer: padding changes nothing, and steps are the whole sequence") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const models::Seq2SeqTransformer net(params, tiny);
  const Sequences source(4, 6, 7, 1), target(4, 5, 7, 3);
  const Tensor logits = net(source.tokens, target.tokens, source.padding, target.padding);
  CHECK(logits.shape() == Shape{4, 5, 7});
  for (std::int64_t b = 0; b < 4; ++b) {  // each alone, without its padding
    const auto own = [b](const Sequences& s) {
      const auto length = static_cast<std::int64_t>(sum(logical_not(s.padding[b])).item());
      return slice(slice(s.tokens, 0, b, b + 1), 1, 0, length);
    };
    const Tensor alone = net(own(source), own(target));
    CHECK(relative_error(alone[0], slice(logits[b], 0, 0, alone.size(1))) < 1e-12);
  }
  params.eval();
  nn::DecoderCache cache = net.start(net.encode(source.tokens, source.padding), source.padding);
  const Tensor unpadded = net(source.tokens, target.tokens, source.padding);
  for (std::int64_t t = 0; t < 5; ++t) {
    const Tensor step = net.step(target.tokens.narrow(1, t, 1).squeeze(1), cache);
    CHECK(relative_error(step, unpadded.narrow(1, t, 1).squeeze(1)) < 1e-12);
    CHECK(!step.requires_grad());
  }
  const auto weights = net.attention(source.tokens, target.tokens, source.padding, target.padding);
  REQUIRE(weights.size() == 2);
  CHECK(weights[0].shape() == Shape{4, 2, 5, 6});
  CHECK_ERROR(net.encode(source.tokens[0]), ShapeError, "Seq2SeqTransformer", "[6]");
  CHECK_ERROR(net.step(target.tokens, cache), ShapeError, "Seq2SeqTransformer", "[4, 5]");
}

TEST_CASE("transformer: weights are saved and loaded under PyTorch's names") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  const ParameterStore params({.seed = 2}), other({.seed = 3});
  const models::Seq2SeqTransformer net(params, tiny), copy(other, tiny);
  save_weights(path, params);
  load_weights(path, other);
  const Sequences source(3, 4, 7, 1), target(3, 4, 7, 2);
  CHECK(same_bits(net(source.tokens, target.tokens).detach(), copy(source.tokens, target.tokens).detach()));
}

TEST_CASE("transformer: losses of tokens in a perturbed pass, lengths of every kind") {
  constexpr std::int64_t batch = 10;
  const Sequences source(batch, 6, 7, 1), target(batch, 5, 7, 3);
  const Tensor labels = where(target.padding, full({}, -100, target.tokens.options()), target.tokens);
  const Tensor kept = logical_not(target.padding).to(float64);
  const double tokens_a_sentence = sum(kept).item() / static_cast<double>(batch);
  for (const bool tied : {false, true})
    for (const std::int64_t M : {1, 3, 4, 10})
      for (const auto estimator : {Estimator::replicas, Estimator::flipout}) {
        const ParameterStore params({.dtype = float64, .seed = 3});
        models::Seq2SeqOptions options = tiny;
        options.dropout = 0.1;
        options.tied_generator = tied;
        const models::Seq2SeqTransformer net(params, options);
        randomize(params);
        const auto part = [](const Tensor& t, auto from, auto to) { return slice(t, 0, from, to); };
        const auto logits = [&](auto from, auto to) {
          if (from == 0)
            for (auto& counter : params.counters()) *counter.value = 0;
          return net(part(source.tokens, from, to), part(target.tokens, from, to),
                     part(source.padding, from, to), part(target.padding, from, to));
        };
        const LowPassFilterOptions filter{.M = M, .gamma = 0.1, .estimator = estimator, .seed = 5};
        // The mean over all tokens of the batch: each of the separate passes divides by the batch's tokens a sentence.
        CHECK(against_loop(params, filter, batch, [&](auto from, auto to) {
                const Tensor z = logits(from, to), t = part(labels, from, to);
                if (from == 0 && to == batch) return cross_entropy(z, t, {.label_smoothing = 0.1});
                return cross_entropy(z, t, {.reduction = Reduction::sum, .label_smoothing = 0.1}) /
                       (tokens_a_sentence * static_cast<double>(to - from));
              }) < exactly);
        // The mean over the tokens of each slice.
        CHECK(against_loop(params, filter, batch, [&](auto from, auto to) {
                const Tensor losses = cross_entropy(logits(from, to), part(labels, from, to),
                                                    {.reduction = Reduction::none, .label_smoothing = 0.1});
                return slice_mean(losses, net.generator_weight) /
                       slice_mean(part(kept, from, to), net.generator_weight);
              }) < exactly);
        // The mean over sentences of each one's mean over tokens.
        CHECK(against_loop(params, filter, batch, [&](auto from, auto to) {
                const Tensor losses = cross_entropy(logits(from, to), part(labels, from, to),
                                                    {.reduction = Reduction::none, .label_smoothing = 0.1});
                return mean(sum(losses, {1}) / sum(part(kept, from, to), {1}));
              }) < exactly);
      }
}
