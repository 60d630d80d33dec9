// MNIST-1D (S. Greydanus and D. Kobak, Scaling down deep learning with MNIST-1D, ICML 2024,
// https://github.com/greydanus/mnist1d, Apache-2.0): ten templates of 12 points, one a digit, made hard to tell apart,
// as sequences of 40 points. The set is computed from a seed; with the default one it is the published set.
//
// A sequence begins as a template, and is then
//   padded      by 36 … 60 zeros, and stretched to 72 points
//   scaled      by 0.8 … 1.2
//   translated  by 0 … 47 points, around the end
//   made noisy  smoothed Gaussian noise where it is zero, and independent noise everywhere
//   sheared     by a line of slope −0.375 … 0.375
//   shortened   to 40 points
// The published program draws from NumPy's RandomState; NumPyRandom repeats its numbers.
#pragma once

#include <array>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "lpf/core/host_device.hpp"
#include "lpf/data/dataset.hpp"
#include "lpf/data/sets/idx.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf {

struct MNIST1DOptions {
  std::int64_t samples = 5000;  ///< of training and test set together, a multiple of 10
  double train_fraction = 0.8;  ///< of them
  std::uint32_t seed = 42;      ///< the published set's
  DType dtype = DType::float32;
  bool flat = true;  ///< samples [n, 40], or [n, 40, 1] for conv1d
};

namespace detail {

/// The numbers of numpy.random.seed(seed) and what follows: rand(), randn(), choice(n), permutation(n).
class NumPyRandom {
 public:
  explicit NumPyRandom(std::uint32_t seed) : bits_(seed) {}

  /// Uniform in [0, 1), 53 bits.
  double uniform() {
    const auto high = static_cast<double>(next() >> 5), low = static_cast<double>(next() >> 6);
    return (high * 67108864.0 + low) / 9007199254740992.0;
  }
  /// Normal, by Marsaglia's polar method; every second number is the other one of its pair.
  double normal() {
    if (has_second_) {
      has_second_ = false;
      return second_;
    }
    for (;;) {
      const double a = 2 * uniform() - 1, b = 2 * uniform() - 1, r = a * a + b * b;
      if (r >= 1 || r == 0) continue;
      const double f = std::sqrt(-2 * std::log(r) / r);
      second_ = f * a;
      has_second_ = true;
      return f * b;
    }
  }
  /// Uniform in 0 … largest: bits below a mask, drawn again while too large.
  std::uint32_t below_or_at(std::uint32_t largest) {
    std::uint32_t mask = largest;
    for (const int shift : {1, 2, 4, 8, 16}) mask |= mask >> shift;
    std::uint32_t value;
    while ((value = next() & mask) > largest) {}
    return value;
  }
  std::vector<std::int64_t> permutation(std::int64_t n) {
    std::vector<std::int64_t> out(static_cast<std::size_t>(n));
    std::iota(out.begin(), out.end(), std::int64_t{0});
    for (std::size_t i = out.size(); i-- > 1;)
      std::swap(out[i], out[below_or_at(static_cast<std::uint32_t>(i))]);
    return out;
  }

 private:
  std::uint32_t next() { return static_cast<std::uint32_t>(bits_()); }

  std::mt19937 bits_;
  double second_ = 0;
  bool has_second_ = false;
};

namespace sequences {

using Values = std::vector<double>;

inline Values linspace(double first, double last, std::size_t n) {
  Values out(n);
  const double step = (last - first) / static_cast<double>(n - 1);
  for (std::size_t i = 0; i < n; ++i) out[i] = first + static_cast<double>(i) * step;
  out.back() = last;
  return out;
}

/// `y` at n points from its first to its last, linear in between: numpy.interp. Zero between zeros.
inline Values interpolate(const Values& y, std::size_t n) {
  const Values at = linspace(0, 1, y.size()), wanted = linspace(0, 1, n);
  Values out(n);
  for (std::size_t i = 0, j = 0; i < n; ++i) {
    while (j + 1 < y.size() && at[j + 1] <= wanted[i]) ++j;
    out[i] = y[j];
    if (j + 1 == y.size() || at[j] == wanted[i]) continue;
    out[i] += (y[j + 1] - y[j]) / (at[j + 1] - at[j]) * (wanted[i] - at[j]);
  }
  return out;
}

/// Convolved with a Gaussian of deviation 2 cut at 8, reflected at the ends: scipy.ndimage.gaussian_filter.
inline Values smooth(const Values& x) {
  constexpr int radius = 8;
  std::array<double, 2 * radius + 1> weight;
  double sum = 0;
  for (int k = -radius; k <= radius; ++k)
    sum += weight[static_cast<std::size_t>(k + radius)] = std::exp(-k * k / 8.0);
  Values out(x.size(), 0.0);
  const int n = static_cast<int>(x.size());
  for (int i = 0; i < n; ++i)
    for (int k = -radius; k <= radius; ++k) {
      const int j = i + k, inside = j < 0 ? -1 - j : j >= n ? 2 * n - 1 - j : j;
      out[static_cast<std::size_t>(i)] +=
          weight[static_cast<std::size_t>(k + radius)] / sum * x[static_cast<std::size_t>(inside)];
    }
  return out;
}

/// The templates, of mean 0 and deviation 1 and then moved to begin at 0, over 6.
inline std::vector<Values> templates() {
  std::vector<Values> all{
      {5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5},     {5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5},
      {5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5}, {5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5},
      {5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5},     {5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5},
      {5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5},     {5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5},
      {5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5},       {5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5}};
  for (Values& t : all) {
    const auto n = static_cast<double>(t.size());
    double mean = 0, square = 0;
    for (const double v : t) mean += v / n;
    for (double& v : t) v -= mean, square += v * v / n;
    for (double& v : t) v /= std::sqrt(square);
    const double first = t.front();
    for (double& v : t) v = (v - first) / 6;
  }
  return all;
}

/// A sequence of 40 points from a template.
inline Values sample(Values x, NumPyRandom& random) {
  constexpr std::size_t longest = 12 + 60, length = 40;
  for (double& v : x) v += 1e-8;  // tells its own zeros from the padding's
  x.resize(x.size() + 36 + static_cast<std::size_t>(random.uniform() * 25), 0.0);
  x = interpolate(x, longest);
  const double scale = 1 + 0.4 * (random.uniform() - 0.5);
  for (double& v : x) v *= scale;
  std::rotate(x.begin(), x.end() - random.below_or_at(47), x.end());
  Values noise(longest);
  for (double& v : noise) v = 0.25 * random.normal();
  noise = smooth(noise);
  for (std::size_t i = 0; i < longest; ++i)
    if (x[i] == 0) x[i] = noise[i];
  for (double& v : x) v += 0.02 * random.normal();
  const double slope = 0.75 * (random.uniform() - 0.5);
  const Values line = linspace(-0.5, 0.5, longest);
  for (std::size_t i = 0; i < longest; ++i) x[i] -= slope * line[i];
  return interpolate(x, length);
}

}  // namespace sequences
}  // namespace detail

/// MNIST-1D's training or test set: sequences normalised to mean 0 and deviation 1 over both, labels 0 … 9 (int64).
/// With the default options they are the 4,000 and 1,000 of the published make_dataset(). Throws ValueError unless
/// there are as many samples of each class and both sets have some, DTypeError unless float.
inline TensorDataset mnist1d(Split split = Split::train, const MNIST1DOptions& options = {}) {
  using detail::sequences::Values;
  const auto train =
      lpf::detail::saturated<std::int64_t>(static_cast<double>(options.samples) * options.train_fraction);
  check(options.samples > 0 && options.samples % 10 == 0 && options.samples <= 10'000'000, "mnist1d",
        "samples must be a positive multiple of 10 up to ten million, got ", options.samples);
  check(train > 0 && train < options.samples, "mnist1d", "train_fraction ", options.train_fraction, " of ",
        options.samples, " samples leaves one of the two sets empty");
  detail::NumPyRandom random(options.seed);
  std::vector<Values> all;
  for (const Values& digit : detail::sequences::templates())
    for (std::int64_t i = 0; i < options.samples / 10; ++i)
      all.push_back(detail::sequences::sample(digit, random));
  const std::vector<std::int64_t> order = random.permutation(options.samples);

  const auto count = static_cast<double>(all.size() * all[0].size());
  double mean = 0, square = 0;
  for (const Values& x : all)
    for (const double v : x) mean += v / count;
  for (const Values& x : all)
    for (const double v : x) square += (v - mean) * (v - mean) / count;
  const double sd = std::sqrt(square);

  const bool first = split == Split::train;
  const std::int64_t begin = first ? 0 : train, n = first ? train : options.samples - train,
                     length = std::ssize(all[0]);
  Tensor sequences = empty(options.flat ? Shape{n, length} : Shape{n, length, 1},
                           {.dtype = options.dtype, .device = Device::cpu()});
  Tensor labels = empty({n}, {.dtype = DType::int64, .device = Device::cpu()});
  visit_floating("mnist1d", options.dtype, [&]<class T>(T) {
    T* to = sequences.data<T>();
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t k = order[static_cast<std::size_t>(begin + i)];
      for (const double v : all[static_cast<std::size_t>(k)]) *to++ = static_cast<T>((v - mean) / sd);
      labels.data<std::int64_t>()[i] = k / (options.samples / 10);
    }
  });
  return {sequences, labels, 10};
}

/// The same as images of one row, [n, 1, 40, 1], for networks that take images.
inline TensorDataset mnist1d_images(Split split = Split::train) {
  const TensorDataset data = mnist1d(split);
  return {reshape(data.images, {data.size(), 1, data.images.size(1), 1}), data.labels, data.classes()};
}

}  // namespace lpf
