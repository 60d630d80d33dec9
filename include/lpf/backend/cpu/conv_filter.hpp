// The gradient of a convolution's filters: dyᵀ·(gathered x), summed over the pixels of
// all samples, or of each slice.
#pragma once

#include <memory>

#include "lpf/backend/cpu/allocator.hpp"
#include "lpf/backend/cpu/conv_direct.hpp"
#include "lpf/backend/cpu/conv_products.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Samples [begin, end) of a slice; the sums of the blocks are added in order.
struct FilterBlock {
  std::int64_t begin, end, slice;
  bool first;  // of its slice
};

/// Blocks cut from the size of a slice alone; few if the filters are large.
inline std::vector<FilterBlock> filter_blocks(const Conv2d& c, std::int64_t slices) {
  std::vector<FilterBlock> blocks;
  const std::int64_t weights = c.k * c.kh * c.kw * c.c / c.groups, pixels = c.p * c.q;
  const std::int64_t most = std::clamp<std::int64_t>((1 << 19) / std::max<std::int64_t>(1, weights), 1, 32);
  for (std::int64_t r = 0; r < slices; ++r) {
    const std::int64_t begin = slices > 1 ? c.slice_begin[r] : 0,
                       end = slices > 1 ? c.slice_begin[r + 1] : c.n;
    const std::int64_t size =
        std::max({(end - begin + most - 1) / most, (511 + pixels) / pixels, std::int64_t{1}});
    std::int64_t at = begin;
    do {
      blocks.push_back({at, std::min(at + size, end), r, at == begin});
      at += size;
    } while (at < end);
  }
  return blocks;
}

/// Destinations of the sums of the blocks: the first of each slice in its place in dw, the others in scratch
/// memory until finish() adds them.
template <class T>
class FilterSums {
 public:
  FilterSums(const Conv2d& c, std::int64_t slices, T* dw)
      : blocks(filter_blocks(c, slices)), weights_(c.k * c.kh * c.kw * c.c / c.groups), dw_(dw) {
    for (const FilterBlock& b : blocks) waiting_ += !b.first;
    if (waiting_ > 0) others_ = static_cast<T*>(CachingAllocator::instance().allocate(bytes()));
  }
  ~FilterSums() {
    if (others_) CachingAllocator::instance().deallocate(others_, bytes());
  }
  FilterSums(const FilterSums&) = delete;
  FilterSums& operator=(const FilterSums&) = delete;

  const std::vector<FilterBlock> blocks;

  std::int64_t count() const { return std::ssize(blocks); }
  const FilterBlock& block(std::int64_t i) const { return blocks[static_cast<std::size_t>(i)]; }
  T* place(std::int64_t i) const {
    const FilterBlock& b = block(i);
    return b.first ? dw_ + b.slice * weights_ : others_ + (i - b.slice - 1) * weights_;
  }
  void finish() const {
    for (std::int64_t i = 0; i < count(); ++i)
      if (!block(i).first)
        accumulate<T>(dtype_of<T>(), weights_, 1.0, place(i), dw_ + block(i).slice * weights_);
  }

 private:
  std::size_t bytes() const { return static_cast<std::size_t>(waiting_ * weights_) * sizeof(T); }

  std::int64_t weights_, waiting_ = 0;
  T* dw_;
  T* others_ = nullptr;
};

template <class T>
void conv2d_backward_filter_as(const Conv2d& c, const T* x, const T* dy, T* dw, bool per_replica) {
  const std::int64_t in = c.c / c.groups, out = c.k / c.groups, pixels = c.p * c.q;
  const Gather g = Gather::of_input(c);
  if (c.k * g.taps() * in == 0) return;
  const FilterSums<T> sums(c, per_replica ? c.replicas : 1, dw);
  const bool direct = direct_serves(g, in, out);
  // Of the sum of a block: first output channels, or tap · in + first channel.
  std::vector<std::int64_t> parts;
  if (direct) {
    for_each_width<T>(out, [&](auto, std::int64_t first, std::int64_t) { parts.push_back(first); });
  } else {
    for (std::int64_t t = 0; t < g.taps(); ++t)
      for (std::int64_t i = 0; i < in; i += product_width(in)) parts.push_back(t * in + i);
  }
  auto work = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      const FilterBlock& block = sums.block(u / std::ssize(parts));
      T* const to = sums.place(u / std::ssize(parts));
      const std::int64_t part = parts[static_cast<std::size_t>(u % std::ssize(parts))];
      if (direct) {
        filter_directly(g, block.begin, block.end, c.groups, in, out, part, x, dy, to);
      } else {
        filter_by_products(g, block.begin, block.end, c.groups, in, out, part / in, part % in, x, dy, to);
      }
    }
  };
  const std::int64_t samples = sums.block(0).end - sums.block(0).begin;
  parallel_for(sums.count() * std::ssize(parts),
               conv_grain(samples * pixels * g.taps() * in * c.k / std::ssize(parts)), work);
  sums.finish();
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
