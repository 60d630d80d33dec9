// The folder of a program's results, for one process at a time.
#pragma once

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"
#include "lpf/io/atomic_file.hpp"

namespace lpf {

/// Owns a folder until it is destroyed: creates it with its parents, locks it, and removes the temporary files
/// of killed processes. The lock is advisory, on the file `.lock` in the folder, which contains the number of
/// the process and stays there; the kernel releases it when the process ends in any way. Where a file system has
/// no locks, nothing is locked.
class OutputFolder {
 public:
  /// Programs that share a folder and write different files give `lock` names of their own. Throws StateError,
  /// naming folder and process, if another process (or object) owns it; IOError if it cannot be written to.
  explicit OutputFolder(std::string path, std::string_view operation = "OutputFolder",
                        std::string_view lock = ".lock")
      : path_(std::move(path)) {
    create_directories(path_);
    const std::string name = detail::text_of(detail::path_of(path_) / lock);
    lock_.reset(detail::os::open(name, {.read = true, .write = true, .create = true}));
    if (!lock_) detail::file_error(operation, "write", name, errno);
    if (detail::os::try_lock(lock_.get()) == detail::os::LockAttempt::held_by_another)
      fail<StateError>(operation, "'", path_, "' is in use by another process", owner(),
                       ": wait until it has ended, or choose another folder");
    // It is only for messages: that a full disk does not take it is no error yet.
    if (detail::os::truncate(lock_.get(), 0) == 0)
      (void)detail::os::write_fully(lock_.get(), concat(detail::os::process_id(), "\n"));
    remove_abandoned_files(path_);
  }

  const std::string& path() const { return path_; }

 private:
  /// ", 4711", the number in the lock file; empty if there is none.
  std::string owner() const {
    char text[32];
    const std::int64_t n = detail::os::read_at(lock_.get(), text, sizeof text, 0);
    std::int64_t number = 0;
    if (n <= 0 || std::from_chars(text, text + n, number).ec != std::errc() || number <= 0) return "";
    return concat(", ", number);
  }

  std::string path_;
  detail::FileDescriptor lock_;
};

}  // namespace lpf
