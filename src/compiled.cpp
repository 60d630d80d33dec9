// lpf::compiled: the CPU backend and the library's functions, compiled once. A program that links it is
// compiled with LPF_COMPILED, includes their declarations and emits none of them.
#define LPF_COMPILING
#include "lpf/lpf.hpp"
#include "lpf/models/transformer.hpp"
#include "lpf/sharpness/compare.hpp"
#include "lpf/sharpness/kendall.hpp"
#include "lpf/sharpness/measure.hpp"
#include "lpf/sharpness/plane.hpp"
#include "lpf/sharpness/profile.hpp"
#include "lpf/sharpness/surface.hpp"

template class lpf::detail::Prefetcher<lpf::Batch>;
template class lpf::optim::Optimizer<lpf::optim::SGDOptions>;

namespace lpf::backend::cpu {

bool register_compiled();
bool register_compiled() {
  register_cpu(KernelGroup::core, LPF_VECTOR_BYTES, fill_core);
  register_cpu(KernelGroup::core_float64, LPF_VECTOR_BYTES, fill_float64);
  register_cpu(KernelGroup::convolution, LPF_VECTOR_BYTES, fill_convolution);
  register_cpu(KernelGroup::pooling, LPF_VECTOR_BYTES, fill_pooling);
  register_cpu(KernelGroup::batch_normalization, LPF_VECTOR_BYTES, fill_batch_normalization);
  register_cpu(KernelGroup::dropout, LPF_VECTOR_BYTES, fill_dropout);
  register_cpu(KernelGroup::adam, LPF_VECTOR_BYTES, fill_adam);
  register_cpu(KernelGroup::scatter, LPF_VECTOR_BYTES, fill_scatter);
  register_cpu(KernelGroup::scan, LPF_VECTOR_BYTES, fill_scan);
  register_cpu(KernelGroup::order, LPF_VECTOR_BYTES, fill_order);
  register_cpu(KernelGroup::attention, LPF_VECTOR_BYTES, fill_attention);
  return register_cpu(KernelGroup::layer_normalization, LPF_VECTOR_BYTES, fill_layer_normalization);
}

}  // namespace lpf::backend::cpu
