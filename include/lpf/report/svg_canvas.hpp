// Common parts of all charts: colours, background, title, legend, frame, and drawing primitives.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/report/svg_axis.hpp"
#include "lpf/report/table.hpp"

namespace lpf::plot {

/// Options of every chart. Sizes are in SVG units: pixels if the page is wide enough, else scaled down.
struct ChartOptions {
  std::string title = {};        ///< above the chart
  std::string description = {};  ///< alternative text: the chart's contents
  AxisOptions x = {};            ///< (charts by category use only its title)
  AxisOptions y = {};
  double width = 720;
  double height = 400;
};

/// A finished chart: an `svg` element, for a page or a file of its own; and of a wide chart a narrow one of the same,
/// which a page shows on a phone, where the wide one's text would be too small.
struct Svg {
  std::string markup;
  std::string narrow = {};
};

namespace detail {

/// draw(options), and of a wide chart draw() for a phone.
template <class Draw>
Svg for_all_screens(const ChartOptions& options, Draw draw) {
  Svg out = draw(options);
  if (options.width <= 480) return out;
  ChartOptions narrow = options;
  narrow.width = 380, narrow.height = std::max(260.0, 0.75 * options.height);
  out.narrow = draw(narrow).markup;
  return out;
}

/// Text for XML and HTML: markup escaped; what XML forbids (control characters, invalid UTF-8) replaced.
inline std::string escape(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto c = lpf::detail::first_or_replacement(text);
    const bool forbidden = (c.code < 0x20 && c.code != '\n' && c.code != '\t') || c.code == 0x7F ||
                           c.code == 0xFFFD || c.code == 0xFFFE || c.code == 0xFFFF;
    if (forbidden)
      out += "\xEF\xBF\xBD";
    else if (c.code == '<')
      out += "&lt;";
    else if (c.code == '>')
      out += "&gt;";
    else if (c.code == '&')
      out += "&amp;";
    else if (c.code == '"')
      out += "&quot;";
    else if (c.code == '\'')
      out += "&#39;";
    else
      out += text.substr(0, c.bytes);
    text.remove_prefix(c.bytes);
  }
  return out;
}

/// The first colour is for light mode, and the fallback for viewers without CSS variables.
struct Color {
  std::string_view light, dark;
};
// Found by search: any two differ by at least 20 in CIELAB for normal, protan, deutan and tritan vision
// (Machado 2009), and each has a contrast of at least 3 with the background.
constexpr Color palette[] = {{"#1c56be", "#7698ea"}, {"#da7a0b", "#eaa536"}, {"#00a676", "#35c98f"},
                             {"#9d72a9", "#bb8fb2"}, {"#7b401f", "#ffd71d"}, {"#7724f1", "#b4d5ff"},
                             {"#434049", "#d6d3d3"}};
constexpr Color ink{"#1d242b", "#e8ecf0"}, soft{"#56616c", "#a5b0bb"}, rule{"#dde2e7", "#313a43"},
    paper{"#ffffff", "#14191e"};
constexpr int palette_size = static_cast<int>(std::size(palette));
/// Dashes of lines, for a colour's first, second … series.
constexpr std::string_view patterns[] = {"",    "6 4",      "1 5", "10 4 1 4",    "16 5", "10 4 1 4 1 4",
                                         "3 5", "16 4 5 4", "1 9", "10 4 5 4 5 4"};
/// The number of a colour of the palette with a pattern: colours beyond the palette are its own, again, with dashes.
constexpr int patterned(int color, int pattern) { return color + palette_size * pattern; }
constexpr std::string_view dashes_of(int color) {
  return patterns[static_cast<std::size_t>(color / palette_size) % std::size(patterns)];
}

inline std::string variables(bool dark) {
  std::string out;
  const auto add = [&](std::string_view name, Color c) {
    out += concat("--lpf-", name, ":", dark ? c.dark : c.light, ";");
  };
  add("ink", ink), add("soft", soft), add("rule", rule), add("paper", paper);
  for (int i = 0; i < palette_size; ++i) add(concat("c", i), palette[i]);
  return out;
}

/// The style of a chart; its class names are unique to it, so that it can be embedded in any page.
inline std::string style() {
  std::string out = concat(".lpf-chart{", variables(false), "}@media (prefers-color-scheme:dark){.lpf-chart{",
                           variables(true), "}}");
  const auto use = [&](std::string_view name) {
    out += concat(".lpf-chart .lpf-", name, "{color:var(--lpf-", name, ")}");
  };
  use("ink"), use("soft"), use("rule"), use("paper");
  for (int i = 0; i < palette_size; ++i) use(concat("c", i));
  return out + ".lpf-chart .lpf-hit:hover{fill-opacity:.3}@media print{.lpf-chart{" + variables(false) + "}}";
}

inline std::string px(double value) { return format_fixed(value, 1); }

/// Approximate width of a text in pixels, an upper estimate.
inline double text_width(std::string_view text, double size = 13) {
  return 0.6 * size * static_cast<double>(display_width(text));
}

struct LegendEntry {
  std::string name;
  int color = 0;
};

/// The legend of series or groups: each has its own colour, or that of its index.
template <class T>
std::vector<LegendEntry> legend_of(std::span<const T> all) {
  std::vector<LegendEntry> legend;
  for (const T& one : all)
    legend.push_back({one.name, one.color >= 0 ? one.color : static_cast<int>(legend.size())});
  return legend;
}

enum class Mark { line, dot, bar };

/// Background, title, legend, axes and drawing primitives. The legend is above the plot area, so that it
/// never covers data.
class Canvas {
 public:
  double left = 0, right = 0, top = 0, bottom = 0;

  Canvas(const ChartOptions& options, std::span<const LegendEntry> legend, Mark mark, const Axis& y)
      : options_(options), y_axis_(y) {
    check(options.width >= 160 && options.height >= 120 && options.width <= 1e4 && options.height <= 1e4,
          "plot", "a chart of ", options.width, " × ", options.height,
          ": give it 160 × 120 to 10000 × 10000");
    for (const auto& tick : y.ticks) left = std::max(left, text_width(tick.second, 12));
    left = std::min(left + (options.y.title.empty() ? 18 : 42), options.width / 3);
    right = options.width - 20;
    top = 16;
    if (!options.title.empty()) {
      open("ink", ink);
      top = 22;
      const auto columns = static_cast<std::size_t>((options.width - 12) / 9.6);
      for (const std::string& line : wrapped_text(options.title, columns)) {
        text(6, top + 2, line, "font-size=\"16\" font-weight=\"600\"");
        top += 20;
      }
      close();
    }
    draw_legend(legend, mark);
    const double below = options.x.title.empty() ? 34 : 54;
    bottom = std::max(options.height - below, top + .5 * options.height);  // taller, where the legend is long
    height_ = bottom + below;
  }

  /// Reserves space for labels of several lines below the plot area.
  void reserve_label_rows(std::size_t rows) { height_ += 15.0 * static_cast<double>(rows - 1); }

  /// The height of the whole picture, where it follows from what is drawn.
  void set_height(double height) { height_ = height; }

  double y(double value) const { return bottom - (bottom - top) * y_axis_.at(value); }

  void raw(std::string_view markup) { body_ += markup; }
  void open(std::string_view name, Color color, std::string_view attributes = "") {
    raw(concat("<g class=\"lpf-", name, "\" color=\"", color.light, "\" ", attributes, ">"));
  }
  void open(int color, std::string_view attributes = "") {
    open(concat("c", color % palette_size), palette[color % palette_size], attributes);
  }
  void close() { raw("</g>\n"); }
  void text(double x, double y, std::string_view words, std::string_view attributes,
            std::string_view tooltip = "") {
    raw(concat("<text x=\"", px(x), "\" y=\"", px(y), "\" fill=\"currentColor\" ", attributes, ">",
               title(tooltip), escape(words), "</text>"));
  }
  void line(double x1, double y1, double x2, double y2, std::string_view attributes = "") {
    raw(concat("<path d=\"M", px(x1), " ", px(y1), "L", px(x2), " ", px(y2), "\" stroke=\"currentColor\" ",
               attributes, "/>"));
  }
  void rect(double x, double y, double width, double height, std::string_view attributes,
            std::string_view tooltip = "") {
    raw(concat("<rect x=\"", px(x), "\" y=\"", px(y), "\" width=\"", px(width), "\" height=\"", px(height),
               "\" ", attributes, ">", title(tooltip), "</rect>"));
  }
  /// A dot whose shape identifies the series without colour.
  void dot(double x, double y, double r, int shape, std::string_view attributes,
           std::string_view tooltip = "") {
    const auto at = [&](double dx, double dy) { return px(x + dx * r) + " " + px(y + dy * r); };
    std::string path = concat("M", at(-1, 0), "a", px(r), " ", px(r), " 0 1 0 ", px(2 * r), " 0a", px(r), " ",
                              px(r), " 0 1 0 ", px(-2 * r), " 0z");
    if (shape % 4 == 1)
      path = concat("M", at(-.9, -.9), "L", at(.9, -.9), "L", at(.9, .9), "L", at(-.9, .9), "z");
    if (shape % 4 == 2)
      path = concat("M", at(0, -1.25), "L", at(1.25, 0), "L", at(0, 1.25), "L", at(-1.25, 0), "z");
    if (shape % 4 == 3) path = concat("M", at(0, -1.2), "L", at(1.15, .8), "L", at(-1.15, .8), "z");
    raw(concat("<path d=\"", path, "\" fill=\"currentColor\" ", attributes, ">", title(tooltip), "</path>"));
  }
  /// The pattern of lines of a colour, round at the ends.
  static std::string dash_attribute(int color) {
    const std::string_view dashes = dashes_of(color);
    return dashes.empty() ? " stroke-linecap=\"round\""
                          : concat(" stroke-dasharray=\"", dashes, "\" stroke-linecap=\"round\"");
  }
  static std::string title(std::string_view words) {
    return words.empty() ? "" : concat("<title>", escape(words), "</title>");
  }

  /// Horizontal grid, labels of the y axis, titles of both axes.
  void draw_frame() {
    open("rule", rule, "stroke-width=\"1\"");
    for (const auto& tick : y_axis_.ticks) line(left, y(tick.first), right, y(tick.first));
    close();
    open("soft", soft, "font-size=\"12\"");
    for (const auto& tick : y_axis_.ticks)
      text(left - 8, y(tick.first) + 4, tick.second, "text-anchor=\"end\"");
    line(left, bottom, right, bottom);
    const double middle = (top + bottom) / 2;
    if (!options_.y.title.empty())
      text(16, middle, options_.y.title,
           concat("text-anchor=\"middle\" font-size=\"13\" transform=\"rotate(-90 16 ", px(middle), ")\""));
    if (!options_.x.title.empty())
      text((left + right) / 2, height_ - 10, options_.x.title, "text-anchor=\"middle\" font-size=\"13\"");
    close();
  }
  /// Clips what follows to the plot area with a margin above and below, so that lines at its edge keep
  /// their full width.
  void open_clip(double margin) {
    const std::string corner = px(left - 6), edge = px(top - margin);
    const std::string width = px(right - left + 12), height = px(bottom - top + 2 * margin);
    raw(concat("<svg x=\"", corner, "\" y=\"", edge, "\" width=\"", width, "\" height=\"", height,
               "\" viewBox=\"", corner, " ", edge, " ", width, " ", height, "\">"));
  }
  void close_clip() { raw("</svg>\n"); }
  void note(std::string_view words) {
    open("soft", soft);
    text((left + right) / 2, (top + bottom) / 2, words, "text-anchor=\"middle\"");
    close();
  }

  Svg finish() const {
    const std::string width = px(options_.width), height = px(height_);
    std::uint64_t hash = 1469598103934665603ull;  // FNV-1a: ids must differ between the charts of a page
    for (const char c : body_) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
    const std::string id = concat("lpf-", hash);
    return {concat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lpf-chart\" viewBox=\"0 0 ", width, " ", height,
        "\" width=\"", width, "\" height=\"", height,
        "\" style=\"max-width:100%;height:auto\" role=\"img\" aria-labelledby=\"", id, "t ", id,
        "d\" font-family=\"system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\" font-size=\"13\">",
        "<title id=\"", id, "t\">", escape(options_.title.empty() ? description() : options_.title),
        "</title><desc id=\"", id, "d\">", escape(description()), "</desc><style>", style(),
        "</style>\n<g class=\"lpf-paper\" color=\"", paper.light, "\"><rect width=\"", width, "\" height=\"",
        height, "\" rx=\"6\" fill=\"currentColor\"/></g>\n", body_, "</svg>\n")};
  }

 private:
  std::string description() const {
    if (!options_.description.empty()) return options_.description;
    std::string words = options_.y.title.empty() ? "Values" : options_.y.title;
    if (!options_.x.title.empty()) words += " over " + options_.x.title;
    return names_.empty() ? words : words + " for " + names_;
  }
  void draw_legend(std::span<const LegendEntry> entries, Mark mark) {
    double x = left;
    bool any = false;
    for (const auto& entry : entries) {
      if (entry.name.empty()) continue;
      names_ += (names_.empty() ? "" : ", ") + entry.name;
      const double before = mark == Mark::line && entry.color >= palette_size ? 41 : 27;
      const double width = before + text_width(entry.name) + 19;
      if (any && x + width > right) x = left, top += 20;
      any = true;
      open(entry.color);
      const double sample = entry.color < palette_size ? 20 : 34;  // long enough to show the pattern
      if (mark == Mark::line)
        line(x, top + 5, x + sample, top + 5, concat(dash_attribute(entry.color), " stroke-width=\"2.5\""));
      if (mark == Mark::dot) dot(x + 12, top + 5, 5, entry.color, "");
      if (mark == Mark::bar) rect(x + 6, top - 1, 12, 12, "fill=\"currentColor\" rx=\"2\"");
      close();
      open("ink", ink);
      text(x + before, top + 9.5, entry.name, "");
      close();
      x += width;
    }
    if (any) top += 32;
  }

  const ChartOptions& options_;
  const Axis& y_axis_;
  double height_ = 0;
  std::string names_, body_;
};

}  // namespace detail
}  // namespace lpf::plot
