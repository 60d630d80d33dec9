// What differs between operating systems: files by their descriptors, the terminal, signals, the process, its
// processors and memory. The bodies are in os_posix.inc and os_windows.inc; the rest of LPF is standard C++. Names of
// files are UTF-8 everywhere, and files are bytes: no line end is translated.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace lpf::detail::os {

/// The errno of an error of std::filesystem, whose numbers are the system's own on Windows.
inline int errno_of(const std::error_code& error) {
  const std::error_condition condition = error.default_error_condition();
  return condition.category() == std::generic_category() ? condition.value() : EIO;
}

// Files. Functions that return an int, descriptors apart, return 0 or the errno of the failure; interrupted calls are
// repeated.

/// How a file is opened: read, write or both, and what else.
struct OpenMode {
  bool read = false, write = false;
  bool create = false;  ///< makes it, if there is none
  bool exclusive =
      false;  ///< with create: only if there is none. On Windows no other process may write to it then
  bool truncate = false, append = false;
  bool itself =
      false;  ///< what the path names: no file that a link leads to, no waiting for the other end of a pipe
};

/// A descriptor, which a program that this one starts does not inherit; −1 and errno after a failure.
inline int open(const std::string& path, const OpenMode& mode);
/// A second descriptor of an open file, with the same lock.
inline int duplicate(int file);
inline int close(int file);
/// Writes all of `bytes`.
inline int write_fully(int file, std::string_view bytes);
/// Reads at most n bytes at `offset`. The number of bytes, 0 at the end; −1 and errno after a failure.
inline std::int64_t read_at(int file, void* to, std::uint64_t n, std::int64_t offset);
/// Where the file ends; −1 if it is a pipe.
inline std::int64_t end_of(int file);
inline int truncate(int file, std::int64_t bytes);
/// Waits until the bytes are on the disk.
inline int sync(int file);

enum class FileKind { regular, folder, other };
inline int kind_of(int file, FileKind& kind);
/// Whether this open file has a name still.
inline bool has_name(int file);
/// Whether `path` is a name of this open regular file, and no link to it.
inline bool is_name_of(const std::string& path, int file);
/// Whether the program may write to the existing file `path`; if not, errno says why.
inline bool may_write(const std::string& path);
/// Gives the file `from` the name `to`, in place of a file that has it: other programs see one or the other.
inline int replace(const std::string& from, const std::string& to);
/// Waits until the names of the files of a folder are on the disk. 0 where a folder cannot be opened or synced.
inline int sync_folder(const std::string& path);
/// Gives a file, the one that a link leads to, a second name.
inline int link(const std::string& path, const std::string& second);

enum class LockAttempt { taken, held_by_another, unsupported };
/// Tries to take the advisory lock of an open file. It belongs to the descriptor and its duplicates: the system
/// releases it when they are closed, also by the death of the process. A few file systems have no locks.
inline LockAttempt try_lock(int file);

// The terminal.

/// The descriptor of a stream; −1 if it has none.
inline int descriptor_of(std::FILE* stream);
inline bool is_terminal(int file);
/// The columns of a terminal; 0 if the system does not know.
inline int columns_of(int file);
/// Whether the terminal moves its cursor by escape sequences. On Windows this turns them on.
inline bool has_escapes(int file);
/// Whether the terminal shows UTF-8.
inline bool shows_utf8();
/// Called first by a program: its standard streams are open, so that no file gets their numbers, and what it prints is
/// UTF-8 with '\n' on Windows too.
inline void prepare_standard_streams();
/// The arguments of main() in UTF-8.
inline std::vector<std::string> arguments(int argc, char** argv);

// The process.

inline std::int64_t process_id();
/// The name of this computer; empty if it has none.
inline std::string host_name();
/// The most memory that the process has had, in MiB.
inline double peak_megabytes();
/// The number of processors that the process may run on.
inline int processors();
/// Calls f in every child process that is a copy of this one.
inline void after_fork(void (*f)());
/// n bytes at a multiple of `alignment`, of which n is one too; null if there are none.
inline void* allocate_aligned(std::size_t alignment, std::size_t n);
inline void free_aligned(void* block);

// A variable of each thread, of a type with a destructor; one for a type.
//   template <class T> T& of_thread()

// Signals: in both .inc, since their contents differ.
//   const char* stop_signal_name(int signal)   "SIGINT"
//   class StopHandler                          while it exists, calls handler(signal) for the signals that ask a
//                                              program to end. One that is ignored stays ignored. The second of a
//                                              kind ends the program, as without it.
//   explicit StopHandler(void (*handler)(int))

}  // namespace lpf::detail::os

#ifdef _WIN32
#  include "lpf/core/os_windows.inc"
#else
#  include "lpf/core/os_posix.inc"
#endif
