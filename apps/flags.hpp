// Error message for unknown flags.
#pragma once

#include <CLI/CLI.hpp>
#include <lpf/core/suggest.hpp>
#include <lpf/io/file.hpp>
#include <string>
#include <vector>

/// ValueError for the arguments that app.allow_extras() left over: "there is no flag '--epohcs'; did you
/// mean '--epochs'?"
inline void refuse_extras(const CLI::App& app, const char* program) {
  std::vector<std::string> flags;
  for (const CLI::Option* o : app.get_options())
    for (const auto& name : o->get_lnames()) flags.push_back("--" + name);
  for (const std::string& extra : app.remaining())
    lpf::fail(program, "there is no flag '", extra, "'",
              extra.starts_with("-") ? lpf::detail::suggest(extra.substr(0, extra.find('=')), flags)
                                     : ": what it takes are flags, with two dashes; --help lists them");
}
