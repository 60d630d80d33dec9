// Ranks as threads of one process, with a Communicator between them: what DataParallel computes is tested without MPI.
#pragma once

#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "lpf/backend/threads.hpp"
#include "lpf/distributed/communicator.hpp"

namespace lpf::test {

/// What the ranks share. A rank that fails releases the others with an error.
class SharedByRanks {
 public:
  explicit SharedByRanks(int size) : at(static_cast<std::size_t>(size)), size_(size) {}
  void meet() {
    std::unique_lock lock(mutex_);
    const int round = round_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return round_ != round || failed_; });
    }
    check<distributed::CommunicationError>(round_ != round, "ranks", "another rank has failed");
  }
  void fail() {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

  std::vector<const std::byte*> at;  // of each rank, what it shows to the others

 private:
  int size_, arrived_ = 0, round_ = 0;
  bool failed_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
};

class RankAsThread final : public distributed::Communicator {
 public:
  RankAsThread(SharedByRanks& shared, int rank) : shared_(shared), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(shared_.at.size()); }
  std::string name() const override { return "threads"; }
  void all_reduce(std::span<float> x) override { sum(x); }
  void all_reduce(std::span<double> x) override { sum(x); }
  void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) override {
    const std::size_t block = from.size() / shared_.at.size(), own = static_cast<std::size_t>(rank_) * block;
    count_blocks(block);
    show(from.data(),
         [&](std::size_t p, const std::byte* x) { std::memcpy(&to[p * block], x + own, block); });
  }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    count_blocks(mine.size());
    show(mine.data(),
         [&](std::size_t p, const std::byte* x) { std::memcpy(&all[p * mine.size()], x, mine.size()); });
  }
  void broadcast(std::span<std::byte> x, int root) override {
    show(x.data(), [&](std::size_t p, const std::byte* from) {
      if (static_cast<int>(p) == root && root != rank_) std::memcpy(x.data(), from, x.size());
    });
  }
  void barrier() override { shared_.meet(); }
  [[noreturn]] void abort() noexcept override { std::terminate(); }

 private:
  /// Calls f with what each rank shows.
  template <class F>
  void show(const std::byte* mine, F f) {
    shared_.at[static_cast<std::size_t>(rank_)] = mine;
    shared_.meet();
    for (std::size_t p = 0; p < shared_.at.size(); ++p) f(p, shared_.at[p]);
    shared_.meet();
  }
  template <class T>
  void sum(std::span<T> x) {
    count_reduced(x.size_bytes());
    std::vector<T> total(x.size(), T(0));
    show(std::as_bytes(x).data(), [&](std::size_t, const std::byte* from) {
      for (std::size_t i = 0; i < x.size(); ++i) total[i] += reinterpret_cast<const T*>(from)[i];
    });
    std::copy(total.begin(), total.end(), x.begin());
  }

  SharedByRanks& shared_;
  int rank_;
};

/// f(world) on each of `size` ranks. Throws what the first rank has thrown.
inline void on_ranks(int size, const std::function<void(distributed::Communicator&)>& f) {
  SharedByRanks shared(size);
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::exception_ptr first;
  for (int p = 0; p < size; ++p)
    threads.emplace_back([&, p] {
      const ThreadLimit one(1);
      RankAsThread world(shared, p);
      try {
        f(world);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
        shared.fail();
      }
    });
  for (std::thread& t : threads) t.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace lpf::test
