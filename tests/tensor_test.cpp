#include "tensor_test.hpp"

#include <cmath>
#include <cstring>

namespace lpf::test {

Tensor normal(const Shape& shape, std::uint64_t seed, DType dtype) {
  return detail::normal_tensor(shape, seed, 7).to(dtype);
}

Tensor uniform(const Shape& shape, double low, double high, std::uint64_t seed, DType dtype) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < shape.numel(); ++i)
    values.push_back(low + (high - low) * uniform_at<double>(NoiseKey{.seed = seed}, i));
  return from_vector(values, shape).to(dtype);
}

bool holds(const Tensor& t, const Shape& shape, const std::vector<double>& values) {
  return t.shape() == shape && t.to_vector() == values;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(on_host(a).raw(), on_host(b).raw(),
                     static_cast<std::size_t>(a.numel()) * size_of(a.dtype())) == 0;
}

double relative_error(const Tensor& a, const Tensor& b, double floor) {
  if (a.shape() != b.shape()) return infinity;
  const auto u = a.to_vector(), v = b.to_vector();
  double worst = 0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    if (u[i] == v[i] || (std::isnan(u[i]) && std::isnan(v[i]))) continue;
    const double error = std::abs(u[i] - v[i]) / std::max(std::abs(v[i]), floor);
    worst = error <= worst ? worst : std::isnan(error) ? infinity : error;
  }
  return worst;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto u = a.to_vector(), v = b.to_vector();
  double worst = 0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    const double d = std::abs(u[i] - v[i]);
    if (!(d <= worst)) worst = d;
  }
  return worst;
}

std::string wrong_derivatives(const GradCheckFunction& f, const std::vector<Tensor>& inputs,
                              const GradCheckOptions& options) {
  for (const auto& result : {gradcheck(f, inputs, options), gradgradcheck(f, inputs, options)})
    if (!result) return result.message;
  return {};
}

void check_derivatives(const GradCheckFunction& f, const std::vector<Tensor>& inputs) {
  const auto first = gradcheck(f, inputs);
  CHECK_MESSAGE(first.ok, first.message);
  const auto second = gradgradcheck(f, inputs);
  CHECK_MESSAGE(second.ok, second.message);
}

void check_maps_replicas(const std::function<Tensor(const Tensor&)>& f, const Tensor& w) {
  const auto plan = plan_of(w.size(0));
  const Tensor y = f(detail::add_replica_dim(w, plan));
  REQUIRE(y.is_replicated());
  const Tensor rows = detail::remove_replica_dim(y);
  for (std::int64_t r = 0; r < w.size(0); ++r) CHECK(same_bits(rows[r], f(w[r])));
  if (w.dtype() != float64) return;
  check_derivatives(
      [&](auto& v) { return detail::remove_replica_dim(f(detail::add_replica_dim(v[0], plan))); }, {w});
}

void check_same_for_any_threads(const std::function<std::vector<Tensor>()>& run) {
  struct AllThreads {
    ~AllThreads() { set_num_threads(0); }
  } at_the_end;
  set_num_threads(1);
  const auto expected = run();
  for (const int threads : {2, 3, 7}) {
    set_num_threads(threads);
    const auto found = run();
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(threads);
      CAPTURE(i);
      CHECK(same_bits(found[i], expected[i]));
    }
  }
}

}  // namespace lpf::test
