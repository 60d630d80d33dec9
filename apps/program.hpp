// What every program does around its work: flags, error messages, exit codes, and the check that what it printed
// was written.
#pragma once

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <iostream>
#include <lpf/core/os.hpp>
#include <lpf/core/suggest.hpp>
#include <lpf/io/atomic_file.hpp>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

namespace program {

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

/// Parses the arguments. Returns an exit code if the program ends here: 0 after --help, 2 after a command line that
/// is refused, with "NAME: message" on stderr.
inline std::optional<int> parse(CLI::App& app, const char* name, const std::vector<std::string>& arguments) {
  app.allow_extras();
  try {
    std::vector<const char*> words;
    for (const std::string& word : arguments) words.push_back(word.c_str());
    app.parse(static_cast<int>(words.size()), words.data());
    refuse_extras(app, name);
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

/// ValueError if a flag was given and has no effect, `used` being false: "--gamma has no effect: …".
inline void refuse_unused(const CLI::App& app, const char* name, const std::string& flag, bool used,
                          const std::string& reason) {
  lpf::check(used || app.count(flag) == 0, name, flag, " has no effect: ", reason);
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
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory\n", name);
  } catch (const std::exception& e) { std::fprintf(stderr, "%s: %s\n", name, e.what()); }
  return 1;
}

}  // namespace program
