// Pairs of sentences from two text files, a sentence a line, each line of the one the translation of the same line of
// the other:
//
//   const text::Pairs pairs = text::read_pairs("train.de.gz", "train.en.gz", {.lower_case = true});
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/io/compressed.hpp"
#include "lpf/text/unicode.hpp"

namespace lpf::text {

/// Sentences in two languages, source[i] with target[i].
struct Pairs {
  std::vector<std::string> source, target;

  std::int64_t size() const { return static_cast<std::int64_t>(source.size()); }
};

struct ReadOptions {
  bool lower_case = false;  ///< as lower_case() does
  bool trim = true;         ///< without white space at both ends
};

/// A line as a sentence. FormatError, naming the place, if it is not UTF-8 or has a zero byte.
inline std::string sentence_of(std::string_view line, std::string_view place,
                               const ReadOptions& options = {}) {
  if (const auto at = invalid_utf8(line))
    fail<FormatError>("text", place, ": byte ", *at + 1, " is not UTF-8: convert the text to UTF-8");
  check<FormatError>(line.find('\0') == line.npos, "text", place,
                     ": has a zero byte: this is not a text in UTF-8");
  if (options.trim) line = trim(line);
  return options.lower_case ? lower_case(line) : std::string(line);
}

/// The lines of a file, plain or compressed (gzip, xz), as sentences. A line ends with a line feed, which may follow a
/// carriage return, the last one also without; a byte order mark is skipped. IOError; FormatError with the line's number
/// for what sentence_of() refuses.
inline std::vector<std::string> read_lines(const std::string& path, const ReadOptions& options = {}) {
  std::string bytes;
  lpf::detail::read_to_end(*lpf::detail::open_unpacked(path, "text"), bytes);
  std::string_view rest = bytes;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  std::vector<std::string> out;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    out.push_back(sentence_of(line, concat("'", path, "', line ", out.size() + 1), options));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

/// The pairs in two files; what read_lines() throws, and FormatError if the files have not as many lines.
inline Pairs read_pairs(const std::string& source, const std::string& target,
                        const ReadOptions& options = {}) {
  Pairs out{read_lines(source, options), read_lines(target, options)};
  check<FormatError>(out.source.size() == out.target.size(), "text", "'", source, "' has ", out.source.size(),
                     " lines and '", target, "' has ", out.target.size(), ": line ",
                     std::min(out.source.size(), out.target.size()) + 1,
                     " is in one of them only, and every line needs its translation");
  return out;
}

}  // namespace lpf::text
