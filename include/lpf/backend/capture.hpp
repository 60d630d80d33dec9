// What a training step does on the host, so that a captured step can repeat it. A captured step (train/captured_step.hpp)
// is replayed by the device without its code being run again. What that code does on the host besides queueing work goes
// through this page, and a replay does it again in the same order: counting steps and draws, and computing the numbers of
// each step, which kernels then read from the device's memory. Outside a capture these are the plain calls and values that
// they look like.
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

/// The host's part of one captured step.
class CaptureLog {
 public:
  static constexpr std::int64_t max_words = 4096;  // numbers of a step

  /// `on_device` has room for max_words words.
  explicit CaptureLog(const std::uint64_t* on_device) : on_device_(on_device) {}
  CaptureLog(const CaptureLog&) = delete;
  CaptureLog& operator=(const CaptureLog&) = delete;

  LPF_ONCE void add_action(std::function<void()> action) { actions_.push_back(std::move(action)); }
  /// Where the device finds, in each replay, the value of f() in that replay; now it is `word`.
  LPF_ONCE const std::uint64_t* add_word(std::function<std::uint64_t()> f, std::uint64_t word) {
    const std::size_t i = words_.size();
    check<StateError>(std::ssize(words_) < max_words, "captured step", "a step may have ", max_words,
                      " numbers that change from step to step: capture a part of it");
    words_.push_back(word);
    add_action([this, i, f = std::move(f)] { words_[i] = f(); });
    return on_device_ + i;
  }
  /// Notes that the step took the branch that the present value of f() leads to: with another value it must be captured
  /// anew. `subject` identifies what f() reads; it is not noted where the step itself has set that before.
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

/// Of the step that this thread captures; null otherwise.
inline thread_local CaptureLog* capture_log = nullptr;

/// The key with draw f(), of every replay its own.
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

/// The number f() of this step; each replay computes its own.
template <class F>
StepScalar step_scalar(F f) {
  StepScalar number = f();
  if (detail::capture_log) [[unlikely]]
    number.at = reinterpret_cast<const double*>(
        detail::capture_log->add_word([f] { return std::bit_cast<std::uint64_t>(static_cast<double>(f())); },
                                      std::bit_cast<std::uint64_t>(number.value)));
  return number;
}

/// StateError in a captured step: for an operation whose numbers, computed on the host, would stay the same in every replay.
inline void check_not_captured(const char* operation) {
  check<StateError>(!detail::capture_log, "captured step", operation,
                    " computes numbers on the host that would stay as they are in every replay: run such a "
                    "step with CapturedStep's {.enabled = false}");
}

/// A count that training steps advance, such as the updates of an optimizer.
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
  /// Whether it is 0, as a branch of the step's code.
  LPF_ONCE bool is_zero() const {
    if (detail::capture_log) [[unlikely]]
      detail::capture_log->add_condition(this, [this] { return value_ == 0; });
    return value_ == 0;
  }

 private:
  std::uint64_t value_ = 0;
};

/// A switch by which the code of a training step branches, such as training or evaluation mode.
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
  /// The same, where nothing depends on it.
  bool value() const { return on_; }
  StepSwitch(const StepSwitch&) = delete;

 private:
  bool on_;
};

}  // namespace lpf
