// AutoAugment's image operations, on bytes, in place. The results are the same bytes as those of Pillow
// (PIL), which its authors used; tests/data/augment_test.cpp checks this. Where Pillow computes in float or
// double, so do these, rounding after each operation.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/host_device.hpp"

namespace lpf {

/// An image in memory owned by the caller: rows of pixels of 1 (grey) or 3 (red, green, blue) bytes.
struct ImageBytes {
  std::uint8_t* data = nullptr;
  std::int64_t height = 0, width = 0, channels = 3;
  std::int64_t size() const { return height * width * channels; }
  std::span<std::uint8_t> bytes() const { return {data, static_cast<std::size_t>(size())}; }
};

namespace image_ops {

/// Scratch memory of the operations, reused from one image to the next.
using Scratch = std::vector<std::uint8_t>;
using Table = std::array<std::uint8_t, 256>;

namespace detail {

inline void apply(const ImageBytes& image, const Table& table) {
  for (std::uint8_t& x : image.bytes()) x = table[x];
}
/// Applies one table per channel.
inline void apply(const ImageBytes& image, const std::array<Table, 3>& tables) {
  std::uint8_t* x = image.data;
  for (std::int64_t p = image.height * image.width; p > 0; --p)
    for (std::int64_t c = 0; c < image.channels; ++c, ++x) *x = tables[static_cast<std::size_t>(c)][*x];
}

using Histogram = std::array<int, 256>;
inline std::array<Histogram, 3> histograms(const ImageBytes& image) {
  std::array<Histogram, 3> count{};
  const std::uint8_t* x = image.data;
  for (std::int64_t p = image.height * image.width; p > 0; --p)
    for (std::int64_t c = 0; c < image.channels; ++c) ++count[static_cast<std::size_t>(c)][*x++];
  return count;
}

/// ITU-R 601 luminance, rounded.
inline std::uint8_t grey(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

/// from + factor (to - from), clipped and rounded towards zero. The product is rounded to float before the
/// addition; a compiler must not contract it.
inline std::uint8_t blend(int from, int to, float factor) {
  const auto step = static_cast<float>(static_cast<double>(factor) * (to - from));
  const float value = static_cast<float>(from) + step;
  return lpf::detail::saturated<std::uint8_t>(value);
}
/// blend(from, x, factor) for each x.
inline Table blend_table(int from, float factor) {
  Table table;
  for (int x = 0; x < 256; ++x) table[static_cast<std::size_t>(x)] = blend(from, x, factor);
  return table;
}

constexpr Table identity() {
  Table table{};
  for (std::size_t i = 0; i < 256; ++i) table[i] = static_cast<std::uint8_t>(i);
  return table;
}

/// A copy of the image before it is changed.
inline const std::uint8_t* copy(const ImageBytes& image, Scratch& scratch) {
  scratch.assign(image.data, image.data + image.size());
  return scratch.data();
}

/// Pixel (x, y) becomes that at (a0 x + a1 y + a2, a3 x + a4 y + a5), in coordinates of pixel centres, by the
/// nearest neighbour, in Pillow's fixed point of 16 bits; outside, `fill`.
inline void affine(const ImageBytes& image, const std::array<double, 6>& a, std::uint8_t fill,
                   Scratch& scratch) {
  const std::uint8_t* from = copy(image, scratch);
  const auto fixed = [](double v) { return static_cast<std::int64_t>(std::floor(v * 65536 + .5)); };
  const std::int64_t x_x = fixed(a[0]), x_y = fixed(a[1]), y_x = fixed(a[3]), y_y = fixed(a[4]);
  std::int64_t x_row = fixed(a[2] + a[0] * .5 + a[1] * .5), y_row = fixed(a[5] + a[3] * .5 + a[4] * .5);
  std::uint8_t* to = image.data;
  for (std::int64_t y = 0; y < image.height; ++y, x_row += x_y, y_row += y_y) {
    std::int64_t at_x = x_row, at_y = y_row;
    for (std::int64_t x = 0; x < image.width; ++x, at_x += x_x, at_y += y_x, to += image.channels) {
      const std::int64_t column = at_x >> 16, row = at_y >> 16;
      const bool inside = column >= 0 && column < image.width && row >= 0 && row < image.height;
      const std::uint8_t* pixel = from + (inside ? (row * image.width + column) * image.channels : 0);
      for (std::int64_t c = 0; c < image.channels; ++c) to[c] = inside ? pixel[c] : fill;
    }
  }
}

}  // namespace detail

/// Pixel (x, y) comes from (x + factor y, y), or from (x, y + factor x), in coordinates of pixel centres.
inline void shear_x(const ImageBytes& image, double factor, std::uint8_t fill, Scratch& scratch) {
  detail::affine(image, {1, factor, 0, 0, 1, 0}, fill, scratch);
}
inline void shear_y(const ImageBytes& image, double factor, std::uint8_t fill, Scratch& scratch) {
  detail::affine(image, {1, 0, 0, factor, 1, 0}, fill, scratch);
}
/// Moves the image by whole pixels to the right (down).
inline void translate_x(const ImageBytes& image, int pixels, std::uint8_t fill, Scratch& scratch) {
  detail::affine(image, {1, 0, -static_cast<double>(pixels), 0, 1, 0}, fill, scratch);
}
inline void translate_y(const ImageBytes& image, int pixels, std::uint8_t fill, Scratch& scratch) {
  detail::affine(image, {1, 0, 0, 0, 1, -static_cast<double>(pixels)}, fill, scratch);
}
/// Rotates the image about its centre, counter-clockwise.
inline void rotate(const ImageBytes& image, double degrees, std::uint8_t fill, Scratch& scratch) {
  const double angle = -degrees * std::numbers::pi / 180, c = std::cos(angle), s = std::sin(angle);
  const double x = static_cast<double>(image.width) / 2, y = static_cast<double>(image.height) / 2;
  detail::affine(image, {c, s, x - c * x - s * y, -s, c, y + s * x - c * y}, fill, scratch);
}

inline void invert(const ImageBytes& image) {
  for (std::uint8_t& x : image.bytes()) x = static_cast<std::uint8_t>(255 - x);
}
/// Inverts values that are at least the threshold.
inline void solarize(const ImageBytes& image, double threshold) {
  for (std::uint8_t& x : image.bytes())
    if (x >= threshold) x = static_cast<std::uint8_t>(255 - x);
}
/// Keeps the highest `bits` bits, 0 … 8.
inline void posterize(const ImageBytes& image, int bits) {
  const auto mask = static_cast<std::uint8_t>(0xFF << (8 - bits));
  for (std::uint8_t& x : image.bytes()) x &= mask;
}

/// Stretches each channel to 0 … 255.
inline void autocontrast(const ImageBytes& image) {
  const auto counts = detail::histograms(image);
  std::array<Table, 3> tables;
  for (std::size_t c = 0; c < static_cast<std::size_t>(image.channels); ++c) {
    const auto& count = counts[c];
    int low = 0, high = 255;
    while (low < 255 && count[static_cast<std::size_t>(low)] == 0) ++low;
    while (high > 0 && count[static_cast<std::size_t>(high)] == 0) --high;
    tables[c] = detail::identity();
    if (high <= low) continue;
    const double scale = 255.0 / (high - low), offset = -low * scale;
    for (int x = 0; x < 256; ++x) {
      // Rounded before the addition: a contracted product would put integers just below themselves.
      const volatile double product = x * scale;
      tables[c][static_cast<std::size_t>(x)] = lpf::detail::saturated<std::uint8_t>(product + offset);
    }
  }
  detail::apply(image, tables);
}

/// Equalises the histogram of each channel.
inline void equalize(const ImageBytes& image) {
  const auto counts = detail::histograms(image);
  std::array<Table, 3> tables;
  for (std::size_t c = 0; c < static_cast<std::size_t>(image.channels); ++c) {
    const auto& count = counts[c];
    tables[c] = detail::identity();
    int highest = 255;
    while (highest > 0 && count[static_cast<std::size_t>(highest)] == 0) --highest;
    const int below = static_cast<int>(image.height * image.width) - count[static_cast<std::size_t>(highest)];
    const int step = below / 255;
    if (step == 0) continue;
    int n = step / 2;
    for (std::size_t x = 0; x < 256; ++x) {
      tables[c][x] = static_cast<std::uint8_t>(std::min(n / step, 255));
      n += count[x];
    }
  }
  detail::apply(image, tables);
}

/// Brightness, contrast, colour and sharpness: factor 1 leaves the image unchanged, 0 makes it black,
/// uniformly its mean grey, grey, or smoothed; factors beyond 1 extrapolate.
inline void brightness(const ImageBytes& image, double factor) {
  detail::apply(image, detail::blend_table(0, static_cast<float>(factor)));
}
inline void contrast(const ImageBytes& image, double factor) {
  std::int64_t sum = 0;
  const std::int64_t pixels = image.height * image.width;
  for (std::int64_t p = 0; p < pixels; ++p)
    sum += image.channels == 3 ? detail::grey(image.data + 3 * p) : image.data[p];
  const int mean = static_cast<int>(static_cast<double>(sum) / static_cast<double>(pixels) + .5);
  detail::apply(image, detail::blend_table(mean, static_cast<float>(factor)));
}
inline void color(const ImageBytes& image, double factor) {
  if (image.channels != 3) return;  // grey stays grey
  const auto f = static_cast<float>(factor);
  for (std::uint8_t* x = image.data; x != image.data + image.size(); x += 3) {
    const int grey = detail::grey(x);
    for (int c = 0; c < 3; ++c) x[c] = detail::blend(grey, x[c], f);
  }
}
inline void sharpness(const ImageBytes& image, double factor, Scratch& scratch) {
  const auto f = static_cast<float>(factor);
  const std::uint8_t* from = detail::copy(image, scratch);
  const std::int64_t c = image.channels, row = image.width * c;
  for (std::int64_t y = 1; y < image.height - 1; ++y) {  // smoothing leaves the border as it is
    for (std::int64_t x = c; x < row - c; ++x) {
      const std::uint8_t* p = from + y * row + x;
      const int ring = p[-row - c] + p[-row] + p[-row + c] + p[-c] + p[c] + p[row - c] + p[row] + p[row + c];
      const int smooth = (2 * (ring + 5 * p[0]) + 13) / 26;  // (ring + 5 p) / 13, rounded
      image.data[y * row + x] = detail::blend(smooth, p[0], f);
    }
  }
}

}  // namespace image_ops
}  // namespace lpf
