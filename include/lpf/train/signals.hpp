// Graceful shutdown: SIGINT (Ctrl-C), SIGTERM and SIGHUP (the terminal is gone) are recorded, and the
// training loop checks them between steps.
//
//   const StopSignals stop;
//   for (auto [x, y] : loader) {
//     …
//     if (stop.received()) { checkpoint.save("out/run"); return; }
//   }
//
// The second signal of a kind ends the program at once, as it would without this.
#pragma once

#include <signal.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <string>

#include "lpf/core/error.hpp"

namespace lpf {

namespace detail {
inline std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch nothing else");
inline std::atomic<bool> stop_signals_watched{false};
}  // namespace detail

/// Handles SIGINT, SIGTERM and SIGHUP during its lifetime, and then restores the previous handlers. A signal
/// that is ignored stays ignored: nohup ignores SIGHUP, a shell SIGINT of what it starts in the background. Only
/// one at a time in a program: StateError.
class StopSignals {
 public:
  StopSignals() {
    check<StateError>(!detail::stop_signals_watched.exchange(true), "StopSignals",
                      "another one watches already: one is enough for a program");
    detail::stop_signal = 0;
    struct sigaction action {};
    action.sa_handler = [](int signal) { detail::stop_signal = signal; };
    // RESETHAND: the second signal is not caught. RESTART: writing a file is not interrupted.
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    ::sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < signals.size(); ++i) {
      ::sigaction(signals[i], nullptr, &before_[i]);
      const bool ignored = (before_[i].sa_flags & SA_SIGINFO) == 0 && before_[i].sa_handler == SIG_IGN;
      if (!ignored) ::sigaction(signals[i], &action, nullptr);
    }
  }
  ~StopSignals() {
    for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &before_[i], nullptr);
    detail::stop_signals_watched = false;
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The last signal received; 0 if none.
  int received() const { return detail::stop_signal; }
  static std::string name_of(int signal) {
    return signal == SIGTERM ? "SIGTERM" : signal == SIGHUP ? "SIGHUP" : "SIGINT";
  }

 private:
  static constexpr std::array<int, 3> signals{SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, 3> before_{};
};

}  // namespace lpf
