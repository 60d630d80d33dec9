// The safetensors reader and writer: round trips, and no broken file does more than throw.
#include "lpf/io/safetensors.hpp"

#include <cmath>
#include <fstream>

#include "lpf/core/philox.hpp"
#include "tensor_test.hpp"

using namespace lpf;

namespace {

/// A file with this header text and `data` bytes of zeros.
std::string file_with(const std::string& header, std::size_t data) {
  std::string out(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(header.size() >> (8 * i));
  return out + header + std::string(data, '\0');
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

/// The message of the FormatError for these bytes.
std::string message(const std::string& bytes) {
  try {
    parse_safetensors(bytes, "x.safetensors");
  } catch (const FormatError& e) { return e.what(); }
  return "no FormatError";
}

bool mentions(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

NamedTensors examples() {
  const std::uint8_t bytes[] = {0, 127, 255};
  const bool truths[] = {true, false, true};
  return {{"layer.weight", from_vector<float>({1.5f, -2, INFINITY, 0}, {2, 2})},
          {"bytes", from_span(std::span<const std::uint8_t>(bytes), {3})},
          {"truths", from_span(std::span<const bool>(truths), {3, 1})},
          {"double", tensor({0.1, -1e300})},
          {"int", tensor<std::int32_t>({-1, 2})},
          {"scalar", full({}, 7, {.dtype = int64})},
          {"none", empty({0, 3})},
          {"naïve ✓", tensor({3.f})}};
}

void check_same(const Tensor& a, const Tensor& b) {
  CHECK(a.dtype() == b.dtype());
  CHECK(a.shape() == b.shape());
  CHECK(std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.numel()) * size_of(a.dtype())) == 0);
}

}  // namespace

TEST_CASE("safetensors: what is saved is loaded") {
  const test::TempDir dir;
  const auto path = dir / "a.safetensors";
  const Metadata metadata{{"format", "pt"}, {"note", "γ = 0.05"}};
  save_safetensors(path.string(), examples(), metadata);
  const SafetensorsFile file = load_safetensors(path.string());
  CHECK(file.metadata() == metadata);
  CHECK(file.size() == examples().size());
  for (const auto& item : examples()) {
    INFO(item.first);
    REQUIRE(file.contains(item.first));
    check_same(file.at(item.first), item.second);
  }
  CHECK(!file.contains("other"));
  // wide elements first, otherwise in the given order
  CHECK(file.items().front().first == "double");
  CHECK(file.items().back().first == "truths");

  std::ifstream stream(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  CHECK(bytes == serialize_safetensors(examples(), metadata));
  CHECK(bytes[0] % 8 == 0);  // so that the data, which are sorted by size, are aligned in the file
  CHECK(parse_safetensors(bytes).size() == file.size());
  CHECK(parse_safetensors(serialize_safetensors({})).size() == 0);
}

TEST_CASE("safetensors: a file that PyTorch's side wrote") {
  const SafetensorsFile file = load_safetensors(test::fixture("losses.safetensors").string());
  CHECK(file.size() > 0);
  CHECK(file.metadata().contains("torch"));
  for (const auto& [name, t] : file) CHECK(file.at(name).is_same(t));
}

TEST_CASE("safetensors: an unknown name lists names like it") {
  const SafetensorsFile file = parse_safetensors(serialize_safetensors(examples()), "model.safetensors");
  try {
    file.at("layer.wieght");
    FAIL("no error");
  } catch (const ValueError& e) {
    mentions(e.what(),
             "'model.safetensors' has no tensor 'layer.wieght' among its 8; did you mean 'layer.weight'?");
  }
  CHECK_THROWS_AS(file.at(""), ValueError);
  CHECK_THROWS_AS(file.at(std::string(100000, 'x')), ValueError);
}

TEST_CASE("safetensors: half precision becomes float32") {
  const std::uint16_t half[] = {0x0000, 0x8000, 0x3C00, 0xC000, 0x7BFF,
                                0x0001, 0x03FF, 0x7C00, 0xFC00, 0x7E00};
  const float value[] = {0, -0.f, 1, -2, 65504, 0x1p-24f, 1023 * 0x1p-24f, INFINITY, -INFINITY, NAN};
  std::string bytes = file_with(entry("F16", "[10]", "[0,20]"), 0);
  bytes.append(reinterpret_cast<const char*>(half), 20);
  const auto read = parse_safetensors(bytes).at("w").to_vector<float>();
  for (std::size_t i = 0; i < 9; ++i) {
    CHECK(read[i] == value[i]);
    CHECK(std::signbit(read[i]) == std::signbit(value[i]));
  }
  CHECK(std::isnan(read[9]));

  const std::uint16_t brain[] = {0x3F80, 0xC0A0, 0x7F80};
  bytes = file_with(entry("BF16", "[3]", "[0,6]"), 0);
  bytes.append(reinterpret_cast<const char*>(brain), 6);
  CHECK(parse_safetensors(bytes).at("w").to_vector<float>() == std::vector<float>{1, -5, INFINITY});
}

TEST_CASE("safetensors: integers that tensors lack become the smallest that has all their values") {
  const auto check = [](const std::string& type, std::size_t size, DType dtype, const std::string& bytes,
                        const std::vector<double>& values) {
    CAPTURE(type);
    const Tensor x =
        parse_safetensors(file_with(entry(type, "[2]", concat("[0,", 2 * size, "]")), 0) + bytes).at("w");
    CHECK(x.dtype() == dtype);
    CHECK(x.to_vector() == values);
  };
  check("I8", 1, int32, std::string("\x80\x7f", 2), {-128, 127});
  check("I16", 2, int32, std::string("\x00\x80\x02\x01", 4), {-32768, 258});
  check("U16", 2, int32, std::string("\xff\xff\x02\x01", 4), {65535, 258});
  check("U32", 4, int64, std::string("\xff\xff\xff\xff\x02\x01\0\0", 8), {4294967295.0, 258});
  check("U64", 8, int64, std::string("\2\1\0\0\0\0\0\0\0\0\0\0\0\0\x10\0", 16), {258, 0x1p52});
}

TEST_CASE(
    "safetensors: a tensor that cannot be read is an error where it is asked for, the others are read") {
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("b":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[4,7]},)"
                             R"("c":{"dtype":"Q7","shape":[5],"data_offsets":[7,8]},)"
                             R"("d":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[8,9]},)"
                             R"("e":{"dtype":"U8","shape":[2],"data_offsets":[9,11]}})";
  const SafetensorsFile file = parse_safetensors(file_with(header, 11), "x.safetensors");
  CHECK(file.size() == 2);
  CHECK(file.at("a").item<float>() == 0);
  CHECK(file.at("e").shape() == Shape{2});
  CHECK(file.unreadable().size() == 3);
  CHECK(file.contains("b"));
  CHECK_ERROR(file.at("b"), DTypeError, "'x.safetensors'", "'b'", "F8_E4M3", "convert it to F32");
  CHECK_ERROR(file.at("c"), DTypeError, "'c'", "Q7");
  CHECK_ERROR(file.at("d"), DTypeError, "'d'", "9 axes");
}

TEST_CASE("safetensors: each broken rule is an error that names it") {
  CHECK(parse_safetensors(file_with(entry("F32", "[1]", "[0,4]") + "  ", 4)).size() == 1);
  mentions(message("1234567"), "'x.safetensors' has 7 bytes");
  mentions(message(std::string(8, '\xff')), "header would be 18446744073709551615 bytes");
  mentions(message(file_with("", 0)), "must begin with '{'");
  mentions(message(file_with(" {}", 0)), "must begin with '{'");
  mentions(message(file_with("{", 0)), "not valid JSON");
  mentions(message(file_with("{} x", 0)), "not valid JSON");
  mentions(message(file_with(std::string("{}\0garbage", 10), 0)), "zero byte at 2");
  mentions(message(file_with(entry("F32", "[1]", "[0,4]") + '\0', 4)), "zero byte");
  mentions(message(file_with("{\"\xff\":{}}", 0)), "not valid JSON");
  mentions(message(file_with("{}", 3)), "end at byte 0 of the data, the file has 3");
  mentions(message(file_with(R"({"w":1})", 0)), "tensor 'w': must be an object, is a number");
  mentions(message(file_with(R"({"w":{}})", 0)), "needs a string 'dtype'");
  mentions(message(file_with(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", 4)), "needs an array 'shape'");
  mentions(message(file_with(R"({"w":{"dtype":"F32","shape":[1]}})", 4)), "needs an array 'data_offsets'");
  mentions(message(file_with(R"({"w":{"dtype":"F32","shape":[1],"offsets":[0,4]}})", 4)),
           "has a key 'offsets'");
  mentions(message(file_with(entry("F32", "[-1]", "[0,4]"), 4)), "has -1");
  mentions(message(file_with(entry("F32", "[1.5]", "[0,4]"), 4)), "has 1.5");
  mentions(message(file_with(entry("F32", "[\"1\"]", "[0,4]"), 4)), "'shape' must hold integers");
  mentions(message(file_with(entry("F32", "[18446744073709551616]", "[0,4]"), 4)),
           "'shape' must hold integers");
  mentions(message(file_with(entry("F32", "[9223372036854775808]", "[0,4]"), 4)),
           "'shape' must hold integers");
  mentions(message(file_with(entry("F32", "[4611686018427387904,4]", "[0,0]"), 0)), "more elements than");
  mentions(message(file_with(entry("F32", "[0,4611686018427387904,4]", "[0,0]"), 0)), "more elements than");
  mentions(message(file_with(entry("U8", "[4294967296,2147483648]", "[0,0]"), 0)), "more elements than");
  mentions(message(file_with(entry("F32", "[2]", "[0,4]"), 4)),
           "F32 of shape [2] takes 8 bytes, data_offsets [0, 4]");
  mentions(message(file_with(entry("F32", "[1]", "[0,8]"), 8)), "takes 4 bytes, data_offsets [0, 8] hold 8");
  mentions(message(file_with(entry("F32", "[1]", "[4,0]"), 4)), "begin <= end");
  mentions(message(file_with(entry("F32", "[1]", "[0,4,8]"), 8)), "must be [begin, end]");
  mentions(message(file_with(entry("F32", "[1]", "[0,4]"), 3)), "end at byte 4 of the data, the file has 3");
  mentions(message(file_with(entry("F32", "[1]", "[0,4]"), 5)),
           "the file has 5: it has bytes that belong to none");
  mentions(message(file_with(entry("F32", "[1]", "[4,8]"), 8)), "must begin at 0");
  mentions(message(file_with(entry("F32", "[1]", "[9223372036854775803,9223372036854775807]"), 4)),
           "must begin at 0");
  mentions(message(file_with(entry("BOOL", "[1]", "[0,1]"), 0) + '\2'),
           "element 0 of type bool must be 0 or 1, is 2");

  const std::string a = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)";
  mentions(message(file_with(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", 8)),
           "tensor 'b': its data must begin at 8");
  mentions(message(file_with(a + R"("b":{"dtype":"U8","shape":[4],"data_offsets":[12,16]}})", 16)),
           "tensor 'b': its data must begin at 8");
  mentions(message(file_with(a + R"("a":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}})", 12)),
           "'a' occurs twice");
  mentions(message(file_with(R"({"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4)),
           "'shape' occurs twice");
  mentions(message(file_with(R"({"__metadata__":{"a":1}})", 0)),
           "__metadata__ 'a' must be a string, is a number");
  mentions(message(file_with(R"({"__metadata__":[]})", 0)), "__metadata__ must be an object, is a array");
  mentions(message(file_with("{\"w\":" + std::string(1000000, '['), 0)), "deeper");

  mentions(message(file_with(entry("F8_E4M3", "[4]", "[0,4]"), 5)), "bytes that belong to none");
  mentions(message(file_with(entry("U64", "[1]", "[0,8]"), 0) + std::string(8, '\xff')),
           "element 0 of type uint64 is 18446744073709551615");
  CHECK_THROWS_AS(load_safetensors("/no/such/file"), IOError);
  CHECK_THROWS_AS(load_safetensors("/"), IOError);
}

TEST_CASE("safetensors: what cannot be saved leaves the old file") {
  const test::TempDir dir;
  const std::string path = (dir / "a.safetensors").string();
  save_safetensors(path, {{"a", tensor({1.f})}});
  CHECK_THROWS_AS(save_safetensors(path, {{"a", tensor({2.f})}, {"a", tensor({2.f})}}), ValueError);
  CHECK_THROWS_AS(save_safetensors(path, {{"__metadata__", tensor({2.f})}}), ValueError);
  CHECK_THROWS_AS(save_safetensors(path, {{"a", Tensor()}}), ValueError);
  CHECK_THROWS_AS(save_safetensors(path, {{"\xff", tensor({2.f})}}), ValueError);
  CHECK_THROWS_AS(save_safetensors(path, {{"a", tensor({2.f})}}, {{"k", "\xff"}}), ValueError);
  CHECK_THROWS_AS(save_safetensors((dir / "no/such.safetensors").string(), {}), IOError);
  CHECK(load_safetensors(path).at("a").item<float>() == 1);
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);
}

TEST_CASE("safetensors: truncated anywhere or longer, a file is refused") {
  const std::string whole = serialize_safetensors(examples(), {{"a", "b"}});
  for (std::size_t n = 0; n < whole.size(); ++n) {
    // A copy of exact size, so that the address sanitizer detects every read past its end.
    const std::vector<char> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK_THROWS_AS(parse_safetensors({part.data(), part.size()}), FormatError);
  }
  CHECK_THROWS_AS(parse_safetensors(whole + '\0'), FormatError);
}

TEST_CASE("safetensors: bytes changed at random never do worse than throw") {
  const std::string whole = serialize_safetensors(examples(), {{"a", "b"}});
  const std::size_t header =
      8 + static_cast<unsigned char>(whole[0]) + 256u * static_cast<unsigned char>(whole[1]);
  int refused = 0;
  for (std::uint32_t round = 0; round < 20000; ++round) {
    const NoiseKey key{.seed = 1, .draw = round};
    std::string bytes = whole;
    const std::int64_t changes = 1 + uniform_below_at(key, 0, 4);
    for (std::int64_t i = 1; i <= changes; ++i) {
      const auto at =
          static_cast<std::size_t>(uniform_below_at(key, 3 * i, static_cast<std::int64_t>(header)));
      // half of the changes are to characters with a meaning
      bytes[at] = uniform_below_at(key, 3 * i + 1, 2) == 0
                      ? static_cast<char>(uniform_below_at(key, 3 * i + 2, 256))
                      : "0123456789[]{},:\"-"[uniform_below_at(key, 3 * i + 2, 18)];
    }
    try {
      for (const auto& [name, t] : parse_safetensors(bytes)) CHECK(t.numel() <= 100);
    } catch (const FormatError&) { ++refused; } catch (const DTypeError&) {
      ++refused;
    }
  }
  CHECK(refused > 10000);
}
