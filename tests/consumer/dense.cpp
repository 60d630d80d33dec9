// A user program with lpf/dense.hpp only: float32 and integers compute, a layer has its initial values, which are drawn
// in float64; other arithmetic in float64 throws an error with the remedy.
#include <cstdio>
#include <lpf/dense.hpp>
#include <string>

using namespace lpf;

int main() {
  const Tensor x = arange(4).to(float32).reshape({2, 2});
  const float trace = sum(x.matmul(x)).item<float>();  // of [[2, 3], [6, 11]]
  const Tensor wide = x.to(float64);                   // conversions work without it
  std::string message = "nothing was thrown";
  try {
    matmul(wide, wide);
  } catch (const DTypeError& e) { message = e.what(); }
  const ParameterStore params({.seed = 1});
  const nn::Linear fc(params / "fc", 4, 3);
  const double u = uniform_at<double>({.seed = 1, .purpose = Purpose::init}, 5);  // U(±1/√4)
  const bool drawn = fc.weight.value().to_vector()[5] == static_cast<double>(static_cast<float>(u - 0.5));
  const bool told = message.find("lpf/float64.hpp") != std::string::npos;
  std::printf("%g, expected 22; float64: %s; initial values %s\n", static_cast<double>(trace),
              message.c_str(), drawn ? "as they should be" : "wrong");
  return trace == 22 && wide.to_vector()[3] == 3 && told && drawn ? 0 : 1;
}
