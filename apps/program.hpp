// What every program does around its work: flags, error messages, exit codes, and the check that what it printed
// was written.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <iostream>
#include <lpf/core/os.hpp>
#include <lpf/core/suggest.hpp>
#include <lpf/io/atomic_file.hpp>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

#include "text.hpp"

namespace program {

/// A command line that is refused: exit code 2.
class UsageError : public lpf::ValueError {
  using ValueError::ValueError;
};

/// f(), which checks the command line and writes nothing that stays: a ValueError of it is one of the command line.
template <class F>
decltype(auto) usage(F f) {
  try {
    return f();
  } catch (const lpf::ValueError& e) { throw UsageError(e.what()); }
}

/// --help, in lines that fit the terminal: a flag with its type and default, and beside it or below what it means, its
/// range, and its choices.
class Help : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const override {
    const std::size_t columns = std::min<std::size_t>(lpf::terminal_columns(), 100);
    std::string out = paragraphs(app->get_description(), columns), places, flags;
    out += "\nUsage: " + name.substr(name.rfind('/') + 1);
    for (const CLI::Option* o : app->get_options()) {
      const bool place = o->get_positional();
      if (place) out += " " + o->get_name(true) + (takes_many(*o) ? "…" : "");
      (place ? places : flags) += entry(*o, place, columns);
    }
    return out + " [FLAGS]\n\n" + places + (places.empty() ? "" : "\n") + flags;
  }

 private:
  static bool takes_many(const CLI::Option& o) {
    return o.get_expected_max() == CLI::detail::expected_max_vector_size;
  }
  /// "--seeds INT=5", and below or beside it "number of repetitions (1 to 1000)".
  static std::string entry(const CLI::Option& o, bool place, std::size_t columns) {
    constexpr std::size_t indent = 28;
    std::string flag = "  " + (place ? o.get_name(true) : o.get_name(false, true)),
                meaning = o.get_description();
    for (std::size_t at; (at = flag.find("{false}")) != flag.npos;) flag.erase(at, 7);  // of --no-…
    std::string type = o.get_type_name();
    if (o.get_type_size() != 0 && !type.empty()) {
      flag += " " + type.substr(0, type.find(':'));
      if (!o.get_default_str().empty()) flag += "=" + o.get_default_str();
      if (takes_many(o)) flag += " …";
      const std::size_t colon = type.find(':');
      if (colon != type.npos) meaning += " (" + range(type.substr(colon + 1)) + ")";
    }
    if (o.get_required()) meaning += " (required)";
    std::string out;
    const std::vector<std::string> flags = lpf::wrapped_text(flag, columns);
    for (const std::string& line : flags) out += line + '\n';
    const std::size_t width = lpf::display_width(flags.back());
    bool beside = flags.size() == 1 && width + 2 <= indent;
    if (beside) out.pop_back();
    for (const std::string& line :
         lpf::wrapped_text(meaning, std::max<std::size_t>(columns, indent + 20) - indent)) {
      out += std::string(beside ? indent - width : indent, ' ') + line + '\n';
      beside = false;
    }
    return out;
  }
  /// What a check's description says, in words: "1 to 1000", "a, b or c".
  static std::string range(std::string text) {
    if (text == "NONNEGATIVE") return "not negative";
    if (text == "POSITIVE") return "positive";
    if (text == "FILE") return "a file";
    const auto replace = [&text](const std::string& what, const std::string& by, std::size_t from = 0) {
      for (std::size_t at = from; (at = text.find(what, at)) != text.npos; at += by.size())
        text.replace(at, what.size(), by);
    };
    if (text.starts_with("{") && text.ends_with("}")) {
      text = text.substr(1, text.size() - 2);
      replace(",", ", ");
    } else if (const std::size_t open = text.find(" in ["); open != text.npos && text.ends_with("]")) {
      text = text.substr(open + 5, text.size() - open - 6);
      replace(" - ", " to ");
    }
    return text;
  }
};

/// Flushes stdout. IOError if anything printed so far could not be written: a full disk, for example.
inline void check_output(const char* name) {
  errno = 0;
  std::cout.flush();
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
  const std::string reason = errno != 0 ? std::generic_category().message(errno) : "is the disk full?";
  lpf::check<lpf::IOError>(written, name, "what it prints could not be written: ", reason);
}

/// IOError unless a result can be written to `path`, so that a program finds out before it computes; "" is none.
inline void check_writable(const std::string& path, const char* name) {
  if (!path.empty()) lpf::AtomicFile(path, name);
}

/// ValueError for the arguments that app.allow_extras() left over: "there is no flag '--epohcs'; did you
/// mean '--epochs'?" Behind "--" an argument is no flag, whatever it begins with.
inline void refuse_extras(const CLI::App& app, const char* name) {
  std::vector<std::string> flags;
  for (const CLI::Option* o : app.get_options())
    for (const auto& flag : o->get_lnames()) flags.push_back("--" + flag);
  bool ended = false;
  for (const std::string& extra : app.remaining()) {
    if (!ended && extra == "--") {
      ended = true;
      continue;
    }
    if (!ended && extra.starts_with("-"))
      lpf::fail(name, "there is no flag '", extra, "'",
                lpf::detail::suggest(extra.substr(0, extra.find('=')), flags));
    lpf::fail(name, "there is no place for '", extra, "': flags begin with two dashes; --help lists them");
  }
}

/// ValueError for NaN and infinities, which CLI11 takes for numbers within any range.
inline void refuse_infinite(const CLI::App& app, const char* name) {
  for (const CLI::Option* o : app.get_options()) {
    if (!o->get_type_name().starts_with("FLOAT")) continue;
    for (std::string text : o->results()) {
      std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
      lpf::check(text.find("nan") == text.npos && text.find("inf") == text.npos, name, o->get_name(),
                 " needs a finite number, got '", text, "'");
    }
  }
}

/// Parses the arguments. Returns an exit code if the program ends here: 0 after --help, 2 after a command line that
/// is refused, with "NAME: message" on stderr.
inline std::optional<int> parse(CLI::App& app, const char* name, const std::vector<std::string>& arguments) {
  app.allow_extras();
  app.formatter(std::make_shared<Help>());
  try {
    std::vector<const char*> words;
    for (const std::string& word : arguments) words.push_back(word.c_str());
    app.parse(static_cast<int>(words.size()), words.data());
    refuse_extras(app, name);
    refuse_infinite(app, name);
    return {};
  } catch (const CLI::Success& e) {
    app.exit(e);  // prints the help
    check_output(name);
    return 0;
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "%s: %s; --help lists the flags\n", name, e.what());
  } catch (const lpf::ValueError& e) { std::fprintf(stderr, "%s: %s\n", name, e.what()); }
  return 2;
}
inline std::optional<int> parse(CLI::App& app, const char* name, int argc, char** argv) {
  return parse(app, name, lpf::detail::os::arguments(argc, argv));
}

/// UsageError if a flag was given and has no effect, `used` being false: "--gamma has no effect: …".
inline void refuse_unused(const CLI::App& app, const char* name, const std::string& flag, bool used,
                          const std::string& reason) {
  lpf::check<UsageError>(used || app.count(flag) == 0, name, flag, " has no effect: ", reason);
}

/// UsageError if another flag than these was given.
inline void refuse_others(const CLI::App& app, const char* name, const std::vector<std::string>& used,
                          const std::string& reason) {
  for (const CLI::Option* o : app.get_options()) {
    const bool known = std::find(used.begin(), used.end(), o->get_name()) != used.end();
    lpf::check<UsageError>(o->count() == 0 || known, name, o->get_name(), " has no effect: ", reason);
  }
}

/// Parses the arguments and calls work(command), which returns nothing or an exit code; `command` is the command
/// line, for reports. Errors are printed as "NAME: message". Returns the exit code: 0, 1 after an error, 2 after a
/// command line that is refused.
template <class Work>
int run(CLI::App& app, const char* name, int argc, char** argv, Work work) {
  lpf::detail::os::prepare_standard_streams();
  try {
    const std::vector<std::string> words = lpf::detail::os::arguments(argc, argv);
    if (const auto code = parse(app, name, words)) return *code;
    std::string command = name;
    for (std::size_t i = 1; i < words.size(); ++i) command += " " + words[i];
    int code = 0;
    if constexpr (std::is_void_v<decltype(work(command))>)
      work(command);
    else
      code = work(command);
    check_output(name);
    return code;
  } catch (const UsageError& e) {
    std::fprintf(stderr, "%s: %s\n", name, e.what());
    return 2;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory\n", name);
  } catch (const std::exception& e) { std::fprintf(stderr, "%s: %s\n", name, e.what()); }
  return 1;
}

}  // namespace program
