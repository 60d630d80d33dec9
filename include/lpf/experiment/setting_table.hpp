// What a program does with its settings, where one function for_each_setting(s, f) calls f(name, value, meaning) for
// each: set them by name, write them as text and as JSON, compare them. `train` and `translate` have such tables.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/parse.hpp"
#include "lpf/core/suggest.hpp"
#include "lpf/filter/law.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/io/file.hpp"

namespace lpf::experiment {

using Milestones = std::vector<std::int64_t>;

/// The noise laws by name, in the order of NoiseLaw.
inline const std::vector<std::string>& law_names() {
  static const std::vector<std::string> names{"filter-wise", "tensor-wise", "isotropic"};
  return names;
}
/// The law of that name. ValueError if there is none.
inline NoiseLaw law_named(std::string_view name) {
  const auto& names = law_names();
  const auto found = std::find(names.begin(), names.end(), name);
  check(found != names.end(), "law_named", "there is no law '", name, "'", lpf::detail::suggest(name, names));
  return static_cast<NoiseLaw>(found - names.begin());
}

namespace detail {

/// Numbers with the fewest digits that read back to the same value.
template <class T>
std::string setting_text(const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    return value;
  } else if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_same_v<T, Milestones>) {
    std::string out;
    for (const auto m : value) out += (out.empty() ? "" : ",") + setting_text(m);
    return out;
  } else {
    char buffer[64];
    return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
  }
}

template <class T>
void parse_into(const char* program, T& value, std::string_view name, std::string_view text) {
  if constexpr (std::is_same_v<T, std::string>) {
    value = text;
  } else if constexpr (std::is_same_v<T, bool>) {
    check(text == "true" || text == "false", program, "--", name, " is true or false, got '", text, "'");
    value = text == "true";
  } else if constexpr (std::is_same_v<T, Milestones>) {
    T all;
    while (!text.empty()) {
      const auto comma = std::min(text.find(','), text.size());
      parse_into(program, all.emplace_back(), name, text.substr(0, comma));
      text.remove_prefix(std::min(comma + 1, text.size()));
    }
    value = std::move(all);
  } else {
    check(lpf::detail::parse_number(text, value), program, "--", name, " needs ",
          std::is_integral_v<T> ? "a whole number" : "a number", ", got '", text, "'");
  }
}

/// A JSON text. The parser takes a zero byte for the end of the text: FormatError, as for what is no JSON.
inline nlohmann::json parse_json(const char* program, const std::string& text, const char* what,
                                 const std::string& path) {
  try {
    if (text.find('\0') == std::string::npos) return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception&) {}
  fail<FormatError>(program, "'", path, "'", what);
}

}  // namespace detail

/// Sets the setting of that name to the value of `text`, one of choices(name) unless that is empty. ValueError, with the
/// nearest valid name or value, if there is no such setting or value.
template <class S, class Choices>
void set_in_table(const char* program, S& s, std::string_view name, std::string_view text, Choices choices) {
  std::vector<std::string> names;
  bool found = false;
  for_each_setting(s, [&](const char* key, auto& value, const char*) {
    names.emplace_back(key);
    if (key != name) return;
    const auto allowed = choices(name);
    check(allowed.empty() || std::find(allowed.begin(), allowed.end(), text) != allowed.end(), program, "--",
          name, " cannot be '", text, "'", lpf::detail::suggest(text, allowed));
    detail::parse_into(program, value, name, text);
    found = true;
  });
  check(found, program, "there is no setting '", name, "'", lpf::detail::suggest(name, names));
}

template <class S>
std::map<std::string, std::string> texts_of_table(const S& s) {
  std::map<std::string, std::string> out;
  for_each_setting(
      s, [&](const char* name, const auto& value, const char*) { out[name] = detail::setting_text(value); });
  return out;
}

/// The settings that differ, as "lr (0.1, now 0.05)", except those that is_place(name), paths on this computer.
template <class S, class IsPlace>
std::string differences_of_tables(const S& before, const S& now, IsPlace is_place) {
  const auto old = texts_of_table(before);
  std::string out;
  for (const auto& [name, text] : texts_of_table(now))
    if (!is_place(name) && old.at(name) != text)
      out += concat(out.empty() ? "" : ", ", name, " (", old.at(name), ", now ", text, ")");
  return out;
}

/// The largest integer of a setting: products of two settings and an image's size do not overflow.
inline constexpr std::int64_t largest_setting = 1'000'000'000;

/// ValueError, naming the flag, unless reals are finite and not negative, and integers from 0 to largest_setting.
template <class S>
void check_numbers_of_table(const char* program, const S& s) {
  for_each_setting(s, [&](const char* name, const auto& value, const char*) {
    using T = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<T, double>)
      check(std::isfinite(value) && value >= 0, program, "--", name, " must be finite and not negative, got ",
            value);
    if constexpr (std::is_same_v<T, std::int64_t>)
      check(value >= 0 && value <= largest_setting, program, "--", name, " must be from 0 to ",
            largest_setting, ", got ", value);
  });
}

template <class S>
nlohmann::ordered_json json_of_table(const S& s) {
  nlohmann::ordered_json out;
  for_each_setting(s, [&](const char* name, const auto& value, const char*) {
    if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(value)>>)
      out[name] = value;
    else
      out[name] = detail::setting_text(value);
  });
  return out;
}

template <class S>
void write_table(const std::string& path, const S& s) {
  write_file_atomically(
      path, json_of_table(s).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + '\n');
}

/// The settings in the text of json_of_table(), which `path` has. Missing settings keep their defaults. FormatError for
/// another text.
template <class S>
S table_of_text(const char* program, const std::string& text, const std::string& path) {
  S s;
  constexpr const char* rule = " is not the settings of a run: it must be a JSON object";
  const auto json = detail::parse_json(program, text, rule, path);
  try {
    for (const auto& [name, value] : json.items())
      set(s, name, value.is_string() ? value.template get<std::string>() : value.dump());
  } catch (const nlohmann::json::exception&) {
    fail<FormatError>(program, "'", path, "'", rule);
  } catch (const ValueError& e) { fail<FormatError>(program, "'", path, "': ", e.what()); }
  return s;
}

/// The settings in a file of write_table(); as table_of_text(). IOError.
template <class S>
S read_table(const char* program, const std::string& path) {
  return table_of_text<S>(program, lpf::detail::read_file(path, program), path);
}

}  // namespace lpf::experiment
