// Augmentation: the distribution of its random choices, the geometry by hand,
// AutoAugment's operations against Pillow's.
#include "lpf/data/augment/augment.hpp"

#include <map>
#include <numeric>
#include <set>

#include "fixture_case.hpp"

using namespace lpf;

namespace {

const std::map<std::string, AugmentOp> ops{{"shear_x", AugmentOp::shear_x},
                                           {"shear_y", AugmentOp::shear_y},
                                           {"translate_x", AugmentOp::translate_x},
                                           {"translate_y", AugmentOp::translate_y},
                                           {"rotate", AugmentOp::rotate},
                                           {"brightness", AugmentOp::brightness},
                                           {"color", AugmentOp::color},
                                           {"contrast", AugmentOp::contrast},
                                           {"sharpness", AugmentOp::sharpness},
                                           {"posterize", AugmentOp::posterize},
                                           {"solarize", AugmentOp::solarize},
                                           {"autocontrast", AugmentOp::autocontrast},
                                           {"equalize", AugmentOp::equalize},
                                           {"invert", AugmentOp::invert}};

/// n pictures with pairwise different pixels (y, x, c), which are below 256 and not 0.
Tensor pictures(std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c) {
  Tensor out = empty({n, h, w, c}, {.dtype = uint8});
  for (std::int64_t i = 0; i < out.numel(); ++i)
    out.data<std::uint8_t>()[i] = static_cast<std::uint8_t>(1 + (i * 37 + i / 97) % 255);
  return out;
}

using Samples = std::vector<std::int64_t>;
Samples range(std::int64_t n, std::int64_t from = 0) {
  Samples out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), from);
  return out;
}

Tensor augmented(const AugmentOptions& options, const Tensor& x, const Samples& samples,
                 std::int64_t epoch = 0) {
  Batch batch{x, {}};
  Augment{options}(batch, epoch, samples);
  return batch.x;
}

/// The same picture n times, augmented as samples 0 … n - 1.
std::vector<std::vector<float>> draws(const AugmentOptions& options, const Tensor& picture, std::int64_t n) {
  Tensor x = empty(picture.shape().with(0, n), {.dtype = picture.dtype()});
  for (std::int64_t i = 0; i < n; ++i)
    std::copy_n(picture.data<std::uint8_t>(), picture.numel(), x.data<std::uint8_t>() + i * picture.numel());
  const Tensor y = augmented(options, x, range(n));
  std::vector<std::vector<float>> out;
  for (std::int64_t i = 0; i < n; ++i)
    out.emplace_back(y.data<float>() + i * picture.numel(), y.data<float>() + (i + 1) * picture.numel());
  return out;
}

/// The crop at (top, left) of an image with a border of `padding`, mirrored or not.
std::vector<float> cropped(const Tensor& picture, std::int64_t padding, std::int64_t top, std::int64_t left,
                           bool flip) {
  const std::int64_t h = picture.size(1), w = picture.size(2), c = picture.size(3);
  std::vector<float> out;
  for (std::int64_t y = 0; y < h; ++y)
    for (std::int64_t x = 0; x < w; ++x)
      for (std::int64_t k = 0; k < c; ++k) {
        const std::int64_t from_y = y + top - padding, from_x = (flip ? w - 1 - x : x) + left - padding;
        const bool inside = from_y >= 0 && from_y < h && from_x >= 0 && from_x < w;
        out.push_back(
            inside ? static_cast<float>(picture.data<std::uint8_t>()[(from_y * w + from_x) * c + k] / 255.0)
                   : 0.f);
      }
  return out;
}

/// χ² of counts with equal expectations.
double chi_square(const std::vector<double>& counts) {
  const double expected =
      std::accumulate(counts.begin(), counts.end(), 0.0) / static_cast<double>(counts.size());
  double sum = 0;
  for (const double n : counts) sum += (n - expected) * (n - expected) / expected;
  return sum;
}

}  // namespace

TEST_CASE("augment: nothing but a change of type and scale") {
  const Tensor x = pictures(2, 3, 4, 3);
  const Tensor y = augmented({}, x, range(2));
  CHECK(y.dtype() == float32);
  for (std::int64_t i = 0; i < x.numel(); ++i)
    CHECK(y.data<float>()[i] == static_cast<float>(x.data<std::uint8_t>()[i] / 255.0));
  const Tensor z = augmented({.normalization = cifar_statistics(), .dtype = float64}, x, range(2));
  const ChannelStatistics s = cifar_statistics();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const auto c = static_cast<std::size_t>(i % 3);
    CHECK(z.data<double>()[i] == (x.data<std::uint8_t>()[i] / 255.0 - s.mean[c]) / s.sd[c]);
  }
  // floats are unchanged: pixels in [0, 1]
  const Tensor from_float =
      augmented({.normalization = mnist_statistics()}, y.alias({2, 3, 12, 1}), range(2));
  CHECK(from_float.data<float>()[5] ==
        static_cast<float>((static_cast<double>(y.data<float>()[5]) - .1307) / .3081));
}

TEST_CASE("augment: every crop and flip, equally often") {
  const Tensor picture = pictures(1, 4, 5, 3);
  const std::int64_t padding = 2, n = 10000;
  std::map<std::vector<float>, std::size_t> known;
  for (std::int64_t top = 0; top < 5; ++top)
    for (std::int64_t left = 0; left < 5; ++left)
      for (const bool flip : {false, true}) {
        const auto number = known.size();
        REQUIRE(known.emplace(cropped(picture, padding, top, left, flip), number).second);
      }
  REQUIRE(known.size() == 50);
  std::vector<double> counts(50);
  for (const auto& y : draws({.crop_padding = padding, .flip = true, .seed = 3}, picture, n)) {
    const auto found = known.find(y);
    REQUIRE(found != known.end());
    ++counts[found->second];
  }
  CHECK(chi_square(counts) < 85.4);  // 49 degrees of freedom: exceeded once in 1000
  std::set<std::vector<float>> flips;
  for (const auto& y : draws({.flip = true}, picture, 64)) flips.insert(y);
  CHECK(flips ==
        std::set<std::vector<float>>{cropped(picture, 0, 0, 0, false), cropped(picture, 0, 0, 0, true)});
  // a border wider than the picture
  for (const auto& y : draws({.crop_padding = 9}, picture, 200)) {
    bool found = false;
    for (std::int64_t top = 0; top < 19 && !found; ++top)
      for (std::int64_t left = 0; left < 19 && !found; ++left)
        found = y == cropped(picture, 9, top, left, false);
    CHECK(found);
  }
}

TEST_CASE("augment: cutout's squares, whose centres are uniform over the picture") {
  const Tensor picture = pictures(1, 6, 8, 3);
  const std::int64_t side = 4, n = 20000;
  const auto whole = cropped(picture, 0, 0, 0, false);
  std::map<std::vector<float>, std::size_t> known;
  for (std::int64_t top = -2; top < 4; ++top)
    for (std::int64_t left = -2; left < 6; ++left) {
      auto y = whole;
      for (std::int64_t i = std::max<std::int64_t>(top, 0); i < std::min<std::int64_t>(top + side, 6); ++i)
        for (std::int64_t j = std::max<std::int64_t>(left, 0); j < std::min<std::int64_t>(left + side, 8);
             ++j)
          for (std::int64_t c = 0; c < 3; ++c) y[static_cast<std::size_t>((i * 8 + j) * 3 + c)] = 0;
      const auto number = known.size();
      REQUIRE(known.emplace(y, number).second);
    }
  std::vector<double> counts(48);
  double untouched = 0;
  for (const auto& y : draws({.cutout = side, .seed = 5}, picture, n)) {
    if (y == whole) {
      ++untouched;
      continue;
    }
    const auto found = known.find(y);
    REQUIRE(found != known.end());
    ++counts[found->second];
  }
  CHECK(std::abs(untouched / n - .5) < .012);  // 3.4 standard errors
  CHECK(chi_square(counts) < 82.7);            // 47 degrees of freedom
  for (const auto& y : draws({.cutout = side, .cutout_probability = 1}, picture, 100)) CHECK(y != whole);
  for (const auto& y : draws({.cutout = side, .cutout_probability = 0}, picture, 100)) CHECK(y == whole);
  // after normalisation the hole is 0, not (0 - mean) / sd
  const auto holes =
      draws({.cutout = 100, .cutout_probability = 1, .normalization = cifar_statistics()}, picture, 1);
  CHECK(holes[0] == std::vector<float>(whole.size()));
}

TEST_CASE("augment: a sample's draw depends on seed, epoch and sample alone") {
  const Tensor x = pictures(40, 32, 32, 3);
  const TensorDataset data(x, arange(40));
  const AugmentOptions all{.crop_padding = 4,
                           .flip = true,
                           .auto_augment = true,
                           .cutout = 16,
                           .normalization = cifar_statistics(),
                           .seed = 7};
  const auto expected = [&](std::int64_t epoch) { return augmented(all, x, range(40), epoch); };
  const Tensor first = expected(0), second = expected(1);
  CHECK_FALSE(test::same_bits(first, second));
  auto other_seed = all;
  other_seed.seed = 8;
  CHECK_FALSE(test::same_bits(first, augmented(other_seed, x, range(40))));
  for (const int workers : {0, 1, 3}) {
    for (const std::int64_t batch_size : {1, 7, 40}) {
      DataLoader loader(data,
                        {.batch_size = batch_size, .seed = 2, .transform = Augment(all), .workers = workers});
      for (const Tensor& epoch : {first, second}) {
        for (auto [images, labels] : loader)
          for (std::int64_t i = 0; i < labels.numel(); ++i) {
            const std::int64_t sample = labels.data<std::int64_t>()[i], size = 32 * 32 * 3;
            REQUIRE(std::memcmp(images.data<float>() + i * size, epoch.data<float>() + sample * size,
                                size * sizeof(float)) == 0);
          }
      }
    }
  }
}

TEST_CASE("augment: AutoAugment's operations give Pillow's bytes") {
  const auto& file = test::FixtureFile::named("augment.safetensors");
  int compared = 0;
  for (const auto& [name, expected] : file.tensors) {
    const auto slash = name.find('/'), second = name.rfind('/');
    if (slash == std::string::npos) continue;
    const Tensor& picture = file.at(name.substr(0, slash));
    std::vector<std::uint8_t> bytes = picture.to_vector<std::uint8_t>();
    const std::string level = name.substr(second + 1);
    const bool negative = level[0] == '-';
    image_ops::Scratch scratch;
    apply_op(ops.at(name.substr(slash + 1, second - slash - 1)), std::stoi(level.substr(negative ? 1 : 0)),
             negative, {bytes.data(), picture.size(0), picture.size(1), picture.size(2)}, 128, scratch);
    INFO(name);
    CHECK(bytes == expected.to_vector<std::uint8_t>());
    ++compared;
  }
  CHECK(compared > 100);
}

TEST_CASE("augment: AutoAugment's operations by hand") {
  image_ops::Scratch scratch;
  std::vector<std::uint8_t> x{10, 20, 30, 40, 50, 60};
  const ImageBytes image{x.data(), 2, 3, 1};
  const auto becomes = [&](std::vector<std::uint8_t> expected) {
    CHECK(x == expected);
    x = {10, 20, 30, 40, 50, 60};
  };
  image_ops::translate_x(image, 1, 7, scratch);
  becomes({7, 10, 20, 7, 40, 50});
  image_ops::translate_y(image, -1, 7, scratch);
  becomes({40, 50, 60, 7, 7, 7});
  image_ops::rotate(image, 180, 7, scratch);
  becomes({60, 50, 40, 30, 20, 10});
  image_ops::shear_x(image, 1, 7, scratch);  // centres of rows are at 1/2 and 3/2
  becomes({20, 30, 7, 60, 7, 7});
  image_ops::invert(image);
  becomes({245, 235, 225, 215, 205, 195});
  image_ops::solarize(image, 40);
  becomes({10, 20, 30, 215, 205, 195});
  image_ops::posterize(image, 4);
  becomes({0, 16, 16, 32, 48, 48});
  image_ops::autocontrast(image);
  becomes({0, 51, 102, 153, 203, 255});  // 50 · 5.1 - 51 is 203.99… in double, as in Pillow
  image_ops::equalize(image);            // too few pixels for a step
  becomes({10, 20, 30, 40, 50, 60});
  image_ops::brightness(image, 1.5);
  becomes({15, 30, 45, 60, 75, 90});
  image_ops::contrast(image, 0);
  becomes({35, 35, 35, 35, 35, 35});
  image_ops::contrast(image, 10);
  becomes({0, 0, 0, 85, 185, 255});
  image_ops::sharpness(image, 0, scratch);  // only border pixels
  becomes({10, 20, 30, 40, 50, 60});
  x.assign(6, 9);
  image_ops::autocontrast(image);
  becomes({9, 9, 9, 9, 9, 9});
  CHECK_THROWS_AS(apply_op(AugmentOp::invert, 10, false, image, 0, scratch), ValueError);
  CHECK_THROWS_AS(apply_op(AugmentOp::invert, 1, false, {x.data(), 1, 3, 2}, 0, scratch), ValueError);
}

TEST_CASE("augment: AutoAugment draws each sub-policy and operation as often as it should") {
  // the probability that a picture is unchanged, per sub-policy
  const int n = 40000;
  std::vector<double> chosen(25);
  double happened = 0, expected = 0;
  for (const auto& pair : cifar10_policy) expected += (pair[0].probability + pair[1].probability) / 25;
  for (int i = 0; i < n; ++i) {
    const PhiloxWords random = noise_words({.seed = 1, .purpose = Purpose::augmentation, .parameter = 2},
                                           static_cast<std::uint32_t>(i));
    const auto which = static_cast<std::size_t>(random.word[0] * std::uint64_t{25} >> 32);
    ++chosen[which];
    for (std::size_t k = 0; k < 2; ++k)
      happened += random.word[1 + k] < bernoulli_threshold(cifar10_policy[which][k].probability);
  }
  CHECK(chi_square(chosen) < 51.2);  // 24 degrees of freedom
  CHECK(happened / n == doctest::Approx(expected).epsilon(.015));
  CHECK(expected == doctest::Approx(26.5 / 25));

  // Augment applies what these words determine
  const Tensor x = pictures(200, 32, 32, 3);
  const Tensor y = augmented({.auto_augment = true, .fill = 77, .seed = 1}, x, range(200), 4);
  image_ops::Scratch scratch;
  for (std::int64_t i = 0; i < 200; ++i) {
    std::vector<std::uint8_t> bytes(x.data<std::uint8_t>() + i * 3072,
                                    x.data<std::uint8_t>() + (i + 1) * 3072);
    const PhiloxWords random =
        noise_words({.seed = 1, .purpose = Purpose::augmentation, .draw = 4, .parameter = 2},
                    static_cast<std::uint32_t>(i));
    auto_augment({bytes.data(), 32, 32, 3}, random, 77, scratch);
    bool same = true;
    for (std::size_t k = 0; k < 3072; ++k)
      same = same &&
             y.data<float>()[i * 3072 + static_cast<std::int64_t>(k)] == static_cast<float>(bytes[k] / 255.0);
    CHECK(same);
  }
}

TEST_CASE("augment: what cannot be done is an error") {
  const Tensor x = pictures(2, 4, 4, 3);
  CHECK_THROWS_AS(Augment({.crop_padding = -1}), ValueError);
  CHECK_THROWS_AS(Augment({.cutout = -1}), ValueError);
  CHECK_THROWS_AS(Augment({.cutout_probability = 1.5}), ValueError);
  CHECK_THROWS_AS(Augment({.dtype = uint8}), DTypeError);
  CHECK_THROWS_AS(Augment({.normalization = {{0}, {0}}}), ValueError);
  CHECK_THROWS_AS(Augment({.normalization = {{0}, {}}}), ValueError);
  CHECK_ERROR(augmented({.auto_augment = true}, x.to(float32), range(2)), DTypeError,
              "AutoAugment works on uint8");
  CHECK_ERROR(augmented({}, x.to(int64), range(2)), DTypeError, "int64");
  CHECK_ERROR(augmented({}, x, range(3)), ShapeError, "3 samples");
  CHECK_ERROR(augmented({}, x.alias({2, 48}), range(2)), ShapeError, "[2, 48]");
  CHECK_ERROR(augmented({.normalization = {{0, 0}, {1, 1}}}, x, range(2)), ShapeError, "2 channels");
  CHECK_ERROR(augmented({.auto_augment = true}, x.alias({2, 4, 6, 2}), range(2)), ValueError,
              "1 or 3 channels");
  CHECK_ERROR(augmented({}, x, range(2), -1), ValueError, "epoch");
  CHECK_ERROR(augmented({}, x, range(2, std::int64_t{1} << 32)), ValueError, "sample");
  CHECK(augmented({.crop_padding = 4, .flip = true, .cutout = 3}, x.alias({2, 0, 12, 2}).alias({2, 0, 4, 3}),
                  range(2))
            .numel() == 0);

  CHECK(named_augmentation("none").crop_padding == 0);
  CHECK(named_augmentation("crop-flip").crop_padding == 4);
  CHECK(named_augmentation("cutout").cutout == 16);
  CHECK(named_augmentation("autoaugment", 100).cutout == 8);
  CHECK(named_augmentation("autoaugment").auto_augment);
  CHECK_ERROR(named_augmentation("crop"), ValueError, "no augmentation 'crop'");
}
