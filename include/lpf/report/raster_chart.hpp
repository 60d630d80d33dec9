// A scatter chart as pixels, for save_png (io/image.hpp): what svg_lines.hpp draws for a page, for
// places that take pictures only.
//
//   save_png("scatter.png", plot::scatter_picture({{.name = "models", .x = x, .y = y}}, {.title = "LPF and
//   the gap"}));
//
// Letters are capitals of 3 × 5 dots; characters other than A–Z, 0–9 and common punctuation are left blank.
#pragma once

#include "lpf/report/raster.hpp"
#include "lpf/report/svg_lines.hpp"

namespace lpf::plot {

namespace detail {

/// The rows of a character, an octal digit each: bit 4 is the left dot. 0: blank.
inline unsigned glyph(char c) {
  constexpr unsigned digits[] = {075557, 026227, 071747, 071717, 055711,
                                 074717, 074757, 071222, 075757, 075717};
  constexpr unsigned letters[] = {025755, 065656, 034443, 065556, 074647, 074644, 034553, 055755, 072227,
                                  011152, 055655, 044447, 057755, 065555, 025552, 065644, 025573, 065655,
                                  034216, 072222, 055557, 055552, 055775, 055255, 055222, 071247};
  if (c >= '0' && c <= '9') return digits[c - '0'];
  if (c >= 'a' && c <= 'z') return letters[c - 'a'];
  if (c >= 'A' && c <= 'Z') return letters[c - 'A'];
  switch (c) {
    case '.': return 000002;
    case ',': return 000024;
    case '-': return 000700;
    case '+': return 002720;
    case '=': return 007070;
    case '/': return 011244;
    case '%': return 051245;
    case '(': return 024442;
    case ')': return 021112;
    case ':': return 002020;
    case '_': return 000007;
    default: return 0;
  }
}

inline Rgb rgb_of(std::string_view hex) {
  const auto part = [&](std::size_t at) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    return static_cast<double>(16 * digit(hex[at]) + digit(hex[at + 1]));
  };
  return {part(1), part(3), part(5)};
}

/// Pixels that are drawn on; what lies outside is cut.
class Pixels {
 public:
  Pixels(std::int64_t width, std::int64_t height)
      : width_(width), height_(height), raster_(width, height, rgb_of(paper.light)) {}

  void fill(std::int64_t x, std::int64_t y, std::int64_t w, std::int64_t h, const Rgb& color) {
    for (std::int64_t j = std::max<std::int64_t>(0, y); j < std::min(y + h, height_); ++j)
      for (std::int64_t i = std::max<std::int64_t>(0, x); i < std::min(x + w, width_); ++i)
        raster_.put(i, j, color);
  }
  void disc(double x, double y, double radius, const Rgb& color) {
    for (std::int64_t j = std::llround(y - radius); j <= std::llround(y + radius); ++j)
      for (std::int64_t i = std::llround(x - radius); i <= std::llround(x + radius); ++i)
        if (std::hypot(static_cast<double>(i) - x, static_cast<double>(j) - y) <= radius)
          fill(i, j, 1, 1, color);
  }
  /// Text whose upper left corner is (x, y); `share` of its width lies left of x.
  void text(std::int64_t x, std::int64_t y, std::string_view words, std::int64_t scale, const Rgb& color,
            double share = 0) {
    x -= std::llround(share * static_cast<double>(text_pixels(words, scale)));
    for (const char c : words) {
      const unsigned rows = glyph(c);
      for (int row = 0; row < 5; ++row)
        for (int column = 0; column < 3; ++column)
          if (rows >> (3 * (4 - row) + 2 - column) & 1u)
            fill(x + column * scale, y + row * scale, scale, scale, color);
      x += 4 * scale;
    }
  }
  static std::int64_t text_pixels(std::string_view words, std::int64_t scale) {
    return words.empty() ? 0 : (4 * static_cast<std::int64_t>(words.size()) - 1) * scale;
  }
  Tensor image() const { return raster_.image(); }

 private:
  std::int64_t width_, height_;
  Raster raster_;
};

}  // namespace detail

/// A dot a point, uint8 [height, width, 3]; points that an axis cannot show are left out. Throws ShapeError,
/// and ValueError for sizes outside 200 … 8192.
inline Tensor scatter_picture(std::span<const Series> series, const ChartOptions& options = {}) {
  check(options.width >= 200 && options.height >= 200 && options.width <= 8192 && options.height <= 8192,
        "plot", "a picture has 200 … 8192 pixels a side, got ", options.width, " x ", options.height);
  detail::Extent x_data{.scale = options.x.scale}, y_data{.scale = options.y.scale};
  const auto shown = [&](const Series& s, std::size_t i) {
    return detail::usable(s.x[i], options.x.scale) && detail::usable(s.y[i], options.y.scale);
  };
  for (const Series& s : series) {
    check<ShapeError>(s.x.size() == s.y.size(), "plot", "series '", s.name, "' has ", s.x.size(), " x and ",
                      s.y.size(), " y");
    for (std::size_t i = 0; i < s.x.size(); ++i)
      if (shown(s, i)) x_data.add(s.x[i]), y_data.add(s.y[i]);
  }
  const detail::Axis x(x_data, options.x, static_cast<int>(options.width / 90), .04),
      y(y_data, options.y, static_cast<int>(options.height / 60), .05);
  constexpr std::int64_t left = 90, right = 20, top = 60, bottom = 60;
  const auto width = std::llround(options.width), height = std::llround(options.height);
  const auto at_x = [&](double v) { return left + x.at(v) * static_cast<double>(width - left - right); };
  const auto at_y = [&](double v) {
    return static_cast<double>(height - bottom) - y.at(v) * static_cast<double>(height - top - bottom);
  };
  const Rgb ink = detail::rgb_of(detail::ink.light), soft = detail::rgb_of(detail::soft.light),
            rule = detail::rgb_of(detail::rule.light);
  detail::Pixels out(width, height);
  for (const auto& [value, label] : y.ticks) {
    const std::int64_t at = std::llround(at_y(value));
    out.fill(left, at, width - left - right, 1, rule);
    out.text(left - 8, at - 5, format_general(value, 3), 2, soft, 1);
  }
  for (const auto& [value, label] : x.ticks) {
    const std::int64_t at = std::llround(at_x(value));
    out.fill(at, height - bottom, 1, 6, soft);
    out.text(at, height - bottom + 10, format_general(value, 3), 2, soft, .5);
  }
  out.fill(left, height - bottom, width - left - right, 1, soft);
  out.text((left + width - right) / 2, height - 22, options.x.title, 2, ink, .5);
  out.text(left, top - 18, options.y.title, 2, ink);
  out.text(left, 12, options.title, 3, ink);
  std::int64_t legend = width - right;
  for (std::size_t k = series.size(); k-- > 0;) {
    const Rgb color = detail::rgb_of(detail::palette[k % detail::palette_size].light);
    for (std::size_t i = 0; i < series[k].x.size(); ++i)
      if (shown(series[k], i)) out.disc(at_x(series[k].x[i]), at_y(series[k].y[i]), 3.5, color);
    if (series[k].name.empty()) continue;
    out.text(legend, top - 18, series[k].name, 2, ink, 1);
    legend -= detail::Pixels::text_pixels(series[k].name, 2) + 8;
    out.disc(static_cast<double>(legend), top - 13, 3.5, color);
    legend -= 16;
  }
  return out.image();
}
inline Tensor scatter_picture(std::initializer_list<Series> series, const ChartOptions& options = {}) {
  return scatter_picture(std::span(series.begin(), series.size()), options);
}

}  // namespace lpf::plot
