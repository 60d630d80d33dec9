// The code points of a text in UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace lpf::detail {

/// A code point and the number of its bytes; no bytes if the text does not begin with valid UTF-8.
struct CodePoint {
  char32_t code = 0;
  std::size_t bytes = 0;
};

/// The first code point of a text that is not empty. Overlong forms, surrogates and what lies above U+10FFFF
/// are not valid.
inline CodePoint first_code_point(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC0 || lead > 0xF4 || text.size() < length) return {};
  char32_t code = lead & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  constexpr char32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < smallest[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {};
  return {code, length};
}

/// The same, and U+FFFD with one byte for what is not valid.
inline CodePoint first_or_replacement(std::string_view text) {
  const CodePoint c = first_code_point(text);
  return c.bytes > 0 ? c : CodePoint{0xFFFD, 1};
}

}  // namespace lpf::detail
