// The low-pass-filter measure and points of a landscape: correct values, and an unchanged model.
#include "lpf/sharpness/low_pass.hpp"

#include "filter/networks.hpp"

namespace lpf::test {
namespace {

using sharpness::Data;

/// Mean squared error of a linear layer, one loss per sample.
struct LinearProblem {
  ParameterStore params{{.dtype = float64, .seed = 2}};
  nn::Linear fc{params / "fc", 4, 3};
  Data data;
  explicit LinearProblem(std::int64_t n) : data{normal({n, 4}, 1), normal({n, 3}, 2)} {}
  auto losses() const {
    return
        [this](const Tensor& x, const Tensor& y) { return mean(mse_loss(fc(x), y, Reduction::none), {1}); };
  }
  double loss() const { return mean(losses()(data.x, data.y)).item(); }
  /// L + ½ tr(HΣ): H's diagonal is 2 Σ_b x_bj²/(3N) for every w_kj and 2/3 for every bias.
  double smoothed(double sigma, const Tensor& sizes) const {
    const Tensor second = mean(square(data.x), {0});
    double half_trace = 0;
    for (const auto& info : params.parameters())
      for (std::int64_t i = 0; i < info.numel(); ++i) {
        const double c = sizes.data<double>()[info.offset + i];
        half_trace += c * c * (info.shape.rank() == 2 ? second.data<double>()[i % 4] : 1) / 3;
      }
    return loss() + sigma * sigma * half_trace;
  }
};

TEST_CASE("on a quadratic the measure is L + ½ tr(HΣ), within its standard error") {
  const LinearProblem p(50);
  for (const bool normalize : {false, true})
    for (const double sigma : {0.1, 0.5}) {
      CAPTURE(normalize);
      CAPTURE(sigma);
      const Tensor sizes = normalize ? sharpness::unit_sizes(p.params) : ones_like(p.params.theta());
      const auto found =
          sharpness::low_pass(p.params, p.data, p.losses(),
                              {.sigma = sigma, .draws = 4000, .filter_normalize = normalize, .seed = 1});
      CHECK(found.draws == 4000);
      CHECK(std::abs(found.value - p.smoothed(sigma, sizes)) < 4.5 * found.standard_error);
      CHECK(found.value - p.loss() > 10 * found.standard_error);
      CHECK(found.standard_error > 0);
    }
  const auto none = sharpness::low_pass(p.params, p.data, p.losses(), {.sigma = 0, .draws = 5});
  CHECK(none.value == doctest::Approx(p.loss()).epsilon(1e-14));
  CHECK(none.standard_error < 1e-8);
}

TEST_CASE("σ/√fan-in: on a quadratic L + ½ tr(HΣ/n), biases with the fan-in of their layer") {
  const LinearProblem p(50);
  const Tensor sizes = sharpness::unit_sizes(p.params);
  for (const double sigma : {0.2, 1.0}) {
    const auto found = sharpness::low_pass(p.params, p.data, p.losses(),
                                           {.sigma = sigma, .draws = 4000, .fan_in = true, .seed = 1});
    // 4 inputs: half the deviation, of the weights and the bias
    CHECK(std::abs(found.value - p.smoothed(sigma / 2, sizes)) < 4.5 * found.standard_error);
    CHECK(found.value - p.loss() > 10 * found.standard_error);
    // the draws are those of low_pass
    const auto half =
        sharpness::low_pass(p.params, p.data, p.losses(), {.sigma = sigma / 2, .draws = 4000, .seed = 1});
    CHECK(found.value == doctest::Approx(half.value).epsilon(1e-12));
  }
  CHECK_ERROR(sharpness::low_pass(p.params, p.data, p.losses(), {.sigma = -1, .fan_in = true}), ValueError,
              "low_pass_fan_in", "-1");
}

TEST_CASE("σ/√fan-in: the fan-in of a layer is the length of its filters, of a normalisation 1") {
  const Problem p(Kind::conv);
  const filter::Segments rows = sharpness::unit_rows(p.params);
  const std::vector<double> found = sharpness::inverse_root_fan_in(p.params).to_vector();
  REQUIRE(std::ssize(found) == rows.rows);
  std::map<std::string, std::int64_t> fan_in;  // by the name of the layer
  for (const ParameterInfo& info : p.params.parameters())
    if (info.name.ends_with(".weight"))
      fan_in[info.name.substr(0, info.name.find('.'))] = info.numel() / info.shape[0];
  CHECK(fan_in.at("bn1") == 1);
  CHECK(fan_in.at("conv1") > 9);
  for (const auto& s : rows.segments) {
    const ParameterInfo& info = p.params.parameters()[s.parameter];
    CAPTURE(info.name);
    const double n = static_cast<double>(fan_in.at(info.name.substr(0, info.name.find('.'))));
    for (std::int64_t k = 0; k < s.rows; ++k)
      CHECK(found[static_cast<std::size_t>(s.first_scale + k)] ==
            doctest::Approx(1 / std::sqrt(n)).epsilon(1e-12));
  }
  // so the noise of a filter has, on average, σ times the length that the filter is measured by
  const sharpness::Coordinates l(p.params);
  const std::vector<double> deviation = l.fan_in_scale(0.1).to_vector(), c = l.units().to_vector();
  for (const auto& s : rows.segments)
    for (std::int64_t k = 0; s.length > 1 && k < s.rows; ++k)
      CHECK(deviation[static_cast<std::size_t>(s.first_scale + k)] *
                std::sqrt(static_cast<double>(s.length)) ==
            doctest::Approx(0.1 * c[static_cast<std::size_t>(s.offset + k * s.length)]).epsilon(1e-12));
  p.params.set_trainable("fc.weight", false);  // its bias keeps the layer's fan-in
  const std::vector<double> less = sharpness::inverse_root_fan_in(p.params).to_vector();
  CHECK(std::ssize(less) == sharpness::unit_rows(p.params).rows);
  CHECK(less.back() == found.back());
}

TEST_CASE("the standard error is that of the draws") {
  const LinearProblem p(20);
  double inside = 0, n = 200;
  const double exact = p.smoothed(0.3, ones_like(p.params.theta()));
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const auto found = sharpness::low_pass(
        p.params, p.data, p.losses(), {.sigma = 0.3, .draws = 64, .filter_normalize = false, .seed = seed});
    inside += std::abs(found.value - exact) < found.standard_error;
  }
  CHECK(inside / n == doctest::Approx(0.68).epsilon(0.15));
}

TEST_CASE("data in several parts, draws that do not fill the last pass") {
  const LinearProblem p(1500);  // more than 8192 rows a pass / 8 replicas
  const auto found =
      sharpness::low_pass(p.params, p.data, p.losses(), {.sigma = 0.2, .draws = 13, .seed = 3});
  // the same draws by hand: 8 and 5 replicas
  const filter::Segments rows = sharpness::unit_rows(p.params);
  const Tensor scale = affine(sharpness::at_rows(sharpness::unit_sizes(p.params), rows), 0.2, 0);
  double sum_of_losses = 0;
  for (const auto& [first, M] : {std::pair<std::uint64_t, std::int64_t>{0, 8}, {8, 5}})
    for (std::int64_t r = 0; r < M; ++r) {
      const LinearProblem own(1500);
      for (const auto& s : rows.segments) {
        const NoiseKey key{.seed = 3,
                           .purpose = Purpose::measure,
                           .draw = first,
                           .replica = static_cast<std::uint32_t>(r),
                           .parameter = s.parameter};
        for (std::int64_t i = 0; i < s.rows * s.length; ++i)
          own.params.theta().data<double>()[s.offset + i] +=
              scale.data<double>()[s.first_scale + i / s.length] * normal_at<double>(key, i);
      }
      sum_of_losses += own.loss();
    }
  CHECK(found.value == doctest::Approx(sum_of_losses / 13).epsilon(1e-12));
}

TEST_CASE("a measure leaves θ, its gradient, buffers, counters and the training flag as they were") {
  for (const Kind kind : kinds)
    for (const bool training : {true, false}) {
      CAPTURE(name_of(kind));
      const Problem p(kind);
      static_cast<void>(p.loss());  // running statistics and counters other than the initial ones
      p.loss().backward();
      p.params.train(training);
      const Snapshot before{p.params};
      const auto losses = [&](const Tensor& x, const Tensor& y) {
        CHECK_FALSE(p.params.training());
        return cross_entropy(p.net(x), y, {.reduction = Reduction::none});
      };
      const auto first = sharpness::low_pass(p.params, {p.x, p.y}, losses, {.sigma = 0.1, .draws = 20});
      CHECK(before.holds());
      CHECK(sharpness::low_pass(p.params, {p.x, p.y}, losses, {.sigma = 0.1, .draws = 20}).value ==
            first.value);
      CHECK(sharpness::low_pass(p.params, {p.x, p.y}, losses, {.sigma = 0.1, .draws = 20, .seed = 1}).value !=
            first.value);
      int calls = 0;
      const auto thrower = [&](const Tensor& x, const Tensor& y) {
        if (++calls == 2) throw std::runtime_error("the user's");
        return losses(x, y);
      };
      CHECK_THROWS_WITH(sharpness::low_pass(p.params, {p.x, p.y}, thrower, {.draws = 20}), "the user's");
      CHECK(before.holds());
      calls = 1;
      CHECK_THROWS_WITH(
          sharpness::losses_at(p.params, zeros({2, before.theta.numel()}, before.theta.options()), {p.x, p.y},
                               thrower),
          "the user's");
      CHECK(before.holds());
    }
}

TEST_CASE("points of a landscape are the losses at θ + offset") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem p(kind), own(kind);
    const std::int64_t size = p.params.theta().numel();
    const Tensor offsets = normal({5, size}) * 0.05, theta = own.params.theta().clone();
    const auto found = sharpness::losses_at(
        p.params, offsets, {p.x, p.y},
        [&](const Tensor& x, const Tensor& y) {
          return cross_entropy(p.net(x), y, {.reduction = Reduction::none});
        },
        2);
    REQUIRE(found.size() == 5);
    own.params.eval();
    for (std::size_t k = 0; k < 5; ++k) {
      own.params.theta().copy_(add(theta, offsets[static_cast<std::int64_t>(k)]));
      CHECK(found[k] == doctest::Approx(own.loss().item()).epsilon(1e-12));
    }
  }
}

TEST_CASE("unit sizes: ‖w_k‖ + |b_k| for both of a layer, |scale| + |shift| for normalisations") {
  const Problem p(Kind::conv);
  const auto c = sharpness::unit_sizes(p.params).to_vector();
  const auto values = p.params.theta().to_vector();
  const auto& infos = p.params.parameters();
  const auto check = [&](std::size_t weight, std::size_t bias) {
    const auto &w = infos[weight], &b = infos[bias];
    INFO(w.name);
    const std::int64_t units = w.shape[0], length = w.numel() / units;
    for (std::int64_t k = 0; k < units; ++k) {
      double squares = 0;
      for (std::int64_t i = 0; i < length; ++i)
        squares += std::pow(values[static_cast<std::size_t>(w.offset + k * length + i)], 2);
      const double expected = std::sqrt(squares) +
                              (bias == weight ? 0 : std::abs(values[static_cast<std::size_t>(b.offset + k)]));
      for (std::int64_t i = 0; i < length; ++i)
        CHECK(c[static_cast<std::size_t>(w.offset + k * length + i)] ==
              doctest::Approx(expected).epsilon(1e-14));
      if (bias != weight)
        CHECK(c[static_cast<std::size_t>(b.offset + k)] == doctest::Approx(expected).epsilon(1e-14));
    }
  };
  const auto index = [&](const std::string& name) {
    for (const auto& info : infos)
      if (info.name == name) return info.index;
    FAIL("no parameter ", name);
    return std::size_t{0};
  };
  for (const std::string layer : {"conv1", "conv3", "bn1", "bn2", "fc"})
    check(index(layer + ".weight"), index(layer + ".bias"));
  check(index("conv2.weight"), index("conv2.weight"));
  p.params.set_trainable("fc.weight", false);
  const Tensor some = sharpness::unit_sizes(p.params);
  CHECK(amax(some.alias({15}, infos[index("fc.weight")].offset), 0).item() == 0);
}

TEST_CASE("a layer scaled up and the next scaled down has the same filter-normalised measure") {
  const ParameterStore params({.dtype = float64, .seed = 1});
  const nn::Linear fc1(params / "fc1", 4, 6), fc2(params / "fc2", 6, 3, {.bias = false});
  const Data data{normal({30, 4}, 1), normal({30, 3}, 2)};
  const auto losses = [&](const Tensor& x, const Tensor& y) {
    return mean(mse_loss(fc2(relu(fc1(x))), y, Reduction::none), {1});
  };
  const auto measure = [&] {
    return sharpness::low_pass(params, data, losses, {.sigma = 0.1, .draws = 30}).value;
  };
  const double before = measure();
  fc1.weight.clean().detach().copy_(fc1.weight.clean().detach() * 10.0);
  fc1.bias.clean().detach().copy_(fc1.bias.clean().detach() * 10.0);
  fc2.weight.clean().detach().copy_(fc2.weight.clean().detach() / 10.0);
  CHECK(measure() == doctest::Approx(before).epsilon(1e-12));
}

TEST_CASE("estimates: of NaN no number of draws is advised, and drawing until an error is reached ends") {
  const double nan = not_a_number, inf = std::numeric_limits<double>::infinity();
  CHECK(sharpness::estimate_of(1, {1, 2, 3, 0}).advised_draws > 2);
  CHECK(sharpness::estimate_of(nan, {1, nan, 3}).advised_draws == 0);
  CHECK(sharpness::estimate_of(1, {1, nan, 3}).advised_draws == 0);
  CHECK(sharpness::estimate_of(1, {1, inf, 3}).advised_draws == 0);
  CHECK(sharpness::estimate_of(1e-100, {1, 2}).advised_draws == 1'000'000'000);
  for (const double value : {nan, 0.0}) {
    std::int64_t drawn = 0;
    sharpness::draw_until(
        1, {.relative_error = 0.1, .max_draws = 1000}, 8,
        [&](std::int64_t first, std::int64_t count) {
          CHECK(first == drawn);
          drawn += count;
        },
        [&] { return sharpness::Estimate{.value = value, .standard_error = value}; });
    CHECK(drawn == 16);
  }
}

TEST_CASE("low_pass: options out of range are ValueErrors") {
  const LinearProblem p(5);
  const auto call = [&](const sharpness::LowPassOptions& o) {
    return sharpness::low_pass(p.params, p.data, p.losses(), o);
  };
  CHECK_ERROR(call({.draws = 1}), ValueError, "draws", "1");
  CHECK_ERROR(call({.sigma = -1}), ValueError, "sigma");
}

}  // namespace
}  // namespace lpf::test
