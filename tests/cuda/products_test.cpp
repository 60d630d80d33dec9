// Matrix products on the device compared with the CPU's.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// op(X) in memory: a matrix of `rows`×`columns`, with at least that row stride.
struct Stored {
  std::int64_t ld, stride, elements;
  Stored(std::int64_t rows, std::int64_t columns, std::int64_t batch, std::int64_t gap, bool shared)
      : ld(std::max<std::int64_t>(1, columns + gap)),
        stride(shared ? 0 : rows * ld + gap),
        elements(batch == 0 ? 0 : (batch - 1) * stride + rows * ld) {}
};

void check_product(Choice& choice, DType type, std::int64_t m, std::int64_t n, std::int64_t k,
                   std::int64_t batch) {
  const bool ta = choice.between(0, 1), tb = choice.between(0, 1);
  const auto gap = [&] { return choice.between(0, 1) * choice.between(0, 5); };
  const Stored a(ta ? k : m, ta ? m : k, batch, gap(), choice.between(0, 3) == 0),
      b(tb ? n : k, tb ? k : n, batch, gap(), choice.between(0, 3) == 0), c(m, n, batch, gap(), false);
  const double alpha = choice.between(0, 1) ? 1 : -0.75;
  const double betas[] = {0, 1, 0.5}, beta = betas[choice.between(0, 2)];
  INFO(name_of(type), " m ", m, " n ", n, " k ", k, " batch ", batch, " transposed ", ta, tb, " strides ",
       a.ld, " ", a.stride, " ", b.ld, " ", b.stride, " ", c.ld, " ", c.stride, " beta ", beta);
  // The content of C is ignored if beta is 0, and the gaps between its rows are not written.
  Tensor to = choice.numbers({c.elements}, type);
  if (beta == 0) to = full({c.elements}, not_a_number, {type});
  const Tensor from_a = choice.numbers({a.elements}, type),
               from_b = choice.numbers({b.elements}, type) / std::sqrt(static_cast<double>(k + 1));
  check_same({from_a, from_b}, {to}, type == float32 ? 1e-5 : 1e-12, [&](const auto& t, auto in, auto out) {
    t.gemm({type, ta, tb, m, n, k, in[0], a.ld, a.stride, in[1], b.ld, b.stride, out[0], c.ld, c.stride,
            batch, alpha, beta});
  });
}

}  // namespace

TEST_CASE("products of matrices of any size, transposed or not, in strided batches") {
  SKIP_WITHOUT_CUDA;
  Choice choice(11);
  const std::int64_t sizes[] = {0, 1, 2, 3, 5, 16, 33, 64, 100};
  const auto size = [&] { return sizes[choice.between(0, 8)]; };
  const std::int64_t batches[] = {1, 1, 3, 8};
  for (const DType type : floating)
    for (int i = 0; i < 60; ++i)
      check_product(choice, type, size(), size(), size(), batches[choice.between(0, 3)]);
}

TEST_CASE("products of nothing, and of single rows and columns") {
  SKIP_WITHOUT_CUDA;
  Choice choice(12);
  for (const DType type : floating)
    for (const std::int64_t batch : {0, 1, 4}) {
      for (int i = 0; i < 3; ++i) check_product(choice, type, 5, 7, 0, batch);
      check_product(choice, type, 0, 7, 3, batch);
      check_product(choice, type, 7, 0, 3, batch);
      check_product(choice, type, 1, 9, 17, batch);
      check_product(choice, type, 9, 1, 17, batch);
      check_product(choice, type, 1, 1, 300, batch);
    }
}

TEST_CASE("linear layers and matmul on the device, with gradients") {
  SKIP_WITHOUT_CUDA;
  for (const DType type : floating) {
    const Tensor x = normal({6, 5}, 1, type), w = normal({4, 5}, 2, type), b = normal({3, 5, 2}, 3, type);
    const Tensor a = normal({3, 4, 5}, 4, type);
    const Device gpu = Device::cuda();
    CHECK(relative_error(matmul(a.to(gpu), b.to(gpu)).to(Device::cpu()), matmul(a, b)) < 1e-5);
    CHECK(relative_error(linear(x.to(gpu), w.to(gpu)).to(Device::cpu()), linear(x, w)) < 1e-5);
  }
}
