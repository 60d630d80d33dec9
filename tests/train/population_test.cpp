// A population is K runs in parallel: each member's trajectory must be
// bit-identical to that of its run alone.
#include "lpf/train/population.hpp"

#include <chrono>

#include "lpf/data/loader.hpp"
#include "lpf/data/sets/digits.hpp"
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/models/mlp.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/train/checkpoint.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// Sets the number of threads until the end of the scope.
struct Threads {
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(0); }
};

/// A barrier: no thread continues before n have arrived.
class Meeting {
 public:
  explicit Meeting(int n) : n_(n) {}
  /// False if some did not arrive within a few seconds.
  bool all_came() {
    ++came_;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (came_ < n_ && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    return came_ >= n_;
  }

 private:
  int n_;
  std::atomic<int> came_{0};
};

constexpr std::int64_t samples = 100;  // the second batch of an epoch has 36, which 8 replicas share unevenly
constexpr int epochs = 10;             // of 2 steps

const TensorDataset& training_set() {
  static const TensorDataset data = split(digits(), {samples, 1797 - samples}, 3)[0];
  return data;
}

/// A run with its own seed and hyper-parameters, which records θ after every step.
struct Member {
  ParameterStore params;
  models::MLP net;
  optim::SGD sgd;
  LowPassFilter filter;
  DataLoader loader;
  std::vector<std::vector<float>> trajectory;

  explicit Member(std::int64_t k, Estimator estimator = Estimator::replicas)
      : params({.seed = seed(k)}),
        net(params, {64, 128, 32, 10}),
        sgd(params, {.lr = 0.02 * static_cast<double>(1 + k % 5), .momentum = 0.9}),
        filter({.M = 8,
                .gamma = 0.01 * static_cast<double>(1 + k % 3),
                .estimator = estimator,
                .seed = seed(k)}),
        loader(training_set(), {.batch_size = 64, .seed = seed(k)}) {}

  void step(const Tensor& x, const Tensor& y, bool filtered) {
    if (filtered) {
      const auto scope = filter.perturb(params);
      cross_entropy(net(x), y).backward();
    } else {
      cross_entropy(net(x), y).backward();
    }
    sgd.step();
    trajectory.push_back(params.theta().to_vector<float>());
  }
  void epoch(bool filtered) {
    for (auto [x, y] : loader) step(x, y, filtered);
  }

 private:
  static std::uint64_t seed(std::int64_t k) { return static_cast<std::uint64_t>(10 + k); }
};

/// Each member's trajectory is that of its run alone, for any number of threads.
void check_trajectories(std::int64_t size) {
  CAPTURE(size);
  for (const bool filtered : {false, true}) {
    CAPTURE(filtered);
    std::vector<std::vector<std::vector<float>>> alone;
    for (std::int64_t k = 0; k < size; ++k) {
      Member member(k);
      for (int e = 0; e < epochs; ++e) member.epoch(filtered);
      alone.push_back(member.trajectory);
    }
    for (const int threads : {1, 2, 3}) {
      CAPTURE(threads);
      const Threads set(threads);
      Population members(size, [](std::int64_t k) { return Member(k); });
      for (int e = 0; e < epochs; ++e) members.each([&](Member& m) { m.epoch(filtered); });
      for (std::int64_t k = 0; k < size; ++k) {
        REQUIRE(members[k].trajectory.size() == 2 * epochs);
        CHECK(members[k].trajectory == alone[static_cast<std::size_t>(k)]);
        if (k > 0) CHECK(members[k].trajectory.front() != members[k - 1].trajectory.front());
      }
    }
  }
}

}  // namespace

TEST_CASE("population: each member's trajectory is that of its run alone, to the bit") {
  check_trajectories(1);
  check_trajectories(5);
}
TEST_CASE("population: so is that of each of 32 members [slow]") { check_trajectories(32); }

TEST_CASE("population: the other estimators, too") {
  for (const Estimator estimator : {Estimator::antithetic, Estimator::per_sample, Estimator::flipout}) {
    const Threads set(2);
    Population members(4, [&](std::int64_t k) { return Member(k, estimator); });
    members.each([](Member& m) { m.epoch(true); });
    for (std::int64_t k = 0; k < members.size(); ++k) {
      Member alone(k, estimator);
      alone.epoch(true);
      CHECK(members[k].trajectory == alone.trajectory);
    }
  }
}

TEST_CASE("population: layers with state and another optimizer are each member's own") {
  struct Run {
    ParameterStore params;
    nn::Linear fc1, fc2;
    nn::BatchNorm1d bn;
    nn::Dropout drop;
    optim::Adam adam;
    explicit Run(std::int64_t k)
        : params({.seed = static_cast<std::uint64_t>(k)}),
          fc1(params / "fc1", 64, 24),
          fc2(params / "fc2", 24, 10),
          bn(params / "bn", 24),
          drop(params / "drop", 0.3),
          adam(params, {.lr = 1e-3 * static_cast<double>(k + 1)}) {}
    void steps() {
      for (auto [x, y] : DataLoader(training_set(), {.batch_size = 64, .seed = params.seed()})) {
        cross_entropy(fc2(drop(relu(bn(fc1(x))))), y).backward();
        adam.step();
      }
    }
  };
  const Threads set(2);
  Population members(5, [](std::int64_t k) { return Run(k); });
  for (int e = 0; e < 3; ++e) members.each([](Run& r) { r.steps(); });
  for (std::int64_t k = 0; k < members.size(); ++k) {
    Run alone(k);
    for (int e = 0; e < 3; ++e) alone.steps();
    CHECK(members[k].params.theta().to_vector() == alone.params.theta().to_vector());
    CHECK(members[k].bn.running_var.to_vector() == alone.bn.running_var.to_vector());
    CHECK(members[k].drop.draws.count() == alone.drop.draws.count());
  }
}

TEST_CASE("population: one loader for all, and a batch of its own for each") {
  const Threads set(2);
  Population shared(3, [](std::int64_t k) { return Member(k); });
  Population stacked(3, [](std::int64_t k) { return Member(k); });
  for (auto [x, y] : DataLoader(training_set(), {.batch_size = 64, .seed = 1})) {
    shared.each([&, x = x, y = y](Member& m) { m.step(x, y, true); });
    const std::int64_t n = x.size(0);
    const Tensor xs = expand(x, {3, n, 64}), ys = expand(y, {3, n});
    stacked.each([](Member& m, const Tensor& own_x, const Tensor& own_y) { m.step(own_x, own_y, true); }, xs,
                 ys);
  }
  for (std::int64_t k = 0; k < 3; ++k) {
    Member alone(k);
    for (auto [x, y] : DataLoader(training_set(), {.batch_size = 64, .seed = 1})) alone.step(x, y, true);
    CHECK(shared[k].trajectory == alone.trajectory);
    CHECK(stacked[k].trajectory == alone.trajectory);
  }
}

TEST_CASE("population: each() returns in the order of the members") {
  const Threads set(2);
  Population members(7, [](std::int64_t k) { return Member(k); });
  const auto seeds = members.each([](Member& m) { return m.params.seed(); });
  CHECK(seeds == std::vector<std::uint64_t>{10, 11, 12, 13, 14, 15, 16});
  const auto even = members.each([](Member& m) { return m.params.seed() % 2 == 0; });
  CHECK(even == std::vector<bool>{true, false, true, false, true, false, true});
  const Tensor numbers = arange(7);
  const auto own = members.each([](Member&, const Tensor& t) { return t.item(); }, numbers);
  CHECK(own == std::vector<double>{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("population: as many members at once as there are threads, which kernels do not exceed") {
  const auto kernel_threads = [](int threads, std::int64_t size) {
    const Threads set(threads);
    Population members(size, [](std::int64_t k) { return Member(k); });
    Meeting meeting(static_cast<int>(std::min<std::int64_t>(threads, size)));
    const auto inside = members.each([&](Member&) {
      CHECK(meeting.all_came());
      return num_threads();
    });
    CHECK(inside == std::vector(static_cast<std::size_t>(size), inside[0]));
    CHECK(num_threads() == threads);
    return inside[0];
  };
  CHECK(kernel_threads(1, 3) == 1);
  CHECK(kernel_threads(2, 5) == 1);
  CHECK(kernel_threads(4, 2) == 2);
  CHECK(kernel_threads(5, 2) == 2);
  CHECK(kernel_threads(3, 1) == 3);
}

TEST_CASE("population: within a member's turn another population works on its own thread") {
  const Threads set(2);
  Population outer(2, [](std::int64_t k) { return Member(k); });
  const auto threads = outer.each([](Member&) {
    Population inner(3, [](std::int64_t k) { return Member(k); });
    const auto ids = inner.each([](Member&) { return std::this_thread::get_id(); });
    return ids == std::vector(3, std::this_thread::get_id());
  });
  CHECK(threads == std::vector<bool>{true, true});
}

TEST_CASE("population: what the calling thread records, and searches for NaN, the members do") {
  const Threads set(2);
  Population members(2, [](std::int64_t k) { return Member(k); });
  for (const bool on : {false, true}) {
    const GradMode record(!on);
    const AnomalyMode search(on);
    Meeting meeting(2);
    const auto found = members.each([&](Member&) {
      CHECK(meeting.all_came());
      return std::pair(is_grad_enabled(), is_anomaly_enabled());
    });
    CHECK(found == std::vector(2, std::pair(!on, on)));
  }
}

TEST_CASE("population: an exception is that of the first member, after all have had their turn") {
  for (const int threads : {1, 2}) {
    const Threads set(threads);
    Population members(5, [](std::int64_t k) { return Member(k); });
    std::atomic<int> turns{0};
    const auto some_fail = [&](Member& m) {
      ++turns;
      const auto k = m.params.seed() - 10;
      check<NumericError>(k != 1 && k != 3, "test", "member ", k, " diverged");
    };
    CHECK_ERROR(members.each(some_fail), NumericError, "member 1 diverged");
    CHECK(turns == 5);
    CHECK(num_threads() == threads);
    members.each([](Member& m) { m.epoch(true); });  // and it continues
    Member alone(4);
    alone.epoch(true);
    CHECK(members[4].trajectory == alone.trajectory);
  }
}

TEST_CASE("population: errors name the member and leave the others alone") {
  struct Bare {
    ParameterStore params;
    nn::Linear fc;
    Bare(const ParameterStore& store, std::string_view name, std::int64_t out)
        : params(store), fc(store / name, 4, out) {}
  };
  /// A population whose second member differs.
  const auto with = [](auto second) {
    return Population(2, [&](std::int64_t k) { return k == 0 ? Bare(ParameterStore(), "fc", 3) : second(); });
  };
  const auto make = [](std::int64_t k) { return Member(k); };
  CHECK_ERROR(Population(0, make), ValueError, "at least one member, got 0");
  CHECK_ERROR(Population(-2, make), ValueError, "got -2");
  CHECK_ERROR(with([] { return Bare(ParameterStore(), "fc", 5); }), ShapeError,
              "'fc.weight' is [5, 4] in member 1, [3, 4] in member 0");
  CHECK_ERROR(with([] { return Bare(ParameterStore(), "head", 3); }), ValueError,
              "parameter 0 of member 1 is 'head.weight', of member 0 'fc.weight'");
  CHECK_ERROR(with([] { return Bare(ParameterStore({.dtype = float64}), "fc", 3); }), DTypeError,
              "member 1 is float64, member 0 float32");
  CHECK_ERROR(with([] {
                const ParameterStore store;
                nn::Linear(store / "a", 2, 2);
                return Bare(store, "fc", 3);
              }),
              ValueError, "member 1 has 4 parameters, member 0 has 2");
  struct Handle {
    ParameterStore params;
  };
  const ParameterStore one;
  CHECK_ERROR(Population(2, [&](std::int64_t) { return Handle{one}; }), ValueError,
              "members 0 and 1 share one ParameterStore");

  Population members(3, make);
  const auto f = [](Member& m, const Tensor& x) { m.net(x); };
  CHECK_ERROR(members.each(f, zeros({2, 8, 64})), ShapeError, "3 members need one slice each");
  CHECK_ERROR(members.each(f, zeros({})), ShapeError, "3 members need one slice each");
  CHECK_ERROR(members[3], IndexError, "there is no member 3 of 3");
  CHECK_ERROR(members[-1], IndexError, "there is no member -1 of 3");
  CHECK_ERROR(members.each([&](Member&) { members.each([](Member&) {}); }), StateError,
              "each() is under way");
  {
    const auto scope = members[2].filter.perturb(members[2].params);
    members[2].net(zeros({8, 64}));
    CHECK_ERROR(members.each([](Member&) {}), StateError, "pass over member 2 is open here");
  }
  members.each([](Member&) {});
}

TEST_CASE("population: a member's checkpoint goes on as a run of its own") {
  const TempDir dir;
  const auto name = [&](const Member& m) { return (dir / std::to_string(m.params.seed())).string(); };
  const auto checkpoint_of = [](Member& m) {
    Checkpoint c;
    c.add(m.params);
    c.add("sgd", m.sgd);
    c.add("filter", m.filter);
    c.add("loader", m.loader);
    return c;
  };
  const Threads set(2);
  Population members(4, [](std::int64_t k) { return Member(k); });
  members.each([&](Member& m) {
    m.epoch(true);
    checkpoint_of(m).save(name(m));
    m.trajectory.clear();
    m.epoch(true);
  });
  for (std::int64_t k = 0; k < members.size(); ++k) {
    Member alone(k);
    checkpoint_of(alone).load(name(alone));
    alone.epoch(true);
    CHECK(alone.trajectory == members[k].trajectory);
  }
}
