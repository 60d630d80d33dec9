// The loader: samples and their order, whatever makes the batches; resuming; errors of workers.
#include "lpf/data/loader.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "lpf_test.hpp"

using namespace lpf;

namespace {

using Ids = std::vector<std::int64_t>;

/// n samples; sample i is (i, -i) and its label i.
TensorDataset numbered(std::int64_t n) {
  std::vector<float> x;
  Ids y;
  for (std::int64_t i = 0; i < n; ++i) {
    x.push_back(static_cast<float>(i));
    x.push_back(static_cast<float>(-i));
    y.push_back(i);
  }
  return {from_vector(x, {n, 2}), from_vector(y, {n})};
}

/// The samples of a batch; checks that images and labels belong together.
Ids ids(const Tensor& x, const Tensor& y) {
  const Ids out = y.to_vector<std::int64_t>();
  REQUIRE(x.shape() == Shape{y.numel(), 2});
  for (std::size_t i = 0; i < out.size(); ++i) {
    CHECK(x.data<float>()[2 * i] == static_cast<float>(out[i]));
    CHECK(x.data<float>()[2 * i + 1] == -static_cast<float>(out[i]));
  }
  return out;
}

/// The batches of one epoch.
std::vector<Ids> epoch(DataLoader& loader) {
  std::vector<Ids> out;
  for (auto [x, y] : loader) {
    out.push_back(ids(x, y));
    CHECK(Ids(loader.samples().begin(), loader.samples().end()) == out.back());
  }
  return out;
}

Ids joined(const std::vector<Ids>& batches) {
  Ids out;
  for (const auto& b : batches) out.insert(out.end(), b.begin(), b.end());
  return out;
}

/// A user-defined data source, which computes each sample.
struct Squares {
  std::int64_t size() const { return 20; }
  Batch batch(std::span<const std::int64_t> samples) const {
    Tensor x = empty({static_cast<std::int64_t>(samples.size())});
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (samples[i] == broken) fail<FormatError>("squares", "sample ", broken, " is broken");
      x.data<float>()[i] = static_cast<float>(samples[i] * samples[i]);
    }
    return {x, from_span(samples, x.shape())};
  }
  std::int64_t broken = -1;
};

}  // namespace

TEST_CASE("loader: every sample once an epoch, in an order that the seed and the epoch give") {
  const TensorDataset data = numbered(23);
  DataLoader loader(data, {.batch_size = 5, .seed = 4});
  CHECK(loader.batches() == 5);
  CHECK(loader.size() == 23);
  const auto first = epoch(loader), second = epoch(loader);
  CHECK(first.size() == 5);
  CHECK(first.back().size() == 3);
  CHECK(joined(first) == permutation(23, {.seed = 4, .purpose = Purpose::shuffle, .draw = 0}));
  CHECK(joined(second) == permutation(23, {.seed = 4, .purpose = Purpose::shuffle, .draw = 1}));
  CHECK(joined(first) != joined(second));
  loader.set_epoch(0);
  CHECK(epoch(loader) == first);
  CHECK(epoch(loader) == second);

  DataLoader in_order(data, {.batch_size = 5, .shuffle = false});
  Ids all(23);
  std::iota(all.begin(), all.end(), 0);
  CHECK(joined(epoch(in_order)) == all);
  CHECK(joined(epoch(in_order)) == all);

  DataLoader dropping(data, {.batch_size = 5, .drop_last = true, .seed = 4});
  CHECK(dropping.batches() == 4);
  CHECK(epoch(dropping) == std::vector<Ids>(first.begin(), first.begin() + 4));

  DataLoader whole(data, {.batch_size = 100});
  CHECK(whole.batches() == 1);
  CHECK(epoch(whole).at(0).size() == 23);
}

TEST_CASE("loader: workers change nothing") {
  const TensorDataset data = numbered(101);
  DataLoader alone(data, {.batch_size = 4, .seed = 1, .workers = 0});
  for (const int workers : {1, 2, 5}) {
    for (const int prefetch : {1, 3}) {
      DataLoader loader(data, {.batch_size = 4, .seed = 1, .workers = workers, .prefetch = prefetch});
      alone.set_epoch(0);
      for (int i = 0; i < 3; ++i) CHECK(epoch(loader) == epoch(alone));
    }
  }
}

TEST_CASE("loader: a break ends the epoch, the next loop is the next one") {
  for (const int workers : {0, 2}) {
    DataLoader loader(numbered(20), {.batch_size = 4, .workers = workers}),
        other(numbered(20), {.batch_size = 4});
    epoch(other);
    for (auto [x, y] : loader) {
      if (loader.state().batch == 2) break;
    }
    CHECK(loader.state() == LoaderState{0, 2});
    CHECK(epoch(loader) == epoch(other));
    CHECK(loader.state() == LoaderState{2, 0});
  }
}

TEST_CASE("loader: a restored loader goes on to the bit") {
  const TensorDataset data = numbered(22);
  for (const int workers : {0, 1}) {
    DataLoader whole(data, {.batch_size = 4, .seed = 3});
    std::vector<Ids> expected;
    for (int e = 0; e < 3; ++e) {
      const auto batches = epoch(whole);
      expected.insert(expected.end(), batches.begin(), batches.end());
    }
    // stopped after each batch in turn: the state is saved within the loop, like a checkpoint's
    for (std::size_t stop = 1; stop <= expected.size(); ++stop) {
      DataLoader before(data, {.batch_size = 4, .seed = 3, .workers = workers});
      std::vector<Ids> seen;
      LoaderState saved;
      while (seen.size() < stop) {
        for (auto [x, y] : before) {
          seen.push_back(ids(x, y));
          saved = before.state();
          if (seen.size() == stop) break;
        }
      }
      CHECK(saved == LoaderState{static_cast<std::int64_t>(stop - 1) / 6,
                                 static_cast<std::int64_t>(stop - 1) % 6 + 1});
      DataLoader after(data, {.batch_size = 4, .seed = 3, .workers = workers});
      after.restore(saved);
      while (after.state().epoch < 3) {
        for (const auto& batch : epoch(after)) seen.push_back(batch);
      }
      CHECK(seen == expected);
    }
  }
  DataLoader loader(data, {.batch_size = 4});
  loader.restore({1, 6});  // saved in the last batch of epoch 1: nothing of it remains
  CHECK(epoch(loader).empty());
  CHECK(loader.state() == LoaderState{2, 0});
  CHECK_THROWS_AS(loader.restore({0, 7}), ValueError);
  CHECK_THROWS_AS(loader.restore({0, -1}), ValueError);
  CHECK_THROWS_AS(loader.set_epoch(-1), ValueError);
  CHECK_THROWS_AS(loader.set_epoch(std::int64_t{1} << 32), ValueError);
}

TEST_CASE("loader: a transform sees the batch, the epoch and the samples") {
  for (const int workers : {-1, 0, 3}) {
    LoaderOptions options{.batch_size = 3, .workers = workers};
    options.transform = [](Batch& batch, std::int64_t e, std::span<const std::int64_t> samples) {
      CHECK(!is_grad_enabled());
      for (std::size_t i = 0; i < samples.size(); ++i) {
        CHECK(batch.y.data<std::int64_t>()[i] == samples[i]);
        batch.y.data<std::int64_t>()[i] += 1000 * e;
      }
    };
    DataLoader loader(numbered(10), options);
    CHECK(loader.options().workers == (workers == -1 ? 1 : workers));
    for (std::int64_t e = 0; e < 2; ++e) {
      Ids seen;
      for (auto [x, y] : loader) {
        for (const auto label : y.to_vector<std::int64_t>()) seen.push_back(label - 1000 * e);
      }
      CHECK(is_grad_enabled());
      std::sort(seen.begin(), seen.end());
      CHECK(seen == arange(10).to_vector<std::int64_t>());
    }
  }
}

TEST_CASE("loader: batches outlive the loop") {
  for (const int workers : {0, 1}) {
    DataLoader loader(numbered(12), {.batch_size = 3, .seed = 5, .workers = workers});
    std::vector<Batch> kept;
    for (const Batch& batch : loader) kept.push_back(batch);
    loader.set_epoch(0);
    const auto again = epoch(loader);
    for (std::size_t i = 0; i < kept.size(); ++i) CHECK(ids(kept[i].x, kept[i].y) == again[i]);
  }
}

TEST_CASE("loader: a data set of the user's own") {
  DataLoader loader(Squares{}, {.batch_size = 8, .seed = 2});
  CHECK(loader.options().workers == 1);
  double sum = 0;
  for (auto [x, y] : loader)
    for (const float value : x.span<float>()) sum += static_cast<double>(value);
  CHECK(sum == 2470);
}

TEST_CASE("loader: what a worker throws reaches the loop, which can be taken up again") {
  for (const int workers : {0, 1, 4}) {
    DataLoader loader(Squares{.broken = 13}, {.batch_size = 4, .shuffle = false, .workers = workers});
    for (int round = 0; round < 2; ++round) {
      int batches = 0;
      try {
        for (auto [x, y] : loader) ++batches;
        FAIL("no error");
      } catch (const FormatError& e) { CHECK(std::string(e.what()) == "[squares] sample 13 is broken"); }
      CHECK(batches == (round == 0 ? 3 : 0));
      CHECK(loader.state() == LoaderState{0, 3});
    }
  }
}

TEST_CASE("loader: one loop at a time") {
  for (const int workers : {0, 1}) {
    DataLoader loader(numbered(6), {.batch_size = 2, .workers = workers});
    CHECK_THROWS_AS(loader.samples(), StateError);
    const auto nested = [&] {
      for (auto [x, y] : loader) epoch(loader);
    };
    CHECK_THROWS_AS(nested(), StateError);
    auto it = loader.begin();
    auto later = loader.begin();
    CHECK_THROWS_AS(*it, StateError);
    CHECK_THROWS_AS(++it, StateError);
    CHECK((*later).x.defined());
    it = later;
    loader.set_epoch(0);
    CHECK_THROWS_AS(*it, StateError);
    CHECK_THROWS_AS(++it, StateError);
  }
}

TEST_CASE("loader: batches are ready before they are needed, and no more than asked for are kept") {
  std::atomic<int> made = 0;
  LoaderOptions options{.batch_size = 1, .workers = 2, .prefetch = 3};
  options.transform = [&](Batch&, std::int64_t, std::span<const std::int64_t>) { ++made; };
  DataLoader loader(numbered(50), options);
  int taken = 0;
  for (auto [x, y] : loader) {
    ++taken;
    const int most = std::min(50, taken + 6);
    for (int i = 0; i < 10000 && made < most; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(made == most);
    if (taken == 20) break;
  }
}

TEST_CASE("loader: after the first epoch no memory is asked of the system") {
  for (const int workers : {0, 1}) {
    DataLoader loader(numbered(1000), {.batch_size = 32, .workers = workers});
    for (int e = 0; e < 3; ++e)
      for (auto [x, y] : loader) CHECK(x.defined());
    const auto before = backend::get(Device::cpu()).memory_stats();
    for (int e = 0; e < 5; ++e)
      for (auto [x, y] : loader) CHECK(x.defined());
    const auto after = backend::get(Device::cpu()).memory_stats();
    CHECK(after.in_use == before.in_use);
    // a thread that gets further ahead than before needs more memory, but never
    // more than the batches in progress
    CHECK(after.system_allocations - before.system_allocations <= (workers == 0 ? 0u : 16u));
  }
}

TEST_CASE("loader: options out of range") {
  const TensorDataset data = numbered(10);
  CHECK_THROWS_AS(DataLoader(data, {.batch_size = 0}), ValueError);
  CHECK_THROWS_AS(DataLoader(data, {.batch_size = 11, .drop_last = true}), ValueError);
  CHECK_THROWS_AS(DataLoader(data, {.workers = -2}), ValueError);
  CHECK_THROWS_AS(DataLoader(data, {.prefetch = 0}), ValueError);
  CHECK_THROWS_AS(DataLoader(data.take(0)), ValueError);
}
