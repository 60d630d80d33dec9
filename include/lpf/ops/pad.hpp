// Elements added at the ends of axes.
#pragma once

#include <vector>

#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/flip.hpp"

namespace lpf {

/// What padding consists of, for x = a b c d and two elements on each side.
enum class PadMode {
  constant,   ///< v v a b c d v v, with a number v
  reflect,    ///< c b a b c d c b
  replicate,  ///< a a a b c d d d
  circular    ///< c d a b c d a b
};

struct PadOptions {
  PadMode mode = PadMode::constant;
  double value = 0;  ///< of PadMode::constant
};

namespace detail {

/// A tensor of `shape` filled with a number, with x at `begin` along each axis.
LPF_ONCE Tensor pad_constant(const Tensor& x, const Shape& begin, const Shape& shape, double value) {
  Tensor y = full(shape, value, x.options());
  backend::View part = view_of(y);
  std::int64_t first = 0;
  for (int i = 0; i < x.rank(); ++i) {
    first += begin[i] * part.stride[i];
    part.shape[i] = x.shape()[i];
  }
  part.data = static_cast<std::byte*>(part.data) + first * static_cast<std::int64_t>(size_of(x.dtype()));
  if (x.numel() > 0) x.backend().assign(part, view_of(x));
  return record("pad", std::move(y), {x}, [begin, from = x.shape()](const Tensor& g, Need) {
    Tensor own = g;
    for (int i = 0; i < from.rank(); ++i)
      if (from[i] != own.shape()[i]) own = slice(own, i, begin[i], begin[i] + from[i]);
    return Grads{own};
  });
}

/// x with elements of its own before and after those of one axis.
LPF_ONCE Tensor pad_axis(const Tensor& x, int axis, std::int64_t before, std::int64_t after, PadMode mode) {
  const std::int64_t n = x.shape()[axis];
  const auto part = [&](std::int64_t from, std::int64_t to) { return slice(x, axis, from, to); };
  const auto end = [&](bool front, std::int64_t count) {
    if (mode == PadMode::reflect)
      return flip(front ? part(1, 1 + count) : part(n - 1 - count, n - 1), {axis});
    if (mode == PadMode::circular) return front ? part(n - count, n) : part(0, count);
    return expand(front ? part(0, 1) : part(n - 1, n), x.shape().with(axis, count));
  };
  std::vector<Tensor> parts;
  if (before > 0) parts.push_back(end(true, before));
  parts.push_back(x);
  if (after > 0) parts.push_back(end(false, after));
  return concatenate(parts, axis);
}

}  // namespace detail

/// x with elements added at the ends of its axes. `sizes` are pairs (before, after), the first of the last
/// axis, the second of the one before it, and so on, as in PyTorch's torch.nn.functional.pad: the rows and
/// columns of images [B, H, W, C] are padded by pad(x, {0, 0, left, right, top, bottom}). Negative sizes remove
/// elements. All modes pad any axes, of any dtype. Of replicas: each its own.
/// @throws ShapeError for an odd number of sizes or more pairs than axes, for fewer elements than are removed,
/// and for too few to copy: reflect needs more than it adds at one end, circular as many, replicate one;
/// DTypeError for a value that x's dtype does not hold.
LPF_ONCE Tensor pad(const Tensor& x, const std::vector<std::int64_t>& sizes, const PadOptions& options = {}) {
  check<ShapeError>(sizes.size() % 2 == 0 && static_cast<int>(sizes.size() / 2) <= x.rank(), "pad",
                    sizes.size(), " sizes for shape ", x.shape(),
                    ": they are pairs (before, after), at most one an axis, the last axis first");
  if (x.is_replicated())
    return detail::add_replica_dim(pad(detail::remove_replica_dim(x), sizes, options), x.impl().replicas);
  const PadMode mode = options.mode;
  if (mode == PadMode::circular && std::any_of(sizes.begin(), sizes.end(), [](auto n) { return n < 0; })) {
    std::vector<std::int64_t> removed, added;  // what is left is what repeats
    for (const std::int64_t n : sizes) {
      removed.push_back(std::min<std::int64_t>(n, 0));
      added.push_back(std::max<std::int64_t>(n, 0));
    }
    return pad(pad(x, removed), added, options);
  }
  const char* const name = mode == PadMode::reflect    ? "reflect"
                           : mode == PadMode::circular ? "circular"
                                                       : "replicate";
  Shape begin, padded;  // with what is added
  std::vector<std::int64_t> first, last;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const std::size_t pair = 2 * static_cast<std::size_t>(x.rank() - 1 - axis);
    const bool given = pair < sizes.size();
    const std::int64_t before = given ? sizes[pair] : 0, after = given ? sizes[pair + 1] : 0,
                       n = x.shape()[axis], most = std::int64_t{1} << 60;
    check<ShapeError>(before >= -n && after >= -n && before <= most && after <= most && before + after >= -n,
                      "pad", "sizes (", before, ", ", after, ") do not fit axis ", axis, " of shape ",
                      x.shape());
    const std::int64_t larger = std::max({before, after, std::int64_t{0}});
    const std::int64_t needed = mode == PadMode::constant || larger == 0 ? 0
                                : mode == PadMode::reflect               ? larger + 1
                                : mode == PadMode::circular              ? larger
                                                                         : 1;
    check<ShapeError>(n >= needed, "pad", name, " padding by (", before, ", ", after, ") needs ", needed,
                      " elements along axis ", axis, " of shape ", x.shape());
    begin.push_back(std::max<std::int64_t>(before, 0));
    padded.push_back(n + begin[axis] + std::max<std::int64_t>(after, 0));
    first.push_back(std::max<std::int64_t>(-before, 0));
    last.push_back(padded[axis] - std::max<std::int64_t>(-after, 0));
  }
  Tensor y = x;
  if (mode == PadMode::constant) {
    detail::check_value("pad", x, options.value);
    y = detail::pad_constant(x, begin, padded, options.value);
  } else {
    for (int axis = 0; axis < x.rank(); ++axis)
      if (padded[axis] != x.shape()[axis])
        y = detail::pad_axis(y, axis, begin[axis], padded[axis] - x.shape()[axis] - begin[axis], mode);
  }
  for (int axis = 0; axis < x.rank(); ++axis) {
    const auto i = static_cast<std::size_t>(axis);
    if (last[i] - first[i] != y.shape()[axis]) y = slice(y, axis, first[i], last[i]);
  }
  return y;
}

}  // namespace lpf
