// Measures of sharpness, and populations, by several ranks: the bits of one process.
#include "lpf/distributed/measures.hpp"

#include "distributed/ranks.hpp"
#include "distributed/reports.hpp"
#include "filter/networks.hpp"
#include "lpf/distributed/population.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf/sharpness/surface.hpp"
#include "lpf_test.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

void check_report(int ranks, Kind kind, const sharpness::MeasureOptions& o) {
  CAPTURE(ranks);
  CAPTURE(name_of(kind));
  CAPTURE(o.samples);
  const sharpness::Report one = report_of(kind, o);
  std::vector<std::string> found(static_cast<std::size_t>(ranks));
  on_ranks(ranks, [&](distributed::Communicator& world) {
    sharpness::MeasureOptions shared = o;
    shared.ranks = distributed::ranks_of(world);
    found[static_cast<std::size_t>(world.rank())] = difference_of(report_of(kind, shared), one);
  });
  for (const std::string& difference : found) CHECK(difference == "");
}

/// A run of SGD with its own seed and learning rate.
struct Member {
  ParameterStore params;
  LinearNet net;
  optim::SGD sgd;
  explicit Member(std::int64_t k)
      : params({.dtype = float64, .seed = static_cast<std::uint64_t>(k)}),
        net(params),
        sgd(params, {.lr = 0.01 * static_cast<double>(k + 1)}) {}
  void train(const Problem& data) {
    for (int step = 0; step < 3; ++step) {
      cross_entropy(net(data.x), data.y).backward();
      sgd.step();
    }
  }
  double length() const { return sharpness::detail::norm(params.theta()); }
};

}  // namespace

TEST_CASE("measures: ranks share the work of every measure, and get the report of one process") {
  sharpness::MeasureOptions o = all_measures();
  for (const std::int64_t samples : {0, 12}) {  // one batch of the 30 samples, or three
    o.samples = samples;
    for (const int ranks : {2, 3, 4}) check_report(ranks, Kind::linear, o);
  }
  check_report(2, Kind::token, o);
  check_report(3, Kind::conv, o);
  o.until = {.relative_error = 0.02, .max_draws = 100};
  o.measures = {"low_pass", "pac_bayes", "trace", "local_entropy", "local_entropy_gradient"};
  check_report(3, Kind::linear, o);
}

TEST_CASE("measures: work is shared, not repeated") {
  const int ranks = 3;
  std::vector<std::int64_t> done(static_cast<std::size_t>(ranks), 0);
  on_ranks(ranks, [&](distributed::Communicator& world) {
    std::int64_t& own = done[static_cast<std::size_t>(world.rank())];
    std::vector<double> used;
    distributed::ranks_of(world).in_order(
        8,
        [&](std::int64_t i) {
          ++own;
          check(i % ranks == world.rank(), "test", "job ", i, " on rank ", world.rank());
          return std::vector<double>(static_cast<std::size_t>(i),
                                     0.5);  // of different lengths, one of them 0
        },
        [&](std::int64_t i, const std::vector<double>& result) {
          check(std::ssize(result) == i && std::ssize(used) == i, "test", "result ", i, " has ",
                result.size());
          used.push_back(result.empty() ? 0 : result[0]);
        });
    check(used.size() == 8, "test", "rank ", world.rank(), " has used ", used.size());
  });
  CHECK(done == std::vector<std::int64_t>{3, 3, 2});
  const Problem p(Kind::linear, 30);
  std::vector<std::int64_t> samples(static_cast<std::size_t>(ranks),
                                    0);  // that a rank's passes of low_pass see
  on_ranks(ranks, [&](distributed::Communicator& world) {
    const Problem own(Kind::linear, 30);
    std::int64_t& seen = samples[static_cast<std::size_t>(world.rank())];
    const auto net = [&](const Tensor& x) {
      seen += x.size(0);
      return own.net(x);
    };
    sharpness::measure(net, own.params, sharpness::Data{own.x, own.y},
                       {.measures = {"low_pass"}, .draws = 48, .ranks = distributed::ranks_of(world)});
  });
  CHECK(samples ==
        std::vector<std::int64_t>{16 * 30 + 30, 16 * 30, 16 * 30});  // and the clean loss, one batch
}

TEST_CASE(
    "measures: a job's NumericError is thrown on every rank, and a measure without a value is left by all") {
  std::vector<std::string> messages(3);
  on_ranks(3, [&](distributed::Communicator& world) {
    try {
      distributed::ranks_of(world).in_order(
          5,
          [](std::int64_t i) {
            check<NumericError>(i != 4, "test", "job ", i, ": ‖v‖ is NaN");
            return std::vector<double>{1};
          },
          [](std::int64_t, const std::vector<double>&) {});
    } catch (const NumericError& e) { messages[static_cast<std::size_t>(world.rank())] = e.what(); }
  });
  CHECK(messages == std::vector<std::string>(3, "[test] job 4: ‖v‖ is NaN"));
  sharpness::MeasureOptions o = all_measures();
  o.pac_bayes.rise = 1e9;  // no noise raises the loss so much
  o.measures = {"pac_bayes", "low_pass"};
  check_report(3, Kind::linear, o);
}

TEST_CASE("measures: ranks share the passes of a surface") {
  const auto surface_of = [](const sharpness::Ranks& ranks) {
    const Problem p(Kind::linear, 30);
    const sharpness::Landscape l(p.params, {p.x, p.y},
                                 [&](const Tensor& x, const Tensor& y) {
                                   return cross_entropy(p.net(x), y, {.reduction = Reduction::none});
                                 },
                                 {.replicas = 4, .ranks = ranks});
    return sharpness::surface(l, {sharpness::random_direction(l, 1), sharpness::random_direction(l, 2)},
                              {.x = {.points = 5}, .y = {.points = 3}, .sigma = 0.1, .draws = 3})
        .loss;
  };
  const std::vector<double> one = surface_of({});
  on_ranks(4, [&](distributed::Communicator& world) {
    check(surface_of(distributed::ranks_of(world)) == one, "test", "another surface on rank ", world.rank());
  });
}

TEST_CASE("population: members on several ranks are the members of one process") {
  const Problem data(Kind::linear);
  for (const std::int64_t size : {1, 2, 5})
    for (const int ranks : {1, 2, 3, 4}) {
      Population<Member> one(size, [](std::int64_t k) { return Member(k); });
      one.each([&](Member& m) { m.train(data); });
      const auto lengths = one.each([](Member& m) { return m.length(); });
      const auto thetas = one.each([](Member& m) { return m.params.theta().to_vector(); });
      on_ranks(ranks, [&](distributed::Communicator& world) {
        const Problem own(Kind::linear);
        distributed::Population members(world, size, [](std::int64_t k) { return Member(k); });
        members.each([&](Member& m) { m.train(own); });
        check(members.size() == size, "test", "size ", members.size());
        check(members.each([](Member& m) { return m.length(); }) == lengths, "test", "other lengths");
        check(members.each([](Member& m) { return m.params.theta().to_vector(); }) == thetas, "test",
              "other θ");
        for (std::int64_t k = 0; k < size; ++k) {
          check(members.has(k) == (k % ranks == world.rank()), "test", "member ", k);
          if (members.has(k)) check(members[k].length() == lengths[static_cast<std::size_t>(k)], "test", "θ");
        }
      });
    }
}

TEST_CASE(
    "population: what fails on one rank is an error on all; members of another architecture are named") {
  std::vector<std::string> messages(3);
  on_ranks(3, [&](distributed::Communicator& world) {
    distributed::Population members(world, 4, [](std::int64_t k) { return Member(k); });
    const Member* const fourth = members.has(3) ? &members[3] : nullptr;
    try {
      members.each([&](Member& m) {
        check<NumericError>(&m != fourth, "test", "the loss of member 3 is NaN");
        return 1;
      });
    } catch (const Error& e) { messages[static_cast<std::size_t>(world.rank())] = e.what(); }
    check(members.each([](Member&) { return 2; }) == std::vector<int>(4, 2), "test", "it does not go on");
    CHECK_ERROR(members[(world.rank() + 1) % 3], IndexError, "is not on rank");
  });
  CHECK(messages[0] == "[test] the loss of member 3 is NaN");
  for (const int p : {1, 2})
    CHECK(messages[static_cast<std::size_t>(p)] == "[Population] rank 0: [test] the loss of member 3 is NaN");
  const auto mixed = [](distributed::Communicator& world) {
    struct Any {
      ParameterStore params;
    };
    distributed::Population members(world, 6, [](std::int64_t k) {
      Any out;
      nn::Linear(nn::Path(out.params) / "fc", k % 3 == 1 ? 4 : 5, 2);
      return out;
    });
  };
  CHECK_ERROR(on_ranks(3, mixed), distributed::CommunicationError, "those of rank 1 differ");
  CHECK_ERROR(on_ranks(2,
                       [](distributed::Communicator& world) {
                         distributed::Population members(world, 4 + world.rank(),
                                                         [](std::int64_t k) { return Member(k); });
                       }),
              distributed::CommunicationError, "rank 1 has a number of members other than");
}

}  // namespace lpf::test
