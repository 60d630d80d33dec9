// Where the name of a line stands in a chart: beside the line, and on as few others as possible.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lpf/report/svg_canvas.hpp"

namespace lpf::plot::detail {

struct Point {
  double x, y;
};
using Run = std::vector<Point>;

/// A text of several lines: its place in the chart.
struct Label {
  std::vector<std::string> lines;
  double left = 0, top = 0, width = 0, height = 0;

  static constexpr double size = 11.5, line_height = 14;

  bool overlaps(const Label& o) const {
    return left < o.left + o.width && o.left < left + width && top < o.top + o.height && o.top < top + height;
  }
  double distance(const Point& p) const {
    return std::hypot(std::max({left - p.x, 0.0, p.x - left - width}),
                      std::max({top - p.y, 0.0, p.y - top - height}));
  }
  bool contains(const Point& p) const {
    return p.x > left && p.x < left + width && p.y > top && p.y < top + height;
  }
};

/// The names with " = " between them, in lines no wider than `most` where a name is not wider itself.
inline Label equal_names(std::span<const std::string> names, double most) {
  Label out{.lines = {""}};
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string next = i == 0 ? names[i] : "= " + names[i];
    if (out.lines.back().empty())
      out.lines.back() = next;
    else if (text_width(out.lines.back() + " " + next, Label::size) <= most)
      out.lines.back() += " " + next;
    else
      out.lines.push_back(next);
  }
  for (const std::string& line : out.lines) out.width = std::max(out.width, text_width(line, Label::size));
  out.height = Label::line_height * static_cast<double>(out.lines.size());
  return out;
}

/// Puts the label beside a point of `line` and inside the canvas, on none of the labels `placed` and on as few points of
/// the lines `all`, which are a few pixels apart, as possible.
inline void place_label(Label& label, const Run& line, std::span<const Run> all,
                        std::span<const Label> placed, const Canvas& canvas) {
  double least = std::numeric_limits<double>::infinity();
  Label best = label;
  for (const double where : {.5, .35, .65, .2, .8, .1, .9, .0, 1.}) {
    const Point& p =
        line[static_cast<std::size_t>(std::lround(where * static_cast<double>(line.size() - 1)))];
    for (const double across : {-1., 1., 0.})
      for (const bool above : {true, false}) {
        label.left = p.x + (across - 1) / 2 * label.width + 8 * across;
        label.top = above ? p.y - label.height - 7 : p.y + 7;
        label.left = std::clamp(label.left, canvas.left, std::max(canvas.left, canvas.right - label.width));
        label.top = std::clamp(label.top, canvas.top, std::max(canvas.top, canvas.bottom - label.height));
        double cost = std::abs(where - .5);  // rather in the middle
        double away = std::numeric_limits<double>::infinity();
        for (const Point& q : line) away = std::min(away, label.distance(q));
        cost += away > 12 ? away : 0;
        for (const Label& other : placed) cost += label.overlaps(other) ? 1e4 : 0;
        for (const Run& run : all)
          cost += static_cast<double>(
              std::count_if(run.begin(), run.end(), [&label](const Point& q) { return label.contains(q); }));
        if (cost < least) least = cost, best = label;
      }
  }
  label = best;
}

/// A line with further points, so that none are more than `step` apart.
inline Run densified(const Run& run, double step) {
  Run out;
  for (std::size_t i = 0; i < run.size(); ++i) {
    out.push_back(run[i]);
    if (i + 1 == run.size()) break;
    const double dx = run[i + 1].x - run[i].x, dy = run[i + 1].y - run[i].y;
    const int pieces = static_cast<int>(std::min(1e3, std::hypot(dx, dy) / step));
    for (int k = 1; k < pieces; ++k) out.push_back({run[i].x + dx * k / pieces, run[i].y + dy * k / pieces});
  }
  return out;
}

}  // namespace lpf::plot::detail
