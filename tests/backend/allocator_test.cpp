#include <algorithm>
#include <latch>
#include <thread>

#include "lpf/ops/activation.hpp"
#include "lpf/ops/linear.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

const backend::Table& cpu() { return backend::get(Device::cpu()); }

}  // namespace

TEST_CASE("a freed block is used again for its size") {
  const void* first = nullptr;
  {
    const Tensor x = empty({1000});
    first = x.raw();
  }
  const auto before = cpu().memory_stats().system_allocations;
  const Tensor y = empty({1000});
  CHECK(y.raw() == first);
  CHECK(cpu().memory_stats().system_allocations == before);
}

TEST_CASE(
    "memory that the system does not have is an OutOfMemoryError, and nothing is in use because of it") {
  const auto before = cpu().memory_stats().in_use;
  CHECK_ERROR(empty({std::int64_t{1} << 50}, {.device = Device::cpu()}), OutOfMemoryError, "[allocate]",
              "out of memory", "bytes wanted", "smaller batches");
  CHECK(cpu().memory_stats().in_use == before);
}

TEST_CASE("blocks are aligned to 64 bytes and do not overlap") {
  std::vector<Tensor> blocks;
  for (const std::int64_t n : {0, 1, 15, 16, 17, 63, 64, 65, 100, 255, 256, 257, 1000, 4097, 100000}) {
    blocks.push_back(empty({n}, {.dtype = uint8}));
    CHECK(reinterpret_cast<std::uintptr_t>(blocks.back().raw()) % 64 == 0);
    blocks.back().fill_(static_cast<double>(blocks.size()));
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto values = blocks[i].to_vector();
    CHECK(std::count(values.begin(), values.end(), static_cast<double>(i + 1)) == std::ssize(values));
  }
}

TEST_CASE("memory statistics") {
  const auto before = cpu().memory_stats();
  {
    const Tensor x = empty({1 << 20});
    const auto during = cpu().memory_stats();
    CHECK(during.in_use >= before.in_use + (4u << 20));
    CHECK(during.in_use <= before.in_use + (5u << 20));  // at most a quarter wasted
    CHECK(during.peak >= during.in_use);
  }
  CHECK(cpu().memory_stats().in_use == before.in_use);
  CHECK(cpu().memory_stats().cached >= (4u << 20));
  cpu().reset_peak();
  CHECK(cpu().memory_stats().peak == before.in_use);
  cpu().release_cache();
  CHECK(cpu().memory_stats().cached == 0);
  const auto released = cpu().memory_stats().system_allocations;
  const Tensor again = empty({1 << 20});
  CHECK(cpu().memory_stats().system_allocations == released + 1);
}

TEST_CASE("wrapped memory is not the allocator's") {
  const auto before = cpu().memory_stats();
  float memory[4] = {};
  {
    const Tensor x = wrap(memory, {4});
    CHECK(cpu().memory_stats().in_use == before.in_use);
  }
  CHECK(cpu().memory_stats().in_use == before.in_use);
}

TEST_CASE("a training step after the first asks the system for nothing") {
  const Tensor w1 = normal({64, 32}, 1, float32).requires_grad_(), b1 = zeros({64}).requires_grad_();
  const Tensor w2 = normal({10, 64}, 2, float32).requires_grad_();
  const auto step = [&](std::uint64_t seed) {
    const Tensor x = normal({48, 32}, seed, float32);
    sum(linear(gelu(linear(x, w1, b1)), w2).square()).backward();
    const auto off = no_grad();
    for (const Tensor& p : {w1, b1, w2}) {
      p.copy_(p - p.grad() * 1e-6);
      p.zero_grad();
    }
  };
  step(1);
  step(2);
  const auto before = cpu().memory_stats();
  for (std::uint64_t i = 3; i < 20; ++i) step(i);
  CHECK(cpu().memory_stats().system_allocations == before.system_allocations);
  CHECK(cpu().memory_stats().in_use == before.in_use);  // and stores nothing
}

TEST_CASE("blocks freed by another thread than their maker") {
  const auto before = cpu().memory_stats().in_use;
  std::vector<Tensor> made(64);
  std::thread maker([&] {
    for (auto& t : made) t = ones({100});
  });
  maker.join();
  std::thread user([&] {
    for (auto& t : made) t = Tensor();
  });
  user.join();
  CHECK(cpu().memory_stats().in_use == before);
}

TEST_CASE("memory that can be computed again: released, computed anew, and destroyed on another thread") {
  struct Sevens final : Rematerializer {
    int& made;
    explicit Sevens(int& count) : made(count) {}
    void make(void* to) const override {
      ++made;
      static_cast<std::byte*>(to)[0] = std::byte{7};
    }
  };
  int made = 0;
  auto storage = std::make_shared<Storage>(64, Device::cpu(), std::make_shared<Sevens>(made));
  CHECK(made == 0);
  CHECK(storage->pending() != nullptr);
  CHECK(storage->data()[0] == std::byte{7});
  storage->data();
  CHECK(made == 1);
  CHECK(storage->pending() == nullptr);
  Storage::release_recomputed();
  CHECK(storage->data()[0] == std::byte{7});
  CHECK(made == 2);
  std::thread([&] { storage.reset(); }).join();
  Storage::release_recomputed();  // of a storage that no longer exists
}

TEST_CASE("two threads that free and allocate at once keep to blocks of their own") {
  const auto before = cpu().memory_stats();
  std::vector<std::vector<const void*>> seen(2);
  std::latch both(2), done(2);
  const auto work = [&](std::size_t which) {
    both.arrive_and_wait();
    for (int i = 0; i < 200; ++i) {
      const Tensor a = empty({3000}), b = empty({70000});
      for (const Tensor& t : {a, b}) seen[which].push_back(t.raw());
    }
    done.arrive_and_wait();
  };
  std::thread other([&] { work(1); });
  work(0);
  other.join();
  for (auto& blocks : seen) {
    std::sort(blocks.begin(), blocks.end());
    blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
    CHECK(blocks.size() == 2);
  }
  CHECK(cpu().memory_stats().in_use == before.in_use);
  // Blocks cached by a thread are available to the others after its end.
  const auto made = cpu().memory_stats().system_allocations;
  const Tensor a = empty({70000}), b = empty({70000});
  CHECK(cpu().memory_stats().system_allocations == made);
}

TEST_CASE("a thread that frees what another made gives it back") {
  const auto round = [] {
    std::vector<Tensor> made;
    std::thread maker([&] {
      for (int i = 0; i < 4; ++i) made.push_back(empty({70000}));
    });
    maker.join();
  };
  round();
  const auto before = cpu().memory_stats().system_allocations;
  for (int i = 0; i < 20; ++i) round();
  CHECK(cpu().memory_stats().system_allocations == before);
}
