// Writing and adding to places that an index gives: the counterparts of gather() and index_select(). Indices are
// int64 and count from 0. Replicas are refused: an index comes from the batch as a rule, and which replica each
// of its samples means would be ambiguous.
#pragma once

#include "lpf/ops/index.hpp"
#include "lpf/ops/scan.hpp"
#ifndef LPF_COMPILED
#  include "lpf/backend/cpu/scatter.hpp"
#endif

namespace lpf {

namespace detail {

/// Checks the operands of scatter() and scatter_add(); returns the normalised axis.
LPF_ONCE int check_scatter(const char* operation, const Tensor& x, int axis, const Tensor& index,
                           const Tensor& source) {
  for (const Tensor* t : {&x, &index, &source}) check_plain(operation, *t);
  axis = normalize_axis(operation, axis, x.rank());
  check_same_kind(operation, x, source);
  bool fits = index.rank() == x.rank() && source.rank() == x.rank();
  for (int i = 0; fits && i < x.rank(); ++i)
    fits = index.shape()[i] <= source.shape()[i] && (i == axis || index.shape()[i] <= x.shape()[i]);
  check<ShapeError>(fits, operation, "the index ", index.shape(), " may be no larger than the source ",
                    source.shape(), ", nor than the input ", x.shape(), " but along axis ", axis);
  check_indices(operation, index, x.shape()[axis], x);
  return axis;
}

using Scatter = Tensor (*)(const Tensor& x, int axis, const Tensor& index, const Tensor& source);

/// write() into the part of x that the index covers, of a source cut to the index's shape.
LPF_ONCE Tensor scatter_corner(Scatter write, const Tensor& x, int axis, const Tensor& index,
                               const Tensor& source) {
  for (int i = 0; i < x.rank(); ++i) {
    const std::int64_t n = index.shape()[i];
    if (i == axis || n == x.shape()[i]) continue;
    const Tensor covered = slice(x, i, 0, n), rest = slice(x, i, n, x.shape()[i]);
    return concatenate({scatter_corner(write, covered, axis, index, source), rest}, i);
  }
  return write(x, axis, index, corner(source, index.shape()));
}

/// x with `source`, of the index's shape, written over it in index order.
LPF_ONCE Tensor scatter_all(const Tensor& x, int axis, const Tensor& index, const Tensor& source) {
  Tensor y = x.detach().clone();
  y.backend().scatter(y.dtype(), y.shape().product(0, axis), y.shape()[axis],
                      y.shape().product(axis + 1, y.rank()), index.shape()[axis], source.raw(),
                      indices_of(index), y.raw());
  return record("scatter", std::move(y), {x, source}, [axis, index](const Tensor& g, Need need) {
    Grads grads(2);
    if (need[0]) grads[0] = scatter_all(g, axis, index, zeros(index.shape(), g.options()));
    if (need[1]) {  // for an entry that is not overwritten by a later one
      const std::int64_t n = index.shape()[axis];
      Shape along;
      for (int i = 0; i < index.rank(); ++i) along.push_back(i == axis ? n : 1);
      const Tensor entry = expand(reshape(positions(n, index.device()), along), index.shape());
      const Tensor last = scatter_all(zeros(g.shape(), entry.options()), axis, index, entry);
      grads[1] = where(gather(last, axis, index) == entry, gather(g, axis, index), zeros({}, g.options()));
    }
    return grads;
  });
}

/// x plus `source`, of the index's shape, added in index order.
LPF_ONCE Tensor scatter_add_all(const Tensor& x, int axis, const Tensor& index, const Tensor& source) {
  Tensor y = x.detach().clone();
  // index_add() does the same for vectors, on a GPU with many threads instead of one a column.
  if (x.rank() == 1 && is_floating(x.dtype())) {
    y.backend().index_add(y.dtype(), 1, y.numel(), 1, index.numel(), source.raw(), indices_of(index),
                          y.raw());
  } else {
    y.backend().scatter_add(y.dtype(), y.shape().product(0, axis), y.shape()[axis],
                            y.shape().product(axis + 1, y.rank()), index.shape()[axis], source.raw(),
                            indices_of(index), y.raw());
  }
  return record("scatter_add", std::move(y), {x, source}, [axis, index](const Tensor& g, Need need) {
    return Grads{g, need[1] ? gather(g, axis, index) : Tensor()};
  });
}

}  // namespace detail

/// x with source[…, j, …] written to place index[…, j, …] along `axis`. Of several entries for one place the
/// last, in the order of the index, is the one that counts, and the only one with a gradient. The index may
/// cover a part of the source and of x. PyTorch's torch.scatter, which leaves open which of several counts.
/// @throws IndexError for an index outside the axis, ShapeError unless index, source and x fit, DTypeError unless
/// indices are int64 and source has x's dtype.
LPF_ONCE Tensor scatter(const Tensor& x, int axis, const Tensor& index, const Tensor& source) {
  if (const auto cast = detail::cast_operands("scatter", x, source))
    return scatter(cast.a, axis, index, cast.b);
  axis = detail::check_scatter("scatter", x, axis, index, source);
  return detail::scatter_corner(detail::scatter_all, x, axis, index, source);
}
/// x with a number written to the places. @throws DTypeError for a number that x's dtype does not hold.
LPF_ONCE Tensor scatter(const Tensor& x, int axis, const Tensor& index, double value) {
  detail::check_value("scatter", x, value);
  return scatter(x, axis, index, full(index.shape(), value, x.options()));
}

/// x with source[…, j, …] added at place index[…, j, …] along `axis`, in the order of the index; for bfloat16 in
/// float32. The index may cover a part of the source and of x. PyTorch's torch.scatter_add.
/// @throws as scatter(); DTypeError for bools.
LPF_ONCE Tensor scatter_add(const Tensor& x, int axis, const Tensor& index, const Tensor& source) {
  if (const auto cast = detail::cast_operands("scatter_add", x, source))
    return scatter_add(cast.a, axis, index, cast.b);
  axis = detail::check_scatter("scatter_add", x, axis, index, source);
  detail::check_arithmetic("scatter_add", x);
  return detail::scatter_corner(detail::scatter_add_all, detail::to_float32(x), axis, index,
                                detail::to_float32(source));
}

/// x with alpha·(entry j of `source`) added to entry index[j] of one axis, in the order of the index (of rank 1);
/// for bfloat16 in float32. source has x's shape but for one entry an index along `axis`. PyTorch's
/// torch.index_add.
/// @throws as scatter(); DTypeError for bools, and for an alpha that is no whole number where x is of integers.
LPF_ONCE Tensor index_add(const Tensor& x, int axis, const Tensor& index, const Tensor& source,
                          double alpha = 1) {
  if (const auto cast = detail::cast_operands("index_add", x, source))
    return index_add(cast.a, axis, index, cast.b, alpha);
  for (const Tensor* t : {&x, &index, &source}) detail::check_plain("index_add", *t);
  axis = normalize_axis("index_add", axis, x.rank());
  detail::check_same_kind("index_add", x, source);
  detail::check_arithmetic("index_add", x);
  check<ShapeError>(index.rank() == 1, "index_add", "the index has shape ", index.shape(), ", needs rank 1");
  const Shape wanted = x.shape().with(axis, index.numel());
  check<ShapeError>(source.shape() == wanted, "index_add", "the source has shape ", source.shape(), "; ",
                    index.numel(), " entries along axis ", axis, " of ", x.shape(), " need ", wanted);
  detail::check_indices("index_add", index, x.shape()[axis], x);
  const Tensor added = alpha == 1 ? source : affine(source, alpha, 0);
  if (!is_floating(x.dtype())) {
    Shape along;
    for (int i = 0; i < x.rank(); ++i) along.push_back(i == axis ? index.numel() : 1);
    return detail::scatter_add_all(x, axis, expand(reshape(index, along), wanted), added);
  }
  const Tensor from = detail::to_float32(x), terms = detail::to_float32(added);
  Tensor y = from.detach().clone();
  y.backend().index_add(y.dtype(), y.shape().product(0, axis), y.shape()[axis],
                        y.shape().product(axis + 1, y.rank()), index.numel(), terms.raw(),
                        detail::indices_of(index), y.raw());
  return record("index_add", std::move(y), {from, terms}, [axis, index](const Tensor& g, Need need) {
    return Grads{g, need[1] ? index_select(g, axis, index) : Tensor()};
  });
}

}  // namespace lpf
