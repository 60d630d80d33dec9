// Matrix products: cuBLAS, and the cases that it does not handle.
#include "blas.hpp"
#include "elements.hpp"
#include "kernel_groups.hpp"
#include "launch.hpp"

namespace lpf::cuda {
namespace {

/// C = beta·C, the product over nothing (k = 0); with beta = 0 zeros, whatever C contained.
template <class T>
void scale(const backend::Gemm& g) {
  T* const c = static_cast<T*>(g.c);
  const auto beta = number_as<T>(g.beta);
  const std::int64_t m = g.m, n = g.n, ldc = g.ldc, stride = g.stride_c;
  each(g.batch * m * n, [=] LPF_DEVICE(std::int64_t i) {
    T& to = c[i / (m * n) * stride + i / n % m * ldc + i % n];
    to = beta == 0 ? T(0) : static_cast<T>(beta * to);
  });
}

}  // namespace

void gemm(const backend::Gemm& g) {
  if (g.m <= 0 || g.n <= 0 || g.batch <= 0) return;
  if (g.k > 0) return blas_gemm(g);
  visit_real("matmul", g.dtype_c, [&](auto zero) { scale<decltype(zero)>(g); });
}

void products(Table& t) { t.gemm = gemm; }

}  // namespace lpf::cuda
