// The noise as a program compiled for x86-64 without AVX2 and FMA draws it; elsewhere, as this processor does.
#pragma once

#include <cstdint>
#include <string_view>

#include "lpf/core/philox.hpp"

namespace lpf::test {

/// The instruction set that noise_portable.cpp is compiled for.
std::string_view portable_isa();
void portable_normal(const NoiseKey& key, std::int64_t first, std::int64_t n, float* out);
void portable_normal(const NoiseKey& key, std::int64_t first, std::int64_t n, double* out);
void portable_perturb(const NoiseKey& key, std::int64_t rows, std::int64_t len, const float* theta,
                      const float* scale, float* plus, float* minus);
/// The noise's path for processors without fused multiply-adds; what the others do where there is none.
void scalar_normal(const NoiseKey& key, std::int64_t first, std::int64_t n, float* out);
/// a·b + c in software.
float software_fma(float a, float b, float c);
double software_fma(double a, double b, double c);

}  // namespace lpf::test
