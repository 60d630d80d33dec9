// What a training step does on the host, as a script. A captured step (train/captured_step.hpp) is replayed
// by the device without its code being run again; what that code does on the host besides queueing work, it
// does through the functions here, and a replay does it too, in the same order: counting steps and draws, and
// computing the numbers that change from step to step, which kernels then read from the device's memory.
// Outside a capture they are the plain calls that they look like.
#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>
#include <vector>

#include "lpf/backend/contract.hpp"

namespace lpf::detail {

class StepScript {
 public:
  static constexpr std::int64_t most = 4096;  // changing numbers of a step

  /// `on_device` has room for `most` words.
  explicit StepScript(const std::uint64_t* on_device) : on_device_(on_device) {}
  StepScript(const StepScript&) = delete;
  StepScript& operator=(const StepScript&) = delete;

  void add(std::function<void()> effect) { actions_.push_back(std::move(effect)); }
  /// Where the device finds, in each replay, what f() is then; now it is `word`.
  const std::uint64_t* add_number(std::function<std::uint64_t()> f, std::uint64_t word) {
    const std::size_t i = words_.size();
    check<StateError>(std::ssize(words_) < most, "captured step", "a step may have ", most,
                      " numbers that change from step to step: capture a part of it");
    words_.push_back(word);
    add([this, i, f = std::move(f)] { words_[i] = f(); });
    return on_device_ + i;
  }
  /// What the course of the step depends on: with another answer it must be captured anew. Not where the step
  /// itself has settled it.
  void expect(const void* what, std::function<bool()> f) {
    if (std::find(settled_.begin(), settled_.end(), what) != settled_.end()) return;
    const bool answer = f();
    expected_.emplace_back(std::move(f), answer);
  }

  void settle(const void* what) { settled_.push_back(what); }

  bool still_holds() const {
    for (const auto& [f, answer] : expected_)
      if (f() != answer) return false;
    return true;
  }
  void replay() {
    for (const auto& action : actions_) action();
  }
  const std::vector<std::uint64_t>& words() const { return words_; }

 private:
  const std::uint64_t* on_device_;
  std::vector<std::function<void()>> actions_;
  std::vector<std::pair<std::function<bool()>, bool>> expected_;
  std::vector<const void*> settled_;
  std::vector<std::uint64_t> words_;
};

/// Of the step that this thread captures; null otherwise.
inline thread_local StepScript* step_script = nullptr;

/// f(), in every replay too.
template <class F>
void on_host(F f) {
  f();
  if (step_script) [[unlikely]]
    step_script->add(std::move(f));
}

/// The number f(), of every replay its own.
template <class F>
backend::Changing changing(F f) {
  backend::Changing number = f();
  if (step_script) [[unlikely]]
    number.at = reinterpret_cast<const double*>(
        step_script->add_number([f] { return std::bit_cast<std::uint64_t>(static_cast<double>(f())); },
                                std::bit_cast<std::uint64_t>(number.value)));
  return number;
}

/// The key with draw f(), of every replay its own.
template <class F>
NoiseKey drawing(NoiseKey key, F f) {
  key.draw = f();
  if (step_script) [[unlikely]]
    key.draw_at = step_script->add_number(
        [key, f]() mutable {
          key.draw = f();
          check_noise_range(key, 0, 0, 4);
          return key.draw;
        },
        key.draw);
  return key;
}

/// Notes that f(), which is about `what`, decides the course of the step.
template <class F>
void decided_by(const void* what, F f) {
  if (step_script) [[unlikely]]
    step_script->expect(what, std::move(f));
}
/// Notes that the step itself has decided about `what`.
inline void settled(const void* what) {
  if (step_script) [[unlikely]]
    step_script->settle(what);
}

/// StateError in a captured step, for what computes its numbers on the host.
inline void check_not_captured(const char* operation) {
  check<StateError>(!step_script, "captured step", operation,
                    " computes numbers on the host that would stay as they are in every replay: run such a "
                    "step with CapturedStep's {.enabled = false}");
}

}  // namespace lpf::detail
