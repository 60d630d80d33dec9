// The replica axis: how a batch is cut into slices when a parameter stands for M perturbed copies of itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf {

/// M replicas and the slices of the batch they serve. Shared by all replicated tensors of one perturbed pass.
/// A replicated tensor has a hidden leading axis of size M; its shape() does not show it.
class ReplicaPlan {
 public:
  explicit ReplicaPlan(std::int64_t count) : count_(count) {}

  std::int64_t count() const { return count_; }
  /// Samples in the batch; 0 until the first operation met it.
  std::int64_t batch() const { return batch_; }

  /// First row of each slice and the end, M + 1 values, for an operand whose leading axis holds `rows` rows:
  /// the batch, or a multiple of it (tokens). Slices are consecutive and differ by at most one sample.
  std::vector<std::int64_t> slices(const char* operation, std::int64_t rows) {
    if (batch_ == 0) {
      check<ShapeError>(rows >= count_, operation, "M = ", count_,
                        " replicas need at least as many samples; the batch has ", rows);
      batch_ = rows;
    }
    check<ShapeError>(rows % batch_ == 0, operation, "the perturbed pass began with a batch of ", batch_,
                      " samples, but this operand has ", rows, " rows along its first axis");
    return cut(batch_, rows / batch_);
  }

  /// The slices of a batch of `batch` samples, in units of `rows_per_sample` rows.
  std::vector<std::int64_t> cut(std::int64_t batch, std::int64_t rows_per_sample = 1) const {
    std::vector<std::int64_t> begin(static_cast<std::size_t>(count_) + 1);
    const std::int64_t size = batch / count_, longer = batch % count_;
    for (std::int64_t r = 0; r <= count_; ++r)
      begin[static_cast<std::size_t>(r)] = (r * size + std::min(r, longer)) * rows_per_sample;
    return begin;
  }

 private:
  std::int64_t count_;
  std::int64_t batch_ = 0;
};

}  // namespace lpf
