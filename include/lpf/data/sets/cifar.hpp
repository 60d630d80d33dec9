// CIFAR-10 and CIFAR-100 in their official binary version (https://www.cs.toronto.edu/~kriz/cifar.html). A
// file is records one after another, without a header:
//
//   CIFAR-10    1 byte label 0 … 9, 3072 bytes pixels
//   CIFAR-100   1 byte coarse label 0 … 19, 1 byte fine label 0 … 99, 3072 bytes pixels
//
// where pixels are three planes, red, green, blue, of 32 x 32. Here images are channels last, [n, 32, 32, 3].
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/data/dataset.hpp"
#include "lpf/data/sets/idx.hpp"
#include "lpf/data/statistics.hpp"
#include "lpf/io/compressed.hpp"
#include "lpf/io/path.hpp"
#include "lpf/io/tar.hpp"

namespace lpf {

enum class CIFARLabels { fine, coarse };
using CifarLabels [[deprecated("use CIFARLabels")]] = CIFARLabels;

struct CIFAROptions {
  /// float: pixels x / 255 in [0, 1], 614 MB for the training set; uint8: raw pixels, 154 MB, which Augment
  /// (data/augment/augment.hpp) normalises batch by batch.
  DType dtype = DType::float32;
  bool normalize = false;                  ///< (x / 255 - mean) / sd with cifar_statistics()
  CIFARLabels labels = CIFARLabels::fine;  ///< of CIFAR-100: its 100 classes, or their 20 superclasses
  /// Refuses files without the published number of images (10,000 each; CIFAR-100's training file 50,000);
  /// false accepts parts and excerpts in the same format.
  bool complete = true;
};
using CifarOptions [[deprecated("use CIFAROptions")]] = CIFAROptions;

inline constexpr std::array<std::string_view, 10> cifar10_classes = {
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};

namespace detail {

inline constexpr std::int64_t cifar_side = 32;
inline constexpr std::size_t cifar_plane = 1024, cifar_pixels = 3 * cifar_plane;

/// The record format of a file.
struct CIFARFormat {
  const char* name;                        ///< of the reader, for error messages
  std::vector<std::int64_t> label_ranges;  ///< of each label byte: its number of classes
  std::size_t label = 0;                   ///< index of the label byte in use
  std::int64_t images = 0;                 ///< per file; 0: any number
  std::int64_t classes() const { return label_ranges[label]; }
};

struct CIFARRecords {
  std::vector<std::uint8_t> labels, pixels;
};

/// The records that read(to, n) returns; fewer than n bytes mean the end. `path` is for error messages.
template <class Read>
CIFARRecords read_cifar_records(const Read& read, const std::string& path, const CIFARFormat& format) {
  const auto count = static_cast<std::size_t>(format.images);
  const std::size_t labels = format.label_ranges.size(), size = labels + cifar_pixels;
  CIFARRecords out;
  out.labels.reserve(count);
  out.pixels.reserve(count * cifar_pixels);
  std::vector<std::uint8_t> record(size);
  for (std::size_t i = 0;; ++i) {
    std::size_t got;
    try {
      got = read(record.data(), size);
    } catch (const FormatError& e) {  // of compressed data
      throw FormatError(concat(e.what(), ", in record ", i));
    }
    if (got == 0) break;
    check<FormatError>(got == size, format.name, "'", path, "' is truncated or no such file: record ", i,
                       " has ", got, " bytes, a record has ", size);
    check<FormatError>(format.images == 0 || i < count, format.name, "'", path, "' has more than the ", count,
                       " records that it must have");
    for (std::size_t l = 0; l < labels; ++l)
      check<FormatError>(record[l] < format.label_ranges[l], format.name, "'", path, "': ",
                         labels == 1 ? ""
                         : l == 0    ? "coarse "
                                     : "fine ",
                         "label ", static_cast<int>(record[l]), " of record ", i, " is outside [0, ",
                         format.label_ranges[l], ")");
    out.labels.push_back(record[format.label]);
    out.pixels.insert(out.pixels.end(), record.begin() + static_cast<std::ptrdiff_t>(labels), record.end());
  }
  check<FormatError>(!out.labels.empty(), format.name, "'", path, "' is empty");
  check<FormatError>(format.images == 0 || out.labels.size() == count, format.name, "'", path, "' has ",
                     out.labels.size(), " records, it must have ", count,
                     ": it is truncated, or an extract (read it with .complete = false)");
  return out;
}

/// Joins the parts, in order, to one data set. Frees each part once it is copied.
inline TensorDataset cifar_dataset(std::vector<CIFARRecords> parts, const CIFARFormat& format,
                                   const CIFAROptions& options) {
  std::int64_t n = 0;
  for (const auto& part : parts) n += static_cast<std::int64_t>(part.labels.size());
  Tensor images = empty({n, cifar_side, cifar_side, 3}, {.dtype = options.dtype, .device = Device::cpu()});
  Tensor labels = empty({n}, {.dtype = DType::int64, .device = Device::cpu()});
  const auto fill = [&]<class T>(T* to, const std::array<std::array<T, 256>, 3>& value) {
    std::int64_t* label = labels.data<std::int64_t>();
    for (auto& part : parts) {
      label = std::copy(part.labels.begin(), part.labels.end(), label);
      for (const std::uint8_t* from = part.pixels.data(); from != part.pixels.data() + part.pixels.size();
           from += cifar_pixels)
        for (std::size_t p = 0; p < cifar_plane; ++p)
          for (std::size_t c = 0; c < 3; ++c) *to++ = value[c][from[c * cifar_plane + p]];
      part = {};
    }
  };
  const ChannelStatistics s = cifar_statistics();
  const auto table = [&]<class T>(T, bool as_is) {
    std::array<std::array<T, 256>, 3> value;
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t x = 0; x < 256; ++x) {
        const double unit = static_cast<double>(x) / 255;
        value[c][x] = static_cast<T>(as_is               ? static_cast<double>(x)
                                     : options.normalize ? (unit - s.mean[c]) / s.sd[c]
                                                         : unit);
      }
    return value;
  };
  if (options.dtype == DType::uint8) {
    fill(images.data<std::uint8_t>(), table(std::uint8_t{}, true));
  } else {
    visit_floating(format.name, options.dtype,
                   [&]<class T>(T) { fill(images.data<T>(), table(T{}, false)); });
  }
  return {std::move(images), std::move(labels), format.classes()};
}

/// Finds the files of these names: in a folder, plain or compressed; in the folder `inner` within it; in the
/// archive `archive` within it; or `place` is that archive.
inline TensorDataset read_cifar(const std::string& place, const std::vector<std::string>& names,
                                const std::string& inner, const std::string& archive,
                                const CIFARFormat& format, const CIFAROptions& options) {
  namespace fs = std::filesystem;
  check<DTypeError>(options.dtype == DType::uint8 ? !options.normalize : is_floating(options.dtype),
                    format.name, "gives uint8 pixels, or float32 or float64, which can be normalised; got ",
                    name_of(options.dtype), options.normalize ? " with normalize" : "");
  std::error_code ignored;
  std::vector<CIFARRecords> parts(names.size());

  for (const fs::path& folder : {path_of(place), path_of(place) / inner}) {
    std::vector<std::string> found;
    std::string missing;
    for (const auto& name : names) {
      const auto size = found.size();
      for (const char* ending : {"", ".xz", ".gz"}) {
        const fs::path path = folder / (name + ending);
        if (found.size() == size && fs::is_regular_file(path, ignored)) found.push_back(text_of(path));
      }
      if (found.size() == size && missing.empty()) missing = name;
    }
    check<IOError>(found.empty() || missing.empty(), format.name, "'", text_of(folder), "' has no ", missing,
                   " (plain, .xz or .gz), which belongs to what it has");
    if (found.empty()) continue;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto source = open_unpacked(found[i], format.name);
      parts[i] = read_cifar_records([&](void* to, std::size_t n) { return read_fully(*source, to, n); },
                                    found[i], format);
    }
    return cifar_dataset(std::move(parts), format, options);
  }

  const std::string path =
      fs::is_directory(path_of(place), ignored) ? text_of(path_of(place) / archive) : place;
  check<IOError>(fs::exists(path_of(path), ignored), format.name, "'", place, "' has neither ", names[0],
                 " (plain, .xz or .gz) nor ", archive,
                 ": give the folder or the archive of the set's binary ",
                 "version, for example with scripts/get-data");
  TarReader tar(open_unpacked(path, format.name), path, format.name);
  while (tar.next()) {
    const std::string base = text_of(path_of(tar.name()).filename());
    const auto which = std::find(names.begin(), names.end(), base);
    if (which == names.end()) continue;
    CIFARRecords& part = parts[static_cast<std::size_t>(which - names.begin())];
    check<FormatError>(part.labels.empty(), format.name, "'", path, "' has two files ", base);
    part = read_cifar_records([&](void* to, std::size_t n) { return tar.read(to, n); },
                              path + ": " + tar.name(), format);
  }
  for (std::size_t i = 0; i < names.size(); ++i)
    check<FormatError>(!parts[i].labels.empty(), format.name, "'", path, "' has no file ", names[i]);
  return cifar_dataset(std::move(parts), format, options);
}

}  // namespace detail

/// CIFAR-10 from a folder with data_batch_1.bin … data_batch_5.bin (Split::test: test_batch.bin), each plain,
/// .xz or .gz; from a folder that has cifar-10-batches-bin or cifar-10-binary.tar.gz; or from that archive.
/// Labels are int64. Throws IOError if a file is missing or cannot be read; FormatError, with file and record
/// index, if one is truncated, corrupt, of the wrong size or has a label out of range; DTypeError.
inline TensorDataset cifar10(const std::string& place, Split split, CIFAROptions options = {}) {
  std::vector<std::string> names{"test_batch.bin"};
  if (split == Split::train) {
    names.clear();
    for (const char* i : {"1", "2", "3", "4", "5"}) names.push_back(concat("data_batch_", i, ".bin"));
  }
  check(options.labels == CIFARLabels::fine, "cifar10", "has no coarse labels: CIFAR-100 has");
  const detail::CIFARFormat format{"cifar10", {10}, 0, options.complete ? 10'000 : 0};
  return detail::read_cifar(place, names, "cifar-10-batches-bin", "cifar-10-binary.tar.gz", format, options);
}

/// CIFAR-100 from train.bin or test.bin, each plain, .xz or .gz; from a folder that has cifar-100-binary or
/// cifar-100-binary.tar.gz; or from that archive. As cifar10.
inline TensorDataset cifar100(const std::string& place, Split split, CIFAROptions options = {}) {
  const bool train = split == Split::train;
  const detail::CIFARFormat format{"cifar100",
                                   {20, 100},
                                   options.labels == CIFARLabels::coarse ? 0u : 1u,
                                   !options.complete ? 0
                                   : train           ? 50'000
                                                     : 10'000};
  return detail::read_cifar(place, {train ? "train.bin" : "test.bin"}, "cifar-100-binary",
                            "cifar-100-binary.tar.gz", format, options);
}

}  // namespace lpf
