// Learning-rate schedules compared with PyTorch's.
#include "lpf/optim/schedule.hpp"

#include <limits>

#include "lpf/optim/sgd.hpp"
#include "replay.hpp"

using namespace lpf;
using namespace lpf::test;
using schedule::Schedule;

namespace {

/// LPF's schedule for a case of schedules.safetensors, as a factor of the case's base rate.
Schedule schedule_of(const std::string& name, const Json& h) {
  const std::string op = h["op"];
  const double base = h["base_lr"];
  if (op == "constant" && !h.contains("factor")) return schedule::constant();
  if (op == "constant")
    return schedule::chain({{schedule::constant(h["factor"]), h["total_iters"]}}, schedule::constant());
  if (op == "step") return schedule::step(h["step_size"], h["gamma"]);
  if (op == "multi_step")
    return schedule::multi_step(h["milestones"].get<std::vector<std::uint64_t>>(), h["gamma"]);
  if (op == "exponential") return schedule::exponential(h["gamma"]);
  if (op == "cosine") return schedule::cosine(h["T_max"], h["eta_min"].get<double>() / base);
  if (op == "linear") return schedule::linear(h["total_iters"], h["start_factor"], h["end_factor"]);
  if (op == "polynomial") return schedule::polynomial(h["total_iters"], h["power"]);
  if (name == "lambda_polynomial")
    return [](std::uint64_t t) { return std::pow(1 - static_cast<double>(t) / 30, 2); };
  if (op == "one_cycle") {
    // The peak is the base rate here; PyTorch replaces the base rate by its max_lr.
    const double peak = h["max_lr"].get<double>() / base, low = 1 / h["div_factor"].get<double>();
    Schedule cycle;
    if (h["anneal_strategy"] == "linear") {  // not an option of LPF: two lines
      REQUIRE(name == "one_cycle_linear");
      cycle = schedule::chain({{schedule::linear(8, low, 1), 8}},
                              schedule::linear(21, 1, low / h["final_div_factor"].get<double>()));
    } else {
      cycle = schedule::one_cycle({.total = h["total_steps"],
                                   .fraction_up = h["pct_start"],
                                   .initial_divisor = h["div_factor"],
                                   .final_divisor = h["final_div_factor"],
                                   .three_phases = h["three_phase"]});
    }
    return [=](std::uint64_t t) { return peak * cycle(t); };
  }
  if (name == "warmup_cosine") return schedule::chain({{schedule::warm_up(6, 0.1), 6}}, schedule::cosine(24));
  if (name == "warmup_multi_step")
    return schedule::chain({{schedule::warm_up(5, 0.2), 5}}, schedule::multi_step({8, 16}));
  if (name == "warmup_constant_exponential")
    return schedule::chain({{schedule::warm_up(4, 0.1), 4}, {schedule::constant(), 8}},
                           schedule::exponential(0.8));
  if (name == "chained_linear_exponential") {  // a product of schedules is user code
    const auto a = schedule::linear(6, 0.1), b = schedule::exponential(0.9);
    return [=](std::uint64_t t) { return a(t) * b(t); };
  }
  FAIL("a case without a schedule: " << name);
  return {};
}

}  // namespace

TEST_CASE("schedules agree with PyTorch") {
  const auto& file = FixtureFile::named("schedules.safetensors");
  const auto names = file.cases_with([](const Json&) { return true; });
  CHECK(names.size() == 24);
  for (const auto& name : names) {
    CAPTURE(name);
    const FixtureCase c(file, name);
    const Schedule factor = schedule_of(name, c.hyper);
    const double base = c.hyper["base_lr"];
    const auto lr = c.at("lr").to_vector();
    for (std::size_t t = 0; t < lr.size(); ++t) {
      CAPTURE(t);
      // PyTorch's cosine rises again after T_max; LPF's stays at its end.
      const bool past = name == "cosine_past_T_max" && t > 12;
      CHECK(base * factor(t) == doctest::Approx(past ? lr[12] : lr[t]).epsilon(1e-12));
    }
  }
}

TEST_CASE("cosine, linear and polynomial stay at their end, one_cycle too") {
  for (const std::uint64_t t : {10ull, 11ull, 1000ull, ~0ull}) {
    CHECK(schedule::cosine(10, 0.25)(t) == 0.25);
    CHECK(schedule::linear(10, 0.1, 0.5)(t) == doctest::Approx(0.5).epsilon(1e-15));
    CHECK(schedule::polynomial(10, 2)(t) == 0);
    CHECK(schedule::one_cycle({.total = 10})(t) == doctest::Approx(1 / 25e4).epsilon(1e-9));
    CHECK(schedule::one_cycle({.total = 10, .three_phases = true})(t) ==
          doctest::Approx(1 / 25e4).epsilon(1e-9));
  }
}

TEST_CASE("a milestone given twice counts twice, their order does not matter") {
  const auto s = schedule::multi_step({15, 5, 15}, 0.2);
  CHECK(s(4) == 1);
  CHECK(s(5) == doctest::Approx(0.2));
  CHECK(s(15) == doctest::Approx(0.008));
}

TEST_CASE("one_cycle is finite for every length and share") {
  for (std::uint64_t total = 1; total <= 40; ++total) {
    for (const double up : {0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 0.95}) {
      for (const bool three : {false, true}) {
        const auto s = schedule::one_cycle({.total = total, .fraction_up = up, .three_phases = three});
        for (std::uint64_t t = 0; t < total + 2; ++t) {
          CAPTURE(total);
          CAPTURE(up);
          CAPTURE(t);
          CHECK(s(t) > 0);
          CHECK(s(t) <= 1 + 1e-15);
        }
      }
    }
  }
  // One step of increase: the schedule begins at the peak. (PyTorch divides by zero there.)
  CHECK(schedule::one_cycle({.total = 10, .fraction_up = 0.1})(0) == 1);
}

TEST_CASE("chain hands over, per_epoch counts epochs") {
  const auto s = schedule::chain({{schedule::constant(0.5), 3}, {schedule::constant(0.25), 2}},
                                 schedule::exponential(0.1));
  CHECK(s(0) == 0.5);
  CHECK(s(2) == 0.5);
  CHECK(s(3) == 0.25);
  CHECK(s(5) == 1);
  CHECK(s(6) == doctest::Approx(0.1));
  const auto e = schedule::per_epoch(schedule::exponential(0.5), 10);
  CHECK(e(9) == 1);
  CHECK(e(10) == 0.5);
  CHECK(e(29) == 0.25);
}

TEST_CASE("the optimizer multiplies every group's rate by the schedule at the updates done") {
  ParameterStore params({.dtype = DType::float64});
  const nn::Path p = params;
  p.parameter("a.weight", {2}, init::zeros());
  p.parameter("a.bias", {2}, init::zeros());
  const auto is_bias = [](const ParameterInfo& info) { return info.name.ends_with("bias"); };
  optim::SGD sgd(params, {.lr = 1}, {{is_bias, {.lr = 10}}});
  CHECK(sgd.lr() == 1);
  sgd.set_schedule(schedule::step(2, 0.5));
  double done = 0;
  for (const double factor : {1.0, 1.0, 0.5, 0.5, 0.25}) {
    CHECK(sgd.lr() == factor);
    params.gradient().fill_(-1);
    sgd.step();
    done += factor;
    CHECK(params.tensor("a.weight").to_vector()[0] == done);
    CHECK(params.tensor("a.bias").to_vector()[0] == 10 * done);
  }
  sgd.set_steps(0);
  CHECK(sgd.lr() == 1);
}

TEST_CASE("schedules: the inverse square root is Vaswani et al.'s") {
  const double d = 512, w = 4000;
  const auto f = schedule::inverse_square_root(4000);
  for (const std::uint64_t t : {0, 1, 1998, 3998, 3999, 4000, 8000, 1'000'000}) {
    const double n = static_cast<double>(t) + 1;
    const double theirs = std::pow(d, -0.5) * std::min(std::pow(n, -0.5), n * std::pow(w, -1.5));
    CHECK(f(t) / std::sqrt(d * w) == doctest::Approx(theirs).epsilon(1e-14));
  }
  CHECK(f(3999) == 1);
  CHECK(schedule::inverse_square_root(1)(0) == 1);
  CHECK_ERROR(schedule::inverse_square_root(0), ValueError, "warm_up must be positive");
}

TEST_CASE("schedules: one that gives no number stops the update, and θ stays") {
  const ParameterStore params;
  const nn::Linear layer(nn::Path(params) / "a", 2, 1);
  optim::SGD sgd(params, {.lr = 1});
  sgd.set_schedule([](std::uint64_t step) { return std::log(static_cast<double>(step)); });
  const Tensor before = params.theta().clone();
  params.gradient().fill_(1);
  CHECK_ERROR(sgd.step(), ValueError, "the schedule gives -inf for update 0");
  CHECK(same_bits(params.theta(), before));
  CHECK(sgd.steps() == 0);
}

TEST_CASE("schedules: arguments out of range are ValueErrors") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(schedule::step(0), ValueError);
  CHECK_THROWS_AS(schedule::cosine(0), ValueError);
  CHECK_THROWS_AS(schedule::linear(0, 0.1), ValueError);
  CHECK_THROWS_AS(schedule::polynomial(0), ValueError);
  CHECK_THROWS_AS(schedule::one_cycle({}), ValueError);
  CHECK_THROWS_AS(schedule::per_epoch(schedule::constant(), 0), ValueError);
  CHECK_THROWS_AS(schedule::per_epoch(nullptr, 10), ValueError);
  CHECK_THROWS_AS(schedule::chain({}, nullptr), ValueError);
  CHECK_THROWS_AS(schedule::chain({{nullptr, 10}}, schedule::constant()), ValueError);
  for (const double bad : {0.0, 1.0, -0.5, nan})
    CHECK_THROWS_AS(schedule::one_cycle({.total = 10, .fraction_up = bad}), ValueError);
  for (const double bad : {0.0, -1.0, nan}) {
    CHECK_THROWS_AS(schedule::one_cycle({.total = 10, .initial_divisor = bad}), ValueError);
    CHECK_THROWS_AS(schedule::one_cycle({.total = 10, .final_divisor = bad}), ValueError);
  }
}
