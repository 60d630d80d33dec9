// Files that are the old ones or the new ones, never half of one: write beside, sync, rename.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "lpf/core/error.hpp"

namespace lpf {

namespace detail {

/// Throws the IOError of a system call that set errno to `error`: what failed, on which path, what to do.
[[noreturn]] inline void file_error(std::string_view operation, std::string_view action,
                                    std::string_view path, int error) {
  std::string_view advice;
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: advice = "; free some space, or write to another place"; break;
    case EACCES:
    case EPERM:
    case EROFS: advice = "; choose a place that you may write to"; break;
    case ENOENT: advice = "; create its folder first"; break;
    case ENOTDIR: advice = "; part of the path is a file, choose another folder"; break;
    case EISDIR: advice = "; give the name of a file inside it"; break;
    default: break;
  }
  fail<IOError>(operation, "cannot ", action, " '", path, "': ", std::generic_category().message(error),
                advice);
}

/// Owns an open file; closes it without looking at the result, so release() it to close it with.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~FileDescriptor() { reset(); }
  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// Writes all of `bytes` to `fd`; returns 0, or the errno that stopped it.
inline int write_fully(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return ENOSPC;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace detail

/// Creates the folder `path` and the folders above it; those that exist are fine.
/// Throws IOError naming the folder that could not be made and the system's reason.
inline void create_directories(const std::string& path) {
  check(!path.empty(), "create_directories", "the path is empty: name a folder");
  std::size_t end = 0;
  do {
    end = path.find('/', end + 1);
    const std::string folder = path.substr(0, end);
    if (::mkdir(folder.c_str(), 0777) == 0) continue;
    const int error = errno;
    struct stat found {};
    const bool exists = ::stat(folder.c_str(), &found) == 0;
    if (exists && S_ISDIR(found.st_mode)) continue;
    detail::file_error("create_directories", "create the folder", folder, exists ? ENOTDIR : error);
  } while (end != std::string::npos);
}

/// A file under construction. Its bytes go to a temporary file in the same folder; commit() puts that in
/// the place of `path` in one step; without commit() the destructor removes it and `path` is untouched.
/// A process killed at any moment leaves the old or the new file whole (and perhaps a hidden
/// `.NAME.PID-N.tmp`, which may be deleted). An existing file keeps its permissions, a symbolic link stays
/// a link; devices and pipes are refused. Every failure is an IOError with path and reason.
class AtomicFile {
 public:
  /// Opens the temporary file.
  explicit AtomicFile(std::string path, std::string_view operation = "AtomicFile")
      : path_(std::move(path)), operation_(operation) {
    check(!path_.empty(), operation_, "the path is empty: name a file");
    struct stat found {};
    const bool exists = ::stat(path_.c_str(), &found) == 0;
    if (exists && !S_ISREG(found.st_mode)) {
      if (S_ISDIR(found.st_mode)) error("write", EISDIR);
      fail<IOError>(operation_, "cannot replace '", path_, "': it is a device or a pipe, not a file");
    }
    if (exists && ::access(path_.c_str(), W_OK) != 0) error("write", errno);
    target_ = path_;
    if (exists) {
      const std::unique_ptr<char, void (*)(void*)> real(::realpath(path_.c_str(), nullptr), std::free);
      if (!real) error("write", errno);
      target_ = real.get();
    }
    const std::size_t slash = target_.rfind('/');
    folder_ = slash == std::string::npos ? "./" : target_.substr(0, slash + 1);
    const std::string name = slash == std::string::npos ? target_ : target_.substr(slash + 1);
    if (name.empty()) error("write", EISDIR);
    if (name.size() > NAME_MAX) error("write", ENAMETOOLONG);

    static std::atomic<unsigned> serial{0};
    do {  // a name of our own: another process, or one killed earlier, may hold the first choice
      temporary_ = concat(folder_, ".", name.substr(0, 200), ".", ::getpid(), "-", serial++, ".tmp");
      file_.reset(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    } while (!file_ && (errno == EEXIST || errno == EINTR));
    if (!file_) {
      temporary_.clear();
      error("write", errno);
    }
    if (exists && ::fchmod(file_.get(), found.st_mode & 07777) != 0) abandon("write", errno);
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() { discard(); }

  /// Appends bytes to the new file.
  void write(std::string_view bytes) {
    check<StateError>(bool(file_), operation_, "'", path_, "' is already committed or failed: open it again");
    if (const int error = detail::write_fully(file_.get(), bytes)) abandon("write", error);
  }

  /// Makes the bytes durable and puts the new file in the place of the old one.
  void commit() {
    check<StateError>(bool(file_), operation_, "'", path_, "' is already committed or failed: open it again");
    if (::fsync(file_.get()) != 0) abandon("write", errno);
    if (::close(file_.release()) != 0 && errno != EINTR) abandon("write", errno);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) abandon("write", errno);
    temporary_.clear();
    sync_folder();
  }

 private:
  [[noreturn]] void error(std::string_view action, int number) const {
    detail::file_error(operation_, action, path_, number);
  }
  [[noreturn]] void abandon(std::string_view action, int number) {
    discard();
    error(action, number);
  }
  void discard() noexcept {
    file_.reset();
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    temporary_.clear();
  }
  // The rename itself survives a loss of power only once the folder is on the disk. Some file systems
  // cannot sync a folder, and a folder may be writable but not readable: neither is a failure.
  void sync_folder() const {
    const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    const int number = ::fsync(folder) == 0 ? 0 : errno;
    ::close(folder);
    if (number != 0 && number != EINVAL && number != ENOTSUP) error("sync the folder of", number);
  }

  std::string path_, target_, folder_, temporary_;
  std::string operation_;
  detail::FileDescriptor file_;
};

/// Replaces the file `path` by `bytes`, entirely or not at all (see AtomicFile); throws IOError.
inline void write_file_atomically(const std::string& path, std::string_view bytes) {
  AtomicFile file(path, "write_file_atomically");
  file.write(bytes);
  file.commit();
}
/// The same for raw bytes: write_file_atomically(path, std::as_bytes(span)).
inline void write_file_atomically(const std::string& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace lpf
