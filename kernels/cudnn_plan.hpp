// Plans of cuDNN's convolutions, by its graph interface (cudnn_graph.h), with a graph of one operation.
// cuDNN 9 deprecates the functions of cudnn_cnn.h, and PyTorch uses the graph interface, so both libraries
// get the same kernels. cuDNN proposes configurations of its engines, the best first; one of those within
// the limits becomes an execution plan.
//
// Running a plan needs a GPU, making one does not: the device is given by a description. So tests/cudnn makes
// plans for several GPUs on machines without one.
#pragma once

#include <cudnn.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cudnn.hpp"
#include "lpf/core/error.hpp"

namespace lpf::cuda {

static_assert(CUDNN_VERSION >= 90800, "lpf::cuda needs cuDNN 9.8 or newer");

inline void check_cudnn(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char more[512] = "";
  cudnnGetLastErrorString(more, sizeof more);
  fail<DeviceError>("cudnn", call, " failed: ", cudnnGetErrorString(status), "; ", more);
}
#define LPF_CUDNN(call, ...) ::lpf::cuda::check_cudnn(call(__VA_ARGS__), #call)

/// True if a status means that an engine does not support this convolution (rather than an error).
inline bool unsupported(cudnnStatus_t status) {
  return CUDNN_STATUS_CATEGORY(status) == static_cast<int>(CUDNN_STATUS_NOT_SUPPORTED);
}

/// A cudnnBackendDescriptor_t, a record of attributes; destroyed with this object.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    LPF_CUDNN(cudnnBackendCreateDescriptor, type, &raw_);
  }
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~Descriptor() {
    if (raw_) cudnnBackendDestroyDescriptor(raw_);
  }
  cudnnBackendDescriptor_t raw() const { return raw_; }

  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, std::span<const T> values) {
    LPF_CUDNN(cudnnBackendSetAttribute, raw_, name, type_of<T>(), std::ssize(values), values.data());
    return *this;
  }
  template <class T>
  Descriptor& set(cudnnBackendAttributeName_t name, std::initializer_list<T> values) {
    return set(name, std::span<const T>(values.begin(), values.size()));
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    LPF_CUDNN(cudnnBackendSetAttribute, raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
    return *this;
  }
  /// Checks and freezes the attributes.
  Descriptor& finalize() {
    LPF_CUDNN(cudnnBackendFinalize, raw_);
    return *this;
  }
  /// False if cuDNN does not support the attributes.
  bool finalize_if_supported() {
    const cudnnStatus_t status = cudnnBackendFinalize(raw_);
    if (!unsupported(status)) check_cudnn(status, "cudnnBackendFinalize");
    return status == CUDNN_STATUS_SUCCESS;
  }

  /// The values of an attribute, at most `most`.
  template <class T>
  std::vector<T> get(cudnnBackendAttributeName_t name, std::int64_t most) const {
    std::vector<T> values(static_cast<std::size_t>(most));
    std::int64_t count = 0;
    LPF_CUDNN(cudnnBackendGetAttribute, raw_, name, type_of<T>(), most, &count, values.data());
    values.resize(static_cast<std::size_t>(std::min(count, most)));
    return values;
  }
  /// All descriptors of `type` in an attribute.
  std::vector<Descriptor> get(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type) const {
    std::int64_t count = 0;
    LPF_CUDNN(cudnnBackendGetAttribute, raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr);
    std::vector<Descriptor> values;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (std::int64_t i = 0; i < count; ++i) raw.push_back(values.emplace_back(type).raw_);
    if (count > 0)
      LPF_CUDNN(cudnnBackendGetAttribute, raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &count,
                raw.data());
    while (std::ssize(values) > count) values.pop_back();
    return values;
  }

 private:
  template <class T>
  static constexpr cudnnBackendAttributeType_t type_of() {
    if constexpr (std::is_same_v<T, std::int64_t>) return CUDNN_TYPE_INT64;
    if constexpr (std::is_same_v<T, float>) return CUDNN_TYPE_FLOAT;
    if constexpr (std::is_same_v<T, char>) return CUDNN_TYPE_CHAR;
    if constexpr (std::is_same_v<T, void*>) return CUDNN_TYPE_VOID_PTR;
    if constexpr (std::is_same_v<T, cudnnHandle_t>) return CUDNN_TYPE_HANDLE;
    if constexpr (std::is_same_v<T, cudnnDataType_t>) return CUDNN_TYPE_DATA_TYPE;
    if constexpr (std::is_same_v<T, cudnnConvolutionMode_t>) return CUDNN_TYPE_CONVOLUTION_MODE;
    if constexpr (std::is_same_v<T, cudnnBackendHeurMode_t>) return CUDNN_TYPE_HEUR_MODE;
    if constexpr (std::is_same_v<T, cudnnBackendNumericalNote_t>) return CUDNN_TYPE_NUMERICAL_NOTE;
  }
  cudnnBackendDescriptor_t raw_ = nullptr;
};

/// cuDNN's description of the GPU that `handle` is for.
inline Descriptor describe_device(cudnnHandle_t handle) {
  Descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  d.set(CUDNN_ATTR_DEVICEPROP_HANDLE, {handle}).finalize();
  return d;
}
/// Likewise, from cuDNN's serialised description of a GPU (JSON).
inline Descriptor describe_device(const std::string& json) {
  Descriptor d(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  d.set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, std::span<const char>(json)).finalize();
  return d;
}

/// Limits for a plan.
struct PlanLimits {
  bool tf32;                    ///< may round float32 operands to TF32
  bool nondeterministic;        ///< may sum in no fixed order
  std::int64_t most_workspace;  ///< bytes
};

struct Plan {
  Descriptor descriptor;
  std::int64_t workspace;  // bytes
};

/// The names of the arrays in a graph.
enum PlanArray : std::int64_t { plan_x = 1, plan_w, plan_y };

/// One of a convolution's products as a graph: float32 or bfloat16, activations NHWC, filters KRSC, sums in
/// float32. Groups follow from the shapes. `alignment`: in bytes, of all three arrays.
inline Descriptor convolution_graph(Convolution which, const backend::Conv2d& c, std::int64_t alignment) {
  using Sizes = std::initializer_list<std::int64_t>;
  const cudnnDataType_t type = c.dtype == DType::bfloat16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  // Sizes are in the order n, c, h, w (k, c, h, w for filters) whatever the layout in memory.
  const auto array = [&](PlanArray name, std::int64_t n, std::int64_t channels, std::int64_t h,
                         std::int64_t w) {
    Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, Sizes{name}).set(CUDNN_ATTR_TENSOR_DATA_TYPE, {type});
    d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, Sizes{alignment});
    d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, Sizes{n, channels, h, w});
    d.set(CUDNN_ATTR_TENSOR_STRIDES, Sizes{h * w * channels, 1, w * channels, channels}).finalize();
    return d;
  };
  const Descriptor x = array(plan_x, c.n, c.c, c.h, c.w), w = array(plan_w, c.k, c.c / c.groups, c.kh, c.kw),
                   y = array(plan_y, c.n, c.k, c.p, c.q);

  Descriptor convolution(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  convolution.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, Sizes{2});
  convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, {CUDNN_DATA_FLOAT});
  // CUDNN_CROSS_CORRELATION does not flip the filter; CUDNN_CONVOLUTION would.
  convolution.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, {CUDNN_CROSS_CORRELATION});
  convolution.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, Sizes{c.pad_h, c.pad_w});
  convolution.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, Sizes{c.pad_h, c.pad_w});
  convolution.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, Sizes{c.stride_h, c.stride_w});
  convolution.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, Sizes{c.dilation_h, c.dilation_w}).finalize();

  struct Names {
    cudnnBackendDescriptorType_t operation;
    cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
  };
  static constexpr Names all[] = {
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};
  const Names& names = all[static_cast<int>(which)];
  Descriptor operation(names.operation);
  operation.set(names.x, x).set(names.w, w).set(names.y, y).set(names.convolution, convolution);
  operation.set(names.alpha, {1.0f}).set(names.beta, {0.0f}).finalize();

  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation).finalize();
  return graph;
}

/// cuDNN's proposals for a graph on a device that are within the limits, and the plan of the current one.
class Proposals {
 public:
  Proposals(const Descriptor& graph, const Descriptor& device, DType dtype, const PlanLimits& limits)
      : device_(&device), most_workspace_(limits.most_workspace) {
    // "Mode A" is fast and usually good; fallback engines support everything, without a claim to speed.
    for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph).set(CUDNN_ATTR_ENGINEHEUR_MODE, {mode});
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
      if (!heuristic.finalize_if_supported()) continue;
      for (Descriptor& one : heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR))
        if (allowed(one, dtype, limits)) proposals_.push_back(std::move(one));
    }
    next();
  }

  /// The current plan; null if none is left.
  const Plan* plan() const { return plan_ ? &*plan_ : nullptr; }

  /// Replaces a plan that did not run, permanently.
  void next() {
    plan_.reset();
    while (!plan_ && used_ < proposals_.size()) plan_ = plan_of(proposals_[used_++]);
  }

  /// Chooses, among the first `most` plans, the one with the least seconds(plan), which is
  /// infinite for one that does not run.
  template <class F>
  void use_fastest(std::size_t most, F seconds) {
    std::optional<Plan> best;
    double least = 0;
    for (std::size_t tried = 1; plan_; ++tried) {
      const double s = seconds(*plan_);
      if (!best || s < least) {
        best = std::move(plan_);
        least = s;
      }
      if (tried == most) break;
      next();
    }
    plan_ = std::move(best);
  }

  std::size_t size() const { return proposals_.size(); }

 private:
  /// Checks the engine's numerical notes. For float32 operands, tensor cores imply at least TF32 rounding.
  static bool allowed(const Descriptor& configuration, DType dtype, const PlanLimits& limits) {
    const auto engine = configuration.get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    const auto notes = engine.at(0).get<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                                     CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
    return std::none_of(notes.begin(), notes.end(), [&](cudnnBackendNumericalNote_t note) {
      switch (note) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: return dtype == DType::float32 && !limits.tf32;
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: return !limits.nondeterministic;
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION: return true;
        default: return false;
      }
    });
  }
  std::optional<Plan> plan_of(const Descriptor& configuration) const {
    Plan plan{Descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR), 0};
    plan.descriptor.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    plan.descriptor.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *device_);
    if (!plan.descriptor.finalize_if_supported()) return {};
    plan.workspace = plan.descriptor.get<std::int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 1).at(0);
    if (plan.workspace > most_workspace_) return {};
    return plan;
  }

  const Descriptor* device_;
  std::int64_t most_workspace_;
  std::vector<Descriptor> proposals_;
  std::size_t used_ = 0;  // number of proposals tried
  std::optional<Plan> plan_;
};

}  // namespace lpf::cuda
