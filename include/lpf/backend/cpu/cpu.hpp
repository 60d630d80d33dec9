// The CPU backend: its kernels gathered into a table.
#pragma once

#include "lpf/backend/cpu/allocator.hpp"
#include "lpf/backend/cpu/conv.hpp"
#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/backend/cpu/gemm.hpp"
#include "lpf/backend/cpu/index.hpp"
#include "lpf/backend/cpu/layer_norm.hpp"
#include "lpf/backend/cpu/norm.hpp"
#include "lpf/backend/cpu/pool.hpp"
#include "lpf/backend/cpu/reduce.hpp"
#include "lpf/backend/cpu/softmax.hpp"
#include "lpf/backend/cpu/vectors.hpp"
#include "lpf/backend/registry.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline void* allocate(std::size_t bytes) { return CachingAllocator::instance().allocate(bytes); }
inline void deallocate(void* p, std::size_t bytes) { CachingAllocator::instance().deallocate(p, bytes); }
inline void copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

inline constexpr Table table = {
    .version = contract_version,
    .name = "cpu (" LPF_ISA_NAME ")",
    .level = LPF_VECTOR_BYTES,
    .allocate = allocate,
    .deallocate = deallocate,
    .copy = copy,
    .copy_from_host = copy,
    .copy_to_host = copy,
    .synchronize = [] {},
    .max_threads = max_threads,
    .memory_stats = [] { return CachingAllocator::instance().stats(); },
    .reset_peak = [] { CachingAllocator::instance().reset_peak(); },
    .release_cache = [] { CachingAllocator::instance().release_cache(); },
    .fill = fill,
    .unary = unary,
    .binary = binary,
    .where = where,
    .assign = assign,
    .accumulate = accumulate,
    .reduce = reduce,
    .cumulative_sum = cumulative_sum,
    .dot = dot,
    .take = take,
    .put_add = put_add,
    .gather = gather,
    .scatter_add = scatter_add,
    .gemm = gemm,
    .conv2d = conv2d,
    .conv2d_backward_data = conv2d_backward_data,
    .conv2d_backward_filter = conv2d_backward_filter,
    .max_pool2d = max_pool2d,
    .max_pool2d_backward = max_pool2d_backward,
    .avg_pool2d = avg_pool2d,
    .avg_pool2d_backward = avg_pool2d_backward,
    .batch_norm_statistics = batch_norm_statistics,
    .batch_norm = batch_norm,
    .batch_norm_backward = batch_norm_backward,
    .layer_norm = layer_norm,
    .layer_norm_backward = layer_norm_backward,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .cross_entropy = cross_entropy,
    .cross_entropy_backward = cross_entropy_backward,
    .normal = normal,
    .uniform = uniform,
    .dropout = dropout,
    .filter_norms = filter_norms,
    .perturb = perturb,
    .sgd = sgd,
    .adam = adam,
};

inline const bool registered = register_cpu(table);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
