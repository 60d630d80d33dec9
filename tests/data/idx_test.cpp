// The IDX reader, and MNIST from a folder: round trips, and errors for broken files.
#include "lpf/data/sets/idx.hpp"

#include <cstdlib>

#include "files.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// An IDX file of this type with these sizes and data.
std::string idx(char type, const std::vector<std::uint32_t>& sizes, const std::string& data) {
  std::string out{'\0', '\0', type, static_cast<char>(sizes.size())};
  for (const auto n : sizes)
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(n >> shift);
  return out + data;
}

/// The message of the FormatError that f() throws.
template <class F>
std::string message(F f) {
  try {
    f();
  } catch (const FormatError& e) { return e.what(); }
  return "no FormatError";
}

void mentions(const std::string& text, const std::string& part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

void refused(const std::string& bytes, const std::string& part) {
  mentions(message([&] { parse_idx(bytes, "x-ubyte"); }), part);
}

const std::string images = idx(8, {3, 2, 2}, {0, 1, 2, 3, '\xff', 5, 6, 7, 8, 9, 10, 11});
const std::string labels = idx(8, {3}, {7, 0, 9});

}  // namespace

TEST_CASE("idx: every type, big endian") {
  const Tensor bytes = parse_idx(images);
  CHECK(bytes.dtype() == uint8);
  CHECK(bytes.shape() == Shape{3, 2, 2});
  CHECK(bytes.to_vector<int>() == std::vector<int>{0, 1, 2, 3, 255, 5, 6, 7, 8, 9, 10, 11});
  const Tensor small = parse_idx(idx(9, {2}, {'\xff', 5}));
  CHECK(small.dtype() == int32);
  CHECK(small.to_vector<int>() == std::vector<int>{-1, 5});
  CHECK(parse_idx(idx(11, {2}, {'\xff', '\xfe', 1, 0})).to_vector<int>() == std::vector<int>{-2, 256});
  CHECK(parse_idx(idx(12, {1}, {1, 2, 3, 4})).to_vector<int>() == std::vector<int>{0x01020304});
  const Tensor real = parse_idx(idx(13, {1}, {'\x3f', '\x80', 0, 0}));
  CHECK(real.dtype() == float32);
  CHECK(real.to_vector<float>() == std::vector<float>{1});
  const Tensor wide = parse_idx(idx(14, {1, 1}, {'\xc0', 0, 0, 0, 0, 0, 0, 0}));
  CHECK(wide.dtype() == float64);
  CHECK(wide.to_vector<double>() == std::vector<double>{-2});
  CHECK(parse_idx(idx(8, {0, 28, 28}, "")).shape() == Shape{0, 28, 28});
}

TEST_CASE("idx: each broken rule is an error that names it") {
  for (std::size_t n = 0; n < images.size(); ++n) {
    const std::vector<char> part(images.begin(), images.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK_THROWS_AS(parse_idx({part.data(), part.size()}), FormatError);
  }
  refused("abc", "'x-ubyte' has 3 bytes");
  refused("PK\3\4", "first bytes are 80 75, not 0 0");
  refused(idx(7, {1}, "a"), "unknown type of elements 7");
  refused(idx(8, std::vector<std::uint32_t>(9, 1), "a"), "has 9 axes");
  refused(idx(8, {3, 2, 2}, "").substr(0, 15), "the header has 16 bytes, the file 15");
  refused(
      images.substr(0, images.size() - 1),
      "shape [3, 2, 2] takes 12 bytes after the header, the file has 11: it is truncated, in record 2 of 3");
  refused(idx(8, {}, ""), "takes 1 bytes after the header, the file has 0: it is truncated");
  refused(images + "x", "the file has 13: it is too long");
  refused(idx(8, {0}, "x"), "it is too long");
  refused(idx(14, {0xFFFFFFFF, 0xFFFFFFFF}, ""), "more elements than");
  refused(idx(8, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0}, ""), "more elements than");
  refused(idx(8, {0xFFFFFFFF, 0x7FFFFF}, ""), "it is truncated");
  CHECK_THROWS_AS(read_idx("/no/such/file"), IOError);
}

TEST_CASE("idx: MNIST from a folder") {
  const test::TempDir dir;
  const std::string folder = dir.path().string();
  write(dir / "train-images-idx3-ubyte", images);
  write(dir / "train-labels-idx1-ubyte", labels);
  const TensorDataset data = mnist(folder, Split::train);
  CHECK(data.images.shape() == Shape{3, 2, 2, 1});
  CHECK(data.images.data<float>()[4] == 1);
  CHECK(data.images.data<float>()[3] == static_cast<float>(3 / 255.0));
  CHECK(data.labels.to_vector<std::int64_t>() == std::vector<std::int64_t>{7, 0, 9});
  CHECK(data.classes() == 10);
  CHECK(mnist(folder, Split::train, {.flat = true}).images.shape() == Shape{3, 4});
  const Tensor normal = mnist(folder, Split::train, {.dtype = float64, .normalize = true}).images;
  CHECK(normal.data<double>()[4] == doctest::Approx((1 - .1307) / .3081).epsilon(1e-15));
  const Tensor raw = mnist(folder, Split::train, {.dtype = uint8}).images;
  CHECK(raw.shape() == Shape{3, 2, 2, 1});
  CHECK(raw.data<std::uint8_t>()[4] == 255);
  CHECK_THROWS_AS(mnist(folder, Split::train, {.dtype = uint8, .normalize = true}), DTypeError);
  CHECK_THROWS_AS(mnist(folder, Split::train, {.dtype = int64}), DTypeError);

  try {
    mnist(folder, Split::test);
    FAIL("no error");
  } catch (const IOError& e) {
    mentions(e.what(), "has neither t10k-images-idx3-ubyte nor t10k-images-idx3-ubyte.gz");
  }
  const auto refused_as = [&](const std::string& part) {
    mentions(message([&] { mnist(folder, Split::train); }), part);
  };
  write(dir / "train-labels-idx1-ubyte", idx(8, {3}, {7, 10, 9}));
  refused_as("label 10 of record 1 is outside [0, 10)");
  CHECK(mnist(folder, Split::train, {.classes = 11}).classes() == 11);
  write(dir / "train-labels-idx1-ubyte", idx(8, {2}, {7, 0}));
  refused_as("has 3 images");
  write(dir / "train-labels-idx1-ubyte", images);
  refused_as("train-labels-idx1-ubyte' must hold uint8 [n], holds uint8 [3, 2, 2]");
  write(dir / "train-images-idx3-ubyte", labels);
  refused_as("must hold uint8 [n, rows, columns], holds uint8 [3]");
}

TEST_CASE("idx: MNIST under torchvision's names, and with a dot") {
  for (const char* place : {"", "raw", "MNIST/raw"})
    for (const char* dash : {"-", "."}) {
      CAPTURE(place);
      CAPTURE(dash);
      const test::TempDir dir;
      write(dir / place / (std::string("train-images") + dash + "idx3-ubyte"), images);
      CHECK_ERROR(mnist(dir.path().string(), Split::train), IOError, "has no train-labels-idx1-ubyte");
      write(dir / place / (std::string("train-labels") + dash + "idx1-ubyte"), labels);
      CHECK(mnist(dir.path().string(), Split::train).size() == 3);
      CHECK_ERROR(mnist(dir.path().string(), Split::test), IOError, "t10k-images-idx3-ubyte", "MNIST/raw");
    }
}

TEST_CASE("idx: gzip") {
#ifdef LPF_HAS_ZLIB
  const std::string packed = gzip(images);
  const test::TempDir dir;
  const auto path = dir / "train-images-idx3-ubyte.gz";
  const auto refused_as = [&](const std::string& bytes, const std::string& part) {
    write(path, bytes);
    mentions(message([&] { read_idx(path.string()); }), part);
  };
  write(path, packed);
  CHECK(read_idx(path.string()).to_vector<int>() == parse_idx(images).to_vector<int>());
  write(dir / "train-labels-idx1-ubyte.gz", gzip(labels));
  CHECK(mnist(dir.path().string(), Split::train).size() == 3);
  // concatenated gzip members are one file
  write(path, gzip(images.substr(0, 5)) + gzip(images.substr(5)));
  CHECK(read_idx(path.string()).shape() == Shape{3, 2, 2});
  const std::string many = idx(8, {1000000}, std::string(1000000, 'x'));  // longer than one read
  write(path, gzip(many));
  CHECK(read_idx(path.string()).to_vector<int>() == parse_idx(many).to_vector<int>());

  for (std::size_t n = 2; n < packed.size(); ++n) refused_as(packed.substr(0, n), "truncated");
  for (const std::size_t zeros : {1u, 511u, 200000u}) {  // as gzip and Python, also longer than one read
    write(path, packed + std::string(zeros, '\0'));
    CHECK(read_idx(path.string()).shape() == Shape{3, 2, 2});
  }
  refused_as(packed + std::string(100, '\0') + "other bytes", "incorrect header check");
  refused_as(std::string(2, '\0') + packed, "unknown type of elements 31");
  refused_as(packed + "x", "truncated");
  refused_as(packed + "other bytes", "incorrect header check");
  std::string noise;  // incompressible
  for (std::uint32_t i = 0, x = 1; i < 300000; ++i)
    noise += static_cast<char>((x = x * 1664525 + 1013904223) >> 24);
  const std::string large = gzip(idx(8, {300, 1000}, noise));
  refused_as(large.substr(0, large.size() / 2), "the gzip data are truncated");
  mentions(message([&] { read_idx(path.string()); }), ", in record 14");
  refused_as(packed + packed.substr(0, 12), "truncated");
  std::string broken = packed;
  broken[packed.size() - 6] ^= 1;
  refused_as(broken, "incorrect data check");
  for (std::size_t i = 0; i < packed.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      broken = packed;
      broken[i] = static_cast<char>(broken[i] ^ 1 << bit);
      write(path, broken);
      Shape shape{3, 2, 2};
      try {
        shape = read_idx(path.string()).shape();  // time and system in the header are not checked
      } catch (const FormatError&) {}
      CHECK(shape == Shape{3, 2, 2});
    }
  }
#else
  const test::TempDir dir;
  write(dir / "a.gz", "\x1f\x8b...");
  try {
    read_idx((dir / "a.gz").string());
    FAIL("no error");
  } catch (const IOError& e) { mentions(e.what(), "built without zlib"); }
#endif
}

TEST_CASE("idx: the published MNIST [slow]") {
  const char* given = std::getenv("LPF_DATA_DIR");
  const auto root = given ? std::filesystem::path(given) : test::fixture("../../data");
  const auto folder = root / "mnist";
  if (!std::filesystem::exists(folder))
    return test::skip("no MNIST: set LPF_DATA_DIR to the folder that has mnist/");
#ifndef LPF_HAS_ZLIB
  if (!std::filesystem::exists(folder / "train-images-idx3-ubyte"))
    return test::skip("MNIST is packed, and there is no zlib");
#endif
  const TensorDataset train = mnist(folder.string(), Split::train, {.dtype = uint8});
  const TensorDataset test = mnist(folder.string(), Split::test, {.normalize = true});
  CHECK(train.images.shape() == Shape{60000, 28, 28, 1});
  CHECK(test.images.shape() == Shape{10000, 28, 28, 1});
  CHECK(train.class_counts() ==
        std::vector<std::int64_t>{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949});
  CHECK(test.class_counts() ==
        std::vector<std::int64_t>{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009});
  const ChannelStatistics s = channel_statistics(train.images);
  CHECK(s.mean[0] / 255 == doctest::Approx(.1307).epsilon(1e-3));
  CHECK(s.sd[0] / 255 == doctest::Approx(.3081).epsilon(1e-3));
}
