// The largest and smallest elements of columns: their keys are sorted as rows, and the first k places copied.
#include "elements.hpp"
#include "kernel_groups.hpp"
#include "lpf/core/ordered_bits.hpp"
#include "memory.hpp"
#include "sort_rows.hpp"

namespace lpf::cuda {
namespace {

/// key[column, j] of x[o, j, i], smaller for what comes first.
template <class T>
struct Keys {
  using Wide = std::conditional_t<std::is_floating_point_v<Computed<T>>, double, std::int64_t>;
  std::int64_t n, inner;
  std::uint64_t flip;
  Elements<T> x;
  std::uint64_t* key;
  LPF_DEVICE void operator()(std::int64_t k) const {
    const std::int64_t i = k % inner, j = k / inner % n, o = k / inner / n;
    key[(o * inner + i) * n + j] = lpf::detail::ordered_bits(static_cast<Wide>(x.get(k))) ^ flip;
  }
};

struct FirstPlaces {
  std::int64_t n, inner, k;
  const std::int64_t* order;
  std::int64_t* index;
  LPF_DEVICE void operator()(std::int64_t e) const {
    const std::int64_t i = e % inner, p = e / inner % k, o = e / inner / k;
    index[e] = order[(o * inner + i) * n + p];
  }
};

void topk(DType type, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t k, bool largest,
          const void* x, std::int64_t* index) {
  const std::int64_t rows = outer * inner;
  if (rows * k == 0) return;
  const Scratch<std::uint64_t> key(rows * n);
  const Scratch<std::int64_t> one(rows * n), two(rows * n);
  visit_arithmetic(type, [&](auto zero) {
    using T = decltype(zero);
    each(rows * n, Keys<T>{n, inner, largest ? ~std::uint64_t{0} : 0, {x, type}, key.data()});
  });
  const std::int64_t* order = sort_rows(key.data(), rows, n, one.data(), two.data());
  each(rows * k, FirstPlaces{n, inner, k, order, index});
}

}  // namespace

void order(Table& t) { t.topk = topk; }

}  // namespace lpf::cuda
