#include "lpf/ops/pad.hpp"

#include "fixture_case.hpp"

namespace lpf::test {
namespace {

const PadMode pad_modes[] = {PadMode::constant, PadMode::reflect, PadMode::replicate, PadMode::circular};

PadMode pad_mode_of(const std::string& name) {
  return name == "constant"    ? PadMode::constant
         : name == "reflect"   ? PadMode::reflect
         : name == "replicate" ? PadMode::replicate
                               : PadMode::circular;
}

TEST_CASE("pad: circular repeats what a negative size leaves, as PyTorch does") {
  const Tensor x = tensor({1.0, 2.0, 3.0});
  CHECK(holds(pad(x, {-1, 2}, {.mode = PadMode::circular}), {4}, {2, 3, 2, 3}));
  CHECK(holds(pad(x, {2, -1}, {.mode = PadMode::circular}), {4}, {1, 2, 1, 2}));
  CHECK(holds(pad(x, {-1, -1}, {.mode = PadMode::circular}), {1}, {2}));
}

TEST_CASE("pad: values of each mode") {
  const Tensor x = tensor({1.0, 2.0, 3.0, 4.0});
  CHECK(holds(pad(x, {2, 1}, {.value = 9}), {7}, {9, 9, 1, 2, 3, 4, 9}));
  CHECK(holds(pad(x, {2, 1}, {.mode = PadMode::reflect}), {7}, {3, 2, 1, 2, 3, 4, 3}));
  CHECK(holds(pad(x, {2, 1}, {.mode = PadMode::replicate}), {7}, {1, 1, 1, 2, 3, 4, 4}));
  CHECK(holds(pad(x, {2, 1}, {.mode = PadMode::circular}), {7}, {3, 4, 1, 2, 3, 4, 1}));
  // pairs count from the last axis
  CHECK(holds(pad(x.reshape({2, 2}), {1, 0, 0, 1}), {3, 3}, {0, 1, 2, 0, 3, 4, 0, 0, 0}));
  // the channels of an image stay as they are
  CHECK(pad(zeros({2, 5, 6, 3}), {0, 0, 1, 2, 3, 4}).shape() == Shape{2, 12, 9, 3});
  for (const PadMode mode : pad_modes) {
    CHECK(holds(pad(x, {}, {.mode = mode}), {4}, {1, 2, 3, 4}));
    CHECK(holds(pad(x, {-1, -2}, {.mode = mode}), {1}, {2}));
    CHECK(pad(zeros({0, 2}), {1, 1}, {.mode = mode}).shape() == Shape{0, 4});
    CHECK(pad(tensor<std::int32_t>({1, 2}), {1, 1}, {.mode = mode}).dtype() == int32);
    CHECK(pad(tensor({true, true}), {1, 1}, {.mode = mode}).dtype() == DType::bool_);
  }
  // what is removed after what is added was read from all of x
  CHECK(holds(pad(x, {-3, 3}, {.mode = PadMode::reflect}), {4}, {4, 3, 2, 1}));
  CHECK_ERROR(pad(x, {-4, 2}, {.mode = PadMode::circular}), ShapeError, "[pad]", "needs 2 elements",
              "shape [0]");
  CHECK(std::isnan(pad(x, {1, 0}, {.value = not_a_number}).to_vector()[0]));
}

TEST_CASE("pad: PyTorch's values") {
  const int cases = for_each_case("ops.safetensors", "pad", [](const FixtureCase& c) {
    const PadOptions options{.mode = pad_mode_of(c.hyper["mode"]), .value = c.hyper["value"]};
    check_case(c, {"x"}, [&](auto leaf) {
      return pad(leaf.at("x"), c.hyper["sizes"].get<std::vector<std::int64_t>>(), options);
    });
  });
  CHECK(cases == 35);
}

TEST_CASE("pad: derivatives and replicas") {
  for (const PadMode mode : pad_modes) {
    for (const auto& [shape, sizes] :
         std::vector<std::pair<Shape, std::vector<std::int64_t>>>{{{4}, {2, 3}},
                                                                  {{3, 4}, {1, 0, 2, 1}},
                                                                  {{3, 4}, {-1, 2, 1, -2}},
                                                                  {{2, 3, 3}, {0, 0, 2, 2}},
                                                                  {{0, 3}, {2, 1}}})
      check_derivatives(
          [&, &by = sizes](auto& v) { return pad(v[0] * v[0], by, {.mode = mode, .value = 2}); },
          {normal(shape)});
    check_maps_replicas(
        [&](const Tensor& w) {
          return pad(w, {1, 2, 1, 0}, {.mode = mode, .value = 3});
        },
        normal({2, 2, 3}));
  }
  check_derivatives(
      [](auto& v) {
        return pad(v[0], {2, 2}, {.mode = PadMode::replicate}) * pad(v[0], {3, 1});
      },
      {normal({1})});
}

TEST_CASE("pad: errors") {
  const Tensor x = zeros({2, 3});
  CHECK_ERROR(pad(x, {1}), ShapeError, "[pad]", "1 sizes", "pairs");
  CHECK_ERROR(pad(x, {1, 1, 1, 1, 1, 1}), ShapeError, "[pad]", "6 sizes", "[2, 3]");
  CHECK_ERROR(pad(x, {3, 0}, {.mode = PadMode::reflect}), ShapeError, "[pad]", "reflect", "(3, 0)",
              "4 elements", "[2, 3]");
  CHECK_ERROR(pad(x, {0, 4}, {.mode = PadMode::circular}), ShapeError, "[pad]", "circular", "4 elements");
  CHECK_ERROR(pad(zeros({2, 0}), {0, 1}, {.mode = PadMode::replicate}), ShapeError, "replicate",
              "1 elements");
  CHECK_ERROR(pad(x, {-2, -2}), ShapeError, "[pad]", "(-2, -2)", "axis 1", "[2, 3]");
  CHECK_ERROR(pad(x, {-4, 2}), ShapeError, "[pad]", "(-4, 2)");
  for (const std::int64_t huge : {INT64_MAX, std::int64_t{1} << 60}) {
    CHECK_ERROR(pad(x, {huge, 1}), ShapeError, "");
    CHECK_ERROR(pad(x, {1, huge}), ShapeError, "");
    CHECK_ERROR(pad(x, {1, 1, huge, huge}, {.mode = PadMode::replicate}), ShapeError, "");
  }
  CHECK_ERROR(pad(x, {INT64_MIN, 1}), ShapeError, "[pad]");
  CHECK_ERROR(pad(tensor<std::int32_t>({1}), {1, 1}, {.value = 0.5}), DTypeError, "[pad]", "0.5", "int32");
  CHECK_ERROR(pad(tensor<std::uint8_t>({1}), {1, 1}, {.value = 256}), DTypeError, "[pad]", "256", "uint8");
}

}  // namespace
}  // namespace lpf::test
