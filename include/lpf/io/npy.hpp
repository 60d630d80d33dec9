// One array in a file: NumPy's .npy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
//
//   6 bytes      "\x93NUMPY"
//   2 bytes      version: 1.0; 2.0, whose header may be longer; 3.0, whose header is UTF-8
//   2 (4) bytes  N, the length of the header (unsigned, little endian)
//   N bytes      the header, a Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
//   the rest     the elements, row-major, or column-major if fortran_order is True
#pragma once

#include <charconv>
#include <cstring>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/io/atomic_file.hpp"
#include "lpf/io/elements.hpp"
#include "lpf/io/file.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf {

namespace detail {

inline constexpr std::string_view npy_magic = "\x93NUMPY";

struct NpyHeader {
  StoredType type = StoredType::float32;
  bool big_endian = false, fortran_order = false;
  Shape shape;
};

constexpr std::string_view npy_type(DType t) {
  switch (t) {
    case DType::bool_: return "|b1";
    case DType::uint8: return "|u1";
    case DType::int32: return "<i4";
    case DType::int64: return "<i8";
    case DType::float32: return "<f4";
    case DType::float64: return "<f8";
    case DType::bfloat16: break;  // NumPy has no bfloat16
  }
  return "";
}

/// Parses the header's dictionary. A FormatError names the file and the error.
class NpyHeaderParser {
 public:
  NpyHeaderParser(const std::string& path, std::string_view text) : path_(path), rest_(text) {}

  NpyHeader parse() {
    NpyHeader out;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string();
      bool& seen = key == "descr" ? descr : key == "fortran_order" ? order : shape;
      if (seen || (&seen == &shape && key != "shape"))
        error("has an unknown or repeated key '", printable(key), "' in its header");
      seen = true;
      expect(':');
      if (key == "descr") {
        read_type(out);
      } else if (key == "shape") {
        out.shape = tuple();
      } else {
        out.fortran_order = boolean();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) error("has '", printable(rest_.substr(0, 20)), "' behind its header");
    if (!descr || !order || !shape)
      error("lacks '", !descr ? "descr" : !order ? "fortran_order" : "shape", "' in its header");
    return out;
  }

  template <class... Args>
  [[noreturn]] void error(const Args&... what) const {
    fail<FormatError>("load_npy", "'", path_, "' ", what...);
  }

 private:
  static std::string printable(std::string_view text) {
    std::string out;
    for (const char c : text.substr(0, 40)) out += c >= ' ' && c <= '~' ? c : '?';
    return out;
  }
  void skip_space() {
    const std::size_t n = rest_.find_first_not_of(" \t\n\r");
    rest_.remove_prefix(std::min(n, rest_.size()));
  }
  bool accept(char c) {
    skip_space();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (accept(c)) return;
    if (rest_.empty()) error("has a header that ends where '", c, "' is expected");
    error("has '", printable(rest_.substr(0, 20)), "' in its header where '", c, "' is expected");
  }
  std::string_view string() {
    const char quote = accept('\'') ? '\'' : '"';
    if (quote == '"') expect('"');
    const std::size_t n = rest_.find(quote);
    if (n == std::string_view::npos) error("has a string without end in its header");
    const std::string_view out = rest_.substr(0, n);
    rest_.remove_prefix(n + 1);
    return out;
  }
  bool boolean() {
    skip_space();
    for (const std::string_view word : {"False", "True"}) {
      if (!rest_.starts_with(word)) continue;
      rest_.remove_prefix(word.size());
      return word == "True";
    }
    error("has '", printable(rest_.substr(0, 20)), "' for fortran_order, needs True or False");
  }
  void read_type(NpyHeader& out) {
    struct Known {
      std::string_view name;  // without the order of its bytes
      StoredType type;
    };
    static constexpr Known all[] = {
        {"b1", StoredType::boolean}, {"i1", StoredType::int8},    {"i2", StoredType::int16},
        {"i4", StoredType::int32},   {"i8", StoredType::int64},   {"u1", StoredType::uint8},
        {"u2", StoredType::uint16},  {"u4", StoredType::uint32},  {"u8", StoredType::uint64},
        {"f2", StoredType::float16}, {"f4", StoredType::float32}, {"f8", StoredType::float64}};
    skip_space();
    if (rest_.starts_with('[')) error("holds records; only plain numbers can be read");
    const std::string_view name = string(), order = name.substr(0, 1);
    for (const Known& known : all) {
      const bool one_byte = bytes_of(known.type) == 1;
      if (name.substr(order.size()) != known.name) continue;
      if (order != "<" && order != ">" && !(order == "|" && one_byte)) break;
      out.type = known.type;
      out.big_endian = order == ">" && !one_byte;
      return;
    }
    error("holds elements of type '", printable(name),
          "'; known are b1, i1, i2, i4, i8, u1, u2, u4, u8, f2, f4 and f8, big- or little-endian: convert "
          "with NumPy's astype, for example .astype('f8')");
  }
  std::int64_t integer() {
    skip_space();
    std::int64_t n = 0;
    const auto [end, bad] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), n);
    if (bad != std::errc() || n < 0)
      error("has '", printable(rest_.substr(0, 24)), "' for a size in its shape");
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    if (rest_.starts_with('L')) rest_.remove_prefix(1);  // Python 2
    return n;
  }
  Shape tuple() {
    Shape out;
    expect('(');
    while (!accept(')')) {
      if (out.rank() == max_rank) error("has more than ", max_rank, " axes");
      const std::int64_t size = integer();
      try {
        out.push_back(size);
      } catch (const ShapeError& e) { error("has a shape that no tensor can have: ", e.what()); }
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return out;
  }

  const std::string& path_;
  std::string_view rest_;
};

}  // namespace detail

namespace detail {

/// Reads a .npy file of `size` bytes through read(offset, to, bytes). Errors name `path`.
template <class Read>
Tensor read_npy(const std::string& path, std::uint64_t size, const Read& read) {
  const NpyHeaderParser bad(path, {});
  char start[12] = {};
  read(0, start, std::min<std::uint64_t>(size, sizeof start));
  if (std::string_view(start, 6) != npy_magic)
    bad.error("is not a .npy file: it does not begin with \\x93NUMPY");
  const int major = static_cast<unsigned char>(start[6]), minor = static_cast<unsigned char>(start[7]);
  if (major < 1 || major > 3 || minor != 0)
    bad.error("has version ", major, ".", minor, "; known are 1.0, 2.0 and 3.0");
  std::uint32_t length = 0;
  std::memcpy(&length, start + 8, major == 1 ? 2 : 4);
  const std::uint64_t header_begin = major == 1 ? 10 : 12, data_begin = header_begin + length;
  if (data_begin > size)
    bad.error("is truncated: its header ends at byte ", data_begin, ", the file at ", size);
  constexpr std::uint32_t longest = 1 << 16;  // far above the header of any tensor
  if (length > longest) bad.error("has a header of ", length, " bytes, at most ", longest, " are read");
  std::string text(length, '\0');
  read(header_begin, text.data(), length);

  const NpyHeader header = NpyHeaderParser(path, text).parse();
  const std::uint64_t bytes = static_cast<std::uint64_t>(header.shape.numel()) * bytes_of(header.type);
  const std::uint64_t there = size - data_begin;
  if (bytes != there)
    bad.error(bytes > there ? "is truncated" : "is too long", ": shape ", header.shape, " of ",
              bytes_of(header.type), " bytes an element needs ", bytes, " bytes, the file has ", there,
              " behind its header");
  Shape stored;
  const int rank = header.shape.rank();
  for (int i = 0; i < rank; ++i) stored.push_back(header.shape[header.fortran_order ? rank - 1 - i : i]);
  const Tensor out = read_elements(
      header.type, header.big_endian, stored, [&](void* to, std::uint64_t n) { read(data_begin, to, n); },
      [&](const std::string& what) { fail<FormatError>("load_npy", "'", path, "': ", what); });
  if (!header.fortran_order || rank < 2) return out;
  Axes reversed(static_cast<std::size_t>(rank));
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  return permute(out, reversed);
}

}  // namespace detail

/// The array of a .npy file of version 1.0, 2.0 or 3.0, at most eight axes: bool, integers and floating-point
/// numbers of up to 64 bits, big- or little-endian. Types that tensors lack are converted exactly
/// (io/elements.hpp). Column-major files (fortran_order) are transposed in memory.
/// @throws IOError if the file cannot be read; FormatError, naming path, rule and values, if it is truncated,
/// longer than its header specifies, corrupt, of an unsupported kind, or has a uint64 above 2^63 - 1.
inline Tensor load_npy(const std::string& path) {
  const detail::InputFile file(path, "load_npy");
  return detail::read_npy(path, file.size(),
                          [&](std::uint64_t offset, void* to, std::uint64_t n) { file.read(offset, to, n); });
}

/// The same from bytes in memory. Errors name `path`.
inline Tensor parse_npy(std::string_view bytes, const std::string& path = "memory") {
  return detail::read_npy(path, bytes.size(), [&](std::uint64_t offset, void* to, std::uint64_t n) {
    if (n > 0) std::memcpy(to, bytes.data() + offset, n);
  });
}

/// Writes a tensor as .npy 1.0, row-major, atomically.
/// @throws IOError, with path and reason, if it cannot be written; DTypeError for bfloat16.
inline void save_npy(const std::string& path, const Tensor& tensor) {
  check<DTypeError>(tensor.dtype() != bfloat16, "save_npy",
                    "NumPy has no bfloat16: convert with .to(float32)");
  std::string shape = "(";
  for (const auto size : tensor.shape()) shape += std::to_string(size) + (tensor.rank() == 1 ? "," : ", ");
  if (tensor.rank() > 1) shape.resize(shape.size() - 2);
  std::string header = concat("{'descr': '", detail::npy_type(tensor.dtype()),
                              "', 'fortran_order': False, 'shape': ", shape, "), }");
  constexpr std::size_t before = 10, alignment = 64;  // the elements begin at a multiple of it
  header.resize((before + header.size() + 1 + alignment - 1) / alignment * alignment - before - 1, ' ');
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());

  const auto bytes = static_cast<std::size_t>(tensor.numel()) * size_of(tensor.dtype());
  const auto* data = static_cast<const char*>(tensor.raw());
  std::vector<char> host;
  if (!tensor.device().is_cpu()) {
    host.resize(bytes);
    tensor.backend().copy_to_host(host.data(), data, bytes);
    data = host.data();
  }
  AtomicFile file(path, "save_npy");
  file.write(detail::npy_magic);
  file.write(std::string_view("\x01\x00", 2));
  file.write(std::string_view(reinterpret_cast<const char*>(&length), sizeof length));
  file.write(header);
  file.write(std::string_view(data, bytes));
  file.commit();
}

}  // namespace lpf
