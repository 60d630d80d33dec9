// Prints the picture of lesson 1, an SVG that moves: a Gaussian of growing width fills the narrow valley of a loss, and
// then gradient descent rolls into the narrow valley of the loss, and with the gradient of the smoothed loss into the
// wide one. Where the reader wants no motion, or prints, it is a still picture of the end.
//
//   smoothing_animation > smoothing.svg
#include <algorithm>
#include <cstdio>
#include <lpf/core/error.hpp>
#include <lpf/report/table.hpp>

#include "program.hpp"
#include "valleys.hpp"

using namespace lpf;

namespace {

constexpr double left = 46, right = 466, top = 84, bottom = 282;  // of the plot, in a picture of 480 × 330
constexpr double first = -3.2, last = 5, lowest = -1.4, highest = 7, start = -2.8, sigma = 0.5;

std::string px(double value) { return format_fixed(value, 1); }
double x_of(double theta) { return left + (theta - first) / (last - first) * (right - left); }
double y_of(double loss) { return bottom - (loss - lowest) / (highest - lowest) * (bottom - top); }

/// The curve of the smoothed loss. Its points have the same places at every width, as the animation needs.
std::string curve(double width) {
  std::string out;
  for (int i = 0; i <= 164; ++i) {
    const double theta = first + (last - first) * i / 164;
    out += concat(i == 0 ? "M" : " ", px(x_of(theta)), " ", px(y_of(valleys::loss(theta, width))));
  }
  return out;
}

/// Where gradient descent on the smoothed loss is after each 35 updates.
std::vector<double> path(double width) {
  std::vector<double> out{start};
  double theta = start;
  for (int step = 1; step <= 1400; ++step) {
    theta -= 0.01 * valleys::slope(theta, width);
    if (step % 35 == 0) out.push_back(theta);
  }
  return out;
}

/// An animation through (time, value), time from 0 to 1 of the whole.
struct Keyframes {
  std::string times, values;
  void add(double time, const std::string& value) {
    times += concat(times.empty() ? "" : ";", format_general(time, 4));
    values += concat(values.empty() ? "" : ";", value);
  }
  std::string animate(const char* attribute, const char* mode = "linear") const {
    return concat("<animate attributeName=\"", attribute,
                  "\" dur=\"12s\" repeatCount=\"indefinite\" calcMode=\"", mode, "\" keyTimes=\"", times,
                  "\" values=\"", values, "\"/>");
  }
};

std::string text(double x, double y, const std::string& words, const std::string& attributes = "") {
  return concat("<text x=\"", px(x), "\" y=\"", px(y), "\" ", attributes, ">", words, "</text>\n");
}
std::string line(double x1, double y1, double x2, double y2, const std::string& attributes) {
  return concat("<path d=\"M", px(x1), " ", px(y1), "L", px(x2), " ", px(y2), "\" ", attributes, "/>\n");
}

std::string frame() {
  std::string out = text(12, 24, "Smoothing fills the narrow valley", "font-size=\"16\" font-weight=\"600\"");
  out += line(14, 45, 36, 45, "class=\"loss\"") + text(42, 49, "loss L");
  out += line(14, 67, 36, 67, "class=\"smooth\"");
  out += concat("<circle cx=\"241\" cy=\"45\" r=\"6\" class=\"gd\"/>", text(252, 49, "gradient descent"));
  out +=
      concat("<circle cx=\"241\" cy=\"67\" r=\"6\" class=\"lpf\"/>", text(252, 71, "on the smoothed loss"));
  for (const int tick : {0, 2, 4, 6}) {
    out += line(left, y_of(tick), right, y_of(tick), "class=\"rule\"");
    out += text(left - 8, y_of(tick) + 4, std::to_string(tick), "text-anchor=\"end\" class=\"soft\"");
  }
  for (const int tick : {-3, -2, -1, 0, 1, 2, 3, 4, 5})
    out += text(x_of(tick), bottom + 17, tick < 0 ? concat("−", -tick) : std::to_string(tick),
                "text-anchor=\"middle\" class=\"soft\"");
  out += line(left, bottom, right, bottom, "class=\"axis\"");
  out += text((left + right) / 2, 320, "weight θ", "text-anchor=\"middle\" class=\"soft\"");
  const double middle = (top + bottom) / 2;
  out += text(14, middle, "loss",
              concat("text-anchor=\"middle\" class=\"soft\" transform=\"rotate(-90 14 ", px(middle), ")\""));
  return out + concat("<path d=\"", curve(0), "\" class=\"loss\"/>\n");
}

/// A ball that starts to roll at a quarter of the time, along the loss smoothed with this width.
std::string ball(double width, const char* kind) {
  const std::vector<double> theta = path(width);
  Keyframes x, y, opacity;
  const auto add = [&](double time, double at) {
    x.add(time, px(x_of(at)));
    y.add(time, px(y_of(valleys::loss(at, width)) - 5));
  };
  add(0, start);
  for (std::size_t i = 0; i < theta.size(); ++i)
    add(0.25 + 0.5 * static_cast<double>(i) / static_cast<double>(theta.size() - 1), theta[i]);
  add(0.96, theta.back());
  add(0.965, start);
  add(1, start);
  for (const auto& [time, value] : {std::pair(0.0, "1"), {0.92, "1"}, {0.95, "0"}, {0.975, "0"}, {1.0, "1"}})
    opacity.add(time, value);
  return concat("<circle r=\"6\" class=\"", kind, "\">", x.animate("cx"), y.animate("cy"),
                opacity.animate("opacity"), "</circle>\n");
}

std::string moving() {
  Keyframes d;
  std::string widths;
  constexpr int steps = 10;
  for (int i = 0; i <= steps; ++i) d.add(0.25 * i / steps, curve(sigma * i / steps));
  d.add(0.92, curve(sigma));
  for (const double part : {0.75, 0.5, 0.25, 0.0}) d.add(1 - 0.08 * part, curve(sigma * part));
  for (int i = 0; i <= steps;
       i += 2) {  // the width in words: each for its time, on the way up and on the way back
    Keyframes opacity;
    if (i > 0) opacity.add(0, "0");
    opacity.add(std::max(0.0, 0.25 * (i - 1) / steps), "1");
    if (i < steps) opacity.add(0.25 * (i + 1) / steps, "0");
    if (i < steps) opacity.add(1 - 0.08 * (i + 1) / steps, "1");
    if (i > 0) opacity.add(1 - 0.08 * (i - 1) / steps, "0");
    widths += concat("<text x=\"42\" y=\"71\" opacity=\"", i == 0 ? 1 : 0,
                     "\">smoothed, σ = ", format_fixed(sigma * i / steps, 1),
                     opacity.animate("opacity", "discrete"), "</text>\n");
  }
  return concat("<path class=\"smooth\" d=\"", curve(0), "\">", d.animate("d"), "</path>\n", widths,
                ball(0, "gd"), ball(sigma, "lpf"));
}

std::string still() {
  std::string out = concat("<path class=\"smooth\" d=\"", curve(sigma), "\"/>\n",
                           text(42, 71, concat("smoothed, σ = ", format_fixed(sigma, 1))));
  for (const auto& [width, kind] : {std::pair(0.0, "gd"), {sigma, "lpf"}}) {
    const double end = path(width).back();
    out += concat("<circle r=\"6\" class=\"", kind, "\" cx=\"", px(x_of(end)), "\" cy=\"",
                  px(y_of(valleys::loss(end, width)) - 5), "\"/>\n");
  }
  return out;
}

void run() {
  const std::string style =
      "svg{--paper:#fff;--ink:#1d242b;--soft:#56616c;--rule:#dde2e7;--gd:#da7a0b;--lpf:#1c56be}"
      "@media(prefers-color-scheme:dark){svg{--paper:#14191e;--ink:#e8ecf0;--soft:#a5b0bb;--rule:#313a43;"
      "--gd:#eaa536;--lpf:#7698ea}}"
      "text{fill:var(--ink)}.soft{fill:var(--soft)}path{fill:none}.rule{stroke:var(--rule)}"
      ".axis{stroke:var(--soft)}.loss{stroke:var(--soft);stroke-width:1.5}"
      ".smooth{stroke:var(--lpf);stroke-width:2.5}.gd{fill:var(--gd)}.lpf{fill:var(--lpf)}.still{display:"
      "none}"
      "@media(prefers-reduced-motion:reduce){.moving{display:none}.still{display:inline}}"
      "@media print{.moving{display:none}.still{display:inline}}";
  std::printf(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 480 330\" width=\"720\" "
      "style=\"max-width:100%%;height:auto\" role=\"img\" aria-labelledby=\"t d\" "
      "font-family=\"system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\" font-size=\"13\">\n"
      "<title id=\"t\">Smoothing fills the narrow valley of a loss</title>\n"
      "<desc id=\"d\">A loss over one weight has a narrow valley at −1 and a wide one at 2. Convolved with a "
      "Gaussian "
      "of growing width it keeps the wide valley only. From the left, gradient descent rolls into the narrow "
      "valley; on the smoothed loss it rolls into the wide one.</desc>\n"
      "<style>%s</style>\n<rect width=\"480\" height=\"330\" rx=\"6\" style=\"fill:var(--paper)\"/>\n%s"
      "<g class=\"moving\">\n%s</g>\n<g class=\"still\">\n%s</g>\n</svg>\n",
      style.c_str(), frame().c_str(), moving().c_str(), still().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Prints the picture of lesson 1, an animated SVG");
  return program::run(app, "smoothing_animation", argc, argv, [](const std::string&) { run(); });
}
