// A custom operation and layer in one file: the operation with its derivative and its rule for perturbed
// weights, the layer as a plain struct, and tests of both. In the library they would be one file in ops/, one
// in nn/, and their tests.
#include <cmath>
#include <cstdio>
#include <lpf/calculus/gradcheck.hpp>
#include <lpf/filter/unfused.hpp>
#include <lpf/lpf.hpp>
#include <lpf/ops/custom.hpp>

using namespace lpf;

namespace {

/// x/(1 + |x|), elementwise; the derivative is 1/(1 + |x|)² = (1 − |y|)².
Tensor softsign(const Tensor& x) {
  // Inside a perturbed pass a parameter stands for M copies of itself. An elementwise operation treats all
  // elements alike, so its rule is: apply it to one plain tensor [M, shape…].
  if (x.is_replicated()) return map_replicas(softsign, x);

  // Forward: any code; span() needs the CPU. float32 or float64; elements are always contiguous.
  const Tensor y = empty_like(x);
  visit_floating("softsign", x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto from = x.span<T>(), to = y.span<T>();
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = from[i] / (T(1) + std::abs(from[i]));
  });

  // Backward: the gradient of y becomes that of x. It is written with differentiable operations, softsign
  // among them, so gradients can be differentiated again, any number of times. It captures x, not y, whose
  // history holds the node that would hold y: a cycle that is never freed.
  return record("softsign", y, {x},
                [x](const Tensor& g, Need) { return Grads{g * square(1.0 - abs(softsign(x)))}; });
}

/// y = softsign(gain) ⊙ x + shift, with one learned gain in (−1, 1) and one shift per
/// feature. x [B, …, features].
struct Gain {
  nn::Parameter gain, shift;

  Gain(const nn::Path& p, std::int64_t features)
      : gain(p.parameter("gain", {features}, init::ones())),
        shift(p.parameter("shift", {features}, init::normal(0, 0.1))) {}

  // per_sample assigns each sample its copy of a parameter. Without it, inside a perturbed pass, the product
  // is an error, never a silent broadcast.
  Tensor operator()(const Tensor& x) const {
    return x * per_sample(softsign(gain), x) + per_sample(shift, x);
  }
};

struct Net {
  nn::Linear in;
  Gain gain;
  nn::Linear out;
  explicit Net(const nn::Path& p) : in(p / "in", 5, 8), gain(p / "gain", 8), out(p / "out", 8, 3) {}
  Tensor operator()(const Tensor& x) const { return out(gain(softsign(in(x)))); }
};

bool all_well = true;
void report(const char* what, bool ok, const std::string& found) {
  std::printf("%-6s %s\n       %s\n", ok ? "ok" : "WRONG", what, found.c_str());
  all_well &= ok;
}

}  // namespace

int main() {
  // 1. The derivatives against finite differences.
  const Tensor a = tensor({-2.0, -0.5, 0.3, 4.0});
  const auto f = [](const std::vector<Tensor>& in) { return softsign(in[0]); };
  const auto first = gradcheck(f, {a}), second = gradgradcheck(f, {a});
  report("softsign: first derivative", first.ok, first.message);
  report("softsign: second derivative", second.ok, second.message);

  // 2. One batched pass over M = 4 perturbed copies of the network against M separate passes, on 10 samples
  //    in slices of 3, 3, 2 and 2.
  ParameterStore params({.dtype = float64, .seed = 1});
  const Net net(params);
  const Tensor x = affine(reshape(arange(50).to(float64), {10, 5}), 0.04, -1);
  const Tensor y = from_vector<std::int64_t>({0, 1, 2, 0, 1, 2, 0, 1, 2, 0}, {10});
  const auto loss = [&](std::int64_t from, std::int64_t to) {
    return cross_entropy(net(slice(x, 0, from, to)), slice(y, 0, from, to));
  };
  LowPassFilter filter({.M = 4, .gamma = 0.1});
  {
    const auto scope = filter.perturb(params);
    loss(0, 10).backward();
  }
  const Tensor fused = params.gradient().clone();
  params.zero_grad();
  filter::unfused_gradient(params, filter, 0, 10, loss);
  const double error = abs(fused - params.gradient()).max().item();
  report("one perturbed pass equals the loop over copies", error < 1e-14,
         concat("largest difference between the gradients: ", error));

  // 3. Without per_sample the operation throws.
  try {
    const auto scope = filter.perturb(params);
    static_cast<void>(softsign(net.in(x)) * softsign(net.gain.gain));
    report("a perturbed parameter beside an activation is refused", false, "no error");
  } catch (const ReplicaError& e) {
    report("a perturbed parameter beside an activation is refused", true, e.what());
  }
  return all_well ? 0 : 1;
}
