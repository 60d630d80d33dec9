// The replica axis: how a batch is cut into slices for the M perturbed copies of a parameter.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "lpf/core/shape.hpp"

namespace lpf {

/// A batch cut into consecutive slices, one per replica. Their lengths differ by at most one sample,
/// the longer ones first. Positions are in rows, of which a sample has one or, for folded operands
/// (tokens), several.
class Slices {
 public:
  Slices(std::int64_t count, std::int64_t samples, std::int64_t rows_per_sample = 1)
      : count_(count), samples_(samples), rows_per_sample_(rows_per_sample) {}

  std::int64_t count() const { return count_; }
  /// First row of slice r.
  std::int64_t begin(std::int64_t r) const {
    return (r * (samples_ / count_) + std::min(r, samples_ % count_)) * rows_per_sample_;
  }
  std::int64_t end(std::int64_t r) const { return begin(r + 1); }
  /// Rows of slice r.
  std::int64_t length(std::int64_t r) const { return begin(r + 1) - begin(r); }
  /// Share of slice r in the batch: |B_r|/|B|.
  double share(std::int64_t r) const {
    return static_cast<double>(length(r)) / static_cast<double>(begin(count_));
  }

  /// Calls f(run) for each run of neighbouring slices of equal length; there are at most two.
  struct Run {
    std::int64_t first, count;   ///< slices [first, first + count)
    std::int64_t begin, length;  ///< first row of the first, rows of each
  };
  template <class F>
  void for_each_run(F f) const {
    const std::int64_t longer = samples_ % count_;
    if (longer > 0) f(Run{0, longer, 0, length(0)});
    f(Run{longer, count_ - longer, begin(longer), length(count_ - 1)});
  }

  /// First row of each slice, and the end: count() + 1 values.
  std::vector<std::int64_t> boundaries() const {
    std::vector<std::int64_t> out;
    for (std::int64_t r = 0; r <= count_; ++r) out.push_back(begin(r));
    return out;
  }

 private:
  std::int64_t count_, samples_, rows_per_sample_;
};

/// M replicas and the batch whose slices they serve, shared by all replicated tensors of one perturbed pass.
/// A replicated tensor has a hidden leading axis of size M, not included in its shape(). One replica serves
/// every operand whole: nothing is cut, and nothing is refused.
class ReplicaPlan {
 public:
  explicit ReplicaPlan(std::int64_t count) : count_(count) {}
  /// @throws ShapeError for fewer samples than replicas.
  ReplicaPlan(std::int64_t count, std::int64_t batch) : count_(count), given_(true) {
    set_batch("perturb", batch);
  }

  std::int64_t count() const { return count_; }
  /// Samples in the batch; 0 until it is known.
  std::int64_t batch() const { return batch_; }
  /// True if the caller gave the number of samples; false if the first operand decides, whose rows are then
  /// the samples.
  bool batch_is_given() const { return given_; }

  /// Checks an operand whose last `features` axes are those of one row. With a given batch B an operand
  /// [B, L, features…] must begin with B; rows [B·L, features…] are folded, L consecutive rows a sample.
  /// @throws ShapeError otherwise, and as slices().
  LPF_ONCE void meet(const char* operation, const Shape& shape, int features) {
    check<ShapeError>(count_ == 1 || !given_ || shape.rank() - features < 2 || shape[0] == batch_, operation,
                      "the perturbed pass has a batch of ", batch_,
                      " samples, which must be the first axis; this operand has shape ", shape,
                      ": permute it, or fold it sample by sample");
    slices(operation, shape[0]);
  }

  /// The slices of an operand whose leading axis has `rows` rows: the batch, or a multiple of it (tokens).
  /// Unless the batch was given, the first operand of a pass sets its size.
  /// @throws ShapeError for fewer samples than replicas, or if rows is not a multiple of the batch.
  LPF_ONCE Slices slices(const char* operation, std::int64_t rows) {
    if (batch_ == 0) set_batch(operation, rows);
    if (count_ == 1) return {1, rows};
    check<ShapeError>(rows % batch_ == 0, operation, "the perturbed pass ", given_ ? "has" : "began with",
                      " a batch of ", batch_, " samples", given_ ? "" : " in ", given_ ? "" : first_,
                      ", but this operand has ", rows, " rows along its first axis",
                      given_ ? "" : ": give the number of samples, perturb(params, batch)");
    return {count_, batch_, rows / batch_};
  }

  /// Share of slice r in the batch, B_r/B; 1/M while the batch is not known.
  double share(std::int64_t r) const { return Slices(count_, batch_ == 0 ? count_ : batch_).share(r); }

  [[deprecated("use Slices(count, batch, rows_per_sample)")]] std::vector<std::int64_t> cut(
      std::int64_t batch, std::int64_t rows_per_sample = 1) const {
    return Slices(count_, batch, rows_per_sample).boundaries();
  }

 private:
  LPF_ONCE void set_batch(const char* operation, std::int64_t batch) {
    check<ShapeError>(count_ == 1 || batch >= count_, operation, "M = ", count_,
                      " replicas need at least as many samples; the batch has ", batch);
    batch_ = batch;
    first_ = operation;
  }

  std::int64_t count_;
  std::int64_t batch_ = 0;
  bool given_ = false;
  const char* first_ = "";  // the operation that set the batch
};

}  // namespace lpf
