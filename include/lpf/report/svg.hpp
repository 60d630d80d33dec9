// Charts as SVG: lines with bands, scatter, dots with error bars, bars. One string, no external resources.
//     auto chart = plot::line_chart({{.name = "SGD", .x = epochs, .y = loss}}, {.title = "Training loss"});
//     write_file_atomically("loss.svg", chart.markup);
// Colours are distinguishable for colour-blind readers and follow the light or dark mode.
#pragma once

#include "lpf/report/svg_axis.hpp"
#include "lpf/report/svg_canvas.hpp"
#include "lpf/report/svg_groups.hpp"
#include "lpf/report/svg_lines.hpp"
#include "lpf/report/svg_matrix.hpp"
