// Rows of a table by index. In a perturbed pass the samples of slice r read replica r; the gradient, summed
// over replicas, is one scatter into one table. The two functions below are each other's derivatives.
#pragma once

#include <optional>

#include "lpf/ops/flipout.hpp"
#include "lpf/ops/index.hpp"

namespace lpf {

struct EmbeddingOptions {
  std::optional<std::int64_t> padding_idx = {};  ///< this row has no gradient; negative counts from the end
  /// False: the indices have no batch axis and are the same for all samples (positions). In a perturbed pass
  /// the result is then one for each replica, which meets a batch slice by slice.
  bool batched = true;
};

namespace detail {

/// Row indices into tables of all replicas, `entries` apart: r·entries is added for the samples of slice r.
LPF_ONCE Tensor replica_rows(const Tensor& index, const PlanPtr& plan, std::int64_t entries) {
  const Slices slices = plan->slices("embedding", index.numel());
  const Tensor rows = empty_like(index);
  for (std::int64_t r = 0; r < slices.count(); ++r)
    index.backend().unary(backend::Unary::affine, index.dtype(), slices.length(r),
                          index.alias({}, slices.begin(r)).raw(), rows.alias({}, slices.begin(r)).raw(), 1,
                          static_cast<double>(r * entries));
  return rows;
}

/// y[i] = row index[i] of each sample's replica of flipout, made from the rows that are read alone.
LPF_ONCE void flipped_rows(const backend::Replicas& w, const Tensor& index, const PlanPtr& plan,
                           const Tensor& y) {
  const backend::Table& table = y.backend();
  const std::int64_t entries = w.segment.rows, d = w.segment.inputs, rows = index.numel(), each = entries + d;
  const Tensor noise = empty_like(y), signs = empty({rows, 1}, y.options());
  table.take(y.dtype(), 1, entries, d, rows, w.noise, indices_of(index), noise.raw());
  table.take(y.dtype(), 1, each * w.count, 1, rows, w.signs, indices_of(replica_rows(index, plan, each)),
             signs.raw());
  table.binary(backend::Binary::multiply, view_of(noise), view_as(signs, noise.shape()), view_of(noise), 0);
  multiply_signs(noise, w, Side::inputs, plan->slices("embedding", rows), 1, noise);
  table.take(y.dtype(), 1, entries, d, rows, w.theta, indices_of(index), y.raw());
  table.accumulate(y.dtype(), y.numel(), 1.0, noise.raw(), y.raw());
}

Tensor embedding_scatter(const Tensor& y, const Tensor& index, std::int64_t entries, const PlanPtr& plan);

/// y[i] = weight[index[i]], in each sample's replica. weight [V, D], index [rows], y [rows, D].
LPF_ONCE Tensor embedding_rows(const Tensor& weight, const Tensor& index,
                               std::optional<std::int64_t> padding) {
  const std::int64_t entries = weight.shape()[0], d = weight.shape()[1], rows = index.numel();
  const PlanPtr plan = weight.is_replicated() ? weight.impl().replicas : nullptr;
  Tensor y = empty({rows, d}, weight.options());
  const backend::Replicas* flips = plan ? flipped(weight) : nullptr;
  if (flips && flips->segment.rows == entries && flips->segment.inputs == d) {
    flipped_rows(*flips, index, plan, y);
  } else {
    const Tensor from = plan ? replica_rows(index, plan, entries) : index;
    weight.backend().take(weight.dtype(), 1, entries * (plan ? plan->count() : 1), d, rows,
                          weight.raw_with_replicas(), indices_of(from), y.raw());
  }
  return record(
      "embedding", std::move(y), {weight},
      [=, plan = weight.impl().sum_gradient ? nullptr : plan](const Tensor& g, Need) {
        if (!padding) return Grads{embedding_scatter(g, index, entries, plan)};
        const Tensor counts = reshape(index != static_cast<double>(*padding), {rows, 1});
        return Grads{embedding_scatter(where(counts, g, zeros({}, g.options())), index, entries, plan)};
      });
}

/// The sum of the rows of y [rows, D] of each index, [V, D]; with a plan the
/// sum over each slice, as replicas.
LPF_ONCE Tensor embedding_scatter(const Tensor& y, const Tensor& index, std::int64_t entries,
                                  const PlanPtr& plan) {
  if (y.dtype() == bfloat16) return embedding_scatter(to_float32(y), index, entries, plan);
  const std::int64_t d = y.shape()[1], all = entries * (plan ? plan->count() : 1);
  const Tensor to = plan ? replica_rows(index, plan, entries) : index;
  const Tensor sums = zeros({all, d}, y.options());
  y.backend().index_add(y.dtype(), 1, all, d, index.numel(), y.raw(), indices_of(to), sums.raw());
  Tensor out = sums.alias({entries, d});
  out.impl().replicas = plan;
  return record("embedding_scatter", std::move(out), {y},
                [index](const Tensor& g, Need) { return Grads{embedding_rows(g, index, {})}; });
}

}  // namespace detail

/// Rows of `weight` [V, D] by index: int64 indices [B, …] give [B, …, D]. PyTorch's functional.embedding,
/// with the same order of arguments. In a perturbed pass the first axis of the indices is the batch, unless
/// `batched` is false: tok(x) + pos.rows(arange(T)).
/// @throws ShapeError in a perturbed pass for another first axis, IndexError for an index (or a padding_idx) outside [0, V), ShapeError unless the weight has two
/// axes, DTypeError unless indices are int64.
LPF_ONCE Tensor embedding(const Tensor& indices, const Tensor& weight, const EmbeddingOptions& options = {}) {
  check<ShapeError>(weight.rank() == 2, "embedding", "the weight needs shape [entries, features], got ",
                    weight.shape());
  detail::check_floating("embedding", weight);
  const std::int64_t entries = weight.shape()[0];
  detail::check_indices("embedding", indices, entries, weight);
  auto padding = options.padding_idx;
  if (padding && *padding < 0) *padding += entries;
  check<IndexError>(!padding || (*padding >= 0 && *padding < entries), "embedding", "padding_idx ",
                    options.padding_idx.value_or(0), " is outside a table of ", entries, " rows");
  const Tensor flat = reshape(indices, {indices.numel()});
  Shape shape = indices.shape();
  shape.push_back(weight.shape()[1]);
  if (!weight.is_replicated()) return reshape(detail::embedding_rows(weight, flat, padding), shape);

  const PlanPtr plan = weight.impl().replicas;
  if (!options.batched) {
    Tensor rows = index_select(detail::remove_replica_dim(weight), 1, flat);
    if (padding)
      rows = where(reshape(flat == static_cast<double>(*padding), {flat.numel(), 1}), rows.detach(), rows);
    return detail::add_replica_dim(reshape(rows, shape.prepended(plan->count())), plan);
  }
  check<ShapeError>(
      indices.rank() >= 1 && (indices.rank() > 1 || plan->count() == 1 || plan->batch() == 0 ||
                              indices.numel() % plan->batch() == 0),
      "embedding", "indices of shape ", indices.shape(), " have no batch axis of ", plan->batch(),
      " samples: read rows that are the same for all samples with Embedding::rows() or {.batched = "
      "false}, or give every sample its indices, expand(indices, {B, T})");
  plan->meet("embedding", indices.shape(), 0);
  return reshape(detail::embedding_rows(weight, flat, padding), shape);
}

}  // namespace lpf
