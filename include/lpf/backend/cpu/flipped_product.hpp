// Products of float matrices with the replicas of flipout, θ_r = θ + a_r b_rᵀ ⊙ N. Panels of θ and of the noise N are
// packed once and serve the slices of all replicas: the kernel of product.hpp gives the noise its replica's signs
// in registers, two instructions for each vector of a term.
#pragma once

#include <bit>

#include "lpf/backend/cpu/gemm.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {
namespace product {

/// The vectors of a replica's terms, from panels of θ and N whose rows are `ld` apart. There is a sign ±1 of each
/// term, and one of each column of three vectors.
class FlippedVectors {
 public:
  FlippedVectors(const float* theta, const float* noise, std::int64_t ld, const float* terms,
                 const float* columns)
      : theta_(theta), noise_(noise), term_(terms), ld_(ld) {
    for (int v = 0; v < most_vectors; ++v) columns_[v] = load<Bits>(columns + v * width);
  }
  Lanes vector(int v) const {
    // Of 1 and −1 only the sign differs, so both signs together change nothing but the sign of N.
    const Bits noise = load<Bits>(noise_ + v * width) ^ columns_[v] ^ std::bit_cast<std::uint32_t>(*term_);
    return load<Lanes>(theta_ + v * width) + std::bit_cast<Lanes>(noise);
  }
  void next() { theta_ += ld_, noise_ += ld_, ++term_; }

 private:
  typedef std::uint32_t Bits __attribute__((vector_size(register_bytes)));

  const float *theta_, *noise_, *term_;
  std::int64_t ld_;
  Bits columns_[most_vectors];
};

/// One panel of columns of the products of all slices: `vectors` from column j on, three or one.
inline void multiply_flipped(const Gemm& g, std::int64_t j, std::int64_t vectors) {
  constexpr std::int64_t widest = most_vectors * width;
  const Replicas& w = *g.replicas;
  const std::int64_t rows = w.segment.rows, length = w.segment.length, signs_each = rows + length;
  // Forward, the terms are the inputs of W and the columns its rows; for the gradient of the input it is reversed.
  const float *const signs = static_cast<const float*>(w.signs) + g.first_replica * signs_each,
                     *const terms = signs + (g.transpose_b ? rows : 0),
                     *const columns = signs + (g.transpose_b ? 0 : rows);
  const std::int64_t row = g.transpose_b ? 1 : length, column = g.transpose_b ? length : 1;
  const Matrix<const float> theta{static_cast<const float*>(w.theta), row, column},
      noise{static_cast<const float*>(w.noise), row, column};

  const std::int64_t ld = vectors * width, count = std::min(ld, g.n - j),
                     depth = even_length(g.k, longest_chain / 2);
  const auto alpha = static_cast<float>(g.alpha);
  const bool direct = count == ld && alpha == 1, add = g.beta != 0;
  float* const sums = direct ? nullptr : scratch<float>(Scratch::sums, g.batch * g.m * ld);
  float* const panels = scratch<float>(Scratch::panel, 2 * depth * ld);
  float* const panel_signs = scratch<float>(Scratch::signs, g.batch * widest);
  std::fill_n(panel_signs, g.batch * widest, 1.0f);
  for (std::int64_t r = 0; r < g.batch; ++r)
    std::copy_n(columns + r * signs_each + j, count, panel_signs + r * widest);

  const auto multiply =
      vectors == 1 ? multiply_rows<1, FlippedVectors> : multiply_rows<most_vectors, FlippedVectors>;
  const auto slice = [&](std::int64_t r) { return static_cast<float*>(g.c) + r * g.stride_c + j; };
  for (std::int64_t p = 0; p < g.k; p += depth) {
    const std::int64_t now = std::min(depth, g.k - p);
    pack_panel(theta.at(p, j).data, row, column, now, count, panels, ld);
    pack_panel(noise.at(p, j).data, row, column, now, count, panels + depth * ld, ld);
    for (std::int64_t r = 0; r < g.batch; ++r) {
      const Factor a{static_cast<const float*>(g.a) + r * g.stride_a + p, g.lda, 1};
      const FlippedVectors replica(panels, panels + depth * ld, ld, terms + r * signs_each + p,
                                   panel_signs + r * widest);
      multiply(g.m, now, a, replica, direct ? slice(r) : sums + r * g.m * ld, direct ? g.ldc : ld,
               p > 0 || (direct && add));
    }
  }
  for (std::int64_t r = 0; r < g.batch && !direct; ++r)
    write_sums(sums + r * g.m * ld, ld, g.m, count, alpha, add, slice(r), g.ldc, 1);
}

}  // namespace product

/// Table::gemm_replicas for replicas of flipout with a sign for each input of the weight, in float.
inline void gemm_flipped(const Gemm& g) {
  if (g.k == 0 || (g.beta != 0 && g.beta != 1))
    for (std::int64_t r = 0; r < g.batch; ++r)
      scale_rows(g.m, g.n, g.beta, static_cast<float*>(g.c) + r * g.stride_c, g.ldc);
  if (g.k == 0) return;
  using product::most_vectors, product::width;
  const std::int64_t vectors = (g.n + width - 1) / width, wide = vectors / most_vectors,
                     narrow = vectors % most_vectors;
  constexpr std::int64_t worth_a_thread = 1 << 17;  // multiply-adds
  const std::int64_t work = std::max<std::int64_t>(1, g.batch * g.m * g.k * most_vectors * width);
  parallel_for(wide + narrow, std::max<std::int64_t>(1, worth_a_thread / work),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t p = begin; p < end; ++p)
                   product::multiply_flipped(g, (p + (most_vectors - 1) * std::min(p, wide)) * width,
                                             p < wide ? most_vectors : 1);
               });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
