// State shared by a ParameterStore and the handles into it.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "lpf/autograd/node.hpp"
#include "lpf/backend/capture.hpp"
#include "lpf/core/philox.hpp"
#include "lpf/nn/micro_batch.hpp"

namespace lpf {

/// Memory layout of a parameter, for exchange with PyTorch.
enum class Layout {
  plain,
  /// convolution weight: [K, kh, kw, C] here, [K, C, kh, kw] in PyTorch; or [K, k, C] and [K, C, k]
  filter
};

/// One parameter of a store.
struct ParameterInfo {
  std::string name;  ///< path, as "layer1.0.conv1.weight"
  Shape shape;
  Layout layout = Layout::plain;
  std::int64_t offset = 0;  ///< of its first element in θ
  std::size_t index = 0;    ///< order of creation; the key of its random numbers
  bool trainable = true;    ///< false: no gradient, no update, no perturbation

  std::int64_t numel() const { return shape.numel(); }
};

struct ParameterStoreOptions {
  DType dtype = DType::float32;
  Device device = default_device();
  std::uint64_t seed = 0;  ///< of the initial values and of dropout
};

namespace nn {

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
  std::vector<Tensor> tensors;  // own initial values, then views into theta
  std::vector<NamedBuffer> buffers;
  std::vector<NamedCounter> counters;
  std::vector<std::string> names;
  Tensor theta, gradient;  // undefined until first used
  StepSwitch training{true};
  StepCounter updates;
  std::uint64_t cleared = 0;  // version of the gradient when it was last zeroed
  GradientInParts* parts = nullptr;
  // Of each parameter: whether a gradient has arrived since then.
  std::unique_ptr<StepFlag[]> received;

  LPF_ONCE void claim(const std::string& name) {
    check<StateError>(
        !theta.defined(), "ParameterStore", "'", name,
        "' is added after the parameters were first used: build the whole model before the first pass");
    check(std::find(names.begin(), names.end(), name) == names.end(), "ParameterStore",
          "there are two things named '", name, "': give each layer a path of its own (p / \"name\")");
    names.push_back(name);
  }

  /// Moves all parameters into θ: each starts at a multiple of 64 bytes, with zero padding.
  LPF_ONCE void materialize() {
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
    received = std::make_unique<StepFlag[]>(infos.size());
    for (std::size_t i = 0; i < infos.size(); ++i) connect(i);
  }

  /// Makes parameter i a leaf that accumulates its gradient in the flat buffer, or plain data
  /// if not trainable.
  LPF_ONCE void connect(std::size_t i) {
    tensors[i].set_node(nullptr);
    if (!infos[i].trainable) return;
    tensors[i].requires_grad_();
    static_cast<LeafNode&>(*tensors[i].node())
        .set_buffer(gradient.alias(infos[i].shape, infos[i].offset), &received[i]);
  }

  LPF_ONCE bool any_received() const {
    return std::any_of(received.get(), received.get() + infos.size(),
                       [](const StepFlag& f) { return f.value(); });
  }

  LPF_ONCE void zero_gradient() {
    materialize();
    gradient.impl().storage->note_change();
    gradient.backend().fill(gradient.raw(), options.dtype, gradient.numel(), 0);
    run_and_replay([this] { cleared = gradient.impl().storage->version(); });
    for (std::size_t i = 0; i < infos.size(); ++i) received[i] = false;
  }

  /// Marks θ as changed by an update.
  LPF_ONCE void count_update() {
    run_and_replay([this] { theta.impl().storage->bump_version(); });
    ++updates;
  }
};

}  // namespace detail

}  // namespace nn
}  // namespace lpf
