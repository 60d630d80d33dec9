// Charts by category and group: dots with error bars, bars.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/core/host_device.hpp"
#include "lpf/report/svg_axis.hpp"
#include "lpf/report/svg_canvas.hpp"
#include "lpf/report/table.hpp"

namespace lpf::plot {

/// A group in a chart by category: one value per category, optionally its error and the single runs.
struct Group {
  std::string name = {};
  std::vector<double> value = {};
  std::vector<double> error = {};                ///< half length of the error bar: empty, or one per value
  std::vector<std::vector<double>> points = {};  ///< drawn small beside it: empty, or one list per value
  int color = -1;
};

namespace detail {

/// A category's name, broken into lines no wider than `width`; at most four.
inline std::vector<std::string> wrapped(std::string_view words, double width) {
  std::vector<std::string> lines(1);
  while (!words.empty()) {
    const std::size_t space = std::min(words.find(' '), words.size());
    const std::string word(words.substr(0, space));
    words.remove_prefix(std::min(space + 1, words.size()));
    if (lines.back().empty())
      lines.back() = word;
    else if (text_width(lines.back() + " " + word, 12) <= width || lines.size() == 4)
      lines.back() += " " + word;
    else
      lines.push_back(word);
  }
  for (auto& line : lines)
    if (text_width(line, 12) > width)
      line = std::string(
                 clip_to_width(line, lpf::detail::saturated<std::size_t>(std::max(1.0, width / 7.2 - 1)))) +
             "…";
  return lines;
}

class CategoryChart {
 public:
  CategoryChart(std::span<const std::string> categories, std::span<const Group> groups,
                const ChartOptions& options, Mark mark)
      : categories_(categories),
        groups_(groups),
        options_(options),
        bars_(mark == Mark::bar),
        legend_(legend_of(groups)),
        data_(extent()),
        y_(data_, y_options(), lpf::detail::saturated<int>(options.height / 60), bars_ ? .1 : .06),
        canvas_(options, legend_, mark, y_) {
    slot_ = (canvas_.right - canvas_.left) / static_cast<double>(std::max<std::size_t>(categories.size(), 1));
    pitch_ = std::min(90.0, .84 * slot_ / static_cast<double>(std::max<std::size_t>(groups.size(), 1)));
  }

  Svg draw() {
    draw_categories();
    for (std::size_t k = 0; k < groups_.size(); ++k) {
      canvas_.open_clip(6);
      bars_ ? draw_bars(k) : draw_dots(k);
      draw_errors(k);
      canvas_.close_clip();
      draw_values(k);
    }
    return canvas_.finish();
  }

 private:
  Extent extent() const {
    Extent out{.scale = options_.y.scale, .integers = false};
    const std::size_t n = categories_.size();
    for (const Group& g : groups_) {
      const auto fits = [&](std::size_t size) { return size == 0 || size == n; };
      check<ShapeError>(g.value.size() == n && fits(g.error.size()) && fits(g.points.size()), "plot",
                        "group '", g.name, "' has ", g.value.size(), " values, ", g.error.size(),
                        " errors and ", g.points.size(), " lists of points for ", n,
                        " categories: give one each (errors and points may be empty)");
      for (std::size_t i = 0; i < n; ++i) {
        for (const double end : {low_end(g, i), g.value[i], g.value[i] + error(g, i)}) out.add(end);
        if (!g.points.empty() && !bars_) out.add(g.points[i]);
      }
    }
    if (bars_ && out.low <= out.high) out.add(0.0);  // a bar's length is its value: it starts at zero
    return out;
  }
  AxisOptions y_options() const {
    AxisOptions out = options_.y;
    if (bars_ && data_.low == 0 && data_.high > 0 && std::isnan(out.min)) out.min = 0;
    if (bars_ && data_.high == 0 && data_.low < 0 && std::isnan(out.max)) out.max = 0;
    return out;
  }
  bool good(double value) const { return usable(value, options_.y.scale); }
  static double error(const Group& g, std::size_t i) {
    return i < g.error.size() && std::isfinite(g.error[i]) ? std::abs(g.error[i]) : 0;
  }
  double low_end(const Group& g, std::size_t i) const {
    return lower_end(g.value[i], g.value[i] - error(g, i), g.value[i] + error(g, i), options_.y.scale);
  }
  double middle(std::size_t category) const {
    return canvas_.left + slot_ * (static_cast<double>(category) + .5);
  }
  double x(std::size_t category, std::size_t group) const {
    return middle(category) +
           pitch_ * (static_cast<double>(group) - .5 * static_cast<double>(groups_.size() - 1));
  }
  std::string tooltip(const Group& g, std::size_t i, double value, double error) const {
    return concat(g.name, g.name.empty() ? "" : "\n", categories_[i], ": ", format_general(value),
                  error > 0 ? " ± " + format_general(error, 2) : std::string());
  }

  void draw_categories() {
    std::size_t rows = 1;
    for (const auto& name : categories_) rows = std::max(rows, wrapped(name, slot_ - 6).size());
    canvas_.reserve_label_rows(rows);
    canvas_.draw_frame();
    if (!(data_.low <= data_.high)) canvas_.note("no data");
    canvas_.open("soft", soft, "font-size=\"12\" text-anchor=\"middle\"");
    for (std::size_t i = 0; i < categories_.size(); ++i) {
      double y = canvas_.bottom + 20;
      for (const auto& line : wrapped(categories_[i], slot_ - 6)) {
        canvas_.text(middle(i), y, line, "", line.ends_with("…") ? categories_[i] : "");
        y += 15;
      }
    }
    canvas_.close();
  }

  void draw_bars(std::size_t k) {
    const double zero = options_.y.scale == Scale::log
                            ? canvas_.bottom
                            : std::clamp(canvas_.y(0), canvas_.top, canvas_.bottom);
    canvas_.open(legend_[k].color);
    for (std::size_t i = 0; i < categories_.size(); ++i) {
      const double value = groups_[k].value[i], end = canvas_.y(value);
      if (good(value))
        canvas_.rect(x(i, k) - .41 * pitch_, std::min(end, zero), .82 * pitch_, std::abs(end - zero),
                     "fill=\"currentColor\" rx=\"1.5\"", tooltip(groups_[k], i, value, error(groups_[k], i)));
    }
    canvas_.close();
  }

  void draw_dots(std::size_t k) {
    const Group& g = groups_[k];
    const double aside = pitch_ < 40 ? 0 : 11;
    canvas_.open(legend_[k].color);
    for (std::size_t i = 0; i < categories_.size(); ++i) {
      for (std::size_t p = 0; i < g.points.size() && p < g.points[i].size(); ++p)
        if (const double point = g.points[i][p]; good(point))
          canvas_.dot(x(i, k) - aside, canvas_.y(point), 2.5, 0, "fill-opacity=\".5\"",
                      tooltip(g, i, point, 0));
      if (good(g.value[i]))
        canvas_.dot(x(i, k), canvas_.y(g.value[i]), 5, legend_[k].color, "",
                    tooltip(g, i, g.value[i], error(g, i)));
    }
    canvas_.close();
  }

  void draw_errors(std::size_t k) {
    const Group& g = groups_[k];
    const auto stroke = [&](std::string_view attributes) {
      for (std::size_t i = 0; i < categories_.size(); ++i) {
        if (!good(g.value[i]) || error(g, i) == 0) continue;
        const double low = canvas_.y(low_end(g, i)), high = canvas_.y(g.value[i] + error(g, i));
        canvas_.line(x(i, k), low, x(i, k), high, attributes);
        for (const double end : {low, high}) canvas_.line(x(i, k) - 5, end, x(i, k) + 5, end, attributes);
      }
      canvas_.close();
    };
    if (bars_) {  // on a bar its own colour would be invisible: the text's, with a halo
      canvas_.open("paper", paper);
      stroke("stroke-width=\"3.6\" stroke-opacity=\".7\" stroke-linecap=\"square\"");
      canvas_.open("ink", ink);
    } else {
      canvas_.open(legend_[k].color);
    }
    stroke("stroke-width=\"1.6\"");
  }

  /// Values as text: beside a dot, at the end of a bar; where there is no space, only in the tooltip.
  void draw_values(std::size_t k) {
    const Group& g = groups_[k];
    canvas_.open("ink", ink, bars_ ? "font-size=\"11.5\" text-anchor=\"middle\"" : "font-size=\"11.5\"");
    for (std::size_t i = 0; i < categories_.size(); ++i) {
      const double value = g.value[i];
      const std::string label = value_label(value);
      if (!good(value) || value < y_.low || value > y_.high) continue;
      if (text_width(label, 11.5) + (bars_ ? 4 : 26) > pitch_) continue;
      const double end = canvas_.y(value + std::copysign(error(g, i), value));
      if (!bars_)
        canvas_.text(x(i, k) + 10, canvas_.y(value) + 4, label, "");
      else
        canvas_.text(x(i, k), value < 0 ? end + 15 : std::max(end - 6, canvas_.top + 2), label, "");
    }
    canvas_.close();
  }
  /// The same number of decimals for all values of one magnitude.
  std::string value_label(double value) const {
    const double size = std::max(std::abs(data_.low), std::abs(data_.high));
    if (options_.y.scale == Scale::log || !(size >= 0.01 && size < 1e5))
      return with_minus(format_general(value, 3));
    return with_minus(format_fixed(value, size < 1 ? 3 : size < 10 ? 2 : size < 1000 ? 1 : 0));
  }

  std::span<const std::string> categories_;
  std::span<const Group> groups_;
  const ChartOptions& options_;
  bool bars_;
  std::vector<LegendEntry> legend_;
  Extent data_;
  Axis y_;
  Canvas canvas_;
  double slot_ = 0, pitch_ = 0;
};

}  // namespace detail

/// A dot with its error bar for each group in each category, with the single points small beside it. Throws
/// ShapeError. The y axis is fitted to the data: set options.y.min = 0 where zero matters.
inline Svg dot_chart(std::span<const std::string> categories, std::span<const Group> groups,
                     const ChartOptions& options = {}) {
  return detail::for_all_screens(options, [&](const ChartOptions& o) {
    return detail::CategoryChart(categories, groups, o, detail::Mark::dot).draw();
  });
}

/// A bar with its error bar for each group in each category; bars start at zero. Throws ShapeError.
inline Svg bar_chart(std::span<const std::string> categories, std::span<const Group> groups,
                     const ChartOptions& options = {}) {
  return detail::for_all_screens(options, [&](const ChartOptions& o) {
    return detail::CategoryChart(categories, groups, o, detail::Mark::bar).draw();
  });
}

}  // namespace lpf::plot
