// The noise law Σ: the deviation of each element, during training and independent of the rest of the store.
#include "lpf/core/gaussian.hpp"
#include "networks.hpp"

namespace lpf::test {
namespace {

double norm_of(const std::vector<double>& values, std::size_t first, std::size_t count) {
  long double squares = 0;
  for (std::size_t i = first; i < first + count; ++i)
    squares += static_cast<long double>(values[i]) * values[i];
  return static_cast<double>(std::sqrt(squares));
}

/// s of every row of a parameter, from the scope.
std::vector<double> scales_of(const ParameterStore& params, const filter::Perturbation& scope,
                              std::size_t parameter) {
  std::size_t first = 0;
  const auto s = scope.scale().to_vector();
  const auto rows = [](const ParameterInfo& info) {
    return static_cast<std::size_t>(info.shape.rank() > 1 ? info.shape[0] : 1);
  };
  for (std::size_t i = 0; i < parameter; ++i) first += rows(params.parameters()[i]);
  const auto begin = s.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(rows(params.parameters()[parameter]))};
}

TEST_CASE("filter-wise: γ‖w_k‖ for every filter, γ(‖p‖ + 1e-16) for a vector") {
  for (const Kind kind : kinds)
    for (const DType dtype : {float64, float32}) {
      ParameterStore params({.dtype = dtype, .seed = 3});
      if (kind == Kind::conv) static_cast<void>(ConvNet(params));
      if (kind == Kind::token) static_cast<void>(TokenNet(params));
      if (kind == Kind::tied) static_cast<void>(TiedNet(params));
      if (kind == Kind::linear) static_cast<void>(LinearNet(params));
      const double tolerance = dtype == float64 ? 1e-15 : 2e-7, gamma = 0.07;
      LowPassFilter filter({.M = 2, .gamma = gamma});
      auto scope = filter.perturb(params);
      for (const auto& info : params.parameters()) {
        INFO(info.name);
        static_cast<void>(scope.read(info.index));
        const auto values = params.tensor(info.index).to_vector();
        const auto s = scales_of(params, scope, info.index);
        const std::size_t length = values.size() / s.size();
        for (std::size_t k = 0; k < s.size();
             ++k) {  // [K, kh, kw, C], [out, in], [entries, dim]: by the first axis
          const double floor = info.shape.rank() > 1 ? 0 : 1e-16;
          CHECK(std::abs(s[k] - gamma * (norm_of(values, k * length, length) + floor)) <= tolerance * s[k]);
        }
      }
    }
}

TEST_CASE(
    "the rows of an embedding are filters, a padding row of zeros has no noise, a vector of zeros next to "
    "none") {
  const ParameterStore params({.dtype = float64});
  const nn::Embedding embed(params / "embed", 4, 3, {.padding_idx = 2});
  const nn::BatchNorm bn(params / "bn", 3);  // its shift is initialised to 0
  LowPassFilter filter({.M = 3, .gamma = 0.5});
  auto scope = filter.perturb(params);
  const auto s = scales_of(params, scope, 0);
  CHECK(s.size() == 4);
  CHECK(s[2] == 0);
  const Tensor replicas = lpf::detail::remove_replica_dim(scope.read(0)).detach(),
               shift = lpf::detail::remove_replica_dim(scope.read(2)).detach();
  for (std::int64_t r = 0; r < 3; ++r) CHECK(holds(replicas[r][2], {3}, {0, 0, 0}));
  CHECK(scales_of(params, scope, 2) == std::vector<double>{0.5 * 1e-16});
  const double largest = amax(abs(reshape(shift, {9})), 0).item();
  CHECK(largest > 0);
  CHECK(largest < 1e-15);
  CHECK(scales_of(params, scope, 1)[0] == doctest::Approx(0.5 * std::sqrt(3.0)).epsilon(1e-15));
}

TEST_CASE("tensor-wise: γ‖W‖ for every element of a matrix, vectors as ever") {
  const Problem p(Kind::conv);
  LowPassFilter filter({.M = 2, .gamma = 0.07, .law = NoiseLaw::tensor_wise});
  auto scope = filter.perturb(p.params);
  for (const auto& info : p.params.parameters()) {
    INFO(info.name);
    static_cast<void>(scope.read(info.index));
    const auto values = p.params.tensor(info.index).to_vector();
    for (const double s : scales_of(p.params, scope, info.index))
      CHECK(s == doctest::Approx(0.07 * norm_of(values, 0, values.size())).epsilon(1e-15));
  }
  // reference, section 1: on a filter bank the two laws are different algorithms
  LowPassFilter rows({.M = 2, .gamma = 0.07});
  const Tensor wide = filter.offsets(p.params, 0), narrow = rows.offsets(p.params, 0);
  CHECK(wide.backend().dot(float64, wide.numel(), wide.raw(), wide.raw()) >
        2 * narrow.backend().dot(float64, narrow.numel(), narrow.raw(), narrow.raw()));
}

TEST_CASE("isotropic: γ for every element, vectors and a network's zeros too") {
  for (const Kind kind : kinds) {
    const Problem p(kind);
    LowPassFilter filter({.M = 2, .gamma = 0.07, .alpha = 3, .total_steps = 4, .law = NoiseLaw::isotropic});
    p.params.set_updates(2);
    auto scope = filter.perturb(p.params);
    for (const auto& info : p.params.parameters()) {
      INFO(info.name);
      static_cast<void>(scope.read(info.index));
      for (const double s : scales_of(p.params, scope, info.index)) CHECK(s == 0.14);
    }
  }
}

TEST_CASE("the scale is of the present θ, and a constant for the gradient") {
  const ParameterStore params({.dtype = float64});
  const nn::Parameter w = nn::Path(params).parameter("w", {1, 2}, init::constant(3));
  LowPassFilter filter({.M = 1, .gamma = 0.5});
  const auto s = [&] {
    auto scope = filter.perturb(params);
    sum(linear(ones({1, 2}, {.dtype = float64}), w)).backward();  // d/dw = 1 exactly, whatever s is
    return scope.scale().item();
  };
  CHECK(s() == doctest::Approx(0.5 * std::sqrt(18.0)));
  CHECK(holds(params.tensor("w").grad(), {1, 2}, {1, 1}));
  params.theta().copy_(params.theta() * 2.0);
  CHECK(s() == doctest::Approx(std::sqrt(18.0)));
}

TEST_CASE("the radius: γ₀ at 0, αγ₀ at T and after, halfway between at T/2; it counts updates of θ") {
  const Radius radius{0.2, 15, 100};
  CHECK(radius.at(0) == 0.2);
  CHECK(radius.at(50) == doctest::Approx(0.2 * 8).epsilon(1e-15));
  CHECK(radius.at(100) == doctest::Approx(3).epsilon(1e-15));
  CHECK(radius.at(1000) == radius.at(100));
  CHECK(radius.at(25) == doctest::Approx(0.2 * (1 + 14 * (1 - std::sqrt(0.5)) / 2)).epsilon(1e-15));
  for (std::uint64_t t = 0; t < 100; ++t) CHECK(radius.at(t) < radius.at(t + 1));
  CHECK(Radius{0.2, 1, 0}.at(7) == 0.2);
  CHECK(Radius{0.2, 0, 10}.at(10) == doctest::Approx(0));

  const Problem p(Kind::linear);
  LowPassFilter filter({.M = 2, .gamma = 0.1, .alpha = 3, .total_steps = 4});
  CHECK(filter.gamma(2) == doctest::Approx(0.2));
  const double wanted[] = {0.1, 0.1, 0.1 * (1 + (1 - std::sqrt(0.5))), 0.2, 0.3, 0.3};
  const std::uint64_t updates[] = {0, 0, 1, 2, 4, 9};  // two micro-batches of one update have one radius
  for (std::size_t i = 0; i < 6; ++i) {
    p.params.set_updates(updates[i]);
    auto scope = filter.perturb(p.params);
    static_cast<void>(scope.read(0));
    CHECK(scope.gamma() == doctest::Approx(wanted[i]).epsilon(1e-15));
    CHECK(scope.scale().to_vector()[0] ==
          doctest::Approx(wanted[i] * norm_of(p.params.theta().to_vector(), 0, 5)).epsilon(1e-14));
  }
}

TEST_CASE("options out of range are ValueErrors") {
  CHECK_ERROR(LowPassFilter({.alpha = 15}), ValueError, "total_steps", "15");
  CHECK_NOTHROW(LowPassFilter({.alpha = 1}));
  CHECK_ERROR(LowPassFilter({.M = 0}), ValueError, "M", "0");
  CHECK_ERROR(LowPassFilter({.M = -3}), ValueError, "-3");
  for (const double bad : {-0.1, infinity, not_a_number}) {
    CHECK_ERROR(LowPassFilter({.gamma = bad}), ValueError, "gamma");
    CHECK_ERROR(LowPassFilter({.alpha = bad, .total_steps = 5}), ValueError, "alpha");
  }
  for (const std::int64_t odd : {1, 3, 7})
    CHECK_ERROR(LowPassFilter({.M = odd, .estimator = Estimator::antithetic}), ValueError, "even",
                concat(odd));
  CHECK_ERROR(LowPassFilter({.estimator = Estimator::per_sample, .keep_replica_gradients = true}), ValueError,
              "keep_replica_gradients");
  const Problem p(Kind::linear);
  const filter::Segments rows = filter::segments_of(p.params, NoiseLaw::filter_wise, {});
  const auto open = [&](const filter::PassOptions& o) {
    const filter::Perturbation scope(p.params, rows, o);
  };
  CHECK_ERROR(open({.M = 0}), ValueError, "M");
  CHECK_ERROR(open({.M = 3, .estimator = Estimator::antithetic}), ValueError, "even");
  CHECK_ERROR(open({.M = 3, .perturbations = zeros({2, 5})}), ShapeError, "[2, 5]");
  CHECK_ERROR(open({.M = 3, .scale = zeros({2})}), ShapeError, "[2]");
  CHECK_ERROR(open({.M = 3, .point = p.params.theta()}), ShapeError, "one replica");
  CHECK_ERROR(open({.M = 1, .point = zeros({5})}), ShapeError, "[5]");
  CHECK(nn::detail::active_passes().empty());
}

/// The noise of a parameter in pass `draw`, [M, shape…].
Tensor noise_of(const ParameterStore& params, const LowPassFilter& filter, const std::string& name,
                std::uint64_t draw = 0) {
  const Tensor offsets = filter.offsets(params, draw);
  for (const auto& info : params.parameters())
    if (info.name == name) {
      std::vector<Tensor> each;
      for (std::int64_t r = 0; r < offsets.size(0); ++r)
        each.push_back(offsets[r].alias(info.shape, info.offset));
      return stack(each);
    }
  return {};
}

TEST_CASE("freezing a layer, leaving it out, or padding changes no number elsewhere") {
  const LowPassFilterOptions o{.M = 3, .gamma = 0.1, .seed = 6};
  const LowPassFilter filter(o);
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem plain(kind), frozen(kind);
    const std::string first = plain.params.parameters()[0].name, third = plain.params.parameters()[2].name;
    frozen.params.set_trainable(first, false);
    LowPassFilterOptions without = o;
    without.include = [&](const ParameterInfo& info) { return info.name != third; };
    const LowPassFilter partial(without);
    for (const auto& info : plain.params.parameters()) {
      INFO(info.name);
      const Tensor noise = noise_of(plain.params, filter, info.name);
      const Tensor none = zeros(noise.shape(), noise.options());
      CHECK(same_bits(noise_of(frozen.params, filter, info.name), info.name == first ? none : noise));
      CHECK(same_bits(noise_of(plain.params, partial, info.name), info.name == third ? none : noise));
      CHECK(same_bits(noise_of(frozen.params, partial, info.name),
                      info.name == first || info.name == third ? none : noise));
    }
  }
  // the same parameter after others of other sizes: another offset into θ, other gaps, the same noise
  const auto build = [](std::int64_t out, std::int64_t in, DType dtype) {
    ParameterStore params({.dtype = dtype, .seed = 1});
    const nn::Linear front(params / "front", in, out), behind(params / "behind", 6, 5);
    return params;
  };
  for (const DType dtype : {float32, float64}) {
    const ParameterStore small = build(1, 1, dtype), large = build(33, 17, dtype);
    CHECK(small.parameters()[2].offset != large.parameters()[2].offset);
    for (const char* name : {"behind.weight", "behind.bias"})
      CHECK(same_bits(noise_of(small, filter, name), noise_of(large, filter, name)));
  }
  // a filter's noise does not depend on its address: the rows of one parameter share one stream
  const ParameterStore params = build(3, 4, float64);
  const Tensor noise = on_host(noise_of(params, filter, "front.weight"));
  const auto values = params.theta().to_vector();
  for (std::int64_t r = 0; r < 3; ++r)
    for (std::int64_t e = 0; e < 12; ++e) {
      const NoiseKey key{
          .seed = 6, .purpose = Purpose::perturbation, .replica = static_cast<std::uint32_t>(r)};
      CHECK(noise.data<double>()[12 * r + e] ==
            doctest::Approx(0.1 * norm_of(values, static_cast<std::size_t>(e / 4 * 4), 4) *
                            normal_at<double>(key, e))
                .epsilon(1e-14));
    }
}

TEST_CASE("the noise is fresh for every pass, replica and seed, and can be replayed") {
  const Problem p(Kind::linear);
  LowPassFilter filter({.M = 2, .gamma = 0.1, .seed = 4});
  const LowPassFilter other({.M = 2, .gamma = 0.1, .seed = 5});
  const auto read = [&] {
    auto scope = filter.perturb(p.params);
    CHECK(scope.key().draw + 1 == filter.draws());
    return lpf::detail::remove_replica_dim(scope.read(0)).detach().clone();
  };
  const Tensor first = read(), second = read();
  const auto equal_elements = [](const Tensor& a, const Tensor& b) {
    const auto u = a.to_vector(), v = b.to_vector();
    std::size_t count = 0;
    for (std::size_t i = 0; i < u.size(); ++i) count += u[i] == v[i];
    return count;
  };
  CHECK(equal_elements(first, second) == 0);
  CHECK(equal_elements(first[0], first[1]) == 0);
  CHECK(equal_elements(noise_of(p.params, filter, "fc1.weight"), noise_of(p.params, other, "fc1.weight")) ==
        0);
  filter.set_draws(0);
  CHECK(same_bits(read(), first));
  CHECK(same_bits(read(), second));
  const Tensor antithetic =
      noise_of(p.params, LowPassFilter({.M = 4, .gamma = 0.1, .estimator = Estimator::antithetic, .seed = 4}),
               "fc2.weight");
  CHECK(same_bits(antithetic[0], -antithetic[1]));
  CHECK(same_bits(antithetic[2], -antithetic[3]));
  CHECK(equal_elements(antithetic[0], antithetic[2]) == 0);
  CHECK(relative_error(antithetic[2], noise_of(p.params, filter, "fc2.weight")[1]) ==
        0);  // draw 1 of the same stream
}

TEST_CASE("the noise, and a whole pass, have the same bits for any number of threads") {
  for (const DType dtype : {float32, float64})
    for (const auto estimator : {Estimator::replicas, Estimator::antithetic, Estimator::per_sample}) {
      std::vector<Tensor> noise, gradients;
      for (const int threads : {1, 2, 5}) {
        set_num_threads(threads);
        const ParameterStore params({.dtype = dtype, .seed = 1});
        const nn::Linear fc1(params / "fc1", 150, 130), fc2(params / "fc2", 130, 10);
        LowPassFilter filter({.M = 6, .gamma = 0.05, .estimator = estimator});
        noise.push_back(filter.offsets(params, 3));
        const auto scope = filter.perturb(params);
        sum(square(fc2(tanh(fc1(normal({50, 150}, 1, dtype)))))).backward();
        gradients.push_back(params.gradient());
      }
      set_num_threads(0);
      for (std::size_t i = 1; i < 3; ++i) {
        CHECK(same_bits(noise[i], noise[0]));
        CHECK(same_bits(gradients[i], gradients[0]));
      }
    }
}

}  // namespace
}  // namespace lpf::test
