// Reading files: all bytes, or an IOError.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"

namespace lpf::detail {

/// A regular file open for reading. Every failure is an IOError with path and reason.
class InputFile {
 public:
  InputFile(std::string path, std::string_view operation) : path_(std::move(path)), operation_(operation) {
    fd_ = os::open(path_, {.read = true});
    if (fd_ < 0 && errno != EISDIR) error(errno);
    auto kind = os::FileKind::folder;
    const int failed = fd_ < 0 ? 0 : os::kind_of(fd_, kind);
    if (failed != 0 || kind != os::FileKind::regular) {
      if (fd_ >= 0) os::close(fd_);
      if (failed != 0) error(failed);
      fail<IOError>(operation_, "cannot read '", path_, "': it is ",
                    kind == os::FileKind::folder ? "a folder" : "a device or a pipe",
                    ", give the name of a file");
    }
    size_ = static_cast<std::uint64_t>(os::end_of(fd_));
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile() { os::close(fd_); }

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }

  /// Reads bytes [offset, offset + n) of the file.
  void read(std::uint64_t offset, void* to, std::uint64_t n) const {
    auto* out = static_cast<char*>(to);
    while (n > 0) {
      const std::int64_t got = os::read_at(fd_, out, n, static_cast<std::int64_t>(offset));
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

}  // namespace lpf::detail
