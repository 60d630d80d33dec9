// A user program that includes Eigen first, with other settings than LPF's.
#define EIGEN_DEFAULT_TO_ROW_MAJOR
#define EIGEN_MAX_ALIGN_BYTES 16
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Dense>
#include <cmath>
#include <cstdio>
#include <lpf/sharpness/tridiagonal.hpp>

#include "use_lpf.hpp"

double first();

int main() {
  Eigen::MatrixXf a(2, 2), b(2, 2);
  a << 1, 2, 3, 4;
  b << 5, 6, 7, 8;
  const Eigen::MatrixXf c = a * b;
  const bool own = c.data()[1] == 22 && c.data()[2] == 43;  // row-major, as defined above
  const double x = first(), y = use_lpf();
  const auto spectrum = lpf::sharpness::eigen_of({{2, 2, 2, 2}, {1, 0, 1}}).values;
  bool exact = true;
  for (std::size_t k = 0; k < 4; ++k) exact &= std::abs(spectrum[k] - (k < 2 ? 1 : 3)) < 1e-14;
  std::printf("%g and %g, expected %g; own Eigen %s; spectrum %s\n", x, y, expected,
              own ? "as set" : "changed", exact ? "exact" : "wrong");
  return own && exact && x == expected && y == expected ? 0 : 1;
}
