// Attention on the device, composed there, compared with the CPU's kernels; a step of the Transformer and its decoding.
#include "compare.hpp"
#include "lpf/models/transformer.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("attention with every mask, forward and backward") {
  SKIP_WITHOUT_CUDA;
  const std::int64_t B = 2, H = 4, L = 5, K = 7;
  for (const DType type : floating) {
    const std::vector<AttentionMask> masks{{},
                                           {.mask = uniform({B, H, L, K}, 0, 1, 1) < 0.6},
                                           {.mask = normal({H, L, K}, 5, type)},
                                           {.key_padding = uniform({B, K}, 0, 1, 3) < 0.5},
                                           {.mask = uniform({L, K}, 0, 1, 4) < 0.3,
                                            .key_padding = uniform({B, K}, 0, 1, 3) < 0.5,
                                            .causal = true,
                                            .first_query = 1}};
    for (std::size_t i = 0; i < masks.size(); ++i) {
      INFO(name_of(type), " mask ", i);
      const auto run = [&](Device device) {
        const auto there = [&](const Tensor& t) { return t.defined() ? t.to(device) : t; };
        AttentionMask mask = masks[i];
        mask.mask = there(mask.mask);
        mask.key_padding = there(mask.key_padding);
        const std::vector<Tensor> leaves{there(normal({B, H, L, 6}, 1, type)).requires_grad_(),
                                         there(normal({B, 2, K, 6}, 2, type)).requires_grad_(),
                                         there(normal({B, 2, K, 3}, 3, type)).requires_grad_()};
        const Tensor y =
            scaled_dot_product_attention(leaves[0], leaves[1], leaves[2], mask,
                                         {.dropout = 0.2, .key = {.seed = 4, .purpose = Purpose::dropout}});
        auto out = grad(y, leaves, {.gradient = there(normal(y.shape(), 9, type))});
        out.push_back(y);
        return out;
      };
      const auto expected = run(Device::cpu()), found = run(Device::cuda());
      for (std::size_t j = 0; j < expected.size(); ++j)
        CHECK(relative_error(on_host(found[j]), on_host(expected[j])) < 10 * tolerance_of(type));
    }
  }
}

TEST_CASE("the Transformer's perturbed step and its decoding") {
  SKIP_WITHOUT_CUDA;
  const auto run = [](Device device) {
    const ParameterStore params({.dtype = float64, .device = device, .seed = 3});
    const models::Seq2SeqTransformer net(
        params,
        {.vocabulary = 7, .dim = 8, .heads = 2, .feedforward = 6, .encoder_layers = 1, .decoder_layers = 1});
    const Tensor source = integers({5, 4}, [](auto i) { return i * i % 7; }).to(device),
                 target = integers({5, 3}, [](auto i) { return (i * i + 1) % 7; }).to(device),
                 padding = source == 0.0;
    LowPassFilter filter({.M = 2, .gamma = 0.1});
    {
      const auto scope = filter.perturb(params, 5);
      cross_entropy(net(source, target, padding), target).backward();
    }
    params.eval();
    nn::DecoderCache cache = net.start(net.encode(source, padding), padding);
    static_cast<void>(net.step(target.narrow(1, 0, 1).squeeze(1), cache));
    const Tensor order = tensor<std::int64_t>({4, 0, 0}).to(device);
    cache = cache.select(order);
    return std::vector<Tensor>{params.gradient(),
                               net.step(index_select(target, 0, order).narrow(1, 1, 1).squeeze(1), cache)};
  };
  const auto expected = run(Device::cpu()), found = run(Device::cuda());
  for (std::size_t j = 0; j < expected.size(); ++j)
    CHECK(relative_error(on_host(found[j]), on_host(expected[j])) < 1e-12);
}
