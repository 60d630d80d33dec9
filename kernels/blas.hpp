// Matrix products: cuBLAS (blas.cu), or loops in the emulated device (emulated/blas.cpp).
#pragma once

#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// The contract's gemm for m, n, k, batch > 0. Row-major; stride_a and stride_b may be 0.
void blas_gemm(const backend::Gemm& g);

/// The contract's gemm: any sizes. k = 0 leaves beta·C.
void gemm(const backend::Gemm& g);

}  // namespace lpf::cuda
