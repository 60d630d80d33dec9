// Text in UTF-8: validity, white space and lower case. Nothing depends on the locale.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/utf8.hpp"
#include "lpf/text/lower_case_table.hpp"

namespace lpf::text {

namespace detail {

inline void append_code_point(std::string& out, char32_t c) {
  const auto put = [&](char32_t bits) { out += static_cast<char>(static_cast<unsigned char>(bits)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
}

}  // namespace detail

/// White space as Python's str.split() takes it: Unicode's spaces and line ends, and the separators of ASCII.
inline bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// The position of the first byte that is not UTF-8; none if all are.
inline std::optional<std::size_t> invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = lpf::detail::first_code_point(text.substr(at)).bytes;
    if (bytes == 0) return at;
    at += bytes;
  }
  return {};
}

/// The words of a text, without the white space around them. A byte that is not UTF-8 counts as a letter.
inline std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  const auto end_word = [&](std::size_t end) {
    if (end > begin) out.push_back(text.substr(begin, end - begin));
  };
  for (std::size_t at = 0; at < text.size();) {
    const lpf::detail::CodePoint c = lpf::detail::first_code_point(text.substr(at));
    const std::size_t next = at + std::max<std::size_t>(c.bytes, 1);
    if (c.bytes > 0 && is_space(c.code)) end_word(at), begin = next;
    at = next;
  }
  end_word(text.size());
  return out;
}

/// The text without white space at its ends.
inline std::string_view trim(std::string_view text) {
  const auto all = words(text);
  if (all.empty()) return text.substr(0, 0);
  const char *begin = all.front().data(), *end = all.back().data() + all.back().size();
  return {begin, static_cast<std::size_t>(end - begin)};
}

/// The text without white space at its end.
inline std::string_view trim_end(std::string_view text) {
  const auto all = words(text);
  if (all.empty()) return text.substr(0, 0);
  return text.substr(0, static_cast<std::size_t>(all.back().data() - text.data()) + all.back().size());
}

/// The text in lower case: each code point by its simple mapping in Unicode 14, in any locale. ß stays; İ becomes i,
/// and Σ becomes σ at a word's end too, where Python's str.lower() writes i̇ and ς. Bytes that are not UTF-8 stay.
inline std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const char byte = text[at];
    if (static_cast<unsigned char>(byte) < 0x80) {
      out += byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
      ++at;
      continue;
    }
    const lpf::detail::CodePoint c = lpf::detail::first_code_point(text.substr(at));
    if (c.bytes == 0) {
      out += byte;
      ++at;
    } else {
      detail::append_code_point(out, detail::lower_case(c.code));
      at += c.bytes;
    }
  }
  return out;
}

}  // namespace lpf::text
