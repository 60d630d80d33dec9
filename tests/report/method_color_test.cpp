#include "lpf/report/method_color.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "lpf/optim/registry.hpp"
#include "lpf/report/svg_lines.hpp"

using namespace lpf;
namespace inner = lpf::plot::detail;

namespace {

using Triple = std::array<double, 3>;
using Matrix = std::array<Triple, 3>;

// What eyes without one kind of cones see (Machado, Oliveira & Fernandes 2009, severity 1), in linear RGB.
const Matrix normal{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
const Matrix protan{
    {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}};
const Matrix deutan{
    {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}};
const Matrix tritan{
    {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}};

Triple times(const Matrix& m, const Triple& v) {
  Triple out{};
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 3; ++j) out[i] += m[i][j] * v[j];
  return out;
}

// "#1c56be" in linear RGB.
Triple linear(std::string_view hex) {
  Triple out;
  for (std::size_t i = 0; i < 3; ++i) {
    const double c = std::stoi(std::string(hex.substr(1 + 2 * i, 2)), nullptr, 16) / 255.0;
    out[i] = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  }
  return out;
}
double luminance(std::string_view hex) {
  const Triple c = linear(hex);
  return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
}
double contrast(std::string_view a, std::string_view b) {
  const double x = luminance(a) + 0.05, y = luminance(b) + 0.05;
  return std::max(x, y) / std::min(x, y);
}
// CIELAB under D65 of a colour as such eyes see it.
Triple lab(std::string_view hex, const Matrix& eyes) {
  Triple seen = times(eyes, linear(hex));
  for (double& c : seen) c = std::clamp(c, 0.0, 1.0);
  const Triple xyz = times({{{0.4124564, 0.3575761, 0.1804375},
                             {0.2126729, 0.7151522, 0.0721750},
                             {0.0193339, 0.1191920, 0.9503041}}},
                           seen);
  const auto f = [](double t) { return t > 216.0 / 24389 ? std::cbrt(t) : (24389.0 / 27 * t + 16) / 116; };
  const double x = f(xyz[0] / 0.95047), y = f(xyz[1]), z = f(xyz[2] / 1.08883);
  return {116 * y - 16, 500 * (x - y), 200 * (y - z)};
}
double distance(const Triple& a, const Triple& b) {
  return std::sqrt((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) +
                   (a[2] - b[2]) * (a[2] - b[2]));
}

}  // namespace

TEST_CASE(
    "colours of charts differ for all readers, and stand out from the paper, in light and in dark mode") {
  for (const bool dark : {false, true}) {
    const auto shade = [dark](inner::Color c) { return dark ? c.dark : c.light; };
    for (int i = 0; i < inner::palette_size; ++i) {
      CAPTURE(i);
      CHECK(contrast(shade(inner::palette[i]), shade(inner::paper)) >= 3);
      for (int j = 0; j < i; ++j)
        for (const Matrix& eyes : {normal, protan, deutan, tritan}) {
          CAPTURE(j);
          CHECK(distance(lab(shade(inner::palette[i]), eyes), lab(shade(inner::palette[j]), eyes)) >= 19.9);
        }
    }
    for (const inner::Color text : {inner::ink, inner::soft})
      CHECK(contrast(shade(text), shade(inner::paper)) >= 4.5);
  }
}

TEST_CASE("every training method has a look of its own, and those of a kind one colour") {
  std::map<std::pair<int, std::string_view>, std::string> seen;
  for (const auto& m : optim::list()) {
    CAPTURE(m.name);
    const int color = plot::method_color(m.name);
    REQUIRE(color >= 0);
    CHECK(plot::method_color(m.title) == color);
    const auto [other, is_new] =
        seen.emplace(std::pair(color % inner::palette_size, inner::dashes_of(color)), m.name);
    CAPTURE(other->second);
    CHECK(is_new);
  }
  const auto shade = [](const char* name) { return plot::method_color(name) % inner::palette_size; };
  CHECK(shade("lpf-sgd") == shade("lpf-adam"));
  CHECK(shade("sam") == shade("asam-rmsprop"));
  CHECK(shade("adam") == shade("adamw"));
  CHECK(shade("entropy-sgd") == shade("entropy-adam"));
  for (const char* plain : {"sgd", "sam", "lpf-sgd", "entropy-sgd", "smoothout", "adam"})
    CHECK(plot::method_color(plain) < inner::palette_size);  // a solid line
  for (const char* unknown : {"", "lpf-", "-sgd", "lpf-other", "other-sgd", "other"})
    CHECK(plot::method_color(unknown) == -1);
}

TEST_CASE("colours beyond the palette are its own with dashes, in the line and in the legend") {
  const auto chart = [](int color) {
    return plot::line_chart({{.name = "s", .x = {0, 1}, .y = {0, 1}, .color = color}}).markup;
  };
  CHECK(chart(2).find("stroke-dasharray") == std::string::npos);
  for (const int pattern : {1, 2, 9}) {
    const std::string dashes = concat("stroke-dasharray=\"", inner::patterns[pattern], "\"");
    const std::string svg = chart(inner::patterned(2, pattern));
    CHECK(svg.find("class=\"lpf-c2\"") != std::string::npos);
    const std::size_t first = svg.find(dashes);
    REQUIRE(first != std::string::npos);
    CHECK(svg.find(dashes, first + 1) != std::string::npos);
  }
}
