// User memory as tensors, without a copy: a pointer, a std::span, an Eigen matrix; and .npy files.
#include <cstdio>
#include <iostream>
#include <lpf/io/npy.hpp>
#include <lpf/lpf.hpp>
#include <memory>
#include <span>
#include <vector>
#if __has_include(<Eigen/Core>)
#  include <Eigen/Core>
#endif

using namespace lpf;

int main() try {
  // A pointer. The tensor reads and writes the array, which must outlive it.
  float pixels[] = {1, 2, 3, 4, 5, 6};
  const Tensor image = wrap(pixels, {2, 3});
  image[0].fill_(0);
  std::cout << "pixels[2] is now " << pixels[2] << "\n" << image << "\n";

  // An owner, if the tensor is to own the memory.
  auto buffer = std::make_shared<std::vector<double>>(100, 0.5);
  const Tensor kept = wrap(buffer->data(), {10, 10}, buffer);
  buffer = nullptr;
  std::cout << "sum " << sum(kept).item() << ", of shape " << kept.shape().to_string() << "\n";

  // A span, whose size must match the shape. Usable as any tensor, also as a leaf of a graph.
  std::vector<float> weights{0.5f, -1.f, 2.f};
  const Tensor w = wrap(std::span(weights), {1, 3}).requires_grad_();
  sum(square(linear(image, w))).backward();
  std::cout << "gradient " << w.grad() << "\n";

#if __has_include(<Eigen/Core>)
  // Eigen: any dense, row-major matrix. A column-major matrix (Eigen's default) is stored as its row-major
  // transpose: wrap the transpose.
  Eigen::Matrix<double, 2, 3, Eigen::RowMajor> rows;
  rows << 1, 2, 3, 4, 5, 6;
  std::cout << "a row-major matrix " << wrap(rows) << "\n";
  Eigen::MatrixXd columns = rows;
  auto transposed = columns.transpose();
  std::cout << "a column-major one, transposed " << wrap(transposed) << "\n";

  // Conversely, a tensor's elements are a plain row-major array.
  const Tensor t = ones({2, 2});
  Eigen::Map<Eigen::Matrix<float, 2, 2, Eigen::RowMajor>>(t.data<float>()) *= 3;
  std::cout << "written through Eigen " << t << "\n";
#endif

  // NumPy files.
  save_npy("own_memory.npy", image);
  const Tensor loaded = load_npy("own_memory.npy");  // numpy.load("own_memory.npy") reads it as well
  std::cout << "from the file " << loaded << "\n";
  std::remove("own_memory.npy");
} catch (const Error& e) {  // for example a folder without write permission
  std::fprintf(stderr, "own_memory: %s\n", e.what());
  return 1;
}
