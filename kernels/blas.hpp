// Matrix products: cuBLAS (blas.cu), or loops in the emulated device (emulated/blas.cpp).
#pragma once

#include "lpf/backend/contract.hpp"

namespace lpf::cuda {

/// The contract's gemm for m, n, k, batch > 0. Row-major; stride_a and stride_b may be 0. DeviceError for
/// bfloat16 on a GPU that does not support it.
void blas_gemm(const backend::Gemm& g);

/// Throws that DeviceError if it applies.
void check_bfloat16();

/// The contract's gemm: any sizes. k = 0 leaves beta·C.
void gemm(const backend::Gemm& g);

}  // namespace lpf::cuda
