// Charts of y over x: lines with bands, scatter.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/host_device.hpp"
#include "lpf/report/svg_axis.hpp"
#include "lpf/report/svg_canvas.hpp"
#include "lpf/report/svg_labels.hpp"
#include "lpf/report/table.hpp"

namespace lpf::plot {

/// A curve or a set of points. Points that are NaN, infinite, or not positive on a log axis are gaps.
struct Series {
  std::string name = {};
  std::vector<double> x = {};
  std::vector<double> y = {};     ///< as many as x
  std::vector<double> low = {};   ///< lower end of the band or error bar: empty, or as many as y
  std::vector<double> high = {};  ///< upper end
  int color =
      -1;  ///< index in the palette, and beyond it its colours with dashes; -1: the series' index in the chart
};

/// Mean ± sample standard deviation over runs, as a curve with its band: runs[r][i] belongs to x[i].
inline Series mean_band(std::string name, std::vector<double> x, std::span<const std::vector<double>> runs) {
  Series series{.name = std::move(name), .x = std::move(x)};
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    std::vector<double> values;
    for (const auto& run : runs) {
      check<ShapeError>(run.size() == series.x.size(), "mean_band", "a run has ", run.size(),
                        " values, x has ", series.x.size());
      values.push_back(run[i]);
    }
    const MeanSd at = mean_sd(values);
    series.y.push_back(at.mean);
    series.low.push_back(at.mean - at.sd);
    series.high.push_back(at.mean + at.sd);
  }
  return series;
}

namespace detail {

/// Keeps the first, lowest, highest and last of the points in one pixel column: the same picture, with a size
/// that does not grow with the points.
inline Run thinned(const Run& run) {
  Run out;
  for (std::size_t i = 0, next = 0; i < run.size(); i = next) {
    std::size_t low = i, high = i;
    for (next = i; next < run.size() && std::floor(run[next].x) == std::floor(run[i].x); ++next) {
      if (run[next].y < run[low].y) low = next;
      if (run[next].y > run[high].y) high = next;
    }
    std::size_t keep[] = {i, std::min(low, high), std::max(low, high), next - 1};
    const auto end = std::unique(std::begin(keep), std::end(keep));
    for (auto k = std::begin(keep); k != end; ++k) out.push_back(run[*k]);
  }
  return out;
}

inline std::string path(const Run& run, bool back = false, char first = 'M') {
  std::string out;
  for (std::size_t i = 0; i < run.size(); ++i) {
    const Point& p = run[back ? run.size() - 1 - i : i];
    out += concat(i ? 'L' : first, px(p.x), " ", px(p.y));
  }
  return out;
}

class XYChart {
 public:
  XYChart(std::span<const Series> all, const ChartOptions& options, Mark mark)
      : all_(all),
        options_(options),
        lines_(mark == Mark::line),
        legend_(legend_of(all)),
        x_(extent(false), options.x, lpf::detail::saturated<int>(options.width / 90), lines_ ? 0 : .04),
        y_(extent(true), y_options(), lpf::detail::saturated<int>(options.height / 60), .05),
        canvas_(options, legend_, mark, y_) {}

  Svg draw() {
    canvas_.draw_frame();
    draw_x_axis();
    canvas_.open_clip(lines_ ? 1.5 : 6);
    for (std::size_t k = 0; k < all_.size() && lines_; ++k) draw_band(all_[k], legend_[k].color);
    for (std::size_t k = 0; k < all_.size() && lines_; ++k) draw_line(all_[k], legend_[k].color, dashes(k));
    for (std::size_t k = 0; k < all_.size(); ++k) draw_dots(all_[k], legend_[k].color);
    canvas_.close_clip();
    if (lines_) name_coinciding();
    if (start_ > y_.high) name_start();
    return canvas_.finish();
  }

 private:
  /// Limits of the y axis: with fit_end, those of the last two thirds of the x axis where the first reaches far above.
  AxisOptions y_options() {
    AxisOptions out = options_.y;
    if (!out.fit_end || !lines_ || out.scale == Scale::log || !std::isnan(out.max)) return out;
    const Extent x = extent(false);
    double end = 0;
    for (const Series& s : all_)
      for (std::size_t i = 0; i < s.x.size(); ++i) {
        if (!good(s, i)) continue;
        const double high = s.high.empty() || !std::isfinite(s.high[i]) ? s.y[i] : s.high[i];
        start_ = std::max(start_, s.y[i]);
        if (s.x[i] >= x.low + (x.high - x.low) / 3) end = std::max(end, high);
      }
    if (end > 0 && start_ > 2.5 * end) out.max = 1.35 * end;
    return out;
  }
  void name_start() {
    canvas_.open("soft", soft, "font-size=\"11.5\" text-anchor=\"end\"");
    canvas_.text(canvas_.right, canvas_.top + 12,
                 concat("↑ above the picture: the start, up to ", with_minus(format_general(start_, 3))), "");
    canvas_.close();
  }

  /// The lines that coincide with line k, itself among them: at nine of ten points less than their width apart.
  std::vector<std::size_t> coinciding(std::size_t k) const {
    const auto coincide = [this](const Series& a, const Series& b) {
      if (a.x != b.x || a.name.empty() || b.name.empty()) return false;
      std::size_t points = 0, near = 0;
      for (std::size_t i = 0; i < a.x.size(); ++i) {
        if (!good(a, i) || !good(b, i)) continue;
        ++points;
        near += std::abs(canvas_.y(a.y[i]) - canvas_.y(b.y[i])) < 2 ? 1u : 0u;
      }
      return points > 1 && 10 * near >= 9 * points;
    };
    std::vector<std::size_t> out;
    for (std::size_t j = 0; j < all_.size(); ++j)
      if (j == k || coincide(all_[j], all_[k])) out.push_back(j);
    return out;
  }
  /// Solid lines that coincide take turns; dashed ones lie over them.
  std::string dashes(std::size_t k) const {
    std::vector<std::size_t> together = coinciding(k);
    std::erase_if(together, [this](std::size_t j) { return legend_[j].color >= palette_size; });
    if (together.size() < 2 || legend_[k].color >= palette_size)
      return Canvas::dash_attribute(legend_[k].color);
    const auto rank = static_cast<double>(std::find(together.begin(), together.end(), k) - together.begin());
    const auto n = static_cast<double>(together.size());
    return concat(" stroke-dasharray=\"9 ", px(9 * (n - 1)), "\" stroke-dashoffset=\"", px(-9 * rank), "\"");
  }
  /// The points of a series in the picture, a few pixels apart.
  Run points(const Series& s) const {
    Run out;
    for (std::size_t i = 0; i < s.x.size(); ++i)
      if (good(s, i)) out.push_back(at(s.x[i], s.y[i]));
    return densified(out, 5);
  }
  /// The names of lines that coincide, beside them.
  void name_coinciding() {
    std::vector<Run> all;
    std::vector<Label> placed;
    for (std::size_t k = 0; k < all_.size(); ++k) {
      const std::vector<std::size_t> together = coinciding(k);
      if (together.size() == 1 || together.front() != k) continue;
      if (all.empty())
        for (const Series& s : all_) all.push_back(points(s));
      std::vector<std::string> names;
      for (const std::size_t j : together) names.push_back(all_[j].name);
      Label label = equal_names(names, .45 * (canvas_.right - canvas_.left));
      place_label(label, all[k], all, placed, canvas_);
      placed.push_back(label);
    }
    canvas_.open("ink", ink,
                 concat("font-size=\"", Label::size,
                        "\" style=\"paint-order:stroke;stroke:var(--lpf-paper);stroke-width:3px\""));
    for (const Label& label : placed)
      for (std::size_t i = 0; i < label.lines.size(); ++i)
        canvas_.text(label.left, label.top + Label::line_height * static_cast<double>(i) + 10.5,
                     label.lines[i], "");
    canvas_.close();
  }

  Extent extent(bool vertical) const {
    Extent out{.scale = vertical ? options_.y.scale : options_.x.scale};
    for (const Series& s : all_) {
      check_sizes(s);
      for (std::size_t i = 0; i < s.x.size(); ++i) {
        if (!vertical && good(s, i)) out.add(s.x[i]);
        if (!vertical || !usable(s.x[i], options_.x.scale)) continue;
        out.add(s.y[i]);
        if (!s.low.empty()) out.add(low_end(s, i)), out.add(s.high[i]);
      }
    }
    return out;
  }
  static void check_sizes(const Series& s) {
    const auto fits = [&](const std::vector<double>& v) { return v.empty() || v.size() == s.x.size(); };
    check<ShapeError>(
        s.y.size() == s.x.size() && fits(s.low) && fits(s.high) && s.low.size() == s.high.size(), "plot",
        "series '", s.name, "' has ", s.x.size(), " x, ", s.y.size(), " y, ", s.low.size(), " low and ",
        s.high.size(), " high values: give each as many (low and high may be empty)");
  }
  double low_end(const Series& s, std::size_t i) const {
    return lower_end(s.y[i], s.low[i], s.high[i], options_.y.scale);
  }
  bool good(const Series& s, std::size_t i) const {
    return usable(s.x[i], options_.x.scale) && usable(s.y[i], options_.y.scale);
  }
  Point at(double x, double y) const {
    return {canvas_.left + (canvas_.right - canvas_.left) * x_.at(x), canvas_.y(y)};
  }

  void draw_x_axis() {
    canvas_.open("soft", soft, "font-size=\"12\" text-anchor=\"middle\"");
    for (const auto& [value, label] : x_.ticks) {
      const double x = at(value, 1).x;
      canvas_.line(x, canvas_.bottom, x, canvas_.bottom + 5);
      canvas_.text(x, canvas_.bottom + 20, label, "");
    }
    canvas_.close();
    const Extent data = extent(false);
    if (!(data.low <= data.high)) canvas_.note("no data");
  }

  void draw_band(const Series& s, int color) {
    Run low, high;
    canvas_.open(color,
                 "fill=\"currentColor\" fill-opacity=\".16\" stroke=\"currentColor\" stroke-opacity=\".16\"");
    for (std::size_t i = 0; i <= s.low.size(); ++i) {
      const bool here = i < s.low.size() && usable(s.x[i], options_.x.scale) && std::isfinite(s.low[i]) &&
                        usable(s.high[i], options_.y.scale) && s.low[i] <= s.high[i];
      if (here) {
        low.push_back(at(s.x[i], low_end(s, i)));
        high.push_back(at(s.x[i], s.high[i]));
      }
      if (here || low.empty()) continue;
      if (low.size() == 1)  // an error bar
        canvas_.line(low[0].x, low[0].y, high[0].x, high[0].y, "stroke-opacity=\"1\" stroke-width=\"1.5\"");
      else
        canvas_.raw(concat("<path d=\"", path(thinned(high)), path(thinned(low), true, 'L'), "z\"/>"));
      low.clear(), high.clear();
    }
    canvas_.close();
  }

  void draw_line(const Series& s, int color, const std::string& dashes) {
    Run run;
    canvas_.open(color, concat("stroke-width=\"2\" stroke-linejoin=\"round\"", dashes));
    for (std::size_t i = 0; i <= s.x.size(); ++i) {
      if (i < s.x.size() && good(s, i)) {
        run.push_back(at(s.x[i], s.y[i]));
        continue;
      }
      if (run.size() == 1) canvas_.dot(run[0].x, run[0].y, 3.5, color, "", s.name);
      if (run.size() > 1)
        canvas_.raw(concat("<path d=\"", path(thinned(run)), "\" fill=\"none\" stroke=\"currentColor\">",
                           Canvas::title(s.name), "</path>"));
      run.clear();
    }
    canvas_.close();
  }

  /// The points of a scatter chart; in a line chart, invisible ones with tooltips.
  void draw_dots(const Series& s, int color) {
    if (lines_ && s.x.size() > 150) return;
    canvas_.open(color, lines_ ? "fill-opacity=\"0\"" : "fill-opacity=\".75\" stroke-width=\"1.5\"");
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!good(s, i)) continue;
      const Point p = at(s.x[i], s.y[i]);
      std::string words =
          concat(s.name, s.name.empty() ? "" : "\n", options_.x.title.empty() ? "x" : options_.x.title, " ",
                 format_general(s.x[i]), ": ", format_general(s.y[i]));
      if (!s.low.empty() && std::isfinite(s.low[i]) && usable(s.high[i], options_.y.scale)) {
        words += concat(" (", format_general(s.low[i]), " to ", format_general(s.high[i]), ")");
        if (!lines_) canvas_.line(p.x, canvas_.y(low_end(s, i)), p.x, canvas_.y(s.high[i]));
      }
      canvas_.dot(p.x, p.y, lines_ ? 7 : 4, lines_ ? 0 : color, "class=\"lpf-hit\"", words);
    }
    canvas_.close();
  }

  std::span<const Series> all_;
  const ChartOptions& options_;
  bool lines_;
  double start_ = 0;  // with fit_end, the highest value
  std::vector<LegendEntry> legend_;
  Axis x_, y_;
  Canvas canvas_;
};
using XyChart [[deprecated("use XYChart")]] = XYChart;

}  // namespace detail

/// Lines through the points of each series in order, with a band if low and high are given; an isolated point
/// between gaps is a dot. Lines that coincide are dashed in turn, and named beside the line. On a log axis a band
/// reaches no further below the line than above, by a factor: mean − sd may be 0 or less there. Up to
/// 150 points per series have tooltips. Throws ShapeError.
inline Svg line_chart(std::span<const Series> series, const ChartOptions& options = {}) {
  return detail::for_all_screens(
      options, [&](const ChartOptions& o) { return detail::XYChart(series, o, detail::Mark::line).draw(); });
}
inline Svg line_chart(std::initializer_list<Series> series, const ChartOptions& options = {}) {
  return line_chart(std::span(series.begin(), series.size()), options);
}

/// A dot per point, with an error bar if low and high are given. Throws ShapeError.
inline Svg scatter_chart(std::span<const Series> series, const ChartOptions& options = {}) {
  return detail::for_all_screens(
      options, [&](const ChartOptions& o) { return detail::XYChart(series, o, detail::Mark::dot).draw(); });
}
inline Svg scatter_chart(std::initializer_list<Series> series, const ChartOptions& options = {}) {
  return scatter_chart(std::span(series.begin(), series.size()), options);
}

}  // namespace lpf::plot
