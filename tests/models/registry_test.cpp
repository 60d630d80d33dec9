// Networks by name.
#include "lpf/models/registry.hpp"

#include <algorithm>
#include <set>

#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("models: every name of the list makes a network of the input and classes it says") {
  std::set<std::string> seen;
  for (const auto& m : models::list()) {
    CAPTURE(m.name);
    CHECK(seen.insert(m.name).second);
    CHECK_FALSE(m.description.empty());
    CHECK(m.classes == models::ModelOptions().classes);
    const bool wide = m.width.find("channels") != std::string::npos;
    const ParameterStore params({.seed = 1});
    const models::Model net = models::make(m.name, params, {.classes = 7, .width = wide ? 1 : 0});
    CHECK(params.parameters().back().shape == Shape{7});
    if (params.numel() > 3'000'000) continue;  // its forward pass is tested with the fixtures, in small
    params.eval();
    const auto off = no_grad();
    const Tensor y = net(normal({2, m.input[0], m.input[1], m.input[2]}, 1, float32));
    CHECK(y.shape() == Shape{2, 7});
  }
  CHECK(models::names().size() == models::list().size());
  CHECK(models::names().front() == "mlp");
}

TEST_CASE("models: options reach the network") {
  const auto numel = [](std::string_view name, const models::ModelOptions& o) {
    const ParameterStore params;
    models::make(name, params, o);
    return params.numel();
  };
  CHECK(numel("small-lenet", {}) == 44'426);
  CHECK(numel("mlp", {}) == 64 * 128 + 128 + 128 * 128 + 128 + 1290);
  CHECK(numel("mlp", {.input = {2, 3, 1}, .width = 5}) == 6 * 5 + 5 + 5 * 5 + 5 + 5 * 10 + 10);
  CHECK(numel("mlp", {.width = 5, .batch_norm = true}) == numel("mlp", {.width = 5}) + 4 * 5);
  CHECK(numel("convnet", {}) == 6'274);
  CHECK(numel("convnet", {.batch_norm = false}) == 6'274 - 56);  // biases instead of scales and shifts
  CHECK(numel("convnet", {.input = {32, 32, 3}, .width = 2}) == 9 * (6 + 8 + 32) + 2 * 14 + 8 * 10 + 10);
  CHECK(numel("convnet1d", {}) == 5'210);
  for (const std::int64_t length :
       {3, 4, 5, 6, 11, 18, 19, 41})  // the linear layer fits what the convolutions leave
    CHECK_NOTHROW([&] {
      const ParameterStore any;
      models::make("convnet1d", any,
                   {.input = {1, length, 2}, .width = 2})(normal({2, 1, length, 2}, 1, float32));
    }());
  CHECK(numel("digits-mlp", {}) == numel("mlp", {}));
  CHECK(numel("narrow-resnet18", {}) == 2'800'010);
  CHECK(numel("narrow-resnet18", {.width = 8}) == 11'178'762);
  CHECK(numel("double-descent-resnet18", {.width = 4}) == 44'622);
  CHECK(numel("resnet18", {.width = 8}) == 176'402);
  CHECK(numel("small-lenet", {.input = {32, 32, 3}}) == 44'426 + 2 * 25 * 6 + (25 - 16) * 16 * 120);
  CHECK(numel("resnet18", {.input = {28, 28, 1}, .width = 8}) == 176'402 - 2 * 9 * 8);
  const ParameterStore params;
  models::make("resnet18", params, {.width = 2, .batch_norm = false, .skip = false});
  for (const auto& info : params.parameters()) {
    CHECK(info.name.find("bn") == std::string::npos);
    CHECK(info.name.find("shortcut") == std::string::npos);
  }
  CHECK(params.buffers().empty());
}

TEST_CASE("models: a wrong name lists the right ones, and an option out of place is a ValueError") {
  const ParameterStore params;
  CHECK_ERROR(models::make("resnet19", params), ValueError, "'resnet19'", "did you mean 'resnet18'",
              "resnet18, resnet50", "pyramidnet-272");
  CHECK_ERROR(models::make("mlp", params, {.skip = false}), ValueError, "no skip connections");
  CHECK_ERROR(models::make("convnet", params, {.skip = false}), ValueError, "no skip connections");
  CHECK_ERROR(models::make("convnet1d", params, {.batch_norm = true}), ValueError, "no batch norm");
  CHECK_ERROR(models::make("convnet1d", params, {.input = {2, 40, 1}}), ShapeError, "[2, 40, 1]");
  CHECK_ERROR(models::make("convnet1d", params, {.input = {1, 2, 1}}), ValueError, "three points");
  CHECK_ERROR(models::make("digits-mlp", params, {.input = {28, 28, 1}}), ShapeError, "64 pixels",
              "[28, 28, 1]");
  CHECK_ERROR(models::make("wrn-16-8", params, {.width = 3}), ValueError, "'wrn-16-8'", "takes no width");
  CHECK_ERROR(models::make("lenet", params, {.skip = false}), ValueError, "'lenet'");
  CHECK_ERROR(models::make("lenet", params, {.input = {28, 32, 1}}), ValueError, "square");
  CHECK_ERROR(models::make("lenet", params, {.input = {28, 28}}), ValueError, "[H, W, C]");
  CHECK_ERROR(models::make("resnet18", params, {.width = -1}), ValueError, "-1");
  CHECK_ERROR(models::make("resnet18", params, {.classes = 0}), ValueError, "linear");
}
