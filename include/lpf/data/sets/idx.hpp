// IDX files, the format of MNIST (http://yann.lecun.com/exdb/mnist) and of
// similar sets such as Fashion-MNIST:
//
//   2 bytes      0
//   1 byte       the type of the elements: 8 uint8, 9 int8, 11 int16, 12 int32, 13 float, 14 double
//   1 byte       the number of axes
//   4 bytes each the sizes (big endian, as are the elements)
//   the rest     the elements, row-major
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "lpf/data/dataset.hpp"
#include "lpf/io/compressed.hpp"
#include "lpf/io/elements.hpp"
#include "lpf/io/path.hpp"

namespace lpf {

namespace detail {

struct IdxHeader {
  StoredType type;
  Shape shape;
  std::size_t begin, size;  // the offset of the elements, and their size in bytes

  /// ", in record 7 of 9": where a file of `bytes` bytes ends.
  std::string end(std::size_t bytes) const {
    if (shape.rank() == 0 || bytes < begin || bytes - begin >= size) return "";
    const auto record = size / static_cast<std::size_t>(shape[0]);
    return concat(", in record ", (bytes - begin) / record, " of ", shape[0]);
  }
};

inline IdxHeader parse_idx_header(std::string_view bytes, const std::string& path) {
  constexpr const char* op = "read_idx";
  check<FormatError>(bytes.size() >= 4, op, "'", path, "' has ", bytes.size(),
                     " bytes, an IDX file has at least 4");
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i]));
  };
  check<FormatError>(byte(0) == 0 && byte(1) == 0, op, "'", path,
                     "' is not an IDX file: its first bytes are ", byte(0), " ", byte(1), ", not 0 0");
  struct Type {
    std::uint64_t code;
    StoredType stored;
  };
  constexpr Type types[] = {{8, StoredType::uint8},  {9, StoredType::int8},     {11, StoredType::int16},
                            {12, StoredType::int32}, {13, StoredType::float32}, {14, StoredType::float64}};
  const auto* type =
      std::find_if(std::begin(types), std::end(types), [&](const Type& t) { return t.code == byte(2); });
  check<FormatError>(type != std::end(types), op, "'", path, "': unknown type of elements ", byte(2));
  const std::size_t axes = byte(3), header = 4 + 4 * axes;
  check<FormatError>(axes <= max_rank, op, "'", path, "' has ", axes, " axes, tensors here have at most ",
                     max_rank);
  check<FormatError>(bytes.size() >= header, op, "'", path, "' is truncated: the header has ", header,
                     " bytes, the file ", bytes.size());
  Shape shape;
  std::uint64_t size = bytes_of(type->stored);
  for (std::size_t a = 0; a < axes; ++a) {
    const std::size_t at = 4 + 4 * a;
    const std::uint64_t n = byte(at) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3);
    // Sizes of 0 aside: the product must not overflow.
    const bool fits = n == 0 || (!__builtin_mul_overflow(size, n, &size) && size < std::uint64_t{1} << 60);
    check<FormatError>(fits, op, "'", path, "': shape ", shape, " with a further axis of ", n,
                       " has more elements than can be counted");
    shape.push_back(static_cast<std::int64_t>(n));
  }
  if (shape.numel() == 0) size = 0;
  return {type->stored, shape, header, size};
}

}  // namespace detail

/// The tensor in the bytes of an IDX file; `path` is for error messages. int8 and int16 become int32. Throws
/// FormatError, naming the violated rule and the values.
inline Tensor parse_idx(std::string_view bytes, const std::string& path = "memory") {
  const auto header = detail::parse_idx_header(bytes, path);
  const std::string_view data = bytes.substr(header.begin);
  check<FormatError>(data.size() == header.size, "read_idx", "'", path, "': shape ", header.shape, " takes ",
                     header.size, " bytes after the header, the file has ", data.size(),
                     data.size() < header.size ? ": it is truncated" : ": it is too long",
                     header.end(bytes.size()));

  return detail::read_elements(
      header.type, true, header.shape,
      [&](void* to, std::size_t n) { std::copy_n(data.data(), n, static_cast<char*>(to)); },
      [](const std::string& what) { fail<FormatError>("read_idx", what); });
}

/// The tensor in an IDX file, plain or compressed (io/compressed.hpp). Throws IOError if it cannot be read,
/// FormatError as above, with the index of the record where compressed data end or are corrupt.
inline Tensor read_idx(const std::string& path) {
  std::string bytes;
  try {
    detail::read_to_end(*detail::open_unpacked(path, "read_idx"), bytes);
  } catch (const FormatError& e) {
    std::string end;
    try {
      end = detail::parse_idx_header(bytes, path).end(bytes.size());
    } catch (const FormatError&) {}  // the header is incomplete: no record to name
    throw FormatError(e.what() + end);
  }
  return parse_idx(bytes, path);
}

enum class Split { train, test };

struct MNISTOptions {
  DType dtype = DType::float32;  ///< float: pixels x / 255 in [0, 1]; uint8: raw pixels
  bool flat = false;             ///< images [n, 784] rather than [n, 28, 28, 1]
  bool normalize = false;        ///< (x / 255 - .1307) / .3081, MNIST's mean and standard deviation
  std::int64_t classes = 10;
};
using MnistOptions [[deprecated("use MNISTOptions")]] = MNISTOptions;

namespace detail {

/// The images' and the labels' file of a split, in `folder` or where torchvision puts them in it.
inline std::array<std::string, 2> find_mnist(const std::string& folder, const std::string& split) {
  namespace fs = std::filesystem;
  const auto find = [](const fs::path& place, const std::string& name, const std::string& kind) {
    for (const char* dash : {"-", "."})
      for (const char* ending : {"", ".gz"}) {
        const fs::path path = place / concat(name, dash, kind, "-ubyte", ending);
        std::error_code ignored;
        if (fs::exists(path, ignored)) return text_of(path);
      }
    return std::string();
  };
  const std::string images = split + "-images", labels = split + "-labels";
  for (const char* inner : {"", "raw", "MNIST/raw"}) {
    const fs::path place = path_of(folder) / inner;
    std::array<std::string, 2> found{find(place, images, "idx3"), find(place, labels, "idx1")};
    if (found[0].empty() && found[1].empty()) continue;
    const std::string missing = found[0].empty()   ? images + "-idx3-ubyte"
                                : found[1].empty() ? labels + "-idx1-ubyte"
                                                   : "";
    check<IOError>(missing.empty(), "mnist", "'", text_of(place), "' has no ", missing,
                   " (plain or .gz), which belongs to what it has");
    return found;
  }
  fail<IOError>("mnist", "'", folder, "' has neither ", images, "-idx3-ubyte nor ", images,
                "-idx3-ubyte.gz, nor has raw or MNIST/raw in it: it must hold MNIST's four files");
}

}  // namespace detail

/// MNIST, or a set in its format, from a folder with the files train-images-idx3-ubyte,
/// train-labels-idx1-ubyte (for Split::test t10k-…), each plain or .gz, also named train-images.idx3-ubyte; or
/// from a folder that has them in raw or in MNIST/raw, as torchvision's. Labels are int64. Throws IOError if a
/// file is missing, FormatError if one is truncated or corrupt, if they do not belong together, or if a label
/// is out of range (naming the record).
inline TensorDataset mnist(const std::string& folder, Split split, MNISTOptions options = {}) {
  constexpr const char* op = "mnist";
  const auto [images_path, labels_path] =
      detail::find_mnist(folder, split == Split::train ? "train" : "t10k");
  const Tensor raw = read_idx(images_path), raw_labels = read_idx(labels_path);
  check<FormatError>(raw.dtype() == DType::uint8 && raw.rank() == 3, op, "'", images_path,
                     "' must hold uint8 [n, rows, columns], holds ", name_of(raw.dtype()), " ", raw.shape());
  check<FormatError>(raw_labels.dtype() == DType::uint8 && raw_labels.rank() == 1, op, "'", labels_path,
                     "' must hold uint8 [n], holds ", name_of(raw_labels.dtype()), " ", raw_labels.shape());
  const std::int64_t n = raw.size(0);
  check<FormatError>(raw_labels.size(0) == n, op, "'", images_path, "' has ", n, " images, '", labels_path,
                     "' ", raw_labels.size(0), " labels: they do not belong together");

  Tensor labels = empty({n}, {.dtype = DType::int64, .device = Device::cpu()});
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t label = raw_labels.data<std::uint8_t>()[i];
    check<FormatError>(label < options.classes, op, "'", labels_path, "': label ", label, " of record ", i,
                       " is outside [0, ", options.classes, ")");
    labels.data<std::int64_t>()[i] = label;
  }
  const Shape shape =
      options.flat ? Shape{n, raw.size(1) * raw.size(2)} : Shape{n, raw.size(1), raw.size(2), 1};
  if (options.dtype == DType::uint8 && !options.normalize) return {raw.alias(shape), labels, options.classes};

  Tensor images = empty(shape, {.dtype = options.dtype, .device = Device::cpu()});
  visit_floating(op, options.dtype, [&]<class T>(T) {
    std::array<T, 256> value;
    for (std::size_t x = 0; x < 256; ++x)
      value[x] = static_cast<T>(options.normalize ? (static_cast<double>(x) / 255 - .1307) / .3081
                                                  : static_cast<double>(x) / 255);
    const auto from = raw.span<std::uint8_t>();
    std::transform(from.begin(), from.end(), images.data<T>(), [&](std::uint8_t x) { return value[x]; });
  });
  return {images, labels, options.classes};
}

}  // namespace lpf
