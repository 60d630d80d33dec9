// Image augmentation as used to train the paper's wide networks, batch by batch:
//
//   DataLoader loader(cifar10(folder, Split::train, {.dtype = uint8}),
//                     {.batch_size = 128, .seed = 1,
//                      .transform = Augment({.crop_padding = 4, .flip = true, .cutout = 16,
//                                            .normalization = cifar_statistics(), .seed = 1})});
//
// In this order: a crop of the image's size from the zero-padded image; a horizontal flip with probability
// 1/2; AutoAugment (data/augment/auto_augment.hpp), on bytes; x / 255, and (x - mean) / sd; cutout (DeVries,
// Taylor 2017), a square of zeros, which after normalisation is the mean. The square's centre is uniform over
// the image, so a part of the square may lie outside.
//
// The random numbers of a sample are a function of (seed, epoch, index of the sample) alone: they depend
// neither on threads nor on the other samples of the batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/data/augment/auto_augment.hpp"
#include "lpf/data/loader.hpp"
#include "lpf/data/statistics.hpp"
#include "lpf/io/file.hpp"

namespace lpf {

struct AugmentOptions {
  std::int64_t crop_padding = 0;  ///< border in pixels for the random crop; 0: no crop
  bool flip = false;              ///< with probability 1/2
  bool auto_augment = false;      ///< needs uint8 images
  std::int64_t cutout = 0;        ///< side of the square in pixels; 0: none
  double cutout_probability = 0.5;
  ChannelStatistics normalization{};  ///< for pixels in [0, 1], per channel or one for all; empty: none
  DType dtype = DType::float32;       ///< of the output, float32 or float64
  std::uint8_t fill = 128;  ///< value outside the image for AutoAugment's shears, translations, rotations
  std::uint64_t seed = 0;
};

/// The paper's augmentations by name (reference: its table 4): "none", "crop-flip", "cutout" (crop, flip and
/// cutout, of 16 x 16, or 8 x 8 for 100 classes) and "autoaugment" (all of these and AutoAugment). Throws
/// ValueError, which suggests the nearest name, for any other.
inline AugmentOptions named_augmentation(std::string_view name, std::int64_t classes = 10) {
  const std::vector<std::string> names{"none", "crop-flip", "cutout", "autoaugment"};
  const auto level = std::find(names.begin(), names.end(), name) - names.begin();
  check(level < 4, "augment", "there is no augmentation '", name, "'", detail::suggest(name, names));
  AugmentOptions out;
  if (level >= 1) out.crop_padding = 4, out.flip = true;
  if (level >= 2) out.cutout = classes == 100 ? 8 : 16;
  out.auto_augment = level >= 3;
  return out;
}

/// Augments batches of images [n, h, w, c], uint8 or float, to float; a transform for DataLoader.
class Augment {
 public:
  /// Throws ValueError for options out of range, DTypeError unless dtype is float.
  explicit Augment(AugmentOptions options) : options_(std::move(options)) {
    const ChannelStatistics& s = options_.normalization;
    check(options_.crop_padding >= 0 && options_.cutout >= 0, "augment",
          "crop_padding and cutout must be at least 0, got ", options_.crop_padding, " and ",
          options_.cutout);
    check(s.mean.size() == s.sd.size(), "augment", "normalization has ", s.mean.size(), " means and ",
          s.sd.size(), " deviations");
    for (const double sd : s.sd) check(sd > 0, "augment", "a deviation must be positive, got ", sd);
    cutout_threshold_ = bernoulli_threshold(options_.cutout_probability);
    visit_floating("augment", options_.dtype, [](auto) {});
  }

  const AugmentOptions& options() const { return options_; }

  /// Throws ShapeError, DTypeError for unsupported images, ValueError for an epoch or sample beyond 2^32.
  void operator()(Batch& batch, std::int64_t epoch, std::span<const std::int64_t> samples) const {
    const Tensor& x = batch.x;
    const std::size_t means = options_.normalization.mean.size();
    check<ShapeError>(x.rank() == 4 && x.size(0) == static_cast<std::int64_t>(samples.size()), "augment",
                      "needs images [n, h, w, c], one for each of ", samples.size(), " samples, got ",
                      x.shape());
    check<ShapeError>(means <= 1 || static_cast<std::int64_t>(means) == x.size(3), "augment",
                      "normalization is for ", means, " channels, images are ", x.shape());
    check<DTypeError>(
        x.dtype() == DType::uint8 || (is_floating(x.dtype()) && !options_.auto_augment), "augment",
        options_.auto_augment ? "AutoAugment works on uint8 images" : "needs uint8 or float images", ", got ",
        name_of(x.dtype()), ": read the data set with .dtype = uint8");
    check(epoch >= 0 && epoch <= 0xFFFFFFFF, "augment", "epoch must be in [0, 2^32), got ", epoch);
    for (const std::int64_t s : samples)
      check(s >= 0 && s <= 0xFFFFFFFF, "augment", "a sample must be in [0, 2^32), got ", s);
    Tensor out = empty(x.shape(), {.dtype = options_.dtype, .device = Device::cpu()});
    visit_floating("augment", options_.dtype, [&]<class To>(To) {
      if (x.dtype() == DType::uint8) {
        augment<std::uint8_t, To>(x, out, epoch, samples);
      } else {
        visit_floating("augment", x.dtype(),
                       [&]<class From>(From) { augment<From, To>(x, out, epoch, samples); });
      }
    });
    batch.x = std::move(out);
  }

 private:
  // Parameters of the noise keys: three blocks of four words per sample.
  enum Draw : std::uint32_t { crop_and_flip, cutout_square, policy };
  struct Size {
    std::int64_t height, width, channels;
    std::int64_t pixels() const { return height * width * channels; }
  };

  PhiloxWords draw(Draw what, std::int64_t epoch, std::int64_t sample) const {
    return noise_words({.seed = options_.seed,
                        .purpose = Purpose::augmentation,
                        .draw = static_cast<std::uint64_t>(epoch),
                        .parameter = what},
                       static_cast<std::uint32_t>(sample));
  }
  /// Uniform in [0, n).
  static std::int64_t below(std::uint32_t word, std::int64_t n) {
    return static_cast<std::int64_t>(word * static_cast<std::uint64_t>(n) >> 32);
  }

  template <class From, class To>
  void augment(const Tensor& x, const Tensor& out, std::int64_t epoch,
               std::span<const std::int64_t> samples) const {
    const Size size{x.size(1), x.size(2), x.size(3)};
    const auto values = table<To>(size.channels);
    std::vector<From> picture(static_cast<std::size_t>(size.pixels()));
    image_ops::Scratch scratch;
    const From* from = x.data<From>();
    To* to = out.data<To>();
    for (const std::int64_t sample : samples) {
      const PhiloxWords random = draw(crop_and_flip, epoch, sample);
      crop(from, picture.data(), size, below(random.word[0], 2 * options_.crop_padding + 1),
           below(random.word[1], 2 * options_.crop_padding + 1),
           options_.flip && (random.word[2] >> 31) != 0);
      if constexpr (std::is_same_v<From, std::uint8_t>)
        if (options_.auto_augment)
          auto_augment({picture.data(), size.height, size.width, size.channels}, draw(policy, epoch, sample),
                       options_.fill, scratch);
      normalize(picture, values, to, size.channels);
      if (options_.cutout > 0 && random.word[3] < cutout_threshold_)
        cut_out(to, size, draw(cutout_square, epoch, sample));
      from += size.pixels();
      to += size.pixels();
    }
  }

  /// The padded image from row `top` and column `left` on, mirrored if `flip`.
  template <class T>
  void crop(const T* from, T* to, const Size& size, std::int64_t top, std::int64_t left, bool flip) const {
    const std::int64_t down = top - options_.crop_padding, right = left - options_.crop_padding;
    const std::int64_t c = size.channels, row = size.width * c;
    const std::int64_t begin = std::clamp<std::int64_t>(-right, 0, size.width),
                       end = std::clamp<std::int64_t>(size.width - right, 0, size.width);
    for (std::int64_t y = 0; y < size.height; ++y, to += row) {
      const std::int64_t source = y + down;
      if (source < 0 || source >= size.height || begin >= end) {
        std::fill_n(to, row, T(0));
        continue;
      }
      std::fill(to, to + begin * c, T(0));
      std::copy(from + source * row + (begin + right) * c, from + source * row + (end + right) * c,
                to + begin * c);
      std::fill(to + end * c, to + row, T(0));
      if (flip) mirror(to, size.width, c);
    }
  }
  template <class T>
  static void mirror(T* row, std::int64_t width, std::int64_t c) {
    for (T *left = row, *right = row + (width - 1) * c; left < right; left += c, right -= c)
      std::swap_ranges(left, left + c, right);
  }

  /// The value of each byte in each channel.
  template <class To>
  std::vector<To> table(std::int64_t channels) const {
    std::vector<To> out;
    for (std::int64_t c = 0; c < channels; ++c)
      for (int x = 0; x < 256; ++x) out.push_back(static_cast<To>(normalized(x / 255.0, c)));
    return out;
  }
  double normalized(double x, std::int64_t channel) const {
    const ChannelStatistics& s = options_.normalization;
    if (s.mean.empty()) return x;
    const std::size_t c = s.mean.size() == 1 ? 0 : static_cast<std::size_t>(channel);
    return (x - s.mean[c]) / s.sd[c];
  }
  template <class From, class To>
  void normalize(const std::vector<From>& picture, const std::vector<To>& values, To* to,
                 std::int64_t channels) const {
    std::int64_t c = 0;
    for (const From x : picture) {
      if constexpr (std::is_same_v<From, std::uint8_t>) {
        *to++ = values[static_cast<std::size_t>(256 * c + x)];
      } else {
        *to++ = static_cast<To>(normalized(static_cast<double>(x), c));
      }
      c = c + 1 == channels ? 0 : c + 1;
    }
  }

  template <class To>
  void cut_out(To* to, const Size& size, const PhiloxWords& random) const {
    const std::int64_t half = options_.cutout / 2;
    const std::int64_t top = below(random.word[0], size.height) - half,
                       left = below(random.word[1], size.width) - half;
    const std::int64_t first = std::max<std::int64_t>(top, 0),
                       last = std::min(top + options_.cutout, size.height),
                       begin = std::max<std::int64_t>(left, 0),
                       end = std::min(left + options_.cutout, size.width);
    for (std::int64_t y = first; y < last; ++y)
      std::fill(to + (y * size.width + begin) * size.channels, to + (y * size.width + end) * size.channels,
                To(0));
  }

  AugmentOptions options_;
  std::uint64_t cutout_threshold_ = 0;
};

}  // namespace lpf
