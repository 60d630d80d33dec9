// Shapes: up to eight axes, stored inline.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "lpf/core/config.hpp"
#include "lpf/core/error.hpp"

namespace lpf {

inline constexpr int max_rank = 8;

/// Sizes of a tensor's axes; {} is a scalar (one element).
class Shape {
 public:
  constexpr Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const std::int64_t> sizes) {
    for (auto s : sizes) push_back(s);
  }

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return sizes_[static_cast<std::size_t>(axis)]; }
  const std::int64_t* begin() const { return sizes_.data(); }
  const std::int64_t* end() const { return sizes_.data() + rank_; }
  const std::int64_t* data() const { return sizes_.data(); }

  void push_back(std::int64_t size) {
    check<ShapeError>(rank_ < max_rank, "shape", "at most ", max_rank, " axes are supported");
    check<ShapeError>(size >= 0, "shape", "sizes cannot be negative, got ", size);
    sizes_[static_cast<std::size_t>(rank_++)] = size;
    check_countable();
  }
  /// ShapeError if the sizes other than 0 multiply to more than 2^60, so that neither element nor byte counts
  /// overflow.
  void check_countable() const {
    std::int64_t room = std::int64_t{1} << 60;
    for (auto s : *this)
      if (s > 0) room /= s;
    check<ShapeError>(room > 0, "shape", *this, " has more than 2^60 elements");
  }

  /// Number of elements.
  std::int64_t numel() const { return product(0, rank_); }
  /// Product of the sizes of axes [from, to).
  std::int64_t product(int from, int to) const {
    std::int64_t n = 1;
    for (int i = from; i < to; ++i) n *= (*this)[i];
    return n;
  }
  /// Axes [from, to) as a shape.
  Shape slice(int from, int to) const {
    return Shape(std::span(begin() + from, static_cast<std::size_t>(to - from)));
  }
  /// This shape with a new first axis.
  Shape prepended(std::int64_t size) const {
    Shape out{size};
    for (auto s : *this) out.push_back(s);
    return out;
  }
  /// This shape with another size of axis `axis`.
  Shape with(int axis, std::int64_t size) const {
    Shape out = *this;
    out[axis] = size;
    if (size > (*this)[axis]) out.check_countable();
    return out;
  }
  /// This shape without axis `axis`.
  Shape without(int axis) const {
    Shape out;
    for (int i = 0; i < rank_; ++i)
      if (i != axis) out.push_back((*this)[i]);
    return out;
  }

  /// Strides in elements of a row-major tensor of this shape.
  std::array<std::int64_t, max_rank> strides() const {
    std::array<std::int64_t, max_rank> out{};
    std::int64_t step = 1;
    for (int i = rank_; i-- > 0;) {
      out[static_cast<std::size_t>(i)] = step;
      step *= (*this)[i];
    }
    return out;
  }

  LPF_ONCE std::string to_string() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += (i ? ", " : "") + std::to_string((*this)[i]);
    return out + "]";
  }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }

 private:
  std::array<std::int64_t, max_rank> sizes_{};
  int rank_ = 0;
};

/// The axis, counted from the end if negative; ShapeError outside [-rank, rank).
inline int normalize_axis(const char* operation, int axis, int rank) {
  check<ShapeError>(axis >= -rank && axis < rank, operation, "axis ", axis, " is outside a tensor of rank ",
                    rank);
  return axis < 0 ? axis + rank : axis;
}

/// The shape to which both operands broadcast (NumPy's rule); ShapeError if they do not.
inline Shape broadcast(const char* operation, const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape out = longer;
  const int lead = longer.rank() - shorter.rank();
  for (int i = 0; i < shorter.rank(); ++i) {
    const auto m = longer[lead + i], n = shorter[i];
    check<ShapeError>(m == n || m == 1 || n == 1, operation, "shapes ", a, " and ", b,
                      " do not broadcast: axis ", lead + i, " has ", m, " and ", n);
    out[lead + i] = m == 1 ? n : m;
  }
  out.check_countable();
  return out;
}

}  // namespace lpf
