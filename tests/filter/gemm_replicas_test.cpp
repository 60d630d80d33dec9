// Products with replicas computed on the fly, compared with materialised replicas.

#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/lpf.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

struct Case {
  std::int64_t rows, length, m, M, first, batch;
  bool antithetic;
};

template <class T>
double largest_difference(const Case& c, bool transpose, double beta) {
  const TensorOptions as{dtype_of<T>(), Device::cpu()};
  const Tensor theta = normal({c.rows * c.length}, 1, dtype_of<T>());
  const Tensor scale = affine(normal({c.rows + 3}, 2, dtype_of<T>()), 0.1, 0.3);
  const backend::Segment segment{0, c.rows, c.length, 3, 7};
  const NoiseKey key{.seed = 11, .purpose = Purpose::perturbation, .draw = 5};
  const auto& cpu = backend::get(Device::cpu());
  Tensor whole = empty({c.M, c.rows, c.length}, as);
  const std::int64_t place = 0;
  cpu.perturb(as.dtype, &segment, &place, 1, key, theta.raw(), scale.raw(), c.M, c.antithetic, as.dtype,
              whole.raw());

  const std::int64_t k = transpose ? c.length : c.rows, n = transpose ? c.rows : c.length;
  const Tensor a = normal({c.batch, c.m, k}, 3, dtype_of<T>());
  const Tensor expected = normal({c.batch, c.m, n}, 4, dtype_of<T>()), got = expected.clone();
  backend::Gemm g{as.dtype,       false, transpose, c.m,     n,        k,
                  a.raw(),        k,     c.m * k,   nullptr, c.length, c.rows * c.length,
                  expected.raw(), n,     c.m * n,   c.batch, 1.0,      beta};
  g.b = whole.data<T>() + c.first * c.rows * c.length;
  cpu.gemm(g);
  g.b = nullptr;
  g.c = got.raw();
  const backend::Replicas pending{c.M, segment, key, theta.raw(), scale.raw(), c.antithetic};
  g.replicas = &pending;
  g.first_replica = c.first;
  cpu.gemm_replicas(g);
  const auto largest = [](const Tensor& t) { return amax(abs(reshape(t, {t.numel()})), 0).item(); };
  return largest(sub(got, expected)) / largest(expected);
}

TEST_CASE_TEMPLATE("products with pending replicas are those with made ones", T, float, double) {
  CPU_ONLY;
  const double tolerance = std::is_same_v<T, float> ? 2e-6 : 4e-15;
  for (const Case& c :
       {Case{512, 784, 16, 8, 0, 8, false}, Case{512, 784, 16, 8, 0, 8, true},
        Case{300, 70, 5, 7, 2, 4, false}, Case{300, 300, 3, 8, 3, 5, true}, Case{200, 3000, 4, 4, 1, 2, true},
        Case{10, 512, 40, 3, 0, 3, false}, Case{1, 1, 1, 2, 0, 2, false}, Case{1030, 64, 17, 2, 1, 1, true}})
    for (const bool transpose : {true, false})
      for (const double beta : {0.0, 1.0, 0.5}) {
        CAPTURE(c.rows);
        CAPTURE(c.length);
        CAPTURE(c.antithetic);
        CAPTURE(transpose);
        CAPTURE(beta);
        CHECK(largest_difference<T>(c, transpose, beta) < tolerance);
      }
}

TEST_CASE("products with pending replicas: the same bits for any number of threads") {
  CPU_ONLY;
  const Tensor x = normal({48, 130}, 1, float32);
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    const ParameterStore params({.seed = 1});
    const nn::Linear layer(nn::Path(params) / "fc", 130, 700);
    LowPassFilter filter({.M = 8, .gamma = 0.1, .seed = 2, .memory = ReplicaMemory::recomputed});
    std::vector<float> all;
    {
      const auto scope = filter.perturb(params);
      const Tensor input = x.clone().requires_grad_();
      const Tensor y = layer(input);
      sum(square(y)).backward();
      for (const Tensor& t : {y, input.grad(), params.gradient()})
        for (const float v : t.to_vector<float>()) all.push_back(v);
    }
    if (first.empty()) first = all;
    CHECK(first == all);
  }
  set_num_threads(0);
}

TEST_CASE("replicas kept, remade, and some of each give one gradient") {
  const auto gradient = [](ReplicaMemory memory, Estimator estimator) {
    const ParameterStore params({.dtype = float64, .seed = 1});
    const nn::Path root(params);
    // small, large, small, large: the stored ones are not adjacent
    const nn::Linear a(root / "a", 20, 300), b(root / "b", 300, 301), c(root / "c", 301, 7),
        d(root / "d", 7, 10000), e(root / "e", 10000, 3);
    LowPassFilter filter({.M = 4, .gamma = 0.1, .estimator = estimator, .seed = 2, .memory = memory});
    const Tensor x = normal({19, 20}, 1, float64).requires_grad_();
    const auto scope = filter.perturb(params);
    sum(square(e(relu(d(tanh(c(relu(b(relu(a(x))))))))))).backward();
    return std::vector{params.gradient().to_vector(), x.grad().to_vector()};
  };
  for (const auto estimator : {Estimator::replicas, Estimator::antithetic}) {
    const auto kept = gradient(ReplicaMemory::stored, estimator);
    for (const auto memory : {ReplicaMemory::automatic, ReplicaMemory::recomputed}) {
      const auto other = gradient(memory, estimator);
      for (std::size_t which : {0u, 1u}) {
        double scale = 0, difference = 0;
        for (std::size_t i = 0; i < kept[which].size(); ++i) {
          scale = std::max(scale, std::abs(kept[which][i]));
          difference = std::max(difference, std::abs(kept[which][i] - other[which][i]));
        }
        CHECK(difference < 1e-13 * scale);
      }
    }
  }
}

TEST_CASE("products with pending replicas take no memory for them") {
  CPU_ONLY;
  const auto peak_of = [](ReplicaMemory memory) {
    const ParameterStore params({.seed = 1});
    const nn::Linear a(nn::Path(params) / "a", 512, 512), b(nn::Path(params) / "b", 512, 512);
    LowPassFilter filter({.M = 8, .gamma = 0.1, .seed = 2, .memory = memory});
    const Tensor x = normal({16, 512}, 1, float32);
    const auto& cpu = backend::get(Device::cpu());
    params.gradient();
    cpu.reset_peak();
    const std::size_t before = cpu.memory_stats().in_use;
    const auto scope = filter.perturb(params);
    sum(square(b(relu(a(x))))).backward();
    return cpu.memory_stats().peak - before;
  };
  const std::size_t weight = 512 * 512 * sizeof(float);
  CHECK(peak_of(ReplicaMemory::stored) > 16 * weight);
  CHECK(peak_of(ReplicaMemory::recomputed) < 3 * weight);
}

}  // namespace
}  // namespace lpf::test
