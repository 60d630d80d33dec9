// The CPU backend: the kernels that nearly every program uses, put into the table. The other families
// (conv.hpp, pool.hpp, norm.hpp, layer_norm.hpp) put themselves in.
#pragma once

#include "lpf/backend/cpu/allocator.hpp"
#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/backend/cpu/gemm.hpp"
#include "lpf/backend/cpu/index.hpp"
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

/// The kernels that nearly every program uses.
inline void fill_core(Table& t) {
  t.version = contract_version;
  t.name = "cpu (" LPF_ISA_NAME ")";
  t.allocate = allocate;
  t.deallocate = deallocate;
  t.copy = copy;
  t.copy_from_host = copy;
  t.copy_to_host = copy;
  t.synchronize = [] {};
  t.max_threads = max_threads;
  t.memory_stats = [] { return CachingAllocator::instance().stats(); };
  t.reset_peak = [] { CachingAllocator::instance().reset_peak(); };
  t.release_cache = [] { CachingAllocator::instance().release_cache(); };
  t.fill = fill;
  t.unary = unary;
  t.binary = binary;
  t.where = where;
  t.assign = assign;
  t.accumulate = accumulate;
  t.reduce = reduce;
  t.dot = dot;
  t.take = take;
  t.put_add = put_add;
  t.gather = gather;
  t.scatter_add = scatter_add;
  t.gemm = gemm;
  t.softmax = softmax;
  t.softmax_backward = softmax_backward;
  t.cross_entropy = cross_entropy;
  t.cross_entropy_backward = cross_entropy_backward;
  t.normal = normal;
  t.uniform = uniform;
  t.dropout = dropout;
  t.filter_norms = filter_norms;
  t.perturb = perturb;
  t.sgd = sgd;
  t.adam = adam;
  t.pre_activation_noise = pre_activation_noise;
}
inline const bool core_registered = register_cpu(Family::core, LPF_VECTOR_BYTES, fill_core);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
