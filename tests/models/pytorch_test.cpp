// The networks compared with PyTorch's in tests/fixtures/models.safetensors (make_model_fixtures.py): names
// and layouts of the weights in both directions, logits, loss, gradients, running statistics.
#include <functional>
#include <map>

#include "lpf/models/registry.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/train/weights.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

using Make = std::function<models::Model(const nn::Path&)>;

template <class Net, class Options>
Make make(const Options& options) {
  return [options](const nn::Path& p) -> models::Model { return Net(p, options); };
}

/// The networks of the fixtures, by the names of their cases.
const std::map<std::string, Make>& networks() {
  using namespace models;
  const std::vector<int> blocks{1, 2, 1};
  static const std::map<std::string, Make> all{
      {"small_lenet", make<SmallLeNet>(SmallLeNetOptions{
                          .classes = 3, .image = 20, .channels = {3, 4}, .features = {8, 6}})},
      {"lenet", make<LeNet>(LeNetOptions{
                    .classes = 3, .image = 10, .channels = {3, 4}, .features = 8, .dropout = {0, 0}})},
      {"resnet", make<ResNet>(ResNetOptions{.blocks = {2, 1, 1, 1}, .width = 2, .classes = 3})},
      {"resnet_bottleneck",
       make<ResNet>(ResNetOptions{.blocks = blocks, .bottleneck = true, .width = 2, .classes = 3})},
      {"resnet_conv_bias",
       make<ResNet>(ResNetOptions{.blocks = blocks, .width = 2, .classes = 3, .conv_bias = true})},
      {"resnet_no_skip", make<ResNet>(ResNetOptions{
                             .blocks = blocks, .width = 2, .classes = 3, .conv_bias = true, .skip = false})},
      {"resnet_no_batch_norm",
       make<ResNet>(ResNetOptions{
           .blocks = blocks, .width = 2, .classes = 3, .conv_bias = true, .batch_norm = false})},
      {"wide_resnet", make<WideResNet>(WideResNetOptions{.depth = 10, .widen = 2, .classes = 3, .stem = 2})},
      {"wide_resnet_same_width",
       make<WideResNet>(WideResNetOptions{.depth = 16, .widen = 1, .classes = 3, .stem = 2})},
      {"shake_shake", make<ShakeShake>(ShakeShakeOptions{.depth = 14, .width = 2, .classes = 3, .stem = 3})},
      {"shake_shake_odd",
       make<ShakeShake>(ShakeShakeOptions{.depth = 8, .width = 4, .classes = 3, .stem = 3})},
      {"pyramidnet", make<PyramidNet>(PyramidNetOptions{.depth = 20, .alpha = 7, .classes = 3, .stem = 3})},
  };
  return all;
}

const SafetensorsFile& fixtures() {
  static const SafetensorsFile file = load_safetensors(fixture("models.safetensors").string());
  return file;
}

/// The tensors of a case with a prefix, by the rest of their names.
std::map<std::string, Tensor> below(const std::string& prefix) {
  std::map<std::string, Tensor> out;
  for (const auto& [name, tensor] : fixtures())
    if (name.starts_with(prefix)) out[name.substr(prefix.size())] = tensor;
  return out;
}

Tensor as_torch(const Tensor& t, Layout layout) {
  return layout == Layout::filter ? permute(t, {0, 3, 1, 2}) : t;
}

/// Largest |a − b| over the largest |b|, or over 1e-3 if b is smaller: the gradient of a bias before
/// batch norm is rounding error only.
double error(const Tensor& found, const Tensor& b) {
  REQUIRE(found.shape() == b.shape());
  const Tensor a = found.to(b.device());
  return (a - b).abs().max().item() / std::max(b.abs().max().item(), 1e-3);
}

}  // namespace

TEST_CASE("models: the weights of PyTorch's networks give its logits, losses and gradients") {
  const TempDir dir;
  for (const auto& network : networks()) {
    const std::string& name = network.first;  // clang 14 captures no structured binding
    CAPTURE(name);
    const auto weights = below(name + "/weights.");
    REQUIRE_FALSE(weights.empty());
    const std::string path = (dir / (name + ".safetensors")).string();
    save_safetensors(path, NamedTensors(weights.begin(), weights.end()), {{"format", "pt"}});

    const ParameterStore params({.dtype = float64, .seed = 7});
    const models::Model net = network.second(params);
    load_weights(path, params);  // strict: names must match exactly
    const Tensor x = fixtures().at(name + "/x").to(default_device()),
                 target = fixtures().at(name + "/target").to(default_device());
    for (const std::string mode : {"eval", "train"}) {
      CAPTURE(mode);
      params.train(mode == "train");
      params.zero_grad();
      const Tensor logits = net(x), loss = cross_entropy(logits, target);
      CHECK(error(logits.detach(), fixtures().at(concat(name, "/", mode, ".logits"))) < 1e-9);
      CHECK(error(loss.detach(), fixtures().at(concat(name, "/", mode, ".loss"))) < 1e-9);
      loss.backward();
      const auto gradients = below(concat(name, "/", mode, ".grad."));
      CHECK(gradients.size() == params.parameters().size());
      for (const auto& info : params.parameters()) {
        CAPTURE(info.name);
        CHECK(error(as_torch(params.tensor(info.index).grad(), info.layout), gradients.at(info.name)) < 1e-9);
      }
    }
    for (const auto& buffer : params.buffers())
      CHECK(error(buffer.tensor.to(float64),
                  fixtures().at(concat(name, "/after.", buffer.name)).to(float64)) < 1e-12);
  }
}

TEST_CASE("models: weights are written with PyTorch's names, shapes and values") {
  const TempDir dir;
  for (const auto& network : networks()) {
    const std::string& name = network.first;  // clang 14 captures no structured binding
    CAPTURE(name);
    const auto weights = below(name + "/weights.");
    const std::string from = (dir / "from").string(), to = (dir / "to").string();
    save_safetensors(from, NamedTensors(weights.begin(), weights.end()), {{"format", "pt"}});
    const ParameterStore params({.dtype = float64});
    network.second(params);
    load_weights(from, params);
    save_weights(to, params);
    const SafetensorsFile written = load_safetensors(to);
    CHECK(written.items().size() == weights.size());
    for (const auto& [key, tensor] : weights) CHECK(same_bits(written.at(key), tensor));
  }
}

TEST_CASE("models: every case of the fixtures is tested") {
  for (const auto& [name, text] : fixtures().metadata())
    if (text.starts_with('{')) CHECK(networks().count(name) == 1);
}
