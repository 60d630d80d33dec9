// Batches of tokens: padding, shapes, buckets; each pair once an epoch; functions of seed, epoch and number.
#include "lpf/text/batches.hpp"

#include <set>

#include "lpf/ops/reduce.hpp"
#include "lpf/train/checkpoint.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;
using text::TokenLoader;
using text::Tokens;

namespace {

/// Pairs of 1 to 20 tokens; the first token of a source is 10 + its number.
text::TokenPairs token_pairs(std::int64_t n) {
  text::TokenPairs out;
  for (std::int64_t i = 0; i < n; ++i) {
    out.source.push_back(Tokens(static_cast<std::size_t>(1 + uniform_below_at({.seed = 3}, i, 20)), 5));
    out.target.push_back(Tokens(static_cast<std::size_t>(1 + uniform_below_at({.seed = 4}, i, 20)), 6));
    out.source.back()[0] = static_cast<std::int32_t>(10 + i);
  }
  return out;
}

std::vector<std::vector<std::int64_t>> epoch_of(const TokenLoader& loader, std::int64_t epoch) {
  std::vector<std::vector<std::int64_t>> out;
  for (std::int64_t i = 0; i < loader.batches(); ++i) out.push_back(loader.samples(epoch, i));
  return out;
}

}  // namespace

TEST_CASE("a batch of pairs is padded; begin and end are around the target") {
  const text::TokenPairs pairs{{{7, 8}, {9}, {}}, {{4}, {5, 6, 7}, {}}};
  const std::vector<std::int64_t> all{1, 0, 2};
  const text::TokenBatch b = text::batch_of(pairs, all);
  CHECK(holds(b.source, {3, 3}, {9, 3, 0, 7, 8, 3, 3, 0, 0}));
  CHECK(holds(b.target, {3, 5}, {2, 5, 6, 7, 3, 2, 4, 3, 0, 0, 2, 3, 0, 0, 0}));
  CHECK(b.source.dtype() == int64);
  CHECK(holds(b.source_padding(), {3, 3}, {0, 0, 1, 0, 0, 0, 0, 1, 1}));
  CHECK(holds(b.input(), {3, 4}, {2, 5, 6, 7, 2, 4, 3, 0, 2, 3, 0, 0}));
  CHECK(holds(b.labels(), {3, 4}, {5, 6, 7, 3, 4, 3, 0, 0, 3, 0, 0, 0}));
  CHECK(b.source_lengths == std::vector<std::int64_t>{2, 3, 1});
  CHECK(b.target_lengths == std::vector<std::int64_t>{5, 3, 2});
  CHECK(b.label_count() == 7);
  CHECK(sum((b.labels() != 0.0).to(int64)).item() == 7);
  CHECK(b.size() == 3);
  const std::vector<Tokens> sources{{4, 5}, {}};
  CHECK(holds(text::batch_of(sources).source, {2, 3}, {4, 5, 3, 3, 0, 0}));
  CHECK(!text::batch_of(sources).target.defined());
  const std::vector<std::int64_t> wrong{3}, none;
  CHECK_ERROR(text::batch_of(pairs, wrong), IndexError, "there is no pair 3: there are 3");
  CHECK_ERROR(text::batch_of(pairs, none), ValueError, "a batch needs a sentence");
}

TEST_CASE("an epoch has each pair once, in batches of similar lengths") {
  for (const std::int64_t n : {1, 7, 100, 1000})
    for (const text::TokenLoaderOptions& options : {text::TokenLoaderOptions{.sentences = 1},
                                                    {.sentences = 16},
                                                    {.sentences = 64, .seed = 2},
                                                    {.tokens = 1},
                                                    {.tokens = 300, .seed = 9},
                                                    {.tokens = 100'000}}) {
      const TokenLoader loader(token_pairs(n), options);
      INFO("pairs ", n, ", sentences ", options.sentences, ", tokens ", options.tokens);
      for (const std::int64_t epoch : {0, 1, 7}) {
        std::multiset<std::int64_t> seen;
        std::set<std::int64_t> longest;
        for (const auto& batch : epoch_of(loader, epoch)) {
          seen.insert(batch.begin(), batch.end());
          const text::TokenBatch b = text::batch_of(loader.pairs(), batch);
          const std::int64_t longer = std::max(b.source.size(1), b.target.size(1));
          if (options.tokens > 0)
            CHECK((b.size() == 1 || b.size() * longer <= options.tokens));
          else
            CHECK(b.size() <= options.sentences);
        }
        CHECK(seen.size() == static_cast<std::size_t>(n));
        CHECK(std::set(seen.begin(), seen.end()).size() == seen.size());
      }
    }
  // Sorted by length, a batch needs little padding: the sum of longer sides is close to what is filled.
  const TokenLoader loader(token_pairs(1000), {.sentences = 16});
  std::int64_t area = 0, filled = 0;
  for (const auto& batch : epoch_of(loader, 0)) {
    const text::TokenBatch b = text::batch_of(loader.pairs(), batch);
    area += b.size() * std::max(b.source.size(1), b.target.size(1));
    for (std::size_t i = 0; i < batch.size(); ++i)
      filled += std::max(b.source_lengths[i], b.target_lengths[i]);
  }
  CHECK(static_cast<double>(area) < 1.05 * static_cast<double>(filled));
  // Even parts: 100 sentences in batches of at most 64 are 50 and 50.
  CHECK(epoch_of(TokenLoader(token_pairs(100), {.sentences = 64}), 0)[1].size() == 50);
}

TEST_CASE("a batch has the least number of sentences, whatever their lengths") {
  for (const std::int64_t n : {8, 9, 15, 17, 100, 333})
    for (const std::int64_t tokens : {0, 1, 40, 150}) {
      const TokenLoader loader(token_pairs(n), {.sentences = 12, .tokens = tokens, .least = 8});
      std::int64_t all = 0;
      for (const auto& batch : epoch_of(loader, 0)) {
        CHECK(batch.size() >= 8);
        all += std::ssize(batch);
      }
      CHECK(all == n);
    }
  CHECK_ERROR(TokenLoader(token_pairs(7), {.sentences = 8, .least = 8}), ValueError,
              "at least 8 pairs, got 7");
  CHECK_ERROR(TokenLoader(token_pairs(9), {.sentences = 7, .least = 8}), ValueError,
              "of at most 7 sentences cannot have 8");
  CHECK_ERROR(TokenLoader(token_pairs(9), {.sentences = 0}), ValueError,
              "sentences and least must be at least 1");
  CHECK_ERROR(TokenLoader({}, {}), ValueError, "at least 1 pairs, got 0");
}

TEST_CASE("the order is a function of seed and epoch") {
  const text::TokenPairs pairs = token_pairs(300);
  const TokenLoader a(pairs, {.sentences = 16, .seed = 1}), b(pairs, {.sentences = 16, .seed = 1}),
      other(pairs, {.sentences = 16, .seed = 2});
  const auto sorted = [](auto batches) {
    for (auto& batch : batches) std::sort(batch.begin(), batch.end());
    std::sort(batches.begin(), batches.end());
    return batches;
  };
  const auto fifth = epoch_of(a, 5);
  CHECK(epoch_of(b, 5) == fifth);
  (void)a.samples(2, 0);
  CHECK(epoch_of(a, 5) == fifth);
  CHECK(epoch_of(a, 6) != fifth);
  CHECK(epoch_of(other, 5) != fifth);
  CHECK(sorted(epoch_of(a, 6)) != sorted(fifth));  // other batches too, not only another order of them
  std::vector<std::size_t>
      lengths;  // of the longest sentence of each batch: they are sorted before the turns are drawn
  for (const auto& batch : fifth) {
    std::size_t longest = 0;
    for (const auto i : batch)
      longest = std::max({longest, pairs.source[static_cast<std::size_t>(i)].size() + 1,
                          pairs.target[static_cast<std::size_t>(i)].size() + 2});
    lengths.push_back(longest);
  }
  CHECK(!std::is_sorted(lengths.begin(), lengths.end()));
}

TEST_CASE("a loader goes on where another one was") {
  const text::TokenPairs pairs = token_pairs(100);
  TokenLoader whole(pairs, {.sentences = 16, .seed = 4});
  std::vector<Tensor> expected;
  for (int i = 0; i < 20; ++i) expected.push_back(whole.next().source);
  CHECK(whole.batches() == 7);
  CHECK(whole.state() == LoaderState{2, 6});

  const TempDir dir;
  ParameterStore params({.seed = 1});
  nn::Path(params).parameter("w", {1}, init::zeros());
  const auto checkpoint_of = [&](TokenLoader& loader) {
    Checkpoint out;
    out.add(params);
    out.add("loader", loader);
    return out;
  };
  for (const int at : {0, 3, 7, 13}) {
    TokenLoader first(pairs, {.sentences = 16, .seed = 4}), second(pairs, {.sentences = 16, .seed = 4});
    for (int i = 0; i < at; ++i) CHECK(same_bits(first.next().source, expected[static_cast<std::size_t>(i)]));
    checkpoint_of(first).save(dir / "c");
    checkpoint_of(second).load(dir / "c");
    for (int i = at; i < 20; ++i)
      CHECK(same_bits(second.next().source, expected[static_cast<std::size_t>(i)]));
  }
  CHECK_ERROR(whole.restore({0, 8}), ValueError, "there is no batch 8 of epoch 0: an epoch has 7");
  CHECK_ERROR(whole.samples(0, 7), IndexError, "there is no batch 7");
}
