// Charts as SVG: lines with bands, scatter, dots with error bars, bars. One string, nothing to link.
//     auto chart = plot::line_chart({{.name = "SGD", .x = epochs, .y = loss}}, {.title = "Training loss"});
//     write_file_atomically("loss.svg", chart.markup);
// Colours are told apart by colour-blind eyes and follow the reader's light or dark mode.
#pragma once

#include "lpf/report/svg_axis.hpp"
#include "lpf/report/svg_canvas.hpp"
#include "lpf/report/svg_groups.hpp"
#include "lpf/report/svg_lines.hpp"
