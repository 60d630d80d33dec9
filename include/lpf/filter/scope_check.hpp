// Detects a scope without a variable: `filter.perturb(params);` ends at once, and the step is plain SGD.
#pragma once

#include <memory>
#include <utility>

#include "lpf/nn/parameter_store.hpp"

namespace lpf::filter {

/// StateError if a perturbed pass over these parameters is open on this thread.
LPF_ONCE void check_not_open(const ParameterStore& params) {
  check<StateError>(
      !nn::detail::pass_over(params.id()), "perturb",
      "a perturbed pass over these parameters is open on this thread: scopes do not nest; let the first end");
}

/// Enters a pass in this thread's list of open passes. StateError if one over these parameters is open.
LPF_ONCE void open_pass(const ParameterStore& params, nn::ReplicaContext* pass) {
  check_not_open(params);
  nn::detail::active_passes().push_back({params.id(), pass});
}

/// Takes a pass from the list.
LPF_ONCE void close_pass(const nn::ReplicaContext* pass) {
  std::erase_if(nn::detail::active_passes(), [pass](const auto& active) { return active.pass == pass; });
}

/// Detects a pass that ended, not by an exception, before any parameter was read.
class ScopeCheck {
 public:
  /// Called before a new pass over `params`. @throws StateError if one is open on this thread, or if the
  /// previous one ended unread (once: the next call succeeds).
  LPF_ONCE void begin(const char* operation, const ParameterStore& params) {
    run_and_replay([this, operation, params] {
      check_not_open(params);
      const auto before = std::exchange(unread_, std::make_shared<bool>(false));
      check<StateError>(
          !before || !*before, operation,
          "the perturbed pass before this one ended without reading a parameter: keep its scope alive around "
          "the forward pass (auto scope = ….perturb(params)), and give it the store that the network was "
          "built on");
    });
  }
  /// Set by the new pass if it ends unread.
  const std::shared_ptr<bool>& unread() const { return unread_; }

 private:
  std::shared_ptr<bool> unread_;
};

}  // namespace lpf::filter
