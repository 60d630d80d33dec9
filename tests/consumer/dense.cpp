// A user program with lpf/dense.hpp only: float32 and integers compute; float64
// throws an error with the remedy.
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
  const bool told = message.find("lpf/float64.hpp") != std::string::npos;
  std::printf("%g, expected 22; float64: %s\n", static_cast<double>(trace), message.c_str());
  return trace == 22 && wide.to_vector()[3] == 3 && told ? 0 : 1;
}
