// A training step captured as a CUDA graph. A step on a GPU is hundreds of small kernels, which the host
// often queues more slowly than the GPU runs them. Once captured, the step is a single launch:
//
//   CapturedStep step([&](const Tensor& x, const Tensor& y) {
//     auto scope = filter.perturb(params);
//     auto loss = cross_entropy(net(x), y);
//     loss.backward();
//     optimizer.step();
//     return loss.detach();
//   });
//   for (auto [x, y] : loader) loss_sum += step(x, y).item();
//
// On the CPU each call runs the function. On a GPU the first calls with arguments of given shapes do too; the
// next is captured, and from then on a call copies its arguments to the inputs of the graph and replays it.
// The results are bit-identical: learning rates, radii and draws of noise are inputs of the graph, recomputed
// for each replay, and counters advance (backend/capture.hpp).
//
// A replay does not run the function's code. Its decisions on the host (an if, a size, a learning rate of
// its own) stay as they were captured (under another mode, training or evaluation, or another autocast(),
// it is captured anew), and its side effects other than queued work are not repeated, except the counters
// of the library's own optimizers, filters and layers, and what the function does by run_and_replay() and
// step_scalar() (examples/captured_step.cpp). It must not wait for the device (item(), to_vector(),
// printing a tensor) or copy from the host: that throws a StateError. Return such values, and read them
// outside. Everything it uses must stay at its address as long as the step is replayed: the model, the
// optimizer, the filter, tensors from outside. Tensors created inside are invalid when it returns, except
// those returned.
//
// A captured step has its own memory, as much as its activations take, for each set of shapes (the smaller
// last batch of an epoch is another).
#pragma once

#include <algorithm>
#include <concepts>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/autograd/autocast.hpp"
#include "lpf/backend/capture.hpp"
#include "lpf/nn/replica_context.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf {

struct CaptureOptions {
  bool enabled = true;  ///< false: always runs the function, on a GPU too
  /// Ordinary calls before one with the same shapes is captured; at least 1, in which the backend chooses its
  /// algorithms and optimizers create their state.
  int warm_up = 2;
  std::size_t most_shapes = 8;  ///< maximum number of captured sets of shapes; other calls run uncaptured
};

namespace detail {

/// The captured forms of one function of tensors, one per set of shapes.
class CapturedSteps {
 public:
  using Tensors = std::vector<Tensor>;
  using Function = std::function<Tensors(std::span<const Tensor>)>;

  explicit CapturedSteps(const CaptureOptions& options) : options_(options) {
    check(options.warm_up >= 1, "CapturedStep", "warm_up must be at least 1, got ", options.warm_up);
  }

  Tensors operator()(std::span<const Tensor> arguments, const Function& f) {
    if (!options_.enabled || capture_log || !on_gpu(arguments)) return f(arguments);
    check<StateError>(nn::detail::active_passes().empty(), "CapturedStep",
                      "a perturbed pass is open around the step: call filter.perturb(params) inside it, so "
                      "that every replay draws its own noise");
    Form* form = form_of(arguments);
    if (!form) return f(arguments);
    if (form->graph && !form->log->conditions_hold()) *form = Form{form->shapes};
    if (form->graph) return replay(*form, arguments);
    if (form->runs >= options_.warm_up) return capture(*form, arguments, f);
    Tensors results = f(arguments);
    ++form->runs;
    return results;
  }

  /// Number of captured sets of shapes.
  std::int64_t captured() const {
    return std::count_if(forms_.begin(), forms_.end(), [](const Form& f) { return f.graph != nullptr; });
  }

 private:
  using Graph = std::unique_ptr<void, void (*)(void*)>;
  struct Form {
    std::vector<std::pair<Shape, DType>> shapes;
    int runs = 0;
    Tensor words = {};  // of the capture log, on the device
    Tensors inputs = {}, outputs = {};
    std::unique_ptr<CaptureLog> log = nullptr;
    Graph graph{nullptr, nullptr};
  };

  static bool on_gpu(std::span<const Tensor> arguments) {
    const auto there = std::count_if(arguments.begin(), arguments.end(),
                                     [](const Tensor& t) { return t.device().is_cuda(); });
    check<DeviceError>(there == 0 || there == std::ssize(arguments), "CapturedStep", there, " of the ",
                       arguments.size(), " arguments are on the GPU: move all with .to(device)");
    return there > 0;
  }

  /// Null if there are already most_shapes others.
  Form* form_of(std::span<const Tensor> arguments) {
    std::vector<std::pair<Shape, DType>> shapes;
    for (const Tensor& t : arguments) {
      check<StateError>(!t.requires_grad(), "CapturedStep",
                        "an argument has a history: detach() it, or compute it inside the step");
      shapes.emplace_back(t.shape(), t.dtype());
    }
    for (Form& form : forms_)
      if (form.shapes == shapes) return &form;
    if (forms_.size() >= options_.most_shapes) return nullptr;
    return &forms_.emplace_back(Form{std::move(shapes)});
  }

  static Tensors copies(std::span<const Tensor> from) {
    Tensors out;
    for (const Tensor& t : from) out.push_back(t.defined() ? t.detach().clone() : t);
    return out;
  }

  /// Captures the step and runs it. If it throws, the work queued until then is run, as without a capture.
  static Tensors capture(Form& form, std::span<const Tensor> arguments, const Function& f) {
    const backend::Table& table = arguments[0].backend();
    const auto release_per_pass = [] {  // per-pass state: the graph needs its own
      Storage::release_recomputed();
      rounded_leaves().clear();
    };
    release_per_pass();
    Form made{form.shapes, form.runs};
    made.words = empty({CaptureLog::max_words}, {DType::int64, arguments[0].device()});
    made.inputs = copies(arguments);
    made.log = std::make_unique<CaptureLog>(static_cast<const std::uint64_t*>(made.words.raw()));
    table.begin_capture();
    capture_log = made.log.get();
    capture_log->add_condition(&autocasting, is_autocast_enabled);
    const auto end = [&] {
      release_per_pass();
      capture_log = nullptr;
      made.graph = Graph(table.end_capture(), table.destroy_graph);
      launch(made);
    };
    try {
      for (const Tensor& t : f(made.inputs)) made.outputs.push_back(t.defined() ? t.detach() : t);
    } catch (...) {
      try {
        end();
      } catch (const DeviceError&) {}  // the first of two errors is reported
      throw;
    }
    end();
    form = std::move(made);
    return copies(form.outputs);
  }

  static Tensors replay(Form& form, std::span<const Tensor> arguments) {
    const backend::Table& table = form.words.backend();
    form.log->replay();
    for (std::size_t i = 0; i < arguments.size(); ++i)
      table.copy(form.inputs[i].raw(), arguments[i].raw(),
                 static_cast<std::size_t>(arguments[i].numel()) * size_of(arguments[i].dtype()));
    launch(form);
    return copies(form.outputs);
  }

  static void launch(const Form& form) {
    const backend::Table& table = form.words.backend();
    const auto& words = form.log->words();
    table.upload(form.words.raw(), words.data(), words.size() * sizeof words[0]);
    table.launch(form.graph.get());
  }

  CaptureOptions options_;
  std::vector<Form> forms_;
};

}  // namespace detail

/// A step: a function of tensors that returns a tensor, a vector of tensors or nothing, with the same call
/// syntax. A replay returns copies, which later replays do not overwrite.
/// @throws ValueError for warm_up < 1; exceptions of the function; StateError for operations that
/// a captured step does not allow.
template <class F>
class CapturedStep {
 public:
  explicit CapturedStep(F f, const CaptureOptions& options = {}) : f_(std::move(f)), steps_(options) {}

  template <std::same_as<Tensor>... Arguments>
  requires std::invocable<F&, const Arguments&...>
  auto operator()(const Arguments&... arguments) {
    return call(std::index_sequence_for<Arguments...>(), arguments...);
  }

  /// Number of sets of shapes captured so far.
  std::int64_t captured() const { return steps_.captured(); }

 private:
  template <std::size_t... i, class... Arguments>
  auto call(std::index_sequence<i...>, const Arguments&... arguments) {
    using Result = std::invoke_result_t<F&, const Arguments&...>;
    static_assert(sizeof...(arguments) > 0,
                  "a step takes its data as arguments: they say which device it is on");
    constexpr bool nothing = std::is_void_v<Result>, one = std::is_same_v<Result, Tensor>;
    static_assert(nothing || one || std::is_same_v<Result, std::vector<Tensor>>,
                  "a step returns a Tensor, a std::vector<Tensor> or nothing");
    const Tensor list[] = {arguments...};
    auto results = steps_(list, [this](std::span<const Tensor> t) -> std::vector<Tensor> {
      if constexpr (nothing) {
        f_(t[i]...);
        return {};
      } else if constexpr (one) {
        return {f_(t[i]...)};
      } else {
        return f_(t[i]...);
      }
    });
    if constexpr (one)
      return std::move(results[0]);
    else if constexpr (!nothing)
      return results;
  }

  F f_;
  detail::CapturedSteps steps_;
};

}  // namespace lpf
