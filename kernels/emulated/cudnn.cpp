// cuDNN's convolutions on the emulated device: loops, with sums in double.
#include "../cudnn.hpp"

#include "arena.hpp"

namespace lpf::cuda {
namespace {

/// Calls f(index in x, in w, in y) for every product that a convolution sums.
template <class F>
void for_each_product(const backend::Conv2d& d, F f) {
  const std::int64_t in = d.c / d.groups, out = d.k / d.groups;
  for (std::int64_t pixel = 0; pixel < d.n * d.p * d.q; ++pixel)
    for (std::int64_t tap = 0; tap < d.kh * d.kw; ++tap) {
      const std::int64_t row = pixel / d.q % d.p * d.stride_h - d.pad_h + tap / d.kw * d.dilation_h,
                         column = pixel % d.q * d.stride_w - d.pad_w + tap % d.kw * d.dilation_w;
      if (row < 0 || row >= d.h || column < 0 || column >= d.w) continue;
      const std::int64_t x = ((pixel / (d.p * d.q) * d.h + row) * d.w + column) * d.c;
      for (std::int64_t k = 0; k < d.k; ++k)
        for (std::int64_t c = 0; c < in; ++c)
          f(x + k / out * in + c, (k * d.kh * d.kw + tap) * in + c, pixel * d.k + k);
    }
}

template <class T>
void convolve(Convolution which, const CudnnCall& call) {
  const backend::Conv2d& d = call.c;
  auto *x = static_cast<T*>(call.x), *w = static_cast<T*>(call.w), *y = static_cast<T*>(call.y);
  const auto sum = [&](std::int64_t size, T* to, auto term) {
    std::vector<double> sums(static_cast<std::size_t>(size));
    for_each_product(d, [&](std::int64_t i, std::int64_t j, std::int64_t k) { term(sums.data(), i, j, k); });
    for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<T>(sums[static_cast<std::size_t>(i)]);
  };
  const auto wide = [](T value) { return static_cast<double>(value); };
  if (which == Convolution::forward)
    sum(d.n * d.p * d.q * d.k, y,
        [&](double* s, auto i, auto j, auto k) { s[k] += wide(x[i]) * wide(w[j]); });
  if (which == Convolution::backward_data)
    sum(d.n * d.h * d.w * d.c, x,
        [&](double* s, auto i, auto j, auto k) { s[i] += wide(w[j]) * wide(y[k]); });
  if (which == Convolution::backward_filter)
    sum(d.k * d.kh * d.kw * d.c / d.groups, w,
        [&](double* s, auto i, auto j, auto k) { s[j] += wide(x[i]) * wide(y[k]); });
}

}  // namespace

bool cudnn_convolve(Convolution which, const std::vector<CudnnCall>& calls) {
  for (const CudnnCall& call : calls)
    if (call.c.dtype == DType::float64 || call.c.n == 0) return false;
  perform([=] {
    for (const CudnnCall& call : calls)
      call.c.dtype == DType::float32 ? convolve<float>(which, call) : convolve<BFloat16>(which, call);
  });
  return true;
}

}  // namespace lpf::cuda
