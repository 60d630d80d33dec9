// Communication between the processes of a job, as data-parallel training needs it: an interface, and the job of
// one process. mpi.hpp has MPI behind it; init.hpp chooses.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/core/device.hpp"
#include "lpf/core/error.hpp"

namespace lpf::distributed {

/// A process of the job does not answer within the deadline, or has other data, settings or parameters than the rest.
class CommunicationError : public Error {
  using Error::Error;
};

/// `size()` processes, of which this one has number `rank()`. Every rank calls the same collectives in the same order,
/// from one thread. A collective that is not complete within the deadline throws CommunicationError, which names the
/// ranks that do not answer.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string name() const = 0;  ///< for messages: "Open MPI v4.1.4"

  /// x ← Σ over the ranks, the same bits on each; the order of the sum is the implementation's.
  virtual void all_reduce(std::span<float> x) = 0;
  virtual void all_reduce(std::span<double> x) = 0;
  /// Block q of `from` goes to rank q, block p of `to` is from rank p; both have size() blocks of one length.
  virtual void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) = 0;
  /// Block p of `all` is rank p's `mine`, which has one length on all ranks.
  virtual void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  /// x ← that of rank `root`.
  virtual void broadcast(std::span<std::byte> x, int root) = 0;
  virtual void barrier() = 0;
  /// Ends the job, all of its processes, with exit code 1. The message should have been printed.
  [[noreturn]] virtual void abort() noexcept = 0;

  /// For a rank that waits in `operation`, which is none of this communicator's: answers ranks that ask who is there.
  virtual void answer(const char* /*operation*/) {}
  /// Asks all ranks what they wait in. "rank 2 does not answer (…), rank 1 is in broadcast".
  virtual std::string missing(const char* /*operation*/) { return "nobody knows which rank is missing"; }

  /// The communicator for memory of this device: this one for the CPU, otherwise the one that was attached.
  /// @throws DeviceError if there is none.
  Communicator& on(Device device) {
    if (device.is_cpu()) return *this;
    check<DeviceError>(device_ != nullptr, "distributed", "nothing connects the GPUs of ", size(),
                       " processes: build with -DLPF_NCCL=ON, and call distributed::use_gpus(world)");
    return *device_;
  }
  /// Takes the communicator for memory of this process's GPU.
  void attach(std::unique_ptr<Communicator> device) { device_ = std::move(device); }

  /// Seconds that this process has spent in collectives, those of its GPU included.
  double seconds() const { return seconds_ + (device_ ? device_->seconds() : 0); }
  /// Bytes that this process has sent, if each collective sends what a ring does: 2(P − 1)/P of the vector in an
  /// all-reduce. MPI chooses its own way, which in an all-reduce sends no less. Broadcasts are not counted.
  double sent() const { return sent_ + (device_ ? device_->sent() : 0); }

 protected:
  /// Counts blocks of `bytes` for each of the other ranks, or an all-reduce of a vector.
  void count_blocks(std::size_t bytes) { sent_ += static_cast<double>(bytes) * (size() - 1); }
  void count_reduced(std::size_t bytes) { sent_ += 2 * static_cast<double>(bytes) * (size() - 1) / size(); }
  double seconds_ = 0;

 private:
  std::unique_ptr<Communicator> device_;
  double sent_ = 0;
};

/// A job of one process.
class OneProcess final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string name() const override { return "one process"; }
  void all_reduce(std::span<float>) override {}
  void all_reduce(std::span<double>) override {}
  void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) override { copy(from, to); }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override { copy(mine, all); }
  void broadcast(std::span<std::byte>, int) override {}
  void barrier() override {}
  [[noreturn]] void abort() noexcept override { std::exit(1); }

 private:
  static void copy(std::span<const std::byte> from, std::span<std::byte> to) {
    std::copy_n(from.begin(), std::min(from.size(), to.size()), to.begin());
  }
};

template <class T>
concept Plain = std::is_trivially_copyable_v<T>;

/// The values of all ranks, in their order.
template <Plain T>
std::vector<T> all_gather(Communicator& world, const T& mine) {
  std::vector<T> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return all;
}

/// The same for vectors, whose lengths may differ.
template <Plain T>
std::vector<std::vector<T>> all_gather(Communicator& world, const std::vector<T>& mine) {
  const std::vector<std::size_t> sizes = all_gather(world, mine.size());
  const std::size_t longest = *std::max_element(sizes.begin(), sizes.end());
  std::vector<T> own = mine, all(longest * sizes.size());
  own.resize(longest);
  if (longest > 0) world.all_gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)));
  std::vector<std::vector<T>> out;
  for (std::size_t p = 0; p < sizes.size(); ++p) {
    const auto from = all.begin() + static_cast<std::ptrdiff_t>(p * longest);
    out.emplace_back(from, from + static_cast<std::ptrdiff_t>(sizes[p]));
  }
  return out;
}

/// Rank 0's text.
inline std::string broadcast(Communicator& world, std::string text) {
  std::uint64_t size = text.size();
  world.broadcast(std::as_writable_bytes(std::span(&size, 1)), 0);
  text.resize(size);
  if (size > 0) world.broadcast(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

}  // namespace lpf::distributed
