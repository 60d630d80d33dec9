// The gradient of a convolution's filters: dyᵀ·(gathered x), summed over the pixels of all samples.
#pragma once

#include <memory>

#include "lpf/backend/cpu/allocator.hpp"
#include "lpf/backend/cpu/gather.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// The filter gradient is cut into blocks of samples, whose partial sums are added in order, and where
/// filters are too large for many of those, into chunks of their columns.
struct FilterBlock {
  std::int64_t begin, end;  // samples
  std::int64_t slice, index;
};
inline std::vector<FilterBlock> filter_blocks(const Conv2d& c, bool per_replica) {
  std::vector<FilterBlock> blocks;
  const std::int64_t weights = std::max<std::int64_t>(1, c.k * c.kh * c.kw * c.c / c.groups),
                     pixels = c.p * c.q;
  const std::int64_t most = std::clamp<std::int64_t>((1 << 19) / weights, 1, 32);
  for (std::int64_t r = 0; r < (per_replica ? c.replicas : 1); ++r) {
    const std::int64_t begin = per_replica && c.replicas > 1 ? c.slice_begin[r] : 0,
                       end = per_replica && c.replicas > 1 ? c.slice_begin[r + 1] : c.n;
    const std::int64_t size =
        std::max({(end - begin + most - 1) / most, (511 + pixels) / pixels, std::int64_t{1}});
    std::int64_t index = 0;
    do {
      blocks.push_back({begin + index * size, std::min(begin + (index + 1) * size, end), r, index});
    } while (++index * size < end - begin);
  }
  return blocks;
}

template <class T>
void conv2d_backward_filter_as(const Conv2d& c, const T* x, const T* dy, T* dw, bool per_replica) {
  const std::int64_t cg = c.c / c.groups, kg = c.k / c.groups, depth = c.kh * c.kw * cg, pixels = c.p * c.q;
  const Gather g{c.p,      c.q,      c.h,          c.w,          c.c,  c.stride_h, c.stride_w,
                 -c.pad_h, -c.pad_w, c.dilation_h, c.dilation_w, c.kh, c.kw};
  const bool identity = g.is_identity();
  const std::int64_t weights = c.k * depth;
  if (weights == 0) return;
  const auto blocks = filter_blocks(c, per_replica);

  // A chunk of columns: several whole taps, or some channels of one.
  const std::int64_t chunk = weights > (1 << 16) ? 256 : 2048;
  const std::int64_t chunk_taps = std::clamp<std::int64_t>(chunk / cg, 1, g.taps());
  const std::int64_t chunk_channels = std::min(cg, chunk),
                     chunks_c = (cg + chunk_channels - 1) / chunk_channels;
  const std::int64_t chunks = (g.taps() + chunk_taps - 1) / chunk_taps * chunks_c;
  const std::int64_t tile = 2 * tile_rows(chunk_taps * chunk_channels);

  // The first block of a slice goes to its place, the others wait in `partial`.
  const std::int64_t slices = per_replica ? c.replicas : 1, waiting = std::ssize(blocks) - slices;
  const auto bytes = static_cast<std::size_t>(waiting * weights) * sizeof(T);
  const auto release = [bytes](void* p) { CachingAllocator::instance().deallocate(p, bytes); };
  const std::unique_ptr<void, decltype(release)> memory(CachingAllocator::instance().allocate(bytes),
                                                        release);
  T* const partial = static_cast<T*>(memory.get());
  const auto place = [&](std::int64_t b) {
    const FilterBlock& block = blocks[static_cast<std::size_t>(b)];
    return block.index == 0 ? dw + block.slice * weights : partial + (b - block.slice - 1) * weights;
  };

  auto work = [&](std::int64_t begin, std::int64_t end) {
    T* const gathered = identity ? nullptr : conv_scratch<T, 0>(tile * chunk_taps * chunk_channels);
    for (std::int64_t u = begin; u < end; ++u) {
      const std::int64_t b = u / (chunks * c.groups), group = u / chunks % c.groups;
      const std::int64_t t = u % chunks / chunks_c * chunk_taps, stop = std::min(t + chunk_taps, g.taps());
      const std::int64_t channel = u % chunks_c * chunk_channels,
                         channels = std::min(chunk_channels, cg - channel);
      const std::int64_t columns = (stop - t) * channels;
      const FilterBlock& block = blocks[static_cast<std::size_t>(b)];
      T* const out = place(b) + group * kg * depth + t * cg + channel;
      for (std::int64_t k = 0; k < kg; ++k) std::fill(out + k * depth, out + k * depth + columns, T(0));
      const T* const from = x + group * cg + channel;
      for (std::int64_t row = block.begin * pixels; row < block.end * pixels; row += tile) {
        const std::int64_t last = std::min(row + tile, block.end * pixels);
        if (!identity) gather_tile(g, from, channels, row, last, t, stop, gathered);
        tile_product(true, false, kg, columns, last - row, dy + row * c.k + group * kg, c.k,
                     identity ? from + row * c.c : gathered, identity ? c.c : columns, true, out, depth);
      }
    }
  };
  const std::int64_t rows = blocks[0].end * pixels - blocks[0].begin * pixels;
  parallel_for(std::ssize(blocks) * c.groups * chunks, conv_grain(rows * kg * chunk_taps * chunk_channels),
               work);

  for (std::int64_t b = 0; b < std::ssize(blocks); ++b) {
    const FilterBlock& block = blocks[static_cast<std::size_t>(b)];
    if (block.index > 0) accumulate(c.dtype, weights, 1.0, place(b), dw + block.slice * weights);
  }
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
