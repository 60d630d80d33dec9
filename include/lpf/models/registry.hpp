// Networks by name, for programs that choose one at run time:
//
//   for (const auto& m : models::list()) std::cout << m.name << "  " << m.description << "\n";
//   const models::Model net = models::make("resnet18", params, {.classes = 100});
//
// To add a network, write its header and its entry in list(): every program then has it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/suggest.hpp"
#include "lpf/models/convnet.hpp"
#include "lpf/models/convnet1d.hpp"
#include "lpf/models/lenet.hpp"
#include "lpf/models/mlp.hpp"
#include "lpf/models/pyramidnet.hpp"
#include "lpf/models/resnet.hpp"
#include "lpf/models/shake_shake.hpp"
#include "lpf/models/wide_resnet.hpp"

namespace lpf::models {

/// Images [B, H, W, C] → logits [B, classes].
using Model = std::function<Tensor(const Tensor&)>;

struct ModelOptions {
  std::int64_t classes = 10;
  Shape input = {};  ///< [H, W, C] of an image; empty: the network's default
  std::int64_t width =
      0;  ///< of ResNets, mlp and the convnets, see ModelInfo::width; 0: the network's default
  std::optional<bool> batch_norm = {};  ///< ResNets, convnet: on by default; mlp: off
  bool skip = true;                     ///< of ResNets
};

struct ModelInfo {
  std::string name, description;
  Shape input;  ///< [H, W, C] of its default input
  /// Meaning of ModelOptions::width; empty: it takes neither width nor batch_norm and skip.
  std::string width;
  Model (*make)(const nn::Path&, const ModelOptions&);  ///< options complete and checked
  std::int64_t classes = 10;                            ///< default
};

namespace detail {

template <class Net, class Options>
Model lenet(const nn::Path& p, const ModelOptions& o) {
  check(o.input[0] == o.input[1], "models::make", "the LeNets take square images, got ", o.input);
  Options options;
  options.classes = o.classes;
  options.image = o.input[0];
  options.in_channels = o.input[2];
  return Net(p, options);
}

inline Model mlp(const nn::Path& p, const ModelOptions& o) {
  check(o.skip, "models::make", "'mlp' has no skip connections to leave out");
  const std::int64_t hidden = o.width > 0 ? o.width : 128;
  return MLP(p, {o.input.numel(), hidden, hidden, o.classes}, {.batch_norm = o.batch_norm.value_or(false)});
}
inline Model digits_mlp(const nn::Path& p, const ModelOptions& o) {
  check<ShapeError>(o.input.numel() == 64, "digits-mlp", "takes digits of 64 pixels, the samples have shape ",
                    o.input, ": use the digits, or another network");
  return MLP(p, {64, 128, 128, o.classes});
}

inline Model convnet(const nn::Path& p, const ModelOptions& o) {
  check(o.skip, "models::make", "'convnet' has no skip connections to leave out");
  return ConvNet(p, {o.classes, o.input[2], o.width > 0 ? o.width : 8, o.batch_norm.value_or(true)});
}

inline Model convnet1d(const nn::Path& p, const ModelOptions& o) {
  check(o.skip && !o.batch_norm.value_or(false), "models::make",
        "'convnet1d' has no batch norm and no skip connections");
  check<ShapeError>(o.input[0] == 1, "convnet1d", "takes sequences [1, L, C], the samples have shape ",
                    o.input);
  return ConvNet1d(p, {o.classes, o.input[1], o.input[2], o.width > 0 ? o.width : 25});
}

template <class Net, auto preset>
Model fixed(const nn::Path& p, const ModelOptions& o) {
  auto options = preset(o.classes);
  options.in_channels = o.input[2];
  return Net(p, options);
}

inline Model resnet(const nn::Path& p, ResNetOptions options, const ModelOptions& o) {
  options.in_channels = o.input[2];
  options.batch_norm = o.batch_norm.value_or(true);
  options.skip = o.skip;
  return ResNet(p, options);
}
template <auto preset>
Model resnet(const nn::Path& p, const ModelOptions& o) {
  ResNetOptions options = preset(o.classes);
  if (o.width > 0) options.width = o.width;
  return resnet(p, options, o);
}
template <auto preset, int own_width>
Model resnet_by_width(const nn::Path& p, const ModelOptions& o) {
  return resnet(p, preset(o.width > 0 ? o.width : own_width, o.classes), o);
}

}  // namespace detail

/// All networks, in display order.
inline const std::vector<ModelInfo>& list() {
  static const Shape digits{8, 8, 1}, sequence{1, 40, 1}, mnist{28, 28, 1}, cifar{32, 32, 3};
  static const char *const width = "channels of the first stage, 64 by default",
                           *const w = "w of the study: 8w channels in the first stage, 4 by default",
                           *const k = "k of the study: channels of the first stage, 64 by default";
  static const std::vector<ModelInfo> all{
      {"mlp", "fully connected, two hidden layers", digits, "hidden units, 128 by default", detail::mlp},
      {"digits-mlp", "mlp for the digits, 64-128-128-10", digits, "", detail::digits_mlp},
      {"convnet", "three convolutions with batch norm, 6,274 parameters on digits", digits,
       "channels of the first convolution, 8 by default", detail::convnet},
      {"convnet1d", "three convolutions of sequences, 5,210 parameters on MNIST-1D", sequence,
       "channels of each convolution, 25 by default", detail::convnet1d},
      {"small-lenet", "LeNet 6-16-120-84, 44,426 parameters", mnist, "",
       detail::lenet<SmallLeNet, SmallLeNetOptions>},
      {"lenet", "LeNet 32-64-128 with dropout, 1.2 million", mnist, "", detail::lenet<LeNet, LeNetOptions>},
      {"resnet18", "ResNet-18, 11.2 million", cifar, width, detail::resnet<resnet18>},
      {"resnet50", "ResNet-50, 23.5 million", cifar, width, detail::resnet<resnet50>},
      {"resnet101", "ResNet-101, 42.5 million", cifar, width, detail::resnet<resnet101>},
      {"narrow-resnet18", "of the study of sharpness, 2.8 million", cifar, w,
       detail::resnet_by_width<narrow_resnet18, 4>},
      {"tiny-resnet18", "narrow-resnet18 of few channels, 44,694 parameters on digits", digits,
       "channels of the first stage, 4 by default", detail::resnet<tiny_resnet18>},
      {"double-descent-resnet18", "of the double-descent study, 2,991 to 11.2 million", cifar, k,
       detail::resnet_by_width<double_descent_resnet18, 64>},
      {"wrn-16-8", "wide ResNet, 11.0 million", cifar, "", detail::fixed<WideResNet, wrn_16_8>},
      {"wrn-28-10", "wide ResNet, 36.5 million", cifar, "", detail::fixed<WideResNet, wrn_28_10>},
      {"shake-shake-26-2x96d", "Shake-Shake, 26.2 million", cifar, "",
       detail::fixed<ShakeShake, shake_shake_26_2x96d>},
      {"pyramidnet-110", "PyramidNet, alpha 200, 10.7 million", cifar, "",
       detail::fixed<PyramidNet, pyramidnet_110>},
      {"pyramidnet-272", "PyramidNet, alpha 200, 26.2 million", cifar, "",
       detail::fixed<PyramidNet, pyramidnet_272>}};
  return all;
}

inline std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const ModelInfo& m : list()) out.push_back(m.name);
  return out;
}

/// @throws ValueError, with the nearest names and all names, for an unknown name.
inline const ModelInfo& info(std::string_view name) {
  std::string known;
  for (const ModelInfo& m : list()) {
    if (m.name == name) return m;
    known += (known.empty() ? "" : ", ") + m.name;
  }
  fail("models", "there is no network '", name, "'", lpf::detail::suggest(name, names()), "; there are ",
       known);
}

/// Creates a network on a path. It holds its layers; the store holds the parameters.
/// @throws ValueError for an unknown name, or options that this network does not take.
inline Model make(std::string_view name, const nn::Path& p, ModelOptions options = {}) {
  const ModelInfo& m = info(name);
  if (options.input.rank() == 0) options.input = m.input;
  check(options.input.rank() == 3 && options.input.numel() > 0, "models::make",
        "an image has shape [H, W, C], got ", options.input);
  check(options.width >= 0, "models::make", "width must not be negative, got ", options.width);
  check(!m.width.empty() || (options.width == 0 && options.batch_norm.value_or(true) && options.skip),
        "models::make", "'", name,
        "' takes no width, and has no batch norm or skip to leave out: those are options of ResNets");
  return m.make(p, options);
}

}  // namespace lpf::models
