// NCCL's calls, with a stand-in for the library and the emulated device: there is no GPU in them.
#include "lpf/distributed/nccl.hpp"

#include <numeric>

#include "distributed/nccl_stand_in.hpp"
#include "distributed/ranks.hpp"
#include "distributed/training.hpp"
#include "lpf_test.hpp"
#include "tensor_test.hpp"
#ifdef LPF_CUDA_EMULATED
#  include "emulated/arena.hpp"
#endif

namespace lpf::test {
namespace {

/// Makes the emulated device cuda:0. False where the program has CUDA's own.
bool emulated() {
#ifdef LPF_CUDA_EMULATED
  static const bool registered = cuda::register_emulated();
  return registered || true;
#else
  return false;
#endif
}
constexpr const char* no_device = "the stand-in needs the emulated device";

/// New tensors are on the GPU until the end of the scope.
struct OnGPU {
  OnGPU() { set_default_device(Device::cuda()); }
  ~OnGPU() { set_default_device(Device::cpu()); }
};

}  // namespace

TEST_CASE("nccl: collectives") {
  if (!emulated()) return skip(no_device);
  for (const int size : {1, 2, 3}) {
    CAPTURE(size);
    on_ranks(size, [&](distributed::Communicator& world) {
      distributed::NCCL gpus(world, 60);
      const auto ranks = static_cast<std::size_t>(size), rank = static_cast<std::size_t>(world.rank());
      const auto expect = [&](bool ok, const char* what) { check(ok, "test", what, " on rank ", rank); };
      expect(gpus.rank() == world.rank() && gpus.size() == size && gpus.name() == "NCCL 2.23.4",
             "the description");
      std::vector<float> x(101, static_cast<float>(rank + 1));
      std::vector<double> y(7, static_cast<double>(rank + 1));
      gpus.all_reduce(std::span(x));
      gpus.all_reduce(std::span(y));
      const double sum = size * (size + 1) / 2.0;
      expect(x == std::vector<float>(101, static_cast<float>(sum)) && y == std::vector<double>(7, sum),
             "a sum");
      expect(gpus.sent() == doctest::Approx((404 + 56) * 2.0 * (size - 1) / size), "the bytes sent");
      std::vector<std::byte> from, to(3 * ranks), all(5 * ranks);
      for (std::size_t q = 0; q < ranks; ++q) from.insert(from.end(), 3, std::byte(10 * rank + q));
      gpus.all_to_all(from, to);
      gpus.all_gather(std::vector<std::byte>(5, std::byte(rank)), all);
      for (std::size_t p = 0; p < ranks; ++p) {
        expect(to[3 * p] == std::byte(10 * p + rank) && to[3 * p + 2] == to[3 * p], "an exchange");
        expect(all[5 * p] == std::byte(p) && all[5 * p + 4] == std::byte(p), "what was gathered");
      }
      std::vector<std::byte> message(9, std::byte(rank));
      gpus.broadcast(message, size - 1);
      expect(message == std::vector<std::byte>(9, std::byte(size - 1)), "a broadcast");
      gpus.barrier();
      expect(gpus.seconds() > 0, "the seconds");
    });
    CHECK(open_communicators() == 0);
  }
}

TEST_CASE("nccl: parameters on GPUs train as on one, and with shards to the bit") {
  if (!emulated()) return skip(no_device);
  const OnGPU on_gpu;
  const auto same_as_alone = [](Training t) {
    CAPTURE(name_of(t.kind));
    CAPTURE(t.method);
    CAPTURE(t.shards);
    const Trained one = train_alone(t);
    REQUIRE(one.theta.device() == Device::cuda());
    for (const int ranks : {2, 4}) {
      if (t.shards == 0 && ranks == 4) continue;
      Trained many;
      on_ranks(ranks, [&](distributed::Communicator& world) {
        world.attach(std::make_unique<distributed::NCCL>(world, 60));
        const Trained mine = train(world, t);
        if (world.rank() == 0) many = mine;
      });
      const auto host = [](const Tensor& x) { return x.to(Device::cpu()); };
      CHECK(distance(host(many.theta), host(one.theta)) < 1e-12);
      if (t.shards > 0) CHECK(many.theta.to_vector() == one.theta.to_vector());
      for (std::size_t i = 0; i < one.buffers.size(); ++i)
        CHECK(relative_error(host(many.buffers[i]), host(one.buffers[i])) < 1e-12);
    }
  };
  same_as_alone({.kind = Kind::conv});  // batch norm's sums go between GPUs too
  same_as_alone({.kind = Kind::linear, .method = "lpf-sgd", .options = lpf_options(Estimator::replicas)});
  for (const Kind kind : {Kind::linear, Kind::conv})
    same_as_alone(
        {.kind = kind, .method = "lpf-sgd", .options = lpf_options(Estimator::flipout, 8), .shards = 4});
  CHECK_ERROR(on_ranks(2, [](distributed::Communicator& world) { train(world, {}); }), DeviceError,
              "nothing connects the GPUs of 2 processes", "use_gpus");
}

TEST_CASE("nccl: errors and missing ranks end a collective, and the communicator") {
  if (!emulated()) return skip(no_device);
  on_ranks(2, [](distributed::Communicator& world) {
    distributed::NCCL gpus(world, 0.3);
    std::vector<float> x(5);
    if (world.rank() == 0) {
      CHECK_ERROR(gpus.all_reduce(std::span(x)), distributed::CommunicationError, "rank 0 has waited",
                  "the deadline is 0.3 s");
      CHECK_ERROR(gpus.all_reduce(std::span(x)), StateError, "a collective before this one has failed");
    } else {
      fail_next_collective();
      CHECK_ERROR(gpus.all_reduce(std::span(x)), distributed::CommunicationError,
                  "NCCL reports: unhandled system error: of the stand-in");
    }
  });
  on_ranks(2, [](distributed::Communicator& world) {  // ranks in different collectives
    distributed::NCCL gpus(world, 5);
    std::vector<float> x(static_cast<std::size_t>(5 + world.rank()));
    CHECK_ERROR(gpus.all_reduce(std::span(x)), distributed::CommunicationError,
                "NCCL reports: invalid usage");
  });
  CHECK(open_communicators() == 0);
  distributed::OneProcess alone;
  CHECK_ERROR(distributed::NCCL(alone, 0), ValueError, "the deadline must be positive");
}

TEST_CASE("nccl: each process of a machine gets a GPU of its own") {
  CHECK(distributed::gpu_for(3, nullptr) == "3");
  CHECK(distributed::gpu_for(1, "4,6,7") == "6");
  CHECK(distributed::gpu_for(2, "GPU-8f3a,GPU-11c2,GPU-90aa") == "GPU-90aa");
  CHECK(distributed::gpu_for(5, "2") == "2");  // the launcher has chosen
  CHECK_ERROR(distributed::gpu_for(2, "0,1"), DeviceError,
              "process 2 of this machine, counted from 0, has no GPU", "CUDA_VISIBLE_DEVICES is 0,1");
}

}  // namespace lpf::test
