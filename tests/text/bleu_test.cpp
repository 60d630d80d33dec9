// UTF-8, white space and lower case as Python's; tokens and BLEU as sacrebleu's (fixtures/make_text_fixtures.py).
#include "lpf/text/bleu.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

const nlohmann::json& text_fixtures() {
  static const nlohmann::json all = nlohmann::json::parse(std::ifstream(fixture("text.json")));
  return all;
}

std::string utf8(char32_t c) {
  std::string out;
  text::detail::append_code_point(out, c);
  return out;
}

}  // namespace

TEST_CASE("UTF-8: what is valid, and where it ends to be") {
  for (const char* good : {"", "a", "\u00e4\u00df", "\u20ac", "\U0001f600", "\U0010ffff", "\u0800",
                           "\u007f\u0080\u07ff", "\ud7ff\ue000"})
    CHECK(!text::invalid_utf8(good));
  const std::vector<std::pair<std::string, std::size_t>> bad{{"\x80", 0},
                                                             {"ab\xFF", 2},
                                                             {"a\xC3", 1},
                                                             {"\xC0\xAF", 0},
                                                             {"\xC1\xBF", 0},
                                                             {"\xE0\x9F\xBF", 0},
                                                             {"\xED\xA0\x80", 0},
                                                             {"\xED\xBF\xBF", 0},
                                                             {"\xE2\x82", 0},
                                                             {"\xF0\x8F\xBF\xBF", 0},
                                                             {"\xF4\x90\x80\x80", 0},
                                                             {"\xF5\x80\x80\x80", 0},
                                                             {"\u00e4\xC3(", 2},
                                                             {"\xF0\x9F\x98", 0},
                                                             {"x\u00e4\xE2\x28\xA1", 3}};
  for (const auto& [bytes, at] : bad) CHECK(text::invalid_utf8(bytes) == at);
  for (char32_t c = 1; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const auto found = lpf::detail::first_code_point(utf8(c));
    REQUIRE(found.code == c);
    REQUIRE(found.bytes == utf8(c).size());
  }
}

TEST_CASE("lower case is Unicode's simple mapping, in any locale") {
  const std::string upper = text_fixtures().at("upper"), lower = text_fixtures().at("lower");
  CHECK(text::lower_case(upper) == lower);
  CHECK(text::lower_case(lower) == lower);
  CHECK(text::lower_case("ÄÖÜ ẞ ß ÉÇ ΣΑΣ ДЖ 123 ÿŸ") == "äöü ß ß éç σασ дж 123 ÿÿ");
  CHECK(text::lower_case("İ\xFF"
                         "A\xC3") ==
        "i\xFF"
        "a\xC3");
  // What has no lower case stays: all code points that are not in the fixture.
  std::string others, all = upper;
  for (char32_t c = 1; c < 0x20000; ++c)
    if ((c < 0xD800 || c >= 0xE000) && c != 0x130 && all.find(utf8(c)) == all.npos) others += utf8(c);
  CHECK(text::lower_case(others) == others);
}

TEST_CASE("white space is Python's") {
  std::vector<int> spaces;
  for (int c = 0; c < 0x110000; ++c)
    if (text::is_space(static_cast<char32_t>(c))) spaces.push_back(c);
  CHECK(spaces == text_fixtures().at("spaces").get<std::vector<int>>());
  CHECK(text::trim(" \u00a0 a b\t\u3000\r\n") == "a b");
  CHECK(text::trim_end(" a b \u2009") == " a b");
  CHECK(text::trim(" \t ").empty());
  CHECK(text::words("a\u00a0b  \xFF c") == std::vector<std::string_view>{"a", "b", "\xFF", "c"});
}

TEST_CASE("tokens of 13a are sacrebleu's") {
  std::size_t lines = 0;
  for (const auto& line : text_fixtures().at("tokens")) {
    INFO(line.dump());
    CHECK(text::tokenize_13a(line[0].get<std::string>()) == line[1].get<std::string>());
    ++lines;
  }
  CHECK(lines > 400);
}

TEST_CASE("BLEU of a corpus is sacrebleu's to the digit") {
  for (const auto& c : text_fixtures().at("bleu")) {
    INFO(c.at("name").get<std::string>(), " ", c.at("text").get<std::string>());
    const auto translations = c.at("translations").get<std::vector<std::string>>();
    const auto references = c.at("references").get<std::vector<std::string>>();
    const text::BLEU bleu = text::corpus_bleu(translations, references, {.lower_case = c.at("lower_case")});
    CHECK(bleu.score == doctest::Approx(c.at("score").get<double>()).epsilon(1e-13));
    CHECK(bleu.brevity_penalty == c.at("brevity_penalty").get<double>());
    CHECK(bleu.correct == c.at("correct").get<std::array<std::int64_t, 4>>());
    CHECK(bleu.total == c.at("total").get<std::array<std::int64_t, 4>>());
    CHECK(bleu.precisions == c.at("precisions").get<std::array<double, 4>>());
    CHECK(bleu.length == c.at("length").get<std::int64_t>());
    CHECK(bleu.reference_length == c.at("reference_length").get<std::int64_t>());
    CHECK(bleu.to_string() == c.at("text").get<std::string>());
  }
  const std::vector<std::string> one{"a"}, two{"a", "b"}, none;
  CHECK_ERROR(text::corpus_bleu(one, two), ValueError, "corpus_bleu", "got 1 translations and 2 references");
  CHECK_ERROR(text::corpus_bleu(none, none), ValueError, "at least one");
}
