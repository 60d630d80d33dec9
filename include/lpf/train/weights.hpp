// The weights of a model in their own safetensors file, with PyTorch's names and layouts:
//
//   save_weights("net.safetensors", params);
//   load_weights("net.safetensors", params);
//
//   net.load_state_dict(safetensors.torch.load_file("net.safetensors"))    # in Python
//
// The names are the layers' paths. Layouts that are channels first in PyTorch are permuted: a convolution's
// filters are [K, kh, kw, C] here and [K, C, kh, kw] there, or [K, k, C] and [K, C, k]. Buffers (running statistics,
// num_batches_tracked) are part of the weights.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/io/safetensors.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf {

struct LoadWeightsOptions {
  bool strict = true;  ///< names that only the file or only the model has are an error
  /// Removed from the names in the file: "module." of PyTorch's DataParallel, "_orig_mod." of torch.compile, or
  /// the name of the part of a larger model that this one is. Names that do not begin with it are the file's only.
  std::string prefix = "";
  /// Tensors whose shape or kind of element differs keep the model's values, instead of an error.
  bool skip_mismatched = false;
};
/// Names that only the model or only the file has, and names of tensors that do not fit.
struct UnmatchedNames {
  std::vector<std::string> missing, unexpected, mismatched = {};
};

namespace detail {

/// A 64-bit digest of bytes: a change within one aligned word of eight always changes it, other changes
/// almost certainly. It distinguishes files and detects damage; it is no protection against forgery.
class Digest {
 public:
  void add(std::string_view bytes) {
    add_word(bytes.size());
    for (; bytes.size() >= 8; bytes.remove_prefix(8)) add_word(word_of(bytes, 8));
    if (!bytes.empty()) add_word(word_of(bytes, bytes.size()));
  }
  std::uint64_t value() const { return state_; }

 private:
  static std::uint64_t word_of(std::string_view bytes, std::size_t n) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), n);
    return word;
  }
  void add_word(std::uint64_t word) {
    state_ = (state_ ^ word) * 0x9E3779B97F4A7C15;
    state_ ^= state_ >> 32;
  }
  std::uint64_t state_ = 0x2545F4914F6CDD1D;
};

/// The dtype of a tensor of this dtype after load_safetensors().
inline DType dtype_read(DType type) { return type == DType::bfloat16 ? DType::float32 : type; }

/// The digest of named tensors, as they would be loaded, and texts, in any order, as 16 hexadecimal digits.
inline std::string digest_of(const NamedTensors& items, const Metadata& texts = {}) {
  std::uint64_t sum = 0;
  for (const auto& [name, tensor] : items) {
    const Tensor t = tensor.to(Device::cpu()).to(dtype_read(tensor.dtype()));
    Digest d;
    d.add(name);
    d.add(concat(name_of(t.dtype()), t.shape()));
    d.add({static_cast<const char*>(t.raw()), static_cast<std::size_t>(t.numel()) * size_of(t.dtype())});
    sum += d.value();
  }
  for (const auto& [key, text] : texts) {
    Digest d;
    d.add(key);
    d.add(text);
    sum += d.value();
  }
  std::string hex(16, '0');
  for (std::size_t i = 16; i-- > 0; sum >>= 4) hex[i] = "0123456789abcdef"[sum & 15];
  return hex;
}

/// A parameter or buffer: the model's tensor, and its layout in PyTorch.
struct Weight {
  std::string name;
  Tensor tensor;
  Layout layout;

  Tensor to_torch() const {
    const Tensor t = tensor.detach();
    return layout == Layout::filter ? permute(t, torch_axes()) : t;
  }
  Shape torch_shape() const {
    if (layout != Layout::filter) return tensor.shape();
    Shape out;
    for (const int axis : torch_axes()) out.push_back(tensor.shape()[axis]);
    return out;
  }
  void set_from_torch(const Tensor& t) const {
    if (layout != Layout::filter) return static_cast<void>(tensor.copy_(t));
    Axes axes(static_cast<std::size_t>(t.rank()));  // the inverse of torch_axes()
    for (int i = 0; const int axis : torch_axes()) axes[static_cast<std::size_t>(axis)] = i++;
    tensor.copy_(permute(t, axes));
  }

 private:
  /// The axes of filters [K, …, C] in the order [K, C, …].
  Axes torch_axes() const {
    Axes out{0, tensor.rank() - 1};
    for (int i = 1; i + 1 < tensor.rank(); ++i) out.push_back(i);
    return out;
  }
};

inline std::vector<Weight> weights_of(const ParameterStore& params) {
  std::vector<Weight> out;
  for (const auto& info : params.parameters())
    out.push_back({info.name, params.tensor(info.index), info.layout});
  for (const auto& buffer : params.buffers()) out.push_back({buffer.name, buffer.tensor, buffer.layout});
  return out;
}

/// "'a', 'b' and 7 more".
inline std::string list_of(const std::vector<std::string>& names, std::string_view quote = "'") {
  constexpr std::size_t most = 8;
  std::string out;
  for (std::size_t i = 0; i < names.size() && i < most; ++i)
    out += concat(i ? ", " : "", quote, names[i], quote);
  return names.size() > most ? concat(out, " and ", names.size() - most, " more") : out;
}

/// A prefix of the file's names with which it would have all of `missing`; empty if there is none.
inline std::string prefix_of(const SafetensorsFile& file, const UnmatchedNames& names) {
  if (names.missing.empty()) return "";
  const std::string& first = names.missing.front();
  for (const std::string& name : names.unexpected) {
    if (!name.ends_with(first)) continue;
    const std::string prefix = name.substr(0, name.size() - first.size());
    if (std::all_of(names.missing.begin(), names.missing.end(),
                    [&](const std::string& missing) { return file.contains(prefix + missing); }))
      return prefix;
  }
  return "";
}

/// Checks a file against a model: ValueError naming everything that does not fit.
inline UnmatchedNames check_weights(std::string_view operation, const SafetensorsFile& file,
                                    const std::vector<Weight>& weights, const LoadWeightsOptions& options) {
  UnmatchedNames out;
  std::set<std::string> known;
  std::vector<std::string> shapes, dtypes;
  for (const Weight& w : weights) {
    const std::string name = options.prefix + w.name;
    known.insert(name);
    if (!file.contains(name)) {
      out.missing.push_back(w.name);
      continue;
    }
    const Tensor& t = file.at(name);
    const bool shape_fits = t.shape() == w.torch_shape();
    if (shape_fits && is_floating(t.dtype()) == is_floating(w.tensor.dtype())) continue;
    out.mismatched.push_back(w.name);
    if (!shape_fits)
      shapes.push_back(
          concat("'", w.name, "' ", t.shape(), " in the file, ", w.torch_shape(), " in the model"));
    else
      dtypes.push_back(concat("'", w.name, "' ", name_of(t.dtype()), " in the file, ",
                              name_of(w.tensor.dtype()), " in the model"));
  }
  for (const auto& [name, tensor] : file)
    if (known.count(name) == 0) out.unexpected.push_back(name);
  for (const auto& [name, reason] : file.unreadable())
    if (known.count(name) == 0) out.unexpected.push_back(name);
  const bool names_fit = !options.strict || (out.missing.empty() && out.unexpected.empty());
  const bool values_fit = options.skip_mismatched || out.mismatched.empty();
  const bool nothing = !weights.empty() && out.missing.size() + out.mismatched.size() == weights.size();
  if (names_fit && values_fit && !nothing) return out;
  std::string text;
  const auto add = [&](const char* what, const std::vector<std::string>& list, std::string_view quote) {
    if (!list.empty()) text += concat(text.empty() ? "" : "; ", what, list_of(list, quote));
  };
  if (options.strict || nothing) add("the file lacks ", out.missing, "'");
  if (options.strict || nothing) add("the model has no ", out.unexpected, "'");
  add("shapes differ (in PyTorch's layout): ", shapes, "");
  add("element types differ: ", dtypes, "");
  if (const std::string prefix = prefix_of(file, out); !prefix.empty())
    text += concat("; the file has its names behind '", options.prefix, prefix, "': give that as the prefix");
  fail(operation, "'", file.path(), "' is not of this model: ", text);
}

/// Loads a file and verifies its digest. Files of other programs have none.
inline SafetensorsFile load_with_digest(std::string_view operation, const std::string& path) {
  SafetensorsFile file = load_safetensors(path);
  const auto found = file.metadata().find("lpf.digest");
  if (found == file.metadata().end()) return file;
  Metadata rest = file.metadata();
  rest.erase("lpf.digest");
  check<FormatError>(digest_of(file.items(), rest) == found->second, operation, "'", path,
                     "' is damaged: its content is not what was saved; use another copy");
  return file;
}

inline Metadata with_digest(const NamedTensors& items, Metadata metadata) {
  metadata["lpf.digest"] = digest_of(items, metadata);
  return metadata;
}

}  // namespace detail

/// Parameters and buffers with PyTorch's names and layouts; those with the same
/// layout share the model's memory.
inline NamedTensors state_dict(const ParameterStore& params) {
  const auto off = no_grad();
  NamedTensors out;
  for (const auto& w : detail::weights_of(params)) out.emplace_back(w.name, w.to_torch());
  return out;
}

/// Writes the weights to a file that PyTorch's strict load_state_dict accepts, entirely
/// or not at all. Throws IOError.
inline void save_weights(const std::string& path, const ParameterStore& params) {
  const NamedTensors weights = state_dict(params);
  save_safetensors(path, weights, detail::with_digest(weights, {{"format", "pt"}}));
}

/// Loads weights from a file of LPF or PyTorch; floating-point numbers are converted to the model's dtype.
/// The model is changed entirely or not at all. A file may lack batch norm's num_batches_tracked, which then
/// stays, as in PyTorch. Returns the names that only one side has, none if strict, and those that were skipped.
/// Throws IOError; FormatError for a broken file; ValueError that lists the names and shapes that do not fit,
/// also where nothing fits.
inline UnmatchedNames load_weights(const std::string& path, const ParameterStore& params,
                                   const LoadWeightsOptions& options = {}) {
  const SafetensorsFile file = detail::load_with_digest("load_weights", path);
  auto weights = detail::weights_of(params);
  std::erase_if(weights, [&](const detail::Weight& w) {
    return w.name.ends_with("num_batches_tracked") && !file.contains(options.prefix + w.name);
  });
  UnmatchedNames unmatched = detail::check_weights("load_weights", file, weights, options);
  const auto off = no_grad();
  for (const auto& w : weights) {
    const auto& skipped = unmatched.mismatched;
    const std::string name = options.prefix + w.name;
    if (file.contains(name) && std::find(skipped.begin(), skipped.end(), w.name) == skipped.end())
      w.set_from_torch(file.at(name));
  }
  return unmatched;
}

}  // namespace lpf
