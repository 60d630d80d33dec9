// The threads that share the work of a kernel. A call never waits for a thread that has not begun: the caller
// takes every part that no other thread has taken. Between calls the threads wait in a loop for some
// microseconds, which is shorter than the time between the kernels of a step, and then sleep.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "lpf/core/os.hpp"

namespace lpf::backend::cpu {

/// A reference to a callable f(begin, end): the parallel loop is compiled once, not once per kernel.
class RangeFunction {
 public:
  template <class F>
  RangeFunction(F& f) : object_(&f), call_(call<F>) {}  // NOLINT: implicit on purpose
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  template <class F>
  static void call(void* object, std::int64_t begin, std::int64_t end) {
    (*static_cast<F*>(object))(begin, end);
  }

  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// The number of threads that a program uses by default: OMP_NUM_THREADS, or the processors it may run on.
inline int default_threads() {
  static const int count = [] {
    if (const char* wanted = std::getenv("OMP_NUM_THREADS"))
      if (const int n = std::atoi(wanted); n > 0) return n;
    return lpf::detail::os::processors();
  }();
  return count;
}

/// One pool for the whole program.
///
/// A call is `parts` ranges, dealt to the threads in equal runs. A thread takes the parts of its own run first,
/// so that it meets the same data in kernel after kernel, and then those that the others have not begun. Each
/// run is one number, (call, next, end), that is changed by compare-and-swap: a thread that comes late, in
/// whatever call, takes what is there or nothing.
class ThreadPool {
 public:
  static constexpr int max_threads = 256;

  static ThreadPool& instance() {
    static ThreadPool* const pool = [] {
      // A child process has none of the threads.
      lpf::detail::os::after_fork([] { instance().after_fork(); });
      return new ThreadPool;  // never destroyed: threads may outlive static objects
    }();
    return *pool;
  }

  /// Calls f for consecutive ranges of [0, n), cut at multiples of `unit` near those of n/parts, on at most
  /// `threads` threads, this one among them; rethrows the first exception. False if nothing was called: the pool is busy,
  /// this is one of its threads, or the machine is so busy that sharing the work takes longer.
  bool run(int threads, std::int64_t parts, std::int64_t n, std::int64_t unit, RangeFunction f);

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds spin{50}, stall{200};
  static constexpr std::chrono::microseconds shortest_pause{2000}, longest_pause{1000000};
  static constexpr std::uint64_t bits = 20, part_mask = (std::uint64_t{1} << bits) - 1;

  /// The parts of one thread, alone on its cache line.
  struct alignas(64) Run {
    std::atomic<std::uint64_t> state{0};
  };
  static std::uint64_t pack(std::uint32_t call, std::int64_t next, std::int64_t end) {
    return (std::uint64_t{call} << (2 * bits)) | (static_cast<std::uint64_t>(next) << bits) |
           static_cast<std::uint64_t>(end);
  }
  static std::uint64_t call_of(std::uint64_t state) { return state >> (2 * bits); }

  /// The next part of a run in this call; −1 if there is none.
  std::int64_t take(Run& run, std::uint32_t call) {
    std::uint64_t state = run.state.load(std::memory_order_acquire);
    for (;;) {
      const std::uint64_t next = (state >> bits) & part_mask, end = state & part_mask;
      if (call_of(state) != call_of(pack(call, 0, 0)) || next == end) return -1;
      if (run.state.compare_exchange_weak(state, state + (std::uint64_t{1} << bits),
                                          std::memory_order_acq_rel, std::memory_order_acquire))
        return static_cast<std::int64_t>(next);
    }
  }
  void work(int me, std::uint32_t call);
  void wait_for_calls(int me);
  int start_threads(int wanted);
  void after_fork() {
    started_ = 0;
    busy_.clear();
    inside_ = false;
  }
  static void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  /// Waits until done() for as long as `spin` in a loop; returns done().
  template <class Done>
  static bool spin_until(Done done) {
    for (Clock::time_point end{};;) {
      for (int i = 0; i < 64; ++i) {
        if (done()) return true;
        relax();
      }
      const auto now = Clock::now();
      if (end == Clock::time_point{}) end = now + spin;
      if (now >= end) return done();
    }
  }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::atomic<std::uint32_t> call_{0};  // number of the present call; the threads wait for it to change
  std::atomic<std::int64_t> done_{0};   // parts of the call that are finished
  std::atomic<int> threads_{0};         // of the call
  // Written by the caller before the parts are dealt, read by threads that have taken one.
  RangeFunction const* f_ = nullptr;
  std::int64_t n_ = 0, parts_ = 0, unit_ = 1;
  std::mutex error_lock_;
  std::exception_ptr error_;
  Run runs_[max_threads];
  int started_ = 0;  // threads besides the callers

  // Of the caller, under busy_: after a call that waited long for another thread, work is not shared for a while.
  Clock::time_point alone_until_{};
  Clock::duration pause_ = shortest_pause;
  int smooth_calls_ = 0;
  static inline thread_local bool inside_ = false;
};

inline bool ThreadPool::run(int threads, std::int64_t parts, std::int64_t n, std::int64_t unit,
                            RangeFunction f) {
  if (inside_ || busy_.test_and_set(std::memory_order_acquire)) return false;
  const struct Free {
    std::atomic_flag& busy;
    ~Free() {
      inside_ = false;
      busy.clear(std::memory_order_release);
    }
  } free{busy_};
  const auto begin = Clock::now();
  if (begin < alone_until_) return false;
  threads = start_threads(std::min(threads, max_threads));
  if (threads < 2) return false;

  inside_ = true;
  const std::uint32_t call = call_.load(std::memory_order_relaxed) + 1;
  f_ = &f;
  n_ = n;
  parts_ = parts;
  unit_ = unit;
  error_ = nullptr;
  done_.store(0, std::memory_order_relaxed);
  threads_.store(threads, std::memory_order_relaxed);
  for (int t = 0; t < threads; ++t)
    runs_[t].state.store(pack(call, parts * t / threads, parts * (t + 1) / threads),
                         std::memory_order_release);
  call_.store(call, std::memory_order_seq_cst);
  call_.notify_all();

  work(0, call);
  const auto own = Clock::now();
  const auto all_done = [&] { return done_.load(std::memory_order_acquire) == parts; };
  if (!spin_until(all_done))
    for (auto d = done_.load(std::memory_order_acquire); d != parts;
         d = done_.load(std::memory_order_acquire))
      done_.wait(d, std::memory_order_acquire);
  const auto end = Clock::now();

  // A thread that has begun a part and lost its processor makes the caller wait for milliseconds.
  if (end - own > stall + (own - begin)) {
    alone_until_ = end + pause_;
    pause_ = std::min<Clock::duration>(2 * pause_, longest_pause);
    smooth_calls_ = 0;
  } else if (++smooth_calls_ == 1000) {
    pause_ = shortest_pause;
  }
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return true;
}

/// Takes and does parts of a call until none is left to take.
inline void ThreadPool::work(int me, std::uint32_t call) {
  const int threads = threads_.load(std::memory_order_relaxed);
  for (int i = 0; i < threads; ++i) {
    Run& run = runs_[(me + i) % threads];
    for (std::int64_t part; (part = take(run, call)) >= 0;) {
      const std::int64_t parts = parts_;
      try {
        const std::int64_t begin = n_ * part / parts / unit_ * unit_,
                           end = part + 1 == parts ? n_ : n_ * (part + 1) / parts / unit_ * unit_;
        if (begin < end) (*f_)(begin, end);
      } catch (...) {
        const std::lock_guard lock(error_lock_);
        if (!error_) error_ = std::current_exception();
      }
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == parts) done_.notify_all();
    }
  }
}

/// The life of a thread of the pool.
inline void ThreadPool::wait_for_calls(int me) {
  inside_ = true;
  for (std::uint32_t seen = 0;;) {
    const auto changed = [&] { return call_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(changed)) call_.wait(seen, std::memory_order_acquire);
    seen = call_.load(std::memory_order_acquire);
    if (me < threads_.load(std::memory_order_relaxed)) work(me, seen);
  }
}

/// Starts threads until there are `wanted` with the caller; returns how many there are.
inline int ThreadPool::start_threads(int wanted) {
  try {
    for (; started_ + 1 < wanted; ++started_)
      std::thread([this, me = started_ + 1] { wait_for_calls(me); }).detach();
  } catch (const std::system_error&) {}  // as many as there are
  return std::min(wanted, started_ + 1);
}

}  // namespace lpf::backend::cpu
