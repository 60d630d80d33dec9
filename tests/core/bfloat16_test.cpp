#include "lpf/core/bfloat16.hpp"

#include <cmath>

#include "lpf/io/npy.hpp"
#include "lpf/io/safetensors.hpp"
#include "lpf/lpf.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

BFloat16 of_bits(std::uint32_t bits) {
  BFloat16 x;
  x.bits = static_cast<std::uint16_t>(bits);
  return x;
}

/// v rounded to 8 significant bits (fewer below 2^-126), ties to even, computed in double.
double reference(double v) {
  if (v == 0 || !std::isfinite(v)) return v;
  const double ulp = std::ldexp(1.0, std::max(std::ilogb(v), -126) - 7);
  const double r = std::nearbyint(v / ulp) * ulp;
  return std::abs(r) < 0x1p128 ? r : std::copysign(infinity, v);
}

bool same(double a, double b) {
  return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b);
}

const std::vector<DType> all_dtypes = {DType::bool_, uint8, int32, int64, float32, float64, bfloat16};

}  // namespace

TEST_CASE("bfloat16: every value is its own, as float and as double") {
  std::int64_t wrong = 0;
  for (std::uint32_t b = 0; b < 1u << 16; ++b) {
    const BFloat16 x = of_bits(b);
    const float wide = x;
    if (std::isnan(wide)) {
      wrong += !std::isnan(static_cast<float>(BFloat16(wide)));
      wrong += !std::isnan(static_cast<float>(BFloat16(static_cast<double>(wide))));
      wrong += std::signbit(wide) != std::signbit(static_cast<float>(BFloat16(wide)));
    } else {
      wrong += BFloat16(wide).bits != b;
      wrong += BFloat16(static_cast<double>(wide)).bits != b;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("bfloat16: float is rounded to the nearest, ties to even") {
  std::int64_t wrong = 0;
  for (std::uint32_t high = 0; high < 1u << 16; ++high)
    for (const std::uint32_t low : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const auto v = std::bit_cast<float>(high << 16 | low);
      wrong += !same(static_cast<double>(BFloat16(v)), reference(static_cast<double>(v)));
    }
  CHECK(wrong == 0);
  CHECK(static_cast<float>(BFloat16(1.00390625f)) == 1.0f);       // 1 + half an ulp, to even
  CHECK(static_cast<float>(BFloat16(1.01171875f)) == 1.015625f);  // 1 + 3 halves
  CHECK(static_cast<float>(BFloat16(3.4e38f)) == infinity);
}

TEST_CASE("bfloat16: double is rounded once, not by way of float") {
  std::int64_t wrong = 0;
  for (std::uint32_t b = 0; b < 0x7F80u; ++b) {  // the finite ones from 0 up
    const auto low = static_cast<double>(of_bits(b)),
               high = b == 0x7F7Fu ? 0x1p128 : static_cast<double>(of_bits(b + 1));
    const double middle = (low + high) / 2;
    for (const double v : {middle, std::nextafter(middle, 0.0), std::nextafter(middle, infinity)})
      for (const double sign : {1.0, -1.0})
        wrong += !same(static_cast<double>(BFloat16(sign * v)), reference(sign * v));
  }
  CHECK(wrong == 0);
  for (const double v : {1e-300, -1e-300, 1e300, -1e300, infinity, -infinity, 0x1p-134, 0x1.8p-134})
    CHECK(same(static_cast<double>(BFloat16(v)), reference(v)));
  CHECK(std::isnan(static_cast<float>(BFloat16(not_a_number))));
}

TEST_CASE("bfloat16: tensors of it are stored, converted, filled and printed on the CPU") {
  const Tensor x = tensor({1.0, -2.5, 1.00390625, 300.7}).to(bfloat16);
  CHECK(x.dtype() == bfloat16);
  CHECK(size_of(bfloat16) == 2);
  CHECK(holds(x.to(float64), {4}, {1, -2.5, 1, 300}));
  CHECK(x.data<BFloat16>()[1] == -2.5f);
  CHECK(x.to_vector<float>()[3] == 300.f);
  CHECK(x[1].item() == -2.5);
  CHECK(holds(full({3}, 0.1, {bfloat16}).to(float64), {3}, {0.10009765625, 0.10009765625, 0.10009765625}));
  CHECK(holds(zeros({2}, {bfloat16}).to(float32), {2}, {0, 0}));
  CHECK(from_vector<BFloat16>({BFloat16(2.0f)}, {1}).dtype() == bfloat16);
  CHECK(tensor({1.5f, 2.0f}).to(bfloat16).to_string() == "tensor([1.5000, 2.0000], dtype=bfloat16)");
  const Tensor m = normal({3, 4}, 1).to(bfloat16), wide = m.to(float64);
  CHECK(same_bits(m.transpose().to(float64), wide.transpose()));
  CHECK(same_bits(concatenate({m, m}, 1).to(float64), concatenate({wide, wide}, 1)));
  CHECK(same_bits(m.slice(1, 0, 4, 2).to(float64), wide.slice(1, 0, 4, 2)));
  CHECK(same_bits(m.clone(), m));
  Tensor y = zeros({3, 4}, {float32});
  y.copy_(m);
  CHECK(same_bits(y.to(float64), wide));
}

TEST_CASE("bfloat16: conversions from and to every type") {
  const Tensor values = tensor({0.0, 1.0, 2.0, 3.0, 100.0});
  for (const DType type : all_dtypes) {
    INFO(name_of(type));
    const Tensor there = values.to(type);
    CHECK(same_bits(there.to(bfloat16).to(float64), there.to(float64)));
    CHECK(same_bits(values.to(bfloat16).to(type), there));
  }
  CHECK(holds(tensor<std::int64_t>({257, 259, -1000001}).to(bfloat16).to(float64), {3}, {256, 260, -999424}));
  CHECK(tensor({1e300}).to(bfloat16).item() == infinity);
}

TEST_CASE("bfloat16: arithmetic on the CPU is refused, and says what to do") {
  const Tensor x = normal({4, 4}, 1).to(bfloat16), image = normal({1, 4, 4, 1}, 1).to(bfloat16);
  const auto refused = [](const auto& f) { CHECK_ERROR(f(), DTypeError, "bfloat16", ".to(float32)"); };
  refused([&] { return add(x, x); });
  refused([&] { return affine(x, 2, 0); });
  refused([&] { return exp(x); });
  refused([&] { return relu(x); });
  refused([&] { return x > 0.0; });
  refused([&] { return where(full({}, 1, {DType::bool_}), x, x); });
  refused([&] { return sum(x); });
  refused([&] { return argmax(x, 1); });
  refused([&] { return matmul(x, x); });
  refused([&] { return linear(x, x); });
  refused([&] { return conv2d(image, normal({2, 3, 3, 1}, 1).to(bfloat16)); });
  refused([&] { return max_pool2d(image, 2); });
  refused([&] { return avg_pool2d(image, 2); });
  refused([&] { return softmax(x); });
  refused([&] { return cross_entropy(x, zeros({4}, {int64})); });
  refused([&] { return layer_norm(x, Tensor(), Tensor()); });
  refused([&] { return batch_norm_train(x, {}, {}, {0, 4}).y; });
  refused([&] { return dropout(x, 0.5, {}); });
  refused([&] { return x.backend().dot(bfloat16, 4, x.raw(), x.raw()); });
  CHECK_ERROR(ParameterStore({.dtype = bfloat16}), DTypeError, "float32 or float64", "bfloat16");
}

TEST_CASE("bfloat16: files") {
  const Tensor x = tensor({1.5, -3.0}).to(bfloat16);
  const std::string bytes = serialize_safetensors({{"x", x}});
  CHECK(bytes.find("\"BF16\"") != std::string::npos);
  const auto file = parse_safetensors(bytes);
  CHECK(same_bits(file.at("x"), x.to(float32)));
  CHECK_ERROR(save_npy("unused.npy", x), DTypeError, "bfloat16", ".to(float32)");
}
