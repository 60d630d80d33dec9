// The tape. Every recorded operation is a node: it computes its operands' gradients from its result's, and
// has edges to the nodes that produced the operands.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "lpf/autograd/grad_mode.hpp"
#include "lpf/backend/capture.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf {

/// The operands whose gradients a backward function must compute.
using Need = std::span<const char>;
/// One gradient per operand; undefined where it is not needed.
using Grads = std::vector<Tensor>;

class LeafNode;

/// One recorded operation.
class Node {
 public:
  explicit Node(const char* name) : name_(name), sequence_(++detail::graph_time) {}
  virtual ~Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  struct Edge {
    std::shared_ptr<Node> node;  // null: the operand needs no gradient
    std::uint64_t version = 0;   // of a leaf's storage when the operation was recorded
  };

  const char* name() const { return name_; }
  /// Increases in the order of recording: a node's operands have smaller numbers.
  std::uint64_t sequence() const { return sequence_; }
  std::span<const Edge> edges() const { return edges_; }
  void set_edges(std::vector<Edge> edges) { edges_ = std::move(edges); }

  virtual bool is_leaf() const { return false; }
  virtual Grads backward(const Tensor& gradient, Need need) = 0;
  /// Frees what was saved for backward, and the edges.
  virtual void release() { edges_.clear(); }
  virtual bool released() const { return false; }
  /// The leaf that receives this node's gradient unchanged; null if none.
  virtual LeafNode* grad_sink() { return nullptr; }
  /// The dtype of the gradient passed to backward(): that of the result. Where the result was rounded to
  /// bfloat16 it may be the dtype before rounding, so that sums of gradients are not rounded.
  DType gradient_dtype() const { return gradient_dtype_; }
  void set_gradient_dtype(DType dtype) { gradient_dtype_ = dtype; }

 private:
  friend struct DeleteLater;

  const char* name_;
  std::uint64_t sequence_;
  std::vector<Edge> edges_;
  DType gradient_dtype_ = DType::float32;
  Node* next_to_delete_ = nullptr;
};

/// Deleter that destroys a long graph iteratively: a node released while another is being deleted is queued,
/// without a further stack frame.
struct DeleteLater {
  void operator()(Node* node) const noexcept {
    thread_local Node* waiting = nullptr;
    thread_local bool deleting = false;
    node->next_to_delete_ = waiting;
    waiting = node;
    if (deleting) return;
    deleting = true;
    while (waiting) {
      Node* next = waiting;
      waiting = next->next_to_delete_;
      delete next;
    }
    deleting = false;
  }
};

/// The end of the tape at a tensor that accumulates a gradient.
class LeafNode final : public Node {
 public:
  explicit LeafNode(const detail::TensorImpl& leaf)
      : Node("leaf"), storage_(leaf.storage), shape_(leaf.shape), dtype_(leaf.dtype) {
    set_gradient_dtype(dtype_);
  }

  bool is_leaf() const override { return true; }
  Grads backward(const Tensor&, Need) override { return {}; }

  LeafNode* grad_sink() override { return this; }

  const Storage& storage() const { return *storage_; }
  const Tensor& gradient() const { return gradient_; }
  /// The buffer for backward functions that accumulate in place; undefined if there is none.
  const Tensor& grad_buffer() const {
    if (has_buffer_) gradient_.impl().storage->bump_version();
    return grad_buffer_;
  }
  bool is_grad_buffer(const Tensor& g) const {
    return grad_buffer_.defined() && &g.impl() == &grad_buffer_.impl();
  }
  /// Gradients are accumulated into this tensor; zero_grad() zeroes it instead of dropping it.
  /// `received` says whether one has arrived since.
  void set_buffer(Tensor buffer, StepFlag* received) {
    gradient_ = std::move(buffer);
    // A storage of its own: a backward function writes to it, which is no change of a value that one reads.
    const auto& memory = gradient_.impl().storage;
    grad_buffer_ = gradient_.alias(gradient_.shape());
    grad_buffer_.impl().storage =
        std::make_shared<Storage>(memory->data(), memory->bytes(), memory, memory->device());
    has_buffer_ = true;
    received_ = received;
  }
  void accumulate(const Tensor& g) {
    if (is_grad_buffer(g)) return set_received(true);  // already accumulated in place
    check<ShapeError>(g.shape() == shape_ && g.dtype() == dtype_, "backward", "a gradient of shape ",
                      g.shape(), " and dtype ", name_of(g.dtype()), " arrived at a leaf of shape ", shape_,
                      " and dtype ", name_of(dtype_));
    set_received(true);
    if (!gradient_.defined()) {
      gradient_ = g.use_count() == 1 && g.impl().storage.use_count() == 1 ? g.detach() : g.detach().clone();
      return;
    }
    gradient_.impl().storage->bump_version();
    gradient_.backend().accumulate(gradient_.dtype(), gradient_.numel(), 1.0, g.raw(), gradient_.raw());
  }
  void zero() {
    if (has_buffer_) {
      gradient_.impl().storage->note_change();
      gradient_.backend().fill(gradient_.raw(), gradient_.dtype(), gradient_.numel(), 0);
      set_received(false);
    } else {
      gradient_ = Tensor();
    }
  }

 private:
  void set_received(bool value) {
    if (received_) *received_ = value;
  }

  std::shared_ptr<Storage> storage_;
  Shape shape_;
  DType dtype_;
  Tensor gradient_, grad_buffer_;
  bool has_buffer_ = false;
  StepFlag* received_ = nullptr;
};

namespace detail {

/// A recorded operation: a backward function with its saved state, type-erased
/// so that nodes are compiled once.
class FunctionNode final : public Node {
 public:
  using Call = Grads (*)(void* function, const Tensor& gradient, Need need);
  using Destroy = void (*)(void* function);
  FunctionNode(const char* name, void* function, Call call, Destroy destroy)
      : Node(name), function_(function), call_(call), destroy_(destroy) {}
  ~FunctionNode() override { drop(); }
  Grads backward(const Tensor& gradient, Need need) override { return call_(function_, gradient, need); }
  void release() override {
    drop();
    grad_sink_ = nullptr;
    Node::release();
  }
  LeafNode* grad_sink() override { return grad_sink_; }
  /// Sets the leaf that receives the gradient unchanged; an edge leads to it.
  void set_grad_sink(LeafNode* leaf) { grad_sink_ = leaf; }
  bool released() const override { return function_ == nullptr; }

 private:
  void drop() {
    if (void* function = std::exchange(function_, nullptr)) destroy_(function);
  }
  void* function_;
  Call call_;
  Destroy destroy_;
  LeafNode* grad_sink_ = nullptr;
};

/// The node whose backward function is running on this thread; null otherwise, and in grad().
inline thread_local const Node* backward_node = nullptr;

/// While a node's backward function runs: what it may read, and where gradients are accumulated.
class BackwardScope {
 public:
  /// `direct`: gradients may be accumulated in the leaves' buffers.
  BackwardScope(const Node& node, bool direct)
      : node_(std::exchange(backward_node, direct ? &node : nullptr)),
        read_(std::exchange(backward_read, {node.sequence(), node.name()})) {}
  ~BackwardScope() {
    backward_node = node_;
    backward_read = read_;
  }
  BackwardScope(const BackwardScope&) = delete;
  BackwardScope& operator=(const BackwardScope&) = delete;

 private:
  const Node* node_;
  BackwardRead read_;
};

/// The buffer in which the gradient of an operand of that node is accumulated, if it goes directly to a
/// parameter's buffer: the backward function may add to it and return it, which saves one or two sweeps over
/// the gradient. Otherwise undefined.
inline Tensor grad_buffer(std::size_t operand) {
  if (!backward_node || grad_enabled) return {};
  const auto& node = backward_node->edges()[operand].node;
  LeafNode* leaf = node ? node->grad_sink() : nullptr;
  return leaf ? leaf->grad_buffer() : Tensor();
}

LPF_ONCE Node::Edge edge_to(const Tensor& t) {
  if (!t.defined() || !t.node()) return {};
  const auto& node = t.node();
  return {node, node->is_leaf() ? static_cast<const LeafNode&>(*node).storage().version() : 0};
}

/// Declares that the gradient of y, a result of recorded operations, goes to `leaf` unchanged,
/// in the leaf's dtype; if `direct`, it may be accumulated in the leaf's buffer (grad_buffer()).
/// No effect if y has no history.
LPF_ONCE void set_gradient_destination(const Tensor& y, const Tensor& leaf, bool direct) {
  if (!y.node()) return;
  y.node()->set_gradient_dtype(leaf.dtype());
  if (direct) static_cast<FunctionNode&>(*y.node()).set_grad_sink(leaf.node()->grad_sink());
}

/// NumericError naming `operation` if `t` contains NaN or infinity.
LPF_ONCE void check_finite(const char* operation, const char* what, const Tensor& t) {
  if (!t.defined() || !is_floating(t.dtype())) return;
  const std::int64_t n = t.numel() * (t.is_replicated() ? t.impl().replicas->count() : 1);
  Tensor finite = empty({n}, {DType::bool_, t.device()}), all = empty({}, {DType::bool_, t.device()});
  t.backend().unary(backend::Unary::is_finite, t.dtype(), n, t.raw_with_replicas(), finite.raw(), 0, 0);
  t.backend().reduce(backend::Reduce::all, DType::bool_, 1, n, 1, finite.raw(), all.raw());
  check<NumericError>(all.item<bool>(), operation, what, " holds NaN or infinity; its shape is ", t.shape());
}

}  // namespace detail

/// An operand of an operation: a reference to a tensor, valid during the call.
class Operand {
 public:
  Operand(const Tensor& t) : tensor_(&t) {}  // NOLINT: implicit on purpose
  const Tensor& tensor() const { return *tensor_; }

 private:
  const Tensor* tensor_;
};

/// The operands of an operation, {x, weight, bias} or a list of tensors, valid during the call.
class Operands {
 public:
  Operands(std::initializer_list<Operand> list) : size_(list.size()) { list_ = list.begin(); }
  Operands(std::span<const Tensor> list) : tensors_(list.data()), size_(list.size()) {}   // NOLINT
  Operands(const std::vector<Tensor>& list) : Operands(std::span<const Tensor>(list)) {}  // NOLINT
  std::size_t size() const { return size_; }
  const Tensor& operator[](std::size_t i) const { return tensors_ ? tensors_[i] : list_[i].tensor(); }

 private:
  const Operand* list_ = nullptr;
  const Tensor* tensors_ = nullptr;
  std::size_t size_;
};

namespace detail {

/// Notes on y, the result of an operation on `operands` in a perturbed pass, whether it was computed from
/// activations, and, unless the operation has a rule of its own, where the samples lie: where they did if y has as
/// many axes, and of that size. The result for replicas and a batch has them first.
LPF_ONCE void follow_samples(const Tensor& y, const Operands& operands) {
  bool follows = false, mixed = false;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const Tensor& x = operands[i];
    follows |=
        x.defined() && (x.impl().from_samples || (x.is_replicated() && x.impl().replicas->count() > 1));
  }
  if (!follows || backward_read.operation) return;  // gradients are not followed
  TensorImpl& out = y.impl();
  std::int8_t axis = TensorImpl::summed_axis;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const Tensor& x = operands[i];
    if (!x.defined()) continue;
    const TensorImpl& in = x.impl();
    if (x.is_replicated()) {
      if (y.is_replicated() ? !in.from_samples : in.replicas->count() == 1) continue;
      axis = std::max<std::int8_t>(axis, 0);
    } else if (in.from_samples) {
      const std::int8_t at = x.rank() == 0 ? TensorImpl::summed_axis : in.sample_axis;
      mixed |= in.sample_axis == TensorImpl::mixed_axis;
      const bool same = at < 0 || (y.rank() == x.rank() && y.shape()[at] == x.shape()[at]) ||
                        (y.rank() > at && y.shape().slice(0, at + 1) == x.shape().slice(0, at + 1));
      axis = std::max(axis, same ? at : TensorImpl::unknown_axis);
    } else {
      continue;
    }
    out.from_samples = true;
  }
  if (out.sample_axis == TensorImpl::unknown_axis) out.sample_axis = mixed ? TensorImpl::mixed_axis : axis;
}

/// True if an operation on `operands` with result y must be recorded.
[[gnu::noinline]] inline bool needs_record(const char* name, const Tensor& y, const Operands& operands) {
  if (anomaly_enabled) check_finite(name, "the result", y);
  if (!grad_enabled || !is_floating(y.dtype())) return false;
  for (std::size_t i = 0; i < operands.size(); ++i)
    if (operands[i].requires_grad()) return true;
  return false;
}

LPF_ONCE void attach(const char* name, const Tensor& y, const Operands& operands, void* function,
                     FunctionNode::Call call, FunctionNode::Destroy destroy) {
  std::vector<Node::Edge> edges;
  edges.reserve(operands.size());
  for (std::size_t i = 0; i < operands.size(); ++i) { edges.push_back(edge_to(operands[i])); }
  std::shared_ptr<Node> node(new FunctionNode(name, function, call, destroy), DeleteLater{});
  node->set_edges(std::move(edges));
  node->set_gradient_dtype(y.dtype());
  y.set_node(std::move(node));
}

template <class Backward>
Grads call_backward(void* backward, const Tensor& gradient, Need need) {
  return (*static_cast<Backward*>(backward))(gradient, need);
}
template <class Backward>
void delete_backward(void* backward) {
  delete static_cast<Backward*>(backward);
}

}  // namespace detail

/// Records that `y` was computed from `operands`, with its backward function: backward(g, need)
/// returns one gradient per operand. It consists of differentiable operations, so that
/// gradients can be differentiated again.
template <class Backward>
Tensor record(const char* name, Tensor y, Operands operands, Backward backward) {
  detail::follow_samples(y, operands);
  if (detail::needs_record(name, y, operands))
    detail::attach(name, y, operands, new Backward(std::move(backward)), detail::call_backward<Backward>,
                   detail::delete_backward<Backward>);
  return y;
}

LPF_ONCE const Tensor& Tensor::requires_grad_(bool on) const {
  check<StateError>(is_leaf(), "requires_grad_",
                    "only a leaf can be told to collect a gradient: detach() it first");
  check<DTypeError>(!on || is_floating(dtype()), "requires_grad_", "a tensor of ", name_of(dtype()),
                    " has no gradient");
  if (on && !node()) set_node(std::make_shared<LeafNode>(impl()));
  if (!on) set_node(nullptr);
  return *this;
}
LPF_ONCE bool Tensor::is_leaf() const { return !node() || node()->is_leaf(); }
LPF_ONCE Tensor Tensor::grad() const {
  return node() && node()->is_leaf() ? static_cast<LeafNode&>(*node()).gradient() : Tensor();
}
LPF_ONCE void Tensor::zero_grad() const {
  if (node() && node()->is_leaf()) static_cast<LeafNode&>(*node()).zero();
}
LPF_ONCE Tensor Tensor::detach() const {
  Tensor out = alias(shape());
  out.impl().replicas = impl().replicas;
  out.impl().sum_gradient = impl().sum_gradient;
  out.impl().from_samples = impl().from_samples;
  out.impl().sample_axis = impl().sample_axis;
  return out;
}

namespace detail {
/// In-place changes need a tensor outside any graph: plain data, or a leaf under no_grad().
LPF_ONCE void check_in_place(const char* operation, const Tensor& t) {
  check<StateError>(t.is_leaf(), operation,
                    "would change a result of an operation in place: clone() or detach() it first");
  check<StateError>(!t.node() || !grad_enabled, operation,
                    "would change a leaf that collects a gradient: use no_grad()");
  t.impl().storage->bump_version();
}
}  // namespace detail

}  // namespace lpf
