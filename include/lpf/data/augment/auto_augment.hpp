// AutoAugment's policy for CIFAR-10 (Cubuk, Zoph, Mane, Vasudevan, Le, "AutoAugment: Learning Augmentation
// Policies from Data", CVPR 2019, table 7 of its supplement): 25 sub-policies, one of which is chosen at
// random for each image; a sub-policy is two operations, each with a probability and a level 0 … 9.
//
// Magnitudes are torchvision's, linear in the level; at level 9: shear .3, translation 150 / 331 of the side
// (whole pixels, towards zero), rotation 30 degrees, brightness, colour, contrast and sharpness 1 ± .9;
// posterize goes from 8 to 4 bits, solarize from 255 down to 0. Shears, translations, rotations and the
// enhancements have a random sign. (The paper's own code translates by at most 10 pixels and always
// strengthens an enhancement at a high level.) Pixels from outside the image are `fill`: the mean of the data
// set in the paper's code, 128 in the most common PyTorch code, 0 in torchvision.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "lpf/core/philox.hpp"
#include "lpf/data/augment/image_ops.hpp"

namespace lpf {

enum class AugmentOp : std::uint8_t {
  shear_x,
  shear_y,
  translate_x,
  translate_y,
  rotate,
  brightness,
  color,
  contrast,
  sharpness,
  posterize,
  solarize,
  autocontrast,
  equalize,
  invert
};

struct AugmentStep {
  AugmentOp op;
  double probability;
  int level;  ///< ignored by autocontrast, equalize and invert
};

/// The 25 sub-policies.
inline constexpr auto cifar10_policy = [] {
  using enum AugmentOp;
  return std::array<std::array<AugmentStep, 2>, 25>{{
      {{{invert, .1, 0}, {contrast, .2, 6}}},          {{{rotate, .7, 2}, {translate_x, .3, 9}}},
      {{{sharpness, .8, 1}, {sharpness, .9, 3}}},      {{{shear_y, .5, 8}, {translate_y, .7, 9}}},
      {{{autocontrast, .5, 0}, {equalize, .9, 0}}},    {{{shear_y, .2, 7}, {posterize, .3, 7}}},
      {{{color, .4, 3}, {brightness, .6, 7}}},         {{{sharpness, .3, 9}, {brightness, .7, 9}}},
      {{{equalize, .6, 0}, {equalize, .5, 0}}},        {{{contrast, .6, 7}, {sharpness, .6, 5}}},
      {{{color, .7, 7}, {translate_x, .5, 8}}},        {{{equalize, .3, 0}, {autocontrast, .4, 0}}},
      {{{translate_y, .4, 3}, {sharpness, .2, 6}}},    {{{brightness, .9, 6}, {color, .2, 8}}},
      {{{solarize, .5, 2}, {invert, 0, 0}}},           {{{equalize, .2, 0}, {autocontrast, .6, 0}}},
      {{{equalize, .2, 0}, {equalize, .6, 0}}},        {{{color, .9, 9}, {equalize, .6, 0}}},
      {{{autocontrast, .8, 0}, {solarize, .2, 8}}},    {{{brightness, .1, 3}, {color, .7, 0}}},
      {{{solarize, .4, 5}, {autocontrast, .9, 0}}},    {{{translate_y, .9, 9}, {translate_y, .7, 9}}},
      {{{autocontrast, .9, 0}, {solarize, .8, 3}}},    {{{equalize, .8, 0}, {invert, .1, 0}}},
      {{{translate_y, .7, 9}, {autocontrast, .9, 0}}},
  }};
}();

/// One operation at a level; `negative` reverses those with a sign. Throws ValueError unless level is 0 … 9
/// and the image has 1 or 3 channels.
inline void apply_op(AugmentOp op, int level, bool negative, const ImageBytes& image, std::uint8_t fill,
                     image_ops::Scratch& scratch) {
  check(level >= 0 && level <= 9, "autoaugment", "a level must be 0 … 9, got ", level);
  check(image.channels == 1 || image.channels == 3, "autoaugment", "needs pictures of 1 or 3 channels, got ",
        image.channels);
  const double part = level / 9.0, sign = negative ? -1 : 1;
  const auto pixels = [&](std::int64_t side) {
    return static_cast<int>(sign * part * (150.0 / 331.0) * static_cast<double>(side));
  };
  switch (op) {
    case AugmentOp::shear_x: return image_ops::shear_x(image, sign * part * .3, fill, scratch);
    case AugmentOp::shear_y: return image_ops::shear_y(image, sign * part * .3, fill, scratch);
    case AugmentOp::translate_x: return image_ops::translate_x(image, pixels(image.width), fill, scratch);
    case AugmentOp::translate_y: return image_ops::translate_y(image, pixels(image.height), fill, scratch);
    case AugmentOp::rotate: return image_ops::rotate(image, sign * part * 30, fill, scratch);
    case AugmentOp::brightness: return image_ops::brightness(image, 1 + sign * part * .9);
    case AugmentOp::color: return image_ops::color(image, 1 + sign * part * .9);
    case AugmentOp::contrast: return image_ops::contrast(image, 1 + sign * part * .9);
    case AugmentOp::sharpness: return image_ops::sharpness(image, 1 + sign * part * .9, scratch);
    case AugmentOp::posterize:
      return image_ops::posterize(image, 8 - static_cast<int>(std::lround(part * 4)));
    case AugmentOp::solarize: return image_ops::solarize(image, (9 - level) * 255 / 9.0);
    case AugmentOp::autocontrast: return image_ops::autocontrast(image);
    case AugmentOp::equalize: return image_ops::equalize(image);
    case AugmentOp::invert: return image_ops::invert(image);
  }
}

/// A random sub-policy from four words of Philox: its index, whether its first and second operations are
/// applied, and their signs (the last word's lowest two bits).
inline void auto_augment(const ImageBytes& image, const PhiloxWords& random, std::uint8_t fill,
                         image_ops::Scratch& scratch) {
  const auto& pair = cifar10_policy[random.word[0] * std::uint64_t{cifar10_policy.size()} >> 32];
  for (std::size_t i = 0; i < 2; ++i)
    if (random.word[1 + i] < bernoulli_threshold(pair[i].probability))
      apply_op(pair[i].op, pair[i].level, (random.word[3] >> i & 1) != 0, image, fill, scratch);
}

}  // namespace lpf
