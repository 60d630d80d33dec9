// The scatter chart as pixels: dots at the values, text in capitals, errors for wrong input.
#include "lpf/report/raster_chart.hpp"

#include "tensor_test.hpp"

namespace lpf::test {
namespace {

using plot::Series;

std::array<int, 3> pixel(const Tensor& image, std::int64_t x, std::int64_t y) {
  const auto* p = image.data<std::uint8_t>() + (y * image.size(1) + x) * 3;
  return {p[0], p[1], p[2]};
}
std::int64_t count(const Tensor& image, std::array<int, 3> color) {
  std::int64_t n = 0;
  for (std::int64_t y = 0; y < image.size(0); ++y)
    for (std::int64_t x = 0; x < image.size(1); ++x) n += pixel(image, x, y) == color;
  return n;
}
constexpr std::array<int, 3> blue{0x1c, 0x56, 0xbe}, orange{0xda, 0x7a, 0x0b}, white{255, 255, 255};

TEST_CASE("raster_chart: a dot stands where the axes put its value") {
  // Limits 0 … 1 on both axes; the frame is [90, width − 20] × [60, height − 60].
  const plot::ChartOptions o{
      .x = {.min = 0, .max = 1}, .y = {.min = 0, .max = 1}, .width = 510, .height = 320};
  const Tensor image = plot::scatter_picture({Series{.x = {0.5}, .y = {0.25}}}, o);
  CHECK(image.shape() == Shape{320, 510, 3});
  CHECK(pixel(image, 290, 210) == blue);
  CHECK(pixel(image, 290, 205) != blue);
  CHECK(pixel(image, 295, 210) != blue);
  const std::int64_t dot = count(image, blue);
  CHECK(dot > 30);
  CHECK(dot < 50);  // π 3.5² = 38
  const Tensor two =
      plot::scatter_picture({Series{.x = {0.5}, .y = {0.25}}, Series{.x = {0.1, 0.9}, .y = {0.9, 0.9}}}, o);
  CHECK(count(two, blue) == dot);
  CHECK(count(two, orange) == 2 * dot);
}

TEST_CASE("raster_chart: on a logarithmic axis decades are even, and what is not positive is left out") {
  const plot::ChartOptions o{.x = {.scale = plot::Scale::log, .min = 1, .max = 100},
                             .y = {.min = 0, .max = 1},
                             .width = 510,
                             .height = 320};
  const Tensor image =
      plot::scatter_picture({Series{.x = {10, 0, -1, not_a_number}, .y = {0.5, 0.5, 0.5, 0.5}}}, o);
  CHECK(pixel(image, 290, 160) == blue);
  CHECK(count(image, blue) < 50);
}

TEST_CASE("raster_chart: text is drawn dot by dot and cut at the edge") {
  plot::detail::Pixels pixels(40, 30);
  pixels.text(2, 3, "1", 1, {0, 0, 0});  // 026227: .1. / 11. / .1. / .1. / 111
  const Tensor image = pixels.image();
  const char* rows[] = {".#.", "##.", ".#.", ".#.", "###"};
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 3; ++x)
      CHECK((pixel(image, 2 + x, 3 + y) == std::array<int, 3>{0, 0, 0}) == (rows[y][x] == '#'));
  CHECK(count(image, white) == 40 * 30 - 8);
  pixels.text(38, 28, "W", 4, {0, 0, 0});
  pixels.text(-8, -8, "W", 4, {0, 0, 0});
  for (const char c : std::string("abcxyzABCXYZ0189.,-+=/%():_")) CHECK(plot::detail::glyph(c) != 0);
}

TEST_CASE("raster_chart: no data is a picture all the same; wrong sizes are refused") {
  CHECK(plot::scatter_picture({Series{}}).shape() == Shape{400, 720, 3});
  CHECK_ERROR(plot::scatter_picture({Series{.name = "a", .x = {1, 2}, .y = {1}}}), ShapeError,
              "'a' has 2 x and 1 y");
  CHECK_ERROR(plot::scatter_picture({Series{}}, {.width = 10}), ValueError, "200 … 8192");
}

}  // namespace
}  // namespace lpf::test
