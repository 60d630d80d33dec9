// Numbers from text, independent of the locale.
#pragma once

#include <charconv>
#include <string_view>
#include <system_error>
#include <type_traits>

#ifndef __cpp_lib_to_chars  // libc++ before 20 has std::from_chars for integers only
#  include <locale.h>
#  include <stdlib.h>
#  if defined(__APPLE__)
#    include <xlocale.h>
#  endif

#  include <cerrno>
#  include <cmath>
#  include <string>
#endif

namespace lpf::detail {

/// Sets `value` to the number that is the whole text, decimal, as std::from_chars. False, and value as it was, for any
/// other text and for a number that the type does not have.
template <class T>
bool parse_number(std::string_view text, T& value) {
  const auto read = [&](auto& number) {
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    return result.ec == std::errc() && result.ptr == text.data() + text.size();
  };
  T number{};
#ifdef __cpp_lib_to_chars
  if (!read(number)) return false;
#else
  if constexpr (std::is_floating_point_v<T>) {
    // strtod() accepts more: white space, a plus, hexadecimal digits, nan(…).
    if (text.empty() || text.find_first_of(" \t\n\v\f\r+xX(") == 0 ||
        text.find_first_of("xX(") != std::string_view::npos)
      return false;
    static const locale_t plain = ::newlocale(LC_ALL_MASK, "C", nullptr);
    const std::string whole(text);
    char* end = nullptr;
    errno = 0;
    if constexpr (sizeof(T) == sizeof(float))
      number = ::strtof_l(whole.c_str(), &end, plain);
    else
      number = ::strtod_l(whole.c_str(), &end, plain);
    if (end != whole.c_str() + whole.size()) return false;
    if (errno == ERANGE && (number == 0 || std::isinf(number))) return false;
  } else if (!read(number)) {
    return false;
  }
#endif
  value = number;
  return true;
}

}  // namespace lpf::detail
