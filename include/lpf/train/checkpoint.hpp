// Stops and resumes a training run, bit for bit:
//
//   Checkpoint checkpoint;
//   checkpoint.add(params);
//   checkpoint.add("optimizer", sgd);
//   checkpoint.add("filter", filter);
//   checkpoint.add("loader", loader);
//   checkpoint.add("epoch", epoch);                           // your own numbers and strings, by reference
//   if (Checkpoint::exists("out/run")) checkpoint.load("out/run");
//   while (epoch < 200) {
//     for (auto [x, y] : loader) …
//     ++epoch;
//     checkpoint.save("out/run");
//   }
//
// A checkpoint is two files that are replaced together, atomically (checkpoint_files.hpp):
// NAME.safetensors with the weights alone, which PyTorch can load (weights.hpp), and
// NAME.state.safetensors with the remaining state of the run.
#pragma once

#include <charconv>
#include <concepts>
#include <functional>
#include <optional>
#include <type_traits>

#include "lpf/core/parse.hpp"
#include "lpf/train/checkpoint_files.hpp"

namespace lpf {

namespace detail {

template <class T>
concept Scalar = std::same_as<T, std::string> || std::same_as<T, bool> || std::is_arithmetic_v<T>;

/// A number as the shortest text that is read back exactly.
template <Scalar T>
std::string text_of(const T& value) {
  if constexpr (std::same_as<T, std::string>) {
    return value;
  } else if constexpr (std::same_as<T, bool>) {
    return value ? "1" : "0";
  } else {
    char buffer[64];
    return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
  }
}
template <Scalar T>
T value_of(std::string_view name, std::string_view text) {
  if constexpr (std::same_as<T, std::string>) {
    return std::string(text);
  } else if constexpr (std::same_as<T, bool>) {
    check(text == "0" || text == "1", "checkpoint", "'", name, "' is '", text, "', which is no bool");
    return text == "1";
  } else {
    T value{};
    check(lpf::detail::parse_number(text, value), "checkpoint", "'", name, "' is '", text,
          "', which is no number of the type it is loaded into");
    return value;
  }
}

}  // namespace detail

/// The parts of a training run, by name. Stores references: what is added must outlive it.
class Checkpoint {
 public:
  /// The model: weights and buffers, random counters, number of updates. Required exactly once.
  void add(const ParameterStore& params) {
    check(!params_, "checkpoint", "it has its parameters already: one checkpoint is one model");
    params_ = params;
    params.theta();  // no layer can be added from here on
    add_value(
        "model/updates", [=] { return params.updates(); }, [=](std::uint64_t n) { params.set_updates(n); });
    add_fixed("model/seed", params.seed());
    for (const auto& c : params.counters())
      add_value(
          "model/" + c.name, [v = c.value] { return *v; }, [v = c.value](std::uint64_t n) { *v = n; });
  }

  /// An optimizer: anything with steps() and state vectors of θ's length. Its options are not stored: a
  /// resumed run must construct the optimizer in the same way.
  template <class T>
  requires requires(T& o) { o.state(), o.steps(), o.set_steps(0), o.params(); }
  void add(const std::string& name, T& optimizer) {
    for (const auto& [key, flat] : optimizer.state())
      for (const auto& info : optimizer.params().parameters())
        add(concat(name, "/", key, "/", info.name), flat.alias(info.shape, info.offset));
    add_value(
        name + "/steps", [&] { return optimizer.steps(); }, [&](std::uint64_t n) { optimizer.set_steps(n); });
    if constexpr (requires { optimizer.parameter_steps(); })
      if (!optimizer.parameter_steps().empty()) add_parameter_steps(name + "/parameter steps", optimizer);
  }

  /// Anything that adds its parts itself, as schedule::ReduceOnPlateau does.
  template <class T>
  requires requires(T& part, Checkpoint& c, const std::string& name) { part.add_to(c, name); }
  void add(const std::string& name, T& part) { part.add_to(*this, name); }

  /// A low-pass filter: the number of its passes; the seeds must agree.
  template <class T>
  requires requires(T& f) { f.draws(), f.set_draws(0), f.options().seed; }
  void add(const std::string& name, T& filter) {
    add_fixed(name + "/seed", filter.options().seed);
    add_value(
        name + "/draws", [&] { return filter.draws(); }, [&](std::uint64_t n) { filter.set_draws(n); });
  }

  /// A data loader: its position; the seeds must agree.
  template <class T>
  requires requires(T& l) { l.restore(l.state()), l.state().epoch, l.state().batch, l.options().seed; }
  void add(const std::string& name, T& loader) {
    add_fixed(name + "/seed", loader.options().seed);
    const auto get = [&] { return concat(loader.state().epoch, " ", loader.state().batch); };
    const auto set = [&, name](const std::string& text) {
      auto position = loader.state();
      const std::size_t space = std::min(text.find(' '), text.size());
      position.epoch = detail::value_of<std::int64_t>(name, text.substr(0, space));
      position.batch = detail::value_of<std::int64_t>(name, text.substr(std::min(space + 1, text.size())));
      loader.restore(position);
    };
    add_value(name + "/position", get, set);
  }

  /// A user-defined tensor; load() writes into it.
  void add(const std::string& name, const Tensor& tensor) {
    claim(name);
    tensors_.emplace_back(name, tensor.detach());
  }

  /// A user-defined number or string.
  template <detail::Scalar T>
  void add(const std::string& name, T& value) {
    add_value(
        name, [&value] { return value; }, [&value](const T& v) { value = v; });
  }

  /// Anything else: get() returns it as a number or string, set() restores it.
  template <class Get, class Set>
  void add_value(const std::string& name, Get get, Set set) {
    using T = std::remove_cvref_t<decltype(get())>;
    claim(name);
    values_.push_back({name, [=] { return detail::text_of<T>(get()); },
                       [=](const std::string& text) { set(detail::value_of<T>(name, text)); }});
  }

  static bool exists(const std::string& name) { return detail::CheckpointFiles(name).exist(); }

  /// Writes NAME.safetensors and NAME.state.safetensors, both or neither. Throws IOError and
  /// leaves the old files unchanged.
  void save(const std::string& name) const {
    Metadata texts;
    for (const auto& v : values_) texts[v.name] = v.get();
    detail::CheckpointFiles(name).replace(state_dict(params()), tensors_, texts);
  }

  /// Restores everything that was added, or throws and changes nothing. Throws IOError; FormatError for a
  /// broken file; ValueError naming the entries that only the checkpoint or only this program has.
  void load(const std::string& name) {
    const auto [state, file] = detail::CheckpointFiles(name).read();
    const auto weights = detail::weights_of(params());
    detail::check_weights("checkpoint", file, weights, {});
    check_state(state);
    const auto off = no_grad();
    set_values(state.metadata());
    for (const auto& w : weights) w.set_from_torch(file.at(w.name));
    for (const auto& [key, tensor] : tensors_) tensor.copy_(state.at(key));
  }

 private:
  struct Value {
    std::string name;
    std::function<std::string()> get;
    std::function<void(const std::string&)> set;
  };

  const ParameterStore& params() const {
    check<StateError>(params_.has_value(), "checkpoint", "it has no parameters yet: begin with add(params)");
    return *params_;
  }
  void claim(const std::string& name) {
    check(!name.empty() && !name.starts_with("lpf."), "checkpoint", "'", name,
          "' is no name for a part of it");
    check(names_.insert(name).second, "checkpoint", "two parts are named '", name, "'");
  }
  /// A number that must be equal in the resumed run.
  void add_fixed(const std::string& name, std::uint64_t value) {
    const auto set = [=](std::uint64_t saved) {
      check(saved == value, "checkpoint", "'", name, "' was ", saved, " in the run that was saved and is ",
            value, " in this one: make it the same to go on with that run");
    };
    add_value(
        name, [=] { return value; }, set);
  }

  /// The updates of each parameter, as "3 3 0".
  template <class T>
  void add_parameter_steps(const std::string& name, T& optimizer) {
    const auto get = [&] {
      std::string text;
      for (const std::uint64_t n : optimizer.parameter_steps()) text += concat(text.empty() ? "" : " ", n);
      return text;
    };
    const auto set = [&, name](const std::string& text) {
      std::vector<std::uint64_t> steps;
      for (std::size_t at = 0, end; at <= text.size(); at = end + 1) {
        end = std::min(text.find(' ', at), text.size());
        steps.push_back(detail::value_of<std::uint64_t>(name, text.substr(at, end - at)));
      }
      optimizer.set_parameter_steps(steps);
    };
    add_value(name, get, set);
  }

  void check_state(const SafetensorsFile& state) const {
    std::vector<std::string> missing, unexpected, different;
    for (const auto& v : values_)
      if (state.metadata().count(v.name) == 0) missing.push_back(v.name);
    for (const auto& [name, tensor] : tensors_) {
      if (!state.contains(name)) {
        missing.push_back(name);
      } else if (const Tensor& t = state.at(name);
                 t.shape() != tensor.shape() || t.dtype() != detail::dtype_read(tensor.dtype())) {
        different.push_back(concat("'", name, "' ", name_of(t.dtype()), " ", t.shape(), " in the file, ",
                                   name_of(tensor.dtype()), " ", tensor.shape(), " here"));
      }
    }
    for (const auto& [name, text] : state.metadata())
      if (!name.starts_with("lpf.") && names_.count(name) == 0) unexpected.push_back(name);
    for (const auto& [name, tensor] : state)
      if (names_.count(name) == 0) unexpected.push_back(name);
    const std::string where = concat("'", state.path(), "' ");
    check(missing.empty(), "checkpoint", where, "lacks ", detail::list_of(missing),
          ": it was saved by another program");
    check(unexpected.empty(), "checkpoint", where, "also has ", detail::list_of(unexpected),
          ": add() what the program that saved it had added");
    check(different.empty(), "checkpoint", where, "does not fit: ", detail::list_of(different, ""));
  }

  /// Sets all values, or none if one is refused.
  void set_values(const Metadata& texts) const {
    std::vector<std::string> before;
    try {
      for (const auto& v : values_) {
        before.push_back(v.get());
        v.set(texts.at(v.name));
      }
    } catch (...) {
      for (std::size_t i = 0; i + 1 < before.size(); ++i) values_[i].set(before[i]);
      throw;
    }
  }

  std::optional<ParameterStore> params_;
  NamedTensors tensors_;
  std::vector<Value> values_;
  std::set<std::string> names_;
};

}  // namespace lpf
