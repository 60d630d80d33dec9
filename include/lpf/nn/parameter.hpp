// Handle of a layer to its parameter.
#pragma once

#include <algorithm>
#include <memory>
#include <string_view>

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

namespace detail {

/// Adds the path of the layer that a parameter is of to an error's message: "… (layer 'block.fc1')".
LPF_ONCE void name_layer(Error& error, const Parameter& parameter) {
  const std::string_view name = parameter.defined() ? parameter.info().name : std::string_view();
  const std::size_t dot = std::min(name.rfind('.'), name.size());
  if (dot < name.size())
    static_cast<std::runtime_error&>(error) =
        std::runtime_error(concat(error.what(), " (layer '", name.substr(0, dot), "')"));
}

/// forward(): what a layer computes. Its errors name the layer.
template <class F>
auto in_layer(const Parameter& parameter, F forward) {
  try {
    return forward();
  } catch (Error& error) {
    name_layer(error, parameter);
    throw;
  }
}

}  // namespace detail

}  // namespace lpf::nn
