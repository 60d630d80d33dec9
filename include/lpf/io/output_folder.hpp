// The folder of a program's results, for one process at a time.
#pragma once

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"
#include "lpf/io/atomic_file.hpp"

namespace lpf {

/// Owns a folder until it is destroyed: creates it with its parents, locks it, and removes the temporary files
/// of killed processes. The lock is advisory, on the file `.lock` in the folder, which contains the number of
/// the process and stays there with the results; the kernel releases it when the process ends in any way. Where a file
/// system has no locks, nothing is locked. Folders that it has created, and in which nothing was written, are removed.
class OutputFolder {
 public:
  /// Programs that share a folder and write different files give `lock` names of their own. Throws StateError,
  /// naming folder and process, if another process (or object) owns it; IOError if it cannot be written to.
  explicit OutputFolder(std::string path, std::string_view operation = "OutputFolder",
                        std::string_view lock = ".lock")
      : path_(std::move(path)), name_(detail::path_of(path_) / lock) {
    const std::string name = detail::text_of(name_);
    constexpr int attempts = 10;  // another process may remove folder and lock between two of these calls
    for (int attempt = 1;; ++attempt) {
      for (auto& folder : create_directories(path_)) created_.push_back(std::move(folder));
      lock_.reset(detail::os::open(name, {.read = true, .write = true, .create = true}));
      if (!lock_ && (errno != ENOENT || attempt == attempts))
        detail::file_error(operation, "write", name, errno);
      if (!lock_) continue;
      if (detail::os::try_lock(lock_.get()) == detail::os::LockAttempt::held_by_another)
        fail<StateError>(operation, "'", path_, "' is in use by another process", owner(),
                         ": wait until it has ended, or choose another folder");
      if (detail::os::is_name_of(name, lock_.get()) || attempt == attempts) break;
    }
    // It is only for messages: that a full disk does not take it is no error yet.
    if (detail::os::truncate(lock_.get(), 0) == 0)
      (void)detail::os::write_fully(lock_.get(), concat(detail::os::process_id(), "\n"));
    remove_abandoned_files(path_);
  }
  ~OutputFolder() {
    std::error_code error;
    if (created_.empty()) return;
    for (std::filesystem::directory_iterator at(detail::path_of(path_), error), end; !error && at != end;
         at.increment(error))
      if (at->path().filename() != name_.filename()) return;
    if (error) return;
    std::filesystem::remove(name_, error);
    for (auto folder = created_.rbegin(); folder != created_.rend(); ++folder)
      std::filesystem::remove(*folder, error);  // unless another process has written something there
  }
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

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
  std::filesystem::path name_;  // of the lock
  std::vector<std::filesystem::path> created_;
  detail::FileDescriptor lock_;
};

}  // namespace lpf
