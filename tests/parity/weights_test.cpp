// Weights of attention and Transformers in PyTorch's files: read here they give PyTorch's outputs, and PyTorch reads
// what is written here (sequence_weights.py). Needs a Python with torch and safetensors, named by LPF_TEST_PYTHON.
#include <sys/wait.h>

#include <cstdlib>
#include <functional>
#include <vector>

#include "lpf/io/safetensors.hpp"
#include "lpf/models/transformer.hpp"
#include "lpf/train/weights.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

using Network = std::function<Tensor(const SafetensorsFile& example)>;
struct Case {
  const char* name;
  std::function<Network(const nn::Path&)> make;
};

const nn::TransformerLayerOptions post{.feedforward = 12},
    pre{.feedforward = 12, .activation = nn::TransformerActivation::gelu, .norm_first = true, .bias = false};

Network encoder_layer(const nn::Path& p, const nn::TransformerLayerOptions& options) {
  return [layer = nn::TransformerEncoderLayer(p, 8, 2, options)](const auto& e) {
    return layer(e.at("x"), {.key_padding = e.at("padding")});
  };
}
Network decoder_layer(const nn::Path& p, const nn::TransformerLayerOptions& options) {
  return [layer = nn::TransformerDecoderLayer(p, 8, 2, options)](const auto& e) {
    return layer(e.at("x"), e.at("memory"), {.causal = true}, {.key_padding = e.at("memory_padding")});
  };
}
Network translation(const nn::Path& p, bool tied) {
  const models::Seq2SeqOptions options{.vocabulary = 11,
                                       .dim = 8,
                                       .heads = 2,
                                       .feedforward = 12,
                                       .encoder_layers = 2,
                                       .decoder_layers = 2,
                                       .tied_generator = tied};
  return [net = models::Seq2SeqTransformer(p, options)](const auto& e) {
    return net(e.at("source"), e.at("target"), e.at("source_padding"));
  };
}

/// The cases of sequence_weights.py.
const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"self_attention",
       [](const nn::Path& p) -> Network {
         return [layer = nn::MultiheadAttention(p, 8, 2)](const auto& e) {
           return layer(e.at("x"), {.mask = logical_not(e.at("hidden")), .key_padding = e.at("padding")});
         };
       }},
      {"cross_attention",
       [](const nn::Path& p) -> Network {
         return [layer = nn::MultiheadAttention(p, 8, 2, {.bias = false})](const auto& e) {
           return layer(e.at("x"), e.at("memory"), e.at("memory_2"), {.key_padding = e.at("memory_padding")});
         };
       }},
      {"encoder_layer", [](const nn::Path& p) { return encoder_layer(p, post); }},
      {"encoder_layer_pre", [](const nn::Path& p) { return encoder_layer(p, pre); }},
      {"decoder_layer", [](const nn::Path& p) { return decoder_layer(p, post); }},
      {"decoder_layer_pre", [](const nn::Path& p) { return decoder_layer(p, pre); }},
      {"transformer",
       [](const nn::Path& p) -> Network {
         return [encoder = nn::TransformerEncoder(p / "encoder", 8, 2, 2, post, true),
                 decoder = nn::TransformerDecoder(p / "decoder", 8, 2, 3, post, true)](const auto& e) {
           const AttentionMask padding{.key_padding = e.at("memory_padding")};
           return decoder(e.at("x"), encoder(e.at("memory"), padding), {.causal = true}, padding);
         };
       }},
      {"translation", [](const nn::Path& p) { return translation(p, false); }},
      {"translation_tied", [](const nn::Path& p) { return translation(p, true); }}};
  return all;
}

}  // namespace

TEST_CASE(
    "weights of attention and Transformers: PyTorch's are read here and ours there, with equal outputs") {
  const char* python = std::getenv("LPF_TEST_PYTHON");
  if (python == nullptr) return skip("LPF_TEST_PYTHON names no Python with torch and safetensors");
  const TempDir dir;
  const auto call = [&](const char* what) {
    const std::string script = fixture("../parity/sequence_weights.py").string();
    return std::system(
        concat("'", python, "' '", script, "' ", what, " '", dir.path().string(), "'").c_str());
  };
  const int status = call("write");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
    return skip("the Python of LPF_TEST_PYTHON lacks torch or safetensors");
  REQUIRE(status == 0);
  const auto off = no_grad();
  for (const Case& c : cases())
    for (const DType type : {float32, float64}) {
      INFO(c.name, " ", name_of(type));
      const auto file = [&](const char* kind) {
        return (dir / concat(c.name, ".", name_of(type), kind, ".safetensors")).string();
      };
      const ParameterStore params({.dtype = type});
      const Network net = c.make(params);
      params.eval();
      const SafetensorsFile example = load_safetensors(file(".example"));
      load_weights(file(""), params);  // strict
      CHECK(relative_error(net(example), example.at("y")) < (type == float64 ? 1e-12 : 1e-5));
      for (const auto& info : params.parameters())
        params.tensor(info.index).copy_(0.5 * normal(info.shape, 100 + info.index, type));
      save_weights(file(".ours"), params);
      save_safetensors(file(".ours_y"), {{"y", net(example)}});
    }
  CHECK(call("read") == 0);
}
