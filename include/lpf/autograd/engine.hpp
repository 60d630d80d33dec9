// Backward visits the nodes from the last recorded to the first, each once, when its gradient is complete.
#pragma once

#include <iterator>
#include <map>

#include "lpf/autograd/autocast.hpp"

namespace lpf {

Tensor mean_replicas(const Tensor& x);  // ops/replicate.hpp

namespace detail {

/// a + b of two gradients of one tensor, each either replicated or already summed over the replicas. It is
/// differentiable, so it is defined in ops/replicate.hpp.
Tensor add_gradients(const Tensor& a, const Tensor& b);

/// The state of a node during backward.
struct Visit {
  std::shared_ptr<Node> node;
  Tensor gradient;     // accumulated so far
  bool leads = false;  // to one of the requested nodes
};
/// By sequence number: operands come before results.
using Visits = std::map<std::uint64_t, Visit>;

/// Adds a gradient to the sum at `node`.
LPF_ONCE void arrive(Visits& visits, const std::shared_ptr<Node>& node, Tensor g) {
  Visit& visit = visits[node->sequence()];
  Tensor& sum = visit.gradient;
  LeafNode* leaf = node->grad_sink();
  if (!visit.node) {
    visit.node = node;
    sum = std::move(g);
  } else if (leaf && leaf->is_grad_buffer(g)) {  // already accumulated in place
  } else if (leaf && leaf->is_grad_buffer(sum)) {
    sum = std::move(g);
  } else if (sum.is_replicated() == g.is_replicated() && !grad_enabled && sum.use_count() == 1 &&
             sum.impl().storage.use_count() == 1) {
    const std::int64_t n = sum.numel() * (sum.is_replicated() ? sum.impl().replicas->count() : 1);
    sum.backend().accumulate(sum.dtype(), n, 1.0, g.raw_with_replicas(), sum.raw_with_replicas());
  } else {
    sum = add_gradients(sum, g);
  }
}

LPF_ONCE void check_not_released(const Node& node) {
  check<StateError>(!node.released(), "backward", "the graph behind '", node.name(),
                    "' was freed by an earlier backward: pass retain_graph = true to the first");
}

/// The nodes reachable from `root`, marked where they lead to one of `targets`.
LPF_ONCE Visits nodes_leading_to(const std::shared_ptr<Node>& root, const Visits& targets) {
  Visits reachable;
  std::vector<Node*> waiting;
  const auto reach = [&](const std::shared_ptr<Node>& node) {
    Visit& visit = reachable[node->sequence()];
    if (visit.node) return;
    visit.node = node;
    waiting.push_back(node.get());
  };
  reach(root);
  while (!waiting.empty()) {
    const Node& node = *waiting.back();
    waiting.pop_back();
    check_not_released(node);
    for (const auto& edge : node.edges())
      if (edge.node) reach(edge.node);
  }
  for (auto& [sequence, visit] : reachable) {
    visit.leads = targets.count(sequence) > 0;
    for (const auto& edge : visit.node->edges())
      visit.leads |= edge.node && reachable.find(edge.node->sequence())->second.leads;
  }
  return reachable;
}

/// Runs backward from `root`. With `targets`, collects the gradients of those nodes and changes no leaf;
/// without, accumulates into all leaves.
LPF_ONCE void run_backward(const Tensor& root, Tensor gradient, Visits* targets, bool retain_graph) {
  const Autocast as_recorded(float32);  // ignores the scope that is open now
  Visits reachable, arrived;
  if (targets) reachable = nodes_leading_to(root.node(), *targets);
  arrive(arrived, root.node(), std::move(gradient));
  std::vector<char> need;
  while (!arrived.empty()) {
    const auto last = std::prev(arrived.end());
    const std::shared_ptr<Node> node = std::move(last->second.node);
    Tensor g = std::move(last->second.gradient);
    arrived.erase(last);
    if (targets) {
      if (auto it = targets->find(node->sequence()); it != targets->end()) it->second.gradient = g;
    } else if (node->is_leaf()) {  // also if backward() was called on a leaf
      static_cast<LeafNode&>(*node).accumulate(g);
    }
    if (node->is_leaf()) continue;
    check_not_released(*node);
    const auto edges = node->edges();
    need.assign(edges.size(), false);
    bool any = false;
    for (std::size_t i = 0; i < edges.size(); ++i) {
      const auto& edge = edges[i];
      need[i] = edge.node && (!targets || reachable.find(edge.node->sequence())->second.leads);
      any |= need[i] != 0;
      check<StateError>(!edge.node || !edge.node->is_leaf() ||
                            edge.version == static_cast<const LeafNode&>(*edge.node).storage().version(),
                        "backward", "a parameter that '", node->name(),
                        "' used was changed in place between forward and backward: update after backward()");
    }
    if (!any) continue;
    Grads grads;
    {
      const AnomalyMode off(false);  // errors below are reported under the operation's own name
      const BackwardScope scope(*node, !targets);
      grads = node->backward(g, need);
    }
    Storage::release_recomputed();
    g = Tensor();
    for (std::size_t i = 0; i < edges.size() && i < grads.size(); ++i) {
      if (!need[i] || !grads[i].defined()) continue;
      if (anomaly_enabled) check_finite(node->name(), "a gradient in backward", grads[i]);
      const DType wanted = edges[i].node->gradient_dtype();
      if (wanted == bfloat16 || grads[i].dtype() == bfloat16) grads[i] = grads[i].to(wanted);
      if (!targets && edges[i].node->is_leaf()) {
        static_cast<LeafNode&>(*edges[i].node).accumulate(grads[i]);
      } else {
        arrive(arrived, edges[i].node, std::move(grads[i]));
      }
    }
    if (!retain_graph) node->release();
  }
}

LPF_ONCE Tensor seed_gradient(const char* operation, const Tensor& root, const Tensor& gradient) {
  check<StateError>(root.requires_grad(), operation,
                    "the tensor has no history: no operand of it requires a gradient");
  if (gradient.defined()) {
    check<ShapeError>(gradient.shape() == root.shape(), operation, "the gradient has shape ",
                      gradient.shape(), ", the tensor ", root.shape());
    check<DTypeError>(gradient.dtype() == root.dtype(), operation, "the gradient is ",
                      name_of(gradient.dtype()), ", the tensor ", name_of(root.dtype()),
                      ": convert it with .to(dtype)");
    return gradient;
  }
  check<ShapeError>(root.numel() == 1, operation, "a tensor of shape ", root.shape(),
                    " needs an explicit gradient; only a scalar has a default");
  return ones_like(root);
}

}  // namespace detail

LPF_ONCE void Tensor::backward(const Tensor& gradient, bool retain_graph) const {
  if (is_replicated()) return mean_replicas(*this).backward(gradient, retain_graph);
  const GradMode off(false);
  detail::run_backward(*this, detail::seed_gradient("backward", *this, gradient), nullptr, retain_graph);
}

struct GradOptions {
  /// The gradients have history and can be differentiated again; implies retain_graph.
  bool create_graph = false;
  bool retain_graph = false;
  Tensor gradient = {};  ///< of the output; 1 if undefined
};

/// d(output)/d(inputs), one tensor per input; zeros where the output does not depend on it. The leaves' own
/// gradients and the flat gradient buffer are not changed.
LPF_ONCE std::vector<Tensor> grad(const Tensor& output, std::span<const Tensor> inputs,
                                  const GradOptions& options = {}) {
  if (output.is_replicated()) return grad(mean_replicas(output), inputs, options);
  detail::Visits targets;
  for (const Tensor& t : inputs) {
    check<StateError>(t.requires_grad(), "grad", "an input of shape ", t.shape(),
                      " does not require a gradient");
    targets[t.node()->sequence()];
  }
  {
    const GradMode mode(options.create_graph);
    detail::run_backward(output, detail::seed_gradient("grad", output, options.gradient), &targets,
                         options.retain_graph || options.create_graph);
  }
  std::vector<Tensor> out;
  for (const Tensor& t : inputs) {
    const Tensor& g = targets[t.node()->sequence()].gradient;
    out.push_back(g.defined() ? g : zeros_like(t));
  }
  return out;
}
LPF_ONCE std::vector<Tensor> grad(const Tensor& output, std::initializer_list<Tensor> inputs,
                                  const GradOptions& options = {}) {
  return grad(output, std::span(inputs.begin(), inputs.size()), options);
}

}  // namespace lpf
