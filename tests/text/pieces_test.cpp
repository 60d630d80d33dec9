// Subwords by sentencepiece: training, files, text and back.
#include "lpf_test.hpp"
#ifdef LPF_HAS_SENTENCEPIECE
#  include "files.hpp"
#  include "lpf/text/pieces.hpp"
#  include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

std::vector<std::string> some_sentences() {
  std::vector<std::string> out;
  for (int i = 0; i < 200; ++i) {
    out.push_back(concat("ein hund läuft ", i, " mal durch den schnee ."));
    out.push_back(concat("a dog runs ", i, " times through the snow ."));
  }
  return out;
}

}  // namespace

TEST_CASE("pieces give the text back, and are the same each time") {
  const auto sentences = some_sentences();
  const auto pieces = text::Pieces::train(sentences, {.vocabulary = 100}),
             again = text::Pieces::train(sentences, {.vocabulary = 100});
  CHECK(pieces.size() == 100);
  for (const std::string line : {"ein hund läuft 17 mal durch den schnee .", "a dog", "snow times 3", ""}) {
    const text::Tokens tokens = pieces.encode(line);
    CHECK(pieces.decode(tokens) == line);
    CHECK(again.encode(line) == tokens);
    CHECK(tokens.size() <= line.size());
    for (const auto t : tokens) CHECK((t > text::SpecialTokens::end && t < 100));
  }
  const text::Tokens framed{text::SpecialTokens::begin, pieces.encode("dog")[0], text::SpecialTokens::end,
                            text::SpecialTokens::pad};
  CHECK(pieces.decode(framed) == pieces.decode(std::vector<std::int32_t>{framed[1]}));
  CHECK(pieces.encode("日")[1] == text::SpecialTokens::unknown);
  CHECK(pieces.piece(text::SpecialTokens::pad) == "<pad>");
  CHECK(pieces.piece(pieces.encode("dog")[0]).starts_with("▁"));
}

TEST_CASE("pieces in a file") {
  const TempDir dir;
  const auto pieces = text::Pieces::train(some_sentences(), {.vocabulary = 80});
  pieces.save(dir / "p.model");
  const auto loaded = text::Pieces::load(dir / "p.model");
  CHECK(loaded.size() == 80);
  CHECK(loaded.encode("a dog runs") == pieces.encode("a dog runs"));
  loaded.save(dir / "q.model");
  CHECK(lpf::detail::read_file(dir / "p.model", "test") == lpf::detail::read_file(dir / "q.model", "test"));
  write(dir / "x", "no model");
  CHECK_ERROR(text::Pieces::load(dir / "x"), FormatError, "x' is no model of sentencepiece");
  CHECK_ERROR(text::Pieces::load(dir / "none"), IOError, "none");
  // A model with sentencepiece's own numbers for the special pieces.
  const auto sentences = some_sentences();
  text::detail::Sentences all(sentences);
  std::string foreign;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      std::unordered_map<std::string, std::string>{
          {"model_type", "bpe"}, {"vocab_size", "80"}, {"minloglevel", "2"}},
      &all, &foreign);
  REQUIRE(status.ok());
  write(dir / "foreign", foreign);
  CHECK_ERROR(text::Pieces::load(dir / "foreign"), FormatError,
              "foreign' has the number -1 for padding, need 0");
}

TEST_CASE("what pieces refuse") {
  const auto sentences = some_sentences();
  const auto pieces = text::Pieces::train(sentences, {.vocabulary = 80});
  CHECK_ERROR(pieces.piece(80), IndexError, "there is no piece 80: there are 80");
  CHECK_ERROR(pieces.decode(std::vector<std::int32_t>{5, -1}), IndexError, "there is no piece -1");
  CHECK_ERROR(pieces.encode("a\xFF"), FormatError, "not UTF-8");
  CHECK_ERROR(text::Pieces::train(sentences, {.vocabulary = 5}), ValueError, "vocabulary must be from 8");
  CHECK_ERROR(text::Pieces::train(sentences, {.vocabulary = 9}), ValueError,
              "9 pieces cannot be made of 400 sentences");
  CHECK_ERROR(text::Pieces::train(sentences, {.vocabulary = 100'000}), ValueError,
              "100000 pieces cannot be made");
  CHECK_ERROR(text::Pieces::train({}, {.vocabulary = 80}), ValueError,
              "nothing to make pieces of: 0 sentences");
}

TEST_CASE("pairs in pieces: those of 2 to 99") {
  const auto pieces = text::Pieces::train(some_sentences(), {.vocabulary = 80});
  const std::string many = [] {
    std::string out;
    for (int i = 0; i < 100; ++i) out += "0 ";
    return out;
  }();
  const std::size_t per_zero = pieces.encode("0 0").size() / 2;
  REQUIRE(per_zero >= 1);
  const text::Pairs pairs{{"a dog", "a", "", "dog runs", "a dog", many},
                          {"ein hund", "ein hund", "hund", "hund läuft", "", many}};
  const text::TokenPairs tokens = text::encode(pieces, pairs);
  CHECK(tokens.size() == 2);
  CHECK(pieces.decode(tokens.source[1]) == "dog runs");
  CHECK(pieces.decode(tokens.target[0]) == "ein hund");
  CHECK(text::encode(pieces, pairs, {.shortest = 0, .longest = 1000}).size() == 6);
}

#else
TEST_CASE("pieces") { lpf::test::skip("built without sentencepiece (on Debian: libsentencepiece-dev)"); }
#endif
