// Several optimizer steps compared with the CPU's.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::AdamStep;
using backend::SGDStep;
using backend::Table;

TEST_CASE("optimizer: SGD") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  for (const DType type : floating)
    for (const std::int64_t n : {0, 1, 1000})
      for (const double momentum : {0., 0.9})
        for (const bool nesterov : {false, true}) {
          const SGDStep step{.lr = 0.1,
                             .momentum = momentum,
                             .dampening = nesterov ? 0 : 0.2,
                             .weight_decay = 0.01,
                             .nesterov = nesterov,
                             .first = false};
          // The first step does not read the velocity: here it contains NaN.
          const Tensor velocity = momentum == 0 ? Tensor() : full({n}, not_a_number, {.dtype = type});
          check_same({choice.numbers({n}, type)}, {velocity, choice.numbers({n}, type)},
                     4 * tolerance_of(type), [&](const Table& t, const auto& in, const auto& out) {
                       for (int i = 0; i < 3; ++i) {
                         SGDStep now = step;
                         now.first = i == 0;
                         if (i == 0 && momentum != 0) t.fill(out[0], type, n, 0);
                         t.sgd(type, n, now, in[0], out[0], out[1]);
                       }
                     });
        }
}

TEST_CASE("optimizer: the first SGD step does not read the velocity") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor gradient = ones({5}, {.device = gpu}), theta = zeros({5}, {.device = gpu}),
               velocity = full({5}, not_a_number, {.device = gpu});
  theta.backend().sgd(
      float32, 5,
      {.lr = 1, .momentum = 0.9, .dampening = 0, .weight_decay = 0, .nesterov = false, .first = true},
      gradient.raw(), velocity.raw(), theta.raw());
  CHECK(holds(theta, {5}, {-1, -1, -1, -1, -1}));
}

TEST_CASE("optimizer: Adam and AdamW") {
  SKIP_WITHOUT_CUDA;
  Choice choice(2);
  for (const DType type : floating)
    for (const std::int64_t n : {0, 1, 1000})
      for (const bool decoupled : {false, true})
        for (const bool amsgrad : {false, true})
          check_same({choice.numbers({n}, type)},
                     {zeros({n}, {.dtype = type}), zeros({n}, {.dtype = type}),
                      amsgrad ? zeros({n}, {.dtype = type}) : Tensor(), choice.numbers({n}, type)},
                     20 * tolerance_of(type), [&](const Table& t, const auto& in, const auto& out) {
                       for (int i = 1; i <= 3; ++i)
                         t.adam(type, n,
                                {.beta1 = 0.9,
                                 .beta2 = 0.99,
                                 .epsilon = 1e-8,
                                 .weight_decay = decoupled ? 0 : 0.05,
                                 .step = 0.01 / (1 - std::pow(0.9, i)),
                                 .root = 1 / std::sqrt(1 - std::pow(0.99, i)),
                                 .shrink = decoupled ? 1 - 0.01 * 0.05 : 1,
                                 .amsgrad = amsgrad},
                                in[0], out[0], out[1], out[2], out[3]);
                     });
}

TEST_CASE("optimizer: steps on a part of the arrays, which begins within a pack or ends in one") {
  SKIP_WITHOUT_CUDA;
  Choice choice(3);
  for (const DType type : floating)
    for (const std::int64_t n : {1, 2, 4, 7, 9, 130})
      for (const std::int64_t begin : {0, 1, 4})
        for (const std::int64_t other : {0, 3}) {
          INFO(text_of(type), ", n = ", n, ", from ", begin, " and ", other);
          const auto some = [&] { return choice.numbers({n + 9}, type); };
          const auto from = [&](void* p, std::int64_t i) {
            return static_cast<std::byte*>(p) + i * static_cast<std::int64_t>(size_of(type));
          };
          for (const double momentum : {0.0, 0.9})
            check_same({some()}, {some(), some()}, 4 * tolerance_of(type),
                       [&](const Table& t, const auto& in, const auto& out) {
                         t.sgd(type, n,
                               {.lr = 0.1,
                                .momentum = momentum,
                                .dampening = 0.1,
                                .weight_decay = 0.01,
                                .nesterov = false,
                                .first = false},
                               from(in[0], other), from(out[0], begin), from(out[1], begin));
                       });
          for (const bool amsgrad : {false, true})
            check_same({some()}, {some(), abs(some()), abs(some()), some()}, 20 * tolerance_of(type),
                       [&](const Table& t, const auto& in, const auto& out) {
                         t.adam(type, n,
                                {.beta1 = 0.9,
                                 .beta2 = 0.99,
                                 .epsilon = 1e-8,
                                 .weight_decay = 0.05,
                                 .step = 0.1,
                                 .root = 3,
                                 .shrink = 0.99,
                                 .amsgrad = amsgrad},
                                from(in[0], other), from(out[0], begin), from(out[1], begin),
                                amsgrad ? from(out[2], begin) : nullptr, from(out[3], begin));
                       });
        }
}
