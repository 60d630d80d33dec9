// Shards of a batch, sums in a fixed order, shares of a loader, hashes, and messages between ranks.
#include <numeric>
#include <set>

#include "distributed/ranks.hpp"
#include "distributed/training.hpp"
#include "lpf/distributed/data_parallel.hpp"
#include "lpf/distributed/init.hpp"
#include "lpf_test.hpp"
#include "tensor_test.hpp"

namespace lpf::test {

using distributed::BatchParts;

TEST_CASE("parts: shards cover a batch in order, and keep slices and pairs whole") {
  for (const std::int64_t shards : {1, 2, 3, 4, 8})
    for (const std::int64_t replicas : {1, 8, 11, 16, 20})
      for (const bool paired : {false, true})
        for (const std::int64_t batch : {20, 23, 128}) {
          if (paired && (replicas % 2 == 1 || replicas / 2 < shards)) continue;
          const BatchParts parts(shards, replicas, paired);
          const Slices slices(replicas == 1 ? batch : replicas, batch);
          std::set<std::int64_t> bounds;
          for (std::int64_t r = 0; r <= slices.count(); r += paired ? 2 : 1) bounds.insert(slices.begin(r));
          std::int64_t at = 0;
          for (std::int64_t s = 0; s < shards; ++s) {
            const auto own = parts.of(s, batch);
            CHECK(own.first == at);
            CHECK(own.count() > 0);
            CHECK(bounds.count(own.last) == 1);
            at = own.last;
          }
          CHECK(at == batch);
        }
  CHECK_ERROR(BatchParts(4, 6, true), ValueError, "3 pairs, which cannot be shared by 4");
  CHECK_ERROR(BatchParts(4, 3), ValueError, "M = 3 slices");
  CHECK_ERROR(BatchParts(2, 8).of(0, 7), ShapeError, "a batch of 7 samples has fewer than 8 slices");
}

TEST_CASE("parts: sums are pairwise, whoever adds") {
  // Numbers whose sum depends on the order in every pair.
  const auto vector_of = [](std::size_t s) {
    std::vector<float> x(13);
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] =
          static_cast<float>(std::sin(1.0 + static_cast<double>(i * 31 + s * s * 7)) * std::pow(10, s % 5));
    return x;
  };
  const auto tree = [&](auto self, std::size_t s, std::size_t n, std::size_t i) -> float {
    return n == 1 ? vector_of(s)[i] : self(self, s, n / 2, i) + self(self, s + n / 2, n / 2, i);
  };
  for (const std::size_t shards : {1, 2, 8, 16})
    for (const int ranks : {1, 2, 4, 8}) {
      if (static_cast<std::size_t>(ranks) > shards) continue;
      std::vector<std::vector<float>> got(static_cast<std::size_t>(ranks));
      on_ranks(ranks, [&](distributed::Communicator& world) {
        const std::size_t each = shards / static_cast<std::size_t>(ranks),
                          p = static_cast<std::size_t>(world.rank());
        distributed::PairwiseSum own;
        for (std::size_t s = p * each; s < (p + 1) * each; ++s) own.add(from_vector(vector_of(s), {13}));
        const Tensor sum = own.value().clone();
        distributed::all_reduce_pairwise(world, sum);
        got[p] = sum.to_vector<float>();
      });
      for (const auto& x : got)
        for (std::size_t i = 0; i < x.size(); ++i) CHECK(x[i] == tree(tree, 0, shards, i));
    }
}

TEST_CASE("parts: ranks whose number is no power of two add pairwise too, and all get the sum") {
  const float x[] = {1, 1e8f, -1e8f, 3, 1e-3f};  // each order of additions has another sum
  for (const int ranks : {3, 5}) {
    const float sum = ranks == 3 ? (x[0] + x[1]) + x[2] : ((x[0] + x[1]) + (x[2] + x[3])) + x[4];
    on_ranks(ranks, [&](distributed::Communicator& world) {
      const Tensor own = full({7}, x[world.rank()]);  // pieces of different lengths
      distributed::all_reduce_pairwise(world, own);
      check(own.to_vector<float>() == std::vector<float>(7, sum), "test", "another sum on rank ",
            world.rank());
    });
  }
}

TEST_CASE("parts: a step sends the gradient as an all-reduce must, 2(P - 1)/P times, and nothing else") {
  for (const std::int64_t shards : {0, 4})
    for (const int ranks : {2, 4})
      on_ranks(ranks, [&](distributed::Communicator& world) {
        const Problem p(Kind::linear);
        distributed::DataParallel parallel(world, p.params, {.shards = shards, .check_every = 0});
        const double before = world.sent();
        parallel.set_batch(p.batch());
        const auto [first, last] = parallel.share()(p.batch());
        const Tensor x = slice(p.x, 0, first, last), y = slice(p.y, 0, first, last);
        parallel.run([&] {
          const Tensor l = cross_entropy(p.net(parallel.part(x)), parallel.part(y));
          l.backward();
          return l;
        });
        const auto d = static_cast<double>(p.params.theta().numel());
        check(world.sent() - before == 8 * d * 2 * (ranks - 1) / ranks, "test", "a step has sent ",
              world.sent() - before, " bytes for ", d, " numbers");
      });
}

TEST_CASE("parts: a pairwise sum sends what an all-reduce must, 2(P - 1)/P of the vector") {
  for (const int ranks : {2, 4, 8}) {
    std::vector<double> sent(static_cast<std::size_t>(ranks));
    on_ranks(ranks, [&](distributed::Communicator& world) {
      distributed::all_reduce_pairwise(world, zeros({8000}));
      sent[static_cast<std::size_t>(world.rank())] = world.sent();
    });
    for (const double bytes : sent) CHECK(bytes == 4.0 * 8000 * 2 * (ranks - 1) / ranks);
  }
}

TEST_CASE(
    "parts: a batch in parts, one after another, has the gradient and the noise of one perturbed pass") {
  for (const Estimator estimator : estimators)
    for (const Kind kind : kinds) {
      if (kind == Kind::tied && estimator == Estimator::per_sample) continue;  // a weight used twice
      const Problem whole(kind), cut_up(kind);
      LowPassFilter one({.M = 6, .gamma = 0.2, .estimator = estimator, .seed = 3}), other = one;
      {
        const auto scope = one.perturb(whole.params);
        whole.loss().backward();
      }
      const Slices slices(6, 19);
      const std::int64_t bounds[] = {0, slices.begin(2), slices.end(5)};
      for (int i = 0; i < 2; ++i) {
        const std::int64_t from = bounds[i], to = bounds[i + 1];
        const nn::MicroBatch part(nn::BatchPart{
            .first = from, .samples = to - from, .batch = 19, .begins = i == 0, .same_noise = i > 0});
        const auto scope = other.perturb(cut_up.params);
        CHECK(scope.M() == (i == 0 ? 2 : 4));
        const Tensor l = cut_up.loss(from, to);
        l.backward(full_like(l, static_cast<double>(to - from) / 19));
      }
      CAPTURE(name_of(kind));
      CHECK(distance(cut_up.params.gradient(), whole.params.gradient()) < 1e-12);
      CHECK(buffer_error(cut_up.params, whole.params) < 1e-12);
      CHECK(counters_of(cut_up.params) == counters_of(whole.params));
      CHECK(other.draws() == one.draws());
    }
}

TEST_CASE("parts: a perturbed pass over a part that cuts a slice or a pair is refused") {
  const Problem p(Kind::linear);
  LowPassFilter filter({.M = 6, .gamma = 0.2}),
      pairs({.M = 6, .gamma = 0.2, .estimator = Estimator::antithetic});
  const auto open = [&](LowPassFilter& f, std::int64_t from, std::int64_t to) {
    const nn::MicroBatch part(nn::BatchPart{.first = from, .samples = to - from, .batch = 19});
    const auto scope = f.perturb(p.params);
    p.loss(from, to);
  };
  const Slices slices(6, 19);
  CHECK_ERROR(open(filter, 0, 5), ShapeError,
              "the part [0, 5) of a batch of 19 samples is not whole slices of its M = 6");
  CHECK_ERROR(open(filter, 1, 19), ShapeError, "not whole slices");
  CHECK_ERROR(open(filter, 1, 2), ShapeError, "not whole slices");
  CHECK_ERROR(open(pairs, 0, slices.end(0)), ShapeError, "not whole pairs of slices");
  CHECK_ERROR(open(pairs, slices.begin(1), slices.end(2)), ShapeError, "not whole pairs of slices");
  open(pairs, 0, slices.end(1));
  open(filter, slices.begin(5), 19);
  CHECK(filter.draws() == 1);  // what was refused has drawn nothing
  CHECK_ERROR(nn::MicroBatch(nn::BatchPart{.first = 5, .samples = 5, .batch = 9}), ValueError,
              "of a batch of 9");
}

TEST_CASE("parts: the shares of a loader's batches are its batches, with their augmentation") {
  const std::int64_t size = 23;
  TensorDataset data{arange(size).to(float32), arange(size).to(int64)};
  const auto transform = [](Batch& b, std::int64_t epoch, std::span<const std::int64_t> samples) {
    for (std::size_t i = 0; i < samples.size(); ++i)
      b.x.data<float>()[i] += static_cast<float>(100 * (epoch + 1) + 7 * samples[i]);
  };
  for (const int workers : {0, 2}) {
    const LoaderOptions options{.batch_size = 8, .seed = 3, .transform = transform, .workers = workers};
    DataLoader whole(data, options);
    std::vector<DataLoader> shares;
    const BatchParts parts(3);
    for (int p = 0; p < 3; ++p) {
      LoaderOptions own = options;
      own.share = [=](std::int64_t n) {
        const auto s = parts.of_rank(p, 3, n);
        return std::pair(s.first, s.last);
      };
      shares.emplace_back(data, own);
    }
    for (int epoch = 0; epoch < 2; ++epoch) {
      std::vector<DataLoader::Iterator> at;
      for (auto& loader : shares) at.push_back(loader.begin());
      for (const Batch& batch : whole) {
        std::vector<Tensor> x, y;
        std::vector<std::int64_t> samples;
        for (std::size_t p = 0; p < shares.size(); ++p) {
          x.push_back((*at[p]).x), y.push_back((*at[p]).y);
          samples.insert(samples.end(), shares[p].samples().begin(), shares[p].samples().end());
          CHECK(shares[p].batch_samples() == batch.y.numel());
          CHECK(shares[p].state() == whole.state());
        }
        CHECK(same_bits(concatenate(x), batch.x));
        CHECK(same_bits(concatenate(y), batch.y));
        CHECK(std::equal(samples.begin(), samples.end(), whole.samples().begin(), whole.samples().end()));
        for (auto& i : at) ++i;
      }
    }
  }
  LoaderOptions wrong{.batch_size = 8, .workers = 0};
  wrong.share = [](std::int64_t) { return std::pair<std::int64_t, std::int64_t>(4, 9); };
  DataLoader loader(data, wrong);
  CHECK_ERROR(loader.begin(), ValueError, "the share [4, 9) is no part of a batch of 8");
}

TEST_CASE("parts: one different bit is another hash, and the rank that has it is named") {
  std::vector<float> x(37, 1.0f);
  const auto hash = [&] { return distributed::Hash().add(x.data(), x.size() * sizeof(float)).value(); };
  const std::uint64_t before = hash();
  for (float& value : x) {
    value = std::nextafter(value, 2.0f);
    CHECK(hash() != before);
    value = 1.0f;
  }
  CHECK(hash() == before);
  CHECK(distributed::different_ranks({5, 5, 5}).empty());
  CHECK(distributed::different_ranks({5, 6, 5, 7}) == "rank 1, rank 3");
  CHECK(distributed::different_ranks({6, 5}) == "rank 1");
  CHECK(distributed::different_ranks({6, 5, 5}) == "rank 0");
}

TEST_CASE("parts: gathered vectors of different lengths, and a broadcast text") {
  on_ranks(4, [](distributed::Communicator& world) {
    const auto all = distributed::all_gather(
        world, std::vector<int>(static_cast<std::size_t>(world.rank()), world.rank()));
    for (std::size_t p = 0; p < 4; ++p)
      check(all[p] == std::vector<int>(p, static_cast<int>(p)), "test", "not what rank ", p, " has sent");
    check(distributed::all_gather(world, std::vector<int>{}).size() == 4, "test", "four empty vectors");
    const std::string text =
        distributed::broadcast(world, world.rank() == 0 ? "of rank 0" : "another, longer text");
    check(text == "of rank 0", "test", "got ", text);
  });
}

TEST_CASE("parts: a program alone is a job of one process") {
  if (distributed::launched().ranks > 0) return skip("started by mpirun");
  const auto world = distributed::init();
  CHECK(world->rank() == 0);
  CHECK(world->size() == 1);
  CHECK(distributed::all_gather(*world, 3.5) == std::vector<double>{3.5});
}

}  // namespace lpf::test
