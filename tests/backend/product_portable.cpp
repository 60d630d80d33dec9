#include "lpf/backend/cpu/flipped_product.hpp"
#include "product_levels.hpp"

void lpf::test::product_portable(const backend::Gemm& g) { backend::cpu::gemm<float>(g); }
void lpf::test::flipped_product_portable(const backend::Gemm& g) { backend::cpu::gemm_flipped(g); }
