// The one tensor type: dynamic shape and dtype, reference-counted row-major storage, autograd built in.
//
// A Tensor is a handle: copying it copies a pointer. Its elements are always contiguous, so
// t.data<float>() is a plain array. reshape() and slices of the first axis share memory; every other
// rearrangement copies. Operations are free functions (ops/), the common ones also members; they return
// new tensors and never change their operands.
#pragma once

#include <atomic>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lpf/core/dtype.hpp"
#include "lpf/core/replicas.hpp"
#include "lpf/core/shape.hpp"
#include "lpf/tensor/storage.hpp"

namespace lpf {

class Node;  // autograd/node.hpp
class Tensor;

/// Dtype and device of a new tensor: zeros({2, 3}, {.dtype = float64}).
struct TensorOptions {
  DType dtype = DType::float32;
  Device device = default_device();
};

namespace detail {

struct TensorImpl {
  std::atomic<std::int64_t> references{1};
  Shape shape;
  DType dtype = DType::float32;
  std::int64_t offset = 0;  // in elements
  std::shared_ptr<Storage> storage;
  std::shared_ptr<Node> node;             // of its operation, or its leaf node if it requires a gradient
  std::shared_ptr<ReplicaPlan> replicas;  // of a replicated tensor: the data is [M, shape…]
  bool sum_gradient = false;  // replicated, and the gradient may arrive already summed over the replicas
  /// In a pass of several replicas. Plain: computed from activations, in which each sample has the replica of its
  /// slice. Replicated: a batch mean, of which the slices' parts are not known, was added to every replica.
  bool from_samples = false;
  std::int8_t sample_axis = unknown_axis;  // of a plain tensor from samples: the axis along which they lie
  static constexpr std::int8_t unknown_axis = -1;  // an operation without a rule
  static constexpr std::int8_t summed_axis = -2;   // the samples were summed
  static constexpr std::int8_t mixed_axis = -3;    // they are in another order, or several lie together
};

/// Deliberately not inlined: every function that holds a tensor ends with it.
[[gnu::noinline]] inline void destroy(TensorImpl* impl) { delete impl; }

}  // namespace detail

/// A handle to an array of numbers, its shape and its history.
class Tensor {
 public:
  /// An undefined tensor: no shape, no data.
  Tensor() noexcept : impl_(nullptr) {}
  Tensor(const Tensor& other) noexcept : impl_(other.impl_) {
    if (impl_) impl_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Tensor(Tensor&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)) {}
  Tensor& operator=(Tensor other) noexcept {
    std::swap(impl_, other.impl_);
    return *this;
  }
  ~Tensor() {
    if (impl_ && impl_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) detail::destroy(impl_);
  }
  /// Takes ownership of a new implementation, as its first reference.
  explicit Tensor(detail::TensorImpl* impl) : impl_(impl) {}

  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const = delete;

  const Shape& shape() const { return get().shape; }
  int rank() const { return get().shape.rank(); }
  std::int64_t size(int axis) const { return get().shape[normalize_axis("size", axis, rank())]; }
  std::int64_t numel() const { return get().shape.numel(); }
  DType dtype() const { return get().dtype; }
  Device device() const { return get().storage->device(); }
  TensorOptions options() const { return {dtype(), device()}; }

  /// The elements, row-major. T must be the tensor's element type; the tensor must be on the CPU.
  template <class T>
  T* data() const {
    check<DTypeError>(dtype_of<T>() == dtype(), "data", "asked for ", name_of(dtype_of<T>()),
                      " elements of a ", name_of(dtype()), " tensor");
    check<DeviceError>(device().is_cpu(), "data", "the tensor is on ", device(),
                       ": copy it with .to(Device::cpu())");
    return static_cast<T*>(raw());
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<std::size_t>(numel())};
  }
  /// The only element, converted to T (to an integer: without its fraction); of a replicated scalar the mean over
  /// the replicas, each with the share of its slice, or for T = bool whether all are true. ShapeError unless there
  /// is exactly one.
  template <class T = double>
  T item() const;
  /// All elements, converted to T, as a vector on the host.
  template <class T = double>
  std::vector<T> to_vector() const;
  /// Copies all elements, converted to `type`, to an array on the host.
  void copy_to_host(DType type, void* to) const;
  std::string to_string() const;  // ops/print.hpp

  // --- autograd
  bool requires_grad() const { return defined() && impl_->node != nullptr; }
  /// Makes this leaf accumulate a gradient. StateError on the result of an operation, DTypeError on integers.
  const Tensor& requires_grad_(bool on = true) const;
  bool is_leaf() const;
  /// The gradient accumulated by backward(); undefined before.
  Tensor grad() const;
  /// Drops the gradient, or zeroes it where it is a view into a store's buffer.
  void zero_grad() const;
  /// Adds d(this)/d(leaf) to the gradient of every leaf. `gradient` defaults to 1 for a one-element tensor.
  void backward(const Tensor& gradient = {}, bool retain_graph = false) const;
  /// The same data without history.
  Tensor detach() const;

  // --- in place (only without history, or under no_grad)
  /// Copies the values of `source` (same shape; any dtype and device) into this tensor.
  const Tensor& copy_(const Tensor& source) const;
  const Tensor& fill_(double value) const;
  const Tensor& zero_() const { return fill_(0); }

  // --- common operations as members (ops/)
  Tensor clone() const;
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;
  Tensor reshape(Shape shape) const;  // no −1; the overload below allows one
  Tensor reshape(std::initializer_list<std::int64_t> sizes) const;
  Tensor flatten(int from = 0, int to = -1) const;
  Tensor permute(std::initializer_list<int> axes) const;
  Tensor transpose(int axis0 = -2, int axis1 = -1) const;
  Tensor squeeze(int axis) const;
  Tensor unsqueeze(int axis) const;
  Tensor narrow(int axis, std::int64_t start, std::int64_t length) const;
  Tensor slice(int axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1) const;
  /// Row `index` along the first axis (a view); negative counts from the end.
  Tensor operator[](std::int64_t index) const;
  Tensor sum(std::initializer_list<int> axes = {}, bool keepdim = false) const;
  Tensor mean(std::initializer_list<int> axes = {}, bool keepdim = false) const;
  Tensor max() const;
  Tensor min() const;
  Tensor argmax(int axis) const;
  Tensor matmul(const Tensor& other) const;
  Tensor exp() const;
  Tensor log() const;
  Tensor sqrt() const;
  Tensor square() const;
  Tensor abs() const;
  Tensor tanh() const;
  Tensor pow(double exponent) const;
  Tensor operator-() const;

  // --- for operations
  bool is_replicated() const { return impl_ && impl_->replicas != nullptr; }
  /// The first element. ReplicaError on a replicated tensor, so every operation without a rule for
  /// replicas fails here at the latest.
  void* raw() const {
    check<ReplicaError>(
        !is_replicated(), "data", "a replicated parameter of shape ", shape(),
        " (M = ", is_replicated() ? impl_->replicas->count() : 0,
        ") reached an operation that has no rule for replicas: apply it with linear(), conv2d(), "
        "embedding(), or per_sample(parameter, x)");
    return raw_with_replicas();
  }
  void* raw_with_replicas() const {
    return get().storage->data() + static_cast<std::size_t>(impl_->offset) * size_of(impl_->dtype);
  }
  const backend::Table& backend() const { return backend::get(device()); }
  detail::TensorImpl& impl() const { return get(); }
  const std::shared_ptr<Node>& node() const { return get().node; }
  void set_node(std::shared_ptr<Node> node) const { get().node = std::move(node); }
  /// Another tensor on the same memory, with its own shape and offset (relative, in elements) and no history.
  Tensor alias(Shape shape, std::int64_t offset = 0) const {
    auto* out = new detail::TensorImpl;
    out->shape = shape;
    out->dtype = get().dtype;
    out->offset = impl_->offset + offset;
    out->storage = impl_->storage;
    return Tensor(out);
  }
  bool is_same(const Tensor& other) const { return impl_ == other.impl_; }
  std::int64_t use_count() const { return impl_ ? impl_->references.load(std::memory_order_relaxed) : 0; }

 private:
  detail::TensorImpl& get() const {
    check<StateError>(impl_ != nullptr, "tensor", "used before it was given a value");
    return *impl_;
  }
  detail::TensorImpl* impl_;
};

namespace detail {
/// Element i of t, counted over all replicas, for a kernel.
LPF_ONCE void* element(const Tensor& t, std::int64_t i) {
  return static_cast<std::byte*>(t.raw_with_replicas()) + static_cast<std::size_t>(i) * size_of(t.dtype());
}
/// The tensor at the beginning of a storage.
inline Tensor on(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype) {
  auto* impl = new TensorImpl;
  Tensor out(impl);
  impl->storage = std::move(storage);
  impl->shape = shape;
  impl->dtype = dtype;
  return out;
}
}  // namespace detail

/// A new tensor with uninitialised elements.
LPF_ONCE Tensor empty(Shape shape, TensorOptions options = {}) {
  const auto bytes = static_cast<std::size_t>(shape.numel()) * size_of(options.dtype);
  return detail::on(std::make_shared<Storage>(bytes, options.device), shape, options.dtype);
}

LPF_ONCE Tensor full(Shape shape, double value, TensorOptions options = {}) {
  Tensor out = empty(shape, options);
  out.backend().fill(out.raw(), options.dtype, out.numel(), value);
  return out;
}
inline Tensor zeros(Shape shape, TensorOptions options = {}) { return full(shape, 0, options); }
inline Tensor ones(Shape shape, TensorOptions options = {}) { return full(shape, 1, options); }
inline Tensor empty_like(const Tensor& t) { return empty(t.shape(), t.options()); }
inline Tensor zeros_like(const Tensor& t) { return zeros(t.shape(), t.options()); }
inline Tensor ones_like(const Tensor& t) { return ones(t.shape(), t.options()); }
inline Tensor full_like(const Tensor& t, double value) { return full(t.shape(), value, t.options()); }

/// A tensor that owns a copy of `values`, of their element type. ShapeError unless the sizes agree.
template <class T>
Tensor from_span(std::span<const T> values, Shape shape, Device device = default_device()) {
  check<ShapeError>(static_cast<std::int64_t>(values.size()) == shape.numel(), "from_span", values.size(),
                    " values do not fill a tensor of shape ", shape);
  Tensor out = empty(shape, {dtype_of<T>(), device});
  out.backend().copy_from_host(out.raw(), values.data(), values.size_bytes());
  return out;
}
template <class T>
Tensor from_vector(const std::vector<T>& values, Shape shape, Device device = default_device()) {
  return from_span(std::span<const T>(values), shape, device);
}
/// tensor({1.f, 2.f, 3.f}) is a rank-1 tensor of these values.
template <class T>
Tensor tensor(std::initializer_list<T> values) {
  return from_span(std::span<const T>(values.begin(), values.size()),
                   {static_cast<std::int64_t>(values.size())});
}

/// A tensor on memory owned by the caller, without a copy. The memory must stay valid as long as the tensor
/// lives; `owner`, if given, keeps it alive. Writing to the tensor writes to that memory.
template <class T>
Tensor wrap(T* data, Shape shape, std::shared_ptr<void> owner = nullptr) {
  check<ValueError>(data != nullptr || shape.numel() == 0, "wrap", "null pointer for a tensor of shape ",
                    shape);
  const auto bytes = static_cast<std::size_t>(shape.numel()) * sizeof(T);
  return detail::on(std::make_shared<Storage>(data, bytes, std::move(owner)), shape, dtype_of<T>());
}
template <class T>
Tensor wrap(std::span<T> data, Shape shape) {
  check<ShapeError>(static_cast<std::int64_t>(data.size()) == shape.numel(), "wrap", data.size(),
                    " values do not fill a tensor of shape ", shape);
  return wrap(data.data(), shape);
}
/// A matrix object with data(), rows(), cols(), innerStride(), outerStride(), IsRowMajor (an Eigen Matrix or
/// Map) as a [rows, cols] tensor on its memory. ShapeError unless its elements are row-major and contiguous.
template <class Matrix>
requires requires(Matrix& m) {
  m.data();
  m.rows();
  m.cols();
  m.innerStride();
  m.outerStride();
  Matrix::IsRowMajor;
}
Tensor wrap(Matrix& m) {
  const auto next_column = Matrix::IsRowMajor ? m.innerStride() : m.outerStride();
  const auto next_row = Matrix::IsRowMajor ? m.outerStride() : m.innerStride();
  check<ShapeError>(Matrix::IsRowMajor || m.cols() <= 1 || m.rows() <= 1, "wrap", "the ", m.rows(), " x ",
                    m.cols(), " matrix is column-major: wrap its transpose, or use Eigen::RowMajor");
  check<ShapeError>((m.cols() <= 1 || next_column == 1) && (m.rows() <= 1 || next_row == m.cols()), "wrap",
                    "the ", m.rows(), " x ", m.cols(), " matrix has columns ", next_column, " and rows ",
                    next_row, " elements apart: wrap needs its elements packed densely");
  return wrap(m.data(), {static_cast<std::int64_t>(m.rows()), static_cast<std::int64_t>(m.cols())});
}

/// start, start + step, … up to, but excluding, stop.
inline Tensor arange(std::int64_t start, std::int64_t stop, std::int64_t step = 1) {
  check(step != 0, "arange", "step is 0");
  // Unsigned: the distance between two int64 may overflow int64.
  const auto from = static_cast<std::uint64_t>(start), to = static_cast<std::uint64_t>(stop),
             by = static_cast<std::uint64_t>(step);
  const bool up = step > 0, none = up ? start >= stop : start <= stop;
  const std::uint64_t count = none ? 0 : ((up ? to - from : from - to) - 1) / (up ? by : 0 - by) + 1;
  check<ShapeError>(count < std::uint64_t{1} << 60, "arange", count, " elements are too many");
  Tensor out = empty({static_cast<std::int64_t>(count)}, {.dtype = DType::int64});
  std::vector<std::uint64_t> values(count);
  for (std::uint64_t i = 0; i < count; ++i) values[i] = from + i * by;
  out.backend().copy_from_host(out.raw(), values.data(), count * sizeof values[0]);
  return out;
}
inline Tensor arange(std::int64_t stop) { return arange(0, stop); }

template <class T>
std::vector<T> Tensor::to_vector() const {
  std::vector<T> out(static_cast<std::size_t>(numel()));
  if constexpr (std::is_same_v<T, bool>) {  // std::vector<bool> is not contiguous
    const auto bytes = to_vector<std::uint8_t>();
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = bytes[i] != 0;
  } else {
    copy_to_host(dtype_of<T>(), out.data());
  }
  return out;
}

namespace detail {
/// The mean of a replicated scalar over its replicas, each with the share of its slice.
LPF_ONCE double mean_of_replicas(const Tensor& scalar) {
  const ReplicaPlan& plan = *scalar.impl().replicas;
  const auto values = scalar.alias({plan.count()}).to_vector();
  double mean = 0;
  for (std::int64_t r = 0; r < plan.count(); ++r) mean += plan.share(r) * values[static_cast<std::size_t>(r)];
  return mean;
}
/// True if no replica of a scalar is 0.
LPF_ONCE bool all_of_replicas(const Tensor& scalar) {
  for (const double value : scalar.alias({scalar.impl().replicas->count()}).to_vector())
    if (value == 0) return false;
  return true;
}
}  // namespace detail

template <class T>
T Tensor::item() const {
  check<ShapeError>(numel() == 1, "item", "needs exactly one element, the tensor has shape ", shape());
  if (is_replicated()) {
    if constexpr (std::is_same_v<T, bool>) return detail::all_of_replicas(*this);
    return static_cast<T>(detail::mean_of_replicas(*this));
  }
  T value;
  copy_to_host(dtype_of<T>(), &value);
  return value;
}

}  // namespace lpf
