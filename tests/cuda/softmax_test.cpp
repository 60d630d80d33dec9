// Softmax and cross-entropy on the device compared with the CPU's.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

double tolerance(DType type) { return type == float32 ? 1e-5 : 1e-12; }
Tensor unwritten(const Shape& shape, DType type) { return full(shape, not_a_number, {type}); }

const std::vector<std::pair<std::int64_t, std::int64_t>> sizes = {
    {1, 1}, {5, 3}, {17, 10}, {9, 32}, {3, 100}, {2, 512}, {3, 513}, {2, 3000}, {0, 4}, {3, 0}};

}  // namespace

TEST_CASE("softmax and its logarithm, forward and backward") {
  SKIP_WITHOUT_CUDA;
  Choice choice(51);
  for (const DType type : floating)
    for (const auto& [rows, n] : sizes)
      for (const bool logarithm : {false, true}) {
        INFO(name_of(type), " rows ", rows, " n ", n, " logarithm ", logarithm);
        const Tensor x = choice.numbers({rows, n}, type) * 3.0, dy = choice.numbers({rows, n}, type);
        Tensor y = unwritten(x.shape(), type);
        check_same({x}, {y}, tolerance(type), [&, rows = rows, n = n](const auto& t, auto in, auto out) {
          t.softmax(type, rows, n, logarithm, in[0], out[0]);
        });
        backend::get(Device::cpu()).softmax(type, rows, n, logarithm, x.raw(), y.raw());
        check_same({y, dy}, {unwritten(x.shape(), type)}, tolerance(type),
                   [&, rows = rows, n = n](const auto& t, auto in, auto out) {
                     t.softmax_backward(type, rows, n, logarithm, in[0], in[1], out[0]);
                   });
      }
}

TEST_CASE("softmax of huge, infinite and undefined logits") {
  SKIP_WITHOUT_CUDA;
  for (const DType type : floating)
    for (const double special : {1e30, -1e30, infinity, -infinity, not_a_number})
      for (const bool logarithm : {false, true}) {
        INFO(name_of(type), " ", special, " logarithm ", logarithm);
        for (const std::int64_t place : {0, 3, 39}) {
          Tensor x = normal({2, 40}, 8, float64);
          x.data<double>()[place] = special;
          check_same(
              {x.to(type)}, {unwritten(x.shape(), type)}, tolerance(type),
              [&](const auto& t, auto in, auto out) { t.softmax(type, 2, 40, logarithm, in[0], out[0]); });
        }
        check_same(
            {full({2, 40}, special, {type})}, {unwritten({2, 40}, type)}, tolerance(type),
            [&](const auto& t, auto in, auto out) { t.softmax(type, 2, 40, logarithm, in[0], out[0]); });
      }
}

TEST_CASE("cross-entropy: an offset that the logits have in common costs no digits") {
  SKIP_WITHOUT_CUDA;
  for (const DType type : floating)
    for (const double offset : {1e3, -1e7, 1e8, 1e30})
      for (const std::int64_t n : {2, 40, 700}) {
        INFO(name_of(type), " offset ", offset, " n ", n);
        const Tensor x = full({3, n}, offset, {type, Device::cuda()}).requires_grad_();
        const Tensor target = integers({3}, [n](std::int64_t i) { return i * 7 % n; }).to(Device::cuda());
        const Tensor g = grad(cross_entropy(x, target, {.reduction = Reduction::sum}), {x})[0];
        const double p = 1 / static_cast<double>(n);
        const Tensor expected =
            affine(one_hot(target.to(Device::cpu()), n, float64), -1, p);  // softmax of equal logits
        CHECK(relative_error(g.to(Device::cpu()).to(float64), expected) < (type == float32 ? 1e-6 : 1e-14));
      }
}

TEST_CASE("cross-entropy with smoothing and ignored rows, forward and backward") {
  SKIP_WITHOUT_CUDA;
  Choice choice(52);
  for (const DType type : floating)
    for (const auto& [rows, n] : sizes)
      for (const double smoothing : {0.0, 0.1, 1.0}) {
        if (n == 0) continue;
        INFO(name_of(type), " rows ", rows, " n ", n, " smoothing ", smoothing);
        const std::int64_t ignore = -100;
        Tensor target = empty({rows}, {int64});
        for (std::int64_t i = 0; i < rows; ++i)
          target.data<std::int64_t>()[i] = choice.between(0, 3) == 0 ? ignore : choice.between(0, n - 1);
        Tensor x = choice.numbers({rows, n}, type) * 3.0;
        if (smoothing == 0 && n > 1 && rows > 0) {  // a masked class
          x = x.to(float64);
          const std::int64_t label = target.data<std::int64_t>()[0];
          x.data<double>()[label == 0 ? 1 : 0] = -infinity;
          x = x.to(type);
        }
        const Tensor loss = unwritten({rows}, type), normalizer = unwritten({rows, 2}, type),
                     dloss = choice.numbers({rows}, type);
        check_same({x, target}, {loss, normalizer}, tolerance(type),
                   [&, rows = rows, n = n](const auto& t, auto in, auto out) {
                     t.cross_entropy(type, rows, n, smoothing, ignore, in[0],
                                     static_cast<std::int64_t*>(in[1]), out[0], out[1]);
                   });
        backend::get(Device::cpu())
            .cross_entropy(type, rows, n, smoothing, ignore, x.raw(), target.data<std::int64_t>(), loss.raw(),
                           normalizer.raw());
        check_same({x, target, normalizer, dloss}, {unwritten(x.shape(), type)}, tolerance(type),
                   [&, rows = rows, n = n](const auto& t, auto in, auto out) {
                     t.cross_entropy_backward(type, rows, n, smoothing, ignore, in[0],
                                              static_cast<std::int64_t*>(in[1]), in[2], in[3], out[0]);
                   });
      }
}
