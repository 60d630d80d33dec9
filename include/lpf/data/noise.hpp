// Noise added to a data set once, on construction: wrong labels, or noise on the images. Each random number
// is a function of the seed and the index of the sample alone.
#pragma once

#include <cmath>

#include "lpf/core/gaussian.hpp"
#include "lpf/core/host_device.hpp"
#include "lpf/data/dataset.hpp"

namespace lpf {

struct LabelNoiseOptions {
  double probability = 0;
  std::uint64_t seed = 0;
};

/// The data set with label noise: with the given probability a label is replaced by a uniform one, the right
/// one included (so that p (C - 1) / C of them are wrong). For one seed, the labels replaced at a smaller
/// probability are a subset of those at a larger one. The images are shared. Throws ValueError, DTypeError
/// if the labels are not classes.
LPF_ONCE TensorDataset with_label_noise(const TensorDataset& data, LabelNoiseOptions options) {
  check<DTypeError>(data.labels.dtype() == DType::int64 && data.labels.rank() == 1, "label noise",
                    "needs one int64 label for each sample, labels are ", name_of(data.labels.dtype()),
                    " of shape ", data.labels.shape());
  const NoiseKey chosen{.seed = options.seed, .purpose = Purpose::label_noise, .parameter = 0};
  const NoiseKey drawn{.seed = options.seed, .purpose = Purpose::label_noise, .parameter = 1};
  const std::uint64_t threshold = bernoulli_threshold(options.probability);
  Tensor labels = empty(data.labels.shape(), data.labels.options());
  const auto from = data.labels.span<std::int64_t>(), to = labels.span<std::int64_t>();
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto sample = static_cast<std::int64_t>(i);
    to[i] = word_at(chosen, sample) < threshold ? uniform_below_at(drawn, sample, data.classes()) : from[i];
  }
  return {data.images, labels, data.classes()};
}

struct DataNoiseOptions {
  double sigma = 0;
  std::uint64_t seed = 0;
};

/// The data set with images x + sigma e, e from N(0, 1), not clipped. The labels are shared. Throws
/// ValueError for a negative sigma, DTypeError unless the images are float.
LPF_ONCE TensorDataset with_data_noise(const TensorDataset& data, DataNoiseOptions options) {
  check(options.sigma >= 0 && std::isfinite(options.sigma), "data noise", "sigma must be at least 0, got ",
        options.sigma);
  const NoiseKey key{.seed = options.seed, .purpose = Purpose::data_noise};
  Tensor images = empty(data.images.shape(), data.images.options());
  visit_floating("data noise", images.dtype(), [&]<class T>(T) {
    check_noise_range(key, 0, images.numel(), NoiseBlock<T>::size);
    images.backend().normal(images.dtype(), key, 0, images.numel(), images.raw());
    const auto x = data.images.span<T>(), y = images.span<T>();
    for (std::size_t i = 0; i < x.size(); ++i)
      y[i] = detail::fmadd(static_cast<T>(options.sigma), y[i], x[i]);
  });
  return {images, data.labels, data.classes()};
}

}  // namespace lpf
