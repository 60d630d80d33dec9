// Evaluation at θ itself within a perturbed pass.
#pragma once

#include <memory>
#include <vector>

#include "lpf/nn/parameter_store.hpp"

namespace lpf::filter {

/// Until the end of the block parameters read as θ and nothing is recorded; batch norm in training mode has the
/// statistics of the whole batch, or the running ones if the pass's are frozen. Then the pass goes on, with
/// running statistics and random counters restored.
class CleanScope {
 public:
  LPF_ONCE CleanScope(const ParameterStore& params, const nn::ReplicaContext* pass) : params_(params) {
    for (const auto& b : params_.buffers()) buffers_.push_back(b.tensor.clone());
    run_and_replay([params = params_, kept = counters_] {
      kept->clear();
      for (const auto& c : params.counters()) kept->push_back(*c.value);
    });
    for (auto& active : nn::detail::active_passes()) active.suspended |= active.pass == pass;
  }
  LPF_ONCE ~CleanScope() {
    nn::detail::active_passes() = passes_;
    for (std::size_t i = 0; i < buffers_.size(); ++i) params_.buffers()[i].tensor.copy_(buffers_[i]);
    run_and_replay([params = params_, kept = counters_] {
      for (std::size_t i = 0; i < kept->size(); ++i) *params.counters()[i].value = (*kept)[i];
    });
  }
  CleanScope(const CleanScope&) = delete;
  CleanScope& operator=(const CleanScope&) = delete;

 private:
  ParameterStore params_;
  GradMode off_ = no_grad();
  std::vector<nn::detail::ActivePass> passes_ = nn::detail::active_passes();
  std::vector<Tensor> buffers_;
  std::shared_ptr<std::vector<std::uint64_t>> counters_ = std::make_shared<std::vector<std::uint64_t>>();
};

}  // namespace lpf::filter
