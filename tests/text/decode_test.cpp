// Greedy decoding and beam search against exhaustive search on models made by hand.
#include "lpf/text/decode.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;
using text::Tokens;

namespace {

/// A model whose logits are a function of the sentence and all its tokens so far; it remembers them as rows.
struct HandMade {
  using Logits = std::function<std::vector<double>(std::int64_t sentence, const Tokens& tokens)>;
  Logits logits;
  std::vector<std::pair<std::int64_t, Tokens>> rows = {};
  std::vector<std::int64_t> sizes = {};  // rows in each call

  HandMade(std::int64_t sentences, Logits f) : logits(std::move(f)) {
    for (std::int64_t i = 0; i < sentences; ++i) rows.push_back({i, {}});
  }
  Tensor next(const Tensor& tokens) {
    std::vector<double> out;
    std::int64_t pieces = 0;
    REQUIRE(tokens.numel() == std::ssize(rows));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i].second.push_back(static_cast<std::int32_t>(tokens.data<std::int64_t>()[i]));
      const auto l = logits(rows[i].first, rows[i].second);
      out.insert(out.end(), l.begin(), l.end());
      pieces = std::ssize(l);
    }
    sizes.push_back(std::ssize(rows));
    return from_vector(out, {std::ssize(rows), pieces});
  }
  void select(const Tensor& keep) {
    std::vector<std::pair<std::int64_t, Tokens>> next;
    for (const auto i : keep.to_vector<std::int64_t>()) next.push_back(rows.at(static_cast<std::size_t>(i)));
    rows = std::move(next);
  }
};

/// Random logits of 6 pieces that depend on everything before; pad, unknown and begin are impossible.
std::vector<double> random_logits(std::int64_t sentence, const Tokens& tokens) {
  std::int64_t code = 7 + sentence;
  for (const auto t : tokens) code = code * 6 + t;
  std::vector<double> out(6);
  for (std::int64_t k = 0; k < 6; ++k)
    out[static_cast<std::size_t>(k)] =
        k < 3 ? -infinity
              : 3.0 * static_cast<double>(word_at({.seed = 11}, code % 100'000'000 * 6 + k)) / 4294967296.0;
  return out;
}

double log_softmax_at(const std::vector<double>& logits, std::int32_t k) {
  double total = 0;
  for (const double l : logits) total += std::exp(l);
  return logits[static_cast<std::size_t>(k)] - std::log(total);
}

/// The best sequence of at most `limit` tokens, by trying all.
struct Exhaustive {
  const HandMade::Logits& f;
  std::int64_t sentence, limit;
  double power;
  Tokens best = {};
  double score = -infinity;

  void search(Tokens tokens, double log_probability) {
    const auto take = [&](const Tokens& t, std::size_t n, double lp) {
      const double s = lp / std::pow(static_cast<double>(n), power);
      if (s > score) score = s, best = Tokens(t.begin() + 1, t.end());
    };
    const auto logits = f(sentence, tokens);
    for (std::int32_t k = 3; k < 6; ++k) {
      const double lp = log_probability + log_softmax_at(logits, k);
      if (k == text::SpecialTokens::end) {
        take(tokens, tokens.size(), lp);
        continue;
      }
      Tokens longer = tokens;
      longer.push_back(k);
      if (std::ssize(longer) - 1 == limit)
        take(longer, longer.size() - 1, lp);
      else
        search(std::move(longer), lp);
    }
  }
};

/// Beam search of one sentence as it is defined, over all continuations.
Tokens plain_beam(const HandMade::Logits& f, std::int64_t sentence, std::int64_t limit, std::size_t width,
                  double power) {
  struct Path {
    Tokens tokens;
    double log_probability = 0;
  };
  std::vector<Path> alive{{{text::SpecialTokens::begin}}};
  std::vector<std::pair<double, Tokens>> finished;
  const auto finish = [&](const Path& p, std::size_t n) {
    finished.push_back({p.log_probability / std::pow(static_cast<double>(n), power),
                        Tokens(p.tokens.begin() + 1, p.tokens.end())});
  };
  while (!alive.empty()) {
    std::vector<Path> all;
    for (const Path& p : alive)
      for (std::int32_t k = 0; k < 6; ++k) {
        all.push_back({p.tokens, p.log_probability + log_softmax_at(f(sentence, p.tokens), k)});
        all.back().tokens.push_back(k);
      }
    std::stable_sort(all.begin(), all.end(),
                     [](const Path& a, const Path& b) { return a.log_probability > b.log_probability; });
    for (std::size_t i = 0; i < std::min(width, all.size()); ++i)
      if (all[i].tokens.back() == text::SpecialTokens::end)
        finish({Tokens(all[i].tokens.begin(), all[i].tokens.end() - 1), all[i].log_probability},
               all[i].tokens.size() - 1);
    std::erase_if(all, [](const Path& p) { return p.tokens.back() == text::SpecialTokens::end; });
    all.resize(std::min(all.size(), width));
    alive = std::move(all);
    const auto length = static_cast<std::int64_t>(alive[0].tokens.size()) - 1;
    if (length == limit) {
      for (const Path& p : alive) finish(p, static_cast<std::size_t>(length));
      break;
    }
    double best = -infinity;
    for (const auto& one : finished) best = std::max(best, one.first);
    const double hope = alive[0].log_probability / std::pow(static_cast<double>(limit), power);
    if (finished.size() >= width || (!finished.empty() && best >= hope)) break;
  }
  std::stable_sort(finished.begin(), finished.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  return finished[0].second;
}

}  // namespace

TEST_CASE("beam search is its definition, whatever the width") {
  std::vector<std::int64_t> limits;
  for (std::int64_t i = 0; i < 40; ++i) limits.push_back(1 + i % 9);
  const HandMade::Logits f = random_logits;
  for (const std::int64_t width : {1, 2, 3, 4, 7})
    for (const double power : {0.0, 0.7, 1.5}) {
      HandMade model(40, f);
      const auto found = text::beam_search(model, limits, {.width = width, .length_power = power});
      for (std::size_t i = 0; i < limits.size(); ++i) {
        INFO("sentence ", i, " width ", width, " power ", power);
        CHECK(found[i] ==
              plain_beam(f, static_cast<std::int64_t>(i), limits[i], static_cast<std::size_t>(width), power));
      }
    }
}

TEST_CASE("a wide beam finds the best sequence of all") {
  const HandMade::Logits f = random_logits;
  const std::vector<std::int64_t> limits{5, 1, 4, 6, 0, 3};
  for (const double power : {0.0, 1.0, 0.6}) {
    HandMade model(6, f);
    const auto found = text::beam_search(model, limits, {.width = 64, .length_power = power});
    int not_greedy = 0;
    HandMade again(6, f);
    const auto first = text::greedy(again, limits);
    for (std::size_t i = 0; i < limits.size(); ++i) {
      if (limits[i] == 0) {
        CHECK(found[i].empty());
        continue;
      }
      Exhaustive all{f, static_cast<std::int64_t>(i), limits[i], power};
      all.search({text::SpecialTokens::begin}, 0);
      INFO("sentence ", i, " power ", power);
      CHECK(found[i] == all.best);
      not_greedy += first[i] != all.best;
    }
    CHECK(not_greedy > 0);  // so that there is something to find
  }
}

TEST_CASE("a beam of width 1 is greedy decoding") {
  const std::vector<std::int64_t> limits{9, 3, 12, 1, 7, 30, 2};
  HandMade a(7, random_logits), b(7, random_logits);
  CHECK(text::beam_search(a, limits, {.width = 1}) == text::greedy(b, limits));
  // Equal logits: the lowest piece, in both.
  const auto equal = [](std::int64_t, const Tokens& t) {
    return t.size() < 4 ? std::vector<double>{-1, -1, -1, 0.25, 0.5, 0.5}
                        : std::vector<double>{0, 0, 0, 7, 7, 7};
  };
  HandMade c(2, equal), d(2, equal);
  const std::vector<std::int64_t> two{9, 2};
  const std::vector<Tokens> expected{{4, 4, 4}, {4, 4}};
  CHECK(text::beam_search(c, two, {.width = 1}) == expected);
  CHECK(text::greedy(d, two) == expected);
}

TEST_CASE("finished sentences take no further part") {
  // Sentence i ends after i + 1 tokens.
  const auto f = [](std::int64_t sentence, const Tokens& t) {
    return std::ssize(t) > sentence + 1 ? std::vector<double>{0, 0, 0, 9, 0}
                                        : std::vector<double>{0, 0, 0, 0, 9};
  };
  HandMade model(4, f);
  const std::vector<std::int64_t> limits{20, 20, 20, 3};
  CHECK(text::greedy(model, limits) == std::vector<Tokens>{{4}, {4, 4}, {4, 4, 4}, {4, 4, 4}});
  CHECK(model.sizes == std::vector<std::int64_t>{4, 4, 3, 1});
  HandMade beam(4, f);
  CHECK(text::beam_search(beam, limits, {.width = 2}) ==
        std::vector<Tokens>{{4}, {4, 4}, {4, 4, 4}, {4, 4, 4}});
  CHECK(beam.sizes.back() <= 2);
  CHECK(beam.sizes[0] == 4);
}

TEST_CASE("a sentence's translation does not depend on the others of its batch") {
  std::vector<std::int64_t> limits{8, 8, 8, 8, 8};
  HandMade together(5, random_logits);
  const auto all = text::beam_search(together, limits, {.width = 3});
  for (std::int64_t i = 0; i < 5; ++i) {
    HandMade alone(1, [&](std::int64_t, const Tokens& t) { return random_logits(i, t); });
    CHECK(text::beam_search(alone, std::vector<std::int64_t>{8}, {.width = 3})[0] ==
          all[static_cast<std::size_t>(i)]);
  }
}

TEST_CASE("a wider beam never has a worse score where it ends with the exhaustive one") {
  // The trap: the likeliest first token leads nowhere.
  const auto trap = [](std::int64_t, const Tokens& t) -> std::vector<double> {
    if (t.size() == 1) return {-50, -50, -50, -50, std::log(0.6), std::log(0.4)};
    if (t[1] == 4) return {-50, -50, -50, std::log(0.34), std::log(0.33), std::log(0.33)};
    return {-50, -50, -50, std::log(0.98), std::log(0.01), std::log(0.01)};
  };
  HandMade greedy(1, trap), wide(1, trap);
  const std::vector<std::int64_t> limit{6};
  CHECK(text::greedy(greedy, limit)[0] == Tokens{4});
  CHECK(text::beam_search(wide, limit, {.width = 2})[0] == Tokens{5});
}

TEST_CASE("what decoding refuses") {
  const std::vector<std::int64_t> limits{3};
  HandMade model(1, random_logits), nan(1, [](auto, auto&) { return std::vector<double>(6, not_a_number); });
  CHECK_ERROR(text::beam_search(model, limits, {.width = 0}), ValueError, "width must be from 1");
  CHECK_ERROR(text::beam_search(model, limits, {.length_power = -1}), ValueError, "length_power");
  CHECK_ERROR(text::beam_search(nan, limits), ValueError, "NaN");
  HandMade again(1, [](auto, auto&) { return std::vector<double>(6, not_a_number); });
  CHECK_ERROR(text::greedy(again, limits), ValueError, "NaN");
  text::TokenBatch batch;
  batch.source_lengths = {3, 1};
  CHECK(text::length_limits(batch) == std::vector<std::int64_t>{13, 11});
}
