#include "lpf/backend/cpu/gemm.hpp"
#include "product_levels.hpp"

void lpf::test::product_portable(const backend::Gemm& g) { backend::cpu::gemm<float>(g); }
