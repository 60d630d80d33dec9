// bfloat16 on the device: every entry that supports it, compared with the same
// computation in float64 on the CPU.
#include <cmath>
#include <tuple>

#include "compare.hpp"
#include "lpf/backend/cuda/options.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Binary;
using backend::Reduce;
using backend::Table;
using backend::Unary;

namespace {

/// The distance of a tensor from `expected`, rounded to bfloat16, in units of half an ulp: at most 1 if it
/// was rounded once. The difference is reduced by `slack` (relative for values larger than 1): the error of
/// float arithmetic on operands of this size before rounding.
double halves(const Tensor& found, const Tensor& expected, double slack) {
  const auto f = found.to_vector(), e = expected.to_vector();
  double most = f.size() == e.size() ? 0 : infinity;
  for (std::size_t i = 0; i < f.size(); ++i) {
    const auto nearest = static_cast<double>(BFloat16(e[i]));
    if (f[i] == nearest || (std::isnan(f[i]) && std::isnan(nearest))) continue;
    const double half = std::ldexp(1.0, std::max(std::ilogb(e[i]), -126) - 8);
    const double off = std::max(0.0, std::abs(f[i] - e[i]) - slack * std::max(1.0, std::abs(e[i]))) / half;
    most = std::max(most, std::isnan(off) ? infinity : off);
  }
  return most;
}

/// Runs f(table, type, in, out) on the device with these arrays (at `offset`, copy_at()), with type
/// bfloat16, and on the CPU with all floating arrays in float64. bfloat16 results must be rounded once,
/// others equal to float's precision.
template <class F>
void check_rounded(const std::vector<Tensor>& in, const std::vector<Tensor>& out, double slack, F f,
                   std::int64_t offset = 0) {
  const auto wide = [](const Tensor& t) { return t.defined() && is_floating(t.dtype()) ? t.to(float64) : t; };
  const auto run = [&](Device device, DType type) {
    std::vector<Tensor> kept;
    const auto pointers = [&](const std::vector<Tensor>& tensors) {
      std::vector<void*> p;
      for (const Tensor& t : tensors) {
        if (t.defined())
          kept.push_back(copy_at(type == float64 ? wide(t) : t, device, type == float64 ? 0 : offset));
        p.push_back(t.defined() ? kept.back().raw() : nullptr);
      }
      return p;
    };
    const auto from = pointers(in);
    const std::size_t first = kept.size();
    const auto to = pointers(out);
    f(backend::get(device), type, from, to);
    std::vector<Tensor> results;
    for (std::size_t i = first; i < kept.size(); ++i) results.push_back(kept[i].to(Device::cpu()));
    return results;
  };
  const auto expected = run(Device::cpu(), float64), found = run(Device::cuda(), bfloat16);
  for (std::size_t i = 0; i < found.size(); ++i) {
    INFO("output ", i, ", ", text_of(found[i].dtype()), " ", found[i].shape().to_string());
    if (found[i].dtype() == bfloat16) {
      CHECK(halves(found[i], expected[i], slack) <= 1);
    } else {
      CHECK(relative_error(found[i], expected[i]) <= 1e-5 + slack);
    }
  }
}

Tensor numbers(Choice& choice, const Shape& shape) { return choice.numbers(shape, bfloat16); }
Tensor unwritten(const Shape& shape, DType type = bfloat16) { return full(shape, not_a_number, {type}); }

bool is_test(Unary op) { return op == Unary::logical_not || op == Unary::is_finite || op == Unary::is_nan; }
bool is_test(Binary op) { return op >= Binary::equal && op <= Binary::logical_xor; }

/// Some units in float's last place of numbers up to 16.
constexpr double float_slack = 16 * 0x1p-23;

}  // namespace

TEST_CASE("bfloat16 kernels: elementwise functions are rounded once") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  Tensor x = numbers(choice, {400});
  const double special[] = {0, -0.0, 1, -1, infinity, -infinity, not_a_number, 3e38, 1e-39};
  for (std::int64_t i = 0; i < 9; ++i) x.alias({}, i).fill_(special[i]);
  for (int i = 0; i <= static_cast<int>(Unary::is_nan); ++i) {
    const Unary op{i};
    INFO("function ", i);
    check_rounded({x}, {is_test(op) ? zeros({400}, {DType::bool_}) : unwritten({400})}, float_slack,
                  [&](const Table& t, DType type, const auto& in, const auto& out) {
                    t.unary(op, type, 400, in[0], out[0], 0.7, 1.2);
                  });
  }
  const Tensor finite = numbers(choice, {300});
  for (int i = 0; i <= static_cast<int>(Binary::elu_backward); ++i) {
    const Binary op{i};
    INFO("function ", i, " of two");
    const Tensor a =
        op == Binary::power ? abs(choice.numbers({4, 30}, float64)).to(bfloat16) : numbers(choice, {4, 30});
    check_rounded({a, numbers(choice, {30})},
                  {is_test(op) ? zeros({4, 30}, {DType::bool_}) : unwritten({4, 30})}, float_slack,
                  [&](const Table& t, DType type, const auto& in, const auto& out) {
                    const auto view = [&](void* data, DType of, std::int64_t stride) {
                      return backend::View{data, of, 2, {4, 30}, {stride, 1}};
                    };
                    t.binary(op, view(in[0], type, 30), view(in[1], type, 0),
                             view(out[0], is_test(op) ? DType::bool_ : type, 30), 0.3);
                  });
  }
  check_rounded({finite}, {numbers(choice, {300})}, float_slack,
                [&](const Table& t, DType type, const auto& in, const auto& out) {
                  t.accumulate(type, 300, -0.3, in[0], out[0]);
                });
}

TEST_CASE("bfloat16 kernels: conversions have the CPU's bits, and so has what only moves elements") {
  SKIP_WITHOUT_CUDA;
  Choice choice(2);
  const Device gpu = Device::cuda();
  for (const DType type : all_dtypes) {
    INFO(text_of(type));
    const Tensor x = choice.numbers({7, 5}, type), y = numbers(choice, {7, 5});
    CHECK(same_bits(x.to(gpu).to(bfloat16).to(Device::cpu()), x.to(bfloat16)));
    if (is_floating(type)) CHECK(same_bits(y.to(gpu).to(type).to(Device::cpu()), y.to(type)));
  }
  std::vector<double> hard;  // cases that double rounding through float gets wrong
  for (double v = 1; v < 2; v += 0x1p-7)
    for (const double off : {-0x1p-40, 0.0, 0x1p-40}) hard.push_back(v + 0x1p-8 + off);
  const Tensor d = from_vector(hard, {std::ssize(hard)}, Device::cpu());
  CHECK(same_bits(d.to(gpu).to(bfloat16).to(Device::cpu()), d.to(bfloat16)));

  const Tensor x = numbers(choice, {6, 5}), there = x.to(gpu);
  CHECK(same_bits(there.transpose().to(Device::cpu()), x.transpose()));
  CHECK(same_bits(concatenate({there, there}, 1).to(Device::cpu()), concatenate({x, x}, 1)));
  CHECK(same_bits(full({4}, 0.3, {bfloat16, gpu}).to(Device::cpu()), full({4}, 0.3, {bfloat16})));
  const Tensor index = integers({4}, [](auto i) { return (5 * i + 1) % 6; });
  CHECK(same_bits(index_select(there, 0, index.to(gpu)).to(Device::cpu()), index_select(x, 0, index)));
  const Tensor choose = choice.numbers({6, 5}, DType::bool_), y = numbers(choice, {6, 5});
  CHECK(same_bits(where(choose.to(gpu), there, y.to(gpu)).to(float32).to(Device::cpu()),
                  where(choose, x.to(float32), y.to(float32))));
}

TEST_CASE("bfloat16 kernels: reductions; sums are float32") {
  SKIP_WITHOUT_CUDA;
  Choice choice(3);
  for (const auto& [outer, n, inner] :
       {std::array<std::int64_t, 3>{1, 1000, 1}, {3, 50, 7}, {2, 3000, 5}, {4, 0, 3}, {1, 1, 9}}) {
    const Tensor x = numbers(choice, {outer, n, inner});
    const Shape shape{outer, inner};
    const auto reduce = [&, outer = outer, n = n, inner = inner](Reduce op) {
      return [=](const Table& t, DType type, const auto& in, const auto& out) {
        t.reduce(op, type, outer, n, inner, in[0], out[0]);
      };
    };
    check_rounded({x}, {unwritten(shape, float32)}, 0, reduce(Reduce::sum));
    if (n == 0) continue;
    check_rounded({x}, {unwritten(shape)}, 0, reduce(Reduce::max));
    check_rounded({x}, {unwritten(shape)}, 0, reduce(Reduce::min));
    check_rounded({x}, {zeros(shape, {int64})}, 0, reduce(Reduce::argmax));
    check_rounded({x}, {zeros(shape, {int64})}, 0, reduce(Reduce::argmin));
  }
}

TEST_CASE("bfloat16 kernels: products, to bfloat16 and to float32") {
  SKIP_WITHOUT_CUDA;
  Choice choice(4);
  for (const auto& [m, n, k, batch] : {std::array<std::int64_t, 4>{5, 7, 9, 1},
                                       {16, 8, 64, 1},
                                       {3, 4, 33, 5},
                                       {1, 9, 200, 2},
                                       {6, 5, 0, 2},
                                       {0, 3, 4, 1}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const double beta : {0.0, 1.0})
          for (const DType type_c : {bfloat16, float32}) {
            INFO("m ", m, " n ", n, " k ", k, " batch ", batch, " ", ta, tb, " beta ", beta, " to ",
                 name_of(type_c));
            const Shape c{batch, m, n};
            check_rounded({numbers(choice, {batch, m, k}), numbers(choice, {batch, k, n})},
                          {beta == 0 ? unwritten(c, type_c) : choice.numbers(c, type_c)},
                          static_cast<double>(k) * 0x1p-22,  // a GPU adds in float
                          [&, m = m, n = n, k = k, batch = batch](const Table& t, DType type, const auto& in,
                                                                  const auto& out) {
                            t.gemm({type, ta, tb, m, n, k, in[0], ta ? m : k, m * k, in[1], tb ? k : n, k * n,
                                    out[0], n, m * n, batch, 1.0, beta, type == float64 ? float64 : type_c});
                          });
          }
}

TEST_CASE("bfloat16 kernels: convolutions, by cuDNN and without it, with replicas") {
  SKIP_WITHOUT_CUDA;
  using lpf::cuda::options, lpf::cuda::ReplicatedConvolution;
  Choice choice(5);
  struct Geometry {
    std::int64_t h, w, c, k, kernel, stride, pad, groups;
  };
  struct Restore {
    ~Restore() {
      options.cudnn = true;
      options.replicated_convolution = ReplicatedConvolution::automatic;
      options.convolution_workspace = std::int64_t{256} << 20;
    }
  } restore;
  for (const auto& g : {Geometry{6, 5, 4, 8, 3, 1, 1, 1},
                        {5, 7, 3, 5, 3, 2, 1, 1},
                        {4, 4, 8, 6, 1, 1, 0, 1},
                        {5, 6, 8, 12, 3, 1, 1, 4},
                        {4, 4, 16, 8, 3, 1, 1, 1}})
    for (const std::int64_t replicas : {1, 3})
      for (const ReplicatedConvolution way :
           {ReplicatedConvolution::slices, ReplicatedConvolution::products, ReplicatedConvolution::grouped})
        for (const std::int64_t workspace : {std::int64_t{256} << 20, std::int64_t{2000}}) {
          options.cudnn = way != ReplicatedConvolution::products;
          options.convolution_workspace = workspace;
          options.replicated_convolution = way;
          // Only slices of one length can be groups.
          const std::int64_t n = way == ReplicatedConvolution::grouped ? 6 : 7, in = g.c / g.groups;
          const auto slices = Slices(replicas, n).boundaries();
          backend::Conv2d d{};
          d.n = n, d.h = g.h, d.w = g.w, d.c = g.c, d.k = g.k, d.kh = d.kw = g.kernel, d.groups = g.groups;
          d.stride_h = d.stride_w = g.stride, d.pad_h = d.pad_w = g.pad, d.dilation_h = d.dilation_w = 1;
          d.p = (d.h + 2 * d.pad_h - d.kh) / d.stride_h + 1,
          d.q = (d.w + 2 * d.pad_w - d.kw) / d.stride_w + 1;
          d.replicas = replicas, d.slice_begin = slices.data();
          const Shape ws{replicas, g.k, g.kernel, g.kernel, in};
          d.w_stride = replicas > 1 ? ws.numel() / replicas : 0;
          d.bias_stride = replicas > 1 ? g.k : 0;
          const auto typed = [&](DType type) {
            backend::Conv2d e = d;
            e.dtype = type;
            return e;
          };
          INFO("kernel ", g.kernel, " stride ", g.stride, " groups ", g.groups, " replicas ", replicas,
               " way ", static_cast<int>(way), " workspace ", workspace);
          const Tensor x = numbers(choice, {n, g.h, g.w, g.c}), w = numbers(choice, ws),
                       y = numbers(choice, {n, d.p, d.q, g.k});
          const double slack = 200 * 0x1p-22;
          check_rounded({x, w}, {unwritten(y.shape())}, slack,
                        [&](const Table& t, DType type, const auto& from, const auto& to) {
                          t.conv2d(typed(type), from[0], from[1], nullptr, to[0]);
                        });
          check_rounded({y, w}, {unwritten(x.shape())}, slack,
                        [&](const Table& t, DType type, const auto& from, const auto& to) {
                          t.conv2d_backward_data(typed(type), from[0], from[1], to[0]);
                        });
          // The float32 bias is added after rounding: one more rounding.
          const Tensor bias = choice.numbers({replicas, g.k}, float32);
          const auto with_bias = [&](const Table& t, DType type, const Tensor& b) {
            Tensor out = empty(y.shape(), {type, b.device()});
            const auto at = [&](const Tensor& v) { return v.to(type).to(b.device()); };
            t.conv2d(typed(type), at(x).raw(), at(w).raw(), b.raw(), out.raw());
            return out.to(float64).to(Device::cpu());
          };
          const Device gpu = Device::cuda();
          const Tensor found = with_bias(backend::get(gpu), bfloat16, bias.to(gpu)),
                       expected = with_bias(backend::get(Device::cpu()), float64, bias.to(float64));
          CHECK(largest_difference(found, expected) <=
                2 * 0x1p-8 * (amax(abs(expected).reshape({-1}), 0).item() + 4));
          // cuDNN's gradient of a filter is bfloat16; that of products is float32.
          const bool per_replica = replicas > 1;
          const Shape dws = per_replica ? ws : Shape{g.k, g.kernel, g.kernel, in};
          const auto filter_gradient = [&](Device device, DType type) {
            const Tensor dw = unwritten(dws, type == bfloat16 ? float32 : float64).to(device);
            const auto at = [&](const Tensor& v) { return v.to(type).to(device); };
            backend::get(device).conv2d_backward_filter(typed(type), at(x).raw(), at(y).raw(), dw.raw(),
                                                        per_replica);
            return dw.to(Device::cpu());
          };
          const Tensor dw = filter_gradient(gpu, bfloat16), exact = filter_gradient(Device::cpu(), float64);
          CHECK(dw.dtype() == float32);
          CHECK(halves(dw, exact, slack) <= 1);
          if (!options.cudnn) CHECK(relative_error(dw, exact) <= slack);
        }
}

TEST_CASE("bfloat16 kernels: pooling") {
  SKIP_WITHOUT_CUDA;
  Choice choice(6);
  for (const auto& [kernel, stride, pad] : {std::array<std::int64_t, 3>{2, 2, 0}, {3, 2, 1}, {3, 1, 0}})
    for (const auto& [channels, offset, count_pad] :
         std::vector<std::tuple<std::int64_t, std::int64_t, bool>>{
             {5, 0, true}, {5, 0, false}, {4, 0, false}, {8, 0, true}, {8, 1, false}, {24, 0, false}}) {
      backend::Pool2d d{};
      d.n = 2, d.h = 7, d.w = 6, d.c = channels, d.kh = d.kw = kernel, d.stride_h = d.stride_w = stride;
      d.pad_h = d.pad_w = pad, d.count_include_pad = count_pad;
      INFO("channels ", channels, " offset ", offset);
      d.p = (d.h + 2 * pad - kernel) / stride + 1, d.q = (d.w + 2 * pad - kernel) / stride + 1;
      const auto typed = [&](DType type) {
        backend::Pool2d e = d;
        e.dtype = type;
        return e;
      };
      const Tensor x = numbers(choice, {d.n, d.h, d.w, d.c}), y = numbers(choice, {d.n, d.p, d.q, d.c});
      check_rounded(
          {x, y}, {unwritten(y.shape()), zeros(y.shape(), {int64}), unwritten(x.shape())}, float_slack,
          [&](const Table& t, DType type, const auto& in, const auto& out) {
            auto* index = static_cast<std::int64_t*>(out[1]);
            t.max_pool2d(typed(type), in[0], out[0], index);
            t.max_pool2d_backward(typed(type), in[1], index, out[2]);
          },
          offset);
      check_rounded(
          {x, y}, {unwritten(y.shape()), unwritten(x.shape())}, float_slack,
          [&](const Table& t, DType type, const auto& in, const auto& out) {
            t.avg_pool2d(typed(type), in[0], out[0]);
            t.avg_pool2d_backward(typed(type), in[1], out[1]);
          },
          offset);
    }
}

TEST_CASE("bfloat16 kernels: batch norm, with statistics and gradients of weight and bias in float32") {
  SKIP_WITHOUT_CUDA;
  Choice choice(7);
  for (const std::vector<std::int64_t>& begin : {std::vector<std::int64_t>{0, 40}, {0, 9, 18, 31}, {0, 1200}})
    for (const auto& [c, offset, shared] : std::vector<std::tuple<std::int64_t, std::int64_t, bool>>{
             {6, 0, true}, {6, 0, false}, {4, 0, true}, {8, 0, true}, {8, 1, false}, {72, 0, false}}) {
      const std::int64_t groups = std::ssize(begin) - 1, rows = begin.back();
      INFO("rows ", rows, " channels ", c, " offset ", offset);
      const Tensor x = numbers(choice, {rows, c}), dy = numbers(choice, {rows, c});
      const Tensor weight = choice.numbers({groups, c}, float32), bias = choice.numbers({groups, c}, float32);
      const Tensor mean = affine(choice.numbers({groups, c}, float32), 0.1, 0),
                   rstd = affine(abs(choice.numbers({groups, c}, float32)), 0.3, 0.5),
                   rest = affine(mean, 1e-3, 0);
      const std::int64_t stride = shared ? 0 : c, channels = c;
      const auto b = [&, channels](DType type) {
        return backend::BatchNorm{type, groups, channels, begin.data(), stride, 1e-5};
      };
      check_rounded(
          {x},
          {unwritten({groups, c}, float32), unwritten({groups, c}, float32), unwritten({groups, c}, float32)},
          0,
          [&](const Table& t, DType type, const auto& in, const auto& out) {
            t.batch_norm_statistics(b(type), in[0], out[0], out[1], out[2]);
          },
          offset);
      const Tensor residual = numbers(choice, {rows, c});
      for (const bool relu : {false, true}) {
        check_rounded(
            {x, mean, rest, rstd, weight, bias, relu ? residual : Tensor()}, {unwritten(x.shape())},
            float_slack,
            [&](const Table& t, DType type, const auto& in, const auto& out) {
              t.batch_norm(b(type), in[0], in[1], in[2], in[3], in[4], in[5], in[6], relu, out[0]);
            },
            offset);
        check_rounded(
            {x, dy, mean, rest, rstd, weight, relu ? residual : Tensor()},
            {unwritten(x.shape()), unwritten({groups, c}, float32), unwritten({groups, c}, float32),
             relu ? unwritten(x.shape()) : Tensor()},
            float_slack,
            [&](const Table& t, DType type, const auto& in, const auto& out) {
              t.batch_norm_backward(b(type), in[0], in[6], in[1], in[2], in[3], in[4], in[5], out[0], out[1],
                                    out[2], out[3]);
            },
            offset);
      }
    }
}

TEST_CASE("bfloat16 kernels: dropout keeps the CPU's elements") {
  SKIP_WITHOUT_CUDA;
  Choice choice(8);
  const NoiseKey key{.seed = 5, .purpose = Purpose::dropout, .draw = 2};
  for (const double p : {0.3, 0.9, 1.0})
    check_rounded({numbers(choice, {1001})}, {unwritten({1001})}, float_slack,
                  [&](const Table& t, DType type, const auto& in, const auto& out) {
                    t.dropout(type, key, 3, 1001, p, in[0], out[0]);
                  });
}

TEST_CASE("bfloat16 kernels: perturbed parameters are float32's, rounded once, wherever they begin") {
  SKIP_WITHOUT_CUDA;
  Choice choice(9);
  const NoiseKey key{.seed = 7, .purpose = Purpose::perturbation, .draw = 3};
  for (const bool antithetic : {false, true}) {
    const std::int64_t replicas = 4;
    const backend::Segment segments[] = {{3, 5, 7, 0, 2}, {40, 1, 9, 5, 3}, {64, 8, 16, 6, 4}};
    const std::int64_t places[] = {0, 140, 182}, size = 182 + replicas * 128;
    const Tensor theta = choice.numbers({200}, float32), scale = abs(choice.numbers({14}, float32));
    const auto run = [&](Device device, DType type) {
      const Tensor out = zeros({size}, {type, device});
      out.backend().perturb(float32, segments, places, 3, key, theta.to(device).raw(), scale.to(device).raw(),
                            replicas, antithetic, type, out.raw());
      return out.to(Device::cpu());
    };
    CHECK(same_bits(run(Device::cuda(), bfloat16), run(Device::cpu(), float32).to(bfloat16)));
  }
}

TEST_CASE("bfloat16 kernels: what sums or draws in it is refused") {
  SKIP_WITHOUT_CUDA;
  const Tensor x = zeros({4, 4}, {bfloat16, Device::cuda()});
  CHECK_ERROR(softmax(x), DTypeError, "bfloat16", ".to(float32)");
  CHECK_ERROR(cross_entropy(x, zeros({4}, {int64, Device::cuda()})), DTypeError, "bfloat16");
  CHECK_ERROR(layer_norm(x, Tensor(), Tensor()), DTypeError, "bfloat16");
  CHECK_ERROR(x.backend().normal(bfloat16, {}, 0, 4, x.raw()), DTypeError, "bfloat16");
  CHECK_ERROR(x.backend().scatter_add(bfloat16, 1, 4, 1, 4, x.raw(), nullptr, x.raw()), DTypeError,
              "bfloat16");
}
