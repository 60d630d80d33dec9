// A population (lpf/train/population.hpp) whose members are spread over the processes of a job: member k is on rank
// k mod P, with the seed, and so the trajectory, that it has anywhere else.
//
//   const auto world = distributed::init();
//   distributed::Population members(*world, 32, [](std::int64_t k) { return Member(static_cast<std::uint64_t>(k)); });
//   for (int epoch = 0; epoch < 60; ++epoch) members.each([](Member& m) { m.epoch(); });   // no communication
//   const auto errors = members.each([](Member& m) { return m.error(); });                 // of all, on every rank
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/distributed/agreement.hpp"
#include "lpf/train/population.hpp"

namespace lpf::distributed {

template <PopulationMember Member>
class Population {
 public:
  /// Members make(0) … make(size − 1), of which this process makes its own. `world` must outlive the object.
  /// @throws what lpf::Population throws, on all ranks; CommunicationError for a rank with another architecture or size.
  template <class Make>
  Population(Communicator& world, std::int64_t size, Make make) : world_(world), size_(size) {
    check(size >= 1, "Population", "needs at least one member, got ", size);
    on_all_ranks([&] {
      const std::int64_t first = world.rank(), step = world.size();
      if (first >= size) return;
      const std::int64_t own = (size - first + step - 1) / step;
      own_.emplace(own, [&](std::int64_t j) { return make(first + j * step); });
    });
    check_members();
  }

  /// Members of all ranks.
  std::int64_t size() const { return size_; }
  /// Whether member k is on this rank.
  bool has(std::int64_t k) const { return k >= 0 && k < size_ && k % world_.size() == world_.rank(); }
  /// Member k. @throws IndexError unless has(k).
  Member& operator[](std::int64_t k) {
    check<IndexError>(has(k), "Population", "member ", k, " of ", size_, " is not on rank ", world_.rank());
    return (*own_)[k / world_.size()];
  }

  /// Calls f(member) once for each, as lpf::Population::each() does on each rank. Returns the results of all members, in
  /// their order, on every rank: numbers, structs of them, or vectors of these. A function without a result sends nothing,
  /// so that ranks wait for one another only where results are asked for; its exception is thrown on its own rank. With
  /// results an exception is thrown on every rank: elsewhere as a StateError with its message.
  template <class F>
  auto each(F&& f) {
    using Result = std::invoke_result_t<F&, Member&>;
    if constexpr (std::is_void_v<Result>) {
      if (own_) own_->each(f);
    } else {
      std::vector<Result> mine;
      on_all_ranks([&] {
        if (own_) mine = own_->each(f);
      });
      return gathered(mine);
    }
  }

 private:
  /// f(), which sends nothing; then every rank learns whether it has thrown on one.
  template <class F>
  void on_all_ranks(F f) {
    std::exception_ptr failed;
    std::string reason;
    try {
      f();
    } catch (const std::exception& e) {
      failed = std::current_exception();
      reason = concat("x", e.what());  // not empty, whatever the message
    }
    const auto all = all_gather(world_, std::vector<char>(reason.begin(), reason.end()));
    if (failed) std::rethrow_exception(failed);
    for (std::size_t p = 0; p < all.size(); ++p)
      if (!all[p].empty())
        fail<StateError>("Population", "rank ", p, ": ", std::string(all[p].begin() + 1, all[p].end()));
  }

  template <class T>
  std::vector<T> gathered(const std::vector<T>& mine) {
    std::vector<T> out(static_cast<std::size_t>(size_));
    const auto ranks = static_cast<std::size_t>(world_.size());
    const auto place = [&](std::size_t p, std::size_t j) -> T& { return out[p + j * ranks]; };
    if constexpr (Plain<T>) {
      const auto all = all_gather(world_, mine);
      for (std::size_t p = 0; p < ranks; ++p)
        for (std::size_t j = 0; j < all[p].size(); ++j) place(p, j) = all[p][j];
    } else {  // vectors: their lengths, then all elements
      static_assert(Plain<typename T::value_type>,
                    "results of members are numbers, structs of them, or vectors of these");
      std::vector<std::size_t> sizes;
      std::vector<typename T::value_type> elements;
      for (const T& vector : mine) {
        sizes.push_back(vector.size());
        elements.insert(elements.end(), vector.begin(), vector.end());
      }
      const auto all_sizes = all_gather(world_, sizes);
      const auto all = all_gather(world_, elements);
      for (std::size_t p = 0; p < ranks; ++p) {
        auto at = all[p].begin();
        for (std::size_t j = 0; j < all_sizes[p].size(); ++j) {
          const auto end = at + static_cast<std::ptrdiff_t>(all_sizes[p][j]);
          place(p, j).assign(at, end);
          at = end;
        }
      }
    }
    return out;
  }

  /// The same size, and one architecture: lpf::Population compares the members of a rank, this the ranks that have some.
  void check_members() {
    check_same(world_, "Population", "a number of members", static_cast<std::uint64_t>(size_));
    Hash hash;
    if (own_) {
      const ParameterStore& params = (*own_)[0].params;
      hash.add(std::int64_t(params.dtype()));
      for (const ParameterInfo& p : params.parameters()) {
        hash.add(p.name);
        for (const std::int64_t n : p.shape) hash.add(n);
      }
    }
    std::vector<std::uint64_t> all = all_gather(world_, hash.value());
    all.resize(static_cast<std::size_t>(std::min<std::int64_t>(world_.size(), size_)));
    const std::string different = different_ranks(all);
    check<CommunicationError>(different.empty(), "Population",
                              "the members are of one architecture: those of ", different,
                              " differ from the other ranks'");
  }

  Communicator& world_;
  std::int64_t size_;
  std::optional<lpf::Population<Member>> own_;
};

template <class Make>
Population(Communicator&, std::int64_t, Make) -> Population<std::invoke_result_t<Make&, std::int64_t>>;

}  // namespace lpf::distributed
