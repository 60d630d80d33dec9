// A training step that a GPU replays by itself. A step on a GPU is hundreds of small pieces of work, which
// the host queues one after another, often more slowly than the GPU does them. Captured once, the step is one
// piece:
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
// On the CPU that calls the function. On a GPU the first calls with arguments of some shapes do too; the next
// is captured (as a CUDA graph), and from then on a call copies its arguments to where the captured step
// finds them and replays it. The numbers are the same to the bit: learning rates, radii and draws of noise
// are inputs of the graph, computed anew in each replay, and counters go on (backend/capture.hpp).
//
// The function's code is not run in a replay. So whatever it decides on the host (an if, a size, a learning
// rate of its own) stays as it was when it was captured (with another mode, training or evaluation, or
// another autocast() around it, it is captured anew); and what it does besides queueing work is not done
// again, but for what the library's own optimizers, filters and layers count, and what your own do by run_and_replay()
// and step_scalar() (examples/custom_training.cpp). It may not wait for the device
// (item(), to_vector(), printing a tensor) or copy from the host: that is a StateError. Return what you want
// to see, and read it outside. What it uses must stay where it is as long as it is replayed: the model, the
// optimizer, the filter, tensors from outside. Tensors made inside are gone when it returns, but for those
// returned.
//
// A captured step has memory of its own, as much as its activations take, for each of the shapes (the last,
// smaller batch of an epoch is another).
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
  bool enabled = true;  ///< false: the function is called, on a GPU too
  /// Calls that run as usual before one with the same shapes is captured; at least 1, in which the backend
  /// chooses its algorithms and optimizers make their state.
  int warm_up = 2;
  std::size_t most_shapes = 8;  ///< sets of shapes that are captured; calls with others run as usual
};

namespace detail {

/// The captured forms of one function of tensors, one for each set of shapes.
class CapturedSteps {
 public:
  using Tensors = std::vector<Tensor>;
  using Function = std::function<Tensors(std::span<const Tensor>)>;

  explicit CapturedSteps(const CaptureOptions& options) : options_(options) {
    check(options.warm_up >= 1, "CapturedStep", "warm_up must be at least 1, got ", options.warm_up);
  }

  Tensors operator()(std::span<const Tensor> arguments, const Function& f) {
    if (!options_.enabled || capture_log || !on_gpu(arguments)) return f(arguments);
    check<StateError>(nn::detail::active_passes.empty(), "CapturedStep",
                      "a perturbed pass is open around the step: call filter.perturb(params) inside it, so "
                      "that every replay draws its own noise");
    Form* form = form_of(arguments);
    if (!form) return f(arguments);
    if (form->graph && !form->script->conditions_hold()) *form = Form{form->shapes};
    if (form->graph) return replay(*form, arguments);
    if (form->runs >= options_.warm_up) return capture(*form, arguments, f);
    Tensors results = f(arguments);
    ++form->runs;
    return results;
  }

  /// How many sets of shapes have been captured.
  std::int64_t captured() const {
    return std::count_if(forms_.begin(), forms_.end(), [](const Form& f) { return f.graph != nullptr; });
  }

 private:
  using Graph = std::unique_ptr<void, void (*)(void*)>;
  struct Form {
    std::vector<std::pair<Shape, DType>> shapes;
    int runs = 0;
    Tensor words = {};  // the script's, on the device
    Tensors inputs = {}, outputs = {};
    std::unique_ptr<CaptureLog> script = nullptr;
    Graph graph{nullptr, nullptr};
  };

  static bool on_gpu(std::span<const Tensor> arguments) {
    const auto there = std::count_if(arguments.begin(), arguments.end(),
                                     [](const Tensor& t) { return t.device().is_cuda(); });
    check<DeviceError>(there == 0 || there == std::ssize(arguments), "CapturedStep", there, " of the ",
                       arguments.size(), " arguments are on the GPU: move all with .to(device)");
    return there > 0;
  }

  /// Null where there are too many already.
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

  /// Captures the step and runs it. If it throws, what it had queued until then is run, as without a capture.
  static Tensors capture(Form& form, std::span<const Tensor> arguments, const Function& f) {
    const backend::Table& table = arguments[0].backend();
    const auto forget = [] {  // what is made once a pass: the graph makes its own
      Storage::release_recomputed();
      rounded_leaves().clear();
    };
    forget();
    Form made{form.shapes, form.runs};
    made.words = empty({CaptureLog::max_words}, {DType::int64, arguments[0].device()});
    made.inputs = copies(arguments);
    made.script = std::make_unique<CaptureLog>(static_cast<const std::uint64_t*>(made.words.raw()));
    table.begin_capture();
    capture_log = made.script.get();
    capture_log->add_condition(&autocasting, is_autocast_enabled);
    const auto end = [&] {
      forget();
      capture_log = nullptr;
      made.graph = Graph(table.end_capture(), table.destroy_graph);
      launch(made);
    };
    try {
      for (const Tensor& t : f(made.inputs)) made.outputs.push_back(t.defined() ? t.detach() : t);
    } catch (...) {
      try {
        end();
      } catch (const DeviceError&) {}  // of two errors the first
      throw;
    }
    end();
    form = std::move(made);
    return copies(form.outputs);
  }

  static Tensors replay(Form& form, std::span<const Tensor> arguments) {
    const backend::Table& table = form.words.backend();
    form.script->replay();
    for (std::size_t i = 0; i < arguments.size(); ++i)
      table.copy(form.inputs[i].raw(), arguments[i].raw(),
                 static_cast<std::size_t>(arguments[i].numel()) * size_of(arguments[i].dtype()));
    launch(form);
    return copies(form.outputs);
  }

  static void launch(const Form& form) {
    const backend::Table& table = form.words.backend();
    const auto& words = form.script->words();
    table.upload(form.words.raw(), words.data(), words.size() * sizeof words[0]);
    table.launch(form.graph.get());
  }

  CaptureOptions options_;
  std::vector<Form> forms_;
};

}  // namespace detail

/// A step, function of tensors that returns a tensor, a vector of tensors or nothing, called as the function
/// is. What a replay returns are copies: they keep their values.
/// @throws ValueError for warm_up < 1; what the function throws; StateError for what a captured step may not
/// do.
template <class F>
class CapturedStep {
 public:
  explicit CapturedStep(F f, const CaptureOptions& options = {}) : f_(std::move(f)), steps_(options) {}

  template <std::same_as<Tensor>... Arguments>
  requires std::invocable<F&, const Arguments&...>
  auto operator()(const Arguments&... arguments) {
    return call(std::index_sequence_for<Arguments...>(), arguments...);
  }

  /// Sets of shapes that have been captured so far.
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
