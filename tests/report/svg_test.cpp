#include "lpf/report/svg.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

using namespace lpf;
using namespace lpf::plot;
namespace inner = lpf::plot::detail;

namespace {

constexpr double quiet_nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

// Elements nested correctly, attributes quoted, no NaN or infinity: valid for an XML reader.
bool well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (std::size_t i = 0; i < xml.size(); ++i) {
    if (xml[i] == '&' && xml.substr(i, 12).find(';') == std::string::npos) return false;
    if (xml[i] == '>') return false;
    if (xml[i] != '<') continue;
    std::size_t end = i + 1;
    for (bool quoted = false; end < xml.size() && (quoted || xml[end] != '>'); ++end) {
      if (xml[end] == '"') quoted = !quoted;
      if (xml[end] == '<') return false;
    }
    const std::string tag = xml.substr(i + 1, end - i - 1);
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    i = end;
  }
  return open.empty() && xml.find("=\"nan") == xml.npos && xml.find("Mnan") == xml.npos &&
         xml.find("inf\"") == xml.npos && xml.find(" nan") == xml.npos;
}

std::vector<std::string> labels(double low, double high, AxisOptions options = {}, int target = 6) {
  inner::Extent data{.scale = options.scale};
  data.add(low), data.add(high);
  std::vector<std::string> out;
  for (const auto& tick : inner::Axis(data, options, target, 0).ticks) out.push_back(tick.second);
  return out;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("ticks stand at round values") {
  CHECK(labels(0, 60) == Words{"0", "10", "20", "30", "40", "50", "60"});
  CHECK(labels(-1, 1) == Words{"−1", "0", "1"});  // integers only
  CHECK(labels(-1, 0.999, {}, 5) == Words{"−1.0", "−0.5", "0", "0.5"});
  CHECK(labels(0.1, 0.3, {}, 3) == Words{"0.1", "0.2", "0.3"});
  CHECK(labels(1, 2) == Words{"1", "2"});
  CHECK(labels(0, 3e-5, {}, 3) == Words{"0", "10⁻⁵", "2×10⁻⁵", "3×10⁻⁵"});
  CHECK(labels(-2e7, 2e7, {}, 4) == Words{"−2×10⁷", "−10⁷", "0", "10⁷", "2×10⁷"});
  CHECK(labels(0.9, 1.1, {}, 2) == Words{"0.9", "1.0", "1.1"});
  const AxisOptions log{.scale = Scale::log};
  CHECK(labels(0.001, 1000, log) == Words{"0.001", "0.01", "0.1", "1", "10", "100", "1000"});
  CHECK(labels(1e-6, 1e6, log) == Words{"10⁻⁶", "10⁻⁴", "0.01", "1", "100", "10000", "10⁶"});
  CHECK(labels(0.1, 5, log) == Words{"0.1", "0.2", "0.5", "1", "2", "5"});
  CHECK(labels(1.5, 3.5, log, 4) == Words{"1.5", "2.0", "2.5", "3.0", "3.5"});
}

TEST_CASE("axes of any data are finite and have ticks") {
  for (const Scale scale : {Scale::linear, Scale::log})
    for (const auto& limits : {std::pair{1e16, 1e16 + 2},
                               {5.0, 5.0},
                               {0.0, 0.0},
                               {-3.0, -3.0},
                               {1e-320, 1e-310},
                               {1e250, 1e300},
                               {1e199, 1e199},
                               {-9e199, 9e199},
                               {1e-199, 9e199},
                               {0.3, 0.3},
                               {1.0, 1.0 + 1e-15},
                               {infinity, quiet_nan},
                               {1e-190, 2e-190}}) {
      const double low = limits.first, high = limits.second;
      CAPTURE(low);
      CAPTURE(high);
      inner::Extent data{.scale = scale};
      data.add(low), data.add(high);
      const inner::Axis axis(data, {.scale = scale}, 6, .05);
      CHECK(axis.low < axis.high);
      CHECK(std::isfinite(axis.at(low)));
      CHECK(axis.ticks.size() >= 1);
      CHECK(axis.ticks.size() <= 20);
    }
}

TEST_CASE("limits that are given hold; those that cannot hold are errors") {
  inner::Extent data;
  data.add(2), data.add(3);
  const inner::Axis axis(data, {.min = 0, .max = 10}, 5, .05);
  CHECK(axis.low == 0);
  CHECK(axis.high == 10);
  CHECK(axis.at(2) == doctest::Approx(.2));
  CHECK(inner::Axis(data, {.min = 7}, 5, 0).high > 7);
  CHECK(inner::Axis(data, {.max = 1}, 5, 0).low < 1);
  CHECK(inner::Axis(data, {.min = 1e16, .max = 1e16 + 4}, 5, 0).ticks.size() <= 50);  // terminates
  CHECK_THROWS_AS(inner::Axis(data, {.min = 3, .max = 3}, 5, 0), ValueError);
  CHECK_THROWS_AS(inner::Axis(data, {.scale = Scale::log, .min = 0}, 5, 0), ValueError);
  CHECK_THROWS_AS(inner::Axis(data, {.min = infinity}, 5, 0), ValueError);
}

TEST_CASE("a line chart: curves, bands, gaps, a lone point") {
  const std::vector<double> x{1, 2, 3, 4, 5, 6};
  const Series with_gap{.name = "SGD", .x = x, .y = {1, 2, quiet_nan, 4, infinity, 6}};
  const Series band{
      .name = "LPF-SGD", .x = x, .y = x, .low = {0, 1, 2, quiet_nan, 4, 5}, .high = {2, 3, 4, 5, 6, 7}};
  const std::string svg = line_chart({with_gap, band}, {.title = "Loss", .y = {.title = "loss"}}).markup;
  CHECK(well_formed(svg));
  CHECK(count(svg, "fill=\"none\"") == 2);       // 1–2, and the whole second curve
  CHECK(count(svg, "z\"/>") == 2);               // two parts of the band
  CHECK(count(svg, "<title>SGD</title>") == 3);  // the line, and two lone points
  CHECK(count(svg, "class=\"lpf-hit\"") == 4 + 6);
  CHECK(svg.find("<title>LPF-SGD\nx 2: 2 (1 to 3)</title>") != svg.npos);
}

TEST_CASE("coordinates") {
  const ChartOptions options{.x = {.min = 0, .max = 1}, .y = {.min = 0, .max = 1}};
  const std::string svg = line_chart({{.x = {0, 1}, .y = {0, 1}}}, options).markup;
  CHECK(svg.find("d=\"M25.2 366.0L700.0 16.0\" fill=\"none\"") != svg.npos);
  CHECK(svg.find("viewBox=\"0 0 720.0 400.0\"") != svg.npos);
}

TEST_CASE("empty charts, single points, constants are fine") {
  for (const Scale scale : {Scale::linear, Scale::log}) {
    const ChartOptions options{.x = {.scale = scale}, .y = {.scale = scale}};
    for (const auto& chart : {line_chart({}, options), scatter_chart({}, options), line_chart({{}}, options),
                              line_chart({{.x = {1}, .y = {quiet_nan}}}, options), dot_chart({}, {}, options),
                              bar_chart(Words{"a"}, std::vector<Group>{{.value = {quiet_nan}}}, options)}) {
      CHECK(well_formed(chart.markup));
      CHECK(chart.markup.find(">no data<") != std::string::npos);
    }
    for (const double value : {5.0, 0.25, 1e16}) {
      const auto chart = line_chart({{.x = {value}, .y = {value}}}, options);
      CHECK(well_formed(chart.markup));
      CHECK(chart.markup.find(">no data<") == std::string::npos);
    }
  }
}

TEST_CASE("on a log axis what is not positive is a gap") {
  const std::vector<double> x{1, 2, 3, 4, 5};
  const Series s{.x = x, .y = {1, .1, 0, .1, .2}, .low = {.5, -.1, 0, .01, .1}, .high = {2, .3, .2, .2, .3}};
  const std::string svg = line_chart({s}, {.y = {.scale = Scale::log}}).markup;
  CHECK(well_formed(svg));
  CHECK(count(svg, "fill=\"none\"") == 2);
  CHECK(count(svg, "z\"/>") == 1);
}

TEST_CASE("many points do not make a large file, and extremes stay") {
  Series s;
  for (int i = 0; i < 200000; ++i) {
    s.x.push_back(i);
    s.y.push_back(i == 123456 ? 50 : std::sin(i * .7));
  }
  const inner::Run run = [&] {
    inner::Run out;
    for (std::size_t i = 0; i < s.x.size(); ++i) out.push_back({s.x[i] / 300, s.y[i]});
    return out;
  }();
  const inner::Run thin = inner::thinned(run);
  CHECK(thin.size() <= 4 * 667);
  double top = 0;
  for (const auto& p : thin) top = std::max(top, p.y);
  CHECK(top == 50);
  CHECK(thin.front().x == run.front().x);
  CHECK(thin.back().x == run.back().x);
  for (std::size_t i = 1; i < thin.size(); ++i) REQUIRE(thin[i].x >= thin[i - 1].x);
  CHECK(line_chart({s}).markup.size() < 60000);
}

TEST_CASE("series that do not fit") {
  CHECK_THROWS_AS(line_chart({{.x = {1, 2}, .y = {1}}}), ShapeError);
  CHECK_THROWS_AS(line_chart({{.x = {1}, .y = {1}, .low = {1}}}), ShapeError);
  CHECK_THROWS_AS(scatter_chart({{.x = {1}, .y = {1}, .low = {1, 2}, .high = {1, 2}}}), ShapeError);
  CHECK_THROWS_AS(bar_chart(Words{"a", "b"}, std::vector<Group>{{.value = {1}}}), ShapeError);
  CHECK_THROWS_AS(dot_chart(Words{"a"}, std::vector<Group>{{.value = {1}, .error = {1, 2}}}), ShapeError);
  CHECK_THROWS_AS(line_chart({}, {.width = 10}), ValueError);
  for (const double size : {quiet_nan, infinity, -infinity, 1e300, 0.0}) {
    CHECK_THROWS_AS(line_chart({}, {.height = size}), ValueError);
    CHECK_THROWS_AS(line_chart({}, {.width = size}), ValueError);
    CHECK_THROWS_AS(dot_chart({}, {}, {.height = size}), ValueError);
    CHECK_THROWS_AS(bar_chart(Words{"a"}, std::vector<Group>{{.value = {1}}}, {.width = size}), ValueError);
  }
  CHECK(inner::tick_label(0.5, 0, true) != "");  // of a step that is too small for a double
}

TEST_CASE("text is escaped") {
  const std::string evil = "<b>&\"'\x01\xFF";
  const Series s{.name = evil, .x = {1, 2}, .y = {1, 2}};
  const ChartOptions options{.title = evil, .description = evil, .x = {.title = evil}, .y = {.title = evil}};
  const Group g{.name = evil, .value = {1}, .error = {1}, .points = {{1, 2}}};
  for (const auto& chart : {line_chart({s}, options), scatter_chart({s}, options),
                            dot_chart(Words{evil}, std::vector{g}, options)}) {
    CHECK(well_formed(chart.markup));
    CHECK(chart.markup.find("<b>") == std::string::npos);
    CHECK(chart.markup.find('\x01') == std::string::npos);
    CHECK(chart.markup.find("&lt;b&gt;&amp;&quot;&#39;\xEF\xBF\xBD\xEF\xBF\xBD") != std::string::npos);
  }
}

TEST_CASE("what a reader who cannot see the chart is told") {
  const std::string svg =
      line_chart({{.name = "SGD"}, {.name = "SAM"}}, {.x = {.title = "epoch"}, .y = {.title = "loss"}})
          .markup;
  CHECK(svg.find("role=\"img\"") != svg.npos);
  CHECK(svg.find(">loss over epoch for SGD, SAM</desc>") != svg.npos);
  CHECK(line_chart({}, {.title = "T", .description = "D"}).markup.find(">D</desc>") != std::string::npos);
  // Two charts on one page have different ids.
  const auto id = [](const std::string& text) { return text.substr(text.find("id=\""), 24); };
  CHECK(id(svg) != id(line_chart({{.name = "LPF"}}).markup));
  CHECK(svg.find("prefers-color-scheme:dark") != svg.npos);
}

TEST_CASE("the legend wraps above the plot area and gives way to it") {
  std::vector<Series> many;
  for (int i = 0; i < 12; ++i)
    many.push_back({.name = concat("a rather long name, number ", i), .x = {1}, .y = {1}});
  const std::string svg = line_chart(many, {.height = 200}).markup;
  CHECK(well_formed(svg));
  const auto clip = svg.find("<svg x=");
  const double top = std::strtod(svg.c_str() + svg.find("y=\"", clip) + 3, nullptr);
  const auto last = svg.find(">a rather long name, number 11</text>");
  REQUIRE(last != svg.npos);
  const double legend = std::strtod(svg.c_str() + svg.rfind(" y=\"", last) + 4, nullptr);
  CHECK(legend + 4 < top);
  CHECK(svg.find("viewBox=\"0 0 720.0 200.0\"") == svg.npos);  // taller, so that there is room for a plot
}

TEST_CASE("dots and bars by category") {
  const Words categories{"clean", "20 % noise"};
  const std::vector<Group> groups{
      {.name = "SGD", .value = {2.9, 10.4}, .error = {.3, .9}, .points = {{2.8, 3}, {10}}},
      {.name = "SAM", .value = {2.6, quiet_nan}, .error = {quiet_nan, 1}}};
  const std::string dots = dot_chart(categories, groups).markup;
  CHECK(well_formed(dots));
  CHECK(count(dots, "fill-opacity=\".5\"") == 3);
  CHECK(count(dots, "stroke-width=\"1.6\"") == 2 * 3);
  CHECK(dots.find("<title>SGD\n20 % noise: 10.4 ± 0.9</title>") != dots.npos);
  CHECK(dots.find(">10.4</text>") != dots.npos);
  const std::string bars = bar_chart(categories, groups).markup;
  CHECK(well_formed(bars));
  CHECK(count(bars, "rx=\"1.5\"") == 3);
  CHECK(bars.find(">0</text>") != bars.npos);  // bars start at zero
  CHECK(well_formed(bar_chart(Words{"a"}, std::vector<Group>{{.value = {-3}}}).markup));
  CHECK(well_formed(
      bar_chart(Words{"a"}, std::vector<Group>{{.value = {3}}}, {.y = {.scale = Scale::log}}).markup));
}

TEST_CASE("long names of categories wrap, very long ones are cut and told in full") {
  CHECK(inner::wrapped("label noise", 200) == Words{"label noise"});
  CHECK(inner::wrapped("twenty percent label noise", 90) == Words{"twenty", "percent", "label noise"});
  CHECK(inner::wrapped("", 90) == Words{""});
  const auto cut = inner::wrapped(std::string(60, 'w'), 90);
  REQUIRE(cut.size() == 1);
  CHECK(inner::text_width(cut[0], 12) <= 90);
  CHECK(cut[0].ends_with("…"));
}

TEST_CASE("mean_band") {
  const std::vector<std::vector<double>> runs{{1, 2}, {3, quiet_nan}};
  const Series s = mean_band("SGD", {0, 1}, runs);
  CHECK(s.y[0] == 2);
  CHECK(s.high[0] == doctest::Approx(2 + std::sqrt(2)));
  CHECK(s.low[0] == doctest::Approx(2 - std::sqrt(2)));
  CHECK(std::isnan(s.y[1]));
  const std::vector<std::vector<double>> one{{5}};
  CHECK(mean_band("x", {0}, one).y[0] == 5);
  CHECK(std::isnan(mean_band("x", {0}, one).low[0]));
  CHECK(well_formed(line_chart({mean_band("x", {0}, one)}).markup));
  CHECK_THROWS_AS(mean_band("x", {0, 1}, one), ShapeError);
}

TEST_CASE("a matrix is cells with names") {
  const Words rows{"▁a", "<b>", "c"}, columns{"x", "y & z"};
  const std::vector<std::vector<double>> values{{0.25, 1}, {0, quiet_nan}, {2, 0.5}};
  const std::string svg = matrix_chart(values, rows, columns, {.title = "Attention"}).markup;
  CHECK(well_formed(svg));
  CHECK(count(svg, "fill-opacity=\"0.250\"") == 1);
  CHECK(count(svg, "fill-opacity=\"1.000\"") == 2);  // 1, and 2 cut to it
  CHECK(count(svg, "<rect") == 1 + 4);               // the background; 0 and NaN have no mark
  CHECK(count(svg, "&lt;b&gt; – x") == 0);
  CHECK(count(svg, "c – y &amp; z: 0.5") == 1);
  CHECK(count(svg, ">y &amp; z</text>") == 1);
  const Words many(400, "piece");
  CHECK(well_formed(
      matrix_chart(std::vector<std::vector<double>>(1, std::vector<double>(400, 0.5)), {{"r"}}, many)
          .markup));
  CHECK_THROWS_AS(matrix_chart(values, rows, {}), ValueError);
  CHECK_THROWS_AS(matrix_chart({}, {}, columns), ValueError);
  CHECK_THROWS_AS(matrix_chart({{std::vector<double>{1}}}, {{"r"}}, columns), ValueError);
}

TEST_CASE("lines that coincide are dashed in turn and named; others are not") {
  const std::vector<double> x{0, 1, 2, 3};
  const Series a{.name = "LPF", .x = x, .y = {1, .5, .2, .1}};
  const Series b{.name = "trace", .x = x, .y = {1, .5, .2, .1001}};
  const Series c{.name = "other", .x = x, .y = {1, .9, .8, .7}};
  const std::string svg = line_chart({a, b, c}).markup;
  CHECK(well_formed(svg));
  CHECK(svg.find(">LPF = trace<") != std::string::npos);
  CHECK(count(svg, "stroke-dasharray=\"9 9.0\"") == 2);
  CHECK(count(svg, "stroke-dashoffset=\"-9.0\"") == 1);
  CHECK(line_chart({a, c}).markup.find("dasharray") == std::string::npos);
  const Series point{.name = "a", .x = {1}, .y = {1}}, other{.name = "b", .x = {1}, .y = {1}};
  CHECK(line_chart({point, other}).markup.find("dasharray") == std::string::npos);  // of one point no line
}

TEST_CASE("on a log axis a band that reaches zero is as wide below the line as above") {
  const auto band = [](double low) {
    const Series s{.name = "s", .x = {0, 1}, .y = {10, 10}, .low = {low, low}, .high = {40, 40}};
    const Series range{.x = {0, 1}, .y = {.1, 1000}};
    const std::string svg = line_chart({s, range}, {.y = {.scale = Scale::log}}).markup;
    const std::size_t at = svg.find("<path d=\"M", svg.find("fill-opacity=\".16\""));
    return svg.substr(at, svg.find("z\"", at) - at);
  };
  CHECK(band(-1) == band(2.5));  // 10·10/40
  CHECK(band(0) == band(2.5));
  CHECK(band(5) != band(2.5));
}

TEST_CASE("a wide chart has a narrow one of the same for phones") {
  const Svg wide = line_chart({{.name = "s", .x = {0, 1}, .y = {0, 1}}}, {.title = "T"});
  CHECK(well_formed(wide.narrow));
  CHECK(wide.narrow.find("viewBox=\"0 0 380") != std::string::npos);
  CHECK(wide.narrow.find(">T<") != std::string::npos);
  const Series s{.x = {0, 1}, .y = {0, 1}};
  CHECK(line_chart({s}, {.width = 400}).narrow.empty());
}

TEST_CASE("an axis fitted to the end of the lines says how far their start reaches") {
  Series s{.name = "s"};
  for (int i = 1; i <= 30; ++i) s.x.push_back(i), s.y.push_back(i == 1 ? 90 : i < 8 ? 20 : 4);
  const auto chart = [&](AxisOptions y, std::vector<Series> all = {}) {
    all.push_back(s);
    return line_chart(all, {.y = y}).markup;
  };
  const std::string fitted = chart({.min = 0, .fit_end = true});
  CHECK(well_formed(fitted));
  CHECK(fitted.find("the start, up to 90<") != std::string::npos);
  CHECK(fitted.find(">5</text>") != std::string::npos);
  CHECK(fitted.find(">80</text>") == std::string::npos);
  CHECK(chart({.min = 0}).find(">80</text>") != std::string::npos);
  CHECK(chart({.min = 0}).find("the start") == std::string::npos);
  CHECK(chart({.max = 50, .fit_end = true}).find("the start") == std::string::npos);
  CHECK(chart({.scale = Scale::log, .fit_end = true}).find("the start") == std::string::npos);
  // A line that stays high needs the whole axis.
  const Series high{.name = "high", .x = {1, 30}, .y = {80, 70}};
  CHECK(chart({.min = 0, .fit_end = true}, {high}).find("the start") == std::string::npos);
}

TEST_CASE("error bars on a log axis end in the picture") {
  const ChartOptions log{.y = {.scale = Scale::log}};
  const auto lowest = [](const std::string& svg) {  // the largest y of a vertical line
    double out = 0;
    for (auto at = svg.find("<path d=\"M"); at != svg.npos; at = svg.find("<path d=\"M", at + 1)) {
      char* end = nullptr;
      const double x = std::strtod(svg.c_str() + at + 10, &end), y = std::strtod(end, &end);
      if (*end != 'L') continue;
      const double to_x = std::strtod(end + 1, &end), to_y = std::strtod(end, &end);
      if (x == to_x) out = std::max({out, y, to_y});
    }
    return out;
  };
  const std::vector<Group> groups{{.name = "g", .value = {1, 10}, .error = {2, 1}}};
  CHECK(lowest(dot_chart(Words{"a", "b"}, groups, log).markup) < 400);
  const Series s{.name = "s", .x = {1, 2}, .y = {1, 10}, .low = {-1, 9}, .high = {3, 11}};
  CHECK(lowest(scatter_chart({s}, log).markup) < 400);
  const Series bars{.name = "s",
                    .x = {1, quiet_nan, 2},
                    .y = {1, quiet_nan, 10},
                    .low = {-1, quiet_nan, 9},
                    .high = {3, quiet_nan, 11}};
  const std::string svg = line_chart({bars}, log).markup;
  CHECK(count(svg, "stroke-opacity=\"1\"") == 2);
  CHECK(lowest(svg) < 400);
}

TEST_CASE(
    "names of lines that coincide stay in the picture, on no other name and on no line where there is room") {
  std::vector<Series> all;
  const std::vector<double> x{0, 1, 2, 3, 4, 5};
  for (int i = 0; i < 6; ++i)
    all.push_back({.name = concat("a long name ", i), .x = x, .y = {1, 1, 1, 1, .9, .2}});
  for (int i = 0; i < 3; ++i)
    all.push_back({.name = concat("short ", i), .x = x, .y = {1, .9, .8, .6, .4, .2}});
  for (const double width : {720., 380.}) {
    const std::string svg = line_chart(all, {.width = width}).markup;
    CHECK(well_formed(svg));
    std::vector<inner::Label> labels;
    std::string words;
    const std::size_t end = svg.find("</g>", svg.find("paint-order"));
    for (auto at = svg.find("<text", svg.find("paint-order")); at < end; at = svg.find("<text", at + 1)) {
      const auto number = [&](const char* name) {
        return std::strtod(svg.c_str() + svg.find(name, at) + 4, nullptr);
      };
      const std::size_t begin = svg.find('>', at) + 1;
      const std::string text = svg.substr(begin, svg.find('<', begin) - begin);
      words += text + " ";
      labels.push_back({{text}, number(" x=\""), number(" y=\"") - 10, inner::text_width(text, 11.5), 12});
    }
    for (const Series& s : all) CHECK(words.find(s.name) != std::string::npos);
    for (std::size_t i = 0; i < labels.size(); ++i) {
      CHECK(labels[i].left >= 0);
      CHECK(labels[i].left + labels[i].width <= width);
      for (std::size_t j = 0; j < i; ++j) CHECK_FALSE(labels[i].overlaps(labels[j]));
    }
  }
}

TEST_CASE("lines of one colour that coincide are named") {
  const std::vector<double> x{0, 1, 2, 3}, y{4, 3, 2, 1};
  const int dashed = inner::patterned(2, 1);
  const std::string svg = line_chart({{.name = "test", .x = x, .y = y, .color = 2},
                                      {.name = "training", .x = x, .y = y, .color = dashed}})
                              .markup;
  CHECK(svg.find(">test = training<") != std::string::npos);
  CHECK(count(svg, "stroke-dasharray=\"6 4\"") == 2);  // its own pattern, and in the legend
}

TEST_CASE("a matrix of long sentences fits a phone, names and all") {
  const Words pieces(60, "piece");
  const Svg chart =
      matrix_chart(std::vector<std::vector<double>>(60, std::vector<double>(60, 0.5)), pieces, pieces);
  CHECK(well_formed(chart.narrow));
  CHECK(chart.narrow.find("viewBox=\"0 0 380") != std::string::npos);
  for (const std::string& svg : {chart.markup, chart.narrow}) {
    const double width = std::strtod(svg.c_str() + svg.find("viewBox=\"0 0 ") + 13, nullptr);
    const double size = std::strtod(svg.c_str() + svg.rfind("font-size=\"") + 11, nullptr);
    CHECK(size >= 7);
    // The name of the last column begins here and rises to the right.
    const double at = std::strtod(svg.c_str() + svg.rfind("<text x=\"") + 9, nullptr);
    CHECK(at + 0.67 * inner::text_width("piece", size) <= width);
  }
}
