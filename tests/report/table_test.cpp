#include "lpf/report/table.hpp"

#include <doctest/doctest.h>

#include <clocale>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

using namespace lpf;

TEST_CASE("display_width counts columns, not bytes") {
  CHECK(display_width("") == 0);
  CHECK(display_width("abc") == 3);
  CHECK(display_width("4.88 ± 0.53") == 11);
  CHECK(display_width("γ λ θ") == 5);
  CHECK(display_width("e\u0301") == 1);
  CHECK(display_width("重み") == 4);
  CHECK(display_width("🙂") == 2);
  CHECK(display_width("\xFFz") == 2);     // invalid UTF-8: one column per byte
  CHECK(display_width("\xE2\x82") == 2);  // truncated
  CHECK(display_width("\xC0\xAF") == 2);  // overlong
  CHECK(display_width("\xE0\x80\xAF") == 3);
  CHECK(display_width("\xF0\x80\x80\xAF") == 4);
  CHECK(display_width("\xED\xA0\x80") == 3);      // half a surrogate pair
  CHECK(display_width("\xF4\x90\x80\x80") == 4);  // above U+10FFFF
}

TEST_CASE("clip_to_width cuts between code points") {
  CHECK(clip_to_width("λ_max", 2) == "λ_");
  CHECK(clip_to_width("重み", 3) == "重");
  CHECK(clip_to_width("abc", 9) == "abc");
  CHECK(clip_to_width("abc", 0).empty());
}

TEST_CASE("numbers") {
  CHECK(format_fixed(4.876, 2) == "4.88");
  CHECK(format_fixed(-0.001, 2) == "0.00");
  CHECK(format_fixed(-0.011, 2) == "-0.01");
  CHECK(format_fixed(1e300, 0).size() == 301);
  CHECK(format_fixed(std::numeric_limits<double>::quiet_NaN(), 2).find("nan") != std::string::npos);
  CHECK(format_fixed(-std::numeric_limits<double>::infinity(), 2) == "-inf");
  CHECK(format_general(0.00012345, 3) == "0.000123");
  CHECK(format_general(123456.0, 3) == "1.23e+05");
  CHECK_THROWS_AS(format_fixed(1, -1), ValueError);
  CHECK_THROWS_AS(format_fixed(1, 99), ValueError);
}

TEST_CASE("numbers do not follow the locale") {
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  for (const char* name : {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"}) std::setlocale(LC_NUMERIC, name);
  CHECK(format_fixed(1.5, 1) == "1.5");
  CHECK(format_general(1.5, 3) == "1.5");
  std::setlocale(LC_NUMERIC, before.c_str());
}

TEST_CASE("mean_sd is the sample standard deviation") {
  const MeanSd some = mean_sd(std::vector<double>{2, 4, 4, 4, 5, 5, 7, 9});
  CHECK(some.mean == doctest::Approx(5));
  CHECK(some.sd == doctest::Approx(std::sqrt(32.0 / 7)));
  CHECK(some.n == 8);
  const MeanSd far = mean_sd(std::vector<double>{1e9 + 1, 1e9 + 2, 1e9 + 3});
  CHECK(far.sd == doctest::Approx(1).epsilon(1e-6));
  const MeanSd one = mean_sd(std::vector<double>{3});
  CHECK(one.mean == 3);
  CHECK(std::isnan(one.sd));
  const MeanSd none = mean_sd(std::vector<double>{});
  CHECK(std::isnan(none.mean));
  CHECK(none.n == 0);
  CHECK(std::isnan(mean_sd(std::vector<double>{1, NAN}).mean));
}

TEST_CASE("format_mean_sd") {
  CHECK(format_mean_sd({.mean = 4.876, .sd = 0.531, .n = 5}) == "4.88 ± 0.53");
  CHECK(format_mean_sd({.mean = 4.876, .sd = 0.531, .n = 5}, 1) == "4.9 ± 0.5");
  CHECK(format_mean_sd(mean_sd(std::vector<double>{3})) == "3.00");
  CHECK(format_mean_sd({}) == "–");
}

TEST_CASE("a table lines up, with numbers to the right") {
  TextTable table({"optimizer", "error, %", "λ"});
  table.add_row({"SGD", "10.40 ± 0.92", "55"}).add_row({"LPF-SGD", "4.88 ± 0.53", "–"});
  table.add_rule().add_row({"γ = 0.1", "", "1e-3"});
  CHECK(table.to_string() ==
        "optimizer      error, %     λ\n"
        "─────────────────────────────\n"
        "SGD        10.40 ± 0.92    55\n"
        "LPF-SGD     4.88 ± 0.53     –\n"
        "─────────────────────────────\n"
        "γ = 0.1                  1e-3\n");
  CHECK(concat(table) == table.to_string());
}

TEST_CASE("names that begin with a digit are no numbers") {
  TextTable table({"net", "n", "step"});
  table.add_row({"64-128-10", "-3", "1.4×"}).add_row({"3x", "1.5e-3", "2×10⁻⁷"});
  CHECK(table.align(0) == Align::left);
  CHECK(table.align(1) == Align::right);
  CHECK(table.align(2) == Align::right);
}

TEST_CASE("table options") {
  TextTable table({"a", "b"}, {.align = {Align::right, Align::left}, .gap = 1, .ascii = true});
  table.add_row({"x", "10"}).add_row({"line\nbreak", "1"});
  CHECK(table.to_string() == "         a b\n-------------\n         x 10\nline break 1\n");
  TextTable bare({"a"}, {.rules = false});
  CHECK(bare.add_row({"1"}).add_rule().to_string() == "a\n1\n");
  CHECK(TextTable({"only"}).to_string() == "only\n────\n");
}

TEST_CASE("tables refuse what does not fit") {
  CHECK_THROWS_AS(TextTable({}), ShapeError);
  CHECK_THROWS_AS(TextTable({"a"}, {.align = {Align::left, Align::left}}), ShapeError);
  TextTable table({"a", "b"});
  CHECK_THROWS_WITH_AS(table.add_row({"1"}), "[TextTable] row has 1 cells, the header has 2 columns",
                       ShapeError);
}

static std::size_t widest_line(const std::string& text) {
  std::size_t widest = 0;
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    widest = std::max(widest, display_width(std::string_view(text).substr(at, end - at)));
  return widest;
}

TEST_CASE("in a narrow terminal names are broken into lines, and then columns go into further tables") {
  TextTable table(
      {"configuration", "best epoch, test error, %", "last epoch, test error, %", "training loss"});
  table.add_row({"lpf-sgd", "4.10 ± 0.25", "4.35 ± 0.30", "0.0123"})
      .add_row({"sgd", "5.10", "5.35", "0.0023"});
  CHECK(table.to_string(200) == table.to_string());
  CHECK(table.to_string(widest_line(table.to_string())) == table.to_string());
  const std::string sixty = table.to_string(60);
  CHECK(widest_line(sixty) <= 60);
  CHECK(sixty.find("best epoch,") != std::string::npos);
  CHECK(sixty.find("best epoch, test error, %") == std::string::npos);
  CHECK(sixty.find("lpf-sgd") == sixty.rfind("lpf-sgd"));  // one table
  const std::string forty = table.to_string(40);
  CHECK(widest_line(forty) <= 40);
  CHECK(forty.find("lpf-sgd") != forty.rfind("lpf-sgd"));
  for (const char* cell : {"4.10 ± 0.25", "4.35 ± 0.30", "0.0123", "5.35", "0.0023"})
    CHECK(forty.find(cell) != std::string::npos);
  CHECK(widest_line(table.to_string(1)) > 1);  // no cell is cut
  CHECK(TextTable({"only"}).add_row({"one column"}).to_string(6) == "only\n──────\none\ncolumn\n");
}

TEST_CASE("definitions and texts are broken between words") {
  CHECK(wrapped_text("one two three", 100) == std::vector<std::string>{"one two three"});
  CHECK(wrapped_text("one two three", 7) == std::vector<std::string>{"one two", "three"});
  CHECK(wrapped_text("unbreakable ±±", 4) == std::vector<std::string>{"unbreakable", "±±"});
  CHECK(wrapped_text("a\nb", 10) == std::vector<std::string>{"a b"});
  CHECK(definitions_text({{"loss", "the mean"}, {"error", "misread"}}, 80) ==
        "loss   the mean\nerror  misread\n");
  const std::string words = "images of the test set that are misread, in per cent of all";
  const std::string narrow = definitions_text({{"test error", words}, {"x", "y"}}, 40);
  CHECK(widest_line(narrow) <= 40);
  CHECK(narrow.find("\n            ") != std::string::npos);  // below the meaning
  CHECK(widest_line(definitions_text({{"a long name of a column", words}}, 30)) <= 30);
}
