// Products with the replicas of flipout, θ_r = θ + a_r b_rᵀ ⊙ N, where they are not in memory. For a product of
// the rows x_r of slice r
//   x_r·θ_rᵀ = x_r·θᵀ + ((x_r ⊙ b_r)·Nᵀ) ⊙ a_r,
// two products over the whole batch for any number of replicas, one for each sample included.
#pragma once

#include "lpf/ops/replicate.hpp"

namespace lpf::detail {

/// The description of the replicas of flipout of w where they are not in memory; otherwise null, also for replicas that
/// autocast rounds to bfloat16.
inline const backend::Replicas* flipped(const Tensor& w) {
  const Rematerializer* pending = w.dtype() == bfloat16 ? nullptr : w.impl().storage->pending();
  const backend::Replicas* replicas = pending ? pending->replicas() : nullptr;
  const bool whole = replicas && w.numel() == replicas->segment.rows * replicas->segment.length;
  return whole && replicas->noise ? replicas : nullptr;
}

/// Where the signs of the rows (a) or of the inputs (b) of replica r begin.
enum class Side { rows, inputs };
inline std::int64_t first_sign(const backend::Replicas& w, Side side, std::int64_t r) {
  return r * (w.segment.rows + w.segment.inputs) + (side == Side::inputs ? w.segment.rows : 0);
}

/// y = x ⊙ the signs of one side, in `count` slices from replica `first` on; a slice is `length` rows, a row
/// the units of that side, `groups` times. y may be x.
LPF_ONCE void multiply_signs(const backend::Table& table, DType dtype, const backend::Replicas& w, Side side,
                             const Slices::Run& run, std::int64_t groups, void* x, void* y) {
  const std::int64_t units = side == Side::inputs ? w.segment.inputs : w.segment.rows, row = groups * units;
  if (run.count * run.length * row == 0) return;
  const auto view = [&](void* data) {
    return backend::View{
        data, dtype, 4, {run.count, run.length, groups, units}, {run.length * row, row, units, 1}};
  };
  backend::View signs = view(const_cast<std::byte*>(static_cast<const std::byte*>(w.signs)) +
                             static_cast<std::size_t>(first_sign(w, side, run.first)) * size_of(dtype));
  signs.stride[0] = w.segment.rows + w.segment.inputs;
  signs.stride[1] = signs.stride[2] = 0;
  table.binary(backend::Binary::multiply, view(x), signs, view(y), 0);
}
/// The same for a tensor whose first axis is the batch, as described to `slices`.
LPF_ONCE void multiply_signs(const Tensor& x, const backend::Replicas& w, Side side, const Slices& slices,
                             std::int64_t groups, const Tensor& y) {
  const std::int64_t units = groups * (side == Side::inputs ? w.segment.inputs : w.segment.rows),
                     rows = x.numel() / std::max<std::int64_t>(1, units),
                     each = rows /
                            std::max<std::int64_t>(1, slices.begin(slices.count()));  // rows of a position
  slices.for_each_run([&](Slices::Run run) {
    const std::int64_t at = run.begin * each * units;
    run.length *= each;
    multiply_signs(x.backend(), x.dtype(), w, side, run, groups, x.alias({}, at).raw(),
                   y.alias({}, at).raw());
  });
}

/// y [B, …, n] += a parameter [n] or its replicas, by slice.
LPF_ONCE void add_to_rows(const Tensor& parameter, const Slices& slices, const Tensor& y) {
  const std::int64_t n = parameter.numel(), rows = y.numel() / std::max<std::int64_t>(1, n),
                     each = rows / std::max<std::int64_t>(1, slices.begin(slices.count()));
  if (y.numel() == 0) return;
  slices.for_each_run([&](const Slices::Run& run) {
    const std::int64_t length = run.length * each, r = parameter.is_replicated() ? run.first : 0;
    const backend::View to{
        y.alias({}, run.begin * each * n).raw(), y.dtype(), 3, {run.count, length, n}, {length * n, n, 1}},
        from{parameter.alias({}, r * n).raw(),
             y.dtype(),
             3,
             {run.count, length, n},
             {parameter.is_replicated() ? n : 0, 0, 1}};
    y.backend().binary(backend::Binary::add, to, from, to, 0);
  });
}

/// C = A·op(W_r) + beta·C for the slices of `product` and replicas from `first` on; op and sides by
/// product.transpose_b. The batch of A and C must be contiguous.
LPF_ONCE void multiply_flipped(const backend::Table& table, Device device, backend::Gemm product,
                               const backend::Replicas& w, std::int64_t first) {
  const Side in = product.transpose_b ? Side::inputs : Side::rows,
             out = product.transpose_b ? Side::rows : Side::inputs;
  const std::int64_t rows = product.m * product.batch;
  const Slices::Run run{first, product.batch, 0, product.m};
  const TensorOptions as{product.dtype, device};
  const Tensor x = empty({rows, product.k}, as);
  multiply_signs(table, product.dtype, w, in, run, 1, const_cast<void*>(product.a), x.raw());
  product.m = rows;
  product.batch = 1;
  backend::Gemm noise = product;
  noise.a = x.raw();
  noise.b = w.noise;
  product.b = w.theta;
  if (product.beta == 0) {
    table.gemm(noise);
    multiply_signs(table, product.dtype, w, out, run, 1, product.c, product.c);
    product.beta = 1;
    table.gemm(product);
    return;
  }
  const Tensor y = empty({rows, product.n}, as);
  noise.c = y.raw();
  noise.beta = 0;
  table.gemm(noise);
  multiply_signs(table, product.dtype, w, out, run, 1, y.raw(), y.raw());
  table.gemm(product);
  table.accumulate(product.dtype, y.numel(), 1.0, y.raw(), product.c);
}

}  // namespace lpf::detail
