// Matrix products of the emulated device: loops, with sums in double.
#include "../blas.hpp"

#include "arena.hpp"

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

}  // namespace

void check_bfloat16() {}

void blas_gemm(const backend::Gemm& g) {
  perform([g] {
    if (g.dtype == DType::float64) return multiply<double>(g);
    if (g.dtype == DType::float32) return multiply<float>(g);
    g.dtype_c == DType::float32 ? multiply<BFloat16, float>(g) : multiply<BFloat16>(g);
  });
}

}  // namespace lpf::cuda
