// The float products compiled for several instruction sets, each in a file of its own.
#pragma once

#include "lpf/backend/contract.hpp"

namespace lpf::test {

void product_avx2(const backend::Gemm& g);
void product_portable(const backend::Gemm& g);
void flipped_product_avx2(const backend::Gemm& g);
void flipped_product_portable(const backend::Gemm& g);

}  // namespace lpf::test
