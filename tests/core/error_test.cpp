#include "lpf/core/error.hpp"

#include "lpf/core/dtype.hpp"
#include "lpf/core/shape.hpp"
#include "tensor_test.hpp"

using namespace lpf;

TEST_CASE("concat writes numbers, text, and whatever prints itself") {
  CHECK(concat() == "");
  CHECK(concat("a", std::string("b"), std::string_view("c"), 'd') == "abcd");
  CHECK(concat(1, " ", -2L, " ", std::size_t{3}, " ", std::uint8_t{4}) == "1 -2 3 4");
  CHECK(concat(0.5, " ", 1e-10, " ", 2.0f, " ", true, " ", false) == "0.5 1e-10 2 true false");
  CHECK(concat(Shape{2, 3}) == "[2, 3]");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(concat(nan, " ", std::copysign(nan, -1.0)) == "nan nan");
}

TEST_CASE("errors: the operation in brackets, then the rest; every type is an lpf::Error") {
  CHECK_ERROR(fail("linear", "input has ", 12, " features"), ValueError, "[linear] input has 12 features");
  CHECK_ERROR(fail<ShapeError>("op", "x"), ShapeError, "[op] x");
  CHECK_ERROR(fail<DTypeError>("op", "x"), Error, "[op] x");
  CHECK_ERROR(fail<DeviceError>("op", "x"), Error, "[op] x");
  CHECK_ERROR(fail<IndexError>("op", "x"), Error, "[op] x");
  CHECK_ERROR(fail<StateError>("op", "x"), Error, "[op] x");
  CHECK_ERROR(fail<NumericError>("op", "x"), Error, "[op] x");
  CHECK_ERROR(fail<ReplicaError>("op", "x"), Error, "[op] x");
  CHECK_ERROR(fail<IOError>("op", "x"), Error, "[op] x");
  CHECK_ERROR(fail<FormatError>("op", "x"), std::runtime_error, "[op] x");
  CHECK_NOTHROW(check(true, "op", "never"));
  CHECK_ERROR(check<ShapeError>(false, "op", "rule ", 3), ShapeError, "[op] rule 3");
}

TEST_CASE("dtypes") {
  CHECK(size_of(DType::bool_) == 1);
  CHECK(size_of(uint8) == 1);
  CHECK(size_of(int32) == 4);
  CHECK(size_of(float32) == 4);
  CHECK(size_of(int64) == 8);
  CHECK(size_of(float64) == 8);
  CHECK(std::string(name_of(float32)) == "float32");
  CHECK(std::string(name_of(DType::bool_)) == "bool");
  CHECK(is_floating(float32));
  CHECK(is_floating(float64));
  CHECK_FALSE(is_floating(int64));
  CHECK(dtype_of<const float>() == float32);
  CHECK(dtype_of<long>() == (sizeof(long) == 8 ? int64 : int32));
  CHECK(dtype_of<long long>() == int64);
  CHECK(dtype_of<int>() == int32);
  for (const DType t : {DType::bool_, uint8, int32, int64, float32, float64})
    CHECK(visit(t, [](auto zero) { return dtype_of<decltype(zero)>(); }) == t);
  CHECK_ERROR(visit_floating("op", int32, [](auto) { return 0; }), DTypeError, "[op]", "int32",
              ".to(float32)");
}
