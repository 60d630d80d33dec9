// A matrix as shaded cells, with a name for each row and column: where a network attends, what is confused with what.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "lpf/report/svg_canvas.hpp"

namespace lpf::plot {

/// values[r][c] between 0 (empty) and 1 (full), for named rows and columns; NaN is a cell without a mark. A value is
/// shown by its cell when it is pointed at. Cells are as large as the width allows, 26 at most; the height follows.
/// @throws ValueError if the values are not rows × columns, or there are none.
inline Svg matrix_chart(std::span<const std::vector<double>> values, std::span<const std::string> rows,
                        std::span<const std::string> columns, ChartOptions options = {}) {
  const bool fits = values.size() == rows.size() &&
                    std::all_of(values.begin(), values.end(),
                                [&](const auto& row) { return row.size() == columns.size(); });
  check(fits && !rows.empty() && !columns.empty(), "plot", "a matrix of ", rows.size(), " names by ",
        columns.size(), " needs as many values, and at least one, got ", values.size(), " rows");
  detail::Axis names({}, {}, 1, 0);  // its labels are those of the rows
  names.ticks.clear();
  for (const std::string& name : rows) names.ticks.push_back({0, name});
  double longest = 0;
  for (const std::string& name : columns) longest = std::max(longest, detail::text_width(name, 12));
  options.height = 1e3;
  detail::Canvas canvas(options, {}, detail::Mark::bar, names);
  const double cell = std::min(26.0, (canvas.right - canvas.left) / static_cast<double>(columns.size()));
  const double top = canvas.top + std::min(longest, 150.0) * 0.75 + 8, left = canvas.left;
  const auto x = [&](std::size_t c) { return left + cell * static_cast<double>(c); };
  const auto y = [&](std::size_t r) { return top + cell * static_cast<double>(r); };

  canvas.open("soft", detail::soft, "font-size=\"12\"");
  for (std::size_t r = 0; r < rows.size(); ++r)
    canvas.text(left - 8, y(r) + cell / 2 + 4, rows[r], "text-anchor=\"end\"");
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const double at = x(c) + cell / 2 + 4;
    canvas.text(at, top - 6, columns[c],
                concat("transform=\"rotate(-48 ", detail::px(at), " ", detail::px(top - 6), ")\""));
  }
  canvas.close();
  canvas.open("rule", detail::rule, "stroke-width=\"1\"");
  for (std::size_t r = 0; r <= rows.size(); ++r) canvas.line(left, y(r), x(columns.size()), y(r));
  canvas.close();
  canvas.open(0);
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const double value = values[r][c];
      if (!(value > 0)) continue;
      const std::string opacity = format_fixed(std::min(value, 1.0), 3);
      canvas.rect(x(c) + 0.5, y(r) + 0.5, cell - 1, cell - 1,
                  concat("fill=\"currentColor\" fill-opacity=\"", opacity, "\""),
                  concat(rows[r], " – ", columns[c], ": ", format_general(value, 3)));
    }
  canvas.close();
  canvas.set_height(y(rows.size()) + (options.x.title.empty() ? 16 : 40));
  if (!options.x.title.empty()) {
    canvas.open("soft", detail::soft);
    canvas.text(left, y(rows.size()) + 26, options.x.title, "");
    canvas.close();
  }
  return canvas.finish();
}

}  // namespace lpf::plot
