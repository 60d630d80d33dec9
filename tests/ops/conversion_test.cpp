// Conversions between types, where the type that is converted to does not have the number.
#include <cstdint>
#include <limits>

#include "lpf/lpf.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

template <class T>
void check_conversion(DType from, const std::vector<double>& numbers, const std::vector<T>& expected) {
  INFO(name_of(from), " to ", name_of(dtype_of<T>()));
  // Contiguous, and strided on either side.
  const Tensor x = from_vector(numbers, {std::ssize(numbers)}).to(from);
  CHECK(x.to(dtype_of<T>()).template to_vector<T>() == expected);
  const Tensor twice = stack({x, x}, 1);
  CHECK(slice(twice, 1, 1, 2).reshape({x.numel()}).to(dtype_of<T>()).template to_vector<T>() == expected);
  const Tensor y = zeros({x.numel()}, {dtype_of<T>()});
  y.copy_(x.to(dtype_of<T>()));
  CHECK(y.template to_vector<T>() == expected);
}

}  // namespace

TEST_CASE("floating numbers become the nearest integer that the type has towards 0, NaN becomes 0") {
  using I64 = std::numeric_limits<std::int64_t>;
  using I32 = std::numeric_limits<std::int32_t>;
  const std::vector<double> x = {0,       -0.0, 0.9,   -0.9,     1.5,       -1.5,        254.5,   255,
                                 256,     1e10, -1e10, 0x1p31,   -0x1p31,   0x1p62,      -0x1p62, 0x1p63,
                                 -0x1p63, 1e30, -1e30, infinity, -infinity, not_a_number};
  for (const DType from : {float32, float64}) {
    check_conversion<std::int64_t>(from, x,
                                   {0,
                                    0,
                                    0,
                                    0,
                                    1,
                                    -1,
                                    254,
                                    255,
                                    256,
                                    10000000000,
                                    -10000000000,
                                    std::int64_t{1} << 31,
                                    -(std::int64_t{1} << 31),
                                    std::int64_t{1} << 62,
                                    -(std::int64_t{1} << 62),
                                    I64::max(),
                                    I64::min(),
                                    I64::max(),
                                    I64::min(),
                                    I64::max(),
                                    I64::min(),
                                    0});
    check_conversion<std::int32_t>(
        from, x,
        {0,          0,          0,          0,          1,          -1,         254,        255,
         256,        I32::max(), I32::min(), I32::max(), I32::min(), I32::max(), I32::min(), I32::max(),
         I32::min(), I32::max(), I32::min(), I32::max(), I32::min(), 0});
    check_conversion<std::uint8_t>(
        from, x, {0, 0, 0, 0, 1, 0, 254, 255, 255, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 0});
  }
  const auto truth = from_vector<double>({0, -0.0, 5e-324, infinity, not_a_number}, {5}).to(DType::bool_);
  CHECK(truth.to(int32).to_vector<std::int32_t>() == std::vector<std::int32_t>{0, 0, 1, 1, 1});
  // the largest numbers below the limits
  CHECK(tensor({0x1.fffffffffffffp62, -0x1.fffffffffffffp62}).to(int64).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{9223372036854774784, -9223372036854774784});
  CHECK(tensor({2147483647.9, -2147483648.9}).to(int32).to_vector<std::int32_t>() ==
        std::vector<std::int32_t>{2147483647, -2147483647 - 1});
}

TEST_CASE("a number that fills a tensor wraps if it is whole, and is never undefined") {
  CHECK(full({1}, -1, {uint8}).item<int>() == 255);
  CHECK(full({1}, 257, {uint8}).item<int>() == 1);
  CHECK(full({1}, not_a_number, {int64}).item<std::int64_t>() == 0);
  CHECK(full({1}, infinity, {int64}).item<std::int64_t>() == std::numeric_limits<std::int64_t>::max());
  CHECK(full({1}, -1e30, {int64}).item<std::int64_t>() == std::numeric_limits<std::int64_t>::min());
  CHECK(full({1}, not_a_number, {DType::bool_}).item<bool>());
}

TEST_CASE("integers wrap in sums, products and by themselves") {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max(),
                     least = std::numeric_limits<std::int64_t>::min();
  const Tensor x = from_vector<std::int64_t>({most, 1, 1}, {3});
  CHECK(sum(x).item<std::int64_t>() == least + 1);
  CHECK(prod(from_vector<std::int64_t>({most, 2}, {2}), 0).item<std::int64_t>() == -2);
  CHECK((-from_vector<std::int64_t>({least}, {1})).item<std::int64_t>() == least);
  CHECK((x + x)[0].item<std::int64_t>() == -2);
  CHECK((x * 2.0)[0].item<std::int64_t>() == -2);
  CHECK(sum(from_vector(std::vector<std::int64_t>(4100, most), {4100})).item<std::int64_t>() == -4100);
  CHECK(sum(from_vector(std::vector<std::int64_t>(600, most), {300, 2}), {0})[1].item<std::int64_t>() ==
        -300);
  CHECK(detail::scatter_add(from_vector<std::int64_t>({most, 1}, {2, 1}), {1, 1}, 0,
                            integers({2, 1}, [](auto) { return 0; }))
            .item<std::int64_t>() == least);
  // |least| is not a number of the type
  CHECK(detail::unary(backend::Unary::absolute, from_vector<std::int64_t>({least, -3}, {2}))
            .to_vector<std::int64_t>() == std::vector<std::int64_t>{least, 3});
  CHECK_ERROR(remainder(x, zeros({3}, {int64})), ValueError, "[remainder]", "by 0");
  CHECK(remainder(from_vector<std::int64_t>({least}, {1}), full({1}, -1, {int64})).item<std::int64_t>() == 0);
}
