#include "lpf/tensor/tensor.hpp"

#include <Eigen/Core>
#include <thread>

#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/shape.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("making tensors") {
  CHECK(holds(zeros({2, 2}), {2, 2}, {0, 0, 0, 0}));
  CHECK(holds(ones({3}, {.dtype = int64}), {3}, {1, 1, 1}));
  CHECK(holds(full({}, 2.5), {}, {2.5}));
  CHECK(holds(full({2}, 1, {.dtype = DType::bool_}), {2}, {1, 1}));
  CHECK(holds(full({2}, -1, {.dtype = int32}), {2}, {-1, -1}));
  CHECK(zeros({2}).dtype() == float32);
  CHECK(holds(tensor({1.f, 2.f}), {2}, {1, 2}));
  CHECK(tensor({1.f}).dtype() == float32);
  CHECK(tensor({1.0}).dtype() == float64);
  CHECK(tensor({1}).dtype() == int32);
  CHECK(tensor({true}).dtype() == DType::bool_);
  CHECK(tensor<float>({}).shape() == Shape{0});
  CHECK(holds(from_vector<double>({1, 2, 3, 4}, {2, 2}), {2, 2}, {1, 2, 3, 4}));
  CHECK_ERROR(from_vector<double>({1, 2, 3}, {2, 2}), ShapeError, "[from_span]", "3", "[2, 2]");
  CHECK(holds(arange(4), {4}, {0, 1, 2, 3}));
  CHECK(holds(arange(1, 8, 3), {3}, {1, 4, 7}));
  CHECK(holds(arange(3, 0, -1), {3}, {3, 2, 1}));
  CHECK(arange(0).shape() == Shape{0});
  CHECK(arange(5, 2).numel() == 0);
  CHECK_ERROR(arange(0, 3, 0), ValueError, "[arange]", "step");
  const std::int64_t last = std::numeric_limits<std::int64_t>::max(), first = -last - 1;
  CHECK(arange(last - 3, last, 2).to_vector<std::int64_t>() == std::vector{last - 3, last - 1});
  CHECK(arange(first + 1, first, first).to_vector<std::int64_t>() == std::vector{first + 1});
  CHECK(arange(first, last, last).to_vector<std::int64_t>() ==
        std::vector<std::int64_t>{first, -1, last - 1});
  CHECK_ERROR(arange(first, last), ShapeError, "[arange]", "18446744073709551615");
  const Tensor x = full({2, 3}, 1, {.dtype = float64});
  CHECK(zeros_like(x).dtype() == float64);
  CHECK(ones_like(x).shape() == x.shape());
  CHECK(full_like(x, 4)[1][2].item() == 4);
  CHECK(empty_like(x).numel() == 6);
}

TEST_CASE("reading tensors") {
  const Tensor x = from_vector<float>({1.5f, -2, 3, 4, 5, 6}, {2, 3});
  CHECK(x.rank() == 2);
  CHECK(x.size(0) == 2);
  CHECK(x.size(-1) == 3);
  CHECK(x.numel() == 6);
  CHECK(x.defined());
  CHECK(x.device() == Device::cpu());
  CHECK(x.data<float>()[1] == -2);
  CHECK(x.span<float>().size() == 6);
  CHECK(x.to_vector<int>() == std::vector<int>{1, -2, 3, 4, 5, 6});
  CHECK(full({}, 7).item<int>() == 7);
  CHECK(full({1, 1}, 7).item() == 7);
  const std::int64_t large = (std::int64_t{1} << 60) + 1;
  CHECK(tensor({large}).item<std::int64_t>() == large);
  CHECK(tensor({true, false}).to_vector<bool>() == std::vector<bool>{true, false});
  CHECK_ERROR(x.item(), ShapeError, "[item]", "one element", "[2, 3]");
  CHECK_ERROR(zeros({0}).item(), ShapeError, "[item]", "[0]");
  CHECK_ERROR(x.data<double>(), DTypeError, "[data]", "float64", "float32");
  CHECK_ERROR(x.size(2), ShapeError, "[size]", "axis 2", "rank 2");
}

TEST_CASE("an undefined tensor is an error where it is used") {
  const Tensor none;
  CHECK_FALSE(none.defined());
  CHECK_FALSE(none.requires_grad());
  CHECK_ERROR(none.shape(), StateError, "before it was given a value");
  CHECK_ERROR(none.numel(), StateError, "before");
  CHECK_ERROR(none.item(), StateError, "before");
  CHECK_ERROR(none + none, StateError, "before");
  CHECK_ERROR(none.backward(), StateError, "[backward]", "no history");
}

TEST_CASE("a tensor is a handle") {
  const Tensor a = zeros({2}), b = a, c = a.clone(), d = a.detach();
  CHECK(a.is_same(b));
  CHECK_FALSE(a.is_same(c));
  CHECK_FALSE(a.is_same(d));
  a.fill_(3);
  CHECK(holds(b, {2}, {3, 3}));
  CHECK(holds(c, {2}, {0, 0}));
  CHECK(holds(d, {2}, {3, 3}));
  Tensor e = a;
  e = e;  // NOLINT: deliberate
  CHECK(e.is_same(a));
  Tensor f = std::move(e);
  CHECK(f.is_same(a));
  CHECK_FALSE(e.defined());  // NOLINT: deliberate
  CHECK(a.use_count() == 3);
  CHECK(a.alias({1}, 1).item() == 3);
}

TEST_CASE("asking for a GPU that is not there, or for too much memory") {
  if (!cuda_is_available()) {
#ifndef LPF_CUDA
    CHECK_ERROR(Device::cuda(), DeviceError, "[device]", "cuda:0", "LPF_CUDA");
#endif
    CHECK_ERROR(zeros({2}, {.device = {DeviceType::cuda, 1}}), DeviceError, "cuda:1");
    CHECK_ERROR(zeros({2}).to(Device{DeviceType::cuda, 0}), DeviceError, "cuda:0");
  }
  CHECK(Device::cpu().to_string() == "cpu");
  CHECK_ERROR(zeros({std::int64_t{1} << 62}), ShapeError, "2^60");
  CHECK_ERROR(empty({std::int64_t{1} << 50}), Error, "[allocate]", "out of memory", "bytes");
}

TEST_CASE("wrap: a pointer and a span, without a copy") {
  float memory[6] = {1, 2, 3, 4, 5, 6};
  const Tensor x = wrap(memory, {2, 3});
  CHECK(x.data<float>() == memory);
  CHECK(holds(x, {2, 3}, {1, 2, 3, 4, 5, 6}));
  memory[0] = 9;
  CHECK(x[0][0].item() == 9);
  x[1].fill_(0);
  CHECK(memory[3] == 0);
  CHECK(holds(x * 2.0, {2, 3}, {18, 4, 6, 0, 0, 0}));
  CHECK(memory[0] == 9);  // results have their own memory
  std::vector<std::int64_t> labels{3, 1};
  const Tensor y = wrap(std::span(labels), {2});
  CHECK(y.dtype() == int64);
  CHECK(y.raw() == labels.data());
  CHECK_ERROR(wrap(std::span(labels), {3}), ShapeError, "[wrap]", "2", "[3]");
  CHECK_ERROR(wrap(static_cast<float*>(nullptr), {1}), ValueError, "[wrap]", "null", "[1]");
  CHECK(wrap(static_cast<float*>(nullptr), {0}).numel() == 0);
}

TEST_CASE("wrap: the owner lives as long as the memory is in use") {
  auto owner = std::make_shared<std::vector<double>>(4, 2.0);
  const std::weak_ptr<std::vector<double>> watch = owner;
  double* data = owner->data();
  Tensor view;
  {
    const Tensor x = wrap(data, {4}, std::move(owner));
    view = x.slice(0, 1, 3);
  }
  CHECK_FALSE(watch.expired());
  CHECK(holds(view, {2}, {2, 2}));
  view = Tensor();
  CHECK(watch.expired());
}

TEST_CASE("wrap: a parameter on memory of one's own") {
  double memory[2] = {3, 4};
  const Tensor x = wrap(memory, {2}).requires_grad_();
  sum(x * x).backward();
  CHECK(holds(x.grad(), {2}, {6, 8}));
  CHECK(memory[0] == 3);
}

TEST_CASE("wrap: Eigen") {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  RowMajor m(2, 3);
  m << 1, 2, 3, 4, 5, 6;
  CHECK(wrap(m).data<float>() == m.data());
  CHECK(holds(wrap(m), {2, 3}, {1, 2, 3, 4, 5, 6}));
  Eigen::Map<RowMajor> map(m.data(), 3, 2);
  CHECK(holds(wrap(map), {3, 2}, {1, 2, 3, 4, 5, 6}));
  Eigen::MatrixXd columns(2, 3);
  CHECK_ERROR(wrap(columns), ShapeError, "[wrap]", "2 x 3", "column-major", "Eigen::RowMajor");
  Eigen::VectorXd v(3);
  v << 1, 2, 3;
  CHECK(holds(wrap(v), {3, 1}, {1, 2, 3}));
  Eigen::RowVectorXf r(2);
  r << 1, 2;
  CHECK(holds(wrap(r), {1, 2}, {1, 2}));
  Eigen::MatrixXd one_column(3, 1), one_row(1, 3);
  one_column << 1, 2, 3;
  one_row << 1, 2, 3;
  CHECK(holds(wrap(one_column), {3, 1}, {1, 2, 3}));
  CHECK(holds(wrap(one_row), {1, 3}, {1, 2, 3}));
  RowMajor none(0, 3);
  CHECK(wrap(none).shape() == Shape{0, 3});

  // gaps between rows, or between elements
  auto block = m.leftCols(2);
  CHECK_ERROR(wrap(block), ShapeError, "[wrap]", "densely", "3");
  auto column = m.leftCols(1);
  CHECK_ERROR(wrap(column), ShapeError, "[wrap]", "densely");
  auto rows = m.topRows(1);
  CHECK(holds(wrap(rows), {1, 3}, {1, 2, 3}));
  Eigen::Map<Eigen::VectorXf, 0, Eigen::InnerStride<2>> every_other(m.data(), 3);
  CHECK_ERROR(wrap(every_other), ShapeError, "[wrap]", "2");
  Eigen::Map<RowMajor, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> sparse(m.data(), 1, 3, {6, 2});
  CHECK_ERROR(wrap(sparse), ShapeError, "[wrap]", "2");
  Eigen::Map<RowMajor, 0, Eigen::OuterStride<>> wide(m.data(), 2, 2, Eigen::OuterStride<>(3));
  CHECK_ERROR(wrap(wide), ShapeError, "[wrap]");
  Eigen::Map<RowMajor, 0, Eigen::OuterStride<>> dense(m.data(), 2, 3, Eigen::OuterStride<>(3));
  CHECK(holds(wrap(dense), {2, 3}, {1, 2, 3, 4, 5, 6}));
}

TEST_CASE("handles are counted across threads") {
  const Tensor x = ones({16});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&x] {
      for (int i = 0; i < 2000; ++i) {
        Tensor y = x, z = y.slice(0, 1, 3);
        y = z;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(x.use_count() == 1);
  CHECK(x.impl().storage.use_count() == 1);
}
