// A data set from the user's arrays: images and labels in a .npz or a .safetensors file.
//
//   numpy.savez("mine.npz", images=x, labels=y)            # Python
//   TensorDataset data = load_arrays("mine.npz");          // here
#pragma once

#include <string>
#include <utility>

#include "lpf/data/dataset.hpp"
#include "lpf/io/npz.hpp"
#include "lpf/io/safetensors.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf {

struct ArrayOptions {
  std::string images = "images", labels = "labels";  ///< names of the arrays
  /// Images are [n, c, h, w], as in PyTorch, and are converted to [n, h, w, c].
  bool channels_first = false;
  std::int64_t classes = 0;  ///< 0: one more than the largest label
};

/// Images [n, …] and labels [n, …] from a .npz or a .safetensors file; the format is detected from the first
/// bytes, and other arrays may be of any kind. Integer labels become int64; other labels are regression targets. Images keep their dtype: uint8 is
/// for Augment. Throws IOError and FormatError as load_npz and load_safetensors; ValueError, which suggests
/// similar names, for a missing array; ShapeError; IndexError for a label out of range.
inline TensorDataset load_arrays(const std::string& path, const ArrayOptions& options = {}) {
  constexpr const char* op = "load_arrays";
  const auto is_zip = [&] {
    const detail::InputFile file(path, op);
    std::string start(std::min<std::uint64_t>(file.size(), 2), '\0');
    file.read(0, start.data(), start.size());
    return start == "PK";
  };
  Tensor images, labels;
  if (is_zip()) {
    const NamedTensors arrays = load_npz(path, {options.images, options.labels});
    images = arrays[0].second, labels = arrays[1].second;
  } else {
    const SafetensorsFile file = load_safetensors(path);
    images = file.at(options.images), labels = file.at(options.labels);
  }
  if (options.channels_first) {
    check<ShapeError>(images.rank() == 4, op, "'", path,
                      "': images that are channels first have shape [n, c, h, w], these ", images.shape());
    images = permute(images, {0, 2, 3, 1});
  }
  if (!is_floating(labels.dtype())) labels = labels.to(DType::int64);
  return {std::move(images), std::move(labels), options.classes};
}

}  // namespace lpf
