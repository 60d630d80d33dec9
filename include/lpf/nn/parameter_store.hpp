// All parameters of a model in one vector. θ is a single contiguous buffer and its gradient another of the
// same length; a parameter is a named view into both. So an optimizer step, weight noise, a norm and a
// checkpoint are each one operation on a vector, and read like the formula in the paper.
//
//   ParameterStore params({.seed = 1});
//   struct Net {
//     nn::Linear fc1, fc2;
//     Net(nn::Path p) : fc1(p / "fc1", 784, 128), fc2(p / "fc2", 128, 10) {}
//     Tensor operator()(const Tensor& x) const { return fc2(relu(fc1(x))); }
//   } net(params);
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "lpf/autograd/node.hpp"
#include "lpf/backend/capture.hpp"
#include "lpf/nn/init.hpp"
#include "lpf/nn/replica_context.hpp"

namespace lpf {

/// How a parameter's elements lie here, for exchange with PyTorch.
enum class Layout {
  plain,
  filter  ///< convolution weight: [K, kh, kw, C] here, [K, C, kh, kw] in PyTorch
};

/// One parameter of a store.
struct ParameterInfo {
  std::string name;  ///< path, as "layer1.0.conv1.weight"
  Shape shape;
  Layout layout = Layout::plain;
  std::int64_t offset = 0;  ///< of its first element in θ
  std::size_t index = 0;    ///< order of creation; its random numbers are keyed by it
  bool trainable = true;    ///< false: no gradient, no update, no perturbation

  std::int64_t numel() const { return shape.numel(); }
};

struct ParameterStoreOptions {
  DType dtype = DType::float32;
  Device device = default_device();
  std::uint64_t seed = 0;  ///< of the initial values, and of dropout
};

namespace nn {

class Path;

namespace detail {

struct NamedBuffer {
  std::string name;
  Tensor tensor;
  Layout layout = Layout::plain;
};
struct NamedCounter {
  std::string name;
  std::shared_ptr<std::uint64_t> value;
};

struct StoreState {
  ParameterStoreOptions options;
  std::vector<ParameterInfo> infos;
  std::vector<Tensor> tensors;  // initial values of their own, then views into theta
  std::vector<NamedBuffer> buffers;
  std::vector<NamedCounter> counters;
  std::vector<std::string> names;
  Tensor theta, gradient;  // undefined until first used
  bool training = true;
  std::uint64_t updates = 0;
  std::uint64_t cleared = 0;  // version of the gradient when it was last zeroed

  LPF_ONCE inline void claim(const std::string& name) {
    check<StateError>(
        !theta.defined(), "ParameterStore", "'", name,
        "' is added after the parameters were first used: build the whole model before the first pass");
    check(std::find(names.begin(), names.end(), name) == names.end(), "ParameterStore",
          "there are two things named '", name, "': give each layer a path of its own (p / \"name\")");
    names.push_back(name);
  }

  /// Moves all parameters into θ: each begins at a multiple of 64 bytes, what lies between stays zero.
  LPF_ONCE inline void materialize() {
    if (theta.defined()) return;
    const auto align = static_cast<std::int64_t>(64 / size_of(options.dtype));
    std::int64_t size = 0;
    for (ParameterInfo& info : infos) {
      info.offset = size;
      size += (info.numel() + align - 1) / align * align;
    }
    const TensorOptions as{options.dtype, options.device};
    Tensor values = zeros({size}, as);
    gradient = zeros({size}, as);
    for (std::size_t i = 0; i < infos.size(); ++i) {
      const Tensor view = values.alias(infos[i].shape, infos[i].offset);
      view.backend().copy(view.raw(), tensors[i].raw(),
                          static_cast<std::size_t>(view.numel()) * size_of(options.dtype));
      tensors[i] = view;
    }
    theta = values;
    for (std::size_t i = 0; i < infos.size(); ++i) connect(i);
  }

  /// Makes parameter i a leaf that collects its gradient in the flat buffer, or plain data if it is not
  /// trained.
  LPF_ONCE inline void connect(std::size_t i) {
    tensors[i].set_node(nullptr);
    if (!infos[i].trainable) return;
    tensors[i].requires_grad_();
    static_cast<LeafNode&>(*tensors[i].node()).set_buffer(gradient.alias(infos[i].shape, infos[i].offset));
  }
};

}  // namespace detail

/// A parameter of a layer: a handle into its store. Reading it gives the leaf, or its replicas inside a
/// perturbed pass.
class Parameter {
 public:
  Parameter() = default;
  Parameter(std::shared_ptr<detail::StoreState> state, std::size_t index)
      : state_(std::move(state)), index_(index) {}

  bool defined() const { return state_ != nullptr; }
  const ParameterInfo& info() const { return state().infos[index_]; }
  std::size_t index() const { return index_; }

  /// The parameter for use in an operation.
  Tensor value() const {
    if (!state_) return {};
    if (PerturbedPass* p = pass()) return p->read(index_);
    return clean();
  }
  operator Tensor() const { return value(); }  // NOLINT: layers write linear(x, weight, bias)
  /// The parameter itself, never perturbed.
  Tensor clean() const {
    state().materialize();
    return state_->tensors[index_];
  }
  /// The perturbed pass this parameter is in on this thread, or null.
  PerturbedPass* pass() const { return detail::pass_over(state_.get()); }

 private:
  detail::StoreState& state() const {
    check<StateError>(defined(), "Parameter", "this layer has none (built without a bias?)");
    return *state_;
  }
  std::shared_ptr<detail::StoreState> state_;
  std::size_t index_ = 0;
};

/// A place in a store: what layers are built on. p / "fc1" names a place below.
class Path {
 public:
  Path(std::shared_ptr<detail::StoreState> state, std::string prefix)
      : state_(std::move(state)), prefix_(std::move(prefix)) {}

  Path operator/(std::string_view name) const {
    return {state_, prefix_.empty() ? std::string(name) : concat(prefix_, ".", name)};
  }
  Path operator/(int index) const { return *this / std::string_view(std::to_string(index)); }
  const std::string& name() const { return prefix_; }

  /// A new parameter with its initial values.
  LPF_ONCE inline Parameter parameter(std::string_view name, const Shape& shape,
                                      const init::Initializer& initializer,
                                      Layout layout = Layout::plain) const {
    auto& s = *state_;
    ParameterInfo info{(*this / name).name(), shape, layout, 0, s.infos.size(), true};
    s.claim(info.name);
    Tensor t = empty(shape, {s.options.dtype, s.options.device});
    initializer(t, {s.options.seed, Purpose::init, 0, 0, static_cast<std::uint32_t>(info.index)});
    s.infos.push_back(std::move(info));
    s.tensors.push_back(std::move(t));
    return {state_, s.infos.size() - 1};
  }

  /// A tensor that belongs to the model's state but is not trained (running statistics); updated with
  /// copy_().
  LPF_ONCE inline Tensor buffer(std::string_view name, Tensor initial) const {
    const std::string full = (*this / name).name();
    state_->claim(full);
    initial = initial.to(state_->options.device);
    state_->buffers.push_back({full, initial, Layout::plain});
    return initial;
  }

  /// A number that counts a layer's random draws. It is part of the training state, not of the weights.
  LPF_ONCE inline std::shared_ptr<std::uint64_t> counter(std::string_view name) const {
    const std::string full = (*this / name).name();
    state_->claim(full);
    state_->counters.push_back({full, std::make_shared<std::uint64_t>(0)});
    return state_->counters.back().value;
  }

  DType dtype() const { return state_->options.dtype; }
  Device device() const { return state_->options.device; }
  std::uint64_t seed() const { return state_->options.seed; }
  bool training() const {
    lpf::detail::decided_by(state_.get(), [s = state_.get()] { return s->training; });
    return state_->training;
  }
  /// The perturbed pass over this store on this thread, or null.
  PerturbedPass* pass() const { return detail::pass_over(state_.get()); }

 private:
  std::shared_ptr<detail::StoreState> state_;
  std::string prefix_;
};

}  // namespace nn

/// Owns the parameters, buffers and counters of a model. A handle: copies share the same store.
class ParameterStore {
 public:
  explicit ParameterStore(const ParameterStoreOptions& options = {})
      : state_(std::make_shared<nn::detail::StoreState>()) {
    check<DTypeError>(options.dtype == float32 || options.dtype == float64, "ParameterStore",
                      "parameters are float32 or float64, not ", name_of(options.dtype));
    backend::get(options.device);
    state_->options = options;
  }

  operator nn::Path() const { return {state_, ""}; }  // NOLINT: Net net(params)
  nn::Path operator/(std::string_view name) const { return nn::Path(*this) / name; }
  nn::Path operator/(int index) const { return nn::Path(*this) / index; }

  /// All parameters in one vector [size], with zeros between them where alignment wants it.
  Tensor theta() const { return state_->materialize(), state_->theta; }
  /// The gradient of each element of θ.
  Tensor gradient() const { return state_->materialize(), state_->gradient; }
  LPF_ONCE inline void zero_grad() const {
    const Tensor g = gradient();
    g.backend().fill(g.raw(), dtype(), g.numel(), 0);
    lpf::detail::on_host([s = state_] { s->cleared = s->gradient.impl().storage->version(); });
  }
  /// Whether backward() has added to the gradient, or it was written, since it was last zeroed.
  bool has_gradient() const { return gradient().impl().storage->version() != state_->cleared; }

  const std::vector<ParameterInfo>& parameters() const { return state_->materialize(), state_->infos; }
  /// The leaf tensor of a parameter.
  Tensor tensor(std::size_t index) const {
    check<IndexError>(index < parameters().size(), "ParameterStore", "parameter ", index, " is outside [0, ",
                      parameters().size(), ")");
    return state_->tensors[index];
  }
  Tensor tensor(std::string_view name) const { return tensor(index_of(name)); }
  /// All trainable leaves, in order.
  std::vector<Tensor> leaves() const {
    std::vector<Tensor> out;
    for (const auto& info : parameters())
      if (info.trainable) out.push_back(state_->tensors[info.index]);
    return out;
  }
  /// Number of parameters' elements; of the trainable ones only, if asked.
  std::int64_t numel(bool trainable_only = false) const {
    std::int64_t n = 0;
    for (const auto& info : parameters())
      if (info.trainable || !trainable_only) n += info.numel();
    return n;
  }

  /// Excludes a parameter from (or returns it to) training: no gradient, no update, no perturbation.
  LPF_ONCE inline void set_trainable(std::string_view name, bool trainable) const {
    const std::size_t i = index_of(name);
    state_->infos[i].trainable = trainable;
    gradient();
    state_->connect(i);
    const Tensor g = state_->gradient.alias(state_->infos[i].shape, state_->infos[i].offset);
    g.backend().fill(g.raw(), dtype(), g.numel(), 0);
  }

  std::vector<nn::detail::NamedBuffer>& buffers() const { return state_->buffers; }
  std::vector<nn::detail::NamedCounter>& counters() const { return state_->counters; }

  bool training() const { return state_->training; }
  /// Layers that differ between training and evaluation (dropout, batch norm) follow this switch.
  void train(bool on = true) const {
    lpf::detail::settled(state_.get());
    state_->training = on;
  }
  void eval() const { train(false); }

  DType dtype() const { return state_->options.dtype; }
  Device device() const { return state_->options.device; }
  std::uint64_t seed() const { return state_->options.seed; }

  /// Number of optimizer updates that θ has seen; schedules and the filter's radius count by it.
  std::uint64_t updates() const { return state_->updates; }
  void set_updates(std::uint64_t n) const { state_->updates = n; }
  /// Marks θ as changed in place: graphs recorded before refuse to run backward.
  void changed() const { theta().impl().storage->bump_version(); }
  std::uint64_t version() const { return theta().impl().storage->version(); }

  /// Identity of the store, shared by its copies and its layers.
  const void* id() const { return state_.get(); }

 private:
  std::size_t index_of(std::string_view name) const {
    for (const auto& info : parameters())
      if (info.name == name) return info.index;
    fail("ParameterStore", "no parameter is named '", name, "'");
  }

  std::shared_ptr<nn::detail::StoreState> state_;
};

/// Until the end of the block the model is in evaluation mode; then it is in the mode it was in before.
class EvalMode {
 public:
  explicit EvalMode(ParameterStore params) : params_(std::move(params)), before_(params_.training()) {
    params_.eval();
  }
  ~EvalMode() { params_.train(before_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  ParameterStore params_;
  bool before_;
};

}  // namespace lpf
