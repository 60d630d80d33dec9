// Ten steps of LPF-SGD on the digits, each beside the published loop of M separate passes: the same gradient.
#include <cmath>
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/dense.hpp>
#include <lpf/filter/unfused.hpp>

using namespace lpf;

struct Net {
  nn::Linear fc1, fc2;
  explicit Net(nn::Path p) : fc1(p / "fc1", 64, 48), fc2(p / "fc2", 48, 10) {}
  Tensor operator()(const Tensor& x) const { return fc2(relu(fc1(x))); }
};

int main() {
  constexpr std::int64_t batch = 64, M = 8;
  const TensorDataset data = split(digits(), {640, -1}, 1)[0];
  ParameterStore params({.seed = 4}), reference({.seed = 4});
  const Net net(params), same(reference);
  optim::SGD optimizer(params, {.lr = 0.1, .momentum = 0.9}), other(reference, {.lr = 0.1, .momentum = 0.9});
  LowPassFilter filter({.M = M, .gamma = 0.06}), loop = filter;
  double first = 0, last = 0, worst = 0;
  for (std::int64_t step = 0; step < 10; ++step) {
    const std::int64_t begin = step * batch;
    const Tensor x = slice(data.images, 0, begin, begin + batch),
                 y = slice(data.labels, 0, begin, begin + batch);
    {
      auto scope = filter.perturb(params);
      const Tensor loss = cross_entropy(net(x), y);
      loss.backward();
      last = loss.item();
      if (step == 0) first = last;
    }
    filter::unfused_gradient(reference, loop, static_cast<std::uint64_t>(step), batch,
                             [&](auto from, auto to) {
                               return cross_entropy(same(slice(x, 0, from, to)), slice(y, 0, from, to));
                             });
    const Tensor difference = params.gradient() - reference.gradient();
    worst =
        std::max(worst, std::sqrt(sum(square(difference)).item() / sum(square(reference.gradient())).item()));
    optimizer.step();
    other.step();
  }
  std::printf("loss %.4f, then %.4f; largest difference from the loop %.1e\n", first, last, worst);
  return last < first && worst < 1e-5 ? 0 : 1;
}
