// All parameters of a model in one vector. θ is a single contiguous buffer and its gradient another of the
// same length; a parameter is a named view into both. An optimizer step, weight noise, a norm and a
// checkpoint are therefore each one operation on a vector, and read like the formula in the paper.
//
//   ParameterStore params({.seed = 1});
//   struct Net {
//     nn::Linear fc1, fc2;
//     Net(nn::Path p) : fc1(p / "fc1", 784, 128), fc2(p / "fc2", 128, 10) {}
//     Tensor operator()(const Tensor& x) const { return fc2(relu(fc1(x))); }
//   } net(params);
#pragma once

#include "lpf/nn/path.hpp"

namespace lpf {

/// Owns the parameters, buffers and counters of a model. A handle: copies share the same store.
class ParameterStore {
 public:
  LPF_ONCE explicit ParameterStore(const ParameterStoreOptions& options = {})
      : state_(std::make_shared<nn::detail::StoreState>()) {
    check<DTypeError>(options.dtype == float32 || options.dtype == float64, "ParameterStore",
                      "parameters are float32 or float64, not ", name_of(options.dtype));
    backend::get(options.device);
    state_->options = options;
  }

  operator nn::Path() const { return {state_, ""}; }  // NOLINT: Net net(params)
  nn::Path operator/(std::string_view name) const { return nn::Path(*this) / name; }
  nn::Path operator/(int index) const { return nn::Path(*this) / index; }

  /// All parameters in one vector [size], with zero padding between them for alignment.
  LPF_ONCE Tensor theta() const { return state_->materialize(), state_->theta; }
  /// The gradient of each element of θ.
  LPF_ONCE Tensor gradient() const { return state_->materialize(), state_->gradient; }
  void zero_grad() const { state_->zero_gradient(); }
  /// True if backward() has accumulated into the gradient, in this process or in a replay of a captured step, or it was
  /// written, since it was last zeroed.
  bool has_gradient() const {
    return gradient().impl().storage->version() != state_->cleared || state_->any_received();
  }
  /// True if a gradient has arrived at a parameter, be it zero, since it was last zeroed: PyTorch's
  /// `p.grad is not None`.
  bool has_gradient(std::size_t index) const { return tensor(index), state_->received[index]; }
  /// Counts a gradient that was written into gradient() without backward(), through pointers.
  void set_has_gradient(std::size_t index) const { tensor(index), state_->received[index] = true; }

  const std::vector<ParameterInfo>& parameters() const { return state_->materialize(), state_->infos; }
  /// The leaf tensor of a parameter.
  LPF_ONCE Tensor tensor(std::size_t index) const {
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
  /// Number of elements of all parameters, or of the trainable ones.
  std::int64_t numel(bool trainable_only = false) const {
    std::int64_t n = 0;
    for (const auto& info : parameters())
      if (info.trainable || !trainable_only) n += info.numel();
    return n;
  }

  /// Excludes a parameter from training, or includes it again: no gradient, no update, no perturbation.
  LPF_ONCE void set_trainable(std::string_view name, bool trainable) const {
    const std::size_t i = index_of(name);
    state_->infos[i].trainable = trainable;
    gradient();
    state_->connect(i);
    state_->received[i] = false;
    const Tensor g = state_->gradient.alias(state_->infos[i].shape, state_->infos[i].offset);
    g.backend().fill(g.raw(), dtype(), g.numel(), 0);
  }

  std::vector<nn::detail::NamedBuffer>& buffers() const { return state_->buffers; }
  std::vector<nn::detail::NamedCounter>& counters() const { return state_->counters; }

  bool training() const { return state_->training.value(); }
  /// Sets training or evaluation mode, for layers that differ between them (dropout, batch norm).
  void train(bool on = true) const { state_->training = on; }
  void eval() const { train(false); }

  DType dtype() const { return state_->options.dtype; }
  Device device() const { return state_->options.device; }
  std::uint64_t seed() const { return state_->options.seed; }

  /// Number of optimizer updates of θ: the t of the filter's radius.
  std::uint64_t updates() const { return state_->updates; }
  void set_updates(std::uint64_t n) const { state_->updates = n; }
  /// Counts an optimizer update that changed θ: backward() of an earlier graph throws.
  void count_update() const { state_->materialize(), state_->count_update(); }
  /// Marks θ as changed in place: backward() of an earlier graph throws.
  void changed() const { theta().impl().storage->bump_version(); }
  std::uint64_t version() const { return theta().impl().storage->version(); }

  /// Gradients are computed by `parts` from now on, which must outlive its use here; null: in one pass again.
  void set_gradient_parts(nn::GradientInParts* parts) const { state_->parts = parts; }
  nn::GradientInParts* gradient_parts() const { return state_->parts; }
  /// Runs pass(), which computes the gradient of a batch, in the parts of the batch if there are any.
  template <class F>
  Tensor gradient_in_parts(F pass) const {
    return state_->parts ? state_->parts->run(pass) : pass();
  }

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

/// Sets evaluation mode until the end of the block, then restores the previous mode.
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
