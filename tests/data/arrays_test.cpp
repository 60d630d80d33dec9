// .npz as written by NumPy, and data sets from arrays in .npz and .safetensors.
#include "lpf/data/sets/arrays.hpp"

#include "tensor_test.hpp"

using namespace lpf;

#ifdef LPF_HAS_ZLIB

namespace {

std::string bytes_of(const std::string& fixture) {
  return detail::read_file(test::fixture(fixture).string(), "test");
}

const Tensor& array(const NamedTensors& arrays, const std::string& name) {
  for (const auto& [known, tensor] : arrays)
    if (known == name) return tensor;
  FAIL("no array ", name);
  return arrays.front().second;
}

void check_values(const NamedTensors& arrays) {
  const Tensor& images = array(arrays, "images");
  CHECK(images.dtype() == uint8);
  CHECK(images.shape() == Shape{3, 2, 4, 5});
  CHECK(images.data<std::uint8_t>()[119] == 119);
  CHECK(array(arrays, "labels").to_vector<int>() == std::vector<int>{2, 0, 1});
  CHECK(array(arrays, "targets").to_vector() == std::vector<double>{.5, -1.25, 3});
  CHECK(test::holds(array(arrays, "columns"), {2, 3}, {0, 1, 2, 3, 4, 5}));
}

}  // namespace

TEST_CASE("npz: arrays that NumPy has stored or deflated") {
  const NamedTensors stored = load_npz(test::fixture("stored.npz").string());
  CHECK(stored.size() == 4);
  check_values(stored);
  const NamedTensors deflated = load_npz(test::fixture("deflated.npz").string());
  CHECK(deflated.size() == 5);
  check_values(deflated);
  CHECK(test::holds(array(deflated, "zeros"), {5000}, std::vector<double>(5000)));
  check_values(parse_npz(bytes_of("stored.npz")));
  const NamedTensors wide = load_npz(test::fixture("zip64.npz").string());
  CHECK(wide.size() == 4);
  check_values(wide);
  CHECK(parse_npz(std::string("PK\5\6") + std::string(18, '\0')).empty());
}

TEST_CASE("npz: cut or changed anywhere it is refused, or gives the same arrays") {
  for (const char* file : {"stored.npz", "deflated.npz", "zip64.npz"}) {
    const std::string good = bytes_of(file);
    for (std::size_t n = 0; n < good.size(); ++n) CHECK_THROWS_AS(parse_npz(good.substr(0, n)), FormatError);
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (const int bit : {1, 0x10, 0x80}) {
        std::string bad = good;
        bad[i] = static_cast<char>(bad[i] ^ bit);
        NamedTensors arrays;
        try {
          arrays = parse_npz(bad);
        } catch (const FormatError&) { continue; }
        // a name, a time or a version may differ, the values must not
        for (const auto& [name, tensor] : arrays)
          if (name == "targets") CHECK(tensor.to_vector() == std::vector<double>{.5, -1.25, 3});
      }
    }
  }
}

TEST_CASE("npz: each broken rule is an error that names it") {
  const std::string good = bytes_of("stored.npz");
  const auto refused = [](const std::string& bytes, std::string_view part) {
    CHECK_ERROR(parse_npz(bytes, "x.npz"), FormatError, "'x.npz", part);
  };
  refused("", "a zip archive's end is missing");
  refused("\x93NUMPY", "not a .npz file");
  const auto changed = [](std::string bytes, std::size_t at, const std::string& with) {
    return bytes.replace(at, with.size(), with);
  };
  const std::size_t central = good.find("PK\1\2");
  refused(changed(good, good.find("\x93NUMPY"), "x"), "checksum of 'images.npy'");
  refused(changed(good, central + 10, std::string("\x0c\0", 2)), "packed by method 12");
  refused(changed(good, central + 8, "\1"), "is encrypted");
  refused(changed(good, central + 20, "\xff\xff\xff\xff"), "4 GB or more");
  refused(changed(good, central, "X"), "no entry 0 of 4");
  refused(changed(good, central + 28, "\xff\xff"), "is cut off");
  refused(changed(good, central + 52, ".zip"), "holds arrays NAME.npy alone");
  refused(changed(good, 0, "X"), "no header for 'images.npy'");
  refused(changed(good, good.size() - 12, "\xff\xff"), "64-bit extension that is not there");
  refused(std::string("PK\5\6") + std::string(4, '\0') + std::string(12, '\xff') + std::string(2, '\0'),
          "64-bit extension that is not there");

  const std::string wide = bytes_of("zip64.npz");
  const std::size_t end = wide.find("PK\6\6"), locator = wide.find("PK\6\7"),
                    extra = wide.rfind("images.npy\1") + 10;
  refused(changed(wide, locator + 3, "x"), "64-bit extension that is not there");
  refused(changed(wide, locator, "PK\6\6"), "64-bit extension that is not there");
  refused(changed(wide, locator + 15, "\x7f"), "its 64-bit end would lie at");
  refused(changed(wide, end, "X"), "64-bit extension that is not there");
  refused(changed(wide, end + 32, "\5"), "no entry 4 of 5");
  refused(changed(wide, end + 39, "\x80"), "no entry 4 of");
  refused(changed(wide, end + 47, "\x80"), "its table of contents would lie at");
  refused(changed(wide, end + 55, "\xff"), "its table of contents would lie at");
  refused(changed(wide, extra, "\2"), "'images.npy' has 4 GB or more, and no 64-bit sizes");
  refused(changed(wide, extra + 2, "\x0f"), "'images.npy' has 4 GB or more, and no 64-bit sizes");
  refused(changed(wide, extra + 5, "\1"), "cannot be unpacked");
  refused(changed(wide, extra + 11, "\x10"), "would unpack from");
  refused(changed(wide, extra + 19, "\x80"), "'images.npy' would lie at");
}

TEST_CASE("npz: every type that NumPy has, and arrays of other types where they are asked for") {
  const std::string path = test::fixture("kinds.npz").string();
  const auto one = [&](const std::string& name) { return load_npz(path, {name}).at(0).second; };
  const auto check = [&](const std::string& name, DType dtype, const std::vector<double>& values) {
    for (const std::string end : {"", "_big"}) {
      CAPTURE(name + end);
      const Tensor x = one(name + end);
      CHECK(x.dtype() == dtype);
      CHECK(x.to_vector() == values);
    }
  };
  check("i1", int32, {-128, 1, 2, 127});
  check("i2", int32, {-32768, 1, 2, 32767});
  check("i4", int32, {-2147483648.0, 1, 2, 2147483647});
  check("u1", uint8, {0, 1, 2, 255});
  check("u2", int32, {0, 1, 2, 65535});
  check("u4", int64, {0, 1, 2, 4294967295.0});
  for (const std::string end : {"", "_big"}) {
    CHECK(one("i8" + end).to_vector<std::int64_t>() == std::vector<std::int64_t>{INT64_MIN, 1, 2, INT64_MAX});
    CHECK(one("u8" + end).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 1, 2, INT64_MAX});
  }
  const std::vector<double> reals{0.5, -2, std::numeric_limits<double>::infinity(), 0x1p-14};
  check("f2", float32, reals);
  check("f4", float32, reals);
  check("f8", float64, reals);

  CHECK_ERROR(load_npz(path), FormatError, "kinds.npz: ");
  CHECK_ERROR(one("complex"), FormatError, "kinds.npz: complex.npy", "'<c16'");
  CHECK_ERROR(one("text"), FormatError, "text.npy", "'<U1'");
  CHECK_ERROR(one("too_large"), FormatError, "element 1", "9223372036854775808");
  CHECK_ERROR(one("i3"), ValueError, "no array 'i3' among its 27", "did you mean 'i1'");
  const NamedTensors two = load_npz(path, {"u1", "labels"});
  CHECK(two.size() == 2);
  CHECK(two[1].first == "labels");
  const TensorDataset data = load_arrays(path);
  CHECK(data.labels.to_vector<std::int64_t>() == std::vector<std::int64_t>{2, 0, 1});
  CHECK(data.images.dtype() == uint8);
}

TEST_CASE("npz: a data set from arrays") {
  const std::string path = test::fixture("deflated.npz").string();
  const TensorDataset data = load_arrays(path, {.channels_first = true});
  CHECK(data.images.shape() == Shape{3, 4, 5, 2});
  CHECK(data.images.dtype() == uint8);
  CHECK(data.images.data<std::uint8_t>()[1] == 20);  // channel 1 of pixel (0, 0)
  CHECK(data.labels.dtype() == int64);
  CHECK(data.classes() == 3);
  CHECK(load_arrays(path, {.labels = "targets"}).classes() == 0);
  CHECK_ERROR(load_arrays(path, {.images = "image"}), ValueError, "no array 'image'",
              "did you mean 'images'?");
  CHECK_ERROR(load_arrays(path, {.labels = "columns"}), ShapeError);
  CHECK_ERROR(load_arrays(path, {.images = "targets", .channels_first = true}), ShapeError, "[n, c, h, w]");
  CHECK_ERROR(load_arrays(path, {.classes = 2}), IndexError, "label 2");
}

#endif

TEST_CASE("npz: a data set from .safetensors") {
  const test::TempDir dir;
  const std::string path = (dir / "set.safetensors").string();
  save_safetensors(path, {{"x", full({2, 3}, 1.5)}, {"y", tensor<std::int64_t>({1, 0})}});
  const TensorDataset data = load_arrays(path, {.images = "x", .labels = "y", .classes = 4});
  CHECK(data.images.shape() == Shape{2, 3});
  CHECK(data.classes() == 4);
  CHECK_ERROR(load_arrays(path), ValueError, "no tensor 'images'");
  CHECK_ERROR(load_arrays((dir / "none").string()), IOError);
#ifndef LPF_HAS_ZLIB
  CHECK_ERROR(load_npz(test::fixture("stored.npz").string()), IOError, "built without zlib");
#endif
}
