// A part of a batch, evaluated alone: by gradient accumulation, or by one of several processes. Random numbers of
// layers, perturbed passes and batch norm's statistics are then those of the whole batch.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "lpf/tensor/tensor.hpp"

namespace lpf::nn {

/// The other parts of the current batch, evaluated by other processes or by this one in turn
/// (distributed::DataParallel).
class PartsOfBatch {
 public:
  virtual ~PartsOfBatch() = default;
  /// Σ over all parts of a tensor that each of them computes, with its gradient. StateError if the parts are not
  /// evaluated at the same time.
  virtual Tensor sum(const Tensor& t) = 0;
  /// Calls update with the rows [n, k] of all parts, in the order of the samples, once all have been evaluated.
  virtual void gather(const Tensor& rows, std::function<void(const Tensor& all)> update) = 0;
};

/// How the gradient of a batch is computed from those of its parts (distributed::DataParallel).
class GradientInParts {
 public:
  virtual ~GradientInParts() = default;
  /// Runs pass(), which adds to the gradient, for each part that this process evaluates, and leaves the gradient of
  /// the whole batch. Returns this process's share of the sum of what the passes return.
  virtual Tensor run(const std::function<Tensor()>& pass) = 0;
};

/// Samples [first, first + samples) of a batch.
struct BatchPart {
  std::int64_t first = 0, samples = 0;
  /// Samples of the whole batch. A perturbed pass over the part then evaluates those of its replicas whose slices
  /// the part holds. 0: not known, and a pass over the part is one of its own.
  std::int64_t batch = 0;
  bool begins = true;              ///< layers draw anew; false: they go on with the draw of the part before
  bool same_noise = false;         ///< perturbed passes have the draw of the pass before, of another part
  PartsOfBatch* others = nullptr;  ///< null: to batch norm the part is a batch of its own
};

/// Until the end of the scope, forward passes on this thread process a part of a batch: layers that draw random
/// numbers (dropout) use those of its samples, so that a batch in parts gets the same numbers as the whole batch.
class MicroBatch {
 public:
  /// `samples` samples from `first_sample` on. @throws ValueError for a negative first sample, or no samples.
  MicroBatch(std::int64_t first_sample, std::int64_t samples)
      : MicroBatch(BatchPart{.first = first_sample, .samples = samples, .begins = first_sample == 0}) {}
  /// @throws ValueError as above, and for a part that exceeds its batch.
  explicit MicroBatch(const BatchPart& part) : before_(current_) {
    check(part.first >= 0 && part.samples > 0, "MicroBatch", part.samples, " samples from ", part.first,
          " on are no part of a batch");
    check(part.batch == 0 || part.first + part.samples <= part.batch, "MicroBatch", part.samples,
          " samples from ", part.first, " on are no part of a batch of ", part.batch);
    current_ = part;
  }
  [[deprecated(
      "use MicroBatch(first_sample, samples); without the number every row is a "
      "sample")]] explicit MicroBatch(std::int64_t first_sample)
      : before_(std::exchange(current_, BatchPart{.first = first_sample, .begins = first_sample == 0})) {}
  ~MicroBatch() { current_ = before_; }
  MicroBatch(const MicroBatch&) = delete;
  MicroBatch& operator=(const MicroBatch&) = delete;

  /// This thread's part; samples is 0 for a whole batch.
  static const BatchPart& current() { return current_; }
  /// First sample of this thread's part; 0 for a whole batch or the first part.
  static std::int64_t first_sample() { return current_.first; }
  /// Where the part begins in an operand that has `rows` rows in it: samples may be folded, [B·L, …].
  /// @throws ShapeError if the rows are not a multiple of the part's samples.
  static std::int64_t first_row(const char* operation, std::int64_t rows) {
    const std::int64_t samples = current_.samples;
    if (samples == 0) return current_.first;
    check<ShapeError>(rows % samples == 0, operation, "a part of a batch has ", samples,
                      " samples, but this operand has ", rows, " rows along its first axis");
    return current_.first * (rows / samples);
  }

 private:
  static inline thread_local BatchPart current_{};
  BatchPart before_;
};

using PartOfBatch [[deprecated("use MicroBatch")]] = MicroBatch;

}  // namespace lpf::nn
