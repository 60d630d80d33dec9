// Parsing and validation of a safetensors file's header (see safetensors.hpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "lpf/core/shape.hpp"
#include "lpf/io/elements.hpp"

namespace lpf::detail {

/// An element type of the format and its name there. Those that tensors have come first.
struct SafetensorsType {
  const char* name;
  StoredType type;
};

inline constexpr SafetensorsType safetensors_types[] = {
    {"F32", StoredType::float32}, {"F64", StoredType::float64},   {"I32", StoredType::int32},
    {"I64", StoredType::int64},   {"U8", StoredType::uint8},      {"BOOL", StoredType::boolean},
    {"F16", StoredType::float16}, {"BF16", StoredType::bfloat16}, {"I8", StoredType::int8},
    {"I16", StoredType::int16},   {"U16", StoredType::uint16},    {"U32", StoredType::uint32},
    {"U64", StoredType::uint64}};

/// One tensor of a validated header.
struct SafetensorsEntry {
  std::string name;
  Shape shape;
  std::uint64_t begin = 0, end = 0;
  const SafetensorsType* type = nullptr;
  std::string unreadable = "";  ///< why there can be no such tensor
};

/// Parses and validates the header. `data_size` is the number of bytes after it.
class SafetensorsHeader {
 public:
  SafetensorsHeader(std::string_view path, std::string_view text, std::uint64_t data_size) : path_(path) {
    check<FormatError>(text.starts_with('{'), op, where(), "the header must begin with '{'");
    // The JSON parser takes a zero byte for the end of the text.
    check<FormatError>(text.find('\0') == std::string_view::npos, op, where(),
                       "the header has a zero byte at ", text.find('\0'));
    const nlohmann::json header = parse(text);
    for (const auto& [name, value] : header.items()) {
      name == "__metadata__" ? read_metadata(value) : read_entry(name, value);
    }
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    std::uint64_t used = 0;
    for (const auto& e : entries) {
      check<FormatError>(e.begin == used, op, where(e.name), "its data must begin at ", used,
                         ", where the tensor before it ends, not at ", e.begin);
      used = e.end;
    }
    check<FormatError>(used == data_size, op, where(), "the tensors end at byte ", used,
                       " of the data, the file has ", data_size,
                       used > data_size ? ": it is truncated" : ": it has bytes that belong to none");
  }

  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;

 private:
  using Json = nlohmann::json;
  static constexpr const char* op = "load_safetensors";

  std::string where(std::string_view name = {}) const {
    return name.empty() ? concat("'", path_, "': ") : concat("'", path_, "', tensor '", name, "': ");
  }

  // Besides the syntax, rejects what the JSON library accepts: duplicate names, and nesting deeper than the
  // format's, which would consume memory.
  Json parse(std::string_view text) const {
    std::set<std::string> names, keys;
    const auto inspect = [&](int depth, Json::parse_event_t event, const Json& value) {
      check<FormatError>(depth <= 3, op, where(), "the header nests values deeper than the format does");
      if (event != Json::parse_event_t::key) return true;
      const auto& key = value.get_ref<const std::string&>();
      if (depth == 1) keys.clear();
      check<FormatError>((depth == 1 ? names : keys).insert(key).second, op, where(), "the name '", key,
                         "' occurs twice in the header");
      return true;
    };
    try {
      return Json::parse(text.begin(), text.end(), inspect);
    } catch (const Json::exception& e) {
      fail<FormatError>(op, where(), "the header is not valid JSON: ", e.what());
    }
  }

  void read_metadata(const Json& value) {
    check<FormatError>(value.is_object(), op, where(), "__metadata__ must be an object, is a ",
                       value.type_name());
    for (const auto& [key, text] : value.items()) {
      check<FormatError>(text.is_string(), op, where(), "__metadata__ '", key, "' must be a string, is a ",
                         text.type_name());
      metadata[key] = text.get<std::string>();
    }
  }

  std::vector<std::uint64_t> integers(const Json& entry, const std::string& name, const char* key) const {
    check<FormatError>(entry.contains(key) && entry[key].is_array(), op, where(name), "needs an array '", key,
                       "'");
    std::vector<std::uint64_t> out;
    for (const auto& n : entry[key]) {
      check<FormatError>(n.is_number_unsigned() && n.get<std::uint64_t>() <= INT64_MAX, op, where(name), "'",
                         key, "' must hold integers from 0 to 2^63 - 1, has ",
                         n.dump(-1, ' ', true, Json::error_handler_t::replace));
      out.push_back(n.get<std::uint64_t>());
    }
    return out;
  }

  void read_entry(const std::string& name, const Json& value) {
    check<FormatError>(value.is_object(), op, where(name), "must be an object, is a ", value.type_name());
    for (const auto& [key, unused] : value.items()) {
      check<FormatError>(key == "dtype" || key == "shape" || key == "data_offsets", op, where(name),
                         "has a key '", key, "' besides dtype, shape and data_offsets");
    }
    check<FormatError>(value.contains("dtype") && value["dtype"].is_string(), op, where(name),
                       "needs a string 'dtype'");
    const auto dtype = value["dtype"].get<std::string>();
    SafetensorsEntry e;
    e.name = name;
    const auto sizes = integers(value, name, "shape"), offsets = integers(value, name, "data_offsets");
    check<FormatError>(offsets.size() == 2 && offsets[0] <= offsets[1], op, where(name),
                       "data_offsets must be [begin, end] with begin <= end");
    e.begin = offsets[0], e.end = offsets[1];
    for (const auto& t : safetensors_types)
      if (dtype == t.name) e.type = &t;
    if (sizes.size() > max_rank)
      e.unreadable = concat("has ", sizes.size(), " axes, tensors here have at most ", max_rank);
    if (e.type == nullptr)
      e.unreadable =
          concat("is of type ", dtype,
                 ", which LPF does not read: convert it to F32, F64, I32, I64, U8 or BOOL and save "
                 "the file again");
    if (!e.unreadable.empty()) return entries.push_back(std::move(e));
    std::uint64_t bytes = bytes_of(e.type->type);
    bool empty = false;
    for (const auto n : sizes) {
      empty = empty || n == 0;
      const bool fits =
          n == 0 || (!__builtin_mul_overflow(bytes, n, &bytes) && bytes < std::uint64_t{1} << 60);
      check<FormatError>(fits, op, where(name), "shape ", e.shape, " with a further axis of ", n,
                         " has more elements than can be counted");
      e.shape.push_back(static_cast<std::int64_t>(n));
    }
    if (empty) bytes = 0;
    check<FormatError>(bytes == e.end - e.begin, op, where(name), dtype, " of shape ", e.shape, " takes ",
                       bytes, " bytes, data_offsets [", e.begin, ", ", e.end, "] hold ", e.end - e.begin);
    entries.push_back(std::move(e));
  }

  std::string path_;
};

}  // namespace lpf::detail
