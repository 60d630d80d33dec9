// Files for the tests of readers, plain and compressed.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "lpf/io/compressed.hpp"
#include "lpf_test.hpp"

namespace lpf::test {

/// Writes a file, and creates its folder.
inline void write(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

#ifdef LPF_HAS_ZLIB
inline std::string gzip(const std::string& bytes) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(bytes.size() + 1000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  deflateEnd(&stream);
  return out.substr(0, stream.total_out);
}
#endif
#ifdef LPF_HAS_LZMA
inline std::string xz(const std::string& bytes) {
  std::string out(bytes.size() + 1000, '\0');
  std::size_t size = 0;
  REQUIRE(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, nullptr,
                                  reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(),
                                  reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size()) == LZMA_OK);
  return out.substr(0, size);
}
#endif

}  // namespace lpf::test
