// Means and standard deviations for normalising images: (x - mean) / sd, with pixels x in [0, 1].
#pragma once

#include "lpf/data/dataset.hpp"

namespace lpf {

/// The constants of the paper's ResNet runs for CIFAR-10 and CIFAR-100. They are conventional; the deviations
/// are not those of the whole set, for which see pixel_statistics().
inline ChannelStatistics cifar_statistics() { return {{.4914, .4822, .4465}, {.2023, .1994, .2010}}; }
/// MNIST's own.
inline ChannelStatistics mnist_statistics() { return {{.1307}, {.3081}}; }

/// Mean and standard deviation of each channel of the images, for pixels in [0, 1]: uint8 is divided by 255,
/// float is used unchanged. (For CIFAR-10's training set: .4914, .4822, .4465 and .2470, .2435, .2616, which
/// the paper's wide networks are trained with.) Throws ValueError if there are no images.
inline ChannelStatistics pixel_statistics(const Tensor& images) {
  ChannelStatistics s = channel_statistics(images);
  if (images.dtype() == DType::uint8) {
    for (double& m : s.mean) m /= 255;
    for (double& d : s.sd) d /= 255;
  }
  return s;
}

}  // namespace lpf
