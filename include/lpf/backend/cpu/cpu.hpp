// The CPU backend: registers the kernels that nearly every program uses. The other groups (adam.hpp,
// conv.hpp, dropout.hpp, pool.hpp, norm.hpp, layer_norm.hpp) register themselves.
#pragma once

#include "lpf/backend/cpu/allocator.hpp"
#include "lpf/backend/cpu/elementwise.hpp"
#include "lpf/backend/cpu/flipout.hpp"
#include "lpf/backend/cpu/gemm.hpp"
#include "lpf/backend/cpu/gemm_replicas.hpp"
#include "lpf/backend/cpu/index.hpp"
#include "lpf/backend/cpu/reduce.hpp"
#include "lpf/backend/cpu/softmax.hpp"
#include "lpf/backend/cpu/typed.hpp"
#include "lpf/backend/cpu/vectors.hpp"
#include "lpf/backend/registry.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

inline void* allocate(std::size_t bytes) { return CachingAllocator::instance().allocate(bytes); }
inline void deallocate(void* p, std::size_t bytes) { CachingAllocator::instance().deallocate(p, bytes); }
inline void copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

/// Arithmetic for one element type.
template <class T>
void fill_arithmetic(Table& t) {
  t.unary = unary<T>;
  t.binary = binary<T>;
  t.reduce = reduce<T>;
}
template <class T>
void fill_floating(Table& t) {
  fill_arithmetic<T>(t);
  t.accumulate = accumulate<T>;
  t.dot = dot<T>;
  t.rescale = rescale<T>;
  t.index_add = index_add<T>;
  t.gemm = gemm<T>;
  t.softmax = softmax<T>;
  t.softmax_backward = softmax_backward<T>;
  t.cross_entropy = cross_entropy<T>;
  t.cross_entropy_backward = cross_entropy_backward<T>;
  t.normal = normal<T>;
  t.uniform = uniform<T>;
  t.filter_norms = filter_norms<T>;
  t.perturb = perturb<T>;
  t.draw_signs = draw_signs<T>;
  t.flip = flip<T>;
  t.sgd = sgd<T>;
  t.pre_activation_noise = pre_activation_noise<T>;
  t.gemm_replicas = gemm_replicas<T>;
}

inline void fill_core(Table& t) {
  fill_floating<float>(cpu_float32);
  fill_arithmetic<std::int64_t>(cpu_int64);
  cpu_narrow_integers.unary = narrow_unary;
  cpu_narrow_integers.binary = narrow_binary;
  cpu_narrow_integers.reduce = narrow_reduce;

  t.version = contract_version;
  t.name = "cpu (" LPF_ISA_NAME ")";
  t.allocate = allocate;
  t.deallocate = deallocate;
  t.copy = copy;
  t.copy_from_host = copy;
  t.copy_to_host = copy;
  t.synchronize = [] {};
  t.max_threads = default_threads;
  t.memory_stats = [] { return CachingAllocator::instance().stats(); };
  t.reset_peak = [] { CachingAllocator::instance().reset_peak(); };
  t.release_cache = [] { CachingAllocator::instance().release_cache(); };
  t.fill = fill;
  t.unary = ByType<&Table::unary>::call;
  t.binary = ByType<&Table::binary>::call;
  t.where = where;
  t.assign = assign;
  t.accumulate = ByType<&Table::accumulate>::call;
  t.reduce = ByType<&Table::reduce>::call;
  t.dot = ByType<&Table::dot>::call;
  t.rescale = ByType<&Table::rescale>::call;
  t.take = take;
  t.index_add = ByType<&Table::index_add>::call;
  t.gather = gather;
  t.scatter_add = scatter_add;
  t.gemm = ByType<&Table::gemm>::call;
  t.softmax = ByType<&Table::softmax>::call;
  t.softmax_backward = ByType<&Table::softmax_backward>::call;
  t.cross_entropy = ByType<&Table::cross_entropy>::call;
  t.cross_entropy_backward = ByType<&Table::cross_entropy_backward>::call;
  t.normal = ByType<&Table::normal>::call;
  t.uniform = ByType<&Table::uniform>::call;
  t.filter_norms = ByType<&Table::filter_norms>::call;
  t.perturb = ByType<&Table::perturb>::call;
  t.draw_signs = ByType<&Table::draw_signs>::call;
  t.flip = ByType<&Table::flip>::call;
  t.sgd = ByType<&Table::sgd>::call;
  t.pre_activation_noise = ByType<&Table::pre_activation_noise>::call;
  t.gemm_replicas = ByType<&Table::gemm_replicas>::call;
}

inline const bool core_registered = register_cpu(KernelGroup::core, LPF_VECTOR_BYTES, fill_core);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
