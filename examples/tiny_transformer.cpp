// A Transformer on one page: it learns to reverse sequences of digits of different lengths, with LPF-Adam. Each step
// evaluates M = 4 perturbed copies of the network in one batched pass; without the line marked (+) it is plain Adam. A
// translation differs in its tokens alone.
#include <cstdio>
#include <lpf/lpf.hpp>
#include <lpf/models/transformer.hpp>

using namespace lpf;

namespace {

constexpr std::int64_t padding = 10, begin = 11, end = 12, vocabulary = 13, longest = 8;

/// `count` sequences of 3 to 8 digits, padded, and their reverse between `begin` and `end`.
struct Pairs {
  Tensor source, target;
};
Pairs draw_pairs(std::int64_t count, std::uint64_t seed) {
  const auto digits = rand({count, longest}, {.seed = seed}).to_vector(),
             lengths = rand({count}, {.seed = seed, .draw = 1}).to_vector();
  std::vector<std::int64_t> source(static_cast<std::size_t>(count * longest), padding);
  std::vector<std::int64_t> target(static_cast<std::size_t>(count * (longest + 2)), padding);
  for (std::size_t b = 0; b < static_cast<std::size_t>(count); ++b) {
    const auto length = static_cast<std::size_t>(3 + 6 * lengths[b]);
    target[b * (longest + 2)] = begin;
    for (std::size_t i = 0; i < length; ++i)
      source[b * longest + i] = target[b * (longest + 2) + length - i] =
          static_cast<std::int64_t>(10 * digits[b * longest + i]);
    target[b * (longest + 2) + length + 1] = end;
  }
  return {from_vector(source, {count, longest}), from_vector(target, {count, longest + 2})};
}

/// The share of sequences that are reversed without an error, token by token with a cache of keys and values.
double accuracy(const models::Seq2SeqTransformer& net, const Pairs& pairs) {
  const auto off = no_grad();
  const Tensor hidden = pairs.source == static_cast<double>(padding);
  nn::DecoderCache cache = net.start(net.encode(pairs.source, hidden), hidden);
  Tensor token = pairs.target.narrow(1, 0, 1).squeeze(1), right = ones_like(token) == 1.0;
  for (std::int64_t t = 1; t < longest + 2; ++t) {
    const Tensor wanted = pairs.target.narrow(1, t, 1).squeeze(1);
    token = argmax(net.step(token, cache), 1);
    right = logical_and(right, logical_or(token == wanted, wanted == static_cast<double>(padding)));
  }
  return mean(right.to(float32)).item();
}

}  // namespace

int main() {
  ParameterStore params({.seed = 1});
  const models::Seq2SeqTransformer net(params, {.vocabulary = vocabulary,
                                                .dim = 64,
                                                .heads = 4,
                                                .feedforward = 128,
                                                .encoder_layers = 1,
                                                .decoder_layers = 1,
                                                .dropout = 0});
  const int steps = 1000;
  optim::Adam adam(params, {.lr = 2e-3});
  adam.set_schedule(schedule::cosine(steps));
  LowPassFilter filter({.M = 4, .gamma = 2e-3});
  const Pairs test = draw_pairs(500, 0);

  double loss_sum = 0;
  for (int step = 1; step <= steps; ++step) {
    const auto [source, target] = draw_pairs(64, static_cast<std::uint64_t>(step));
    const Tensor input = target.narrow(1, 0, longest + 1), wanted = target.narrow(1, 1, longest + 1);
    {
      const auto scope = filter.perturb(params);  // (+)
      const Tensor logits = net(source, input, source == static_cast<double>(padding));
      const Tensor loss = cross_entropy(logits, wanted, {.ignore_index = padding});
      loss.backward();
      adam.step();
      loss_sum += loss.item();
    }
    if (step % 200 == 0) {
      std::printf("step %4d: loss %.4f, reversed without an error %.1f %%\n", step, loss_sum / 200,
                  100 * accuracy(net, test));
      loss_sum = 0;
    }
  }
}
