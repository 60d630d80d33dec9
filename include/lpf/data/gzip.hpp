// Files packed with gzip. Needs zlib, which CMake's target lpf::io brings along (LPF_HAS_ZLIB) where it is
// installed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "lpf/core/error.hpp"
#include "lpf/data/file.hpp"

#ifdef LPF_HAS_ZLIB
#  include <zlib.h>
#endif

namespace lpf::detail {

inline bool is_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"); }

#ifdef LPF_HAS_ZLIB

/// Unpacks gzip data. Throws FormatError if they are truncated or corrupt, or if other bytes follow.
inline std::string gunzip(std::string_view packed, std::string_view path, std::string_view operation) {
  z_stream stream{};
  check<Error>(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK, operation, "zlib cannot start: out of memory");
  struct End {
    z_stream* stream;
    ~End() { inflateEnd(stream); }
  } const end{&stream};

  // The last four bytes are the size that was packed (modulo 2^32): a guess, since anything may be written
  // there.
  std::uint64_t guess = 0;
  for (std::size_t i = 1; i <= std::min<std::size_t>(packed.size(), 4); ++i)
    guess = guess << 8 | static_cast<unsigned char>(packed[packed.size() - i]);
  std::string out(std::min<std::uint64_t>(guess, packed.size() * 16) + 1, '\0');

  constexpr std::size_t most = 1u << 30;  // zlib counts with 32 bits
  std::size_t read = 0, written = 0;
  for (int status = Z_OK; status != Z_STREAM_END || read < packed.size();) {
    if (status == Z_STREAM_END) {  // gzip allows one file after another
      check<FormatError>(is_gzip(packed.substr(read)), operation, "'", path, "': ", packed.size() - read,
                         " bytes follow the gzip data");
      inflateReset(&stream);
    }
    if (written == out.size()) out.resize(out.size() * 2);
    const std::size_t input = std::min(packed.size() - read, most),
                      room = std::min(out.size() - written, most);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data() + read));
    stream.avail_in = static_cast<uInt>(input);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + written);
    stream.avail_out = static_cast<uInt>(room);
    status = inflate(&stream, Z_NO_FLUSH);
    read += input - stream.avail_in;
    written += room - stream.avail_out;
    check<FormatError>(status == Z_OK || status == Z_STREAM_END, operation, "'", path,
                       "': the gzip data are ",
                       status == Z_BUF_ERROR
                           ? concat("truncated after ", packed.size(), " bytes")
                           : concat("corrupt near byte ", read, ": ", stream.msg ? stream.msg : "unknown"));
  }
  out.resize(written);
  return out;
}

#else

[[noreturn]] inline std::string gunzip(std::string_view, std::string_view path, std::string_view operation) {
  fail<IoError>(operation, "'", path,
                "' is packed with gzip, and this program is built without zlib: unpack it with ",
                "gunzip, or install zlib (on Debian: zlib1g-dev) and link lpf::io, or define LPF_HAS_ZLIB=1 "
                "and link -lz");
}

#endif

/// The bytes of a file, unpacked if it is gzip. Throws IoError, FormatError.
inline std::string read_maybe_gzip(const std::string& path, std::string_view operation) {
  std::string bytes = read_file(path, operation);
  return is_gzip(bytes) ? gunzip(bytes, path, operation) : bytes;
}

}  // namespace lpf::detail
