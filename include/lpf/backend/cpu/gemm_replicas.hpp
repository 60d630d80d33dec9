// Products with weights that are perturbed on the fly: each replica's weight is computed a few filters at a
// time and multiplied while it is in the core's cache. Materialised first, the replicas of a large layer
// would cross the memory bus three times.
#pragma once

#include "lpf/backend/cpu/flipout.hpp"
#include "lpf/backend/cpu/flipped_product.hpp"
#include "lpf/backend/cpu/gemm.hpp"
#include "lpf/backend/cpu/simd_noise.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// One draw of a weight's noise, and the replicas derived from it: one, or an antithetic pair. With flipout, the
/// replica of these signs.
template <class T>
class ReplicaTile {
 public:
  ReplicaTile(const Replicas& w, std::int64_t draw, std::int64_t rows)
      : w_(w), stream_(w.key), tile_(rows * w.segment.length), draw_(draw) {
    stream_.replica += static_cast<std::uint32_t>(draw);
    stream_.parameter = w.segment.parameter;
    for (int half = 0; half <= w.antithetic; ++half)
      half_[half] = scratch<T>(half ? Scratch::mirrored_replica : Scratch::replica, tile_);
  }
  /// Computes filters [begin, end) of the draw's replicas: half(0), and half(1) of a pair.
  void make(std::int64_t begin, std::int64_t end) const {
    if (w_.noise)
      return flip_rows(
          w_.segment, begin, end, static_cast<const T*>(w_.theta), static_cast<const T*>(w_.noise),
          static_cast<const T*>(w_.signs) + draw_ * (w_.segment.rows + w_.segment.inputs), half_[0]);
    perturb_rows(stream_, {begin, end}, w_.segment.length, static_cast<const T*>(w_.theta),
                 static_cast<const T*>(w_.scale) + w_.segment.first_scale, half_[0], half_[1]);
  }
  const T* half(std::int64_t which) const { return half_[which]; }

 private:
  const Replicas& w_;
  NoiseKey stream_;
  std::int64_t tile_, draw_;
  T* half_[2] = {};
};

/// Table::gemm_replicas: C[r] = A[r]·op(W_r) + beta·C[r] for replicas [first, first + batch) of W
/// [rows, length]. A task computes its tile once for each draw. Where op is the transpose (forward) a
/// tile is some columns of C and a task of its own; otherwise (gradient of the input) one task sums
/// the tiles of a draw, in order.
template <class T>
void gemm_replicas(const Gemm& g) {
  const Replicas& w = *g.replicas;
  const std::int64_t first = g.first_replica;
  if (g.m <= 0 || g.n <= 0 || g.batch <= 0) return;
  if constexpr (std::is_same_v<T, float>)
    if (w.noise && w.segment.inputs == w.segment.length) return gemm_flipped(g);
  const std::int64_t rows = w.segment.rows, length = w.segment.length, per_draw = w.antithetic ? 2 : 1;
  constexpr std::int64_t unit = 16;
  const std::int64_t tile_elements = w.noise ? 1 << 15 : 1 << 16;  // with θ and noise beside the replica
  const std::int64_t fit = tile_elements / std::max<std::int64_t>(1, length * per_draw);
  const std::int64_t step = std::min(rows, fit >= 64 ? fit / 64 * 64 : std::max(unit, fit / unit * unit));
  const std::int64_t tiles = (rows + step - 1) / step, first_draw = first / per_draw,
                     draws = (first + g.batch - 1) / per_draw - first_draw + 1;
  const auto multiply = [&](const ReplicaTile<T>& tile, std::int64_t draw, std::int64_t from) {
    const std::int64_t to = std::min(rows, from + step);
    tile.make(from, to);
    for (std::int64_t half = 0; half < per_draw; ++half) {
      const std::int64_t at = draw * per_draw + half - first;  // relative to first_replica
      if (at < 0 || at >= g.batch) continue;
      Gemm part = g;
      const T* a = static_cast<const T*>(g.a) + at * g.stride_a;
      T* c = static_cast<T*>(g.c) + at * g.stride_c;
      if (g.transpose_b) {
        part.n = to - from;
        c += from;
      } else {
        part.k = to - from;
        if (from > 0) part.beta = 1;
        a += from;
      }
      gemm_tile(part, a, tile.half(half), c, 0, part.m, 0, part.n);
    }
  };
  if (g.transpose_b) {
    parallel_for(draws * tiles, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        const std::int64_t draw = first_draw + t % draws;
        multiply(ReplicaTile<T>(w, draw, step), draw, t / draws * step);
      }
    });
  } else {
    parallel_for(draws, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = 0; row < rows; row += step)
        for (std::int64_t d = begin; d < end; ++d)
          multiply(ReplicaTile<T>(w, first_draw + d, step), first_draw + d, row);
    });
  }
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
