// Handle of a layer to its parameter.
#pragma once

#include <memory>

#include "lpf/nn/replica_context.hpp"
#include "lpf/nn/store_state.hpp"

namespace lpf::nn {

/// A parameter of a layer: a handle into its store. It reads as the leaf, or inside a perturbed
/// pass as its replicas.
class Parameter {
 public:
  Parameter() = default;
  Parameter(std::shared_ptr<detail::StoreState> state, std::size_t index)
      : state_(std::move(state)), index_(index) {}

  bool defined() const { return state_ != nullptr; }
  const ParameterInfo& info() const { return state().infos[index_]; }
  std::size_t index() const { return index_; }

  // [reading 4]
  /// The parameter as an operand.
  Tensor value() const {
    if (!state_) return {};
    if (ReplicaContext* p = pass()) return p->read(index_);
    return clean();
  }
  operator Tensor() const { return value(); }  // NOLINT: layers write linear(x, weight, bias)
  /// The parameter itself, never perturbed.
  Tensor clean() const {
    state().materialize();
    return state_->tensors[index_];
  }
  /// The perturbed pass over this parameter on this thread, or null.
  ReplicaContext* pass() const { return detail::pass_over(state_.get()); }

 private:
  detail::StoreState& state() const {
    check<StateError>(defined(), "Parameter", "this layer has none (built without a bias?)");
    return *state_;
  }
  std::shared_ptr<detail::StoreState> state_;
  std::size_t index_ = 0;
};

}  // namespace lpf::nn
