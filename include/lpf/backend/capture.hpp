// Host-side actions of a training step, recorded so that a captured step can repeat them. The device replays
// a captured step (train/captured_step.hpp) without running its code. All host actions of that code besides
// queueing work go through this header, and a replay repeats them in the same order: counting steps and
// draws, and computing the scalars of each step, which kernels then read from device memory. Outside a
// capture these are ordinary calls and values.
#pragma once

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>
#include <vector>

#include "lpf/backend/contract.hpp"
#include "lpf/core/config.hpp"
#include "lpf/core/error.hpp"

namespace lpf {

using backend::StepScalar;

namespace detail {

/// The host actions of one captured step.
class CaptureLog {
 public:
  static constexpr std::int64_t max_words = 4096;  // maximum number of scalars per step

  /// `on_device` must hold max_words words.
  explicit CaptureLog(const std::uint64_t* on_device) : on_device_(on_device) {}
  CaptureLog(const CaptureLog&) = delete;
  CaptureLog& operator=(const CaptureLog&) = delete;

  LPF_ONCE void add_action(std::function<void()> action) { actions_.push_back(std::move(action)); }
  /// Returns the device address of f()'s value in each replay; its current value is `word`.
  LPF_ONCE const std::uint64_t* add_word(std::function<std::uint64_t()> f, std::uint64_t word) {
    const std::size_t i = words_.size();
    check<StateError>(std::ssize(words_) < max_words, "captured step", "a step may have ", max_words,
                      " numbers that change from step to step: capture a part of it");
    words_.push_back(word);
    add_action([this, i, f = std::move(f)] { words_[i] = f(); });
    return on_device_ + i;
  }
  /// Records that the step took a branch by the current value of f(): with another value it must be
  /// captured anew. `subject` identifies what f() reads; the condition is skipped if the step itself
  /// has set it before.
  LPF_ONCE void add_condition(const void* subject, std::function<bool()> f) {
    if (std::find(set_here_.begin(), set_here_.end(), subject) != set_here_.end()) return;
    const bool value = f();
    conditions_.emplace_back(std::move(f), value);
  }
  LPF_ONCE void add_set(const void* subject) { set_here_.push_back(subject); }

  bool conditions_hold() const {
    for (const auto& [f, value] : conditions_)
      if (f() != value) return false;
    return true;
  }
  void replay() {
    for (const auto& action : actions_) action();
  }
  const std::vector<std::uint64_t>& words() const { return words_; }

 private:
  const std::uint64_t* on_device_;
  std::vector<std::function<void()>> actions_;
  std::vector<std::pair<std::function<bool()>, bool>> conditions_;
  std::vector<const void*> set_here_;
  std::vector<std::uint64_t> words_;
};

/// The log of the step that this thread captures; null otherwise.
inline thread_local CaptureLog* capture_log = nullptr;

/// The key with draw f(), computed anew in each replay.
template <class F>
NoiseKey key_of_step(NoiseKey key, F f) {
  key.draw = f();
  if (capture_log) [[unlikely]]
    key.draw_at = capture_log->add_word(
        [key, f]() mutable {
          key.draw = f();
          check_noise_range(key, 0, 0, 4);
          return key.draw;
        },
        key.draw);
  return key;
}

}  // namespace detail

/// Runs f now and on every replay.
template <class F>
void run_and_replay(F f) {
  f();
  if (detail::capture_log) [[unlikely]]
    detail::capture_log->add_action(std::move(f));
}

/// A scalar of this step, whose value is `now`; each replay computes its own, f().
template <class F>
StepScalar step_scalar(double now, F f) {
  StepScalar number = now;
  if (detail::capture_log) [[unlikely]]
    number.at = reinterpret_cast<const double*>(
        detail::capture_log->add_word([f] { return std::bit_cast<std::uint64_t>(static_cast<double>(f())); },
                                      std::bit_cast<std::uint64_t>(number.value)));
  return number;
}
/// The scalar f() of this step; each replay computes its own.
template <class F>
StepScalar step_scalar(F f) {
  return step_scalar(f(), f);
}

/// StateError in a captured step, for an operation whose scalars, computed on the host, would be
/// constant in replays.
inline void check_not_captured(const char* operation) {
  check<StateError>(!detail::capture_log, "captured step", operation,
                    " computes numbers on the host that would stay as they are in every replay: run such a "
                    "step with CapturedStep's {.enabled = false}");
}

/// A counter advanced by training steps, such as the number of an optimizer's updates.
class StepCounter {
 public:
  LPF_ONCE StepCounter& operator++() {
    run_and_replay([this] { ++value_; });
    return *this;
  }
  StepCounter& operator=(std::uint64_t value) {
    value_ = value;
    return *this;
  }
  operator std::uint64_t() const { return value_; }  // NOLINT: a number
  /// True if it is 0; a branch of the step's code.
  LPF_ONCE bool is_zero() const {
    if (detail::capture_log) [[unlikely]]
      detail::capture_log->add_condition(this, [this] { return value_ == 0; });
    return value_ == 0;
  }

 private:
  std::uint64_t value_ = 0;
};

/// A flag that a training step sets and branches on. Replays set it too, and a step that has branched on a
/// value from outside is captured anew if the next replay would begin with another.
class StepFlag {
 public:
  StepFlag& operator=(bool on) {
    if (detail::capture_log) [[unlikely]]
      detail::capture_log->add_set(this);
    run_and_replay([this, on] { on_ = on; });
    return *this;
  }
  operator bool() const {  // NOLINT: a flag
    if (detail::capture_log) [[unlikely]]
      detail::capture_log->add_condition(this, [this] { return on_; });
    return on_;
  }
  /// The same, without recording a condition.
  bool value() const { return on_; }

 private:
  bool on_ = false;
};

/// A switch on which the code of a training step branches, such as training or evaluation mode.
class StepSwitch {
 public:
  explicit StepSwitch(bool on) : on_(on) {}
  LPF_ONCE StepSwitch& operator=(bool on) {
    if (detail::capture_log) [[unlikely]]
      detail::capture_log->add_set(this);
    on_ = on;
    return *this;
  }
  LPF_ONCE operator bool() const {  // NOLINT: a switch
    if (detail::capture_log) [[unlikely]]
      detail::capture_log->add_condition(this, [this] { return on_; });
    return on_;
  }
  /// The same, without recording a condition.
  bool value() const { return on_; }
  StepSwitch(const StepSwitch&) = delete;

 private:
  bool on_;
};

}  // namespace lpf
