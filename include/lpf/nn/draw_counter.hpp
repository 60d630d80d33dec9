// Random draws of layers and filters: each forward pass has its own numbers, and a resumed run continues with
// those of an uninterrupted one.
#pragma once

#include <memory>
#include <string_view>

#include "lpf/backend/capture.hpp"
#include "lpf/nn/replica_context.hpp"

namespace lpf {

/// Counts draws from one stream of random numbers and gives each its key. The count is its only state. Copies
/// of a counter that belongs to a ParameterStore (Path::draw_counter()) share the count; other copies do not.
class DrawCounter {
 public:
  /// `stream` holds the seed, purpose and parameter of all draws. `shared` is a count that belongs to a
  /// store; if null, the counter has its own.
  explicit DrawCounter(const NoiseKey& stream, std::shared_ptr<std::uint64_t> shared = nullptr)
      : stream_(stream), shared_(std::move(shared)) {}

  /// The key of the next draw.
  LPF_ONCE NoiseKey next() const {
    if (shared_) {
      run_and_replay([count = shared_] { ++*count; });
    } else {
      run_and_replay([this] { ++own_; });
    }
    return last();
  }
  /// The key of the draw before, of which there must be one.
  LPF_ONCE NoiseKey last() const {
    if (shared_) return detail::key_of_step(stream_, [count = shared_] { return *count - 1; });
    return detail::key_of_step(stream_, [this] { return own_ - 1; });
  }

  /// The key for the current samples: of the next draw if they are a whole batch or the first part of one that
  /// this process evaluates (MicroBatch), of the same draw if they are a later part. A part uses the numbers from
  /// MicroBatch::first_row() on.
  /// @throws StateError for a later part before any first, naming the kind of the layer and its path.
  LPF_ONCE NoiseKey next_of_batch(const char* layer, std::string_view path) const {
    if (nn::MicroBatch::current().begins) return next();
    check<StateError>(count() > 0, layer, "'", path, "' meets a part of a batch that begins at sample ",
                      nn::MicroBatch::first_sample(), " before the part that begins at 0");
    return last();
  }

  /// Number of draws so far; set it to resume from a checkpoint or to repeat a draw.
  std::uint64_t count() const { return shared_ ? *shared_ : own_; }
  void set_count(std::uint64_t n) const { (shared_ ? *shared_ : own_) = n; }

 private:
  NoiseKey stream_;
  std::shared_ptr<std::uint64_t> shared_;
  mutable std::uint64_t own_ = 0;
};

}  // namespace lpf
