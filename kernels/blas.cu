// Matrix products by cuBLAS. It reads matrices by columns, and a matrix by rows is its transpose by columns:
//   C = alpha·op(A)·op(B) + beta·C  by rows   is   Cᵀ = alpha·op(B)ᵀ·op(A)ᵀ + beta·Cᵀ  by columns,
// so the operands change places and keep their flags, and nothing is copied.
#include "blas.hpp"

#include <cublas_v2.h>

#include <algorithm>
#include <mutex>

#include "device.hpp"
#include "lpf/backend/cuda/options.hpp"
#include "memory.hpp"

namespace lpf::cuda {
namespace {

void check_blas(cublasStatus_t status, const char* call) {
  check<DeviceError>(status == CUBLAS_STATUS_SUCCESS, "cublas", call,
                     " failed: ", cublasGetStatusName(status), ", ", cublasGetStatusString(status));
}

/// cuBLAS with a workspace of its own. "cublasSetStream() unconditionally resets the cuBLAS library workspace
/// back to the default workspace pool", so the stream comes first. One stream, one handle and one workspace
/// give the same bits in every run on one kind of GPU (cuBLAS, "Results reproducibility"); atomics are off
/// unless asked for. Sizes as recommended for cublasSetWorkspace(): 32 MiB from Hopper on, before 4 MiB.
cublasHandle_t make_handle() {
  cublasHandle_t handle = nullptr;
  check_blas(cublasCreate(&handle), "cublasCreate");
  check_blas(cublasSetStream(handle, stream()), "cublasSetStream");
  int device = 0, major = 0;
  check_status(cudaGetDevice(&device), "cudaGetDevice");
  check_status(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
               "cudaDeviceGetAttribute");
  const std::size_t bytes = std::size_t{major >= 9 ? 32u : 4u} << 20;
  check_blas(cublasSetWorkspace(handle, allocate(bytes), bytes), "cublasSetWorkspace");
  return handle;
}

/// The numbers of one call, which cuBLAS reads on the host before it returns.
template <class T>
void multiply(cublasHandle_t handle, const backend::Gemm& g, cudaDataType type, cublasComputeType_t how) {
  const T alpha = static_cast<T>(g.alpha), beta = static_cast<T>(g.beta);
  const auto flag = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  if (g.batch == 1) {  // not a batch of one: it has kernels that cut a long k, which a batch has not
    check_blas(
        cublasGemmEx_64(handle, flag(g.transpose_b), flag(g.transpose_a), g.n, g.m, g.k, &alpha, g.b, type,
                        g.ldb, g.a, type, g.lda, &beta, g.c, type, g.ldc, how, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
    return;
  }
  constexpr std::int64_t most = 65535;  // blocks along a grid's last axis
  for (std::int64_t first = 0; first < g.batch; first += most) {
    const auto at = [&](auto* data, std::int64_t stride) {
      using Element = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(data)>>, const T, T>;
      return static_cast<Element*>(data) + first * stride;
    };
    check_blas(
        cublasGemmStridedBatchedEx_64(handle, flag(g.transpose_b), flag(g.transpose_a), g.n, g.m, g.k, &alpha,
                                      at(g.b, g.stride_b), type, g.ldb, g.stride_b, at(g.a, g.stride_a), type,
                                      g.lda, g.stride_a, &beta, at(g.c, g.stride_c), type, g.ldc, g.stride_c,
                                      std::min(most, g.batch - first), how, CUBLAS_GEMM_DEFAULT),
        "cublasGemmStridedBatchedEx");
  }
}

}  // namespace

void blas_gemm(const backend::Gemm& g) {
  // One call at a time: two at once would share the workspace.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  static const cublasHandle_t handle = make_handle();  // never destroyed: CUDA may be gone at exit
  if (g.dtype == DType::float64) return multiply<double>(handle, g, CUDA_R_64F, CUBLAS_COMPUTE_64F);
  // COMPUTE_32F does not round operands: "intermediate storage precisions with at least the same number of
  // mantissa and exponent bits as requested" (CUBLAS_DEFAULT_MATH).
  multiply<float>(handle, g, CUDA_R_32F, options.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
}

}  // namespace lpf::cuda
