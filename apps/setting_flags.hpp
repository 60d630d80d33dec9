// Flags of programs whose runs have a table of settings (lpf/experiment/setting_table.hpp).
#pragma once

#include <CLI/CLI.hpp>
#include <lpf/experiment/setting_table.hpp>
#include <map>
#include <string>
#include <type_traits>

namespace program {

/// Settings on the command line: name and text.
using Given = std::map<std::string, std::string>;

/// One flag for each setting; `given` collects those used. choices(name): the texts that a setting may have; none: any.
template <class S, class Choices>
void add_settings(CLI::App& app, Given& given, const S& defaults, Choices choices) {
  for_each_setting(defaults, [&](const char* name, const auto& value, const char* meaning) {
    using T = std::remove_cvref_t<decltype(value)>;
    const std::string key = name, flag = key == "M" ? "-M,--M" : "--" + key;
    std::string words = meaning;
    for (const auto& c : choices(name)) words += (words == meaning ? ": " : ", ") + c;
    if constexpr (std::is_same_v<T, bool>) {
      app.add_flag_function(
          flag + ",!--no-" + key,
          [&given, key](std::int64_t count) { given[key] = count > 0 ? "true" : "false"; },
          words + (value ? " (on)" : " (off)"));
    } else {
      const char* type = std::is_integral_v<T> ? "INT" : std::is_floating_point_v<T> ? "FLOAT" : "TEXT";
      app.add_option_function<std::string>(
             flag, [&given, key](const std::string& text) { given[key] = text; }, words)
          ->type_name(type)
          ->default_str(lpf::experiment::detail::setting_text(value));
    }
  });
}

}  // namespace program
