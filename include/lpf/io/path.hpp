// Names of files are texts in UTF-8, on every system. A path that is made from a text directly is of another character
// set on Windows.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace lpf::detail {

/// The path of a name.
inline std::filesystem::path path_of(std::string_view name) {
  return std::u8string(name.begin(), name.end());
}

/// The name of a path.
inline std::string text_of(const std::filesystem::path& path) {
  const std::u8string name = path.u8string();
  return {name.begin(), name.end()};
}

}  // namespace lpf::detail
