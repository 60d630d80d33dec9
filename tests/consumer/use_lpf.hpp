// A small computation with LPF, the same in every user program that includes this.
#pragma once

#include <lpf/lpf.hpp>

/// An integer computed by LPF, independent of the compiler options.
static double use_lpf() {
  const lpf::Tensor x = lpf::arange(6).to(lpf::float32).reshape({2, 3});
  x.requires_grad_();
  const lpf::Tensor y = x.matmul(x.transpose()).sum();  // of [[5, 14], [14, 50]]
  y.backward();
  return static_cast<double>(y.item<float>() + x.grad().sum().item<float>());  // 83 + 60
}
constexpr double expected = 143;
