#include "lpf/io/npy.hpp"

#include <fstream>
#include <iterator>
#include <random>

#include "files.hpp"
#include "lpf/ops/arithmetic.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
template <class T>
std::string raw(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}
/// A .npy file with this header and data.
std::string npy(const std::string& header, const std::string& data, char major = 1) {
  const auto n = header.size();
  std::string out = "\x93NUMPY";
  out += major;
  out += '\0';
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) out += static_cast<char>(n >> (8 * i) & 255);
  return out + header + data;
}
std::string header(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

struct File {
  TempDir folder;
  std::string path = (folder / "x.npy").string();
  Tensor load(const std::string& bytes) const {
    write(path, bytes);
    return load_npy(path);
  }
};

const std::string floats = raw({1.f, 2.f, 3.f, 4.f, 5.f, 6.f});

}  // namespace

TEST_CASE("npy: what is written is read again, to the bit") {
  const File file;
  for (const DType dtype : {DType::bool_, uint8, int32, int64, float32, float64})
    for (const Shape& shape : shapes) {
      CAPTURE(name_of(dtype));
      CAPTURE(shape.to_string());
      const Tensor x = (uniform(shape, 0, 200) - (dtype == uint8 ? 0.0 : 100.0)).to(dtype);
      save_npy(file.path, x);
      CHECK(same_bits(load_npy(file.path), x));
      const std::string bytes = bytes_of(file.path);
      const auto begin = bytes.size() - static_cast<std::size_t>(x.numel()) * size_of(dtype);
      CHECK(begin % 64 == 0);
      CHECK(bytes[begin - 1] == '\n');
    }
  const Tensor odd = tensor({not_a_number, infinity, -0.0, std::numeric_limits<double>::denorm_min()});
  save_npy(file.path, odd);
  CHECK(same_bits(load_npy(file.path), odd));
  const Tensor view = normal({4, 3})[2];
  save_npy(file.path, view);
  CHECK(same_bits(load_npy(file.path), view));
  save_npy(file.path, normal({1, 1, 1, 1, 1, 1, 1, 2}));
  CHECK(load_npy(file.path).rank() == 8);
}

TEST_CASE("npy: the bytes are NumPy's") {
  const File file;
  save_npy(file.path, tensor({1.f, 2.f, 3.f, 4.f, 5.f, 6.f}).reshape({2, 3}));
  std::string expected = header("<f4", "(2, 3)");
  expected.resize(128 - 10 - 1, ' ');
  CHECK(bytes_of(file.path) == npy(expected + "\n", floats));
  save_npy(file.path, tensor({true}));
  CHECK(bytes_of(file.path).find("'|b1', 'fortran_order': False, 'shape': (1,), }") != std::string::npos);
  save_npy(file.path, full({}, 1, {.dtype = int64}));
  CHECK(bytes_of(file.path).find("'<i8', 'fortran_order': False, 'shape': (), }") != std::string::npos);
}

TEST_CASE("npy: reading") {
  const File file;
  CHECK(holds(file.load(npy(header("<f4", "(2, 3)"), floats)), {2, 3}, {1, 2, 3, 4, 5, 6}));
  CHECK(holds(file.load(npy(header("<f4", "(2, 3)"), floats, 2)), {2, 3}, {1, 2, 3, 4, 5, 6}));
  CHECK(holds(file.load(npy(header("<f4", "(2, 3)", "True"), floats)), {2, 3}, {1, 3, 5, 2, 4, 6}));
  CHECK(holds(file.load(npy(header("<f4", "(6,)", "True"), floats)), {6}, {1, 2, 3, 4, 5, 6}));
  CHECK(holds(file.load(npy(header("<f4", "(1, 2, 3)", "True"), floats)), {1, 2, 3}, {1, 3, 5, 2, 4, 6}));
  CHECK(holds(file.load(npy(header("<f8", "()"), raw({2.5}))), {}, {2.5}));
  CHECK(holds(file.load(npy(header("<i4", "(2,)"), raw({-1, 7}))), {2}, {-1, 7}));
  CHECK(holds(file.load(npy(header("<i8", "(1,)"), raw<std::int64_t>({-9}))), {1}, {-9}));
  CHECK(holds(file.load(npy(header("|u1", "(2,)"), "\x01\xff")), {2}, {1, 255}));
  CHECK(holds(file.load(npy(header("|b1", "(2,)"), std::string("\1\0", 2))), {2}, {1, 0}));
  CHECK(file.load(npy(header("<f4", "(0, 3)"), "")).shape() == Shape{0, 3});
  CHECK(holds(file.load(npy(header("<f4", "(2, 3)"), floats, 3)), {2, 3}, {1, 2, 3, 4, 5, 6}));
  // keys in any order, other quotes and spaces, no last comma, Python 2's long integers
  CHECK(file.load(npy("{\"shape\":(2L,3L),\"fortran_order\":False,\"descr\":\"<f4\"}\n", floats)).shape() ==
        Shape{2, 3});
  CHECK(file.load(npy("  { 'descr' : '<f4' ,\n 'shape' : ( 2 , 3 , ) , 'fortran_order' : False , }   \n",
                      floats))
            .shape() == Shape{2, 3});
}

TEST_CASE(
    "npy: types that tensors lack become the smallest that has all their values, in either order of bytes") {
  const File file;
  const auto check = [&](const std::string& type, DType dtype, const std::vector<double>& values,
                         std::string bytes) {
    CAPTURE(type);
    const std::string shape = concat("(", values.size(), ",)");
    const Tensor little = file.load(npy(header("<" + type, shape), bytes));
    CHECK(little.dtype() == dtype);
    CHECK(holds(little, {std::ssize(values)}, values));
    const std::size_t size = bytes.size() / values.size();
    for (std::size_t at = 0; at < bytes.size(); at += size)
      std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                   bytes.begin() + static_cast<std::ptrdiff_t>(at + size));
    CHECK(same_bits(file.load(npy(header(">" + type, shape), bytes)), little));
    CHECK(same_bits(file.load(npy(header(">" + type, shape, "True"), bytes)), little));
  };
  check("i1", int32, {-128, 127}, raw<std::int8_t>({-128, 127}));
  check("u1", uint8, {0, 255}, raw<std::uint8_t>({0, 255}));
  check("b1", DType::bool_, {0, 1}, raw<std::uint8_t>({0, 1}));
  check("i2", int32, {-32768, 258}, raw<std::int16_t>({-32768, 258}));
  check("u2", int32, {65535, 258}, raw<std::uint16_t>({65535, 258}));
  check("u4", int64, {4294967295.0, 66051}, raw<std::uint32_t>({4294967295, 66051}));
  check("u8", int64, {4503599627370496.0, 1}, raw<std::uint64_t>({1ull << 52, 1}));
  check("i4", int32, {-2, 66051}, raw<std::int32_t>({-2, 66051}));
  check("i8", int64, {-2, 66051}, raw<std::int64_t>({-2, 66051}));
  check("f2", float32, {1, -65504, 0x1p-24}, raw<std::uint16_t>({0x3C00, 0xFBFF, 1}));
  check("f4", float32, {1.5, -2.25}, raw({1.5f, -2.25f}));
  check("f8", float64, {0.1, -1e300}, raw({0.1, -1e300}));
  CHECK(file.load(npy(header(">i2", "(0,)"), "")).dtype() == int32);
}

TEST_CASE("npy: a column-major file of higher rank") {
  const File file;
  const Tensor x = arange(24).reshape({2, 3, 4});
  const Tensor stored = x.permute({2, 1, 0});  // row-major in reversed axes is column-major
  write(file.path, npy(header("<i8", "(2, 3, 4)", "True"), {static_cast<const char*>(stored.raw()), 24 * 8}));
  CHECK(same_bits(load_npy(file.path), x));
}

TEST_CASE("npy: what is wrong with a file is said, with its path") {
  const File file;
  const auto refused = [&](const std::string& bytes, std::initializer_list<std::string_view> parts) {
    const std::string message = error_of<FormatError>([&] { file.load(bytes); }, parts);
    CHECK_MESSAGE(message[0] != '!', message);
    CHECK(message.find(file.path) != std::string::npos);
    CHECK(message.find("[load_npy]") == 0);
  };
  refused("", {"not a .npy file"});
  refused("\x93NUMP", {"not a .npy file"});
  refused("PK\x03\x04 a zip archive", {"not a .npy file"});
  refused("\x93NUMPY", {"version 0.0"});
  refused(npy(header("<f4", "(6,)"), floats, 4), {"version 4.0", "1.0, 2.0 and 3.0"});
  refused(npy(header("<f4", "(2, 3)"), floats).substr(0, 40), {"truncated", "header", "40"});
  refused(npy(header("<f4", "(2, 3)"), floats.substr(1)),
          {"truncated", "[2, 3]", "of 4 bytes", "24 bytes", "23"});
  refused(npy(header("<f4", "(2, 3)"), floats + "x"), {"too long", "24 bytes", "25"});
  for (const char* type :
       {"<c8", "<f16", "|f4", "f4", "|S4", "<U2", "|O", "<M8[s]", "", "<", "<f4x", "=f4", "<i3", "<b2"})
    refused(npy(header(type, "(6,)"), floats), {"type", type, "b1, i1, i2, i4, i8, u1", "astype"});
  refused(npy(header("<u8", "(3,)"), raw<std::uint64_t>({1, 1ull << 63, 2})),
          {"element 1 of type uint64 is 9223372036854775808", "up to 9223372036854775807"});
  refused(npy("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (6,), }", floats), {"records"});
  refused(npy(header("<f4", "(6)"), floats.substr(1)), {"truncated"});
  refused(npy(header("<f4", "(-6,)"), floats), {"'-6,)", "size"});
  refused(npy(header("<f4", "(6.0,)"), floats), {"expected"});
  refused(npy(header("<f4", "(x,)"), floats), {"size"});
  refused(npy(header("<f4", "6"), floats), {"'('"});
  refused(npy(header("<f4", "(6,"), floats), {"size"});
  refused(npy(header("<f4", "(99999999999999999999,)"), floats), {"size", "99999999999999999999"});
  refused(npy(header("<f4", "(4611686018427387904, 4)"), floats), {"2^60"});
  refused(npy(header("<f4", "(1152921504606846976,)"), floats), {"truncated"});
  refused(npy(header("<f4", "(4611686018427387904, 0, 4)"), ""), {"2^60"});
  refused(npy(header("<f4", "(1, 1, 1, 1, 1, 1, 1, 1, 6)"), floats), {"more than 8 axes"});
  refused(npy(header("<f4", "(6,)", "Maybe"), floats), {"fortran_order", "Maybe"});
  refused(npy(header("<f4", "(6,)") + "junk", floats), {"junk"});
  refused(npy("{'descr': '<f4', 'shape': (6,), }", floats), {"lacks 'fortran_order'"});
  refused(npy("{'fortran_order': False, 'shape': (6,), }", floats), {"lacks 'descr'"});
  refused(npy("{'descr': '<f4', 'fortran_order': False}", floats), {"lacks 'shape'"});
  refused(npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", floats),
          {"'descr'", "repeated"});
  refused(npy("{'shape': (6,), 'shape': (6,), 'descr': '<f4', 'fortran_order': False}", floats),
          {"'shape'", "repeated"});
  refused(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'extra': 1}", floats),
          {"unknown", "'extra'"});
  refused(npy("{'descr", floats), {"string without end"});
  refused(npy("{'descr'", floats), {"ends where ':' is expected"});
  refused(npy("", floats), {"ends where '{' is expected"});
  refused(npy("[1, 2]", floats), {"'{' is expected"});
  refused(npy("{\x01\x80: 1}", floats), {"??"});
  refused(npy(header("|b1", "(2,)"), "\x01\x02"), {"2", "element 1", "bool", "0 or 1"});
  refused(npy(header("<f4", "(6,)") + std::string(100000, ' '), floats, 2), {"header of 100"});
  std::string endless = npy("", "", 2);
  endless.replace(8, 4, "\xff\xff\xff\xff");
  refused(endless, {"truncated", "4294967307"});
}

TEST_CASE("npy: a file that cannot be read or written") {
  const TempDir folder;
  CHECK_ERROR(load_npy((folder / "none.npy").string()), IOError, "[load_npy]", "none.npy", "No such file");
  CHECK_ERROR(load_npy(folder.path().string()), IOError, "[load_npy]", "folder");
  CHECK_ERROR(save_npy((folder / "none" / "x.npy").string(), zeros({1})), IOError, "[save_npy]", "x.npy",
              "No such file");
  CHECK_ERROR(save_npy(folder.path().string(), zeros({1})), IOError, "[save_npy]");
  const Tensor w = detail::add_replica_dim(zeros({2, 1}), std::make_shared<ReplicaPlan>(2));
  save_npy((folder / "x.npy").string(), ones({2}));
  CHECK_ERROR(save_npy((folder / "x.npy").string(), w), ReplicaError, "M = 2");
  CHECK(holds(load_npy((folder / "x.npy").string()), {2}, {1, 1}));  // the old file is unchanged
}

TEST_CASE("npy: no bytes whatever crash the reader") {
  const File file;
  const std::vector<std::string> seeds = {npy(header("<f4", "(2, 3)"), floats),
                                          npy(header("<f4", "(2, 3)", "True"), floats, 2),
                                          npy(header("|b1", "(2,)"), std::string("\1\0", 2))};
  std::mt19937 random(1);
  const auto below = [&random](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  const std::string alphabet = "(){}[]',:0123456789L \"<>|=fiub-";
  int loaded = 0, refused = 0;
  for (int round = 0; round < 6000; ++round) {
    std::string bytes = seeds[below(seeds.size())];
    for (std::size_t edits = 1 + below(4); edits > 0 && !bytes.empty(); --edits) {
      const std::size_t at = below(bytes.size());
      switch (below(5)) {
        case 0: bytes[at] = static_cast<char>(below(256)); break;
        case 1: bytes[at] = alphabet[below(alphabet.size())]; break;
        case 2: bytes.erase(at, 1 + below(8)); break;
        case 3: bytes.insert(at, bytes.substr(below(bytes.size()), below(12))); break;
        default: bytes.resize(at); break;
      }
    }
    try {
      const Tensor x = file.load(bytes);
      CHECK(x.numel() <= 64);
      ++loaded;
    } catch (const FormatError&) { ++refused; }
  }
  CHECK(loaded > 100);
  CHECK(refused > 1000);
}
