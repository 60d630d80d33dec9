// Two convolutional networks for MNIST, images x [B, 28, 28, 1] → logits [B, classes]:
//   SmallLeNet  LeCun, Bottou, Bengio & Haffner (1998) with ReLU and max-pooling: two 5×5 convolutions
//               without padding, of 6 and 16 channels, each followed by ReLU and a 2×2 max-pool; linear
//               layers of 120, 84 and 10 units. 44,426 parameters.
//   LeNet       the LPF-SGD paper's, PyTorch's MNIST example: two 3×3 convolutions without padding, of 32 and
//               64 channels, ReLU, a 2×2 max-pool, dropout ¼; linear layers of 128 units, ReLU, dropout ½,
//               and 10. 1,199,882 parameters.
// Names are PyTorch's: conv1, conv2, fc1, fc2 (, fc3).
#pragma once

#include <array>

#include "lpf/nn/activation.hpp"
#include "lpf/nn/conv.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/pool.hpp"

namespace lpf::models {

struct SmallLeNetOptions {
  std::int64_t classes = 10;
  std::int64_t in_channels = 1;
  std::int64_t image = 28;                        ///< height and width of the input, at least 16
  std::array<std::int64_t, 2> channels{6, 16};    ///< of the convolutions
  std::array<std::int64_t, 2> features{120, 84};  ///< of the linear layers except the last
};

struct SmallLeNet {
  nn::Conv2d conv1, conv2;
  nn::Linear fc1, fc2, fc3;

  /// @throws ValueError for an image too small for the convolutions.
  SmallLeNet(const nn::Path& p, const SmallLeNetOptions& o)
      : conv1(p / "conv1", o.in_channels, o.channels[0], 5),
        conv2(p / "conv2", o.channels[0], o.channels[1], 5),
        fc1(p / "fc1", o.channels[1] * side(o.image) * side(o.image), o.features[0]),
        fc2(p / "fc2", o.features[0], o.features[1]),
        fc3(p / "fc3", o.features[1], o.classes) {}
  explicit SmallLeNet(const nn::Path& p, std::int64_t classes = 10)
      : SmallLeNet(p, SmallLeNetOptions{.classes = classes}) {}

  Tensor operator()(const Tensor& x) const {
    Tensor y = max_pool2d(relu(conv1(x)), 2);
    y = max_pool2d(relu(conv2(y)), 2);
    y = nn::Flatten()(y);
    return fc3(relu(fc2(relu(fc1(y)))));
  }

 private:
  /// Remaining rows of an image: 28 → 24 → 12 → 8 → 4.
  static std::int64_t side(std::int64_t image) {
    check(image >= 16, "SmallLeNet", "the image needs at least 16 rows, got ", image);
    return ((image - 4) / 2 - 4) / 2;
  }
};

struct LeNetOptions {
  std::int64_t classes = 10;
  std::int64_t in_channels = 1;
  std::int64_t image = 28;                       ///< height and width of the input, at least 6
  std::array<std::int64_t, 2> channels{32, 64};  ///< of the convolutions
  std::int64_t features = 128;                   ///< of the first linear layer
  std::array<double, 2> dropout{0.25, 0.5};      ///< before each linear layer
};

struct LeNet {
  nn::Conv2d conv1, conv2;
  nn::Dropout dropout1, dropout2;
  nn::Linear fc1, fc2;

  /// @throws ValueError for an image too small for the convolutions.
  LeNet(const nn::Path& p, const LeNetOptions& o)
      : conv1(p / "conv1", o.in_channels, o.channels[0], 3),
        conv2(p / "conv2", o.channels[0], o.channels[1], 3),
        dropout1(p / "dropout1", o.dropout[0]),
        dropout2(p / "dropout2", o.dropout[1]),
        fc1(p / "fc1", o.channels[1] * side(o.image) * side(o.image), o.features),
        fc2(p / "fc2", o.features, o.classes) {}
  explicit LeNet(const nn::Path& p, std::int64_t classes = 10) : LeNet(p, LeNetOptions{.classes = classes}) {}

  Tensor operator()(const Tensor& x) const {
    const Tensor y = max_pool2d(relu(conv2(relu(conv1(x)))), 2);
    return fc2(dropout2(relu(fc1(nn::Flatten()(dropout1(y))))));
  }

 private:
  /// Remaining rows of an image: 28 → 26 → 24 → 12.
  static std::int64_t side(std::int64_t image) {
    check(image >= 6, "LeNet", "the image needs at least 6 rows, got ", image);
    return (image - 4) / 2;
  }
};

}  // namespace lpf::models
