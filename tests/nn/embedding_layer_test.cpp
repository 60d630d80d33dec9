#include "lpf/nn/embedding.hpp"

#include "tensor_test.hpp"

namespace lpf::test {
namespace {

TEST_CASE("Embedding layer: initial values, padding row, gradient") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Embedding plain(params / "a", 500, 8), padded(params / "b", 5, 3, {.padding_idx = -2}),
      chosen(params / "c", 5, 3, {.padding_idx = 0, .weight_init = init::ones()});
  const auto w = plain.weight.clean().to_vector();
  double mean = 0, squares = 0;
  for (const double v : w) mean += v, squares += v * v;
  CHECK(std::abs(mean / 4000) < 4 / std::sqrt(4000.0));
  CHECK(squares / 4000 == doctest::Approx(1).epsilon(0.1));
  CHECK(holds(padded.weight.clean().detach()[3], {3}, {0, 0, 0}));
  CHECK(padded.weight.clean().detach()[2].to_vector()[0] != 0);
  CHECK(holds(chosen.weight.clean().detach()[0], {3}, {0, 0, 0}));
  CHECK(holds(chosen.weight.clean().detach()[4], {3}, {1, 1, 1}));
  CHECK(params.parameters()[1].name == "b.weight");

  const Tensor index = from_vector<std::int64_t>({3, 1, 1, 3}, {2, 2});
  const Tensor y = padded(index);
  CHECK(y.shape() == Shape{2, 2, 3});
  sum(y).backward();
  const Tensor g = padded.weight.clean().grad();
  CHECK(holds(g[3], {3}, {0, 0, 0}));
  CHECK(holds(g[1], {3}, {2, 2, 2}));
  CHECK(holds(g[0], {3}, {0, 0, 0}));
}

TEST_CASE("Embedding layer: errors") {
  const ParameterStore params;
  CHECK_ERROR(nn::Embedding(params / "e1", 0, 3), ValueError, "'e1'");
  CHECK_ERROR(nn::Embedding(params / "e2", 4, 0), ValueError, "'e2'");
  CHECK_ERROR(nn::Embedding(params / "e3", 4, 2, {.padding_idx = 4}), IndexError, "'e3'", "padding_idx 4",
              "4 rows");
  CHECK_ERROR(nn::Embedding(params / "e4", 4, 2, {.padding_idx = -5}), IndexError, "padding_idx -5");
  const nn::Embedding layer(params / "e5", 4, 2);
  if (default_device().is_cpu()) {
    CHECK_ERROR(layer(tensor<std::int64_t>({4})), IndexError, "4", "[0, 4)");
  } else {  // detected by the kernel
    CHECK_ERROR(layer(tensor<std::int64_t>({4})).to_vector(), IndexError, "4");
  }
}

}  // namespace
}  // namespace lpf::test
