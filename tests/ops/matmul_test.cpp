#include "lpf/ops/matmul.hpp"

#include "lpf/backend/threads.hpp"
#include "lpf/ops/math.hpp"
#include "lpf/ops/reduce.hpp"
#include "lpf/ops/replicate.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// The product of two matrices by three loops.
Tensor looped(const Tensor& a, const Tensor& b) {
  const std::int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  const Tensor on_left = on_host(a), on_right = on_host(b);
  const double *left = on_left.data<double>(), *right = on_right.data<double>();
  std::vector<double> y(static_cast<std::size_t>(m * n), 0.0);
  double* to = y.data();
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t l = 0; l < k; ++l)
      for (std::int64_t j = 0; j < n; ++j) to[i * n + j] += left[i * k + l] * right[l * n + j];
  return from_vector(y, {m, n});
}

struct Sizes {
  std::int64_t m, k, n;
};
std::vector<Sizes> sizes() {
  std::vector<Sizes> out;
  for (const std::int64_t m : {0, 1, 2, 5, 17})
    for (const std::int64_t k : {0, 1, 3, 8, 33})
      for (const std::int64_t n : {0, 1, 4, 7, 16}) out.push_back({m, k, n});
  for (const Sizes& s :
       {Sizes{128, 64, 10}, {129, 70, 241}, {300, 37, 130}, {1, 784, 512}, {600, 20, 96}, {64, 1000, 97}})
    out.push_back(s);  // cut into tiles
  return out;
}

}  // namespace

TEST_CASE("matmul against three loops, with every transposition") {
  for (const auto& [m, k, n] : sizes()) {
    CAPTURE(m);
    CAPTURE(k);
    CAPTURE(n);
    const Tensor a = normal({m, k}, 1), b = normal({k, n}, 2), expected = looped(a, b);
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        const Tensor x = ta ? a.transpose() : a, y = tb ? b.transpose() : b;
        CHECK(relative_error(detail::product(x, y, ta, tb), expected) < 1e-12);
        const Tensor single = detail::product(x.to(float32), y.to(float32), ta, tb);
        CHECK(single.dtype() == float32);
        CHECK(relative_error(single.to(float64), expected, std::max(1.0, double(k))) < 1e-6);
      }
    CHECK(same_bits(matmul(a, b), detail::product(a, b, false, false)));
  }
}

TEST_CASE("matmul: vectors and batches") {
  const Tensor v = tensor({1.0, 2.0}), w = tensor({3.0, 4.0}),
               a = tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}).reshape({3, 2});
  CHECK(holds(matmul(v, w), {}, {11}));
  CHECK(holds(matmul(a, v), {3}, {5, 11, 17}));
  CHECK(holds(matmul(v, a.transpose()), {3}, {5, 11, 17}));
  CHECK(holds(a.matmul(v), {3}, {5, 11, 17}));
  for (const auto& [sa, sb] : std::vector<std::pair<Shape, Shape>>{{{2, 3, 4}, {4, 5}},
                                                                   {{3, 4}, {2, 4, 5}},
                                                                   {{2, 3, 4}, {2, 4, 5}},
                                                                   {{1, 3, 4}, {2, 4, 5}},
                                                                   {{2, 3, 4}, {1, 4, 5}},
                                                                   {{2, 1, 3, 4}, {3, 4, 5}},
                                                                   {{2, 1, 3, 4}, {1, 3, 4, 5}},
                                                                   {{0, 3, 4}, {4, 5}},
                                                                   {{0, 3, 4}, {1, 4, 5}},
                                                                   {{3, 4}, {0, 4, 5}},
                                                                   {{2, 3, 0}, {2, 0, 5}},
                                                                   {{2, 0, 4}, {4, 5}},
                                                                   {{2, 1, 1}, {2, 1, 1}},
                                                                   {{1, 1, 1}, {1, 1}},
                                                                   {{2, 2, 1, 3}, {2, 2, 3, 1}}}) {
    CAPTURE(sa.to_string());
    CAPTURE(sb.to_string());
    const Tensor x = normal(sa, 1), y = normal(sb, 2), z = matmul(x, y);
    const Shape batch = broadcast("test", sa.slice(0, sa.rank() - 2), sb.slice(0, sb.rank() - 2));
    const auto matrices = [&](const Tensor& t) {
      Shape shape = batch;
      shape.push_back(t.size(-2));
      shape.push_back(t.size(-1));
      return expand(t, shape).reshape(Shape{batch.numel(), t.size(-2), t.size(-1)});
    };
    const Tensor xs = matrices(x), ys = matrices(y), zs = matrices(z);
    for (std::int64_t i = 0; i < batch.numel(); ++i)
      CHECK(relative_error(zs[i], looped(xs[i], ys[i])) < 1e-13);
    CHECK(z.rank() == batch.rank() + 2);
    CHECK(wrong_derivatives([](auto& in) { return matmul(in[0], in[1]); }, {x, y}) == "");
  }
  for (const auto& [sa, sb] : std::vector<std::pair<Shape, Shape>>{{{3}, {3}},
                                                                   {{2, 3}, {3}},
                                                                   {{3}, {3, 2}},
                                                                   {{2, 2, 3}, {3}},
                                                                   {{3}, {2, 3, 2}},
                                                                   {{0}, {0}},
                                                                   {{1}, {1}},
                                                                   {{2, 0}, {0}}})
    CHECK(wrong_derivatives([](auto& in) { return matmul(in[0], in[1]); }, {normal(sa, 1), normal(sb, 2)}) ==
          "");
  CHECK(matmul(zeros({3}), zeros({2, 3, 4})).shape() == Shape{2, 4});
  CHECK(matmul(zeros({2, 5, 3}), zeros({3})).shape() == Shape{2, 5});
}

TEST_CASE("matmul: transposed and sliced operands, one operand twice") {
  const auto transposed = [](const std::vector<Tensor>& in) {
    return matmul(in[0].transpose(), slice(in[1], 0, 1, 6, 2));
  };
  CHECK(wrong_derivatives(transposed, {normal({3, 2}, 1), normal({6, 4}, 2)}) == "");
  const auto views = [](const std::vector<Tensor>& in) { return matmul(in[0][1], in[0][0].transpose()); };
  CHECK(wrong_derivatives(views, {normal({2, 3, 2})}) == "");
  const auto gram = [](const std::vector<Tensor>& in) { return matmul(in[0], in[0].transpose()); };
  CHECK(wrong_derivatives(gram, {normal({3, 2})}) == "");
  const auto cube = [](const std::vector<Tensor>& in) { return matmul(matmul(in[0], in[0]), in[0]); };
  CHECK(wrong_derivatives(cube, {normal({3, 3})}) == "");
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      CHECK(wrong_derivatives([=](auto& in) { return detail::product(in[0], in[1], ta, tb); },
                              {normal(ta ? Shape{3, 2} : Shape{2, 3}, 1),
                               normal(tb ? Shape{4, 3} : Shape{3, 4}, 2)}) == "");
}

TEST_CASE("dot") {
  CHECK(dot(tensor({1.0, 2.0}), tensor({3.0, 4.0})).item() == 11);
  CHECK(dot(normal({2, 3}), zeros({2, 3}, {.dtype = float64})).item() == 0);
  CHECK(wrong_derivatives([](auto& in) { return dot(in[0], in[1]); },
                          {normal({2, 3}, 1), normal({2, 3}, 2)}) == "");
  CHECK_ERROR(dot(zeros({2}), zeros({3})), ShapeError, "[dot]", "[2]", "[3]");
}

TEST_CASE("matmul: NaN and infinity pass through") {
  const Tensor a = tensor({0.0, 0.0}).reshape({1, 2}), b = tensor({not_a_number, 1.0}).reshape({2, 1});
  CHECK(std::isnan(matmul(a, b).item()));
  CHECK(std::isnan(matmul(a, b * infinity).item()));
}

TEST_CASE("matmul: errors") {
  CHECK_ERROR(matmul(zeros({2, 3}), zeros({4, 5})), ShapeError, "[matmul]", "inner sizes 3 and 4", "[2, 3]",
              "[4, 5]");
  CHECK_ERROR(matmul(zeros({3}), zeros({4})), ShapeError, "[matmul]", "3 and 4");
  CHECK_ERROR(matmul(zeros({2, 3, 4}), zeros({3, 4, 5})), ShapeError, "[matmul]", "do not broadcast", "[2]",
              "[3]");
  CHECK_ERROR(matmul(full({}, 1), zeros({1})), ShapeError, "[matmul]", "at least one axis");
  CHECK_ERROR(matmul(zeros({2, 2}), zeros({2, 2}, {.dtype = float64})), DTypeError, "[matmul]", "float32",
              "float64");
  const Tensor i = zeros({2, 2}, {.dtype = int64});
  CHECK_ERROR(matmul(i, i), DTypeError, "[matmul]", "int64");
  const Tensor w = detail::add_replica_dim(zeros({2, 3, 3}), std::make_shared<ReplicaPlan>(2));
  CHECK_ERROR(matmul(zeros({3, 3}), w), ReplicaError, "[matmul]", "[3, 3]", "linear(x, transpose(parameter))",
              "replicate(constant, parameter)");
}

TEST_CASE_TEMPLATE("products of few rows and many: every size around the kernels' blocks, added or not", T,
                   float, double) {
  const DType type = dtype_of<T>();
  for (const std::int64_t m : {1, 3, 4, 7, 16, 32, 33, 129})
    for (const std::int64_t n : {1, 3, 31, 64, 130})
      for (const std::int64_t k : {1, 15, 16, 255, 256, 301}) {
        const Tensor a = normal({m, k}, 1, type), b = normal({k, n}, 2, type),
                     b_transposed = transpose(b).clone();
        const Tensor product = looped(a.to(float64), b.to(float64));
        const Tensor sizes = looped(abs(a.to(float64)), abs(b.to(float64)));
        for (const bool transposed : {false, true})
          for (const double beta : {0.0, 1.0}) {
            const Tensor c = normal({m, n}, 3, type);
            const Tensor expected = beta == 1 ? add(product, c.to(float64)) : product;
            a.backend().gemm({type, false, transposed, m, n, k, a.raw(), k, 0,
                              transposed ? b_transposed.raw() : b.raw(), transposed ? k : n, 0, c.raw(), n, 0,
                              1, 1.0, beta});
            CAPTURE(Shape({m, n, k}).to_string());
            CAPTURE(transposed);
            // the error bound of a sum of k products in any order: (k + 1)·ε·Σ|a||b|, and
            // of the value that it is added to
            const Tensor bound = add(sizes, abs(expected));
            double ratio = 0;
            for (const double r : div(abs(sub(c.to(float64), expected)), bound).to_vector())
              ratio = std::max(ratio, r);
            CHECK(ratio <=
                  static_cast<double>(k + 1) * static_cast<double>(std::numeric_limits<T>::epsilon()));
          }
      }
}

TEST_CASE("products do not depend on the number of threads") {
  struct Case {
    Shape a, b;
  };
  for (const auto& [sa, sb] : {Case{{128, 784}, {784, 512}},
                               {{128, 512}, {512, 784}},
                               {{784, 128}, {128, 512}},
                               {{16, 784}, {784, 512}},
                               {{8, 16, 784}, {8, 784, 64}},
                               {{1000, 30}, {30, 20}},
                               {{37, 301}, {301, 129}},
                               {{4, 784}, {784, 512}}}) {
    CAPTURE(sa.to_string());
    const Tensor a = normal(sa, 1, float32).requires_grad_(), b = normal(sb, 2, float32).requires_grad_();
    const auto run = [&] {
      const Tensor y = matmul(a, b);
      auto out = grad(sum(y * y), {a, b});
      out.push_back(y.detach());
      return out;
    };
    check_same_for_any_threads(run);
  }
}
