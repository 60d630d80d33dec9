// Pairs of sentences from files: lines, compression, and errors with the number of the line.
#include "lpf/text/pairs.hpp"

#include "files.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;
using Lines = std::vector<std::string>;

TEST_CASE("lines of a file are sentences") {
  const TempDir dir;
  const std::string file = dir / "a.de";
  const auto read = [&](const std::string& bytes, text::ReadOptions options = {}) {
    write(file, bytes);
    return text::read_lines(file, options);
  };
  CHECK(read("") == Lines{});
  CHECK(read("\n") == Lines{""});
  CHECK(read("a\n\nb") == Lines{"a", "", "b"});
  CHECK(read(" a b\t\r\nc \u00a0\r\n") == Lines{"a b", "c"});
  CHECK(read(" a\t\r\nb\r", {.trim = false}) == Lines{" a\t", "b"});
  CHECK(read("\xEF\xBB\xBF"
             "Ähre\n\xEF\xBB\xBFz\n",
             {.lower_case = true}) == Lines{"ähre", "\xEF\xBB\xBFz"});
  CHECK(read("ÄÖÜ\n") == Lines{"ÄÖÜ"});
}

TEST_CASE("lines that are no text are named") {
  const TempDir dir;
  const std::string file = dir / "a.de";
  write(file, "gut\nein H\xFCndchen\n");
  CHECK_ERROR(text::read_lines(file), FormatError, "a.de', line 2: byte 6 is not UTF-8");
  write(file, std::string("gut\nschlecht\0er\n", 16));
  CHECK_ERROR(text::read_lines(file), FormatError, "a.de', line 2: has a zero byte");
  CHECK_ERROR(text::read_lines(dir / "none"), IOError, "none");
}

TEST_CASE("pairs: as many lines in both files") {
  const TempDir dir;
  const std::string de = dir / "t.de", en = dir / "t.en";
  write(de, "Eins\nZwei\n"), write(en, "One\nTwo");
  const text::Pairs pairs = text::read_pairs(de, en, {.lower_case = true});
  CHECK(pairs.source == Lines{"eins", "zwei"});
  CHECK(pairs.target == Lines{"one", "two"});
  CHECK(pairs.size() == 2);
  write(en, "One\n");
  CHECK_ERROR(text::read_pairs(de, en), FormatError, "t.de' has 2 lines and",
              "t.en' has 1: line 2 is in one");
  CHECK_ERROR(text::read_pairs(en, de), FormatError, "line 2 is in one");
}

#ifdef LPF_HAS_ZLIB
TEST_CASE("packed pairs are unpacked on the way") {
  const TempDir dir;
  const std::string de = dir / "t.de.gz", en = dir / "t.en.gz";
  write(de, gzip("Eins\nZwei\n")), write(en, gzip("One\nTw\xC3\n"));
  CHECK(text::read_lines(de) == Lines{"Eins", "Zwei"});
  CHECK_ERROR(text::read_pairs(de, en), FormatError, "t.en.gz', line 2: byte 3 is not UTF-8");
  const std::string whole = gzip("Eins\nZwei\n");
  write(de, whole.substr(0, whole.size() - 5));
  CHECK_ERROR(text::read_lines(de), FormatError, "t.de.gz': the gzip data are truncated");
}
#endif
