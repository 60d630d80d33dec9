// Fully connected layer.
#pragma once

#include "lpf/nn/layer_error.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/linear.hpp"

namespace lpf::nn {

struct LinearOptions {
  bool bias = true;
  init::Initializer weight_init = {};  ///< default: PyTorch's, U(±1/√in)
  init::Initializer bias_init = {};    ///< default: likewise
};

/// y = x·Wᵀ + b. x [B, …, in], W [out, in], y [B, …, out]. PyTorch's torch.nn.Linear.
struct Linear {
  Parameter weight, bias;

  Linear(const Path& p, std::int64_t in, std::int64_t out, const LinearOptions& options = {}) {
    check(in > 0 && out > 0, "Linear", "'", p.name(), "' needs at least one input and output, got ", in,
          " and ", out);
    const auto initial = init::fan_in_uniform(static_cast<double>(in));
    weight = p.parameter("weight", {out, in}, options.weight_init ? options.weight_init : initial);
    if (options.bias) bias = p.parameter("bias", {out}, options.bias_init ? options.bias_init : initial);
  }

  Tensor operator()(const Tensor& x) const {
    return detail::in_layer(weight, [&] {
      // Estimator::per_sample: the noise is drawn on y, and W is read without it.
      if (ReplicaContext* pass = weight.pass(); pass && x.rank() == 2) {
        const std::size_t bias_index = bias.index();
        const Tensor noise =
            pass->pre_activation_noise(x, weight.index(), bias.defined() ? &bias_index : nullptr);
        if (noise.defined())
          return add(linear(x, weight.clean(), bias.defined() ? bias.clean() : Tensor()), noise);
      }
      return linear(x, weight, bias);
    });
  }
};

}  // namespace lpf::nn
