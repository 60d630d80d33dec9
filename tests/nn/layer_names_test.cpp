// The error of an operation names the layer that called it.
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/attention.hpp"
#include "lpf/nn/conv.hpp"
#include "lpf/nn/conv1d.hpp"
#include "lpf/nn/embedding.hpp"
#include "lpf/nn/group_norm.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/nn/rms_norm.hpp"
#include "lpf/ops/random.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

TEST_CASE("an error in a layer's operation names the layer, and has its type") {
  const ParameterStore params({.seed = 1});
  const nn::Path at = params / "block" / 2;
  const nn::Linear linear(at / "fc", 3, 2), plain(at / "plain", 3, 2, {.bias = false});
  const nn::Conv2d conv(at / "conv", 3, 2, 1);
  const nn::Conv1d conv1d(at / "conv1d", 3, 2, 1);
  const nn::BatchNorm bn(at / "bn", 3);
  const nn::LayerNorm ln(at / "ln", 3);
  const nn::RMSNorm rms(at / "rms", 3);
  const nn::GroupNorm gn(at / "gn", 1, 3);
  const nn::Embedding table(at / "table", 4, 2);
  const Tensor x = zeros({6, 5}), images = zeros({6, 2, 2, 5}), sequences = zeros({6, 2, 5});
  CHECK_ERROR(linear(x), ShapeError, "[linear]", "(layer 'block.2.fc')");
  CHECK_ERROR(plain(x), ShapeError, "(layer 'block.2.plain')");
  CHECK_ERROR(conv(images), ShapeError, "[conv2d]", "(layer 'block.2.conv')");
  CHECK_ERROR(conv1d(sequences), ShapeError, "(layer 'block.2.conv1d')");
  CHECK_ERROR(bn(x), ShapeError, "(layer 'block.2.bn')");
  CHECK_ERROR(ln(x), ShapeError, "(layer 'block.2.ln')");
  CHECK_ERROR(rms(x), ShapeError, "(layer 'block.2.rms')");
  CHECK_ERROR(gn(x), ShapeError, "(layer 'block.2.gn')");
  CHECK_ERROR(table(x), DTypeError, "(layer 'block.2.table')");
  CHECK_ERROR(table.rows(x), DTypeError, "(layer 'block.2.table')");
  params.eval();
  CHECK_ERROR(bn(x), ShapeError, "(layer 'block.2.bn')");
  params.train();
  LowPassFilter filter({.M = 7, .gamma = 0.1});
  {
    const auto scope = filter.perturb(params);
    CHECK_ERROR(linear(zeros({6, 3})), ShapeError, "M = 7", "drop_last", "(layer 'block.2.fc')");
    CHECK_ERROR(bn(zeros({6, 3})), ShapeError, "M = 7", "(layer 'block.2.bn')");
  }
  const ParameterStore root;  // a layer without a path has no name to add
  const nn::Linear unnamed(root, 3, 2);
  CHECK(error_of<ShapeError>([&] { static_cast<void>(unnamed(x)); }, {"[linear]"}).find("layer") ==
        std::string::npos);
}

TEST_CASE("errors of attention name the layer") {
  const ParameterStore params;
  const nn::MultiheadAttention attention(params / "encoder" / "self_attn", 8, 2);
  const Tensor x = zeros({4, 5, 8});
  CHECK_ERROR(attention(x.to(float64)), DTypeError, "(layer 'encoder.self_attn')");
  CHECK_ERROR(attention(x, {.key_padding = zeros({2, 7}, {.dtype = DType::bool_})}), ShapeError,
              "key_padding", "(layer 'encoder.self_attn')");
}

TEST_CASE("images and filters with channels first are told that they are channels last") {
  const ParameterStore params;
  const nn::Conv2d conv(params / "conv", 3, 4, 3, {.padding = 1});
  const nn::BatchNorm bn(params / "bn", 3);
  const nn::GroupNorm gn(params / "gn", 1, 3);
  CHECK_ERROR(conv(zeros({2, 3, 8, 8})), ShapeError, "input has 8 channels", "channels last, [B, …, C]",
              "permute(x, {0, 2, 3, 1})");
  CHECK_ERROR(conv1d(zeros({2, 3, 8}), zeros({4, 1, 3})), ShapeError, "permute(x, {0, 2, 1})");
  CHECK_ERROR(conv2d(zeros({2, 8, 8, 3}), zeros({4, 3, 5, 5})), ShapeError, "filters too are channels last");
  CHECK(error_of<ShapeError>(
            [&] {
              static_cast<void>(conv(zeros({2, 8, 8, 4})));
            },
            {"input has 4"})
            .find("permute") == std::string::npos);
  CHECK_ERROR(bn(zeros({2, 3, 8, 8})), ShapeError, "channels last");
  CHECK_ERROR(gn(zeros({2, 3, 8, 8})), ShapeError, "channels last");
  params.eval();
  CHECK_ERROR(bn(zeros({2, 3, 8, 8})), ShapeError, "channels last");
}

}  // namespace
}  // namespace lpf::test
