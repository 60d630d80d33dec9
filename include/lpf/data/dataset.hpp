// Data in memory: samples with labels, subsets, and normalisation.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lpf/core/philox.hpp"
#include "lpf/tensor/tensor.hpp"

namespace lpf {

/// A batch of samples and their labels: `auto [x, y] = batch`.
struct Batch {
  Tensor x, y;
};

namespace detail {

/// Copies entries `index` of the first axis of a tensor on the CPU.
LPF_ONCE Tensor gather_rows(const Tensor& x, std::span<const std::int64_t> index) {
  const std::int64_t n = x.size(0);
  const std::size_t bytes = static_cast<std::size_t>(x.shape().product(1, x.rank())) * size_of(x.dtype());
  Tensor out = empty(x.shape().with(0, static_cast<std::int64_t>(index.size())),
                     {.dtype = x.dtype(), .device = Device::cpu()});
  const auto* from = static_cast<const std::byte*>(x.raw());
  auto* to = static_cast<std::byte*>(out.raw());
  for (const std::int64_t i : index) {
    check<IndexError>(i >= 0 && i < n, "dataset", "sample ", i, " is outside [0, ", n, ")");
    std::memcpy(to, from + static_cast<std::size_t>(i) * bytes, bytes);
    to += bytes;
  }
  return out;
}

}  // namespace detail

/// Samples in memory (on the CPU): images [n, …] and one label, or one target of any shape, per image.
struct TensorDataset {
  Tensor images, labels;

  /// Throws ShapeError unless there is one label per image, IndexError for an integer label outside
  /// [0, classes). `classes` defaults to the largest label plus one.
  LPF_ONCE TensorDataset(Tensor images_, Tensor labels_, std::int64_t classes = 0)
      : images(std::move(images_)), labels(std::move(labels_)), classes_(classes) {
    check<ShapeError>(images.rank() >= 1 && labels.rank() >= 1 && images.size(0) == labels.size(0), "dataset",
                      "needs as many labels as images: images are ", images.shape(), ", labels ",
                      labels.shape());
    check<DeviceError>(images.device().is_cpu() && labels.device().is_cpu(), "dataset",
                       "lives on the CPU, images are on ", images.device(), ", labels on ", labels.device(),
                       ": DataLoader moves each batch");
    check(classes >= 0, "dataset", "the number of classes cannot be negative, got ", classes);
    if (labels.dtype() != DType::int64) return;
    for (const std::int64_t label : labels.span<std::int64_t>()) {
      check<IndexError>(label >= 0 && (classes == 0 || label < classes), "dataset", "label ", label,
                        " is outside [0, ", classes == 0 ? std::string("…") : std::to_string(classes), ")");
      if (classes == 0) classes_ = std::max(classes_, label + 1);
    }
  }

  std::int64_t size() const { return images.size(0); }
  /// Number of classes; 0 if the labels are not integers.
  std::int64_t classes() const { return classes_; }
  /// Number of samples of each class.
  std::vector<std::int64_t> class_counts() const {
    std::vector<std::int64_t> counts(static_cast<std::size_t>(classes_));
    if (classes_ > 0)
      for (const std::int64_t label : labels.span<std::int64_t>()) ++counts[static_cast<std::size_t>(label)];
    return counts;
  }

  /// Copies the samples of these indices, in this order. Throws IndexError.
  Batch batch(std::span<const std::int64_t> index) const {
    return {detail::gather_rows(images, index), detail::gather_rows(labels, index)};
  }
  TensorDataset subset(std::span<const std::int64_t> index) const {
    auto [x, y] = batch(index);
    return {std::move(x), std::move(y), classes_};
  }
  TensorDataset subset(std::initializer_list<std::int64_t> index) const {
    return subset(std::span(index.begin(), index.size()));
  }
  /// The first n samples, without a copy. Throws ValueError unless 0 <= n <= size().
  TensorDataset take(std::int64_t n) const {
    check(n >= 0 && n <= size(), "take", "needs 0 <= n <= ", size(), ", got ", n);
    return {images.alias(images.shape().with(0, n)), labels.alias(labels.shape().with(0, n)), classes_};
  }

 private:
  std::int64_t classes_;
};

namespace detail {
LPF_ONCE std::vector<TensorDataset> split(const TensorDataset& data, std::span<const std::int64_t> sizes,
                                          std::uint64_t seed) {
  std::int64_t known = 0, open = 0;
  for (const std::int64_t s : sizes) {
    check(s >= -1, "split", "a size must be at least 0, or -1 for what remains, got ", s);
    s == -1 ? ++open : known += s;
    check(known <= data.size() && open <= 1, "split", "the sizes ",
          open > 1 ? "leave more than one open" : "add up to more", " than the ", data.size(),
          " samples allow");
  }
  const auto order = permutation(data.size(), {.seed = seed, .purpose = Purpose::split});
  auto next = order.begin();
  std::vector<TensorDataset> parts;
  for (const std::int64_t s : sizes) {
    const auto begin = next;
    next += s == -1 ? data.size() - known : s;
    parts.push_back(data.subset(std::span(begin, next)));
  }
  return parts;
}
}  // namespace detail

/// Random disjoint parts of the given sizes: `auto [train, test] = split(data, {1000, 500}, seed)`. One
/// size may be -1 for the remaining samples; otherwise the remaining samples are left out. Throws
/// ValueError if there are not enough samples.
template <std::size_t N>
std::array<TensorDataset, N> split(const TensorDataset& data, const std::int64_t (&sizes)[N],
                                   std::uint64_t seed) {
  auto parts = detail::split(data, sizes, seed);
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<TensorDataset, N>{std::move(parts[I])...};
  }
  (std::make_index_sequence<N>());
}

struct KFoldOptions {
  std::int64_t folds = 5;
  std::int64_t fold = 0;  ///< index of the validation set
  std::uint64_t seed = 0;
};
struct Fold {
  TensorDataset train, validation;
};
/// One round of k-fold cross-validation: the samples are split at random into k parts whose sizes
/// differ by at most one; part `fold` is the validation set, the others are the training set. Throws
/// ValueError unless 2 <= k <= size().
LPF_ONCE Fold k_fold(const TensorDataset& data, KFoldOptions options) {
  const std::int64_t n = data.size(), k = options.folds, i = options.fold;
  check(k >= 2 && k <= n, "k_fold", "needs 2 <= folds <= ", n, " (the samples), got ", k);
  check(i >= 0 && i < k, "k_fold", "fold must be in [0, ", k, "), got ", i);
  auto order = permutation(n, {.seed = options.seed, .purpose = Purpose::split, .draw = 1});
  const auto begin = order.begin() + n / k * i + std::min(i, n % k), end = begin + n / k + (i < n % k);
  std::rotate(order.begin(), begin, end);
  const std::span all(order);
  const auto held = static_cast<std::size_t>(end - begin);
  return {data.subset(all.subspan(held)), data.subset(all.first(held))};
}

/// Mean and standard deviation of each channel (the last axis of images [n, h, w, c]), or of all
/// numbers of [n, d].
struct ChannelStatistics {
  std::vector<double> mean, sd;
};
LPF_ONCE ChannelStatistics channel_statistics(const Tensor& images) {
  const auto channels = static_cast<std::size_t>(images.rank() == 4 ? images.size(3) : 1);
  check(images.numel() > 0, "channel_statistics", "there are no images: shape ", images.shape());
  std::vector<double> mean(channels), sd(channels);
  const double count = static_cast<double>(images.numel()) / static_cast<double>(channels);
  const auto add_up = [&](std::vector<double>& sums, auto term) {
    for (std::int64_t row = 0; row < images.size(0); ++row) {
      const std::vector<double> x = images[row].to_vector();
      for (std::size_t i = 0; i < x.size(); ++i) sums[i % channels] += term(x[i], i % channels);
    }
  };
  add_up(mean, [](double x, std::size_t) { return x; });
  for (double& m : mean) m /= count;
  add_up(sd, [&](double x, std::size_t c) { return (x - mean[c]) * (x - mean[c]) / count; });
  for (double& s : sd) s = std::sqrt(s);
  return {std::move(mean), std::move(sd)};
}

/// (x - mean) / sd per channel; a single mean and sd apply to all channels.
LPF_ONCE Tensor normalize(const Tensor& images, const ChannelStatistics& statistics) {
  const std::vector<double>&mean = statistics.mean, &sd = statistics.sd;
  check<ShapeError>(mean.size() == sd.size() && !mean.empty() && images.rank() >= 1 &&
                        (mean.size() == 1 || static_cast<std::int64_t>(mean.size()) == images.size(-1)),
                    "normalize",
                    "needs one mean and sd for all, or one of each for every channel: images are ",
                    images.shape(), ", with ", mean.size(), " means and ", sd.size(), " sds");
  for (const double s : sd) check(s > 0, "normalize", "a standard deviation must be positive, got ", s);
  Tensor out = empty(images.shape(), images.options());
  visit_floating("normalize", images.dtype(), [&]<class T>(T) {
    const auto x = images.span<T>(), y = out.span<T>();
    for (std::size_t i = 0, c = 0; i < x.size(); ++i, c = c + 1 == mean.size() ? 0 : c + 1)
      y[i] = static_cast<T>((static_cast<double>(x[i]) - mean[c]) / sd[c]);
  });
  return out;
}

}  // namespace lpf
