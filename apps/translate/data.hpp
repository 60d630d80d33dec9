// The sentences of a run: Multi30k or any pairs of files, or numbers and their names, which need none.
#pragma once

#include <filesystem>
#include <lpf/core/philox.hpp>
#include <lpf/text/pairs.hpp>

#include "settings.hpp"

namespace translate {

/// Sentences to train, validate and test on; there may be none to test on.
struct Sentences {
  text::Pairs train, validation, test;
};

namespace detail {

/// The English name of a number below 10,000: "four hundred seven".
inline std::string name_of_number(std::int64_t n) {
  static constexpr const char* small[] = {"zero",    "one",     "two",       "three",    "four",
                                          "five",    "six",     "seven",     "eight",    "nine",
                                          "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                          "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
  static constexpr const char* tens[] = {"twenty", "thirty",  "forty",  "fifty",
                                         "sixty",  "seventy", "eighty", "ninety"};
  const auto rest = [](std::int64_t r) { return r == 0 ? std::string() : " " + name_of_number(r); };
  if (n < 20) return small[n];
  if (n < 100) return tens[n / 10 - 2] + rest(n % 10);
  if (n < 1000) return concat(small[n / 100], " hundred", rest(n % 100));
  return concat(small[n / 1000], " thousand", rest(n % 1000));
}

/// 4 0 7 ⟶ four hundred seven, for numbers from 10 to 9,999 in an order that is always the same.
inline Sentences numbers() {
  Sentences out;
  const auto order = permutation(9990, {.seed = 2022, .purpose = Purpose::split});
  for (std::int64_t i = 0; i < 3400; ++i) {
    const std::int64_t n = 10 + order[static_cast<std::size_t>(i)];
    text::Pairs& to = i < 3000 ? out.train : i < 3200 ? out.validation : out.test;
    std::string digits;
    for (const char c : std::to_string(n)) digits += concat(digits.empty() ? "" : " ", c);
    to.source.push_back(digits), to.target.push_back(name_of_number(n));
  }
  return out;
}

/// The file of this beginning and language in a folder, plain or packed; the first by name of several.
inline std::string file_in(const std::string& folder, const std::string& begin, const std::string& language,
                           bool required) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(lpf::detail::path_of(folder))) {
    const std::string name = lpf::detail::text_of(entry.path().filename());
    for (const char* packed : {"", ".gz", ".xz"})
      if (name.starts_with(begin) && name.ends_with("." + language + packed))
        found.push_back(lpf::detail::text_of(entry.path()));
  }
  std::sort(found.begin(), found.end());
  check<IOError>(!found.empty() || !required, "translate", "'", folder, "' has no ", begin, ".", language,
                 " or ", begin, ".", language, ".gz: --data is a folder with train.", language, ", val.",
                 language, " and perhaps test….", language, ", and the same for the other language");
  return found.empty() ? "" : found.front();
}

/// "SOURCE,TARGET" as two names.
inline std::pair<std::string, std::string> two_files(const char* flag, const std::string& text) {
  const std::size_t comma = text.find(',');
  check(comma != text.npos && comma > 0 && comma + 1 < text.size() && text.find(',', comma + 1) == text.npos,
        "translate", "--", flag, " needs two names with a comma between, SOURCE,TARGET, got '", text, "'");
  return {text.substr(0, comma), text.substr(comma + 1)};
}

/// Moves pairs from training to validation, chosen by a key that is always the same.
inline void keep_for_validation(Sentences& all, std::int64_t n) {
  check(n >= 1 && n < all.train.size(), "translate", "--validation-pairs ", n, " cannot be kept from ",
        all.train.size(), " training pairs: name --validation-files, or another number");
  auto order = permutation(all.train.size(), {.seed = 2022, .purpose = Purpose::split});
  std::sort(order.begin() + n, order.end());
  text::Pairs train;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto from = static_cast<std::size_t>(order[i]);
    text::Pairs& to = i < static_cast<std::size_t>(n) ? all.validation : train;
    to.source.push_back(std::move(all.train.source[from])),
        to.target.push_back(std::move(all.train.target[from]));
  }
  all.train = std::move(train);
}

}  // namespace detail

/// Reads the sentences of a run. Throws what text::read_pairs() throws, IOError for a folder without them.
inline Sentences read_sentences(const Settings& s) {
  Sentences out;
  const text::ReadOptions options{.lower_case = s.lower_case};
  const auto read = [&](const std::pair<std::string, std::string>& files) {
    return text::read_pairs(files.first, files.second, options);
  };
  if (!s.train_files.empty()) {
    out.train = read(detail::two_files("train-files", s.train_files));
    if (!s.validation_files.empty())
      out.validation = read(detail::two_files("validation-files", s.validation_files));
    if (!s.test_files.empty()) out.test = read(detail::two_files("test-files", s.test_files));
    if (s.validation_files.empty()) detail::keep_for_validation(out, s.validation_pairs);
  } else if (s.data == "numbers") {
    out = detail::numbers();
  } else {
    check(!s.data.empty(), "translate",
          "there is nothing to train on: give --data, the folder of Multi30k (github.com/multi30k/dataset, "
          "data/task1/raw: "
          "train, val and test_2016_flickr in .de and .en, or packed as .de.gz and .en.gz), or "
          "--train-files, or try "
          "--data numbers, which needs no files");
    check<IOError>(std::filesystem::is_directory(lpf::detail::path_of(s.data)), "translate", "'", s.data,
                   "' is no folder: check --data");
    const auto pair_of = [&](const char* begin, bool required) {
      return std::pair{detail::file_in(s.data, begin, s.from, required),
                       detail::file_in(s.data, begin, s.to, required)};
    };
    out.train = read(pair_of("train", true));
    out.validation = read(pair_of("val", true));
    const auto test = pair_of("test", false);
    if (!test.first.empty() && !test.second.empty()) out.test = read(test);
  }
  if (s.train_pairs > 0 && s.train_pairs < out.train.size()) {
    out.train.source.resize(static_cast<std::size_t>(s.train_pairs));
    out.train.target.resize(static_cast<std::size_t>(s.train_pairs));
  }
  check(out.train.size() > 0 && out.validation.size() > 0, "translate", "there are ", out.train.size(),
        " pairs to train on and ", out.validation.size(), " to validate on: both need some");
  return out;
}

}  // namespace translate
