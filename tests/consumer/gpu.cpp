// A user's GPU program, compiled without nvcc: a step of LPF-SGD, or the reason why there is no GPU.
#include <cstdio>
#include <lpf/dense.hpp>

using namespace lpf;

int main() {
  try {
    set_default_device(Device::cuda());
    ParameterStore params;
    const nn::Linear layer(params / "fc", 4, 3);
    optim::SGD optimizer(params, {.lr = 0.1});
    LowPassFilter filter({.M = 2, .gamma = 0.01});
    const auto scope = filter.perturb(params);
    const Tensor loss = cross_entropy(layer(ones({4, 4})), zeros({4}, {.dtype = int64}));
    loss.backward();
    optimizer.step();
    std::printf("a step on %s: loss %g\n", backend::get(Device::cuda()).name, loss.item());
    return 0;
  } catch (const DeviceError& e) {
    std::printf("no step: %s\n", e.what());
    return cuda_is_available() ? 1 : 0;
  }
}
