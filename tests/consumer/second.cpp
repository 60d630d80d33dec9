// The other file of a user's program.
#include <cstdio>

#include "use_lpf.hpp"

double first();

int main() {
  const double a = first(), b = use_lpf();
  std::printf("%g and %g, expected %g\n", a, b, expected);
  return a == expected && b == expected ? 0 : 1;
}
