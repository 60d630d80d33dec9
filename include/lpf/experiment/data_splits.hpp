// The data of a run: training, validation and test images.
#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <utility>

#include "lpf/data/augment/augment.hpp"
#include "lpf/data/noise.hpp"
#include "lpf/data/sets/cifar.hpp"
#include "lpf/data/sets/digits.hpp"
#include "lpf/data/sets/idx.hpp"
#include "lpf/data/sets/image_folder.hpp"
#include "lpf/data/sets/mnist1d.hpp"
#include "lpf/experiment/settings.hpp"

namespace lpf::experiment {

/// Images uint8, or float, in [0, 1] (MNIST-1D: sequences [n, 1, 40, 1] of mean 0 and deviation 1), of shape
/// [n, h, w, c]; the loaders apply `scaling`.
struct DataSplits {
  TensorDataset train, validation, test;  // validation may be empty
  ChannelStatistics scaling;              // empty: none
  std::string note = "";                  // about files that were left out

  Shape input() const { return train.images.shape().slice(1, 4); }
};
using Task [[deprecated("use DataSplits")]] = DataSplits;

namespace detail {

/// The set's training and test images, unprocessed.
struct Source {
  TensorDataset train, test;
  std::string note = "";
};

inline Source read_folder(const Settings& s) {
  namespace fs = std::filesystem;
  const fs::path root = lpf::detail::path_of(s.data);
  ImageFolderOptions options{.height = s.image_size, .width = s.image_size};
  ImageFolder train = image_folder(lpf::detail::text_of(root / "train"), options);
  options.classes = train.classes;
  std::string folder = lpf::detail::text_of(root / "test");
  std::error_code ignored;
  if (const fs::path val = root / "val"; fs::is_directory(val, ignored)) {
    const fs::path list = val / "val_annotations.txt";  // of TinyImageNet
    const bool listed = fs::exists(list, ignored);
    folder = lpf::detail::text_of(listed ? val / "images" : val);
    if (listed) options.list = lpf::detail::text_of(list);
  }
  ImageFolder test = image_folder(folder, options);
  for (const auto& [ending, count] : test.skipped) train.skipped[ending] += count;
  const std::string skipped = train.skipped_text();
  return {std::move(train.data), std::move(test.data),
          skipped.empty() ? "" : concat("left out of '", s.data, "', since they cannot be read: ", skipped)};
}

inline Source read_source(const Settings& s) {
  if (s.dataset == "mnist1d") return {mnist1d_images(Split::train), mnist1d_images(Split::test)};
  check(!s.data.empty(), "train", "--dataset ", s.dataset,
        " needs --data, the folder of its files (scripts/get-data fetches them)");
  const DType u8 = DType::uint8;
  if (s.dataset == "mnist")
    return {mnist(s.data, Split::train, {.dtype = u8}), mnist(s.data, Split::test, {.dtype = u8})};
  if (s.dataset == "cifar10")
    return {cifar10(s.data, Split::train, {.dtype = u8}), cifar10(s.data, Split::test, {.dtype = u8})};
  if (s.dataset == "cifar100")
    return {cifar100(s.data, Split::train, {.dtype = u8}), cifar100(s.data, Split::test, {.dtype = u8})};
  return read_folder(s);
}

inline ChannelStatistics scaling_of(const Settings& s, const Tensor& images) {
  if (s.normalize == "none") return {};
  if (s.normalize == "own") return pixel_statistics(images);
  if (s.dataset == "mnist") return mnist_statistics();
  check(s.dataset.starts_with("cifar"), "train", "--normalize customary is for mnist and cifar; ", s.dataset,
        " has no such constants: use own, or none");
  return cifar_statistics();
}

inline Tensor unit_pixels(const Tensor& images) {
  return images.dtype() == DType::uint8 ? lpf::normalize(images.to(float32), {{0}, {255}}) : images;
}

/// Number of the set's training images used for training. ValueError if there are too few.
inline std::int64_t training_images(const Settings& s, std::int64_t all) {
  const std::int64_t rest = all - s.validation;
  check(rest > 0 && s.train_samples <= rest, "train", "--train-samples ", s.train_samples,
        " and --validation ", s.validation, ": only ", all, " training images are there");
  return s.train_samples > 0 ? s.train_samples : rest;
}

}  // namespace detail

/// Reads and prepares the data set: the split (by the seed), noise on training labels and pixels, the
/// scaling. The test set of digits is 500 of its images, by the seed too. Throws what the readers throw, and
/// ValueError for too few images.
inline DataSplits make_splits(const Settings& s) {
  std::string note;
  const auto parts = [&]() -> std::array<TensorDataset, 3> {
    if (s.dataset == "digits") {
      const TensorDataset all = digits({.flat = false});
      return split(all, {detail::training_images(s, all.size() - 500), s.validation, 500}, s.seed);
    }
    auto [train, test, left_out] = detail::read_source(s);
    note = std::move(left_out);
    const std::int64_t wanted = detail::training_images(s, train.size());
    if (s.train_samples == 0 && s.validation == 0) return {train, train.take(0), test};
    auto [kept, validation] = split(train, {wanted, s.validation}, s.seed);
    return {std::move(kept), std::move(validation), std::move(test)};
  }();
  DataSplits splits{parts[0], parts[1], parts[2], {}, note};
  splits.scaling = detail::scaling_of(s, splits.train.images);
  if (s.label_noise > 0)
    splits.train = with_label_noise(splits.train, {.probability = s.label_noise, .seed = s.seed});
  if (s.data_noise > 0)
    splits.train = with_data_noise(
        {detail::unit_pixels(splits.train.images), splits.train.labels, splits.train.classes()},
        {.sigma = s.data_noise, .seed = s.seed});
  return splits;
}

/// Batches of training images, augmented and scaled, or a process's share of them. Drops a last batch too small for M,
/// `slices` or `shards` parts.
inline DataLoader train_loader(const Settings& s, const DataSplits& splits, BatchShare share = nullptr) {
  AugmentOptions augment = named_augmentation(s.augment, splits.train.classes());
  augment.normalization = splits.scaling;
  augment.seed = s.seed;
  const std::int64_t rest = splits.train.size() % s.batch;
  LoaderOptions options{.batch_size = s.batch, .seed = s.seed, .share = std::move(share)};
  options.drop_last = rest > 0 && rest < std::max({s.M, s.slices, s.shards}) && splits.train.size() > s.batch;
  const bool ready = is_floating(splits.train.images.dtype()) && s.augment == "none" && s.normalize == "none";
  if (!ready) options.transform = Augment(augment);
  return DataLoader(splits.train, options);
}

/// Batches of images for evaluation, scaled.
inline DataLoader test_loader(const TensorDataset& data, const DataSplits& splits) {
  LoaderOptions options{.batch_size = 256, .shuffle = false};
  if (!is_floating(data.images.dtype()) || !splits.scaling.mean.empty())
    options.transform = Augment({.normalization = splits.scaling});
  return DataLoader(data, options);
}

/// Properties of a data set known without reading it.
struct DataShape {
  Shape input;
  std::int64_t classes, train, test = 10'000;
};
inline DataShape data_shape(const Settings& s) {
  const auto used = [&](std::int64_t all) { return detail::training_images(s, all); };
  if (s.dataset == "digits") return {{8, 8, 1}, 10, used(1297), 500};
  if (s.dataset == "mnist1d") return {{1, 40, 1}, 10, used(4000), 1000};
  if (s.dataset == "mnist") return {{28, 28, 1}, 10, used(60'000)};
  if (s.dataset == "cifar10") return {{32, 32, 3}, 10, used(50'000)};
  if (s.dataset == "cifar100") return {{32, 32, 3}, 100, used(50'000)};
  const std::int64_t side = s.image_size > 0 ? s.image_size : 64;
  return {{side, side, 3}, 200, used(100'000)};  // TinyImageNet
}

}  // namespace lpf::experiment
