// Walking several strided arrays of one shape together.
#pragma once

#include <array>
#include <cstdint>

#include "lpf/backend/contract.hpp"
#include "lpf/backend/cpu/parallel.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// The common loop over N views of one shape: axes that are contiguous in all of them are merged, the
/// innermost is left to the caller.
template <std::size_t N>
class Loop {
 public:
  explicit Loop(const std::array<const View*, N>& views) {
    const View& first = *views[0];
    for (int i = first.rank; i-- > 0;) {  // from the innermost axis out
      if (first.shape[i] == 1) continue;
      bool merges = rank_ > 0;
      for (std::size_t v = 0; v < N && merges; ++v)
        merges = views[v]->stride[i] == strides_[last()][v] * shape_[last()];
      if (merges) {
        shape_[last()] *= first.shape[i];
        continue;
      }
      ++rank_;
      shape_[last()] = first.shape[i];
      for (std::size_t v = 0; v < N; ++v) strides_[last()][v] = views[v]->stride[i];
    }
    for (int i = 0; i < first.rank; ++i) empty_ |= first.shape[i] == 0;
    if (rank_ == 0) {  // a single element
      rank_ = 1;
      shape_[0] = 1;
      for (std::size_t v = 0; v < N; ++v) strides_[0][v] = 1;
    }
  }

  std::int64_t inner_stride(std::size_t view) const { return strides_[0][view]; }

  /// f(offset of each view, n): n elements along the innermost axis from there.
  template <class F>
  void run(std::int64_t grain, F f) const {
    if (empty_) return;
    if (rank_ == 1) {
      parallel_for(shape_[0], grain, [&](std::int64_t begin, std::int64_t end) {
        std::array<std::int64_t, N> at;
        for (std::size_t v = 0; v < N; ++v) at[v] = begin * strides_[0][v];
        f(at, end - begin);
      });
      return;
    }
    std::int64_t rows = 1;
    for (std::size_t i = 1; i <= last(); ++i) rows *= shape_[i];
    parallel_for(rows, std::max<std::int64_t>(1, grain / shape_[0]),
                 [&](std::int64_t begin, std::int64_t end) {
                   std::array<std::int64_t, 8> index{};
                   std::array<std::int64_t, N> at{};
                   std::int64_t rest = begin;
                   for (std::size_t i = 1; i <= last(); ++i) {
                     index[i] = rest % shape_[i];
                     rest /= shape_[i];
                     for (std::size_t v = 0; v < N; ++v) at[v] += index[i] * strides_[i][v];
                   }
                   for (std::int64_t row = begin; row < end; ++row) {
                     f(at, shape_[0]);
                     for (std::size_t i = 1; i <= last(); ++i) {  // the next row, counted like an odometer
                       for (std::size_t v = 0; v < N; ++v) at[v] += strides_[i][v];
                       if (++index[i] < shape_[i]) break;
                       for (std::size_t v = 0; v < N; ++v) at[v] -= shape_[i] * strides_[i][v];
                       index[i] = 0;
                     }
                   }
                 });
  }

 private:
  std::size_t last() const { return static_cast<std::size_t>(rank_ - 1); }

  int rank_ = 0;
  bool empty_ = false;
  std::array<std::int64_t, 8> shape_{};  // innermost first
  std::array<std::array<std::int64_t, N>, 8> strides_{};
};

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
