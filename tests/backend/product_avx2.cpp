#include "lpf/backend/cpu/gemm.hpp"
#include "product_levels.hpp"

void lpf::test::product_avx2(const backend::Gemm& g) { backend::cpu::gemm<float>(g); }
