// The convolution of wide residual networks, Shake-Shake and PyramidNets.
#pragma once

#include "lpf/nn/conv.hpp"

namespace lpf::models::detail {

/// Square, without bias; stride 1 preserves the image size; Kaiming's normal initialisation by fan-out.
inline nn::Conv2d conv(const nn::Path& p, std::int64_t in, std::int64_t out, std::int64_t kernel,
                       std::int64_t stride = 1) {
  return {p,
          in,
          out,
          kernel,
          {.stride = stride,
           .padding = kernel / 2,
           .bias = false,
           .weight_init = init::kaiming_normal(init::Fan::out)}};
}

}  // namespace lpf::models::detail
