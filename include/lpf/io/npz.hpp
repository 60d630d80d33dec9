// Several arrays in a file: NumPy's .npz, a zip archive of .npy files, as written by numpy.savez and
// savez_compressed. Needs zlib (CMake's target lpf::io, LPF_HAS_ZLIB).
//
//   each file        a header of 30 bytes, name, extra field, and the data, stored or deflated
//   central          for each file a header of 46 bytes, name, extra field, comment
//   end              "PK\5\6", …, number of files, size and offset of the central headers, comment
//
// Values too large for their field (all bits ones) are in the zip64 extension: of a file, in extra field 1 of
// its central header; of the archive, in an end record of 56 bytes, "PK\6\6", located by the 20 bytes before
// the other end record, "PK\6\7".
//
// Sizes, offsets and checksums are taken from the central headers
// (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/io/npy.hpp"
#include "lpf/io/safetensors.hpp"

#ifdef LPF_HAS_ZLIB
#  include <zlib.h>
#endif

namespace lpf {

namespace detail {

/// A file of a zip archive.
struct ZipEntry {
  std::string name;
  std::uint32_t method = 0, crc = 0;
  /// Compressed and uncompressed bytes, offset of its own header
  std::uint64_t packed = 0, size = 0, header = 0;
};

/// Reads the files of a zip archive of `size` bytes through read(offset, to, bytes). A FormatError names the
/// path and the broken rule.
template <class Read>
class ZipReader {
 public:
  ZipReader(std::string path, std::uint64_t size, Read read)
      : path_(std::move(path)), size_(size), read_(std::move(read)) {
    const std::uint64_t end = find_end();
    const std::string last = get(end, 22, "its end");
    std::uint64_t count = number(last, 10, 2), central_size = number(last, 12, 4),
                  central = number(last, 16, 4);
    if (count == 0xFFFF || central_size == largest || central == largest) {
      const std::string locator = end < 20 ? std::string(20, '\0') : get(end - 20, 20, "its locator");
      const std::string wide = number(locator, 0, 4) == 0x07064B50
                                   ? get(number(locator, 8, 8), 56, "its 64-bit end")
                                   : std::string(56, '\0');
      if (number(wide, 0, 4) != 0x06064B50)
        error("is corrupt: its end names a 64-bit extension that is not there");
      count = number(wide, 32, 8), central_size = number(wide, 40, 8), central = number(wide, 48, 8);
    }
    if (central > end || central_size > end - central)
      error("is corrupt: its table of contents would lie at ", central, " … ", central + central_size,
            ", beyond ", end);
    const std::string table = get(central, central_size, "its table of contents");
    std::size_t at = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (table.size() - at < 46 || number(table, at, 4) != 0x02014B50)
        error("is corrupt: its table of contents has no entry ", i, " of ", count);
      const std::size_t name = number(table, at + 28, 2), extra = number(table, at + 30, 2),
                        rest = extra + number(table, at + 32, 2);
      if (table.size() - at - 46 < name + rest) error("is corrupt: entry ", i, " of its contents is cut off");
      if ((number(table, at + 8, 2) & 1) != 0) error("is encrypted");
      entries_.push_back({table.substr(at + 46, name), static_cast<std::uint32_t>(number(table, at + 10, 2)),
                          static_cast<std::uint32_t>(number(table, at + 16, 4)), number(table, at + 20, 4),
                          number(table, at + 24, 4), number(table, at + 42, 4)});
      widen(entries_.back(), std::string_view(table).substr(at + 46 + name, extra));
      at += 46 + name + rest;
    }
  }

  const std::vector<ZipEntry>& entries() const { return entries_; }

  /// The bytes of a file, decompressed and checked.
  std::string bytes(const ZipEntry& e) const {
    const std::string header = get(e.header, 30, "the header of '" + e.name + "'");
    if (number(header, 0, 4) != 0x04034B50) error("is corrupt: there is no header for '", e.name, "'");
    const std::uint64_t data = e.header + 30 + number(header, 26, 2) + number(header, 28, 2);
    std::string packed = get(data, e.packed, "'" + e.name + "'");
    if (e.method == 0 && e.packed != e.size)
      error("is corrupt: '", e.name, "' is stored in ", e.packed, " bytes and has ", e.size);
    std::string out = e.method == 0 ? std::move(packed) : inflated(e, packed);
    check_sum(e, out);
    return out;
  }

 private:
  static constexpr std::uint64_t largest = 0xFFFFFFFF;

  template <class... Args>
  [[noreturn]] void error(const Args&... what) const {
    fail<FormatError>("load_npz", "'", path_, "' ", what...);
  }
  static std::uint64_t number(std::string_view bytes, std::size_t at, int n) {
    std::uint64_t value = 0;
    for (int i = n; i-- > 0;)
      value = value << 8 | static_cast<unsigned char>(bytes[at + static_cast<std::size_t>(i)]);
    return value;
  }
  /// Reads the values too large for the central header from its extra fields: id, size, content.
  void widen(ZipEntry& e, std::string_view extra) const {
    std::string_view wide;
    while (extra.size() >= 4) {
      const std::string_view field = extra.substr(4, number(extra, 2, 2));
      if (number(extra, 0, 2) == 1) wide = field;
      extra.remove_prefix(4 + field.size());
    }
    for (std::uint64_t* value : {&e.size, &e.packed, &e.header}) {
      if (*value != largest) continue;
      if (wide.size() < 8) error("is corrupt: '", e.name, "' has 4 GB or more, and no 64-bit sizes");
      *value = number(wide, 0, 8);
      wide.remove_prefix(8);
    }
  }
  std::string get(std::uint64_t offset, std::uint64_t n, const std::string& what) const {
    if (offset > size_ || n > size_ - offset)
      error("is truncated or corrupt: ", what, " would lie at ", offset, " … ", offset + n, ", the file has ",
            size_, " bytes");
    std::string out(n, '\0');
    read_(offset, out.data(), n);
    return out;
  }
  /// Offset of the end record, which contains the length of the comment after it, at most 65535 bytes.
  std::uint64_t find_end() const {
    const std::uint64_t n = std::min<std::uint64_t>(size_, 22 + 0xFFFF);
    const std::string tail = get(size_ - n, n, "its end");
    for (std::size_t back = 22; back <= tail.size(); ++back) {
      const std::size_t at = tail.size() - back;
      if (number(tail, at, 4) == 0x06054B50 && number(tail, at + 20, 2) == back - 22) return size_ - back;
    }
    error("is truncated, or not a .npz file: a zip archive's end is missing");
  }

#ifdef LPF_HAS_ZLIB
  std::string inflated(const ZipEntry& e, std::string& packed) const {
    if (e.method != 8)
      error("has '", e.name, "' packed by method ", e.method, "; known are 0 (stored) and 8 (deflated)");
    // Deflate's highest ratio is 1032: larger claims are rejected before memory is allocated.
    if (e.size / 1032 > e.packed + 1)
      error("is corrupt: '", e.name, "' would unpack from ", e.packed, " to ", e.size, " bytes");
    std::string out(e.size, '\0');
    z_stream stream{};
    stream.next_in = reinterpret_cast<Bytef*>(packed.data());
    char nothing = 0;  // zlib needs a valid pointer even for no bytes
    stream.next_out = reinterpret_cast<Bytef*>(out.empty() ? &nothing : out.data());
    check<OutOfMemoryError>(inflateInit2(&stream, -MAX_WBITS) == Z_OK, "load_npz",
                            "zlib cannot start: out of memory");
    const auto piece = [](std::uint64_t left) {  // zlib's counts are 32-bit
      return static_cast<uInt>(std::min<std::uint64_t>(left, 1u << 30));
    };
    int status = Z_OK;
    while (status == Z_OK) {
      stream.avail_in = piece(packed.size() - stream.total_in);
      stream.avail_out = piece(out.size() - stream.total_out);
      status = inflate(&stream, Z_NO_FLUSH);
    }
    const std::string reason = stream.msg ? stream.msg : "its size is another";
    const bool whole =
        status == Z_STREAM_END && stream.total_in == packed.size() && stream.total_out == out.size();
    inflateEnd(&stream);
    if (!whole) error("is corrupt: '", e.name, "' cannot be unpacked: ", reason);
    return out;
  }
  void check_sum(const ZipEntry& e, const std::string& bytes) const {
    const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
    if (crc != e.crc) error("is corrupt: the checksum of '", e.name, "' is ", crc, ", not ", e.crc);
  }
#else
  [[noreturn]] std::string inflated(const ZipEntry&, std::string&) const { no_zlib(); }
  [[noreturn]] void check_sum(const ZipEntry&, const std::string&) const { no_zlib(); }
  [[noreturn]] void no_zlib() const {
    fail<IOError>("load_npz", "'", path_,
                  "' is an archive, and this program is built without zlib: save its arrays as .npy or "
                  ".safetensors, or install zlib (on Debian: zlib1g-dev) and link lpf::io");
  }
#endif

  std::string path_;
  std::uint64_t size_;
  Read read_;
  std::vector<ZipEntry> entries_;
};

/// The arrays of these names, in their order; all if there are none.
template <class Read>
NamedTensors read_npz(const std::string& path, std::uint64_t size, Read read,
                      const std::vector<std::string>& names) {
  constexpr std::string_view ending = ".npy";
  const ZipReader<Read> zip(path, size, std::move(read));
  std::vector<std::pair<std::string, const ZipEntry*>> arrays;
  for (const ZipEntry& e : zip.entries()) {
    const bool array = e.name.size() > ending.size() && e.name.ends_with(ending);
    check<FormatError>(array || !names.empty(), "load_npz", "'", path, "' has a file '", e.name,
                       "', and a .npz file holds arrays NAME.npy alone");
    if (!array) continue;
    std::string name = e.name.substr(0, e.name.size() - ending.size());
    for (const auto& [other, entry] : arrays)
      check<FormatError>(other != name, "load_npz", "'", path, "' has two arrays '", name, "'");
    arrays.emplace_back(std::move(name), &e);
  }
  const auto read_array = [&](const std::string& name, const ZipEntry& e) {
    return std::pair(name, parse_npy(zip.bytes(e), path + ": " + e.name));
  };
  NamedTensors out;
  if (names.empty())
    for (const auto& [name, entry] : arrays) out.push_back(read_array(name, *entry));
  for (const std::string& name : names) {
    const auto found =
        std::find_if(arrays.begin(), arrays.end(), [&](const auto& a) { return a.first == name; });
    if (found == arrays.end()) {
      std::vector<std::string> known;
      for (const auto& [other, entry] : arrays) known.push_back(other);
      fail("load_npz", "'", path, "' has no array '", name, "' among its ", known.size(),
           suggest(name, known));
    }
    out.push_back(read_array(name, *found->second));
  }
  return out;
}

}  // namespace detail

/// The arrays of a .npz file by name, in the file's order; element types as in load_npy. With `names` only
/// these are read, in this order, whatever the others are. Throws IOError if it cannot be read; FormatError,
/// naming file, array and rule, if it is truncated, corrupt, or contains what load_npy does not read;
/// ValueError, which suggests similar names, for an array that is not there.
inline NamedTensors load_npz(const std::string& path, const std::vector<std::string>& names = {}) {
  const detail::InputFile file(path, "load_npz");
  return detail::read_npz(
      path, file.size(), [&](std::uint64_t offset, void* to, std::uint64_t n) { file.read(offset, to, n); },
      names);
}

/// The same from bytes in memory. Errors name `path`.
inline NamedTensors parse_npz(std::string_view bytes, const std::string& path = "memory",
                              const std::vector<std::string>& names = {}) {
  return detail::read_npz(
      path, bytes.size(),
      [&](std::uint64_t offset, void* to, std::uint64_t n) {
        if (n > 0) std::copy_n(bytes.data() + offset, n, static_cast<char*>(to));
      },
      names);
}

}  // namespace lpf
