// The sizes and settings of convolution, pooling, normalisation and attention, as the backends' contract passes them.
#pragma once

#include <cstdint>

#include "lpf/core/dtype.hpp"
#include "lpf/core/philox.hpp"

namespace lpf::backend {

/// Convolution of x [N, H, W, C] with w [K, kh, kw, C/groups] to y [N, P, Q, K]. With `replicas` > 1 sample n
/// of slice r (slice_begin[r] ≤ n < slice_begin[r+1], in samples) uses w + r·w_stride; otherwise one w serves
/// all. In bfloat16 the bias and the gradient of w are float32.
struct Conv2d {
  DType dtype;
  std::int64_t n, h, w, c, k, kh, kw, p, q;
  std::int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
  std::int64_t replicas;
  const std::int64_t* slice_begin;  // replicas + 1 values
  std::int64_t w_stride;            // elements between replicas of w (0: shared)
  std::int64_t bias_stride;         // likewise of the bias
};

/// Pooling windows over x [N, H, W, C] to y [N, P, Q, C]. A window begins in the image or in the padding
/// before it; it may end behind the padding.
struct Pool2d {
  DType dtype;
  std::int64_t n, h, w, c, kh, kw, p, q, stride_h, stride_w, pad_h, pad_w;
  // Average pooling divides by `divisor`, or if that is 0 by the pixels of the window inside the image, and
  // with count_include_pad also inside the padding.
  bool count_include_pad;
  std::int64_t divisor;
};

/// Normalisation of x seen as [groups][rows(g)][channels]: one mean and variance per group and channel. Batch
/// norm over M slices has groups = M and row_begin in rows (positions × samples). dtype is that of x, y and
/// their gradients; if it is bfloat16, everything else is float32.
struct BatchNorm {
  DType dtype;
  std::int64_t groups, channels;
  const std::int64_t* row_begin;  // groups + 1 values
  std::int64_t affine_stride;  // elements between groups in weight and bias (0: shared); weight may be null
  double epsilon;
};

/// Attention of batch·heads separate problems, y = softmax(scale·q·kᵀ + mask)·v with q [queries, width], k [keys, width],
/// v [keys, value_width]; `group` neighbouring heads share one of k and v. A row of each is contiguous; problems and rows
/// are as far apart, in elements, as their Place says. Gradients have the places of what they are gradients of.
struct Attention {
  struct Place {
    std::int64_t batch, head, row;
  };
  DType dtype;
  std::int64_t batch, heads, group, queries, keys, width, value_width;
  Place q, k, v, y;
  double scale;
  // A query does not attend to a key where the mask (bool) is false, where `padding` [batch, keys] is true, and if
  // `causal` to keys behind first_query + its own place. A mask of `dtype` is added to the scores. Null: none.
  const void* mask = nullptr;
  DType mask_dtype = DType::bool_;
  std::int64_t mask_stride[4] = {};  // over batch, heads, queries, keys
  const bool* padding = nullptr;
  bool causal = false;
  std::int64_t first_query = 0;
  // Weight (b, head, i, j) is kept by number first_element + ((b·heads + head)·queries + i)·keys + j of the stream, as
  // by Table::dropout.
  double dropout = 0;
  NoiseKey key{};
  std::int64_t first_element = 0;
};

}  // namespace lpf::backend
