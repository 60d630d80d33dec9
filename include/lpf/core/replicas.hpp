// The replica axis: M perturbed copies of the parameters, and the batch whose slices they serve.
#pragma once

#include "lpf/core/error.hpp"
#include "lpf/core/shape.hpp"
#include "lpf/core/slices.hpp"

namespace lpf {

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
    check<ShapeError>(
        rows % batch_ == 0, operation, "the perturbed pass ", given_ ? "has" : "began with", " a batch of ",
        batch_, " samples", given_ ? "" : " in ", given_ ? "" : first_, ", but this operand has ", rows,
        " rows along its first axis",
        given_ ? ": another batch needs a pass of its own (end this scope, and open a new one)"
               : ": another batch needs a pass of its own (end this scope, and open a new one); for a "
                 "model that folds its batch give the number of samples, perturb(params, batch); rows "
                 "that are the same for all samples (positions) are read with Embedding::rows(), or by "
                 "indices of every sample, expand(indices, {B, T})");
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
                      " replicas need at least as many samples; the batch has ", batch,
                      ": take fewer replicas or a larger batch; if it is the rest of an epoch, drop it "
                      "(LoaderOptions::drop_last)");
    batch_ = batch;
    first_ = operation;
  }

  std::int64_t count_;
  std::int64_t batch_ = 0;
  bool given_ = false;
  const char* first_ = "";  // the operation that set the batch
};

}  // namespace lpf
