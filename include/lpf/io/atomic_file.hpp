// Atomic replacement of files: write a temporary file, sync, rename. A file is the old or the new one, never
// half written.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"
#include "lpf/io/path.hpp"

namespace lpf {

namespace detail {

/// Throws the IOError of a system call that set errno to `error`: what failed, on which path, what to do.
[[noreturn]] inline void file_error(std::string_view operation, std::string_view action,
                                    std::string_view path, int error) {
  std::string_view advice;
  switch (error) {
    case ENOSPC:
#ifdef EDQUOT
    case EDQUOT:
#endif
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

/// Owns a file descriptor. The destructor ignores errors of close(): release() it to close it with a check.
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
    if (fd_ >= 0) os::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// Whether AtomicFile may have given a file this name: `.NAME.PID-N.tmp`.
inline bool is_temporary_name(std::string_view name) {
  constexpr std::string_view end = ".tmp", digits = "0123456789";
  if (!name.starts_with('.') || !name.ends_with(end)) return false;
  name.remove_suffix(end.size());
  const auto number = [&](char before) {
    const std::size_t at = name.find_last_not_of(digits);
    if (at == std::string_view::npos || at + 1 == name.size() || name[at] != before) return false;
    name = name.substr(0, at);
    return true;
  };
  return number('-') && number('.') && name.size() > 1;
}

}  // namespace detail

/// Removes the temporary files of AtomicFile that killed processes left in a folder. A living process has a lock
/// on its own, which are kept, whatever their names say: process numbers are used again. What cannot be opened,
/// locked or removed stays.
inline void remove_abandoned_files(const std::string& folder) {
  std::error_code ignored;
  for (std::filesystem::directory_iterator at(detail::path_of(folder), ignored), end; at != end;
       at.increment(ignored)) {
    if (!detail::is_temporary_name(detail::text_of(at->path().filename()))) continue;
    const std::string path = detail::text_of(at->path());
    detail::FileDescriptor file;
    file.reset(detail::os::open(path, {.read = true, .write = true, .itself = true}));
    if (!file || detail::os::try_lock(file.get()) != detail::os::LockAttempt::taken) continue;
    std::error_code kept;  // the owner may have renamed it in between
    if (detail::os::is_name_of(path, file.get())) std::filesystem::remove(at->path(), kept);
  }
}

/// Creates the folder `path` and its parents; existing ones are left as they are. Returns those created, the outermost
/// first. Throws IOError naming the folder that could not be created and the system's reason.
inline std::vector<std::filesystem::path> create_directories(const std::string& path) {
  check(!path.empty(), "create_directories", "the path is empty: name a folder");
  std::vector<std::filesystem::path> created;
  const std::filesystem::path whole = detail::path_of(path);
  std::filesystem::path folder = whole.root_path();  // "C:\\" on Windows
  for (const auto& part : whole.relative_path()) {
    folder /= part;
    std::error_code error;
    if (std::filesystem::is_directory(folder, error)) continue;
    if (std::filesystem::create_directory(folder, error)) created.push_back(folder);
    if (error == std::errc::file_exists) error = std::make_error_code(std::errc::not_a_directory);
    if (error)
      detail::file_error("create_directories", "create the folder", detail::text_of(folder),
                         detail::os::errno_of(error));
  }
  return created;
}

/// A file under construction. Its bytes are written to a temporary file in the same folder; commit() renames
/// it to `path`; without commit() the destructor removes it and `path` is unchanged. A process killed at any
/// moment leaves the old or the new file complete (and perhaps a hidden `.NAME.PID-N.tmp`, see
/// remove_abandoned_files()). An existing file keeps its permissions, a symbolic link stays a link; devices and pipes are
/// refused. Every failure is an IOError with path and reason. On Windows that a program has the old file open is one.
class AtomicFile {
 public:
  /// Opens the temporary file.
  explicit AtomicFile(std::string path, std::string_view operation = "AtomicFile")
      : path_(std::move(path)), operation_(operation) {
    check(!path_.empty(), operation_, "the path is empty: name a file");
    std::error_code reason;
    const std::filesystem::file_status found = std::filesystem::status(detail::path_of(path_), reason);
    const bool exists = std::filesystem::exists(found);
    if (exists && !std::filesystem::is_regular_file(found)) {
      if (std::filesystem::is_directory(found)) error("write", EISDIR);
      fail<IOError>(operation_, "cannot replace '", path_, "': it is a device or a pipe, not a file");
    }
    if (exists && !detail::os::may_write(path_)) error("write", errno);
    target_ = detail::path_of(path_);
    if (exists) target_ = std::filesystem::canonical(target_, reason);
    if (target_.empty()) error("write", detail::os::errno_of(reason));
    folder_ = target_.has_parent_path() ? target_.parent_path() : ".";
    const std::string name = detail::text_of(target_.filename());
    if (name.empty()) error("write", EISDIR);
    constexpr std::size_t longest = 255;
    if (name.size() > longest) error("write", ENAMETOOLONG);
    std::size_t kept = std::min<std::size_t>(name.size(), 200);  // whole characters
    while (kept < name.size() && kept > 0 && (static_cast<unsigned char>(name[kept]) & 0xC0) == 0x80) --kept;

    static std::atomic<unsigned> serial{0};
    do {  // a unique name: the first may belong to another process, or be left by a killed one
      temporary_ = folder_ / detail::path_of(concat(".", name.substr(0, kept), ".", detail::os::process_id(),
                                                    "-", serial++, ".tmp"));
      file_.reset(
          detail::os::open(detail::text_of(temporary_), {.write = true, .create = true, .exclusive = true}));
    } while (file_ ? !claim() : errno == EEXIST);
    if (!file_) {
      temporary_.clear();
      error("write", errno);
    }
    if (exists) std::filesystem::permissions(temporary_, found.permissions(), reason);
    if (exists && reason) abandon("write", detail::os::errno_of(reason));
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() { discard(); }

  /// Appends bytes to the new file.
  void write(std::string_view bytes) {
    check<StateError>(bool(file_), operation_, "'", path_, "' is already committed or failed: open it again");
    if (const int error = detail::os::write_fully(file_.get(), bytes)) abandon("write", error);
  }

  /// Syncs the bytes to disk and replaces the old file by the new one.
  void commit() {
    check<StateError>(bool(file_), operation_, "'", path_, "' is already committed or failed: open it again");
    if (const int error = detail::os::sync(file_.get())) abandon("write", error);
    detail::FileDescriptor lock;  // until it has its name: a close may report an error, and would release it
    lock.reset(detail::os::duplicate(file_.get()));
    if (!lock) abandon("write", errno);
    if (const int error = detail::os::close(file_.release())) abandon("write", error);
    if (const int error = detail::os::replace(detail::text_of(temporary_), detail::text_of(target_)))
      abandon("write", error);
    temporary_.clear();
    // The rename survives a power loss only once the folder is synced.
    if (const int number = detail::os::sync_folder(detail::text_of(folder_)))
      error("sync the folder of", number);
  }

 private:
  [[noreturn]] void error(std::string_view action, int number) const {
    detail::file_error(operation_, action, path_, number);
  }
  [[noreturn]] void abandon(std::string_view action, int number) {
    discard();
    error(action, number);
  }
  /// Locks the temporary file. False if remove_abandoned_files() has found it before it was locked.
  bool claim() {
    const bool kept = detail::os::try_lock(file_.get()) != detail::os::LockAttempt::held_by_another &&
                      detail::os::has_name(file_.get());
    if (!kept) file_.reset();
    return kept;
  }
  void discard() noexcept {
    file_.reset();
    std::error_code ignored;
    if (!temporary_.empty()) std::filesystem::remove(temporary_, ignored);
    temporary_.clear();
  }

  std::string path_, operation_;
  std::filesystem::path target_, folder_, temporary_;
  detail::FileDescriptor file_;
};

/// Replaces the file `path` by `bytes` atomically (see AtomicFile); throws IOError.
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
