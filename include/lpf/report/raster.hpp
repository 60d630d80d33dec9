// A function on a grid as an image: a map with contours, and a shaded surface in perspective. Images are
// uint8 [height, width, 3], for save_png (io/image.hpp).
//
//   save_png("map.png", plot::contour_map({51, 51, heights}));
//   save_png("surface.png", plot::shaded_surface({51, 51, heights}));
//
// The colour map runs from dark blue (low) over green to yellow (high), with uniform lightness steps,
// distinguishable for colour-blind readers (viridis: Smith & van der Walt 2015).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "lpf/core/host_device.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf::plot {

/// Heights at rows × columns points, row by row; row 0 is the lowest y.
struct HeightField {
  std::size_t rows, columns;
  std::vector<double> height;

  /// Bilinear interpolation at (x, y) in [0, 1]².
  double at(double x, double y) const {
    const auto place = [](double t, std::size_t n) {
      const double p = std::clamp(t, 0.0, 1.0) * static_cast<double>(n - 1);
      const std::size_t i = std::min(lpf::detail::saturated<std::size_t>(p), n - 2);
      return std::pair{i, p - static_cast<double>(i)};
    };
    const auto [i, s] = place(x, columns);
    const auto [j, t] = place(y, rows);
    const double* h = height.data() + j * columns + i;
    return (1 - t) * ((1 - s) * h[0] + s * h[1]) + t * ((1 - s) * h[columns] + s * h[columns + 1]);
  }
};

struct RasterOptions {
  std::int64_t width = 800, height = 800;  ///< of the image, in pixels
  int contours = 12;                       ///< levels between the lowest and the highest point
  double turn = 0.6, tilt = 0.9;  ///< of the surface, in radians: about its axis, and towards the viewer
};

using Rgb = std::array<double, 3>;

namespace detail {

inline Rgb viridis(double t) {
  constexpr Rgb stops[] = {{68, 1, 84},    {71, 44, 122}, {59, 81, 139},  {44, 113, 142}, {33, 144, 141},
                           {39, 173, 129}, {92, 200, 99}, {170, 220, 50}, {253, 231, 37}};
  const double p = std::clamp(t, 0.0, 1.0) * 8;
  const std::size_t i = std::min<std::size_t>(lpf::detail::saturated<std::size_t>(p), 7);
  Rgb out;
  for (std::size_t c = 0; c < 3; ++c)
    out[c] = stops[i][c] + (p - static_cast<double>(i)) * (stops[i + 1][c] - stops[i][c]);
  return out;
}

/// Heights scaled to [0, 1]. Throws ShapeError, ValueError.
inline HeightField normalized(const HeightField& field, const RasterOptions& o) {
  check<ShapeError>(
      field.rows >= 2 && field.columns >= 2 && field.height.size() == field.rows * field.columns, "plot",
      "a grid of ", field.rows, " x ", field.columns, " needs two points each way and ",
      field.rows * field.columns, " heights, got ", field.height.size());
  check(o.width >= 16 && o.height >= 16 && o.width <= 8192 && o.height <= 8192, "plot",
        "a picture has 16 … 8192 pixels a side, got ", o.width, " x ", o.height);
  double low = field.height[0], high = low;
  for (const double h : field.height) {
    check(std::isfinite(h), "plot", "heights must be finite, got ", h);
    low = std::min(low, h), high = std::max(high, h);
  }
  HeightField out = field;
  for (double& h : out.height) h = high > low ? (h - low) / (high - low) : 0.5;
  return out;
}

/// An image with a depth buffer.
class Raster {
 public:
  Raster(std::int64_t width, std::int64_t height, const Rgb& background)
      : width_(width),
        height_(height),
        image_(empty({height, width, 3}, {.dtype = uint8})),
        depth_(static_cast<std::size_t>(width * height), -std::numeric_limits<double>::infinity()) {
    for (std::int64_t y = 0; y < height; ++y)
      for (std::int64_t x = 0; x < width; ++x) put(x, y, background);
  }
  void put(std::int64_t x, std::int64_t y, const Rgb& color) {
    for (std::size_t c = 0; c < 3; ++c)
      image_.data<std::uint8_t>()[(y * width_ + x) * 3 + static_cast<std::int64_t>(c)] =
          static_cast<std::uint8_t>(std::clamp(std::lround(color[c]), 0L, 255L));
  }

  struct Vertex {
    double x, y, depth;  // in pixels; greater depth is nearer
    double value;        // mapped to colour
  };
  /// Fills a triangle with color(value), with a depth test.
  template <class F>
  void triangle(const Vertex& a, const Vertex& b, const Vertex& c, F color) {
    const double area = (b.x - a.x) * (c.y - a.y) - (c.x - a.x) * (b.y - a.y);
    if (std::abs(area) < 1e-12) return;
    const auto from = [](double v) { return std::max<std::int64_t>(0, std::llround(std::floor(v))); };
    const auto to = [](double v, std::int64_t n) {
      return std::min<std::int64_t>(n - 1, std::llround(std::ceil(v)));
    };
    const std::int64_t bottom = to(std::max({a.y, b.y, c.y}), height_),
                       right = to(std::max({a.x, b.x, c.x}), width_);
    for (std::int64_t y = from(std::min({a.y, b.y, c.y})); y <= bottom; ++y)
      for (std::int64_t x = from(std::min({a.x, b.x, c.x})); x <= right; ++x) {
        const double px = static_cast<double>(x), py = static_cast<double>(y);
        const double s = ((px - a.x) * (c.y - a.y) - (c.x - a.x) * (py - a.y)) / area,
                     t = ((b.x - a.x) * (py - a.y) - (px - a.x) * (b.y - a.y)) / area;
        if (s < -1e-9 || t < -1e-9 || s + t > 1 + 1e-9) continue;
        const double z = a.depth + s * (b.depth - a.depth) + t * (c.depth - a.depth);
        double& seen = depth_[static_cast<std::size_t>(y * width_ + x)];
        if (z <= seen) continue;
        seen = z;
        put(x, y, color(a.value + s * (b.value - a.value) + t * (c.value - a.value)));
      }
  }
  Tensor image() const { return image_; }

 private:
  std::int64_t width_, height_;
  Tensor image_;
  std::vector<double> depth_;
};

inline Rgb shaded(Rgb color, double light) {
  for (double& c : color) c *= light;
  return color;
}

}  // namespace detail

/// View from above: colour is height, with dark contour lines at equal steps; y points upwards.
inline Tensor contour_map(const HeightField& field, const RasterOptions& options = {}) {
  const HeightField h = detail::normalized(field, options);
  detail::Raster raster(options.width, options.height, {255, 255, 255});
  const auto at = [&](std::int64_t x, std::int64_t y) {
    return h.at(static_cast<double>(x) / static_cast<double>(options.width - 1),
                1 - static_cast<double>(y) / static_cast<double>(options.height - 1));
  };
  const auto band = [&](double v) { return std::floor(v * (options.contours + 1)); };
  for (std::int64_t y = 0; y < options.height; ++y)
    for (std::int64_t x = 0; x < options.width; ++x) {
      const double v = at(x, y);
      const bool line = band(v) != band(at(x + 1, y)) || band(v) != band(at(x, y + 1));
      raster.put(x, y, detail::shaded(detail::viridis(v), line ? 0.35 : 1));
    }
  return raster.image();
}

/// The surface rotated and tilted, lit from the upper left, with contours.
inline Tensor shaded_surface(const HeightField& field, const RasterOptions& options = {}) {
  const HeightField h = detail::normalized(field, options);
  detail::Raster raster(options.width, options.height, {255, 255, 255});
  const double scale = 0.62 * static_cast<double>(std::min(options.width, options.height));
  using Vertex = detail::Raster::Vertex;
  const auto project = [&](double x, double y, double z) {
    const double u = std::cos(options.turn) * (x - .5) - std::sin(options.turn) * (y - .5),
                 v = std::sin(options.turn) * (x - .5) + std::cos(options.turn) * (y - .5),
                 w = 0.7 * (z - .5);
    const double up = v * std::cos(options.tilt) + w * std::sin(options.tilt),
                 depth = w * std::cos(options.tilt) - v * std::sin(options.tilt);
    const double perspective = 3 / (3 - depth);
    return Vertex{static_cast<double>(options.width) / 2 + scale * perspective * u,
                  static_cast<double>(options.height) / 2 - scale * perspective * up, depth, z};
  };
  constexpr std::size_t fine = 200;  // squares per side
  const double step = 1.0 / fine;
  for (std::size_t j = 0; j < fine; ++j)
    for (std::size_t i = 0; i < fine; ++i) {
      const double x = static_cast<double>(i) * step, y = static_cast<double>(j) * step;
      const double z[] = {h.at(x, y), h.at(x + step, y), h.at(x, y + step), h.at(x + step, y + step)};
      // normal (−∂z/∂x, −∂z/∂y, 1) · light from (−1, 1, 2)
      const double dx = 0.35 * (z[1] + z[3] - z[0] - z[2]) / step,
                   dy = 0.35 * (z[2] + z[3] - z[0] - z[1]) / step;
      const double light =
          0.45 + 0.55 * std::max(0.0, (dx - dy + 2) / std::sqrt(6 * (dx * dx + dy * dy + 1)));
      const auto color = [&](double v) {
        const double place = v * (options.contours + 1), near = std::abs(place - std::round(place));
        const bool line = near < 0.06 && std::round(place) > 0 && std::round(place) <= options.contours;
        return detail::shaded(detail::viridis(v), light * (line ? 0.55 : 1));
      };
      const Vertex a = project(x, y, z[0]), b = project(x + step, y, z[1]), c = project(x, y + step, z[2]),
                   d = project(x + step, y + step, z[3]);
      raster.triangle(a, b, c, color);
      raster.triangle(b, d, c, color);
    }
  return raster.image();
}

}  // namespace lpf::plot
