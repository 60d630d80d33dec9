// Files that are replaced as a whole, on every system; atomic_file_posix_test.cpp has what needs processes, permissions
// and failing system calls.
#include "lpf/io/atomic_file.hpp"

#include <array>
#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "folder.hpp"
#include "lpf/core/os.hpp"
#include "lpf/io/file.hpp"
#include "lpf/io/output_folder.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("writes and replaces, and leaves nothing beside") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  write_file_atomically(path, "one");
  CHECK(read(path) == "one");
  write_file_atomically(path, std::string_view("t\0w\r\n\x1ao\n", 8));
  CHECK(read(path) == std::string("t\0w\r\n\x1ao\n", 8));
  CHECK(detail::read_file(path, "test") == read(path));
  write_file_atomically(path, "");
  CHECK(read(path).empty());
  const std::array<float, 2> values{1, 2};
  write_file_atomically(path, std::as_bytes(std::span(values)));
  CHECK(read(path).size() == 8);
  CHECK(folder.names() == std::vector<std::string>{"a.txt"});
}

TEST_CASE("names in UTF-8, of folders too") {
  const Folder folder;
  const std::string inner = folder / "Größe 数";
  create_directories(inner + "/γ");
  write_file_atomically(inner + "/γ/å.txt", "x");
  write_file_atomically(inner + "/γ/å.txt", "y");
  CHECK(detail::read_file(inner + "/γ/å.txt", "test") == "y");
  CHECK(folder.names() == std::vector<std::string>{"Größe 数"});
  CHECK(std::filesystem::exists(detail::path_of(folder.path()) / u8"Größe 数" / u8"γ" / u8"å.txt"));
  const std::string message = io_error([&] { detail::read_file(folder / "数.txt", "test"); });
  CHECK(message.find("数.txt': No such file or directory") != std::string::npos);
}

TEST_CASE("the name of a temporary file is cut between characters") {
  const Folder folder;
  std::string name = "x";
  for (int i = 0; i < 80; ++i) name += "数";  // of three bytes: the 200th is within one
  {
    const AtomicFile file(folder / name);
    REQUIRE(folder.names().size() == 1);
    CHECK(folder.names()[0].starts_with("." + name.substr(0, 199) + "."));
  }
  write_file_atomically(folder / name, "x");
  CHECK(folder.names() == std::vector<std::string>{name});
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

TEST_CASE("a missing folder, a file in the way, a folder") {
  const Folder folder;
  write_file_atomically(folder / "file", "x");
  CHECK(io_error([&] { write_file_atomically(folder / "no/a.txt", "x"); }) ==
        "[write_file_atomically] cannot write '" + (folder / "no/a.txt") +
            "': No such file or directory; create its folder first");
  CHECK(io_error([&] {
          write_file_atomically(folder / "file/a.txt", "x");
        }).find(on_windows ? "No such file or directory" : "Not a directory") != std::string::npos);
  CHECK(io_error([&] { write_file_atomically(folder.path(), "x"); }).find("Is a directory") !=
        std::string::npos);
  CHECK(io_error([&] { write_file_atomically(folder / "x/", "x"); }).find("Is a directory") !=
        std::string::npos);
  CHECK_THROWS_AS(write_file_atomically("", "x"), ValueError);
  CHECK(folder.names() == std::vector<std::string>{"file"});
  CHECK(io_error([&] { detail::read_file(folder.path(), "test"); }).find("it is a folder") !=
        std::string::npos);
}

TEST_CASE("a file that may not be written") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  write_file_atomically(path, "old");
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  if (detail::os::may_write(path)) return skip("this user may write everywhere");
  CHECK(io_error([&] { write_file_atomically(path, "new"); }).find("': Permission denied; choose a place") !=
        std::string::npos);
  CHECK(read(path) == "old");
  CHECK(folder.names().size() == 1);
  std::filesystem::permissions(path, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
}

TEST_CASE("a name that becomes a folder meanwhile") {
  const Folder folder;
  const std::string path = folder / "a.txt";
  AtomicFile file(path);
  file.write("x");
  create_directories(path);
  CHECK(io_error([&] { file.commit(); }).find("Is a directory") != std::string::npos);
  CHECK(folder.names() == std::vector<std::string>{"a.txt"});
}

TEST_CASE("a leftover of a killed process with the same number is no obstacle") {
  const Folder folder;
  for (int i = 0; i < 200; ++i)
    put(folder / concat(".a.txt.", detail::os::process_id(), "-", i, ".tmp"), "leftover");
  write_file_atomically(folder / "a.txt", "x");
  CHECK(read(folder / "a.txt") == "x");
  CHECK(folder.names().size() == 201);
}

TEST_CASE("create_directories") {
  const Folder folder;
  create_directories(folder / "x/y//z/");
  create_directories(folder / "x/y/z");
  create_directories("/");
  CHECK(std::filesystem::is_directory(folder / "x/y/z"));
  write_file_atomically(folder / "file", "x");
  CHECK(io_error([&] { create_directories(folder / "file/a"); }) ==
        "[create_directories] cannot create the folder '" +
            detail::text_of(detail::path_of(folder.path()) / "file") +
            "': Not a directory; part of the path is a file, choose another folder");
  CHECK_THROWS_AS(create_directories(""), ValueError);
}

TEST_CASE("remove_abandoned_files: those that nobody writes, by their names, and no others") {
  const Folder folder;
  put(folder / concat(".b.txt.", detail::os::process_id(), "-99.tmp"), "of a process with the same number");
  const std::vector<std::string> others{".a.txt.tmp",     ".1-1.tmp",   "a.txt.1-1.tmp", ".a.txt.1-.tmp",
                                        ".a.txt.x-1.tmp", ".a.txt.1-1", ".a.txt.-1.tmp", "a.safetensors"};
  for (const auto& name : others) put(folder / name, "kept");
  AtomicFile alive(folder / "c.txt");
  alive.write("whole");
  remove_abandoned_files(folder.path());
  CHECK(folder.names().size() == others.size() + 1);
  for (const auto& name : others) CHECK(folder.has(name));
  alive.commit();
  CHECK(read(folder / "c.txt") == "whole");
  remove_abandoned_files(folder / "none");  // no folder, nothing to do
}

TEST_CASE("OutputFolder: one at a time in a process") {
  const Folder parent;
  const std::string path = parent / "run";
  {
    const OutputFolder folder(path, "train");
    CHECK(folder.path() == path);
    std::string message;
    try {
      const OutputFolder second(path, "train");
    } catch (const StateError& e) { message = e.what(); }
    CHECK(message.find(
              concat("[train] '", path, "' is in use by another process, ", detail::os::process_id())) == 0);
    const OutputFolder another(path, "study", ".lock-1-of-2");
  }
  const OutputFolder again(path);
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
