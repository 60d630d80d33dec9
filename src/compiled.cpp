// lpf::compiled: the CPU backend and the library's functions, compiled once. A program that links it is
// compiled with LPF_COMPILED, sees their declarations, and emits none of them.
#define LPF_COMPILING
#include "lpf/lpf.hpp"
#include "lpf/sharpness/compare.hpp"
#include "lpf/sharpness/kendall.hpp"
#include "lpf/sharpness/measure.hpp"
#include "lpf/sharpness/plane.hpp"
#include "lpf/sharpness/profile.hpp"
#include "lpf/sharpness/surface.hpp"

namespace lpf::backend::cpu {

bool register_compiled();
bool register_compiled() {
  register_cpu(Family::core, LPF_VECTOR_BYTES, fill_core);
  register_cpu(Family::core_float64, LPF_VECTOR_BYTES, fill_float64);
  register_cpu(Family::convolution, LPF_VECTOR_BYTES, fill_convolution);
  register_cpu(Family::pooling, LPF_VECTOR_BYTES, fill_pooling);
  register_cpu(Family::batch_normalization, LPF_VECTOR_BYTES, fill_batch_normalization);
  register_cpu(Family::dropout, LPF_VECTOR_BYTES, fill_dropout);
  register_cpu(Family::adam, LPF_VECTOR_BYTES, fill_adam);
  return register_cpu(Family::layer_normalization, LPF_VECTOR_BYTES, fill_layer_normalization);
}

}  // namespace lpf::backend::cpu
