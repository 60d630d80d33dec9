// Training in parts beside one process: the same updates to 1e-12 in float64, and with shards the same bits for any
// number of ranks.
#include "distributed/ranks.hpp"
#include "distributed/training.hpp"
#include "lpf_test.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

Trained train_on(int ranks, const Training& t) {
  Trained out;
  on_ranks(ranks, [&](distributed::Communicator& world) {
    const Trained mine = train(world, t);
    if (world.rank() == 0) out = mine;
  });
  return out;
}

void check_equal(const Training& t, const std::vector<int>& ranks) {
  const Trained one = train_alone(t);
  for (const int p : ranks) {
    CAPTURE(name_of(t.kind));
    CAPTURE(t.method);
    CAPTURE(p);
    const Trained many = train_on(p, t);
    CHECK(distance(many.theta, one.theta) < 1e-12);
    for (std::size_t i = 0; i < one.buffers.size(); ++i)
      CHECK(relative_error(many.buffers[i], one.buffers[i]) < 1e-12);
    CHECK(many.counters == one.counters);
    CHECK(many.loss == doctest::Approx(one.loss).epsilon(1e-12));
  }
}

void check_same_bits(Training t, std::int64_t shards) {
  t.shards = shards;
  const Trained one = train_alone(t);
  for (const int p : {2, 4}) {
    CAPTURE(name_of(t.kind));
    CAPTURE(t.method);
    CAPTURE(p);
    const Trained many = train_on(p, t);
    CHECK(same_bits(many.theta, one.theta));
    CHECK(same_bits(many.buffers, one.buffers));
    CHECK(many.counters == one.counters);
  }
  t.shards = 0;
  if (t.method != "adam") CHECK(distance(one.theta, train_alone(t).theta) < 1e-12);
}

}  // namespace

TEST_CASE(
    "data parallel: SGD is that of one process, also with dropout and batch norm over the whole batch") {
  for (const Kind kind : kinds) check_equal({.kind = kind}, {1, 2, 3, 4});
  check_equal({.kind = Kind::conv, .options = {.lr = 0.05, .momentum = 0.9, .clip_norm = 0.1}, .batch = 17},
              {3});
}

TEST_CASE("data parallel: LPF with every estimator, slices of different lengths, any number of ranks") {
  for (const Estimator estimator : estimators)
    for (const Kind kind : kinds) {
      if (kind == Kind::tied && estimator == Estimator::per_sample) continue;  // a weight used twice
      CAPTURE(estimator);
      check_equal({.kind = kind, .method = "lpf-sgd", .options = lpf_options(estimator)}, {2, 3});
    }
  check_equal({.kind = Kind::linear, .method = "lpf-sgd", .options = lpf_options(Estimator::replicas, 7)},
              {2, 4});
  check_equal({.kind = Kind::conv, .method = "lpf-sgd", .options = lpf_options(Estimator::replicas, 1)}, {2});
}

TEST_CASE("data parallel: batch norm's policies in perturbed passes") {
  for (const auto policy : {BatchNormPolicy::pooled, BatchNormPolicy::frozen, BatchNormPolicy::recomputed})
    for (const Kind kind : {Kind::conv, Kind::token})
      check_equal({.kind = kind, .method = "lpf-sgd", .options = lpf_options(Estimator::replicas, 6, policy)},
                  {2, 3});
}

TEST_CASE(
    "data parallel: SAM with one ascent over all ranks or one for each slice, ASAM, SmoothOut, clipping") {
  for (const Kind kind : {Kind::linear, Kind::conv, Kind::token}) {
    const optim::MethodOptions whole{.lr = 0.05, .momentum = 0.9, .clip_norm = 0.2, .rho = 0.1};
    optim::MethodOptions sliced = whole;
    sliced.slices = 5;
    check_equal({.kind = kind, .method = "sam", .options = whole}, {2, 3});
    check_equal({.kind = kind, .method = "asam", .options = sliced}, {2, 3});
    check_equal({.kind = kind, .method = "smoothout", .options = {.lr = 0.05, .M = 4, .a = 0.01}}, {2, 3});
  }
}

TEST_CASE("data parallel: gradients of several batches before an update add up") {
  for (const std::int64_t shards : {0, 2}) {
    Training t{.kind = Kind::linear,
               .method = "lpf-sgd",
               .options = lpf_options(Estimator::replicas),
               .accumulate = 3};
    const Trained one = train_alone(t);
    t.shards = shards;
    CHECK(distance(train_on(2, t).theta, one.theta) < 1e-12);
  }
}

TEST_CASE("data parallel: with shards the number of ranks is no part of the result") {
  check_same_bits({.kind = Kind::linear}, 4);
  check_same_bits({.kind = Kind::tied}, 4);
  // Adam divides by the size of a gradient: an element that is zero but for rounding is told from zero.
  check_same_bits({.kind = Kind::linear, .method = "adam", .options = {.lr = 1e-3, .clip_norm = 0.1}}, 4);
  for (const Estimator estimator : estimators)
    check_same_bits({.kind = Kind::conv, .method = "lpf-sgd", .options = lpf_options(estimator, 8)}, 4);
  check_same_bits({.kind = Kind::token, .method = "lpf-sgd", .options = lpf_options(Estimator::replicas, 10)},
                  8);
  optim::MethodOptions sliced{.lr = 0.05, .rho = 0.1, .slices = 4};
  check_same_bits({.kind = Kind::conv, .method = "sam", .options = sliced}, 4);
  check_same_bits({.kind = Kind::linear, .method = "sam", .options = {.lr = 0.05, .clip_norm = 0.1}}, 4);
}

TEST_CASE("data parallel: what cannot be computed in parts is refused") {
  const auto refused = [](int ranks, const Training& t) { return [=] { train_on(ranks, t); }; };
  CHECK_ERROR(refused(3, {.shards = 4})(), ValueError, "4 shards cannot be shared by 3 processes");
  CHECK_ERROR(refused(3, {.shards = 6})(), ValueError, "power of two");
  CHECK_ERROR(refused(4, {.method = "lpf-sgd", .options = lpf_options(Estimator::antithetic)})(), ValueError,
              "M = 6 slices of a batch are 3 pairs, which cannot be shared by 4");
  CHECK_ERROR(refused(4, {.batch = 3})(), ShapeError, "a batch of 3 samples has fewer than 4 shards");
  CHECK_ERROR(refused(2, {.kind = Kind::conv, .shards = 4})(), StateError, "evaluates 2 shards in turn");
  CHECK_ERROR(refused(2, {.method = "entropy-sgd", .options = {.lr = 0.1}})(), StateError, "EntropySGD");
  distributed::OneProcess world;
  const Problem p(Kind::linear);
  distributed::DataParallel parallel(world, p.params, {.shards = 2});
  const auto nothing = [] { return zeros({}); };
  CHECK_ERROR(parallel.part(p.x), StateError, "part() is for the pass in run()");
  CHECK_ERROR(parallel.run(nothing), StateError, "set_batch()");
  parallel.set_batch(19);
  CHECK_ERROR(parallel.run([&] { return parallel.run(nothing); }), StateError, "running already");
  CHECK_ERROR(distributed::DataParallel(world, p.params), StateError, "a DataParallel already");
}

TEST_CASE("data parallel: a rank with another model, or whose parameters differ later, is named") {
  CHECK_ERROR(on_ranks(3,
                       [](distributed::Communicator& world) {
                         const Problem p(world.rank() == 1 ? Kind::conv : Kind::linear);
                         distributed::DataParallel parallel(world, p.params);
                       }),
              distributed::CommunicationError, "rank 1 has a model or a seed other than");
  CHECK_ERROR(on_ranks(3,
                       [](distributed::Communicator& world) {
                         const Problem p(Kind::linear);
                         distributed::DataParallel parallel(world, p.params, {.check_every = 2});
                         optim::SGD sgd(p.params, {.lr = 0.1});
                         for (int step = 0; step < 4; ++step) {
                           parallel.set_batch(19);
                           parallel.run([&] {
                             const Tensor l = cross_entropy(p.net(p.x), p.y);
                             l.backward();
                             return l;
                           });
                           sgd.step();
                           if (step == 0 && world.rank() == 2) {
                             const auto off = no_grad();
                             p.params.theta().copy_(p.params.theta() + 1e-9);
                           }
                         }
                       }),
              distributed::CommunicationError, "after 2 updates the parameters of rank 2 are no longer");
}

TEST_CASE("data parallel: every rank begins with rank 0's parameters, buffers and counters") {
  on_ranks(3, [](distributed::Communicator& world) {
    const Problem p(Kind::conv), original(Kind::conv);
    {
      const auto off = no_grad();
      if (world.rank() > 0) p.params.theta().copy_(p.params.theta() * 2.0);
      if (world.rank() > 0) p.params.buffers()[0].tensor.copy_(p.params.buffers()[0].tensor + 1.0);
    }
    if (world.rank() == 0) p.params.set_updates(5), *p.params.counters()[0].value = 9;
    const distributed::DataParallel parallel(world, p.params);
    const bool same = same_bits(p.params.theta(), original.params.theta()) &&
                      same_bits(buffers_of(p.params), buffers_of(original.params)) &&
                      p.params.updates() == 5 && *p.params.counters()[0].value == 9;
    check(same, "test", "rank ", world.rank(), " has not rank 0's state");
  });
}

}  // namespace lpf::test
