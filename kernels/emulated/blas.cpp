// Matrix products of the emulated device: loops, with sums in double.
#include "../blas.hpp"

#include <algorithm>

#include "arena.hpp"
#include "lpf/core/error.hpp"

namespace lpf::cuda {
namespace {

template <class T, class C = T>
void multiply(const backend::Gemm& g) {
  for (std::int64_t s = 0; s < g.batch; ++s) {
    const T* a = static_cast<const T*>(g.a) + s * g.stride_a;
    const T* b = static_cast<const T*>(g.b) + s * g.stride_b;
    C* c = static_cast<C*>(g.c) + s * g.stride_c;
    for (std::int64_t i = 0; i < g.m; ++i)
      for (std::int64_t j = 0; j < g.n; ++j) {
        double sum = 0;
        for (std::int64_t l = 0; l < g.k; ++l)
          sum += static_cast<double>(a[g.transpose_a ? l * g.lda + i : i * g.lda + l]) *
                 static_cast<double>(b[g.transpose_b ? j * g.ldb + l : l * g.ldb + j]);
        C& to = c[i * g.ldc + j];  // not read where beta is 0: it may be NaN
        to = static_cast<C>(g.alpha * sum + (g.beta == 0 ? 0 : g.beta * static_cast<double>(to)));
      }
  }
}

/// cuBLAS rejects overlapping rows, also if there is only one: "lda must be at least max(1, m)".
void check_strides(const backend::Gemm& g) {
  const bool fit = g.lda >= std::max<std::int64_t>(1, g.transpose_a ? g.m : g.k) &&
                   g.ldb >= std::max<std::int64_t>(1, g.transpose_b ? g.k : g.n) &&
                   g.ldc >= std::max<std::int64_t>(1, g.n);
  check<DeviceError>(fit, "gemm", "row strides ", g.lda, ", ", g.ldb, ", ", g.ldc, " for m ", g.m, ", n ",
                     g.n, ", k ", g.k, g.transpose_a ? ", A transposed" : "",
                     g.transpose_b ? ", B transposed" : "");
}

}  // namespace

void check_bfloat16() {}

void blas_gemm(const backend::Gemm& g) {
  check_strides(g);
  perform([g] {
    if (g.dtype == DType::float64) return multiply<double>(g);
    if (g.dtype == DType::float32) return multiply<float>(g);
    g.dtype_c == DType::float32 ? multiply<BFloat16, float>(g) : multiply<BFloat16>(g);
  });
}

}  // namespace lpf::cuda
