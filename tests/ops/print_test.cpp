#include "lpf/ops/print.hpp"

#include <sstream>

#include "lpf/ops/arithmetic.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

std::string lines(std::initializer_list<const char*> all) {
  std::string out;
  for (const char* line : all) out += (out.empty() ? "" : "\n") + std::string(line);
  return out;
}

}  // namespace

TEST_CASE("printing: scalars, vectors, matrices, deeper") {
  CHECK(full({}, 3.14159).to_string() == "tensor(3.1416)");
  CHECK(tensor({1.5f, -2.25f}).to_string() == "tensor([ 1.5000, -2.2500])");
  CHECK(from_vector<float>({1, 0.5f, -2.25f, 10}, {2, 2}).to_string() ==
        lines({"tensor([[ 1.0000,  0.5000],", "        [-2.2500, 10.0000]])"}));
  CHECK(
      from_vector<float>({1, 2, 3, 4, 5, 6, 7, 8}, {2, 2, 2}).to_string() ==
      lines({"tensor([[[1., 2.],", "         [3., 4.]],", "", "        [[5., 6.],", "         [7., 8.]]])"}));
  CHECK(zeros({1, 1, 1, 1}).to_string() == "tensor([[[[0.]]]])");
  CHECK(zeros({2, 1, 1, 1}).to_string() == lines({"tensor([[[[0.]]],", "", "", "        [[[0.]]]])"}));
}

TEST_CASE("printing: whole numbers, exponents, NaN and infinity") {
  CHECK(tensor({1.f, 200.f, -3.f}).to_string() == "tensor([  1., 200.,  -3.])");
  CHECK(tensor({0.f}).to_string() == "tensor([0.])");
  CHECK(tensor({1.f, 12345.5f}).to_string() == "tensor([1.0000e+00, 1.2346e+04])");
  CHECK(tensor({1e-5f, 2e-5f}).to_string() == "tensor([1.0000e-05, 2.0000e-05])");
  CHECK(tensor({1e9f, 2e9f}).to_string() == "tensor([1.0000e+09, 2.0000e+09])");
  CHECK(tensor({0.f, 0.5f}).to_string() == "tensor([0.0000, 0.5000])");  // 0 has no magnitude
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  CHECK(tensor({1.5f, nan, inf, -inf}).to_string() == "tensor([1.5000,    nan,    inf,   -inf])");
  CHECK(tensor({1.f, nan}).to_string() == "tensor([ 1., nan])");
  CHECK(tensor({nan, inf}).to_string() == "tensor([nan, inf])");
  CHECK(tensor({-0.f}).to_string() == "tensor([-0.])");
  CHECK(tensor({std::numeric_limits<double>::max()}).to_string() == "tensor([1.7977e+308], dtype=float64)");
  CHECK(tensor({std::numeric_limits<double>::denorm_min()}).to_string() ==
        "tensor([4.9407e-324], dtype=float64)");
}

TEST_CASE("printing: dtypes") {
  CHECK(tensor({0.5, 1.0}).to_string() == "tensor([0.5000, 1.0000], dtype=float64)");
  CHECK(tensor<std::int64_t>({1, -20}).to_string() == "tensor([  1, -20], dtype=int64)");
  CHECK(tensor<std::int32_t>({7}).to_string() == "tensor([7], dtype=int32)");
  CHECK(tensor<std::uint8_t>({7, 200}).to_string() == "tensor([  7, 200], dtype=uint8)");
  CHECK(tensor({true, false}).to_string() == "tensor([ True, False], dtype=bool)");
  const std::int64_t large = (std::int64_t{1} << 62) + 1;
  CHECK(tensor({large}).to_string() == "tensor([4611686018427387905], dtype=int64)");
}

TEST_CASE("printing: empty and undefined") {
  CHECK(zeros({0}).to_string() == "tensor([])");
  CHECK(zeros({0, 3}).to_string() == "tensor([], shape=[0, 3])");
  CHECK(zeros({2, 0}, {.dtype = int64}).to_string() == "tensor([], shape=[2, 0], dtype=int64)");
  CHECK(Tensor().to_string() == "tensor(undefined)");
}

TEST_CASE("printing: long rows are broken, large tensors summarised") {
  CHECK(arange(30).to(float32).to_string() ==
        lines({"tensor([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12., 13.,",
               "        14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25., 26., 27.,",
               "        28., 29.])"}));
  CHECK(zeros({1000}).to_string().find("…") == std::string::npos);
  CHECK(arange(1001).to_string() ==
        "tensor([   0,    1,    2, …,  998,  999, 1000], shape=[1001], dtype=int64)");
  CHECK(arange(2000).reshape({40, 50}).to(float32).to_string() ==
        lines({"tensor([[   0.,    1.,    2., …,   47.,   48.,   49.],",
               "        [  50.,   51.,   52., …,   97.,   98.,   99.],",
               "        [ 100.,  101.,  102., …,  147.,  148.,  149.],", "        …,",
               "        [1850., 1851., 1852., …, 1897., 1898., 1899.],",
               "        [1900., 1901., 1902., …, 1947., 1948., 1949.],",
               "        [1950., 1951., 1952., …, 1997., 1998., 1999.]], shape=[40, 50])"}));
  CHECK(zeros({500, 2, 2}).to_string().find("shape=[500, 2, 2]") != std::string::npos);
  CHECK(zeros({1001, 1}).to_string().size() < 200);
  // hidden elements do not affect the format
  Tensor x = zeros({3000});
  x.slice(0, 100, 101).fill_(0.123);
  CHECK(x.to_string() == "tensor([0., 0., 0., …, 0., 0., 0.], shape=[3000])");
}

TEST_CASE("printing: options") {
  const Tensor x = tensor({1.23456f, 2.f, 3.f, 4.f, 5.f});
  CHECK(to_string(x, {.precision = 2}) == "tensor([1.23, 2.00, 3.00, 4.00, 5.00])");
  CHECK(to_string(x, {.precision = 0}) == "tensor([1, 2, 3, 4, 5])");
  CHECK(to_string(x, {.threshold = 4, .edge_items = 1}) == "tensor([1.2346, …, 5.0000], shape=[5])");
  CHECK(to_string(x, {.threshold = 4, .edge_items = 3}) ==
        "tensor([1.2346, 2.0000, 3.0000, 4.0000, 5.0000], shape=[5])");
  CHECK(to_string(arange(3), {.line_width = 0}) ==
        lines({"tensor([0,", "        1,", "        2], dtype=int64)"}));
  CHECK_ERROR(to_string(x, {.edge_items = 0}), ValueError, "[to_string]", "edge_items");
  CHECK_ERROR(to_string(x, {.precision = -1}), ValueError, "[to_string]", "-1");
  CHECK(to_string(x, {.precision = 1000}).size() < 2000);
}

TEST_CASE("printing: history, replicas, views, streams") {
  const Tensor x = tensor({1.f}).requires_grad_();
  CHECK(x.to_string() == "tensor([1.], requires_grad)");
  CHECK((x * x).to_string() == "tensor([1.], from=mul)");
  const Tensor w =
      detail::add_replica_dim(from_vector<float>({1, 2, 3, 4}, {2, 2}), std::make_shared<ReplicaPlan>(2));
  CHECK(w.to_string() == lines({"tensor([[1., 2.],", "        [3., 4.]], shape=[2], replicated (M = 2))"}));
  CHECK(detail::add_replica_dim(zeros({2, 0}), std::make_shared<ReplicaPlan>(2)).to_string() ==
        "tensor([], shape=[0], replicated (M = 2))");
  CHECK(from_vector<float>({1, 2, 3, 4}, {2, 2})[1].to_string() == "tensor([3., 4.])");
  std::ostringstream out;
  out << tensor({1.f}) << '\n' << full({}, 2);
  CHECK(out.str() == "tensor([1.])\ntensor(2.)");
}
