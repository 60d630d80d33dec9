// A matrix as shaded cells, with a name for each row and column: where a network attends, what is confused with what.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "lpf/report/svg_canvas.hpp"

namespace lpf::plot {

namespace detail {

/// A matrix of the options' width.
inline Svg draw_matrix(std::span<const std::vector<double>> values, std::span<const std::string> rows,
                       std::span<const std::string> columns, ChartOptions options) {
  Axis names({}, {}, 1, 0);  // its labels are those of the rows
  names.ticks.clear();
  for (const std::string& name : rows) names.ticks.push_back({0, name});
  options.height = 1e3;
  Canvas canvas(options, {}, Mark::bar, names);
  const auto longest = [](std::span<const std::string> all, double size) {
    double out = 0;
    for (const std::string& name : all) out = std::max(out, text_width(name, size));
    return out;
  };
  // Names are as large as cells, from 7 to 12; those of the columns rise to the right, beyond the last cell too.
  double size = 12, cell = 0, left = 0, rise = 0;
  for (int again = 0; again < 2; ++again) {
    left = std::min(longest(rows, size) + 18, options.width / 3);
    rise = std::min(longest(columns, size), 150.0);
    cell = std::min(26.0, (canvas.right - left - 0.67 * rise) / static_cast<double>(columns.size()));
    size = std::clamp(cell, 7.0, 12.0);
  }
  const double top = canvas.top + rise * 0.75 + 8;
  const auto x = [&](std::size_t c) { return left + cell * static_cast<double>(c); };
  const auto y = [&](std::size_t r) { return top + cell * static_cast<double>(r); };

  canvas.open("soft", soft, concat("font-size=\"", px(size), "\""));
  for (std::size_t r = 0; r < rows.size(); ++r)
    canvas.text(left - 8, y(r) + cell / 2 + size / 3, rows[r], "text-anchor=\"end\"");
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const double at = x(c) + cell / 2 + size / 3;
    canvas.text(at, top - 6, columns[c], concat("transform=\"rotate(-48 ", px(at), " ", px(top - 6), ")\""));
  }
  canvas.close();
  canvas.open("rule", rule, "stroke-width=\"1\"");
  for (std::size_t r = 0; r <= rows.size(); ++r) canvas.line(left, y(r), x(columns.size()), y(r));
  canvas.close();
  canvas.open(0);
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const double value = values[r][c], gap = std::min(1.0, cell / 8);
      if (!(value > 0)) continue;
      const std::string opacity = format_fixed(std::min(value, 1.0), 3);
      canvas.rect(x(c) + gap / 2, y(r) + gap / 2, cell - gap, cell - gap,
                  concat("fill=\"currentColor\" fill-opacity=\"", opacity, "\""),
                  concat(rows[r], " – ", columns[c], ": ", format_general(value, 3)));
    }
  canvas.close();
  canvas.set_height(y(rows.size()) + (options.x.title.empty() ? 16 : 40));
  if (!options.x.title.empty()) {
    canvas.open("soft", soft);
    canvas.text(12, y(rows.size()) + 26, options.x.title, "");
    canvas.close();
  }
  return canvas.finish();
}

}  // namespace detail

/// values[r][c] between 0 (empty) and 1 (full), for named rows and columns; NaN is a cell without a mark. A value is
/// shown by its cell when it is pointed at. Cells are as large as the width allows, 26 at most; the height follows.
/// @throws ValueError if the values are not rows × columns, or there are none.
inline Svg matrix_chart(std::span<const std::vector<double>> values, std::span<const std::string> rows,
                        std::span<const std::string> columns, const ChartOptions& options = {}) {
  const bool fits = values.size() == rows.size() &&
                    std::all_of(values.begin(), values.end(),
                                [&](const auto& row) { return row.size() == columns.size(); });
  check(fits && !rows.empty() && !columns.empty(), "plot", "a matrix of ", rows.size(), " names by ",
        columns.size(), " needs as many values, and at least one, got ", values.size(), " rows");
  return detail::for_all_screens(
      options, [&](const ChartOptions& o) { return detail::draw_matrix(values, rows, columns, o); });
}

}  // namespace lpf::plot
