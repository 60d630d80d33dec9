// K independent runs of one architecture in parallel, for mean ± sd over several runs.
//
//   struct Member {                                     // everything that one run has
//     ParameterStore params;
//     models::MLP net;
//     optim::SGD sgd;
//     LowPassFilter filter;
//     DataLoader loader;
//     explicit Member(std::uint64_t seed) : params({.seed = seed}), net(params), … {}
//     void epoch() {
//       for (auto [x, y] : loader) {
//         auto scope = filter.perturb(params);
//         cross_entropy(net(x), y).backward();
//         sgd.step();
//       }
//     }
//     double error() const { … }
//   };
//   Population members(32, [](std::int64_t k) { return Member(static_cast<std::uint64_t>(k)); });
//   for (int epoch = 0; epoch < 60; ++epoch) members.each([](Member& m) { m.epoch(); });
//   const auto errors = mean_sd(members.each([](Member& m) { return m.error(); }));
//
// Each member is processed by one thread at a time, as many members at once as there are threads. Its
// kernels have the shapes of its own run, and results do not depend on the number of threads: so its
// trajectory is bit-identical to that of its run alone. Give each() a stretch of training, not a step: a
// member's weights, gradient and momentum then stay in the cache of one core. (Why not one pass over
// stacked weights: docs/design.md.)
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/backend/threads.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf {

namespace detail {

/// The calling thread and `helpers` others, which wait between tasks.
class Team {
 public:
  explicit Team(int helpers) {
    try {
      for (int i = 0; i < helpers; ++i) threads_.emplace_back([this] { help(); });
    } catch (...) {  // the system has no more threads
      stop();
      throw;
    }
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { stop(); }

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  /// Runs task() once on each thread. It must not throw.
  void run(const std::function<void()>& task) {
    std::unique_lock lock(mutex_);
    task_ = &task;
    working_ = threads_.size();
    ++round_;
    begin_.notify_all();
    lock.unlock();
    task();
    lock.lock();
    done_.wait(lock, [this] { return working_ == 0; });
  }

 private:
  void help() {
    std::unique_lock lock(mutex_);
    for (std::uint64_t seen = 0;;) {
      begin_.wait(lock, [&] { return stopped_ || round_ != seen; });
      if (stopped_) return;
      seen = round_;
      const auto& task = *task_;
      lock.unlock();
      task();
      lock.lock();
      if (--working_ == 0) done_.notify_one();
    }
  }
  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    begin_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable begin_, done_;
  const std::function<void()>* task_ = nullptr;
  std::size_t working_ = 0;  // helpers that have not finished this round
  std::uint64_t round_ = 0;
  bool stopped_ = false;
};

/// ValueError, ShapeError or DTypeError unless both stores hold the same parameters.
inline void check_same_architecture(const ParameterStore& first, const ParameterStore& other,
                                    std::int64_t k) {
  const auto &a = first.parameters(), &b = other.parameters();
  check<DTypeError>(first.dtype() == other.dtype(), "Population",
                    "the members are of one architecture: member ", k, " is ", name_of(other.dtype()),
                    ", member 0 ", name_of(first.dtype()));
  check(a.size() == b.size(), "Population", "the members are of one architecture: member ", k, " has ",
        b.size(), " parameters, member 0 has ", a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    check(a[i].name == b[i].name, "Population", "the members are of one architecture: parameter ", i,
          " of member ", k, " is '", b[i].name, "', of member 0 '", a[i].name, "'");
    check<ShapeError>(a[i].shape == b[i].shape, "Population", "the members are of one architecture: '",
                      a[i].name, "' is ", b[i].shape, " in member ", k, ", ", a[i].shape, " in member 0");
  }
}

}  // namespace detail

/// One run: any type with a ParameterStore `params`. Its other members (network, optimizer, filter, loader)
/// are its own too; state shared between runs must be read-only.
template <class M>
concept PopulationMember = requires(M& m) {
  { m.params } -> std::convertible_to<const ParameterStore&>;
};

template <PopulationMember Member>
class Population {
 public:
  /// Members make(0) … make(size − 1), whose seeds and hyper-parameters may differ, but not their
  /// architecture. Their addresses are stable. @throws ValueError for a size below 1, and if two members
  /// share one store; ValueError, ShapeError, DTypeError if their parameters differ.
  template <class Make>
  Population(std::int64_t size, Make make) {
    check(size >= 1, "Population", "needs at least one member, got ", size);
    for (std::int64_t k = 0; k < size; ++k) {
      members_.emplace_back(new Member(make(k)));
      for (std::int64_t j = 0; j < k; ++j)
        check((*this)[j].params.id() != (*this)[k].params.id(), "Population", "members ", j, " and ", k,
              " share one ParameterStore: make a new one for each");
      detail::check_same_architecture((*this)[0].params, (*this)[k].params, k);
    }
  }

  std::int64_t size() const { return std::ssize(members_); }
  /// Member k. @throws IndexError unless 0 ≤ k < size().
  Member& operator[](std::int64_t k) { return *members_[index(k)]; }
  const Member& operator[](std::int64_t k) const { return *members_[index(k)]; }

  /// Calls f(member) once for each, on as many threads as kernels use (num_threads()). With tensors `stacked`
  /// [size(), …], f(member, stacked[k]…). Gradients are recorded, or not, as on the calling thread. Returns
  /// the results of f, in the order of the members. If f throws, the other members are still processed; then
  /// the exception of the first is thrown. @throws StateError inside a perturbed pass over a member, which
  /// the other threads would not see, and within a call of each(); ShapeError for another leading size.
  template <class F, std::same_as<Tensor>... Stacked>
  auto each(F&& f, const Stacked&... stacked) {
    (check<ShapeError>(stacked.rank() > 0 && stacked.shape()[0] == size(), "Population", size(),
                       " members need one slice each along the first axis, got a tensor of shape ",
                       stacked.shape()),
     ...);
    using Result = std::invoke_result_t<F&, Member&, const Stacked&...>;
    if constexpr (std::is_void_v<Result>) {
      run([&](std::int64_t k) { f((*this)[k], stacked[k]...); });
    } else {
      std::vector<std::optional<Result>> results(members_.size());
      run([&](std::int64_t k) { results[index(k)].emplace(f((*this)[k], stacked[k]...)); });
      std::vector<Result> out;
      out.reserve(results.size());
      for (auto& r : results) out.push_back(std::move(*r));
      return out;
    }
  }

 private:
  std::size_t index(std::int64_t k) const {
    check<IndexError>(k >= 0 && k < size(), "Population", "there is no member ", k, " of ", size());
    return static_cast<std::size_t>(k);
  }

  void run(const std::function<void(std::int64_t)>& turn) {
    for (std::int64_t k = 0; k < size(); ++k)
      check<StateError>(!nn::detail::pass_over((*this)[k].params.id()), "Population",
                        "a perturbed pass over member ", k,
                        " is open here, and its turn comes on another thread: open it inside the function");
    check<StateError>(!under_way_.exchange(true), "Population",
                      "each() is under way: a second call can begin when it has returned");
    const struct Done {
      std::atomic<bool>& under_way;
      ~Done() { under_way = false; }
    } done{under_way_};
    const int all = num_threads(), threads = static_cast<int>(std::min<std::int64_t>(all, size()));
    if (!team_ || team_->size() != threads) {
      team_.reset();
      team_ = std::make_unique<detail::Team>(threads - 1);
    }
    std::vector<std::exception_ptr> errors(members_.size());
    std::atomic<std::int64_t> next{0};
    const bool gradients = is_grad_enabled(), anomaly = is_anomaly_enabled();
    team_->run([&] {
      const ThreadLimit limit(all / threads);
      const GradMode grad_mode(gradients);
      const AnomalyMode anomaly_mode(anomaly);
      for (std::int64_t k; (k = next++) < size();) {
        try {
          turn(k);
        } catch (...) { errors[index(k)] = std::current_exception(); }
      }
    });
    for (const auto& error : errors)
      if (error) std::rethrow_exception(error);
  }

  std::vector<std::unique_ptr<Member>> members_;
  std::unique_ptr<detail::Team> team_;
  std::atomic<bool> under_way_{false};
};

template <class Make>
Population(std::int64_t, Make) -> Population<std::invoke_result_t<Make&, std::int64_t>>;

}  // namespace lpf
