// The table of the CUDA backend: each file of kernels fills in its entries. Entries
// without a kernel throw an error.
#pragma once

#include "lpf/backend/contract.hpp"
#include "lpf/core/error.hpp"

namespace lpf::cuda {

using backend::Table;

void elementwise(Table&);
void reduce(Table&);
void index(Table&);
void scan(Table&);
void order(Table&);
void noise(Table&);
void optimizer(Table&);
void products(Table&);
void convolution(Table&);
void pool(Table&);
void norm(Table&);
void layer_norm(Table&);
void softmax(Table&);

namespace detail {

/// An entry that this build lacks.
template <auto entry>
struct Missing;
template <class R, class... Arguments, R (*Table::*entry)(Arguments...)>
struct Missing<entry> {
  static inline const char* name = "";
  static R call(Arguments...) { fail<DeviceError>("cuda", "this build of lpf::cuda has no ", name); }
};
template <auto entry>
void miss(Table& table, const char* name) {
  Missing<entry>::name = name;
  if (!(table.*entry)) table.*entry = Missing<entry>::call;
}

}  // namespace detail

/// Every entry except those for memory, and gemm_replicas, which may be null.
inline void fill_kernel_groups(Table& t) {
  elementwise(t);
  reduce(t);
  index(t);
  scan(t);
  order(t);
  noise(t);
  optimizer(t);
  products(t);
  convolution(t);
  pool(t);
  norm(t);
  layer_norm(t);
  softmax(t);

  using detail::miss;
  miss<&Table::upload>(t, "upload");
  miss<&Table::fill>(t, "fill");
  miss<&Table::unary>(t, "unary");
  miss<&Table::binary>(t, "binary");
  miss<&Table::where>(t, "where");
  miss<&Table::assign>(t, "assign");
  miss<&Table::accumulate>(t, "accumulate");
  miss<&Table::reduce>(t, "reduce");
  miss<&Table::dot>(t, "dot");
  miss<&Table::rescale>(t, "rescale");
  miss<&Table::take>(t, "take");
  miss<&Table::index_add>(t, "index_add");
  miss<&Table::gather>(t, "gather");
  miss<&Table::scatter_add>(t, "scatter_add");
  miss<&Table::scatter>(t, "scatter");
  miss<&Table::cumsum>(t, "cumsum");
  miss<&Table::topk>(t, "topk");
  miss<&Table::gemm>(t, "gemm");
  miss<&Table::conv2d>(t, "conv2d");
  miss<&Table::conv2d_backward_data>(t, "conv2d_backward_data");
  miss<&Table::conv2d_backward_filter>(t, "conv2d_backward_filter");
  miss<&Table::max_pool2d>(t, "max_pool2d");
  miss<&Table::max_pool2d_backward>(t, "max_pool2d_backward");
  miss<&Table::avg_pool2d>(t, "avg_pool2d");
  miss<&Table::avg_pool2d_backward>(t, "avg_pool2d_backward");
  miss<&Table::batch_norm_statistics>(t, "batch_norm_statistics");
  miss<&Table::batch_norm>(t, "batch_norm");
  miss<&Table::batch_norm_backward>(t, "batch_norm_backward");
  miss<&Table::weighted_rows>(t, "weighted_rows");
  miss<&Table::layer_norm>(t, "layer_norm");
  miss<&Table::layer_norm_backward>(t, "layer_norm_backward");
  miss<&Table::softmax>(t, "softmax");
  miss<&Table::softmax_backward>(t, "softmax_backward");
  miss<&Table::cross_entropy>(t, "cross_entropy");
  miss<&Table::cross_entropy_backward>(t, "cross_entropy_backward");
  miss<&Table::normal>(t, "normal");
  miss<&Table::uniform>(t, "uniform");
  miss<&Table::dropout>(t, "dropout");
  miss<&Table::filter_norms>(t, "filter_norms");
  miss<&Table::perturb>(t, "perturb");
  miss<&Table::draw_signs>(t, "draw_signs");
  miss<&Table::flip>(t, "flip");
  miss<&Table::sgd>(t, "sgd");
  miss<&Table::adam>(t, "adam");
  miss<&Table::pre_activation_noise>(t, "pre_activation_noise");
}

}  // namespace lpf::cuda
