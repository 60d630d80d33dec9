#include "noise_portable.hpp"

#include "lpf/backend/cpu/simd_noise.hpp"

namespace lpf::test {

std::string_view portable_isa() { return LPF_ISA_NAME; }

void portable_normal(const NoiseKey& key, std::int64_t first, std::int64_t n, float* out) {
  backend::cpu::normal_fill(key, first, n, out);
}
void portable_normal(const NoiseKey& key, std::int64_t first, std::int64_t n, double* out) {
  backend::cpu::normal_fill(key, first, n, out);
}
void portable_perturb(const NoiseKey& key, std::int64_t rows, std::int64_t len, const float* theta,
                      const float* scale, float* plus, float* minus) {
  backend::cpu::perturb_rows(key, {0, rows}, len, theta, scale, plus, minus);
}
void scalar_normal(const NoiseKey& key, std::int64_t first, std::int64_t n, float* out) {
  backend::cpu::noise::normal(key, first, n, out);
}

#if LPF_FMA_AT_RUN_TIME
float software_fma(float a, float b, float c) { return lpf::detail::emulated_fma(a, b, c); }
double software_fma(double a, double b, double c) { return lpf::detail::emulated_fma(a, b, c); }
#else
float software_fma(float a, float b, float c) { return std::fma(a, b, c); }
double software_fma(double a, double b, double c) { return std::fma(a, b, c); }
#endif

}  // namespace lpf::test
