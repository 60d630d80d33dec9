// Images in a folder with one subfolder per class:
//
//   train/cat/1.png
//   train/cat/more/2.JPEG
//   train/dog/a.bmp
//
// Classes are numbered in the order of their names, and images are ordered by their paths, whatever the order
// of the file system. Names that begin with a dot are left out, links to folders are followed. TinyImageNet is such a set; its validation images are in one folder with a list:
//
//   const ImageFolder train = image_folder("tiny-imagenet-200/train");
//   const ImageFolder test = image_folder("tiny-imagenet-200/val/images",
//       {.classes = train.classes, .list = "tiny-imagenet-200/val/val_annotations.txt"});
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/data/dataset.hpp"
#include "lpf/io/image.hpp"
#include "lpf/io/path.hpp"

namespace lpf {

struct ImageFolderOptions {
  std::int64_t height = 0, width = 0;  ///< size to which images are resized; 0: all must have one size
  int channels = 3;                    ///< 3: red, green, blue; 1: grey
  std::vector<std::string> classes{};  ///< names in order; empty: the subfolders, sorted
  /// A text file with one line per image: its name, a tab, its class, and
  /// optional further tab-separated fields.
  std::string list = "";
};

struct ImageFolder {
  TensorDataset data;  ///< uint8 [n, h, w, c] (for Augment), labels int64
  std::vector<std::string> classes;
  /// Number of pictures of each format that cannot be read and were left out, by ending: {".webp", 12}.
  std::map<std::string, std::int64_t> skipped = {};

  /// "12 .webp, 1 .gif"; empty if there are none.
  std::string skipped_text() const;
};

namespace detail {

using CountsByEnding = std::map<std::string, std::int64_t>;

inline std::string text_of(const CountsByEnding& counts) {
  std::string out;
  for (const auto& [ending, count] : counts) out += concat(out.empty() ? "" : ", ", count, " ", ending);
  return out;
}

/// Pictures with the names of their classes, and those of formats that cannot be read.
struct FoundPictures {
  std::vector<std::pair<std::string, std::string>> pictures;
  CountsByEnding skipped = {};
};

/// Adds the pictures of class `name` in a folder and the folders within; `above` are the real paths of the
/// folders that it is in, so that a link to one of them is not followed without end.
inline void find_in(const std::filesystem::path& folder, const std::string& name,
                    std::vector<std::filesystem::path>& above, FoundPictures& out) {
  namespace fs = std::filesystem;
  static const std::set<std::string> readable{".png", ".jpg", ".jpeg", ".bmp"},
      others{".webp", ".gif",  ".tif",  ".tiff", ".ppm", ".pgm",
             ".pnm",  ".heic", ".avif", ".jp2",  ".tga", ".jxl"};
  const fs::path real = fs::canonical(folder);
  if (std::find(above.begin(), above.end(), real) != above.end()) return;
  above.push_back(real);
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (text_of(entry.path().filename()).starts_with('.')) continue;
    std::error_code unknown;
    if (entry.is_directory(unknown)) {
      find_in(entry.path(), name, above, out);
      continue;
    }
    std::string ending = text_of(entry.path().extension());
    for (char& c : ending) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (readable.contains(ending)) out.pictures.emplace_back(text_of(entry.path()), name);
    if (others.contains(ending)) ++out.skipped[ending];
  }
  above.pop_back();
}

/// The images in order: of the list, or of the folders.
inline FoundPictures find_pictures(const std::string& folder, const std::string& list) {
  namespace fs = std::filesystem;
  constexpr const char* op = "image_folder";
  FoundPictures out;
  if (!list.empty()) {
    std::istringstream lines(read_file(list, op));
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
      if (line.ends_with('\r')) line.pop_back();
      if (line.empty()) continue;
      const auto tab = line.find('\t');
      const std::string name = line.substr(0, tab);
      check<FormatError>(tab != std::string::npos && tab > 0, op, "'", list, "', line ", number,
                         ": needs the name of a picture, a tab and its class");
      const auto end = line.find('\t', tab + 1);
      out.pictures.emplace_back(text_of(path_of(folder) / path_of(name)),
                                line.substr(tab + 1, end - tab - 1));
    }
    return out;
  }
  try {
    for (const auto& entry : fs::directory_iterator(path_of(folder))) {
      const std::string name = text_of(entry.path().filename());
      std::error_code unknown;
      if (name.starts_with('.') || !entry.is_directory(unknown)) continue;
      FoundPictures found;
      std::vector<fs::path> above;
      find_in(entry.path(), name, above, found);
      check<FormatError>(!found.pictures.empty(), op, "'", text_of(entry.path()),
                         "' is a class without a picture: it has no .png, .jpg, .jpeg or .bmp file",
                         found.skipped.empty() ? "" : ", and of those that cannot be read ",
                         text_of(found.skipped), found.skipped.empty() ? "" : ": convert them");
      out.pictures.insert(out.pictures.end(), found.pictures.begin(), found.pictures.end());
      for (const auto& [ending, count] : found.skipped) out.skipped[ending] += count;
    }
  } catch (const fs::filesystem_error& e) {
    fail<IOError>(op, "cannot read '", folder, "': ", e.code().message(),
                  ": give a folder that has one for each class");
  }
  std::sort(out.pictures.begin(), out.pictures.end(), [](const auto& a, const auto& b) {
    return std::tie(a.second, a.first) < std::tie(b.second, b.first);
  });
  return out;
}

}  // namespace detail

inline std::string ImageFolder::skipped_text() const { return detail::text_of(skipped); }

/// Reads all images (.png, .jpg, .jpeg, .bmp) into memory. Pictures of other formats are counted
/// (ImageFolder::skipped), all other files are ignored. Throws IOError if the
/// folder or a file cannot be read, FormatError for an image that is corrupt (naming it) or a class that is
/// unknown or empty, ShapeError if sizes differ and no size is given.
inline ImageFolder image_folder(const std::string& folder, ImageFolderOptions options = {}) {
  constexpr const char* op = "image_folder";
  check((options.height > 0) == (options.width > 0) && options.height >= 0 && options.width >= 0, op,
        "height and width must both be positive, or both 0, got ", options.height, " and ", options.width);
  auto [pictures, skipped] = detail::find_pictures(folder, options.list);
  check<FormatError>(!pictures.empty(), op, "'", folder, "' has no folders with pictures");
  std::vector<std::string>& classes = options.classes;
  if (classes.empty()) {
    for (const auto& [path, name] : pictures) classes.push_back(name);
    std::sort(classes.begin(), classes.end());
    classes.erase(std::unique(classes.begin(), classes.end()), classes.end());
  }
  std::map<std::string, std::int64_t> number;
  for (std::size_t i = 0; i < classes.size(); ++i) number.emplace(classes[i], static_cast<std::int64_t>(i));

  const auto n = static_cast<std::int64_t>(pictures.size());
  Tensor images, labels = empty({n}, {.dtype = DType::int64, .device = Device::cpu()});
  for (std::int64_t i = 0; i < n; ++i) {
    const auto& [path, name] = pictures[static_cast<std::size_t>(i)];
    const auto label = number.find(name);
    check<FormatError>(label != number.end(), op, "'", path, "' is of class '", name,
                       "', which is not among the ", classes.size(), " classes",
                       detail::suggest(name, classes));
    labels.data<std::int64_t>()[i] = label->second;
    Tensor image = load_image(path, options.channels);
    if (options.height > 0) image = resize(image, options.height, options.width);
    if (!images.defined())
      images = empty({n, image.size(0), image.size(1), image.size(2)},
                     {.dtype = DType::uint8, .device = Device::cpu()});
    check<ShapeError>(image.size(0) == images.size(1) && image.size(1) == images.size(2), op, "'", path,
                      "' has ", image.size(0), " x ", image.size(1), " pixels, the first picture ",
                      images.size(1), " x ", images.size(2), ": give .height and .width to resize all");
    std::copy_n(image.data<std::uint8_t>(), image.numel(), images.data<std::uint8_t>() + i * image.numel());
  }
  const auto count = static_cast<std::int64_t>(classes.size());
  return {TensorDataset(std::move(images), std::move(labels), count), std::move(classes), std::move(skipped)};
}

}  // namespace lpf
