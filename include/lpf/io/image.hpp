// Image files: reading PNG, JPEG and BMP, resizing, writing PNG. Needs stb_image and stb_image_write (on
// Debian: libstb-dev), which CMake's target lpf::io provides where they are installed (LPF_HAS_STB).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/io/atomic_file.hpp"
#include "lpf/io/file.hpp"
#include "lpf/tensor/tensor.hpp"

#ifdef LPF_HAS_STB
#  ifndef STBI_INCLUDE_STB_IMAGE_H  // a program that includes it itself also compiles its code
#    define STB_IMAGE_STATIC
#    define STB_IMAGE_IMPLEMENTATION
#    define STBI_ONLY_PNG
#    define STBI_ONLY_JPEG
#    define STBI_ONLY_BMP
#    define STBI_NO_STDIO
#    include <stb_image.h>
#  endif
#  ifndef INCLUDE_STB_IMAGE_WRITE_H
#    define STB_IMAGE_WRITE_STATIC
#    define STB_IMAGE_WRITE_IMPLEMENTATION
#    define STBI_WRITE_NO_STDIO
#    include <stb_image_write.h>
#  endif
#endif

namespace lpf {

#ifdef LPF_HAS_STB

/// Decodes a PNG, JPEG or BMP file to uint8 [height, width, channels]: 3 channels (red, green, blue) or 1
/// (grey), whatever the file has; transparency is dropped. Errors name `path`. Throws FormatError if it is
/// none of these, truncated, corrupt, or has a side of more than 16384 pixels.
inline Tensor parse_image(std::string_view bytes, int channels = 3, const std::string& path = "memory") {
  constexpr const char* op = "load_image";
  constexpr int longest = 1 << 14;
  check(channels == 1 || channels == 3, op, "gives 1 or 3 channels, asked for ", channels);
  check<FormatError>(bytes.size() < std::size_t{1} << 30, op, "'", path, "' has ", bytes.size(),
                     " bytes, a picture has less than 1 GiB");
  const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
  const int size = static_cast<int>(bytes.size());
  int width = 0, height = 0, in_file = 0;
  const auto reason = [] { return stbi_failure_reason() ? stbi_failure_reason() : "unknown"; };
  check<FormatError>(stbi_info_from_memory(data, size, &width, &height, &in_file) != 0, op, "'", path,
                     "' is not a PNG, JPEG or BMP picture, or corrupt: ", reason());
  check<FormatError>(width > 0 && height > 0 && width <= longest && height <= longest, op, "'", path,
                     "' has ", height, " x ", width, " pixels, a side may have 1 … ", longest);
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(data, size, &width, &height, &in_file, channels), stbi_image_free);
  check<FormatError>(pixels != nullptr, op, "'", path, "' is truncated or corrupt: ", reason());
  const Shape shape{height, width, channels};
  return from_span(std::span<const std::uint8_t>(pixels.get(), static_cast<std::size_t>(shape.numel())),
                   shape, Device::cpu());
}

/// Writes uint8 [height, width, 1 or 3] as PNG, atomically. Throws ShapeError, DTypeError, IOError.
inline void save_png(const std::string& path, const Tensor& image) {
  constexpr const char* op = "save_png";
  check<DTypeError>(image.dtype() == DType::uint8, op, "needs uint8, got ", name_of(image.dtype()));
  check<ShapeError>(image.rank() == 3 && (image.size(2) == 1 || image.size(2) == 3) && image.numel() > 0 &&
                        image.size(0) < 1 << 20 && image.size(1) < 1 << 20,
                    op, "needs a picture [height, width, 1 or 3], got ", image.shape());
  AtomicFile file(path, op);
  const int width = static_cast<int>(image.size(1)), channels = static_cast<int>(image.size(2));
  std::string bytes;
  const auto append = [](void* to, void* data, int size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  const int written = stbi_write_png_to_func(append, &bytes, width, static_cast<int>(image.size(0)), channels,
                                             image.data<std::uint8_t>(), width * channels);
  check<IOError>(written != 0, op, "cannot write '", path, "': out of memory");
  file.write(bytes);
  file.commit();
}

/// Throws IOError if this program cannot write PNG files, for programs that compute for long first.
inline void check_can_save_png(const std::string&) {}

#else

namespace detail {
[[noreturn]] inline void no_stb(const char* op, const std::string& path) {
  fail<IOError>(op, "'", path,
                "': this program is built without stb_image: install it (on Debian: libstb-dev) "
                "and link lpf::io, or define LPF_HAS_STB=1 and add its folder to the include path");
}
}  // namespace detail
inline Tensor parse_image(std::string_view, int = 3, const std::string& path = "memory") {
  detail::no_stb("load_image", path);
}
inline void save_png(const std::string& path, const Tensor&) { detail::no_stb("save_png", path); }
inline void check_can_save_png(const std::string& path) { detail::no_stb("save_png", path); }

#endif

/// Decodes a PNG, JPEG or BMP file, as parse_image. Throws IOError if it cannot be read.
inline Tensor load_image(const std::string& path, int channels = 3) {
  return parse_image(detail::read_file(path, "load_image"), channels, path);
}

namespace detail {

/// The input pixels that contribute to an output pixel, and their weights in units of 2^-22.
struct ResizeWeights {
  std::int64_t first = 0;
  std::vector<std::int32_t> weight;
};

/// Triangle filter, two input pixels wide, or two output pixels where those are larger.
inline std::vector<ResizeWeights> resize_weights(std::int64_t from, std::int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), support = std::max(scale, 1.0);
  std::vector<ResizeWeights> out;
  for (std::int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + .5) * scale;
    ResizeWeights r{std::max<std::int64_t>(static_cast<std::int64_t>(centre - support + .5), 0), {}};
    const std::int64_t last = std::min(static_cast<std::int64_t>(centre + support + .5), from);
    std::vector<double> w;
    double sum = 0;
    for (std::int64_t x = r.first; x < last; ++x) {
      w.push_back(std::max(0.0, 1 - std::abs((static_cast<double>(x) - centre + .5) * (1 / support))));
      sum += w.back();
    }
    for (const double v : w) r.weight.push_back(static_cast<std::int32_t>(v / sum * (1 << 22) + .5));
    out.push_back(std::move(r));
  }
  return out;
}

/// Resizes the middle axis of bytes [outer, from, inner].
inline void resize_axis(const std::uint8_t* x, std::uint8_t* y, std::int64_t outer, std::int64_t from,
                        std::int64_t to, std::int64_t inner) {
  const auto weights = resize_weights(from, to);
  for (std::int64_t o = 0; o < outer; ++o, x += from * inner)
    for (const ResizeWeights& r : weights)
      for (std::int64_t k = 0; k < inner; ++k) {
        std::int64_t sum = 1 << 21;
        const std::uint8_t* pixel = x + r.first * inner + k;
        for (const std::int32_t w : r.weight) {
          sum += std::int64_t{w} * *pixel;
          pixel += inner;
        }
        *y++ = static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> 22, 0, 255));
      }
}

}  // namespace detail

/// Resizes an image, uint8 [h, w, c]: bilinear, antialiased where it becomes smaller, byte-identical to
/// Pillow's resize(…, BILINEAR). Throws ShapeError, DTypeError, ValueError.
inline Tensor resize(const Tensor& image, std::int64_t height, std::int64_t width) {
  constexpr const char* op = "resize";
  check<DTypeError>(image.dtype() == DType::uint8, op, "needs uint8, got ", name_of(image.dtype()));
  check<ShapeError>(image.rank() == 3 && image.numel() > 0, op, "needs a picture [h, w, c], got ",
                    image.shape());
  check(height >= 1 && width >= 1, op, "needs a size of at least 1 x 1, got ", height, " x ", width);
  const std::int64_t h = image.size(0), w = image.size(1), c = image.size(2);
  Tensor wide = image;
  if (width != w) {
    wide = empty({h, width, c}, {.dtype = DType::uint8, .device = Device::cpu()});
    detail::resize_axis(image.data<std::uint8_t>(), wide.data<std::uint8_t>(), h, w, width, c);
  }
  if (height == h) return wide;
  Tensor out = empty({height, width, c}, {.dtype = DType::uint8, .device = Device::cpu()});
  detail::resize_axis(wide.data<std::uint8_t>(), out.data<std::uint8_t>(), 1, h, height, width * c);
  return out;
}

}  // namespace lpf
