#include "lpf/nn/transformer.hpp"

#include "fixture_case.hpp"
#include "lpf/nn/positions.hpp"
#include "lpf/ops/loss.hpp"
#include "perturbed_loop.hpp"

namespace lpf::test {
namespace {

Tensor padding_of(const FixtureCase& c, const char* name) { return c.at(name).to(DType::bool_); }

nn::TransformerLayerOptions layer_options_of(const FixtureCase& c) {
  return {.feedforward = c.hyper["feedforward"],
          .dropout = 0,
          .activation = c.hyper["activation"] == "relu" ? nn::TransformerActivation::relu
                                                        : nn::TransformerActivation::gelu,
          .norm_first = c.hyper["norm_first"]};
}

TEST_CASE("Transformer layers: PyTorch's names, values, gradients and Hessian products") {
  int cases = for_each_case("attention.safetensors", "encoder_layer", [](const FixtureCase& c) {
    const ParameterStore params({.dtype = float64});
    const nn::TransformerEncoderLayer layer(params, 6, c.hyper["heads"], layer_options_of(c));
    check_module_case(c, params, {"x"}, [&](const auto& t) {
      return layer(t.at("x"), {.key_padding = padding_of(c, "padding")});
    });
  });
  CHECK(cases == 4);
  cases = for_each_case("attention.safetensors", "decoder_layer", [](const FixtureCase& c) {
    const ParameterStore params({.dtype = float64});
    const nn::TransformerDecoderLayer layer(params, 6, c.hyper["heads"], layer_options_of(c));
    check_module_case(c, params, {"x", "memory"}, [&](const auto& t) {
      return layer(t.at("x"), t.at("memory"), {.key_padding = padding_of(c, "padding"), .causal = true},
                   {.key_padding = padding_of(c, "memory_padding")});
    });
  });
  CHECK(cases == 4);
}

TEST_CASE("Transformer layers: stacks, steps and weights") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::TransformerLayerOptions o{.feedforward = 10, .norm_first = true};
  const nn::TransformerEncoder encoder(params / "encoder", 8, 2, 2, o, true);
  const nn::TransformerDecoder decoder(params / "decoder", 8, 2, 3, o, true);
  CHECK(params.parameters().back().name == "decoder.norm.bias");
  CHECK(params.tensor("encoder.layers.1.self_attn.in_proj_weight").shape() == Shape{24, 8});
  params.eval();
  const Tensor x = normal({3, 5, 8}, 1), y = normal({3, 4, 8}, 2), padding = uniform({3, 5}, 0, 1) < 0.3;
  const Tensor memory = encoder(x, {.key_padding = padding});
  CHECK(
      relative_error(memory, (*encoder.norm)(encoder.layers[1](encoder.layers[0](x, {.key_padding = padding}),
                                                               {.key_padding = padding}))) < 1e-14);
  const Tensor whole = decoder(y, memory, {.causal = true}, {.key_padding = padding});
  nn::DecoderCache cache = decoder.start(memory, padding);
  const Tensor order = tensor<std::int64_t>({1, 1, 0}).to(x.device());
  for (std::int64_t t = 0; t < 3; ++t)
    CHECK(relative_error(decoder.step(narrow(y, 1, t, 1), cache), narrow(whole, 1, t, 1)) < 1e-13);
  CHECK(cache.length == 3);
  nn::DecoderCache beams = cache.select(order);
  CHECK(relative_error(decoder.step(index_select(narrow(y, 1, 3, 1), 0, order), beams),
                       index_select(narrow(whole, 1, 3, 1), 0, order)) < 1e-13);
  CHECK(!decoder.step(narrow(y, 1, 3, 1), cache).requires_grad());

  const auto weights = decoder.memory_weights(y, memory, {.causal = true}, {.key_padding = padding});
  REQUIRE(weights.size() == 3);
  for (const Tensor& w : weights) {
    CHECK(w.shape() == Shape{3, 2, 4, 5});
    CHECK(relative_error(sum(w, {3}), ones({3, 2, 4}, w.options())) < 1e-13);
    CHECK(abs(w * reshape(padding.to(float64), {3, 1, 1, 5})).max().item() == 0);
  }
  nn::DecoderCache other;
  CHECK_ERROR(decoder.step(y, other), ValueError, "TransformerDecoder", "0 layers", "3");
  CHECK_ERROR(nn::TransformerEncoder(ParameterStore() / "e", 8, 2, -1), ValueError, "'e'", "-1");
  CHECK_ERROR(nn::TransformerDecoder(ParameterStore() / "d", 8, 2, -1), ValueError, "'d'", "-1");
}

TEST_CASE("positions: waves and learned rows") {
  const Tensor p = sinusoidal_positions(50, 6, {.dtype = float64});
  for (const std::int64_t t : {0, 1, 7, 49})
    for (std::int64_t i = 0; i < 6; ++i) {
      const double angle = static_cast<double>(t) / std::pow(10000.0, static_cast<double>(i - i % 2) / 6);
      CHECK(p[t][i].item() == doctest::Approx(i % 2 ? std::cos(angle) : std::sin(angle)).epsilon(1e-12));
    }
  CHECK(same_bits(slice(p, 0, 10, 20), sinusoidal_positions(10, 6, {.dtype = float64}, 10)));
  CHECK(sinusoidal_positions(3, 5).dtype() == float32);
  CHECK(sinusoidal_positions(0, 5).shape() == Shape{0, 5});
  CHECK_ERROR(sinusoidal_positions(-1, 5), ValueError, "sinusoidal_positions", "-1");
  CHECK_ERROR(sinusoidal_positions(2, 0), ValueError, "sinusoidal_positions");
  const ParameterStore params({.dtype = float64});
  const nn::LearnedPositions learned(params / "positions", 9, 6);
  const Tensor x = normal({2, 4, 6});
  CHECK(params.parameters()[0].name == "positions.weight");
  CHECK(
      same_bits((learned(x, 5) - x).detach(), ((x + slice(learned.embedding.weight, 0, 5, 9)) - x).detach()));
  CHECK(same_bits(nn::SinusoidalPositions()(x, 3), x + sinusoidal_positions(4, 6, {.dtype = float64}, 3)));
  CHECK_INDEX_ERROR(learned(x, 6), "embedding", "9");
  CHECK_ERROR(learned(x[0]), ShapeError, "LearnedPositions", "[4, 6]");
  CHECK_ERROR(nn::SinusoidalPositions()(x[0]), ShapeError, "SinusoidalPositions", "[4, 6]");
}

/// Encoder and decoder around learned positions, with one table for the embedding and the generator.
struct Tied {
  nn::Embedding embedding;
  nn::LearnedPositions positions;
  nn::TransformerEncoder encoder;
  nn::TransformerDecoder decoder;
  Tied(const nn::Path& p, bool norm_first)
      : embedding(p / "embedding", 9, 8),
        positions(p / "positions", 6, 8),
        encoder(p / "encoder", 8, 2, 1, options(norm_first), true),
        decoder(p / "decoder", 8, 4, 1, options(norm_first)) {}
  static nn::TransformerLayerOptions options(bool norm_first) {
    return {.feedforward = 5,
            .dropout = 0.2,
            .activation = norm_first ? nn::TransformerActivation::gelu : nn::TransformerActivation::relu,
            .norm_first = norm_first};
  }
  Tensor operator()(const Tensor& source, const Tensor& target, const Tensor& padding) const {
    const auto embed = [&](const Tensor& t) { return positions(embedding(t)); };
    const Tensor memory = encoder(embed(source), {.key_padding = padding});
    return linear(decoder(embed(target), memory, {.causal = true}, {.key_padding = padding}),
                  embedding.weight);
  }
};

TEST_CASE(
    "Transformer layers: a perturbed pass is the published loop, with every estimator and tied embeddings") {
  constexpr std::int64_t batch = 9;
  const Tensor source = integers({batch, 5}, [](auto i) { return (i * i + 3 * i) % 9; }),
               target = integers({batch, 4}, [](auto i) { return (5 * i + i * i) % 9; }),
               padding = arange(5).reshape({1, 5}) >
                         remainder(arange(batch).reshape({batch, 1}), full({}, 5, {.dtype = DType::int64}));
  for (const bool norm_first : {false, true})
    for (const std::int64_t M : {1, 2, 4, 9})
      for (const auto estimator : {Estimator::replicas, Estimator::antithetic, Estimator::flipout,
                                   Estimator::flipout_pairs, Estimator::per_sample})
        for (const auto memory : {ReplicaMemory::stored, ReplicaMemory::recomputed}) {
          if (M % 2 && (estimator == Estimator::antithetic || estimator == Estimator::flipout_pairs))
            continue;
          const ParameterStore params({.dtype = float64, .seed = 3});
          const Tied net(params, norm_first);
          randomize(params);
          const LowPassFilterOptions options{
              .M = M, .gamma = 0.1, .estimator = estimator, .seed = 5, .memory = memory};
          CHECK(against_loop(params, options, batch, [&](std::int64_t from, std::int64_t to) {
                  if (from == 0)
                    for (auto& counter : params.counters()) *counter.value = 0;
                  const auto part = [&](const Tensor& t) { return slice(t, 0, from, to); };
                  return cross_entropy(net(part(source), part(target), part(padding)), part(target));
                }) < exactly);
        }
}

}  // namespace
}  // namespace lpf::test
