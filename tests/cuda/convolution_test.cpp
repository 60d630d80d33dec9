// Convolutions on the device compared with the CPU's: all three products, various
// geometries, slices of any length.
#include "compare.hpp"
#include "lpf/backend/cuda/options.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Conv2d;

namespace {

/// A convolution without slices, with the size of its output.
Conv2d describe(DType type, std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c, std::int64_t k,
                std::int64_t kh, std::int64_t kw, std::int64_t stride = 1, std::int64_t pad = 0,
                std::int64_t dilation = 1, std::int64_t groups = 1) {
  Conv2d d{};
  d.dtype = type;
  d.n = n, d.h = h, d.w = w, d.c = c, d.k = k, d.kh = kh, d.kw = kw;
  d.stride_h = d.stride_w = stride;
  d.pad_h = d.pad_w = pad;
  d.dilation_h = d.dilation_w = dilation;
  d.groups = groups;
  d.replicas = 1;
  return d;
}
void set_output(Conv2d& d) {
  d.p = (d.h + 2 * d.pad_h - d.dilation_h * (d.kh - 1) - 1) / d.stride_h + 1;
  d.q = (d.w + 2 * d.pad_w - d.dilation_w * (d.kw - 1) - 1) / d.stride_w + 1;
}

std::vector<std::int64_t> cut(std::int64_t samples, std::int64_t replicas) {
  return Slices(replicas, samples).boundaries();
}

Tensor unwritten(const Shape& shape, DType type) { return full(shape, not_a_number, {type}); }

/// All entries of a convolution, with w and bias replicated or not.
void check_convolution(Choice& choice, Conv2d d, const std::vector<std::int64_t>& slices) {
  set_output(d);
  d.slice_begin = slices.data();
  d.replicas = std::ssize(slices) - 1;
  const DType type = d.dtype;
  const double tolerance = type == float32 ? 1e-5 : 1e-12;
  const std::int64_t in = d.c / d.groups;
  const Shape ws{d.replicas, d.k, d.kh, d.kw, in};
  const Tensor x = choice.numbers({d.n, d.h, d.w, d.c}, type),
               w = choice.numbers(ws, type) / std::sqrt(static_cast<double>(d.kh * d.kw * in + 1)),
               bias = choice.numbers({d.replicas, d.k}, type),
               dy = choice.numbers({d.n, d.p, d.q, d.k}, type) /
                    std::sqrt(static_cast<double>(d.k / d.groups * d.kh * d.kw + 1));
  const Tensor dy_of_w = dy / std::sqrt(static_cast<double>(d.n * d.p * d.q + 1));
  INFO(name_of(type), " x ", x.shape().to_string(), " w ", ws.to_string(), " y ", dy.shape().to_string(),
       " stride ", d.stride_h, " ", d.stride_w, " pad ", d.pad_h, " ", d.pad_w, " dilation ", d.dilation_h,
       " ", d.dilation_w, " groups ", d.groups, " workspace ",
       lpf::cuda::options.convolution_workspace.load(), " cudnn ", lpf::cuda::options.cudnn.load(), " way ",
       static_cast<int>(lpf::cuda::options.replicated_convolution.load()));
  for (const bool replicated : {false, true}) {
    if (replicated && d.replicas == 1) continue;
    for (const bool replicated_bias : {false, true}) {
      Conv2d e = d;
      e.w_stride = replicated ? w.numel() / d.replicas : 0;
      e.bias_stride = replicated_bias ? d.k : 0;
      INFO("replicated: w ", replicated, ", bias ", replicated_bias);
      check_same({x, w, replicated == replicated_bias ? bias : Tensor()}, {unwritten(dy.shape(), type)},
                 tolerance,
                 [&](const auto& t, auto from, auto to) { t.conv2d(e, from[0], from[1], from[2], to[0]); });
      if (replicated_bias) continue;
      check_same({dy, w}, {unwritten(x.shape(), type)}, tolerance, [&](const auto& t, auto from, auto to) {
        t.conv2d_backward_data(e, from[0], from[1], to[0]);
      });
      check_same({x, dy_of_w}, {unwritten(replicated ? ws : Shape{d.k, d.kh, d.kw, in}, type)}, tolerance,
                 [&](const auto& t, auto from, auto to) {
                   t.conv2d_backward_filter(e, from[0], from[1], to[0], replicated);
                 });
    }
  }
}

/// Changes a setting until the end of the scope.
template <class T>
class Set {
 public:
  Set(std::atomic<T>& option, T value) : option_(option), before_(option.exchange(value)) {}
  ~Set() { option_ = before_; }

 private:
  std::atomic<T>& option_;
  T before_;
};

/// With one and several replicas, with cuDNN and without.
void check_with_slices(Choice& choice, const Conv2d& d) {
  using lpf::cuda::options, lpf::cuda::ReplicatedConvolution;
  for (const std::int64_t replicas : {1, 3, 8}) {
    if (d.n < replicas) continue;
    check_convolution(choice, d, cut(d.n, replicas));
    if (d.dtype == float64) continue;
    const Set products(options.replicated_convolution, ReplicatedConvolution::products);
    check_convolution(choice, d, cut(d.n, replicas));
    const Set grouped(options.replicated_convolution, ReplicatedConvolution::grouped);
    check_convolution(choice, d, cut(d.n, replicas));
    const Set slices(options.replicated_convolution, ReplicatedConvolution::slices);
    const Set one_stream(options.convolution_streams, 1);
    check_convolution(choice, d, cut(d.n, replicas));
    const Set own(options.cudnn, false);
    check_convolution(choice, d, cut(d.n, replicas));
  }
}

}  // namespace

TEST_CASE("convolutions of many geometries, with replicas and without") {
  SKIP_WITHOUT_CUDA;
  Choice choice(21);
  for (const DType type : floating) {
    check_with_slices(choice, describe(type, 9, 6, 5, 4, 8, 3, 3, 1, 1));
    check_with_slices(choice, describe(type, 8, 5, 7, 3, 5, 3, 2, 2, 1));
    check_with_slices(choice, describe(type, 8, 4, 4, 8, 6, 1, 1));               // a product
    check_with_slices(choice, describe(type, 9, 5, 5, 8, 4, 1, 1, 2));            // with stride: not one
    check_with_slices(choice, describe(type, 8, 9, 8, 2, 3, 3, 3, 2, 2, 2));      // dilated
    check_with_slices(choice, describe(type, 8, 5, 6, 8, 12, 3, 3, 1, 1, 1, 4));  // groups
    check_with_slices(choice, describe(type, 9, 4, 4, 6, 6, 3, 3, 1, 1, 1, 6));   // depthwise
    check_with_slices(choice, describe(type, 8, 4, 4, 8, 4, 1, 1, 1, 0, 1, 2));   // products in groups
    check_with_slices(choice, describe(type, 10, 1, 1, 1, 1, 1, 1));
    check_with_slices(choice, describe(type, 8, 3, 3, 5, 7, 5, 5, 3, 2));  // kernel over the image
    check_with_slices(choice, describe(type, 8, 7, 7, 2, 2, 2, 2, 3));     // pixels no window has
    Conv2d d = describe(type, 11, 7, 6, 4, 6, 3, 2);
    d.stride_w = 2, d.pad_h = 2, d.dilation_h = 2;
    check_with_slices(choice, d);
  }
}

TEST_CASE("convolutions in tiles of a small workspace") {
  SKIP_WITHOUT_CUDA;
  for (const std::int64_t bytes :
       {std::int64_t{1}, std::int64_t{700}, std::int64_t{5000}, std::int64_t{40000}}) {
    const Set small(lpf::cuda::options.convolution_workspace, bytes);
    const Set own(lpf::cuda::options.cudnn, false);
    Choice choice(22);
    for (const DType type : floating) {
      check_with_slices(choice, describe(type, 10, 5, 4, 4, 3, 3, 3, 1, 1));
      check_with_slices(choice, describe(type, 8, 5, 4, 4, 6, 3, 3, 2, 1, 1, 2));
    }
  }
}

TEST_CASE("convolutions of slices of any length, empty ones too") {
  SKIP_WITHOUT_CUDA;
  Choice choice(23);
  for (const DType type : floating) {
    check_convolution(choice, describe(type, 7, 4, 5, 3, 4, 3, 3, 1, 1), {0, 3, 3, 4, 7});
    check_convolution(choice, describe(type, 6, 4, 4, 4, 2, 2, 2, 2), {0, 1, 6});
    check_convolution(choice, describe(type, 0, 4, 4, 4, 2, 2, 2, 2), {0, 0, 0});
    check_convolution(choice, describe(type, 0, 4, 4, 4, 2, 2, 2, 2), {0, 0});
  }
}
