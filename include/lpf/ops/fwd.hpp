// Declarations of the operations that are used in other operations' backward functions.
#pragma once

#include <span>
#include <vector>

#include "lpf/autograd/autocast.hpp"

namespace lpf {

using Axes = std::vector<int>;

// arithmetic.hpp
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor affine(const Tensor& x, double a, double b);
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

// shape.hpp
Tensor reshape(const Tensor& x, const Shape& shape);
Tensor expand(const Tensor& x, const Shape& shape);
Tensor permute(const Tensor& x, const Axes& axes);
Tensor slice(const Tensor& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1);

// replicate.hpp
Tensor per_sample(const Tensor& parameter, const Tensor& x);

// reduce.hpp
Tensor sum(const Tensor& x, const Axes& axes = {}, bool keepdim = false);
Tensor sum_to(const Tensor& x, const Shape& shape);

namespace detail {

LPF_ONCE void check_same_kind(const char* operation, const Tensor& a, const Tensor& b) {
  check<DTypeError>(a.dtype() == b.dtype(), operation, "operands are ", name_of(a.dtype()), " and ",
                    name_of(b.dtype()), ": convert one with .to(dtype)");
  check<DeviceError>(a.device() == b.device(), operation, "operands are on ", a.device(), " and ", b.device(),
                     ": move one with .to(device)");
}

LPF_ONCE void check_floating(const char* operation, const Tensor& x) {
  check<DTypeError>(is_floating(x.dtype()), operation, "needs float32 or float64, got ", name_of(x.dtype()),
                    ": convert with .to(float32)");
}

/// ReplicaError unless x is a plain tensor: for operations that have no rule for replicas.
LPF_ONCE void check_plain(const char* operation, const Tensor& x) {
  check<ReplicaError>(!x.is_replicated(), operation,
                      "has no rule for replicas: a replicated parameter of shape ", x.shape(),
                      " (M = ", x.is_replicated() ? x.impl().replicas->count() : 0,
                      ") must be applied with linear(), conv2d(), embedding(), or per_sample(parameter, x)");
}

/// What an error about the channels of x adds where x has `channels` of them in the second axis, PyTorch's place.
LPF_ONCE std::string channels_first_hint(const Shape& x, std::int64_t channels) {
  if (x.rank() < 3 || x[1] != channels) return {};
  return concat("; images and sequences are channels last, [B, …, C]: permute(x, ",
                x.rank() == 4 ? "{0, 2, 3, 1})" : "{0, 2, 1})");
}

/// x as a strided view that broadcasts to `shape`.
LPF_ONCE backend::View view_as(const Tensor& x, const Shape& shape) {
  backend::View v{x.raw(), x.dtype(), shape.rank(), {}, {}};
  const auto strides = x.shape().strides();
  const int lead = shape.rank() - x.rank();
  for (int i = 0; i < shape.rank(); ++i) {
    v.shape[i] = shape[i];
    const bool broadcast_axis = i < lead || (x.shape()[i - lead] == 1 && shape[i] != 1);
    v.stride[i] = broadcast_axis ? 0 : strides[static_cast<std::size_t>(i - lead)];
  }
  return v;
}
LPF_ONCE backend::View view_of(const Tensor& x) { return view_as(x, x.shape()); }

}  // namespace detail

}  // namespace lpf
