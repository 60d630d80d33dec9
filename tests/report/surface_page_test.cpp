#include "lpf/report/surface_page.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <string>

using namespace lpf;

namespace {

/// The data that the page's script calls `function` with.
nlohmann::json data_of(const std::string& page, const std::string& function) {
  const std::string call = "\n" + function + "(\"f";
  const std::size_t at = page.find(call);
  REQUIRE(at != page.npos);
  const std::size_t begin = page.find("\",", at) + 2, end = page.find(");\n", begin);
  REQUIRE(end != page.npos);
  return nlohmann::json::parse(page.substr(begin, end - begin));
}

}  // namespace

TEST_CASE("surface page: the script is given what was put in, and no text can end it") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string name = "a</script><b> \"λ\"\\ \xFF";
  const std::string page = SurfacePage("Title <1>", "landscape", "The <result>.")
                               .surfaces("One", "Words.",
                                         {{.name = name,
                                           .x = {0, 1},
                                           .y = {-0.5, 1.0 / 3},
                                           .height = {1, nan, 1e-20, 123456789},
                                           .path = {{0, 1}, {0.25, 0.5}}}})
                               .animation("Two", "Words.",
                                          {.x = {0, 1},
                                           .ghost = {1, 2},
                                           .names = {"SGD", "LPF"},
                                           .frames = {{.label = "<t>", .y = {3, 4}, .paths = {{0.5}, {}}}}})
                               .to_string();
  const auto surfaces = data_of(page, "surfaces");
  REQUIRE(surfaces.size() == 1);
  CHECK(surfaces[0].at("name") == "a</script><b> \"λ\"\\ \xEF\xBF\xBD");
  CHECK(surfaces[0].at("x") == nlohmann::json({0, 1}));
  CHECK(surfaces[0].at("y") == nlohmann::json({-0.5, 0.333333}));
  CHECK(surfaces[0].at("z") == nlohmann::json({1, nullptr, 1e-20, 1.23457e8}));
  CHECK(surfaces[0].at("path") == nlohmann::json({0, 1, 0.25, 0.5}));
  CHECK(surfaces[0].at("color") == nlohmann::json({"#1d242b", "#e8ecf0"}));  // of no method: the text's
  const auto animation = data_of(page, "animation");
  CHECK(animation.at("names") == nlohmann::json({"SGD", "LPF"}));
  CHECK(animation.at("colors")[0] == nlohmann::json({"#1c56be", "#7698ea"}));
  CHECK(animation.at("ghost") == nlohmann::json({1, 2}));
  CHECK(animation.at("frames")[0].at("label") == "<t>");
  CHECK(animation.at("frames")[0].at("paths") == nlohmann::json::parse("[[0.5],[]]"));
  CHECK(page.find(">The &lt;result&gt;.</p>") < page.find("<h2>One</h2>"));
  std::size_t ends = 0;
  for (std::size_t at = 0; (at = page.find("</script", at)) != page.npos; ++at) ++ends;
  CHECK(ends == 1);
}

TEST_CASE("surface page: heights, values and paths that do not fit are refused") {
  SurfacePage page("T", "c");
  CHECK_THROWS_AS(page.surfaces("", "", {{.name = "s", .x = {0, 1}, .y = {0, 1}, .height = {1, 2, 3}}}),
                  ShapeError);
  CHECK_THROWS_AS(
      page.animation(
          "", "", {.x = {0}, .ghost = {}, .names = {"a"}, .frames = {{.label = "f", .y = {1}, .paths = {}}}}),
      ShapeError);
}
