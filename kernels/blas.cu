// Matrix products by cuBLAS. It reads matrices column-major; a row-major matrix
// is its transpose column-major:
//   C = alpha·op(A)·op(B) + beta·C  row-major   is   Cᵀ = alpha·op(B)ᵀ·op(A)ᵀ + beta·Cᵀ  column-major,
// so the operands are exchanged and keep their flags, and nothing is copied.
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

/// The major version of the GPU's compute capability.
int compute_capability() {
  int device = 0, major = 0;
  check_status(cudaGetDevice(&device), "cudaGetDevice");
  check_status(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
               "cudaDeviceGetAttribute");
  return major;
}

/// A cuBLAS handle with its own workspace. "cublasSetStream() unconditionally resets the cuBLAS library
/// workspace back to the default workspace pool", so the stream is set first. One stream, one handle and one
/// workspace give the same bits in every run on one kind of GPU (cuBLAS, "Results reproducibility"); atomics
/// are off by default. Sizes as recommended for cublasSetWorkspace(): 32 MiB from Hopper on, 4 MiB before.
/// bfloat16 products that cuBLAS splits along k are accumulated in float32: "force any reductions to use the
/// accumulator type and not output type" (cublasMath_t).
cublasHandle_t make_handle() {
  cublasHandle_t handle = nullptr;
  check_blas(cublasCreate(&handle), "cublasCreate");
  check_blas(cublasSetStream(handle, stream()), "cublasSetStream");
  const std::size_t bytes = std::size_t{compute_capability() >= 9 ? 32u : 4u} << 20;
  check_blas(cublasSetWorkspace(handle, allocate(bytes), bytes), "cublasSetWorkspace");
  check_blas(cublasSetMathMode(handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION),
             "cublasSetMathMode");
  return handle;
}

cudaDataType type_of(DType type) {
  return type == DType::float64 ? CUDA_R_64F : type == DType::float32 ? CUDA_R_32F : CUDA_R_16BF;
}

/// T is the type of alpha and beta, which cuBLAS reads on the host before it returns.
template <class T>
void multiply(cublasHandle_t handle, const backend::Gemm& g, cublasComputeType_t how) {
  const cudaDataType type = type_of(g.dtype), type_c = type_of(g.dtype_c);
  const T alpha = static_cast<T>(g.alpha), beta = static_cast<T>(g.beta);
  const auto flag = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  if (g.batch == 1) {  // not a batch of one: only plain products have kernels that split a long k
    check_blas(
        cublasGemmEx_64(handle, flag(g.transpose_b), flag(g.transpose_a), g.n, g.m, g.k, &alpha, g.b, type,
                        g.ldb, g.a, type, g.lda, &beta, g.c, type_c, g.ldc, how, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
    return;
  }
  constexpr std::int64_t most = 65535;  // blocks along a grid's last axis
  for (std::int64_t first = 0; first < g.batch; first += most) {
    const auto at = [&](const void* data, DType of, std::int64_t stride) {
      return static_cast<std::byte*>(const_cast<void*>(data)) +
             first * stride * static_cast<std::int64_t>(size_of(of));
    };
    check_blas(cublasGemmStridedBatchedEx_64(handle, flag(g.transpose_b), flag(g.transpose_a), g.n, g.m, g.k,
                                             &alpha, at(g.b, g.dtype, g.stride_b), type, g.ldb, g.stride_b,
                                             at(g.a, g.dtype, g.stride_a), type, g.lda, g.stride_a, &beta,
                                             at(g.c, g.dtype_c, g.stride_c), type_c, g.ldc, g.stride_c,
                                             std::min(most, g.batch - first), how, CUBLAS_GEMM_DEFAULT),
               "cublasGemmStridedBatchedEx");
  }
}

}  // namespace

void check_bfloat16() {
  static const int major = compute_capability();
  check<DeviceError>(major >= 8, "autocast", "this GPU has compute capability ", major,
                     ".x, and products in bfloat16 need 8.0 (Ampere): leave autocast() out");
}

void blas_gemm(const backend::Gemm& g) {
  // Serialised: two calls at once would share the workspace.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  static const cublasHandle_t handle = make_handle();  // never destroyed: CUDA may be gone at exit
  if (g.dtype == DType::bfloat16) check_bfloat16();
  if (g.dtype == DType::float64) return multiply<double>(handle, g, CUBLAS_COMPUTE_64F);
  // COMPUTE_32F does not round operands: "intermediate storage precisions with at least the same number of
  // mantissa and exponent bits as requested" (CUBLAS_DEFAULT_MATH).
  const bool tf32 = options.tf32 && g.dtype == DType::float32;
  multiply<float>(handle, g, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
}

}  // namespace lpf::cuda
