#include "lpf/io/atomic_file.hpp"

#include <dirent.h>
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "lpf/io/output_folder.hpp"

using namespace lpf;

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

// A folder for one test, removed with its content.
class Folder {
 public:
  Folder() {
    std::string name = "/tmp/lpf-atomic-XXXXXX";
    REQUIRE(::mkdtemp(name.data()));
    path_ = name;
  }
  ~Folder() {
    ::chmod(path_.c_str(), 0755);
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + '/' + name; }
  const std::string& path() const { return path_; }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    DIR* dir = ::opendir(path_.c_str());
    while (const dirent* entry = ::readdir(dir))
      if (const std::string name = entry->d_name; name != "." && name != "..") out.push_back(name);
    ::closedir(dir);
    return out;
  }

 private:
  std::string path_;
};

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <class F>
std::string io_error(F f) {
  try {
    f();
  } catch (const IOError& error) { return error.what(); }
  return "no IOError";
}

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

TEST_CASE("writes and replaces, and leaves nothing beside") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  write_file_atomically(path, "one");
  CHECK(read(path) == "one");
  write_file_atomically(path, std::string_view("t\0wo", 4));
  CHECK(read(path) == std::string("t\0wo", 4));
  write_file_atomically(path, "");
  CHECK(read(path).empty());
  const std::array<float, 2> values{1, 2};
  write_file_atomically(path, std::as_bytes(std::span(values)));
  CHECK(read(path).size() == 8);
  CHECK(folder.names() == std::vector<std::string>{"a.txt"});
}

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

TEST_CASE("an AtomicFile that is not committed leaves the old file, and can be used once") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  write_file_atomically(path, "old");
  {
    AtomicFile file(path);
    file.write("ne");
    file.write("w");
    CHECK(folder.names().size() == 2);
  }
  CHECK(read(path) == "old");
  CHECK(folder.names().size() == 1);
  AtomicFile file(path);
  file.write("ne");
  file.write("w");
  CHECK(read(path) == "old");
  file.commit();
  CHECK(read(path) == "new");
  CHECK_THROWS_AS(file.write("x"), StateError);
  CHECK_THROWS_AS(file.commit(), StateError);
}

TEST_CASE("a missing folder, a file in the way, a folder, a device") {
  const Folder folder;
  const std::string pipe = folder / "pipe";  // instead of a device, which would not survive a failure here
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  write_file_atomically(folder / "file", "x");
  CHECK(io_error([&] { write_file_atomically(folder / "no/a.txt", "x"); }) ==
        "[write_file_atomically] cannot write '" + (folder / "no/a.txt") +
            "': No such file or directory; create its folder first");
  CHECK(io_error([&] { write_file_atomically(folder / "file/a.txt", "x"); }).find("Not a directory") !=
        std::string::npos);
  CHECK(io_error([&] { write_file_atomically(folder.path(), "x"); }).find("Is a directory") !=
        std::string::npos);
  CHECK(io_error([&] { write_file_atomically(folder / "x/", "x"); }).find("Is a directory") !=
        std::string::npos);
  CHECK(io_error([&] { write_file_atomically(pipe, "x"); }).find("device") != std::string::npos);
  CHECK_THROWS_AS(write_file_atomically("", "x"), ValueError);
  CHECK(folder.names().size() == 2);
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

TEST_CASE("a name that becomes a folder meanwhile") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  AtomicFile file(path);
  file.write("x");
  create_directories(path);
  CHECK(io_error([&] { file.commit(); }).find("Is a directory") != std::string::npos);
  CHECK(folder.names() == std::vector<std::string>{"a.txt"});
  ::rmdir(path.c_str());
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

TEST_CASE("a leftover of a killed process with the same number is no obstacle") {
  const Folder folder;
  for (int i = 0; i < 200; ++i)
    std::ofstream(folder / concat(".a.txt.", ::getpid(), "-", i, ".tmp")) << "leftover";
  write_file_atomically(folder / "a.txt", "x");
  CHECK(read(folder / "a.txt") == "x");
  CHECK(folder.names().size() == 201);
}

TEST_CASE("create_directories") {
  const Folder folder;
  create_directories(folder / "x/y//z/");
  create_directories(folder / "x/y/z");
  create_directories("/");
  CHECK(::rmdir((folder / "x/y/z").c_str()) == 0);
  CHECK(::rmdir((folder / "x/y").c_str()) == 0);
  CHECK(::rmdir((folder / "x").c_str()) == 0);
  write_file_atomically(folder / "file", "x");
  CHECK(io_error([&] { create_directories(folder / "file/a"); }) ==
        "[create_directories] cannot create the folder '" + (folder / "file") +
            "': Not a directory; part of the path is a file, choose another folder");
  CHECK(io_error([&] { create_directories("/proc/lpf"); }).find("cannot create the folder '/proc/lpf'") !=
        std::string::npos);
  CHECK_THROWS_AS(create_directories(""), ValueError);
}

namespace {

bool has(const Folder& folder, const std::string& name) {
  const auto all = folder.names();
  return std::find(all.begin(), all.end(), name) != all.end();
}
void put(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

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

TEST_CASE("remove_abandoned_files: those of killed processes, and no others") {
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
  // a process that lives has the number of a dead one in the name, and a dead one that of this process
  put(folder / (".b.txt." + std::to_string(::getpid()) + "-99.tmp"), "of a process with the same number");
  const std::vector<std::string> others{".a.txt.tmp",     ".1-1.tmp",   "a.txt.1-1.tmp", ".a.txt.1-.tmp",
                                        ".a.txt.x-1.tmp", ".a.txt.1-1", ".a.txt.-1.tmp", "a.safetensors"};
  for (const auto& name : others) put(folder / name, "kept");
  AtomicFile alive(folder / "c.txt");
  alive.write("whole");
  remove_abandoned_files(folder.path());
  CHECK(folder.names().size() == others.size() + 1);
  for (const auto& name : others) CHECK(has(folder, name));
  alive.commit();
  CHECK(has(folder, "c.txt"));
  remove_abandoned_files(folder / "none");  // no folder, nothing to do
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
    CHECK(folder.path() == path);
    std::string message;
    try {
      const OutputFolder second(path, "train");
    } catch (const StateError& e) { message = e.what(); }
    CHECK(message.find("[train] '" + path + "' is in use by another process, " +
                       std::to_string(::getpid())) == 0);
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
  std::filesystem::remove_all(path);
  put(parent / "file", "");
  CHECK_THROWS_AS(OutputFolder(parent / "file"), IOError);
}

TEST_CASE("OutputFolder: folders that it made, and in which nothing was written, are gone after it") {
  namespace fs = std::filesystem;
  const Folder parent;
  fs::create_directory(parent / "there");
  { const OutputFolder folder(parent / "there/a/b", "train"); }
  CHECK(fs::is_empty(parent / "there"));
  { const OutputFolder folder(parent / "there", "train"); }
  CHECK(fs::exists(parent / "there/.lock"));  // it was there before
  {
    const OutputFolder folder(parent / "a/b", "train");
    put(parent / "a/b/results", "");
  }
  CHECK(fs::exists(parent / "a/b/.lock"));
  {
    const OutputFolder folder(parent / "c/d", "train");
    put(parent / "c/other", "");
  }
  CHECK_FALSE(fs::exists(parent / "c/d"));
  CHECK(fs::exists(parent / "c/other"));
  {
    const OutputFolder first(parent / "e", "study", ".lock-0-of-2");
    const OutputFolder second(parent / "e", "study", ".lock-1-of-2");
  }
  CHECK(fs::exists(parent / "e/.lock-1-of-2"));  // the first one is not alone
}

TEST_CASE("OutputFolder: has one owner, also while others remove it") {
  const Folder parent;
  const std::string path = parent / "run";
  std::atomic<int> owners{0}, taken{0}, most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int k = 0; k < 400; ++k) {
        try {
          const OutputFolder folder(path);
          const int now = ++owners;
          for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {}
          ++taken, --owners;
        } catch (const StateError&) {
        } catch (const IOError&) {}  // removed by others ten times in a row
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(most == 1);
  CHECK(taken > 10);
}
