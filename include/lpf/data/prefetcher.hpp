// Items made by background threads, returned in order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf::detail {

/// Makes make(first) … make(end - 1) on `workers` threads, up to `ahead` of them in advance; next() returns
/// them in order. An exception of make(i) is thrown by the call of next() for item i. The destructor waits
/// for items in progress and discards all items.
template <class T>
class Prefetcher {
 public:
  Prefetcher(std::function<T(std::int64_t)> make, std::int64_t first, std::int64_t end, int workers,
             int ahead)
      : make_(std::move(make)),
        slots_(static_cast<std::size_t>(ahead)),
        to_make_(first),
        to_take_(first),
        end_(end) {
    try {
      for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
    } catch (...) {  // the system has no more threads
      stop();
      throw;
    }
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;
  ~Prefetcher() { stop(); }

  /// True if next() would return without waiting.
  bool is_ready() {
    const std::lock_guard lock(mutex_);
    return to_take_ < end_ && slot(to_take_).value.has_value();
  }

  T next() {
    std::unique_lock lock(mutex_);
    check<StateError>(to_take_ < end_, "prefetch", "all items have been taken");
    Slot& s = slot(to_take_);
    made_.wait(lock, [&] { return s.value.has_value() || s.error; });
    Slot taken = std::exchange(s, {});
    ++to_take_;
    lock.unlock();
    space_.notify_one();
    if (taken.error) std::rethrow_exception(taken.error);
    return std::move(*taken.value);
  }

 private:
  struct Slot {
    std::optional<T> value;
    std::exception_ptr error;
  };
  Slot& slot(std::int64_t item) { return slots_[static_cast<std::size_t>(item) % slots_.size()]; }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      space_.wait(lock, [&] {
        return stopped_ || to_make_ == end_ || to_make_ - to_take_ < static_cast<std::int64_t>(slots_.size());
      });
      if (stopped_ || to_make_ == end_) return;
      const std::int64_t item = to_make_++;
      lock.unlock();
      Slot result;
      try {
        result.value.emplace(make_(item));
      } catch (...) { result.error = std::current_exception(); }
      lock.lock();
      slot(item) = std::move(result);
      made_.notify_one();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    space_.notify_all();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

  const std::function<T(std::int64_t)> make_;
  std::vector<Slot> slots_;
  std::int64_t to_make_, to_take_;
  const std::int64_t end_;
  bool stopped_ = false;
  std::mutex mutex_;
  std::condition_variable made_, space_;
  std::vector<std::thread> threads_;
};

}  // namespace lpf::detail
