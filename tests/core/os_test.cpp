// What os.hpp promises on every system.
#include "lpf/core/os.hpp"

#include <signal.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "lpf_test.hpp"

namespace {

namespace os = lpf::detail::os;

std::string name_in(const lpf::test::TempDir& folder, const std::string& name) {
  const std::u8string text = (folder / name).u8string();
  return {text.begin(), text.end()};
}
void put(const std::string& path, const std::string& text) {
  const int file = os::open(path, {.write = true, .create = true, .truncate = true});
  REQUIRE(file >= 0);
  CHECK(os::write_fully(file, text) == 0);
  CHECK(os::close(file) == 0);
}
std::string content(const std::string& path) {
  const int file = os::open(path, {.read = true});
  REQUIRE(file >= 0);
  std::string text(1000, '\0');
  const auto n = os::read_at(file, text.data(), text.size(), 0);
  REQUIRE(n >= 0);
  CHECK(os::close(file) == 0);
  return text.substr(0, static_cast<std::size_t>(n));
}

volatile int os_signal = 0, os_earlier = 0;

TEST_CASE("os: files are bytes, whatever their names") {
  const lpf::test::TempDir folder;
  const std::string path = name_in(folder, "naïve 数.bin");
  int file = os::open(path, {.read = true, .write = true, .create = true});
  REQUIRE(file >= 0);
  CHECK(os::write_fully(file, std::string_view("a\nb\r\n\x1a"
                                               "c\0d",
                                               9)) == 0);
  CHECK(os::end_of(file) == 9);
  char read[16] = "";
  CHECK(os::read_at(file, read, sizeof read, 2) == 7);
  CHECK(std::string_view(read, 7) == std::string_view("b\r\n\x1a"
                                                      "c\0d",
                                                      7));
  CHECK(os::read_at(file, read, sizeof read, 9) == 0);
  CHECK(os::read_at(file, read, sizeof read, 5000) == 0);
  CHECK(os::truncate(file, 3) == 0);
  CHECK(os::end_of(file) == 3);
  CHECK(os::sync(file) == 0);
  auto kind = os::FileKind::other;
  CHECK(os::kind_of(file, kind) == 0);
  CHECK(kind == os::FileKind::regular);
  CHECK_FALSE(os::is_terminal(file));
  CHECK(os::columns_of(file) == 0);
  CHECK(os::close(file) == 0);
  CHECK(std::filesystem::file_size(folder.path() / u8"naïve 数.bin") == 3);
  CHECK(content(path) == "a\nb");

  file = os::open(path, {.write = true, .create = true, .append = true});
  REQUIRE(file >= 0);
  CHECK(os::truncate(file, 1) == 0);
  CHECK(os::write_fully(file, "\nz") == 0);
  CHECK(os::close(file) == 0);
  CHECK(content(path) == "a\nz");
  put(path, "x");
  CHECK(content(path) == "x");
}

TEST_CASE("os: a file that is not there, one that is, a folder") {
  const lpf::test::TempDir folder;
  const std::string path = name_in(folder, "a");
  const auto error_of = [](const std::string& name, const os::OpenMode& mode) {
    const int file = os::open(name, mode);
    if (file >= 0) return os::close(file);
    return errno;
  };
  CHECK(error_of(path, {.read = true}) == ENOENT);
  CHECK(error_of(path, {.write = true, .create = true, .exclusive = true}) == 0);
  CHECK(error_of(path, {.write = true, .create = true, .exclusive = true}) == EEXIST);
  CHECK(error_of(folder.path().string(), {.read = true, .write = true}) == EISDIR);
  CHECK(error_of(name_in(folder, "none/a"), {.write = true, .create = true}) == ENOENT);
  CHECK(os::may_write(path));
  const bool writable = os::may_write(name_in(folder, "b"));
  const int reason = errno;
  CHECK_FALSE(writable);
  CHECK(reason == ENOENT);
  std::error_code error;
  CHECK_FALSE(std::filesystem::create_directory(folder / "none/b", error));
  CHECK(os::errno_of(error) == ENOENT);
}

TEST_CASE("os: a lock belongs to a file and its duplicates") {
  const lpf::test::TempDir folder;
  const std::string path = name_in(folder, "lock");
  put(path, "4711");
  const os::OpenMode both{.read = true, .write = true};
  const int first = os::open(path, both), second = os::open(path, both);
  REQUIRE(first >= 0);
  REQUIRE(second >= 0);
  if (os::try_lock(first) == os::LockAttempt::unsupported) return lpf::test::skip("no locks here");
  CHECK(os::try_lock(second) == os::LockAttempt::held_by_another);
  char text[8] = "";
  CHECK(os::read_at(second, text, sizeof text, 0) == 4);  // the lock does not hinder readers
  const int duplicate = os::duplicate(first);
  REQUIRE(duplicate >= 0);
  CHECK(os::close(first) == 0);
  CHECK(os::try_lock(second) == os::LockAttempt::held_by_another);
  CHECK(os::close(duplicate) == 0);
  CHECK(os::try_lock(second) == os::LockAttempt::taken);
  CHECK(os::close(second) == 0);
}

TEST_CASE("os: a file gets another's name, also while it is open") {
  const lpf::test::TempDir folder;
  const std::string from = name_in(folder, "from ü"), to = name_in(folder, "to ü");
  put(from, "new");
  put(to, "old");
  const int file = os::open(from, {.write = true});
  REQUIRE(file >= 0);
  CHECK(os::is_name_of(from, file));
  CHECK_FALSE(os::is_name_of(to, file));
  CHECK(os::replace(from, to) == 0);
  CHECK(os::is_name_of(to, file));
  CHECK_FALSE(os::is_name_of(from, file));
  CHECK(os::has_name(file));
  CHECK(os::close(file) == 0);
  CHECK(content(to) == "new");
  CHECK(os::replace(from, to) == ENOENT);
  std::filesystem::create_directory(folder / "folder");
  CHECK(os::replace(to, name_in(folder, "folder")) == EISDIR);
  CHECK(os::sync_folder(folder.path().string()) == 0);

  put(from, "newer");  // as a virus scanner does: the old file is open for a moment
  std::ifstream reader(folder / "to ü", std::ios::binary);
  std::thread closes([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    reader.close();
  });
  const int replaced = os::replace(from, to);
  closes.join();
  CHECK(replaced == 0);
  CHECK(content(to) == "newer");
}

TEST_CASE("os: a second name") {
  const lpf::test::TempDir folder;
  const std::string path = name_in(folder, "one"), second = name_in(folder, "two é");
  put(path, "x");
  if (os::link(path, second) != 0) return lpf::test::skip("no second names here");
  CHECK(os::link(path, second) == EEXIST);
  std::filesystem::remove(path);
  CHECK(content(second) == "x");
}

TEST_CASE("os: the process and its memory") {
  CHECK(os::process_id() > 0);
  CHECK(os::processors() >= 1);
  CHECK_FALSE(os::host_name().empty());
  const double before = os::peak_megabytes();
  CHECK(before > 1);
  constexpr std::size_t n = std::size_t{256} << 20;
  void* const block = os::allocate_aligned(64, n);
  REQUIRE(block != nullptr);
  CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
  for (std::size_t i = 0; i < n; i += 1024) static_cast<volatile char*>(block)[i] = 1;
  CHECK(os::peak_megabytes() > 200);
  os::free_aligned(block);
  CHECK(os::peak_megabytes() >= before);
  char word[] = "--flag";
  std::vector<char*> words(50, word);  // more than this program has, which counts on Windows
  CHECK(os::arguments(50, words.data()) == std::vector<std::string>(50, "--flag"));
}

TEST_CASE("os: signals that ask to end are caught once, and what was before is restored") {
  os_signal = 0;
  os_earlier = 0;
  const auto before = ::signal(SIGTERM, [](int) { os_earlier = os_earlier + 1; });
  const auto ignored = ::signal(SIGINT, SIG_IGN);
  {
    const os::StopHandler handler([](int signal) { os_signal = signal; });
    ::raise(SIGINT);  // stays ignored
    CHECK(os_signal == 0);
    ::raise(SIGTERM);
    CHECK(os_signal == SIGTERM);
    CHECK(std::string(os::stop_signal_name(SIGTERM)) == "SIGTERM");
    const bool once = ::signal(SIGTERM, SIG_IGN) == SIG_DFL;  // the second would end the program
    CHECK(once);
  }
  ::raise(SIGTERM);
  CHECK(os_earlier == 1);
  ::signal(SIGTERM, before);
  ::signal(SIGINT, ignored);
}

}  // namespace
