// Batch normalisation. Sums over rows are taken in double over blocks of rows that are cut from the shape
// alone and merged in order: the same bits for any number of threads. Variances are sums of squares about the
// mean of each block, all is counted from the group's first row, and a mean is kept in two parts (the
// contract's `rest`), so that a large mean costs no digits.
#pragma once

#include "lpf/backend/cpu/reduce.hpp"
#include "lpf/backend/registry.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// Neighbouring rows of one group: what is summed at a time, and what a thread takes.
struct RowBlock {
  std::int64_t group, begin, end;
};

inline constexpr std::int64_t row_block_elements = 8192;

inline std::vector<RowBlock> row_blocks(std::int64_t groups, const std::int64_t* row_begin,
                                        std::int64_t channels) {
  const std::int64_t step =
      std::max<std::int64_t>(64, row_block_elements / std::max<std::int64_t>(1, channels));
  std::vector<RowBlock> blocks;
  for (std::int64_t g = 0; g < groups; ++g)
    for (std::int64_t row = row_begin[g]; row < row_begin[g + 1]; row += step)
      blocks.push_back({g, row, std::min(row_begin[g + 1], row + step)});
  return blocks;
}

/// f(block's index) for each block, on threads.
template <class F>
void for_each_block(const std::vector<RowBlock>& blocks, std::int64_t channels, F f) {
  std::int64_t rows = 0;
  for (const RowBlock& block : blocks) rows += block.end - block.begin;
  const std::int64_t average =
      std::max<std::int64_t>(1, rows * channels / std::max<std::int64_t>(1, std::ssize(blocks)));
  parallel_for(std::ssize(blocks), std::max<std::int64_t>(1, elementwise_grain / average),
               [&](std::int64_t b, std::int64_t end) {
                 for (; b < end; ++b) f(static_cast<std::size_t>(b));
               });
}

/// Several rows at a time, so that loops over few channels are long enough for vectors: `width` neighbouring
/// elements, whose channels repeat with period C.
class WideRow {
 public:
  explicit WideRow(std::int64_t channels)
      : channels_(channels),
        width_(channels * std::max<std::int64_t>(1, 64 / std::max<std::int64_t>(1, channels))) {}

  std::size_t size() const { return static_cast<std::size_t>(width_); }
  /// f(offset, length) over the elements of `rows` rows.
  template <class F>
  void walk(std::int64_t rows, F f) const {
    for (std::int64_t at = 0, n = rows * channels_; at < n; at += width_) f(at, std::min(width_, n - at));
  }
  /// wide[i] = value(channel of i).
  template <class T, class F>
  void spread(T* wide, F value) const {
    for (std::int64_t c = 0; c < channels_; ++c) wide[c] = static_cast<T>(value(c));
    for (std::int64_t i = channels_; i < width_; ++i) wide[i] = wide[i - channels_];
  }
  /// wide[i] = a·b of the channel of i; b may be null.
  template <class T>
  void spread_product(T* wide, const T* a, const T* b) const {
    if (b) {
      spread(wide, [=](std::int64_t c) { return a[c] * b[c]; });
    } else {
      spread(wide, [=](std::int64_t c) { return a[c]; });
    }
  }
  /// sum[c] = Σ wide[i] over the elements of channel c.
  void gather(const double* wide, double* sum) const {
    std::copy(wide, wide + channels_, sum);
    for (std::int64_t i = channels_; i < width_; i += channels_)
      for (std::int64_t c = 0; c < channels_; ++c) sum[c] += wide[i + c];
  }

 private:
  std::int64_t channels_, width_;
};

template <class T>
void batch_norm_statistics_as(const BatchNorm& b, const T* x, T* mean, T* rest, T* variance) {
  const std::int64_t channels = b.channels;
  const auto per_block = static_cast<std::size_t>(2 * channels);
  const std::vector<RowBlock> blocks = row_blocks(b.groups, b.row_begin, channels);
  std::vector<double> partial(
      blocks.size() * per_block);  // of each block its mean less the group's first row, and Σ (x − mean)²
  const WideRow wide(channels);
  for_each_block(blocks, channels, [&](std::size_t k) {
    std::vector<double> scratch(3 * wide.size());
    double *sum = scratch.data(), *shift = sum + wide.size(), *centre = shift + wide.size();
    const std::int64_t rows = blocks[k].end - blocks[k].begin;
    const T *from = x + blocks[k].begin * channels, *first = x + b.row_begin[blocks[k].group] * channels;
    double *block_mean = partial.data() + k * per_block, *squares = block_mean + channels;
    wide.spread(shift, [&](std::int64_t c) { return first[c]; });
    wide.walk(rows, [&](std::int64_t at, std::int64_t n) {
      LPF_SIMD
      for (std::int64_t i = 0; i < n; ++i) sum[i] += static_cast<double>(from[at + i]) - shift[i];
    });
    wide.gather(sum, block_mean);
    for (std::int64_t c = 0; c < channels; ++c) block_mean[c] /= static_cast<double>(rows);
    wide.spread(centre, [&](std::int64_t c) { return block_mean[c]; });
    std::fill(sum, sum + wide.size(), 0.0);
    wide.walk(rows, [&](std::int64_t at, std::int64_t n) {
      LPF_SIMD
      for (std::int64_t i = 0; i < n; ++i) {
        const double d = static_cast<double>(from[at + i]) - shift[i] - centre[i];
        sum[i] += d * d;
      }
    });
    wide.gather(sum, squares);
  });
  // The mean and Σ (x − mean)² of two sets from those of each (Chan, Golub & LeVeque 1983). The first set is
  // taken as it is: the square of a mean may be ∞, and 0·∞ NaN.
  std::vector<double> total(per_block);
  for (std::size_t k = 0; k < blocks.size();) {
    const std::int64_t g = blocks[k].group;
    double count = 0;
    std::fill(total.begin(), total.end(), 0.0);
    for (; k < blocks.size() && blocks[k].group == g; ++k) {
      const auto rows = static_cast<double>(blocks[k].end - blocks[k].begin);
      const double share = rows / (count + rows);
      const double* part = partial.data() + k * per_block;
      double *m = total.data(), *squares = m + channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        const double d = part[c] - m[c];
        m[c] += d * share;
        squares[c] += part[channels + c] + (count > 0 ? d * d * count * share : 0);
      }
      count += rows;
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto shift = static_cast<double>(x[b.row_begin[g] * channels + c]);
      const double m = total[static_cast<std::size_t>(c)];
      const T rounded = static_cast<T>(shift + m);
      mean[g * channels + c] = rounded;
      rest[g * channels + c] = static_cast<T>(shift - static_cast<double>(rounded) + m);
      variance[g * channels + c] = static_cast<T>(total[static_cast<std::size_t>(channels + c)] / count);
    }
  }
}

/// y = (x − mean − rest)·rstd·weight + bias, and what follows it while its elements are in the cache. The
/// rest is part of what is added.
template <class T>
void batch_norm_as(const BatchNorm& b, const T* x, const T* mean, const T* rest, const T* rstd,
                   const T* weight, const T* bias, const T* residual, bool relu, T* y) {
  const std::vector<RowBlock> blocks = row_blocks(b.groups, b.row_begin, b.channels);
  const WideRow wide(b.channels);
  for_each_block(blocks, b.channels, [&](std::size_t k) {
    std::vector<T> scratch(3 * wide.size());
    T *centre = scratch.data(), *scale = centre + wide.size(), *shift = scale + wide.size();
    const std::int64_t g = blocks[k].group, own = g * b.channels, first = g * b.affine_stride;
    wide.spread(centre, [&](std::int64_t c) { return mean[own + c]; });
    wide.spread_product(scale, rstd + own, weight ? weight + first : nullptr);
    if (bias) wide.spread(shift, [&](std::int64_t c) { return bias[first + c]; });
    if (rest) wide.spread(shift, [&](std::int64_t c) { return shift[c] - rest[own + c] * scale[c]; });
    const std::int64_t start = blocks[k].begin * b.channels;
    const T *from = x + start, *more = residual + (residual ? start : 0);
    T* to = y + start;
    wide.walk(blocks[k].end - blocks[k].begin, [&](std::int64_t at, std::int64_t n) {
      LPF_SIMD
      for (std::int64_t i = 0; i < n; ++i) to[at + i] = (from[at + i] - centre[i]) * scale[i] + shift[i];
      if (residual) {
        LPF_SIMD
        for (std::int64_t i = 0; i < n; ++i) to[at + i] += more[at + i];
      }
      if (relu) {
        LPF_SIMD
        for (std::int64_t i = 0; i < n; ++i) to[at + i] = to[at + i] < T(0) ? T(0) : to[at + i];
      }
    });
  });
}

/// With x̂ = (x − mean − rest)·rstd and sums over the rows of a group: dbias = Σ dy, dweight = Σ dy·x̂,
/// dx = weight·rstd·(dy − dbias/rows − x̂·dweight/rows). Any of the results may be null. With y, dy is taken
/// as 0 where y is. The loops subtract the mean, and the rest is subtracted from their sums.
template <class T>
void batch_norm_backward_as(const BatchNorm& b, const T* x, const T* y, const T* dy, const T* mean,
                            const T* rest, const T* rstd, const T* weight, T* dx, T* dweight, T* dbias,
                            T* dresidual) {
  const std::int64_t channels = b.channels;
  const auto per_block = static_cast<std::size_t>(2 * channels);
  const std::vector<RowBlock> blocks = row_blocks(b.groups, b.row_begin, channels);
  std::vector<double> partial(blocks.size() * per_block);  // of each block Σ dy, and Σ dy·(x − mean)
  const WideRow wide(channels);
  // The gradient of what was normalised, at elements [at, at + n) of the whole: masked in `to`, or as it is.
  const auto masked = [&](std::int64_t at, std::int64_t n, T* to) {
    if (!y) return dy + at;
    const T *g = dy + at, *result = y + at;
    LPF_SIMD
    for (std::int64_t i = 0; i < n; ++i) to[i] = result[i] <= T(0) ? T(0) : g[i];
    return static_cast<const T*>(to);
  };
  for_each_block(blocks, channels, [&](std::size_t k) {
    std::vector<double> sums(2 * wide.size());
    std::vector<T> scratch(2 * wide.size());
    double *sum = sums.data(), *product = sum + wide.size();
    const std::int64_t start = blocks[k].begin * channels;
    T *m = scratch.data(), *space = m + wide.size();
    const T* from = x + start;
    wide.spread(m, [&](std::int64_t c) { return mean[blocks[k].group * channels + c]; });
    wide.walk(blocks[k].end - blocks[k].begin, [&](std::int64_t at, std::int64_t n) {
      const T* g = masked(start + at, n, dresidual ? dresidual + start + at : space);
      LPF_SIMD
      for (std::int64_t i = 0; i < n; ++i) {
        const auto d = static_cast<double>(g[i]);
        sum[i] += d;
        product[i] += d * static_cast<double>(from[at + i] - m[i]);
      }
    });
    wide.gather(sum, partial.data() + k * per_block);
    wide.gather(product, partial.data() + k * per_block + channels);
  });
  std::vector<double> total(static_cast<std::size_t>(b.groups) * per_block);  // [groups, 2, channels]
  for (std::size_t k = 0; k < blocks.size(); ++k) {
    double* to = total.data() + static_cast<std::size_t>(blocks[k].group) * per_block;
    for (std::size_t i = 0; i < per_block; ++i) to[i] += partial[k * per_block + i];
  }
  for (std::int64_t g = 0; g < b.groups; ++g) {
    double* sum = total.data() + static_cast<std::size_t>(g) * per_block;
    for (std::int64_t c = 0; rest && c < channels; ++c)
      sum[channels + c] -= sum[c] * static_cast<double>(rest[g * channels + c]);
    for (std::int64_t c = 0, i = g * channels; c < channels; ++c, ++i) {
      if (dbias) dbias[i] = static_cast<T>(sum[c]);
      if (dweight) dweight[i] = static_cast<T>(sum[channels + c] * static_cast<double>(rstd[i]));
    }
  }
  if (!dx) return;
  for_each_block(blocks, channels, [&](std::size_t k) {
    std::vector<T> scratch(5 * wide.size());
    T *centre = scratch.data(), *scale = centre + wide.size(), *offset = scale + wide.size(),
      *slope = offset + wide.size(), *space = slope + wide.size();
    const std::int64_t group = blocks[k].group, own = group * channels, first = group * b.affine_stride;
    const auto rows = static_cast<double>(b.row_begin[group + 1] - b.row_begin[group]);
    const double* sum = total.data() + static_cast<std::size_t>(group) * per_block;
    wide.spread(centre, [&](std::int64_t c) { return mean[own + c]; });
    wide.spread_product(scale, rstd + own, weight ? weight + first : nullptr);
    wide.spread(slope, [&](std::int64_t c) {
      const auto r = static_cast<double>(rstd[own + c]);
      return sum[channels + c] * r * r / rows;
    });
    wide.spread(offset, [&](std::int64_t c) {
      const double of_rest = rest ? static_cast<double>(rest[own + c]) * static_cast<double>(slope[c]) : 0;
      return sum[c] / rows - of_rest;
    });
    const std::int64_t start = blocks[k].begin * channels;
    const T* from = x + start;
    T* to = dx + start;
    wide.walk(blocks[k].end - blocks[k].begin, [&](std::int64_t at, std::int64_t n) {
      const T* g = dresidual && y ? dresidual + start + at : masked(start + at, n, space);
      LPF_SIMD
      for (std::int64_t i = 0; i < n; ++i)
        to[at + i] = scale[i] * (g[i] - offset[i] - (from[at + i] - centre[i]) * slope[i]);
    });
  });
}

template <class T>
void weighted_rows_as(std::int64_t rows, std::int64_t channels, double keep, const double* weight, const T* x,
                      T* y) {
  for (std::int64_t c = 0; c < channels; ++c) {
    double sum = keep * static_cast<double>(y[c]);
    for (std::int64_t r = 0; r < rows; ++r) sum += weight[r] * static_cast<double>(x[r * channels + c]);
    y[c] = static_cast<T>(sum);
  }
}

inline void batch_norm_statistics(const BatchNorm& b, const void* x, void* mean, void* rest, void* variance) {
  visit_floating("batch_norm", b.dtype, [&](auto zero) {
    using T = decltype(zero);
    batch_norm_statistics_as(b, static_cast<const T*>(x), static_cast<T*>(mean), static_cast<T*>(rest),
                             static_cast<T*>(variance));
  });
}
inline void batch_norm(const BatchNorm& b, const void* x, const void* mean, const void* rest,
                       const void* rstd, const void* weight, const void* bias, const void* residual,
                       bool relu, void* y) {
  visit_floating("batch_norm", b.dtype, [&](auto zero) {
    using T = decltype(zero);
    batch_norm_as(b, static_cast<const T*>(x), static_cast<const T*>(mean), static_cast<const T*>(rest),
                  static_cast<const T*>(rstd), static_cast<const T*>(weight), static_cast<const T*>(bias),
                  static_cast<const T*>(residual), relu, static_cast<T*>(y));
  });
}
inline void batch_norm_backward(const BatchNorm& b, const void* x, const void* y, const void* dy,
                                const void* mean, const void* rest, const void* rstd, const void* weight,
                                void* dx, void* dweight, void* dbias, void* dresidual) {
  visit_floating("batch_norm", b.dtype, [&](auto zero) {
    using T = decltype(zero);
    batch_norm_backward_as(b, static_cast<const T*>(x), static_cast<const T*>(y), static_cast<const T*>(dy),
                           static_cast<const T*>(mean), static_cast<const T*>(rest),
                           static_cast<const T*>(rstd), static_cast<const T*>(weight), static_cast<T*>(dx),
                           static_cast<T*>(dweight), static_cast<T*>(dbias), static_cast<T*>(dresidual));
  });
}
inline void weighted_rows(DType type, std::int64_t rows, std::int64_t channels, double keep,
                          const double* weight, const void* x, void* y) {
  visit_floating("batch_norm", type, [&](auto zero) {
    using T = decltype(zero);
    weighted_rows_as(rows, channels, keep, weight, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

inline void fill_batch_normalization(Table& t) {
  t.batch_norm_statistics = batch_norm_statistics;
  t.batch_norm = batch_norm;
  t.batch_norm_backward = batch_norm_backward;
  t.weighted_rows = weighted_rows;
}
inline const bool batch_normalization_registered =
    register_cpu(KernelGroup::batch_normalization, LPF_VECTOR_BYTES, fill_batch_normalization);

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
