// Sequential reading of a tar archive (POSIX ustar and pax, GNU tar), which may be compressed:
//
//   512 bytes    header: name 100, mode 8, owner 8, group 8, size 12 (octal), time 12, checksum 8, type 1, …,
//                "ustar" 6, …, prefix of the name 155 (at 345)
//   size bytes   the file, padded with zeros to a multiple of 512
//   …            the next one; a block of zeros ends the archive
//
// A name that does not fit is in an extended header, an entry before the file it belongs to: of type L it is
// the name (GNU), of type x it is records such as "27 path=cifar-10/name.bin\n", where the number is the
// record's length (pax).
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "lpf/io/compressed.hpp"

namespace lpf::detail {

/// Iterates over the regular files of an archive; skips folders, links and extended headers of more than 1
/// MiB. Every broken rule is a FormatError.
class TarReader {
 public:
  TarReader(std::unique_ptr<ByteSource> from, std::string path, std::string operation)
      : from_(std::move(from)), path_(std::move(path)), operation_(std::move(operation)) {}

  /// Advances to the next file; false at the end of the archive, which is then verified to be complete.
  bool next() {
    for (std::string long_name;;) {
      skip(left_ + padding_);
      left_ = padding_ = 0;
      Block header;
      read_exactly(header.data(), header.size());
      const auto all_zero = [&](std::size_t n) {
        return std::all_of(header.begin(), header.begin() + static_cast<std::ptrdiff_t>(n),
                           [](char c) { return c == 0; });
      };
      if (all_zero(header.size())) {  // reading on verifies the compressed stream's checksum
        while (const std::size_t n = from_->read(header.data(), header.size())) {
          at_ += n;
          if (!all_zero(n)) error("has data behind its end, before byte ", at_);
        }
        return false;
      }
      check_sum(header);
      size_ = left_ = octal(header, 124, 12, "size");
      padding_ = (block - size_ % block) % block;
      name_ = text(header, 0, 100);
      if (std::string_view(&header[257], 6) == std::string_view("ustar\0", 6)) {
        const std::string prefix = text(header, 345, 155);
        if (!prefix.empty()) name_ = prefix + "/" + name_;
      }
      const char type = header[156];
      if ((type == 'L' || type == 'x') && size_ <= std::uint64_t{1} << 20) {
        std::string name = extended_name(type);
        if (!name.empty()) long_name = std::move(name);
      }
      if (type == 'L' || type == 'x' || type == 'K' || type == 'g') continue;  // header of the next file
      if (!long_name.empty()) name_ = std::exchange(long_name, {});
      if (type == '0' || type == '\0') return true;
    }
  }
  const std::string& name() const { return name_; }
  std::uint64_t size() const { return size_; }

  /// The next bytes of this file: up to n, fewer only at its end.
  std::size_t read(void* to, std::size_t n) {
    n = static_cast<std::size_t>(std::min<std::uint64_t>(n, left_));
    read_exactly(static_cast<char*>(to), n);
    left_ -= n;
    return n;
  }

 private:
  static constexpr std::uint64_t block = 512;
  using Block = std::array<char, block>;

  template <class... Args>
  [[noreturn]] void error(const Args&... what) const {
    fail<FormatError>(operation_, "'", path_, "' ", what...);
  }
  void read_exactly(char* to, std::size_t n) {
    const std::size_t got = read_fully(*from_, to, n);
    at_ += got;
    if (got < n)
      error("is not a whole tar archive: it ends at byte ", at_, name_.empty() ? "" : ", in or after '",
            name_, name_.empty() ? "" : "'");
  }
  void skip(std::uint64_t n) {
    std::array<char, 1 << 14> unused;
    for (; n > 0; n -= std::min<std::uint64_t>(n, unused.size()))
      read_exactly(unused.data(), static_cast<std::size_t>(std::min<std::uint64_t>(n, unused.size())));
  }
  /// The name in an extended header; empty if it has none, or no records.
  std::string extended_name(char type) {
    std::string content(size_, '\0');
    read(content.data(), content.size());
    if (type == 'L') return content.substr(0, content.find('\0'));
    std::string name;
    for (std::string_view rest = content; !rest.empty();) {
      std::size_t length = 0;
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), length);
      const auto digits = static_cast<std::size_t>(end - rest.data());
      if (error != std::errc() || length > rest.size() || length < digits + 2) break;
      const std::string_view record = rest.substr(digits + 1, length - digits - 2);  // no space, newline
      if (record.starts_with("path=")) name = record.substr(5);
      rest.remove_prefix(length);
    }
    return name;
  }
  static std::string text(const Block& header, std::size_t at, std::size_t n) {
    const std::string_view field(&header[at], n);
    return std::string(field.substr(0, field.find('\0')));
  }
  std::uint64_t octal(const Block& header, std::size_t at, std::size_t n, const char* what) const {
    std::uint64_t value = 0;
    std::size_t i = at;
    while (i < at + n && header[i] == ' ') ++i;
    const std::size_t first = i;
    for (; i < at + n && header[i] >= '0' && header[i] <= '7'; ++i)
      value = value * 8 + static_cast<std::uint64_t>(header[i] - '0');
    if (i == first || (i < at + n && header[i] != ' ' && header[i] != '\0'))
      error("is not a tar archive: the header that ends at byte ", at_, " has no octal number for its ",
            what);
    return value;
  }
  /// The checksum is the sum of the header's bytes, its own eight counted as spaces.
  void check_sum(const Block& header) const {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < header.size(); ++i)
      sum += i >= 148 && i < 156 ? std::uint64_t{' '} : static_cast<unsigned char>(header[i]);
    const std::uint64_t written = octal(header, 148, 8, "checksum");
    if (sum != written)
      error("is not a tar archive, or corrupt: the header that ends at byte ", at_, " has checksum ", sum,
            ", and says ", written);
  }

  std::unique_ptr<ByteSource> from_;
  std::string path_, operation_, name_;
  std::uint64_t at_ = 0, size_ = 0, left_ = 0, padding_ = 0;
};

}  // namespace lpf::detail
