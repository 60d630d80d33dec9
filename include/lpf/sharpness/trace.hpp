// Trace and Frobenius norm of the Hessian A = C H C from products with random vectors v ~ N(0, I):
//
//   tr A = E vᵀA v                  (Hutchinson 1990)       100 draws
//   ‖A‖_F = √(E ‖A v‖²)             (the paper)             10 draws
//
// from the same products, which also give the parts of blocks of parameters: v_bᵀ(A v)_b has mean tr A_bb,
// and ‖(A v)_b‖² that of the rows of A that belong to b, whose squares sum to ‖A‖_F².
//
//   tr A = tr QᵀA Q + E vᵀP A P v   with Q a basis of A S, S random, P = I − QQᵀ: the large eigenvalues
//                                   exact, the rest by draws (Hutch++; Meyer, Musco, Musco, Woodruff 2021)
//
// The paper's published code reports the sum of 100 Ritz values as the trace, which it is not.
#pragma once

#include "lpf/backend/float64.hpp"
#include "lpf/sharpness/hessian.hpp"
#include "lpf/sharpness/low_pass.hpp"

namespace lpf::sharpness {

enum class Probe {
  gaussian,   ///< N(0, 1), the definition
  rademacher  ///< ±1: the same means, a lower variance of the trace
};

/// Products with random vectors, computed on demand.
class Probes {
 public:
  explicit Probes(const Hessian& hessian, std::uint64_t key = 0, std::vector<Block> blocks = {},
                  Probe law = Probe::gaussian)
      : hessian_(hessian), key_(key), blocks_(std::move(blocks)), law_(law) {}

  /// tr A from `draws` products.
  LPF_ONCE Estimate trace(const Draws& draws = {}) {
    return estimate(
        "sharpness::trace", draws, along_, [](double mean) { return mean; }, [](double) { return 1.0; });
  }
  /// ‖A‖_F. The blocks' values are those of their rows.
  LPF_ONCE Estimate frobenius_norm(const Draws& draws = {.draws = 10}) {
    return estimate(
        "sharpness::frobenius_norm", draws, squares_, [](double mean) { return std::sqrt(mean); },
        [](double mean) { return mean > 0 ? 0.5 / std::sqrt(mean) : 0.0; });
  }
  /// Number of products computed so far.
  std::int64_t products() const { return std::ssize(along_); }

 private:
  using Rows = std::vector<std::vector<double>>;  // of each draw: the total, then the blocks

  LPF_ONCE void draw_to(std::int64_t count) {
    const auto off = no_grad();
    const Landscape& l = hessian_.landscape();
    const std::int64_t first = products();
    const auto product = [&](std::int64_t i) {
      Tensor v = l.random_vector(key_, Stream::probes, static_cast<std::uint32_t>(first + i));
      if (law_ == Probe::rademacher) v = sub((v > 0.0).to(float64), (v < 0.0).to(float64));
      const Tensor Av = hessian_.alone(v);
      std::vector<double> out;
      for (const Tensor& a : {v, Av}) {
        out.push_back(detail::inner(a, Av));
        for (const double part : inner_by_block(l.params(), blocks_, a, Av)) out.push_back(part);
      }
      return out;
    };
    l.ranks().in_order(count - first, product, [&](std::int64_t, const Ranks::Numbers& both) {
      const auto half = both.begin() + std::ssize(both) / 2;
      along_.emplace_back(both.begin(), half);
      squares_.emplace_back(half, both.end());
    });
  }
  /// f of the mean of the draws' values; `slope` is its derivative.
  template <class F, class Slope>
  Estimate estimate(const char* operation, const Draws& draws, const Rows& rows, F f, Slope slope) {
    detail::check_draws(operation, draws.draws, draws.until);
    std::int64_t used = 0;
    const auto of = [&](std::size_t column) {
      std::vector<double> values;
      for (std::int64_t r = 0; r < used; ++r) values.push_back(rows[static_cast<std::size_t>(r)][column]);
      const double mean = mean_error(values).mean, value = f(mean);
      for (double& x : values) x = value + (x - mean) * slope(mean);
      return estimate_of(value, std::move(values), {}, draws.until.relative_error);
    };
    draw_until(
        draws.draws, draws.until, 1,
        [&](std::int64_t first, std::int64_t count) { draw_to(used = first + count); },
        [&] { return of(0); });
    Estimate out = of(0);
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      const Estimate part = of(b + 1);
      out.blocks.push_back({blocks_[b].name, part.value, part.standard_error});
    }
    return out;
  }

  const Hessian& hessian_;
  std::uint64_t key_;
  std::vector<Block> blocks_;
  Probe law_;
  Rows along_, squares_;  // vᵀA v and ‖A v‖², in parts
};

namespace detail {
LPF_ONCE void check_hutchpp(std::int64_t products) {
  check(products >= 6, "sharpness::trace_hutchpp", "needs at least 6 products, got ", products);
}
}  // namespace detail

/// tr A by Hutch++ with `products` products (at least 6), a third each for S, Q and the rest.
LPF_ONCE Estimate trace_hutchpp(const Hessian& hessian, std::int64_t products = 99, std::uint64_t key = 0) {
  detail::check_hutchpp(products);
  const auto off = no_grad();
  const Landscape& l = hessian.landscape();
  const std::int64_t third = std::min(products / 3, l.dimension());
  std::vector<Tensor> basis;
  const auto project_out = [&](const Tensor& v) {
    for (int pass = 0; pass < 2; ++pass)
      for (const Tensor& q : basis) detail::add_scaled(-detail::inner(v, q), q, v);
  };
  const auto random = [&](std::int64_t i) {
    return l.random_vector(key, Stream::sketch, static_cast<std::uint32_t>(i));
  };
  l.ranks().in_order(
      third, [&](std::int64_t i) { return hessian.alone(random(i)).to_vector(); },
      [&](std::int64_t, const Ranks::Numbers& product) {
        const Tensor w = from_vector(product, {l.size()}, Device::cpu());
        const double before = detail::norm(w);
        project_out(w);
        const double length = detail::norm(w);
        if (length > 1e-10 * before)  // else the range of A is exhausted
          basis.push_back(detail::scaled(w, 1 / length));
      });
  double exact = 0;
  l.ranks().in_order(
      std::ssize(basis),
      [&](std::int64_t i) {
        const Tensor& q = basis[static_cast<std::size_t>(i)];
        return Ranks::Numbers{detail::inner(q, hessian.alone(q))};
      },
      [&](std::int64_t, const Ranks::Numbers& along) { exact += along[0]; });
  std::vector<double> per_draw;
  l.ranks().in_order(
      std::max<std::int64_t>(2, products - 2 * third),
      [&](std::int64_t i) {
        const Tensor v = random(third + i);
        project_out(v);
        return Ranks::Numbers{detail::inner(v, hessian.alone(v))};
      },
      [&](std::int64_t, const Ranks::Numbers& rest) { per_draw.push_back(exact + rest[0]); });
  return estimate_of(mean_error(per_draw).mean, per_draw);
}

}  // namespace lpf::sharpness
