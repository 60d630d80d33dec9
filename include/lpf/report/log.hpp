// Records of a run as CSV or JSON, appended one by one or written at once. Needs nlohmann-json (CMake's
// target lpf::io).
#pragma once

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/report/table.hpp"

namespace lpf {

/// A number (any arithmetic type; bool is true/false) or a text. Floating-point numbers are stored as the
/// shortest decimal that reads back to the same value; NaN and infinities: empty in CSV, null in JSON.
class MetricValue {
 public:
  template <class T>
  requires std::is_arithmetic_v<T> MetricValue(T value) {
    if constexpr (std::is_same_v<T, bool>) {
      text_ = value ? "true" : "false";
    } else {
      if constexpr (std::is_floating_point_v<T>) {
        if (!std::isfinite(static_cast<double>(value))) return;
      }
      char buffer[64];
      text_.assign(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
    }
  }
  MetricValue(std::string text) : text_(std::move(text)), is_text_(true) {}
  MetricValue(std::string_view text) : MetricValue(std::string(text)) {}
  MetricValue(const char* text) : MetricValue(std::string(text)) {}

  const std::string& text() const { return text_; }
  bool is_text() const { return is_text_; }

 private:
  std::string text_;
  bool is_text_ = false;
};

/// Names and values, in order: Record{{"epoch", 3}, {"loss", 0.21}, {"optimizer", "SGD"}}.
using Record = std::vector<std::pair<std::string, MetricValue>>;

namespace detail {

/// Preserves the order of a record's columns.
using Json = nlohmann::ordered_json;

/// A JSON value as text on one line; invalid UTF-8 is replaced by U+FFFD.
inline std::string json_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// A number is parsed from its text, so that a float keeps its shortest decimal. NaN and infinities are null.
inline Json json_of(const MetricValue& value) {
  if (value.is_text()) return value.text();
  return value.text().empty() ? Json() : Json::parse(value.text());
}

/// A CSV cell (RFC 4180): quoted if it contains a comma, a quote or a line break.
inline std::string csv_cell(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == text.npos) return std::string(text);
  std::string out = "\"";
  for (const char c : text) out.append(c == '"' ? 2 : 1, c);
  return out + '"';
}

/// The columns, fixed by the first record or by the existing file; later records must have the same. Names
/// are stored in the file's encoding, so that names read from a file are compared without decoding.
class RecordColumns {
 public:
  explicit RecordColumns(bool json) : json_(json) {}

  bool empty() const { return names_.empty(); }
  /// Reads the columns from the first line of a file.
  void read(std::string_view line) { names_ = json_ ? json_keys(line) : csv_cells(line); }

  /// One line, without its newline; values in the order of the columns.
  std::string line(std::string_view operation, const Record& record) {
    if (empty()) fix(operation, record);
    bool same = record.size() == names_.size();
    std::string cells;
    Json object;
    for (const auto& name : names_) {
      const auto found = std::find_if(record.begin(), record.end(),
                                      [&](const auto& field) { return encode(field.first) == name; });
      if (!(same = same && found != record.end())) break;
      if (json_)
        object[found->first] = json_of(found->second);
      else
        cells += (&name == &names_[0] ? "" : ",") + csv_cell(found->second.text());
    }
    check<StateError>(same, operation, "a record has the columns ", list(encode_all(record)),
                      ", the first one had ", list(names_), ": give every record the same ones");
    if (json_) return json_text(object);
    return cells.empty() ? "\"\"" : cells;  // an empty line would not be a record
  }
  /// The header of a CSV file, without its newline.
  std::string header() const {
    std::string out;
    for (const auto& name : names_) out += (&name == &names_[0] ? "" : ",") + name;
    return out;
  }
  void clear() { names_.clear(); }

 private:
  std::string encode(const std::string& name) const { return json_ ? json_text(name) : csv_cell(name); }
  std::vector<std::string> encode_all(const Record& record) const {
    std::vector<std::string> names;
    for (const auto& field : record) names.push_back(encode(field.first));
    return names;
  }
  void fix(std::string_view operation, const Record& record) {
    check<ValueError>(!record.empty(), operation, "a record needs at least one column");
    auto names = encode_all(record);
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto end = names.begin() + static_cast<std::ptrdiff_t>(i);
      check<ValueError>(!record[i].first.empty() && std::find(names.begin(), end, names[i]) == end, operation,
                        "column names must differ and not be empty: ", list(names));
    }
    names_ = std::move(names);
  }
  static std::string list(const std::vector<std::string>& names) {
    std::string out = "(";
    for (const auto& name : names) out += (&name == &names[0] ? "" : ", ") + name;
    return out + ')';
  }
  static std::vector<std::string> csv_cells(std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    std::vector<std::string> cells(1);
    bool quoted = false;
    for (const char c : line) {
      if (c == '"') quoted = !quoted;
      if (c == ',' && !quoted)
        cells.emplace_back();
      else
        cells.back() += c;
    }
    return cells;
  }
  /// Empty if the line is not a JSON object.
  static std::vector<std::string> json_keys(std::string_view line) {
    std::vector<std::string> keys;
    const Json object = Json::parse(line, nullptr, false);
    if (object.is_object())
      for (const auto& [key, value] : object.items()) keys.push_back(json_text(key));
    return keys;
  }

  std::vector<std::string> names_;
  bool json_;
};

}  // namespace detail

/// How a MetricLog opens its file.
struct MetricLogOptions {
  bool append = false;  ///< continue an existing file (a resumed run) instead of truncating it
  /// Records of an existing file to keep, the number in the checkpoint. Later ones are cut.
  std::size_t keep = std::numeric_limits<std::size_t>::max();
};

/// A log of records, one line each: `.csv` (with a header) or `.jsonl`, by the file's extension. Every line
/// is written to the system immediately, so that a killed process loses none; an incomplete last line
/// (without newline) is cut when the file is continued. Throws ValueError for another extension, IOError for
/// system errors (full disk, missing folder…), FormatError if the file to continue is not such a log.
class MetricLog {
 public:
  explicit MetricLog(std::string path, MetricLogOptions options = {})
      : path_(std::move(path)), json_(path_.ends_with(".jsonl")), columns_(json_) {
    check(json_ || path_.ends_with(".csv"), "MetricLog", "'", path_, "' is neither .csv nor .jsonl");
    file_.reset(detail::os::open(path_, {.read = options.append,
                                         .write = true,
                                         .create = true,
                                         .truncate = !options.append,
                                         .append = true}));
    if (!file_) error("open", errno);
    auto kind = detail::os::FileKind::other;
    if (const int number = detail::os::kind_of(file_.get(), kind)) error("open", number);
    if (options.append && kind == detail::os::FileKind::regular) resume(options.keep);
  }

  /// Appends a record. The first one fixes the columns; throws StateError if a later one has others (their
  /// order may differ). After an IOError the file ends with the last complete record; where not even the
  /// incomplete line can be cut, every later call throws too, until it can be.
  void write(const Record& record) {
    check<StateError>(bool(file_), "MetricLog", "'", path_, "' is closed");
    const bool first = columns_.empty();
    std::string line = columns_.line("MetricLog", record) + '\n';
    if (first && !json_) line.insert(0, columns_.header() + '\n');
    if (torn_at_ >= 0) cut();
    const std::int64_t end = detail::os::end_of(file_.get());
    if (const int number = detail::os::write_fully(file_.get(), line)) {
      if (first) columns_.clear();
      torn_at_ = end;
      if (end >= 0 && detail::os::truncate(file_.get(), end) == 0) torn_at_ = -1;
      error("write", number);
    }
    ++size_;
  }

  /// Number of records in the file.
  std::size_t size() const { return size_; }

  /// Syncs the log to disk and closes it; the destructor closes too, but cannot report an error.
  void close() {
    if (!file_) return;
    const int unsynced = detail::os::sync(file_.get());
    if (unsynced != 0 && unsynced != EINVAL && unsynced != ENOTSUP) error("write", unsynced);
    if (const int number = detail::os::close(file_.release())) error("write", number);
  }

 private:
  [[noreturn]] void error(std::string_view action, int number) const {
    detail::file_error("MetricLog", action, path_, number);
  }

  /// Removes the incomplete line that a failed write() left.
  void cut() {
    if (const int number = detail::os::truncate(file_.get(), torn_at_)) error("write", number);
    torn_at_ = -1;
  }

  void resume(std::size_t keep) {
    std::string text;
    char buffer[1 << 14];
    for (std::int64_t got = 1; got != 0;) {
      got = detail::os::read_at(file_.get(), buffer, sizeof buffer, static_cast<std::int64_t>(text.size()));
      if (got < 0) error("read", errno);
      text.append(buffer, static_cast<std::size_t>(got));
    }
    std::size_t end = 0;  // after the last record to keep
    bool quoted = false, header = !json_;
    for (std::size_t i = 0; i < text.size() && (header || size_ < keep); ++i) {
      if (text[i] == '"' && !json_) quoted = !quoted;
      if (text[i] != '\n' || quoted) continue;
      if (end == 0) columns_.read(std::string_view(text).substr(0, i));
      check<FormatError>(!columns_.empty(), "MetricLog", "'", path_,
                         "' does not begin with a JSON record: choose another file to append to");
      header ? void(header = false) : void(++size_);
      end = i + 1;
    }
    if (end == text.size()) return;
    if (const int number = detail::os::truncate(file_.get(), static_cast<std::int64_t>(end)))
      error("write", number);
  }

  std::string path_;
  bool json_;
  detail::RecordColumns columns_;
  detail::FileDescriptor file_;
  std::size_t size_ = 0;
  std::int64_t torn_at_ = -1;  // where an incomplete line begins that could not be cut
};

/// Writes records as a JSON array, one object per line, atomically. All must have the columns of the first
/// (else StateError); throws IOError.
inline void write_json_records(const std::string& path, std::span<const Record> records) {
  detail::RecordColumns columns(true);
  std::string text;
  for (const Record& record : records)
    text += (text.empty() ? "\n  " : ",\n  ") + columns.line("write_json_records", record);
  write_file_atomically(path, '[' + text + (text.empty() ? "]\n" : "\n]\n"));
}

/// Writes records as CSV with a header, atomically. All must have the columns of the first (else StateError);
/// throws IOError. Without records the file is empty.
inline void write_csv_records(const std::string& path, std::span<const Record> records) {
  detail::RecordColumns columns(false);
  std::string text;
  for (const Record& record : records) text += columns.line("write_csv_records", record) + '\n';
  write_file_atomically(path, records.empty() ? text : columns.header() + '\n' + text);
}

}  // namespace lpf
