#include "lpf/core/shape.hpp"

#include "tensor_test.hpp"

using namespace lpf;

TEST_CASE("shapes") {
  const Shape s{2, 3, 4};
  CHECK(s.rank() == 3);
  CHECK(s.numel() == 24);
  CHECK(s[1] == 3);
  CHECK(s.to_string() == "[2, 3, 4]");
  CHECK(Shape{}.to_string() == "[]");
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{3, 0}.numel() == 0);
  CHECK(s.product(1, 3) == 12);
  CHECK(s.product(1, 1) == 1);
  CHECK(s.slice(1, 3) == Shape{3, 4});
  CHECK(s.slice(1, 1) == Shape{});
  CHECK(s.prepended(5) == Shape{5, 2, 3, 4});
  CHECK(s.with(1, 7) == Shape{2, 7, 4});
  CHECK(s.without(0) == Shape{3, 4});
  CHECK(s.strides()[0] == 12);
  CHECK(s.strides()[1] == 4);
  CHECK(s.strides()[2] == 1);
  CHECK(s != Shape{2, 3});
  CHECK(s != Shape{2, 3, 5});
  CHECK(Shape{2, 3} != s);
  CHECK(Shape{1} != Shape{});
  const std::vector<std::int64_t> sizes{4, 5};
  CHECK(Shape(std::span<const std::int64_t>(sizes)) == Shape{4, 5});
}

TEST_CASE("shapes: at most eight axes, no negative sizes, no overflow") {
  const Shape eight{1, 1, 1, 1, 1, 1, 1, 1};
  CHECK_ERROR(eight.prepended(1), ShapeError, "[shape]", "at most 8 axes");
  CHECK_ERROR(Shape({2, -1}), ShapeError, "[shape]", "negative", "-1");
  const std::int64_t large = std::int64_t{1} << 40;
  CHECK_ERROR(Shape({large, large}), ShapeError, "[shape]", "1099511627776", "2^60");
  CHECK_ERROR(Shape({large, 0, large}), ShapeError, "2^60");  // in any order of the sizes
  CHECK_ERROR(Shape({std::numeric_limits<std::int64_t>::max()}), ShapeError, "2^60");
  CHECK(Shape{large, 0}.numel() == 0);
  // nor by another size of an axis, or by broadcasting
  CHECK_ERROR(Shape({large, 1}).with(1, large), ShapeError, "[shape]", "1099511627776", "2^60");
  CHECK(Shape({large, 5}).with(0, 3) == Shape{3, 5});
  CHECK_ERROR(broadcast("op", {large, 1}, {1, large}), ShapeError, "[1099511627776, 1099511627776]", "2^60");
}

TEST_CASE("axes count from the end if negative") {
  CHECK(normalize_axis("op", 0, 3) == 0);
  CHECK(normalize_axis("op", -1, 3) == 2);
  CHECK(normalize_axis("op", -3, 3) == 0);
  CHECK_ERROR(normalize_axis("op", 3, 3), ShapeError, "[op]", "axis 3", "rank 3");
  CHECK_ERROR(normalize_axis("op", -4, 3), ShapeError, "[op]", "axis -4", "rank 3");
  CHECK_ERROR(normalize_axis("op", 0, 0), ShapeError, "[op]", "rank 0");
}

TEST_CASE("broadcasting follows NumPy") {
  const auto both = [](const Shape& a, const Shape& b) {
    CHECK(broadcast("op", a, b) == broadcast("op", b, a));
    return broadcast("op", a, b);
  };
  CHECK(both({}, {}) == Shape{});
  CHECK(both({}, {2, 3}) == Shape{2, 3});
  CHECK(both({3}, {2, 3}) == Shape{2, 3});
  CHECK(both({2, 1}, {1, 3}) == Shape{2, 3});
  CHECK(both({4, 1, 3}, {2, 1}) == Shape{4, 2, 3});
  CHECK(both({0}, {1}) == Shape{0});
  CHECK(both({2, 0}, {1, 1}) == Shape{2, 0});
  CHECK(both({0}, {0}) == Shape{0});
  CHECK_ERROR(broadcast("op", {2, 3}, {4, 3}), ShapeError, "[op]", "[2, 3]", "[4, 3]", "axis 0", "2 and 4");
  CHECK_ERROR(broadcast("op", {3}, {4, 2}), ShapeError, "axis 1", "2 and 3");
  CHECK_ERROR(broadcast("op", {0}, {2}), ShapeError, "axis 0", "0 and 2");
}
