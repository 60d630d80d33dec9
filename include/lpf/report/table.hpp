// Text layout: display widths of UTF-8, numbers, mean ± standard deviation, tables with aligned columns.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"
#include "lpf/core/utf8.hpp"

namespace lpf {

namespace detail {

/// Terminal columns of one code point: 0 for combining marks, 2 for East Asian wide and emoji, else 1.
inline std::size_t code_point_width(char32_t c) {
  struct Range {
    char32_t first, last;
  };
  constexpr Range zero[] = {{0x300, 0x36F},   {0x483, 0x489},   {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF},
                            {0x200B, 0x200F}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF}};
  constexpr Range wide[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},   {0xAC00, 0xD7A3},
                            {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
                            {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};
  const auto within = [c](const Range& r) { return c >= r.first && c <= r.last; };
  if (std::any_of(std::begin(zero), std::end(zero), within)) return 0;
  return std::any_of(std::begin(wide), std::end(wide), within) ? 2 : 1;
}

}  // namespace detail

/// Width of a UTF-8 text in terminal columns.
inline std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const auto c = detail::first_or_replacement(text);
    width += detail::code_point_width(c.code);
    text.remove_prefix(c.bytes);
  }
  return width;
}

/// The longest prefix of a UTF-8 text that is at most `columns` columns wide.
inline std::string_view clip_to_width(std::string_view text, std::size_t columns) {
  std::size_t bytes = 0, width = 0;
  while (bytes < text.size()) {
    const auto c = detail::first_or_replacement(text.substr(bytes));
    width += detail::code_point_width(c.code);
    if (width > columns) break;
    bytes += c.bytes;
  }
  return text.substr(0, bytes);
}

/// Columns of the terminal that standard output (or another file) is; where it is none, more than any line has.
inline std::size_t terminal_columns(int file = detail::os::descriptor_of(stdout)) {
  if (!detail::os::is_terminal(file)) return std::numeric_limits<std::size_t>::max();
  const int columns = detail::os::columns_of(file);
  return columns > 1 ? static_cast<std::size_t>(columns) : 80;
}

/// The text in lines of at most `columns` columns, broken between words; a longer word is a line of its own. Control
/// characters, line breaks among them, become spaces. A text that fits is one line, as it is.
inline std::vector<std::string> wrapped_text(std::string text, std::size_t columns) {
  for (char& letter : text) letter = letter >= 0 && letter < ' ' ? ' ' : letter;
  if (display_width(text) <= columns) return {text};
  std::vector<std::string> lines(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!lines.back().empty() && display_width(lines.back()) + 1 + display_width(word) > columns)
      lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
    at = end + 1;
  }
  return lines;
}

/// Terms with their meanings, a line each and in a narrow terminal several, indented below the meaning.
inline std::string definitions_text(const std::vector<std::pair<std::string, std::string>>& terms,
                                    std::size_t columns = terminal_columns()) {
  std::size_t indent = 0;
  for (const auto& [term, meaning] : terms) indent = std::max(indent, display_width(term) + 2);
  if (columns < indent + 24) indent = 4;  // then the meaning has lines of its own
  std::string out;
  for (const auto& [term, meaning] : terms) {
    const bool own = display_width(term) + 2 > indent;
    out += term + (own ? "\n" + std::string(indent, ' ') : std::string(indent - display_width(term), ' '));
    bool first = true;
    for (const std::string& line : wrapped_text(meaning, std::max<std::size_t>(columns - indent, 20)))
      out += (std::exchange(first, false) ? "" : std::string(indent, ' ')) + line + '\n';
  }
  return out;
}

/// `decimals` digits after the point, independent of the locale: format_fixed(4.876, 2) is "4.88".
inline std::string format_fixed(double value, int decimals) {
  check(decimals >= 0 && decimals <= 60, "format_fixed", "decimals must be 0 to 60, got ", decimals);
  char buffer[400];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, decimals);
  const std::string text(buffer, end.ptr);
  const bool minus_zero = text[0] == '-' && text.find_first_of("123456789in") == std::string::npos;
  return minus_zero ? text.substr(1) : text;
}

/// `digits` significant digits, independent of the locale: format_general(0.00012345, 3) is "0.000123".
inline std::string format_general(double value, int digits = 4) {
  char buffer[64];
  digits = std::clamp(digits, 1, 17);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, digits);
  return std::string(buffer, end.ptr);
}

/// Mean and sample standard deviation (division by n - 1) of n values.
struct MeanSd {
  double mean = std::numeric_limits<double>::quiet_NaN();
  double sd = std::numeric_limits<double>::quiet_NaN();
  std::size_t n = 0;
};

/// Mean and sample standard deviation: the mean of no values and the sd of one are NaN; NaN propagates.
inline MeanSd mean_sd(std::span<const double> values) {
  MeanSd result{.n = values.size()};
  if (values.empty()) return result;
  const auto n = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (const double v : values) mean += v / n;
  for (const double v : values) squares += (v - mean) * (v - mean);
  result.mean = mean;
  if (values.size() > 1) result.sd = std::sqrt(squares / (n - 1));
  return result;
}

/// "4.88 ± 0.53"; without sd (one value) "4.88", without mean "–".
inline std::string format_mean_sd(const MeanSd& value, int decimals = 2) {
  if (std::isnan(value.mean)) return "–";
  if (std::isnan(value.sd)) return format_fixed(value.mean, decimals);
  return concat(format_fixed(value.mean, decimals), " ± ", format_fixed(value.sd, decimals));
}

/// Alignment of a column. `automatic`: right if every cell is a number, else left.
enum class Align { automatic, left, right };

/// Layout of a TextTable.
struct TableOptions {
  std::vector<Align> align = {};  ///< per column; missing ones are automatic
  std::size_t gap = 2;            ///< spaces between columns
  bool rules = true;              ///< a line below the header, and those of add_rule()
  bool ascii = false;             ///< draw lines with '-' instead of '─'
};

/// A table for the terminal (and, through HTMLReport::table, for a page): columns as wide as their widest
/// cell in UTF-8, numbers right-aligned.
class TextTable {
 public:
  /// A table with these column names; throws ShapeError if there are none.
  explicit TextTable(std::vector<std::string> header, TableOptions options = {})
      : header_(std::move(header)), options_(std::move(options)) {
    check<ShapeError>(!header_.empty(), "TextTable", "a table needs at least one column");
    check<ShapeError>(options_.align.size() <= header_.size(), "TextTable", options_.align.size(),
                      " alignments for ", header_.size(), " columns");
  }

  /// Appends a row; throws ShapeError unless it has one cell per column.
  TextTable& add_row(std::vector<std::string> cells) {
    check<ShapeError>(cells.size() == header_.size(), "TextTable", "row has ", cells.size(),
                      " cells, the header has ", header_.size(), " columns");
    rows_.push_back(std::move(cells));
    return *this;
  }
  /// Appends a horizontal line.
  TextTable& add_rule() {
    rows_.emplace_back();
    return *this;
  }

  const std::vector<std::string>& header() const { return header_; }
  /// The rows in order; an empty one is a rule.
  const std::vector<std::vector<std::string>>& rows() const { return rows_; }

  /// Resolved alignment of a column: left or right.
  Align align(std::size_t column) const {
    const Align wish = column < options_.align.size() ? options_.align[column] : Align::automatic;
    if (wish != Align::automatic) return wish;
    bool numbers = false;
    for (const auto& row : rows_) {
      if (row.empty() || is_blank(row[column])) continue;
      if (!is_number(row[column])) return Align::left;
      numbers = true;
    }
    return numbers ? Align::right : Align::left;
  }

  /// The table as text, each line ended by a newline, without indentation. In a terminal of fewer columns than it needs,
  /// the names of columns and cells of words are broken into lines, and if that is not enough the columns are printed in
  /// several tables, each with the first column.
  std::string to_string(std::size_t terminal = std::numeric_limits<std::size_t>::max()) const {
    std::vector<std::size_t> widths, least;
    for (std::size_t c = 0; c < header_.size(); ++c) {
      widths.push_back(display_width(header_[c]));
      least.push_back(longest_word(header_[c]));
      for (const auto& row : rows_) {
        if (row.empty()) continue;
        widths[c] = std::max(widths[c], display_width(row[c]));
        least[c] = std::max(least[c], align(c) == Align::left ? longest_word(row[c]) : display_width(row[c]));
      }
    }
    std::string out;
    for (std::size_t first = 1, next = 1; first == 1 || first < header_.size(); first = next) {
      std::vector<std::size_t> shown{0};
      std::size_t total = least[0];
      for (next = first; next < header_.size(); ++next) {
        if (next > first && total + options_.gap + least[next] > terminal) break;
        total += options_.gap + least[next];
        shown.push_back(next);
      }
      std::vector<std::size_t> fitted =
          least;  // and then wider, as far as there is space, the narrowest first
      for (bool wider = true; wider && total < terminal;) {
        std::size_t column = header_.size();
        for (const std::size_t c : shown)
          if (fitted[c] < widths[c] && (column == header_.size() || fitted[c] < fitted[column])) column = c;
        wider = column < header_.size();
        if (wider) ++fitted[column], ++total;
      }
      if (first > 1) out += '\n';
      add_block(out, shown, fitted, total);
      if (next >= header_.size()) break;
    }
    return out;
  }

 private:
  static std::size_t longest_word(std::string_view text) {
    std::size_t longest = 0;
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t end = std::min(text.find(' ', at), text.size());
      longest = std::max(longest, display_width(text.substr(at, end - at)));
      at = end + 1;
    }
    return longest;
  }
  /// Some columns, of these widths, as text.
  void add_block(std::string& out, const std::vector<std::size_t>& columns,
                 const std::vector<std::size_t>& widths, std::size_t total) const {
    const auto add_line = [&](const std::vector<std::string>& cells) {
      std::vector<std::vector<std::string>> lines;
      std::size_t height = 1;
      for (const std::size_t c : columns) {
        lines.push_back(wrapped_text(cells[c], widths[c]));
        height = std::max(height, lines.back().size());
      }
      for (std::size_t l = 0; l < height; ++l) {
        std::string line;
        for (std::size_t i = 0; i < columns.size(); ++i) {
          const std::string cell = l < lines[i].size() ? lines[i][l] : "";
          const std::string blanks(widths[columns[i]] - std::min(widths[columns[i]], display_width(cell)),
                                   ' ');
          line += (i ? std::string(options_.gap, ' ') : "") +
                  (align(columns[i]) == Align::right ? blanks + cell : cell + blanks);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + '\n';
      }
    };
    const auto add_rule = [&] {
      if (!options_.rules) return;
      for (std::size_t i = 0; i < total; ++i) out += options_.ascii ? "-" : "─";
      out += '\n';
    };
    add_line(header_);
    add_rule();
    for (const auto& row : rows_) row.empty() ? add_rule() : add_line(row);
  }
  static bool is_blank(std::string_view cell) {
    return cell.empty() || cell == "–" || cell == "-" || cell == "nan" || cell == "inf" || cell == "-inf";
  }
  // A sign may precede a number but not follow a digit: "64-128-10" is a name, "1e-3" a number.
  static bool is_number(std::string_view cell) {
    constexpr std::u32string_view digits = U"0123456789", signs = U"+-−", others = U".,eE±×x% <≈~⁰¹²³⁴⁵⁶⁷⁸⁹⁻";
    const auto in = [](std::u32string_view set, char32_t c) { return set.find(c) != set.npos; };
    bool any_digit = false;
    char32_t before = U' ';
    while (!cell.empty()) {
      const auto c = detail::first_or_replacement(cell);
      if (in(digits, c.code))
        any_digit = true;
      else if (in(signs, c.code) ? in(digits, before) : !in(others, c.code))
        return false;
      before = c.code;
      cell.remove_prefix(c.bytes);
    }
    return any_digit;
  }

  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
  TableOptions options_;
};

}  // namespace lpf
