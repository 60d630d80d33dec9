// The 1,797 handwritten digits that are compiled in: E. Alpaydin and C. Kaynak, Optical Recognition
// of Handwritten Digits, UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49 (CC
// BY 4.0; see datasets/README.md).
#pragma once

#include <iterator>

#include "lpf/data/dataset.hpp"

namespace lpf {

namespace detail {

inline constexpr char digit_records[][66] = {
#include <lpf_datasets/digits.inc>
};

}  // namespace detail

struct DigitsOptions {
  DType dtype = DType::float32;
  bool flat = true;        ///< images [1797, 64], or [1797, 8, 8, 1]
  bool normalize = false;  ///< to mean 0 and standard deviation 1 over all pixels, instead of [0, 1]
};

/// The UCI handwritten digits: pixels x / 16 in [0, 1], labels 0 … 9 (int64). Throws DTypeError unless float.
inline TensorDataset digits(DigitsOptions options = {}) {
  constexpr std::int64_t n = std::size(detail::digit_records), pixels = 64;
  Tensor images = empty(options.flat ? Shape{n, pixels} : Shape{n, 8, 8, 1},
                        {.dtype = options.dtype, .device = Device::cpu()});
  Tensor labels = empty({n}, {.dtype = DType::int64, .device = Device::cpu()});
  visit_floating("digits", options.dtype, [&]<class T>(T) {
    T* pixel = images.data<T>();
    std::int64_t* label = labels.data<std::int64_t>();
    for (const auto& record : detail::digit_records) {
      for (std::int64_t i = 0; i < pixels; ++i) *pixel++ = static_cast<T>(record[i] - 'a') / T(16);
      *label++ = record[pixels] - '0';
    }
  });
  if (options.normalize) images = normalize(images, channel_statistics(images));
  return {images, labels, 10};
}

}  // namespace lpf
