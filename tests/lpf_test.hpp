// Common code of LPF's tests, in addition to doctest.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

namespace lpf::test {

/// Marks the running test case as skipped, and prints the reason:
///   if (!cuda_is_available()) return skip("no CUDA device");
/// For the beginning of a test case: a case that has checked something counts as run, and after a return from
/// inside a SUBCASE doctest does not continue with the next one.
void skip(const std::string& reason);

/// The path of a file in tests/fixtures.
inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(LPF_FIXTURE_DIR) / name;
}

/// A new empty folder, removed with this object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const {
    return path_ / std::u8string(name.begin(), name.end());
  }

 private:
  std::filesystem::path path_;
};

}  // namespace lpf::test
