// Named tensors in a file: the safetensors format (https://huggingface.co/docs/safetensors), used by PyTorch,
// JAX and others.
//
//   8 bytes      N, the length of the header (unsigned, little endian)
//   N bytes      the header, JSON: {"name": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, …}, and
//                perhaps "__metadata__": {"key": "value", …}; spaces may follow
//   the rest     the elements, row-major, little endian; the offsets count from here and leave no byte unused
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/io/file.hpp"
#include "lpf/io/safetensors_header.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using Metadata = std::map<std::string, std::string>;

/// The contents of a file: its tensors, in file order, and its metadata.
class SafetensorsFile {
 public:
  SafetensorsFile(std::string path, NamedTensors items, Metadata metadata, Metadata unreadable = {})
      : path_(std::move(path)),
        items_(std::move(items)),
        metadata_(std::move(metadata)),
        unreadable_(std::move(unreadable)) {
    for (std::size_t i = 0; i < items_.size(); ++i) index_.emplace(items_[i].first, i);
  }

  const std::string& path() const { return path_; }
  const Metadata& metadata() const { return metadata_; }
  const NamedTensors& items() const { return items_; }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  std::size_t size() const { return items_.size(); }
  /// The names of tensors that cannot be read, each with the reason: their element type is unknown here, or they
  /// have too many axes. They are not among the items.
  const Metadata& unreadable() const { return unreadable_; }
  /// Whether the file has a tensor of that name, readable or not.
  bool contains(const std::string& name) const {
    return index_.count(name) > 0 || unreadable_.count(name) > 0;
  }

  /// The tensor of that name. Throws ValueError, listing similar names, if there is none; DTypeError if it
  /// cannot be read.
  const Tensor& at(const std::string& name) const {
    const auto found = index_.find(name);
    if (found != index_.end()) return items_[found->second].second;
    const auto unreadable = unreadable_.find(name);
    if (unreadable != unreadable_.end())
      fail<DTypeError>("safetensors", "'", path_, "', tensor '", name, "' ", unreadable->second);
    std::vector<std::string> names;
    for (const auto& [known, tensor] : items_) names.push_back(known);
    fail("safetensors", "'", path_, "' has no tensor '", name, "' among its ", items_.size(),
         detail::suggest(name, names));
  }

 private:
  std::string path_;
  NamedTensors items_;
  Metadata metadata_, unreadable_;
  std::map<std::string, std::size_t> index_;
};

namespace detail {

/// Reads a file of `size` bytes through read(offset, to, bytes).
template <class Read>
SafetensorsFile read_safetensors(const std::string& path, std::uint64_t size, const Read& read) {
  constexpr const char* op = "load_safetensors";
  constexpr std::uint64_t longest_header = 100'000'000;  // the limit of the format's own library
  check<FormatError>(size >= 8, op, "'", path, "' has ", size, " bytes, a safetensors file has at least 8");
  std::uint64_t length = 0;
  read(0, &length, 8);
  check<FormatError>(
      length <= size - 8 && length <= longest_header, op, "'", path, "': its header would be ", length,
      " bytes long, the file has ", size - 8, " after the first 8",
      length <= size - 8 ? ", and 100000000 is the limit" : ": it is truncated, or not a safetensors file");
  std::string text(length, '\0');
  read(8, text.data(), length);
  SafetensorsHeader header(path, text, size - 8 - length);
  NamedTensors items;
  Metadata unreadable;
  for (const auto& e : header.entries) {
    if (!e.unreadable.empty()) {
      unreadable[e.name] = e.unreadable;
      continue;
    }
    items.emplace_back(e.name, read_elements(
                                   e.type->type, false, e.shape,
                                   [&](void* to, std::uint64_t n) { read(8 + length + e.begin, to, n); },
                                   [&](const std::string& what) {
                                     fail<FormatError>(op, "'", path, "', tensor '", e.name, "': ", what);
                                   }));
  }
  return {path, std::move(items), std::move(header.metadata), std::move(unreadable)};
}

/// Writes the file through write(string_view). Wide elements come first, so that all are aligned
/// to their size.
template <class Write>
void write_safetensors(const NamedTensors& items, const Metadata& metadata, const Write& write) {
  constexpr const char* op = "save_safetensors";
  std::vector<const std::pair<std::string, Tensor>*> order;
  for (const auto& item : items) {
    check(item.second.defined(), op, "tensor '", item.first, "' is undefined");
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return size_of(a->second.dtype()) > size_of(b->second.dtype());
  });
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t end = 0;
  for (const auto* item : order) {
    const std::string& name = item->first;
    const Tensor& t = item->second;
    check(!header.contains(name) && name != "__metadata__", op, "two tensors are named '", name,
          "', or the name is reserved");
    const auto begin = end;
    end += static_cast<std::uint64_t>(t.numel()) * size_of(t.dtype());
    const auto* type = std::find_if(std::begin(safetensors_types), std::end(safetensors_types),
                                    [&](const auto& s) { return tensor_type(s.type) == t.dtype(); });
    header[name] = {{"dtype", t.dtype() == bfloat16 ? "BF16" : type->name},
                    {"shape", std::vector(t.shape().begin(), t.shape().end())},
                    {"data_offsets", {begin, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) { fail(op, "a name or a metadata value is not valid UTF-8"); }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  write(std::string_view(reinterpret_cast<const char*>(&length), 8));
  write(std::string_view(text));
  std::string copy;
  for (const auto* item : order) {
    const Tensor& t = item->second;
    const std::size_t bytes = static_cast<std::size_t>(t.numel()) * size_of(t.dtype());
    const void* from = t.raw();
    if (!t.device().is_cpu()) {
      copy.resize(bytes);
      t.backend().copy_to_host(copy.data(), from, bytes);
      from = copy.data();
    }
    write(std::string_view(static_cast<const char*>(from), bytes));
  }
}

}  // namespace detail

/// Reads a safetensors file into tensors on the CPU. Types that tensors lack are converted exactly
/// (io/elements.hpp); BF16 is converted to float32 too, which has arithmetic on every device. A tensor of any
/// other type does not prevent the reading of the others (SafetensorsFile::unreadable()). Throws IOError if it
/// cannot be read, FormatError if it breaks a rule of the format (naming file, tensor, rule and values).
inline SafetensorsFile load_safetensors(const std::string& path) {
  const detail::InputFile file(path, "load_safetensors");
  return detail::read_safetensors(
      path, file.size(), [&](std::uint64_t offset, void* to, std::uint64_t n) { file.read(offset, to, n); });
}

/// The same from bytes in memory. Errors name `path`.
inline SafetensorsFile parse_safetensors(std::string_view bytes, const std::string& path = "memory") {
  return detail::read_safetensors(path, bytes.size(), [&](std::uint64_t offset, void* to, std::uint64_t n) {
    if (n > 0) std::memcpy(to, bytes.data() + offset, n);
  });
}

/// The bytes of a safetensors file with these tensors (of any device) and metadata. Throws ValueError for a
/// name that occurs twice, an undefined tensor, or text that is not UTF-8.
inline std::string serialize_safetensors(const NamedTensors& items, const Metadata& metadata = {}) {
  std::string bytes;
  detail::write_safetensors(items, metadata, [&](std::string_view part) { bytes += part; });
  return bytes;
}

/// Writes a safetensors file to `path` atomically. To replace several files together, write each to its own
/// AtomicFile and commit them one after another. Throws IOError, and ValueError as above.
inline void save_safetensors(AtomicFile& file, const NamedTensors& items, const Metadata& metadata = {}) {
  detail::write_safetensors(items, metadata, [&](std::string_view part) { file.write(part); });
}
inline void save_safetensors(const std::string& path, const NamedTensors& items,
                             const Metadata& metadata = {}) {
  AtomicFile file(path, "save_safetensors");
  save_safetensors(file, items, metadata);
  file.commit();
}

}  // namespace lpf
