#include "lpf/nn/dropout.hpp"

#include "lpf/filter/low_pass_filter.hpp"
#include "tensor_test.hpp"

namespace lpf::test {
namespace {

TEST_CASE("Dropout layer: fresh masks in training, nothing in evaluation") {
  const ParameterStore params({.seed = 5});
  const nn::Dropout drop(params / "drop", 0.4);
  const Tensor x = ones({20, 10});
  const Tensor first = drop(x), second = drop(x);
  CHECK(!same_bits(first, second));
  CHECK(*params.counters().at(0).value == 2);
  CHECK(params.counters().at(0).name == "drop.draws");
  drop.draws.set_count(0);  // as a checkpoint sets it
  CHECK(same_bits(drop(x), first));
  CHECK(same_bits(drop(x), second));
  params.eval();
  CHECK(same_bits(drop(x), x));
  CHECK(drop.draws.count() == 2);
  params.train();
  const std::vector<double> values = first.to_vector();
  for (const double v : values) CHECK((v == 0 || v == doctest::Approx(1 / 0.6)));
}

TEST_CASE("Dropout layer: masks differ between layers and seeds, and do not depend on other layers") {
  const auto mask = [](const char* name, std::uint64_t seed, bool other_first) {
    const ParameterStore params({.seed = seed});
    if (other_first) nn::Dropout{params / "other"};
    return nn::Dropout(params / name)(ones({30, 10}));
  };
  CHECK(same_bits(mask("a", 1, false), mask("a", 1, true)));
  CHECK(!same_bits(mask("a", 1, false), mask("b", 1, false)));
  CHECK(!same_bits(mask("a", 1, false), mask("a", 2, false)));
}

TEST_CASE("Dropout layer: a batch in parts has the masks of the whole") {
  const ParameterStore params;
  const nn::Dropout drop(params / "drop");
  const Tensor x = normal({10, 3, 4}, 1, float32), next = normal({10, 3, 4}, 2, float32);
  const Tensor whole = drop(x), whole_next = drop(next);
  drop.draws.set_count(0);
  for (const auto& [batch, expected] : {std::pair{x, whole}, std::pair{next, whole_next}}) {
    std::vector<Tensor> parts;
    for (const auto& [from, to] : {std::pair{0, 3}, std::pair{3, 8}, std::pair{8, 10}}) {
      const nn::MicroBatch part(from, to - from);
      parts.push_back(drop(slice(batch, 0, from, to)));
    }
    CHECK(same_bits(concatenate(parts), expected));
  }
}

TEST_CASE("Dropout layer: the clean loss does not use up masks") {
  const ParameterStore params;
  const nn::Dropout drop(params / "drop");
  const Tensor weight = nn::Path(params).parameter("w", {2}, init::ones());
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  const Tensor x = ones({20, 10});
  const Tensor first = drop(x), second = drop(x);
  drop.draws.set_count(1);
  const auto scope = filter.perturb(params);
  static_cast<void>(scope.clean([&] { return drop(x); }));
  CHECK(same_bits(drop(x), second));
}

TEST_CASE("Dropout layer: errors") {
  const ParameterStore params;
  CHECK_ERROR(nn::Dropout(params / "d1", 1.5), ValueError, "'d1'", "1.5");
  CHECK_ERROR(nn::Dropout(params / "d2", std::nan("")), ValueError, "'d2'");
  const nn::Dropout drop(params / "drop");
  const nn::MicroBatch part(4, 2);
  CHECK_ERROR(drop(ones({2, 2})), StateError, "'drop'", "sample 4");
  CHECK(nn::Dropout(params / "none", 0)(ones({2})).numel() == 2);
}

}  // namespace
}  // namespace lpf::test
