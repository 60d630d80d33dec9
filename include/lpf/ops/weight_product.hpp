// Parts of linear(): the product with replicas that are not in memory, the bias, and the checks of its operands.
#pragma once

#include "lpf/ops/flipout.hpp"

namespace lpf::detail {

/// Number of replicas from which the gradient of a layer's input may be computed with replicas drawn within
/// the product, where one thread draws all of a replica.
inline constexpr std::int64_t fewest_pending_replicas = 4;

/// Whether the backend's product makes flipout's replicas in registers, so that none is ever in memory.
inline bool flips_in_registers(const Tensor& w) { return w.backend().gemm_replicas && w.dtype() == float32; }
/// Rows of a slice below which flipout's replicas are applied by two products over the batch (ops/flipout.hpp).
inline std::int64_t fewest_rows_to_flip(const Tensor& w) { return flips_in_registers(w) ? 4 : 16; }

/// `product` with B = the replicas of the weight w from `first` on, drawn by the kernel, a tile at a time; n and
/// k are set. Returns whether it was computed: it is if the replicas are not in memory
/// (ReplicaMemory::recomputed) and the backend has a kernel for it. Otherwise the caller sets B.
LPF_ONCE bool multiply_and_draw(backend::Gemm product, const Tensor& w, std::int64_t first) {
  const backend::Table& table = w.backend();
  const Rematerializer* pending = w.impl().storage->pending();
  const backend::Replicas* replicas = pending ? pending->replicas() : nullptr;
  if (!replicas) return false;
  const backend::Segment& s = replicas->segment;
  const bool forward = product.transpose_b && product.n == s.rows && product.k == s.length;
  const bool input_gradient = !product.transpose_b && product.k == s.rows && product.n == s.length;
  if (!forward && !input_gradient) return false;
  const bool flips = flipped(w) && s.inputs == s.length;
  if (flips && product.m < fewest_rows_to_flip(w)) {
    multiply_flipped(table, w.device(), product, *replicas, first);
    return true;
  }
  const bool shares_draws = flips && flips_in_registers(w);
  if (!table.gemm_replicas || (input_gradient && !shares_draws && replicas->count < fewest_pending_replicas))
    return false;
  product.replicas = replicas;
  product.first_replica = first;
  table.gemm_replicas(product);
  return true;
}

/// Writes the elements of the bias from `first` on to each row of y [rows, out]: those of replica r to slice r.
LPF_ONCE void write_bias(const Tensor& bias, const Tensor& y, std::int64_t first = 0) {
  const std::int64_t out = y.shape()[1], apart = bias.is_replicated() ? bias.shape()[0] : 0;
  slices_of("linear", bias, y.shape()[0]).for_each_run([&](const Slices::Run& run) {
    const backend::View rows{
        element(y, run.begin * out), y.dtype(), 3, {run.count, run.length, out}, {run.length * out, out, 1}},
        biases{element(bias, run.first * apart + first),
               bias.dtype(),
               3,
               {run.count, run.length, out},
               {apart, 0, 1}};
    y.backend().assign(rows, biases);
  });
}

/// Checks the operands of linear(): dtypes, devices, shapes, and the batch of a perturbed pass.
LPF_ONCE void check_linear(const Tensor& x, const Tensor& w, const Tensor& bias) {
  check<ShapeError>(w.rank() == 2, "linear", "the weight needs shape [out, in], got ", w.shape());
  check<ShapeError>(x.rank() >= 1 && x.shape()[x.rank() - 1] == w.shape()[1], "linear", "input has ",
                    x.rank() ? x.shape()[x.rank() - 1] : 0, " features, weight expects ", w.shape()[1],
                    ": x is ", x.shape(), ", weight is ", w.shape());
  check_same_kind("linear", x, w);
  check_floating("linear", x);
  check_plain("linear", x);
  if (bias.defined()) {
    check<ShapeError>(bias.shape() == Shape{w.shape()[0]}, "linear", "the bias has shape ", bias.shape(),
                      ", the weight ", w.shape(), " needs [", w.shape()[0], "]");
    check_accumulation_kind("linear", x, bias);
  }
  meet_batch("linear", w, x, 1);
  meet_batch("linear", bias, x, 1);
}

}  // namespace lpf::detail
