// What files that are replaced as a whole do in processes that are killed, with permissions, and where system calls fail.
#ifdef _WIN32

#  include "lpf_test.hpp"

TEST_CASE("atomic files: killed processes, permissions, failing calls") {
  lpf::test::skip("these tests call POSIX functions");
}

#else

#  include <sys/resource.h>
#  include <sys/stat.h>
#  include <sys/syscall.h>
#  include <sys/wait.h>
#  include <unistd.h>

#  include <algorithm>
#  include <csignal>
#  include <string>
#  include <vector>

#  include "folder.hpp"
#  include "lpf/io/atomic_file.hpp"
#  include "lpf/io/output_folder.hpp"

using namespace lpf;
using namespace lpf::test;

// System calls that fail on request: a failing disk reports it in fsync or close.
static thread_local int fsync_error = 0, close_error = 0;
extern "C" int fsync(int fd) {
  if (fsync_error) return errno = fsync_error, -1;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
extern "C" int close(int fd) {
  const int result = static_cast<int>(::syscall(SYS_close, fd));
  if (close_error) return errno = close_error, -1;
  return result;
}

namespace {

// Runs f in a child process and returns its exit status (f's result), or -signal.
template <class F>
int in_child(F f) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(f());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

TEST_CASE("a name of the greatest length") {
  const Folder folder;
  write_file_atomically(folder / std::string(255, 'n'), "x");
  CHECK(folder.names().size() == 1);
  CHECK(io_error([&] {
          write_file_atomically(folder / std::string(256, 'n'), "x");
        }).find("File name too long") != std::string::npos);
}

TEST_CASE("a relative name") {
  const Folder folder;
  CHECK(in_child([&] {
          if (::chdir(folder.path().c_str()) != 0) return 1;
          write_file_atomically("b.txt", "x");
          create_directories("c/d");
          return ::rmdir("c/d") + ::rmdir("c");
        }) == 0);
  CHECK(read(folder / "b.txt") == "x");
}

TEST_CASE("permissions stay, a new file follows the umask, a link stays a link") {
  const Folder folder;
  const std::string path = folder / "a.txt", link = folder / "link";
  const mode_t mask = ::umask(027);
  write_file_atomically(path, "one");
  ::umask(mask);
  struct stat found {};
  REQUIRE(::stat(path.c_str(), &found) == 0);
  CHECK((found.st_mode & 07777) == 0640);
  ::chmod(path.c_str(), 0604);
  REQUIRE(::symlink("a.txt", link.c_str()) == 0);
  write_file_atomically(link, "two");
  REQUIRE(::lstat(link.c_str(), &found) == 0);
  CHECK(S_ISLNK(found.st_mode));
  REQUIRE(::stat(path.c_str(), &found) == 0);
  CHECK((found.st_mode & 07777) == 0604);
  CHECK(read(path) == "two");
}

TEST_CASE("a device") {
  const Folder folder;
  const std::string pipe = folder / "pipe";  // instead of a device, which would not survive a failure here
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(io_error([&] { write_file_atomically(pipe, "x"); }).find("device") != std::string::npos);
  CHECK(folder.names().size() == 1);
  struct stat found {};
  REQUIRE(::stat(pipe.c_str(), &found) == 0);
  CHECK(S_ISFIFO(found.st_mode));
}

TEST_CASE("a folder and a file that may not be written") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  write_file_atomically(path, "old");
  ::chmod(folder.path().c_str(), 0555);
  const auto denied = [&] {  // root may write everywhere: use another user
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 2;
    const std::string words = io_error([&] { write_file_atomically(path, "new"); });
    return words.find("cannot write '" + path + "': Permission denied") != std::string::npos ? 0 : 1;
  };
  CHECK(in_child(denied) == 0);
  ::chmod(folder.path().c_str(), 0777);
  ::chmod(path.c_str(), 0444);
  CHECK(in_child(denied) == 0);
  CHECK(read(path) == "old");
  CHECK(folder.names().size() == 1);
}

TEST_CASE("a disk that is full") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  write_file_atomically(path, "old");
  const int status = in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    const std::string big(5000, 'x');
    const std::string words = io_error([&] { write_file_atomically(path, big); });
    return words.find("'" + path + "': File too large; free some space") != std::string::npos ? 0 : 1;
  });
  CHECK(status == 0);
  CHECK(read(path) == "old");
  CHECK(folder.names() == std::vector<std::string>{"a.txt"});
}

TEST_CASE("a disk that reports its failure late") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  write_file_atomically(path, "old");
  fsync_error = EIO;
  const std::string sync_words = io_error([&] { write_file_atomically(path, "new"); });
  fsync_error = 0;
  CHECK(sync_words == "[write_file_atomically] cannot write '" + path + "': Input/output error");
  CHECK(read(path) == "old");
  close_error = ENOSPC;
  const std::string close_words = io_error([&] { write_file_atomically(path, "new"); });
  close_error = 0;
  CHECK(close_words.find("No space left on device; free some space") != std::string::npos);
  CHECK(read(path) == "old");
  CHECK(folder.names() == std::vector<std::string>{"a.txt"});
}

TEST_CASE("out of file descriptors") {
  const Folder folder;
  const int status = in_child([&] {
    rlimit before{};
    if (::getrlimit(RLIMIT_NOFILE, &before) != 0) return 2;
    const rlimit limit{3, before.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 2;
    const std::string words = io_error([&] {
      try {
        write_file_atomically(folder / "a.txt", "x");
      } catch (...) {
        ::setrlimit(RLIMIT_NOFILE, &before);  // a sanitizer needs a descriptor to inspect the exception
        throw;
      }
    });
    return words.find("Too many open files") != std::string::npos ? 0 : 1;
  });
  CHECK(status == 0);
}

TEST_CASE("a process killed at any moment leaves the old or the new file whole") {
  const Folder folder;
  const std::string path = folder / "a.bin";
  const std::string contents[] = {std::string(300000, 'a'), std::string(500000, 'b')};
  write_file_atomically(path, contents[0]);
  for (int round = 0; round < 15; ++round) {
    const pid_t child = ::fork();
    if (child == 0)
      for (int i = 0;; ++i) write_file_atomically(path, contents[i & 1]);
    ::usleep(static_cast<useconds_t>(1000 + 1700 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string found = read(path);
    CHECK((found == contents[0] || found == contents[1]));
  }
  write_file_atomically(path, "fine");
  CHECK(read(path) == "fine");
}

TEST_CASE("create_directories where nothing can be created") {
  CHECK(io_error([&] { create_directories("/proc/lpf"); }).find("cannot create the folder '/proc/lpf'") !=
        std::string::npos);
}

namespace {

/// Runs f in a process that is then killed; returns its number.
template <class F>
pid_t killed(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    f();
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  return child;
}

}  // namespace

TEST_CASE("remove_abandoned_files: those of killed processes") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  const pid_t dead = killed([&] {
    AtomicFile file(path);
    file.write("half");
    ::raise(SIGKILL);
  });
  const std::string left = "." + std::string("a.txt.") + std::to_string(dead) + "-";
  REQUIRE(folder.names().size() == 1);
  CHECK(folder.names()[0].starts_with(left));
  remove_abandoned_files(folder.path());
  CHECK(folder.names().empty());
}

TEST_CASE("AtomicFile: a file under construction in another process is kept, also while it is committed") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  const pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i < 300; ++i) {
      try {
        write_file_atomically(path, std::to_string(i));
      } catch (const std::exception&) { ::_exit(1); }
    }
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) remove_abandoned_files(folder.path());
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(folder.names() == std::vector<std::string>{"a.txt"});
}

TEST_CASE("OutputFolder: one process at a time, until it ends in any way") {
  const Folder parent;
  const std::string path = parent / "run";
  {
    const OutputFolder folder(path, "train");
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        const OutputFolder other(path);
      } catch (const StateError&) { ::_exit(7); }
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK(WEXITSTATUS(status) == 7);
    const OutputFolder another(path, "study", ".lock-1-of-2");
  }
  killed([&] {
    const OutputFolder folder(path);
    AtomicFile file(path + "/a.txt");
    ::raise(SIGKILL);
  });
  const OutputFolder again(path);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{".lock", ".lock-1-of-2"});
}

#endif
