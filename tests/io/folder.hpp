// A folder for a test of files, and what it looks at.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/io/path.hpp"
#include "lpf_test.hpp"

namespace lpf::test {

/// A folder for one test, removed with its content; names of files in it as the library takes them.
class Folder {
 public:
  std::string operator/(const std::string& name) const { return path() + '/' + name; }
  std::string path() const { return detail::text_of(folder_.path()); }
  /// The names in it, in order.
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      out.push_back(detail::text_of(entry.path().filename()));
    std::sort(out.begin(), out.end());
    return out;
  }
  bool has(const std::string& name) const {
    const auto all = names();
    return std::find(all.begin(), all.end(), name) != all.end();
  }

 private:
  TempDir folder_;
};

inline std::string read(const std::string& path) {
  std::ifstream file(detail::path_of(path), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline void put(const std::string& path, const std::string& text) {
  std::ofstream(detail::path_of(path), std::ios::binary) << text;
}

template <class F>
std::string io_error(F f) {
  try {
    f();
  } catch (const IOError& error) { return error.what(); }
  return "no IOError";
}

#ifdef _WIN32
inline constexpr bool on_windows = true;
#else
inline constexpr bool on_windows = false;
#endif

}  // namespace lpf::test
