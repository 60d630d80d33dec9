#include "lpf/backend/cpu/parallel.hpp"

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "lpf/backend/threads.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/linear.hpp"
#include "lpf/ops/matmul.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::cpu::parallel_for;

namespace {

/// Sets the number of threads until the end of the scope.
struct Threads {
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(0); }
};

}  // namespace

TEST_CASE("parallel_for covers every index once") {
  for (const int threads : {1, 2, 3, 7}) {
    const Threads set(threads);
    for (const std::int64_t n : {0, 1, 2, 5, 100, 1001})
      for (const std::int64_t grain : {1, 3, 100, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
        parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          CHECK(begin < end);
          for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
        CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& k) { return k == 1; }));
      }
  }
}

TEST_CASE("an exception thrown in a part arrives at the caller") {
  for (const int threads : {1, 2, 7}) {
    const Threads set(threads);
    const auto run = [&] {
      parallel_for(1000, 1, [](std::int64_t begin, std::int64_t end) {
        if (begin <= 500 && 500 < end) fail("part", "of the work");
      });
    };
    CHECK_ERROR(run(), ValueError, "[part] of the work");
    CHECK_ERROR(run(), ValueError, "[part]");  // again: no state is left over
    std::atomic<std::int64_t> total = 0;
    parallel_for(1000, 1, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
    CHECK(total == 1000);
  }
}

TEST_CASE("parallel_for inside parallel_for") {
  const Threads set(3);
  std::atomic<std::int64_t> total = 0;
  parallel_for(10, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      parallel_for(100, 1, [&](std::int64_t from, std::int64_t to) { total += to - from; });
  });
  CHECK(total == 1000);
}

TEST_CASE("the number of threads") {
  {
    const Threads set(5);
    CHECK(num_threads() == 5);
  }
  CHECK(num_threads() >= 1);
  CHECK_ERROR(set_num_threads(-1), ValueError, "[set_num_threads]", "-1");
}

TEST_CASE("elementwise results do not depend on the number of threads") {
  const Tensor x = normal({257, 1031}, 1, float32), y = normal({1031}, 2, float32),
               z = normal({257, 1}, 3, float32);
  const auto run = [&] {
    return std::vector<Tensor>{exp(x),
                               gelu(x),
                               x + y,
                               x * z,
                               y * z,
                               where(x > z, y, x),
                               transpose(x),
                               x.to(float64),
                               maximum(x, y) / 3.0,
                               tanh(x),
                               slice(x, 1, 3, 1000, 7),
                               expand(y, {257, 1031})};
  };
  check_same_for_any_threads(run);
}

TEST_CASE("a training step does not depend on the number of threads") {
  const auto train = [] {
    const Tensor w1 = normal({128, 300}, 1, float32).requires_grad_(),
                 w2 = normal({10, 128}, 2, float32).requires_grad_();
    for (std::uint64_t i = 0; i < 3; ++i) {
      const Tensor x = normal({128, 300}, 10 + i, float32);
      mean(linear(tanh(linear(x, w1)), w2).square()).backward();
      const auto off = no_grad();
      for (const Tensor& p : {w1, w2}) {
        p.copy_(p - p.grad() * 0.1);
        p.zero_grad();
      }
    }
    return std::vector<Tensor>{w1.detach(), w2.detach()};
  };
  check_same_for_any_threads(train);
}

TEST_CASE("the library called from several threads at once") {
  const Tensor x = normal({300, 300}, 1, float32);
  const Tensor expected = matmul(x, x);
  std::vector<Tensor> found(4);
  std::vector<std::thread> threads;
  for (auto& out : found)
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) out = matmul(x, x);
    });
  for (auto& thread : threads) thread.join();
  for (const auto& out : found) CHECK(same_bits(out, expected));
}
