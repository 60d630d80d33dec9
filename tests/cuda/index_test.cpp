// Gather and scatter by index: bit-identical to the CPU's, since additions to
// one element have the same order.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Table;

namespace {

struct Size {
  std::int64_t outer, n, inner, count;
};
const std::vector<Size> sizes = {{1, 1, 1, 1},       {2, 5, 3, 4},      {1, 7, 1, 600}, {3, 4, 2, 1500},
                                 {1, 3000, 5, 5000}, {0, 3, 2, 2},      {2, 3, 0, 2},   {2, 3, 4, 0},
                                 {1, 1, 8, 513},     {1, 100, 16, 1024}};

Tensor indices(Choice& choice, const Shape& shape, std::int64_t n) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < shape.numel(); ++i) values.push_back(choice.between(0, n - 1));
  return from_vector(values, shape);
}
const std::int64_t* at(void* p) { return static_cast<const std::int64_t*>(p); }

}  // namespace

TEST_CASE("index: take and index_add") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  for (const Size& s : sizes) {
    INFO("[", s.outer, ", ", s.n, ", ", s.inner, "], ", s.count, " indices");
    const Tensor index = indices(choice, {s.count}, s.n);
    for (const DType type : all_dtypes)
      check_same({choice.numbers({s.outer, s.n, s.inner}, type), index},
                 {zeros({s.outer, s.count, s.inner}, {.dtype = type})}, 0,
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.take(type, s.outer, s.n, s.inner, s.count, in[0], at(in[1]), out[0]);
                 });
    for (const DType type : floating)
      check_same({choice.numbers({s.outer, s.count, s.inner}, type), index},
                 {choice.numbers({s.outer, s.n, s.inner}, type)}, 0,
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.index_add(type, s.outer, s.n, s.inner, s.count, in[0], at(in[1]), out[0]);
                 });
  }
}

TEST_CASE("index: gather and scatter_add") {
  SKIP_WITHOUT_CUDA;
  Choice choice(2);
  for (const Size& s : sizes) {
    const std::int64_t m = std::min<std::int64_t>(s.count, 100);
    const Tensor index = indices(choice, {s.outer, m, s.inner}, s.n);
    for (const DType type : all_dtypes) {
      check_same({choice.numbers({s.outer, s.n, s.inner}, type), index},
                 {zeros({s.outer, m, s.inner}, {.dtype = type})}, 0,
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.gather(type, s.outer, s.n, s.inner, m, in[0], at(in[1]), out[0]);
                 });
      check_same({choice.numbers({s.outer, m, s.inner}, type), index},
                 {choice.numbers({s.outer, s.n, s.inner}, type)}, 0,
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.scatter_add(type, s.outer, s.n, s.inner, m, in[0], at(in[1]), out[0]);
                 });
    }
  }
}

TEST_CASE("index: scatter, the last of several entries for one place") {
  SKIP_WITHOUT_CUDA;
  Choice choice(3);
  for (const Size& s : sizes) {
    const std::int64_t m = std::min<std::int64_t>(s.count, 600);
    const Tensor index = indices(choice, {s.outer, m, s.inner}, s.n);
    for (const DType type : all_dtypes)
      check_same({choice.numbers({s.outer, m, s.inner}, type), index},
                 {choice.numbers({s.outer, s.n, s.inner}, type)}, 0,
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.scatter(type, s.outer, s.n, s.inner, m, in[0], at(in[1]), out[0]);
                 });
  }
}

TEST_CASE("index: a bad index is an error at the next wait for the device, and touches nothing") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Table& t = backend::get(gpu);
  for (const std::int64_t bad : {std::int64_t{3}, std::int64_t{-1}}) {
    const Tensor x = tensor({1.f, 2.f, 3.f}).to(gpu), y = zeros({2}, {.device = gpu});
    const Tensor index = tensor({std::int64_t{1}, bad}).to(gpu);
    t.take(float32, 1, 3, 1, 2, x.raw(), at(index.raw()), y.raw());
    CHECK_ERROR(y.to_vector(), IndexError, "index_select", "index " + std::to_string(bad), "GPU");
    CHECK(holds(y.to(Device::cpu()), {2}, {2, 0}));  // reported once
    t.index_add(float32, 1, 3, 1, 2, y.raw(), at(index.raw()), x.raw());
    CHECK_ERROR(t.synchronize(), IndexError, "index_select backward");
    t.gather(float32, 1, 3, 1, 2, x.raw(), at(index.raw()), y.raw());
    CHECK_ERROR(t.synchronize(), IndexError, "gather");
    t.scatter_add(float32, 1, 3, 1, 2, y.raw(), at(index.raw()), x.raw());
    CHECK_ERROR(t.synchronize(), IndexError, "gather backward");
    t.scatter(float32, 1, 3, 1, 2, y.raw(), at(index.raw()), x.raw());
    CHECK_ERROR(t.synchronize(), IndexError, "scatter", "index " + std::to_string(bad));
    const Tensor logits = zeros({2, 3}, {.device = gpu});
    CHECK_ERROR(cross_entropy(logits, index).item(), IndexError, "cross_entropy", std::to_string(bad));
  }
}
