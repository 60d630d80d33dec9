// What the programs print besides tables: text in lines that fit the terminal.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <lpf/report/table.hpp>
#include <string>

namespace program {

/// The text with each of its lines broken between words where the terminal ends.
inline std::string paragraphs(const std::string& text, std::size_t columns = lpf::terminal_columns()) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    for (const std::string& line : lpf::wrapped_text(text.substr(at, end - at), columns)) out += line + '\n';
    at = end + 1;
  }
  return out;
}
/// Prints paragraphs().
inline void print(const std::string& text) { std::fputs(paragraphs(text).c_str(), stdout); }

}  // namespace program
