// A path in a store, from which layers are constructed.
#pragma once

#include <memory>
#include <string>

#include "lpf/nn/draw_counter.hpp"
#include "lpf/nn/init.hpp"
#include "lpf/nn/parameter.hpp"

namespace lpf::nn {

/// A path in a store, from which layers are constructed. p / "fc1" is a path below p.
class Path {
 public:
  Path(std::shared_ptr<detail::StoreState> state, std::string prefix)
      : state_(std::move(state)), prefix_(std::move(prefix)) {}

  LPF_ONCE Path operator/(std::string_view name) const {
    return {state_, prefix_.empty() ? std::string(name) : concat(prefix_, ".", name)};
  }
  Path operator/(int index) const { return *this / std::string_view(std::to_string(index)); }
  const std::string& name() const { return prefix_; }

  /// A new parameter with its initial values.
  LPF_ONCE Parameter parameter(std::string_view name, const Shape& shape,
                               const init::Initializer& initializer, Layout layout = Layout::plain) const {
    auto& s = *state_;
    ParameterInfo info{(*this / name).name(), shape, layout, 0, s.infos.size(), true};
    s.claim(info.name);
    Tensor t = empty(shape, {s.options.dtype, s.options.device});
    initializer(t, {s.options.seed, Purpose::init, 0, 0, static_cast<std::uint32_t>(info.index)});
    s.infos.push_back(std::move(info));
    s.tensors.push_back(std::move(t));
    return {state_, s.infos.size() - 1};
  }

  /// A tensor of the model's state that is not trained (running statistics); updated with copy_().
  LPF_ONCE Tensor buffer(std::string_view name, Tensor initial) const {
    const std::string full = (*this / name).name();
    state_->claim(full);
    initial = initial.to(state_->options.device);
    state_->buffers.push_back({full, initial, Layout::plain});
    return initial;
  }

  /// A counter of a layer's random draws, part of the training state, not of the weights.
  LPF_ONCE std::shared_ptr<std::uint64_t> counter(std::string_view name) const {
    const std::string full = (*this / name).name();
    state_->claim(full);
    state_->counters.push_back({full, std::make_shared<std::uint64_t>(0)});
    return state_->counters.back().value;
  }

  /// A counter of a layer's random draws. Its stream is keyed by the store's seed and this path (not by
  /// `name`), so that adding a layer changes no other's numbers. Checkpoints store it.
  LPF_ONCE DrawCounter draw_counter(std::string_view name = "draws") const {
    std::uint32_t hash = 2166136261u;  // FNV-1a
    for (const char c : prefix_) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    return DrawCounter({seed(), Purpose::dropout, 0, 0, hash}, counter(name));
  }

  DType dtype() const { return state_->options.dtype; }
  Device device() const { return state_->options.device; }
  std::uint64_t seed() const { return state_->options.seed; }
  bool training() const { return state_->training; }
  /// The perturbed pass over this store on this thread, or null.
  ReplicaContext* pass() const { return detail::pass_over(state_.get()); }
  /// How batch norm is computed now.
  BatchNormPolicy batch_norm_policy() const { return detail::batch_norm_policy_over(state_.get()); }

 private:
  std::shared_ptr<detail::StoreState> state_;
  std::string prefix_;
};

}  // namespace lpf::nn
