// Reading files whole or not at all, and a suggestion where a name is not found.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf::detail {

/// A regular file open for reading. Every failure is an IOError with path and reason.
class InputFile {
 public:
  InputFile(std::string path, std::string_view operation) : path_(std::move(path)), operation_(operation) {
    fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) error(errno);
    struct stat found {};
    const int failed = ::fstat(fd_, &found) == 0 ? 0 : errno;
    if (failed != 0 || !S_ISREG(found.st_mode)) {
      ::close(fd_);
      if (failed != 0) error(failed);
      fail<IOError>(operation_, "cannot read '", path_, "': it is ",
                    S_ISDIR(found.st_mode) ? "a folder" : "a device or a pipe", ", give the name of a file");
    }
    size_ = static_cast<std::uint64_t>(found.st_size);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile() { ::close(fd_); }

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }

  /// Reads bytes [offset, offset + n) of the file.
  void read(std::uint64_t offset, void* to, std::uint64_t n) const {
    auto* out = static_cast<char*>(to);
    while (n > 0) {
      constexpr std::uint64_t most = std::uint64_t{1} << 30;  // Linux reads no more than 2 GiB at once
      const auto got = ::pread(fd_, out, std::min(n, most), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) error(errno);
      check<IOError>(got > 0, operation_, "cannot read '", path_, "': it became shorter while it was read, ",
                     n, " bytes are missing at ", offset);
      out += got;
      offset += static_cast<std::uint64_t>(got);
      n -= static_cast<std::uint64_t>(got);
    }
  }

 private:
  [[noreturn]] void error(int number) const {
    fail<IOError>(operation_, "cannot read '", path_, "': ", std::generic_category().message(number));
  }

  std::string path_, operation_;
  std::uint64_t size_ = 0;
  int fd_ = -1;
};

/// The whole file as bytes. Throws IOError.
inline std::string read_file(const std::string& path, std::string_view operation) {
  const InputFile file(path, operation);
  std::string bytes(file.size(), '\0');
  file.read(0, bytes.data(), bytes.size());
  return bytes;
}

/// Number of characters to insert, delete or replace to turn a into b (Levenshtein).
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

/// "; did you mean 'a' or 'b'?" with up to three of `names` that are closest to `name`, or the names
/// themselves where none is close, or nothing where there are none.
inline std::string suggest(std::string_view name, std::span<const std::string> names) {
  std::vector<std::pair<std::size_t, const std::string*>> near;
  for (const auto& candidate : names)
    near.emplace_back(edit_distance(name.substr(0, 256), candidate), &candidate);
  std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::size_t limit = std::max<std::size_t>(2, name.size() / 3);
  const bool close = !near.empty() && near.front().first <= limit;
  if (close) std::erase_if(near, [&](const auto& n) { return n.first > limit; });
  std::string out;
  for (std::size_t i = 0; i < std::min<std::size_t>(near.size(), 3); ++i) {
    out += concat(i == 0  ? (close ? "; did you mean '" : "; there are '")
                  : close ? "' or '"
                          : "', '",
                  *near[i].second);
  }
  if (out.empty()) return out;
  return out + (close ? "'?" : near.size() > 3 ? "', …" : "'");
}

}  // namespace lpf::detail
