// Pooling on the device: bit-identical to the CPU's, since both process a window's pixels, and a
// pixel's windows, in the same order.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Pool2d;

namespace {

Pool2d describe(DType type, std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c, Size2d kernel,
                Size2d stride, Size2d pad, bool count_include_pad) {
  return {.dtype = type,
          .n = n,
          .h = h,
          .w = w,
          .c = c,
          .kh = kernel.h,
          .kw = kernel.w,
          .p = (h + 2 * pad.h - kernel.h) / stride.h + 1,
          .q = (w + 2 * pad.w - kernel.w) / stride.w + 1,
          .stride_h = stride.h,
          .stride_w = stride.w,
          .pad_h = pad.h,
          .pad_w = pad.w,
          .count_include_pad = count_include_pad,
          .divisor = 0};
}

/// The same with windows that end behind the padding, p and q of them along the axes.
Pool2d beyond(Pool2d d, std::int64_t p, std::int64_t q, std::int64_t divisor = 0) {
  d.p = p, d.q = q, d.divisor = divisor;
  return d;
}

void check_pool(const Pool2d& d, const Tensor& x, const Tensor& dy, std::int64_t offset = 0) {
  INFO(name_of(d.dtype), " x ", x.shape().to_string(), " kernel ", d.kh, " ", d.kw, " stride ", d.stride_h,
       " ", d.stride_w, " pad ", d.pad_h, " ", d.pad_w, " counted ", d.count_include_pad, " offset ", offset);
  const Tensor y = full(dy.shape(), not_a_number, {d.dtype}), dx = full(x.shape(), not_a_number, {d.dtype});
  const Tensor index = full(dy.shape(), -1, {int64});
  check_same(
      {x}, {y, index}, 0,
      [&](const auto& t, auto in, auto out) {
        t.max_pool2d(d, in[0], out[0], static_cast<std::int64_t*>(out[1]));
      },
      offset);
  backend::get(Device::cpu()).max_pool2d(d, x.raw(), y.raw(), index.template data<std::int64_t>());
  check_same(
      {dy, index}, {dx}, 0,
      [&](const auto& t, auto in, auto out) {
        t.max_pool2d_backward(d, in[0], static_cast<std::int64_t*>(in[1]), out[0]);
      },
      offset);
  check_same(
      {x}, {y}, 0, [&](const auto& t, auto in, auto out) { t.avg_pool2d(d, in[0], out[0]); }, offset);
  check_same(
      {dy}, {dx}, 0, [&](const auto& t, auto in, auto out) { t.avg_pool2d_backward(d, in[0], out[0]); },
      offset);
}

}  // namespace

TEST_CASE("pooling over windows of all kinds") {
  SKIP_WITHOUT_CUDA;
  Choice choice(31);
  for (const DType type : floating)
    for (const bool counted : {true, false})
      for (const Pool2d& d :
           {describe(type, 2, 6, 6, 4, 2, 2, 0, counted), describe(type, 3, 7, 5, 3, 3, 2, 1, counted),
            describe(type, 2, 5, 6, 2, {3, 2}, {1, 3}, {1, 0}, counted),
            describe(type, 1, 4, 4, 5, 2, 1, 1, counted),
            describe(type, 2, 7, 7, 3, 2, 3, 0, counted),  // pixels in no window
            describe(type, 2, 5, 5, 3, 5, 1, 2, counted),  // all windows contain the middle
            describe(type, 4, 1, 1, 1, 1, 1, 0, counted), describe(type, 0, 4, 4, 3, 2, 2, 0, counted),
            describe(type, 2, 4, 4, 0, 2, 2, 0, counted),
            beyond(describe(type, 2, 5, 6, 3, 2, 2, 0, counted), 3, 3),
            beyond(describe(type, 2, 6, 5, 4, 3, 2, 1, counted), 4, 3),
            beyond(describe(type, 1, 4, 5, 2, {3, 4}, 3, {1, 2}, counted), 2, 3),
            beyond(describe(type, 2, 2, 3, 3, 4, 3, 0, counted), 1, 1),
            beyond(describe(type, 2, 5, 6, 3, 3, 2, 1, counted), 3, 4, 7)})
        check_pool(d, choice.numbers({d.n, d.h, d.w, d.c}, type), choice.numbers({d.n, d.p, d.q, d.c}, type));
}

TEST_CASE("pooling in packs of channels and without, aligned and not") {
  SKIP_WITHOUT_CUDA;
  Choice choice(32);
  for (const DType type : floating)
    for (const std::int64_t offset : {0, 1})
      for (const std::int64_t c : {4, 6, 8, 17, 20}) {
        const Pool2d d = describe(type, 3, 7, 6, c, 3, 2, 1, false);
        check_pool(d, choice.numbers({d.n, d.h, d.w, d.c}, type), choice.numbers({d.n, d.p, d.q, d.c}, type),
                   offset);
      }
}

TEST_CASE("of equal values the first is the maximum, and a NaN is") {
  SKIP_WITHOUT_CUDA;
  for (const DType type : floating) {
    const Pool2d d = describe(type, 2, 5, 4, 3, 3, 1, 1, true);
    Tensor x = zeros({d.n, d.h, d.w, d.c}, {type});
    const Tensor dy = normal({d.n, d.p, d.q, d.c}, 5, type);
    check_pool(d, x, dy);
    check_pool(d, full(x.shape(), -infinity, {type}), dy);
    x = round(normal(x.shape(), 6, type));
    check_pool(d, x, dy);
    const Tensor holes = where(normal(x.shape(), 7, type) > 1.0, full(x.shape(), not_a_number, {type}), x);
    const Tensor y = full(dy.shape(), 0, {type}), index = full(dy.shape(), -1, {int64});
    check_same({holes}, {y, index}, 0, [&](const auto& t, auto in, auto out) {
      t.max_pool2d(d, in[0], out[0], static_cast<std::int64_t*>(out[1]));
    });
  }
}
