// The same under mpirun (tests/distributed/mpi_test.py): MPI's collectives, and training beside one process.
#include "distributed/reports.hpp"
#include "distributed/training.hpp"
#include "lpf/distributed/init.hpp"
#include "lpf/distributed/measures.hpp"
#include "lpf/distributed/population.hpp"
#include "lpf_test.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

/// The job, begun once; null where this program was not started by mpirun, or has no MPI.
distributed::Communicator* job() {
#ifdef LPF_MPI
  if (distributed::launched().ranks == 0) return nullptr;
  static const auto world = distributed::init({.deadline = 100});
  return world.get();
#else
  return nullptr;
#endif
}

}  // namespace

TEST_CASE("mpi: collectives") {
  distributed::Communicator* const world = job();
  if (!world) return skip("not started by mpirun");
  const auto ranks = static_cast<std::size_t>(world->size()), rank = static_cast<std::size_t>(world->rank());
  std::vector<std::size_t> numbers(ranks);
  for (std::size_t p = 0; p < ranks; ++p) numbers[p] = p;
  CHECK(distributed::all_gather(*world, rank) == numbers);
  const double sum = static_cast<double>(ranks * (ranks + 1)) / 2;
  std::vector<double> wide(100'003, static_cast<double>(rank + 1));
  std::vector<float> narrow(17'000'001, static_cast<float>(rank + 1));  // more than one piece
  world->all_reduce(std::span(wide));
  world->all_reduce(std::span(narrow));
  CHECK(wide == std::vector<double>(wide.size(), sum));
  CHECK(std::count(narrow.begin(), narrow.end(), static_cast<float>(sum)) == std::ssize(narrow));
  for (const std::size_t length : {3, 8}) {  // bytes, and words of eight
    std::vector<std::byte> from, to(ranks * length);
    for (std::size_t q = 0; q < ranks; ++q) from.insert(from.end(), length, std::byte(10 * rank + q));
    world->all_to_all(from, to);
    for (std::size_t p = 0; p < ranks; ++p)
      CHECK(std::vector(to.begin() + std::ptrdiff_t(p * length),
                        to.begin() + std::ptrdiff_t((p + 1) * length)) ==
            std::vector(length, std::byte(10 * p + rank)));
  }
  const std::string text = "of rank 0";
  CHECK(distributed::broadcast(*world, rank == 0 ? text : "another") == text);
  std::vector<float> ordered(1001);
  for (std::size_t i = 0; i < ordered.size(); ++i) ordered[i] = std::sin(static_cast<float>(i + 1000 * rank));
  distributed::all_reduce_pairwise(*world, wrap(std::span(ordered), {std::ssize(ordered)}));
  const std::uint64_t hash = distributed::Hash().add(ordered.data(), ordered.size() * sizeof(float)).value();
  CHECK(distributed::different_ranks(distributed::all_gather(*world, hash)).empty());
  world->barrier();
  CHECK(world->seconds() > 0);
}

TEST_CASE("mpi: training is that of one process, and with shards to the bit") {
  distributed::Communicator* const world = job();
  if (!world) return skip("not started by mpirun");
  std::vector<Training> all{{.kind = Kind::conv},
                            {.kind = Kind::token, .options = {.lr = 0.05, .clip_norm = 0.1}}};
  for (const Estimator estimator : estimators)
    all.push_back({.kind = Kind::conv, .method = "lpf-sgd", .options = lpf_options(estimator, 8)});
  all.push_back({.kind = Kind::conv, .method = "sam", .options = {.lr = 0.05, .rho = 0.1, .slices = 4}});
  all.push_back({.kind = Kind::linear, .method = "sam", .options = {.lr = 0.05, .rho = 0.1}});
  for (Training t : all) {
    CAPTURE(t.method);
    const Trained one = train_alone(t), many = train(*world, t);
    CHECK(distance(many.theta, one.theta) < 1e-12);
    for (std::size_t i = 0; i < one.buffers.size(); ++i)
      CHECK(relative_error(many.buffers[i], one.buffers[i]) < 1e-12);
    CHECK(many.loss == doctest::Approx(one.loss).epsilon(1e-12));
    if (4 % world->size() != 0 || t.method == "sgd") continue;
    t.shards = 4;
    CHECK(same_bits(train(*world, t).theta, train_alone(t).theta));
    CHECK(same_bits(train(*world, t).buffers, train_alone(t).buffers));
  }
}

TEST_CASE("mpi: measures of sharpness and populations are those of one process to the bit") {
  distributed::Communicator* const world = job();
  if (!world) return skip("not started by mpirun");
  for (const std::int64_t samples : {0, 12}) {
    sharpness::MeasureOptions o = all_measures();
    o.samples = samples;
    const sharpness::Report one = report_of(Kind::linear, o);
    o.ranks = distributed::ranks_of(*world);
    CHECK(difference_of(report_of(Kind::linear, o), one) == "");
  }
  struct Store {
    ParameterStore params;
  };
  const auto make = [](std::int64_t k) {
    Store out{ParameterStore({.seed = static_cast<std::uint64_t>(k)})};
    nn::Linear(nn::Path(out.params) / "fc", 3, 2);
    return out;
  };
  const auto theta = [](Store& m) { return m.params.theta().to_vector(); };
  Population one(5, make);
  distributed::Population members(*world, 5, make);
  CHECK(members.each(theta) == one.each(theta));
}

}  // namespace lpf::test
