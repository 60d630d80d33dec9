// Tensors as text in the style of PyTorch and NumPy: nested brackets, aligned
// columns, large tensors summarised.
//
//   tensor([[ 1.0000,  0.5000],
//           [-2.2500, 10.0000]], dtype=float64)
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iosfwd>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/autograd/node.hpp"

namespace lpf {

struct PrintOptions {
  int precision = 4;              ///< digits after the point
  std::int64_t threshold = 1000;  ///< tensors with more elements are summarised
  std::int64_t edge_items = 3;    ///< elements shown at both ends of each axis, with … between them
  int line_width = 80;            ///< longer rows are wrapped
};

namespace detail {

/// Number format of one tensor: fixed or scientific, and the width.
struct NumberFormat {
  int precision;
  bool integral = true;  // all finite elements are integers, written as "3."
  bool scientific = false;

  NumberFormat(const std::vector<double>& values, int digits) : precision(digits) {
    double largest = 0, smallest = std::numeric_limits<double>::infinity();
    for (const double v : values) {
      if (!std::isfinite(v)) continue;
      integral = integral && v == std::nearbyint(v);
      if (v == 0) continue;
      largest = std::max(largest, std::abs(v));
      smallest = std::min(smallest, std::abs(v));
    }
    if (largest > 0)
      scientific = largest >= 1e8 || (!integral && (smallest < 1e-4 || largest / smallest > 1000));
  }

  std::string operator()(double v) const {
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
    char text[512];  // DBL_MAX has 309 digits
    const int digits = std::clamp(integral && !scientific ? 0 : precision, 0, 60);
    const auto style = scientific ? std::chars_format::scientific : std::chars_format::fixed;
    const std::string out(text, std::to_chars(text, text + sizeof text, v, style, digits).ptr);
    return integral && !scientific ? out + "." : out;
  }
};

/// Writes the elements of a tensor on the host as `options` requires.
class TensorPrinter {
 public:
  TensorPrinter(const Shape& shape, DType dtype, const void* data, const PrintOptions& options)
      : shape_(shape), options_(options), summarised_(shape.numel() > options.threshold) {
    std::vector<std::int64_t> shown;
    collect(0, 0, shown);
    visit(dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* x = static_cast<const T*>(data);
      if constexpr (is_floating(dtype_of<T>())) {
        std::vector<double> values;
        for (const auto i : shown) values.push_back(static_cast<double>(x[i]));
        const NumberFormat format(values, options.precision);
        for (const double v : values) words_.push_back(format(v));
      } else {
        for (const auto i : shown)
          words_.push_back(std::is_same_v<T, bool> ? (x[i] ? "True" : "False") : std::to_string(+x[i]));
      }
    });
    for (const auto& word : words_) width_ = std::max(width_, word.size());
  }

  bool summarised() const { return summarised_; }

  /// The nested brackets, with continuation lines indented by `indent`.
  std::string text(std::size_t indent) { return nested(0, indent); }

 private:
  /// True if the middle entries of an axis are left out.
  bool gap(int axis) const { return summarised_ && shape_[axis] > 2 * options_.edge_items; }
  /// Number of entries of an axis that are shown.
  std::int64_t shown(int axis) const { return gap(axis) ? 2 * options_.edge_items : shape_[axis]; }

  void collect(int axis, std::int64_t offset, std::vector<std::int64_t>& out) const {
    if (axis == shape_.rank()) return out.push_back(offset);
    const std::int64_t stride = shape_.product(axis + 1, shape_.rank());
    for (std::int64_t i = 0; i < shown(axis); ++i) {
      const bool tail = gap(axis) && i >= options_.edge_items;
      collect(axis + 1, offset + (tail ? shape_[axis] - shown(axis) + i : i) * stride, out);
    }
  }

  std::string next_word() {
    const std::string& word = words_[next_++];
    return std::string(width_ - word.size(), ' ') + word;
  }

  std::string nested(int axis, std::size_t indent) {
    if (shape_.rank() == 0) return next_word();
    const int deeper = shape_.rank() - axis - 1;
    const std::string new_line =
        "," + std::string(static_cast<std::size_t>(std::max(deeper, 1)), '\n') + std::string(indent + 1, ' ');
    std::string out = "[";
    std::size_t column = indent + 1;
    const auto put = [&](const std::string& item) {
      if (out.size() > 1) {
        const bool wrap =
            deeper > 0 || column + 2 + width_ > static_cast<std::size_t>(std::max(options_.line_width, 0));
        out += wrap ? new_line : ", ";
        column = wrap ? indent + 1 : column + 2;
      }
      out += item;
      column += width_;
    };
    for (std::int64_t i = 0; i < shown(axis); ++i) {
      if (gap(axis) && i == options_.edge_items) put("…");
      put(deeper > 0 ? nested(axis + 1, indent + 1) : next_word());
    }
    return out + "]";
  }

  Shape shape_;
  PrintOptions options_;
  bool summarised_;
  std::vector<std::string> words_;
  std::size_t width_ = 0, next_ = 0;
};

}  // namespace detail

/// A tensor as text. The dtype is shown unless it is float32, the shape if the elements do not show it; M
/// replicas of a parameter are printed as [M, shape…] with a note. Integers are written "3."; scientific
/// notation is used where magnitudes differ by more than a factor of 1000, or leave [1e-4, 1e8). The format
/// follows PyTorch's and is not meant to be parsed.
inline std::string to_string(const Tensor& t, const PrintOptions& options = {}) {
  if (!t.defined()) return "tensor(undefined)";
  check(options.edge_items > 0 && options.precision >= 0, "to_string",
        "edge_items must be positive and precision not negative, got ", options.edge_items, " and ",
        options.precision);
  const auto& replicas = t.impl().replicas;
  const Shape shape = replicas ? t.shape().prepended(replicas->count()) : t.shape();
  const void* data = t.raw_with_replicas();
  std::vector<std::byte> host;
  if (!t.device().is_cpu()) {
    host.resize(static_cast<std::size_t>(shape.numel()) * size_of(t.dtype()));
    t.backend().copy_to_host(host.data(), data, host.size());
    data = host.data();
  }
  constexpr std::string_view open = "tensor(";
  std::string out(open);
  bool show_shape = false;
  if (shape.numel() == 0) {
    out += "[]";
    show_shape = shape.rank() != 1;
  } else {
    detail::TensorPrinter printer(shape, t.dtype(), data, options);
    out += printer.text(open.size());
    show_shape = printer.summarised();
  }
  if (show_shape || replicas) out += concat(", shape=", t.shape());
  if (replicas) out += concat(", replicated (M = ", replicas->count(), ")");
  if (t.dtype() != float32) out += concat(", dtype=", name_of(t.dtype()));
  if (!t.device().is_cpu()) out += concat(", device=", t.device());
  if (t.requires_grad())
    out += t.is_leaf() ? std::string(", requires_grad") : concat(", from=", t.node()->name());
  return out + ")";
}
inline std::string Tensor::to_string() const { return lpf::to_string(*this); }

template <class Traits>
std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& out, const Tensor& t) {
  const std::string text = t.to_string();
  return out.write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace lpf
