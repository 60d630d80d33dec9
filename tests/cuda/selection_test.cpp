// Selection, order, masks, padding and scatter on the device: in mixed precision, in a captured step, and beside
// the CPU.
#include <functional>

#include "compare.hpp"
#include "lpf/train/captured_step.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

using Function = std::function<Tensor(const Tensor&)>;

Tensor on_device(const Tensor& t, const Tensor& like) { return t.to(like.device()); }

/// Functions of a [4, 6] tensor that do not depend on its values in shape.
std::vector<std::pair<std::string, Function>> selections() {
  const Tensor mask = (normal({4, 6}, 8) > 0.0).to(Device::cpu());
  const Tensor index = integers({4, 3}, [](std::int64_t i) { return i * i % 6; }).to(Device::cpu());
  const auto keep = [](const Tensor& t, const Tensor& x) { return on_device(t, x); };
  std::vector<std::pair<std::string, Function>> all = {
      {"amax",
       [](const Tensor& x) {
         return amax(x, {0, 1});
       }},
      {"amin", [](const Tensor& x) { return amin(x, 1, true); }},
      {"topk", [](const Tensor& x) { return topk(x, 3).values; }},
      {"smallest", [](const Tensor& x) { return topk(x, 2, 0, false).values; }},
      {"tril", [](const Tensor& x) { return tril(x, 1); }},
      {"triu", [](const Tensor& x) { return triu(x); }},
      {"flip",
       [](const Tensor& x) {
         return flip(x, {0, 1});
       }},
      {"masked_fill", [=](const Tensor& x) { return masked_fill(x, keep(mask, x), -1); }},
      {"scatter", [=](const Tensor& x) { return scatter(x, 1, keep(index, x), x * 2.0); }},
      {"scatter of a number", [=](const Tensor& x) { return scatter(x, 1, keep(index, x), 3); }},
      {"clamp", [](const Tensor& x) { return clamp(x, -abs(x[0]), abs(x[1])); }},
      {"clamp from below", [](const Tensor& x) { return clamp(x, x[0], {}); }}};
  for (const auto& [name, mode] :
       std::vector<std::pair<std::string, PadMode>>{{"constant", PadMode::constant},
                                                    {"reflect", PadMode::reflect},
                                                    {"replicate", PadMode::replicate},
                                                    {"circular", PadMode::circular}})
    all.emplace_back("pad " + name, [mode = mode](const Tensor& x) {
      return pad(x, {1, 2, 2, -1}, {.mode = mode, .value = 2});
    });
  return all;
}
/// The same for functions with sums, which are float32 for bfloat16.
std::vector<std::pair<std::string, Function>> sums() {
  const Tensor index = integers({4, 3}, [](std::int64_t i) { return i * i % 6; }).to(Device::cpu());
  const Tensor rows = integers({4}, [](std::int64_t i) { return i * 2 % 4; }).to(Device::cpu());
  return {{"logsumexp", [](const Tensor& x) { return logsumexp(x, {1}); }},
          {"cumsum", [](const Tensor& x) { return cumsum(x, 0); }},
          {"scatter_add", [=](const Tensor& x) { return scatter_add(x, 1, on_device(index, x), x); }},
          {"scatter_add of vectors",
           [=](const Tensor& x) { return scatter_add(x[0], 0, on_device(index, x)[1], x[1]); }},
          {"index_add", [=](const Tensor& x) { return index_add(x, 0, on_device(rows, x), x, 0.5); }}};
}

}  // namespace

TEST_CASE("selection: values and gradients are the CPU's") {
  SKIP_WITHOUT_CUDA;
  const Tensor x = normal({4, 6}, 1).to(Device::cpu());
  auto all = selections();
  for (const auto& [name, f] : sums()) all.emplace_back(name, f);
  const Tensor mask = (normal({4, 6}, 9) > 0.0).to(Device::cpu());
  all.emplace_back("masked_select", [=](const Tensor& t) { return masked_select(t, on_device(mask, t)); });
  for (const auto& [name, f] : all) {
    INFO(name);
    const Tensor here = x.clone().requires_grad_(), there = x.to(Device::cuda()).requires_grad_();
    const Tensor a = f(here), b = f(there);
    CHECK(relative_error(b.detach().to(Device::cpu()), a.detach()) < 1e-14);
    const Tensor g = normal(a.shape(), 2).to(Device::cpu());
    CHECK(relative_error(grad(b, {there}, {.gradient = g.to(Device::cuda())})[0].to(Device::cpu()),
                         grad(a, {here}, {.gradient = g})[0]) < 1e-14);
  }
  const Tensor sparse = where(mask, x, zeros({}, x.options()));
  CHECK(same_bits(nonzero(sparse.to(Device::cuda())).to(Device::cpu()), nonzero(sparse)));
  CHECK(nonzero(zeros({5000}, {.device = Device::cuda()})).shape() == Shape{0, 1});
  CHECK(nonzero(ones({5000}, {.device = Device::cuda()})).shape() == Shape{5000, 1});
}

TEST_CASE("selection: in mixed precision sums are float32, the rest stays bfloat16") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor x = normal({4, 6}, 1, float32).to(gpu), rounded = x.to(bfloat16);
  const auto check_all = [&](const std::vector<std::pair<std::string, Function>>& all, DType type) {
    for (const auto& [name, f] : all)
      for (const bool scope_open : {false, true}) {
        INFO(name);
        const Tensor leaf = x.clone().requires_grad_(), exact = rounded.to(float32).requires_grad_();
        Tensor y;
        {
          const auto scope = autocast(scope_open ? bfloat16 : float32);
          y = f(leaf.to(bfloat16));
        }
        CHECK(y.dtype() == type);
        const Tensor wide = f(exact);
        CHECK(relative_error(y.detach().to(float32).to(Device::cpu()), wide.detach().to(Device::cpu())) <
              0x1p-8);
        const Tensor g = normal(y.shape(), 2, float32).to(bfloat16).to(gpu);
        const Tensor dx = grad(y, {leaf}, {.gradient = g.to(type)})[0];
        CHECK(dx.dtype() == float32);
        CHECK(relative_error(dx.to(Device::cpu()),
                             grad(wide, {exact}, {.gradient = g.to(float32)})[0].to(Device::cpu())) < 0x1p-6);
      }
  };
  check_all(selections(), bfloat16);
  check_all(sums(), float32);
  const Tensor index = integers({4, 2}, [](std::int64_t i) { return i % 6; }).to(gpu);
  CHECK_ERROR(scatter(rounded, 1, index, x), DTypeError, "[scatter]", "bfloat16");
  const auto scope = autocast();
  for (const Tensor& y :
       {scatter(rounded, 1, index, x), scatter_add(x, 1, index, rounded), clamp(rounded, x, {}),
        clamp(x, {}, rounded), kl_div(rounded, x), kl_div(rounded, rounded)})
    CHECK(y.dtype() == float32);
}

TEST_CASE("selection: in a captured step") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  auto all = selections();
  for (const auto& [name, f] : sums()) all.emplace_back(name, f);
  for (const auto& [name, f] : all) {
    INFO(name);
    // Indices and masks are copied to the device before the capture.
    const auto own = [f = f](const Tensor& x) {
      const Tensor leaf = x.detach().requires_grad_();
      return grad(sum(square(f(leaf))), {leaf})[0];
    };
    if (name == "masked_fill" || name.starts_with("scatter") || name == "index_add") continue;
    CapturedStep step(own);
    for (int k = 0; k < 5; ++k) {
      const Tensor x = normal({4, 6}, static_cast<std::uint64_t>(k) + 3, float32).to(gpu);
      CHECK(same_bits(step(x).to(Device::cpu()), own(x).to(Device::cpu())));
    }
    CHECK(step.captured() == 1);
  }
  const Tensor index = integers({4, 3}, [](std::int64_t i) { return i * i % 6; }).to(gpu);
  const Tensor rows = integers({3}, [](std::int64_t i) { return i * 2 % 4; }).to(gpu);
  const auto indexed = [=](const Tensor& x) {
    const Tensor leaf = x.detach().requires_grad_();
    const Tensor y = scatter(leaf, 1, index, square(leaf)) + scatter_add(leaf, 1, index, leaf) +
                     index_add(leaf, 0, rows, leaf.narrow(0, 0, 3)) + masked_fill(leaf, x > 0.0, 1);
    return grad(sum(square(y)), {leaf})[0];
  };
  CapturedStep step(indexed);
  for (int k = 0; k < 5; ++k) {
    const Tensor x = normal({4, 6}, static_cast<std::uint64_t>(k) + 3, float32).to(gpu);
    CHECK(same_bits(step(x).to(Device::cpu()), indexed(x).to(Device::cpu())));
  }
  CHECK(step.captured() == 1);

  CapturedStep sized([](const Tensor& x) { return masked_select(x, x > 0.0); });
  const Tensor x = ones({3}, {.device = gpu});
  for (int k = 0; k < 2; ++k) sized(x);
  CHECK_ERROR(sized(x), StateError, "captured step", "masked_select");
}
