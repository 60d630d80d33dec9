// Iteration over several strided arrays of one shape.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "lpf/backend/contract.hpp"
#include "lpf/backend/cpu/parallel.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// A reference to a callable f(offset of each view, n).
class RowFunction {
 public:
  template <class F>
  RowFunction(F& f) : object_(&f), call_(call<F>) {}  // NOLINT: implicit on purpose
  void operator()(const std::int64_t* at, std::int64_t n) const { call_(object_, at, n); }

 private:
  template <class F>
  static void call(void* object, const std::int64_t* at, std::int64_t n) {
    (*static_cast<F*>(object))(at, n);
  }

  void* object_;
  void (*call_)(void*, const std::int64_t*, std::int64_t);
};

/// The common loop over a few views of one shape: axes that are contiguous in all of them are merged; the
/// callback handles the innermost axis.
class Loop {
 public:
  explicit Loop(std::initializer_list<const View*> views) : views_(views.size()) {
    const auto view = [&](std::size_t v) -> const View& { return *views.begin()[v]; };
    const View& first = view(0);
    for (int i = first.rank; i-- > 0;) {  // from the innermost axis out
      if (first.shape[i] == 1) continue;
      bool merges = rank_ > 0;
      for (std::size_t v = 0; v < views_ && merges; ++v)
        merges = view(v).stride[i] == strides_[last()][v] * shape_[last()];
      if (merges) {
        shape_[last()] *= first.shape[i];
        continue;
      }
      ++rank_;
      shape_[last()] = first.shape[i];
      for (std::size_t v = 0; v < views_; ++v) strides_[last()][v] = view(v).stride[i];
    }
    for (int i = 0; i < first.rank; ++i) empty_ |= first.shape[i] == 0;
    if (rank_ == 0) {  // a single element
      rank_ = 1;
      shape_[0] = 1;
      strides_[0].fill(1);
    }
  }

  std::int64_t inner_stride(std::size_t view) const { return strides_[0][view]; }

  /// Calls f(offset of each view, n) for n elements along the innermost axis.
  void run(std::int64_t grain, RowFunction f) const {
    if (empty_) return;
    if (rank_ == 1) {
      parallel_for(shape_[0], grain, [&](std::int64_t begin, std::int64_t end) {
        Offsets at;
        for (std::size_t v = 0; v < views_; ++v) at[v] = begin * strides_[0][v];
        f(at.data(), end - begin);
      });
      return;
    }
    std::int64_t rows = 1;
    for (std::size_t i = 1; i <= last(); ++i) rows *= shape_[i];
    parallel_for(rows, std::max<std::int64_t>(1, grain / shape_[0]),
                 [&](std::int64_t begin, std::int64_t end) {
                   std::array<std::int64_t, 8> index{};
                   Offsets at{};
                   std::int64_t rest = begin;
                   for (std::size_t i = 1; i <= last(); ++i) {
                     index[i] = rest % shape_[i];
                     rest /= shape_[i];
                     for (std::size_t v = 0; v < views_; ++v) at[v] += index[i] * strides_[i][v];
                   }
                   for (std::int64_t row = begin; row < end; ++row) {
                     f(at.data(), shape_[0]);
                     for (std::size_t i = 1; i <= last(); ++i) {  // the next row, odometer order
                       for (std::size_t v = 0; v < views_; ++v) at[v] += strides_[i][v];
                       if (++index[i] < shape_[i]) break;
                       for (std::size_t v = 0; v < views_; ++v) at[v] -= shape_[i] * strides_[i][v];
                       index[i] = 0;
                     }
                   }
                 });
  }

 private:
  using Offsets = std::array<std::int64_t, 4>;  // of each view
  std::size_t last() const { return static_cast<std::size_t>(rank_ - 1); }

  std::size_t views_;  // 4 at most
  int rank_ = 0;
  bool empty_ = false;
  std::array<std::int64_t, 8> shape_{};  // innermost first
  std::array<Offsets, 8> strides_{};
};

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
