// Batches in random order, prefetched:
//
//   DataLoader loader(dataset, {.batch_size = 128, .seed = 1});
//   for (int epoch = 0; epoch < 10; ++epoch)
//     for (auto [x, y] : loader) …
#pragma once

#include <algorithm>
#include <concepts>
#include <functional>
#include <iterator>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "lpf/autograd/grad_mode.hpp"
#include "lpf/data/dataset.hpp"
#include "lpf/data/prefetcher.hpp"
#include "lpf/data/transfer.hpp"

namespace lpf {

/// A data source for DataLoader: size() samples, of which batch() returns those with the given indices, as
/// tensors on the CPU. With workers, several threads may call batch() concurrently.
template <class D>
concept BatchSource = requires(const D& data, std::span<const std::int64_t> samples) {
  { data.size() } -> std::convertible_to<std::int64_t>;
  { data.batch(samples) } -> std::same_as<Batch>;
};

/// Changes a batch before it is returned (augmentation, another dtype). Random numbers should be keyed by the
/// epoch and the index of the sample: then they depend neither on the threads nor on the order. Runs without
/// autograd, and with workers on several threads concurrently.
using BatchTransform =
    std::function<void(Batch& batch, std::int64_t epoch, std::span<const std::int64_t> samples)>;

/// Rows [first, last) of a batch of n samples that this process gets.
using BatchShare = std::function<std::pair<std::int64_t, std::int64_t>(std::int64_t n)>;

struct LoaderOptions {
  std::int64_t batch_size = 64;
  bool shuffle = true;     ///< a new order each epoch, else the order of the data set
  bool drop_last = false;  ///< drops the last batch of an epoch if it is smaller than the others
  std::uint64_t seed = 0;  ///< of the order
  BatchTransform transform = nullptr;
  /// Of several processes, each of which gets its rows of the same batches (distributed::DataParallel); null: all.
  BatchShare share = nullptr;
  Device device = default_device();  ///< of the returned batches
  /// Threads that make batches ahead; 0 makes each on demand; -1 chooses: 1 if making a batch is expensive
  /// (there is a transform, or the source is not a TensorDataset) or batches go to another device, else 0.
  /// For 64 digits, copying the rows takes 4 µs and passing them between threads 15; and where all cores
  /// compute, a thread that copies larger rows competes with them (measured on two cores).
  int workers = -1;
  int prefetch = 2;  ///< batches that each worker makes ahead
};

/// The position of a loader: `batch` batches of epoch `epoch` have been returned.
struct LoaderState {
  std::int64_t epoch = 0, batch = 0;
  bool operator==(const LoaderState&) const = default;
};

/// Cuts a data set into batches, in an order that is a function of (seed, epoch) alone.
///
/// Each loop over the loader is one epoch, and the next loop is the next epoch, also after a `break`. state()
/// and restore() transfer the position to another run, which then returns the same batches as this one would
/// have. Only one loop at a time.
class DataLoader {
 public:
  /// Throws ValueError for options out of range, or if there would be no batch at all.
  template <BatchSource Data>
  DataLoader(Data data, LoaderOptions options = {}) : options_(std::move(options)), size_(data.size()) {
    set_up(std::same_as<Data, TensorDataset>);
    source_ = [data = std::make_shared<const Data>(std::move(data))](std::span<const std::int64_t> samples) {
      return data->batch(samples);
    };
  }

  /// Number of samples in the data set.
  std::int64_t size() const { return size_; }
  /// Number of batches in an epoch.
  std::int64_t batches() const {
    return (size_ + (options_.drop_last ? 0 : options_.batch_size - 1)) / options_.batch_size;
  }
  const LoaderOptions& options() const { return options_; }

  /// The position. Within a loop the current batch counts as done: save the state when it is.
  LoaderState state() const { return state_; }
  /// Continues from this position in the next loop. Throws ValueError if it does not exist.
  LPF_ONCE void restore(LoaderState state) {
    check(state.epoch >= 0 && state.epoch <= 0xFFFFFFFF && state.batch >= 0 && state.batch <= batches(),
          "loader", "there is no batch ", state.batch, " of epoch ", state.epoch, ": an epoch has ",
          batches(), " batches; was the state saved with another data set or batch size?");
    stop();
    state_ = state;
  }
  /// The next loop is epoch `epoch`, from its first batch.
  void set_epoch(std::int64_t epoch) { restore({epoch, 0}); }

  /// The indices of the samples in the current batch, or in this process's share. Throws StateError outside a loop.
  std::span<const std::int64_t> samples() const { return shared(whole(), options_.share); }
  /// Number of samples in the current batch, of which a process may have a share. Throws StateError outside a loop.
  std::int64_t batch_samples() const { return std::ssize(whole()); }

  class Iterator;
  /// Starts an epoch, or continues the restored one.
  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

 private:
  /// Checks the options and chooses those that are left open.
  LPF_ONCE void set_up(bool in_memory) {
    check(options_.batch_size >= 1, "loader", "batch_size must be at least 1, got ", options_.batch_size);
    check(options_.workers >= -1 && options_.workers <= 256, "loader",
          "workers must be 0 … 256, or -1 to choose, got ", options_.workers);
    check(options_.prefetch >= 1, "loader", "prefetch must be at least 1, got ", options_.prefetch);
    check(size_ > 0, "loader", "the data set is empty");
    check(!options_.drop_last || size_ >= options_.batch_size, "loader",
          "drop_last would drop everything: the data set has ", size_, " samples, a batch ",
          options_.batch_size);
    if (options_.workers < 0)
      options_.workers = options_.transform || !in_memory || !options_.device.is_cpu() ? 1 : 0;
    if (!options_.device.is_cpu()) transfer_ = std::make_unique<detail::Transfer>(options_.device);
  }

  using Order = std::vector<std::int64_t>;

  static std::span<const std::int64_t> samples_of(const Order& order, std::int64_t batch_size,
                                                  std::int64_t batch) {
    const auto first = static_cast<std::size_t>(batch * batch_size),
               most = static_cast<std::size_t>(batch_size);
    return std::span(order).subspan(first, std::min(most, order.size() - first));
  }

  std::span<const std::int64_t> whole() const {
    check<StateError>(looping_, "loader", "there is no batch at hand outside a loop");
    return samples_of(*order_, options_.batch_size, state_.batch - 1);
  }
  /// The rows of this process. ValueError for a share that is none.
  static std::span<const std::int64_t> shared(std::span<const std::int64_t> batch, const BatchShare& share) {
    if (!share) return batch;
    const auto [first, last] = share(std::ssize(batch));
    check(first >= 0 && first < last && last <= std::ssize(batch), "loader", "the share [", first, ", ", last,
          ") is no part of a batch of ", batch.size());
    return batch.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first));
  }

  LPF_ONCE void start() {
    const LoaderState from = looping_ ? LoaderState{state_.epoch + 1, 0} : state_;
    stop();
    state_ = from;
    order_ = std::make_shared<const Order>(make_order());
    make_ = [source = source_, transform = options_.transform, order = order_, device = options_.device,
             batch_size = options_.batch_size, share = options_.share, epoch = state_.epoch](std::int64_t i) {
      const auto quiet = no_grad();
      const auto samples = shared(samples_of(*order, batch_size, i), share);
      Batch batch = source(samples);
      if (transform) transform(batch, epoch, samples);
      return device.is_cpu() ? batch : detail::Transfer::pinned(batch, device);
    };
    if (options_.workers > 0 && state_.batch < batches()) {
      ahead_ = std::make_unique<detail::Prefetcher<Batch>>(make_, state_.batch, batches(), options_.workers,
                                                           options_.workers * options_.prefetch);
    }
    looping_ = true;
    advance();
  }

  LPF_ONCE Order make_order() const {
    if (options_.shuffle) {
      return permutation(size_, {.seed = options_.seed,
                                 .purpose = Purpose::shuffle,
                                 .draw = static_cast<std::uint64_t>(state_.epoch)});
    }
    Order order(static_cast<std::size_t>(size_));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    return order;
  }

  LPF_ONCE void advance() {
    current_ = {};  // first: the next batch may reuse its memory
    if (state_.batch == batches()) {
      const LoaderState next{state_.epoch + 1, 0};
      stop();
      state_ = next;
      return;
    }
    try {
      if (transfer_) {
        if (!transfer_->under_way()) transfer_->start(make());
        current_ = transfer_->finish();
        // Before the step on this batch is queued, so that the copy of the next one overlaps with it.
        if (ahead_ && ahead_->is_ready()) transfer_->start(make());
      } else {
        current_ = make();
      }
    } catch (...) {
      stop();  // the next loop repeats this batch
      throw;
    }
    ++state_.batch;
  }

  /// The next batch that is not yet being transferred.
  Batch make() { return ahead_ ? ahead_->next() : make_(state_.batch); }

  /// Ends the current loop and invalidates its iterators.
  LPF_ONCE void stop() {
    ahead_.reset();
    if (transfer_) transfer_->drop();
    current_ = {};
    looping_ = false;
    ++loop_;
  }

  LoaderOptions options_;
  std::int64_t size_;
  std::function<Batch(std::span<const std::int64_t>)> source_;
  LoaderState state_;
  bool looping_ = false;    // a loop has begun and not finished
  std::uint64_t loop_ = 0;  // its number
  std::shared_ptr<const Order> order_ = std::make_shared<const Order>();
  std::function<Batch(std::int64_t)> make_;
  std::unique_ptr<detail::Prefetcher<Batch>> ahead_;
  std::unique_ptr<detail::Transfer> transfer_;  // to another device
  Batch current_;
};

/// Iterates over the batches of one epoch.
class DataLoader::Iterator {
 public:
  using value_type = Batch;
  using difference_type = std::ptrdiff_t;

  const Batch& operator*() const {
    check_current();
    return loader_->current_;
  }
  Iterator& operator++() {
    check_current();
    loader_->advance();
    return *this;
  }
  void operator++(int) { ++*this; }
  friend bool operator==(const Iterator& it, std::default_sentinel_t) { return !it.is_current(); }

 private:
  friend class DataLoader;
  explicit Iterator(DataLoader* loader) : loader_(loader), loop_(loader->loop_) {}
  bool is_current() const { return loader_->looping_ && loader_->loop_ == loop_; }
  LPF_ONCE void check_current() const {
    check<StateError>(is_current(), "loader",
                      "this loop is over, or another one over the same loader has begun since");
  }

  DataLoader* loader_;
  std::uint64_t loop_;
};

inline DataLoader::Iterator DataLoader::begin() {
  start();
  return Iterator(this);
}

}  // namespace lpf

#ifdef LPF_COMPILED
extern template class lpf::detail::Prefetcher<lpf::Batch>;
#endif
