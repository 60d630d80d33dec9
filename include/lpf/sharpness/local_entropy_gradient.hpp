// Gradient of local entropy, γ(θ − μ): μ is the mean of the Gibbs distribution ∝ e^{−L(θ') − γ‖θ' −
// θ‖²/2}, estimated by stochastic gradient Langevin dynamics as in Entropy-SGD (Chaudhari et al. 2017),
// starting from θ' = μ = θ:
//
//   θ' ← θ' − η'(∇L(θ'; B) + γ(θ' − θ)) + 1e-4·√(2η') ξ,   ξ ~ N(0, I)
//   μ  ← ¾ μ + ¼ θ'                                          20 steps, η' 0.1, γ 1e-4, batch 128
//
//   text (the default):  γ‖θ − μ‖, each step on a fresh mini-batch
//   published code:      the mean over batches of ‖θ − μ‖, all 20 steps on one batch
//
// in units of the filters. Each draw is a chain with its own batches and noise; one pass advances several
// chains, each on its slice of the batch.
#pragma once

#include "lpf/backend/float64.hpp"
#include "lpf/data/dataset.hpp"
#include "lpf/sharpness/low_pass.hpp"

namespace lpf::sharpness {

struct LocalEntropyGradientOptions {
  std::int64_t steps = 20;
  double lr = 0.1;                ///< η'
  double gamma = 1e-4;            ///< γ
  double noise = 1e-4;            ///< the factor of √(2η')
  double average = 0.75;          ///< weight of the old μ
  std::int64_t batch_size = 128;  ///< at most the number of samples
  bool published = false;  ///< ‖θ − μ‖ of chains that stay on one batch, one per batch of the data
};

namespace detail {

/// The samples of chain `c` at step `t`: fresh batches from a random order of the data, drawn anew when it is
/// used up; if published, always the c-th batch of one random order.
LPF_ONCE std::vector<std::int64_t> chain_batch(const LocalEntropyGradientOptions& o, std::int64_t N,
                                               std::uint64_t key, std::int64_t c, std::int64_t t) {
  const std::int64_t B = std::min(o.batch_size, N), whole = N / B;
  NoiseKey order{key, Purpose::measure, static_cast<std::uint64_t>(Stream::batches), 0, 0};
  if (!o.published) {
    order.replica = static_cast<std::uint32_t>(c);
    order.parameter = static_cast<std::uint32_t>(t / whole);
  }
  const auto all = permutation(N, order);
  const std::int64_t at = (o.published ? c : t % whole) * B;
  return {all.begin() + at, all.begin() + at + B};
}

LPF_ONCE void check_local_entropy_gradient(const LocalEntropyGradientOptions& o, const Draws& draws) {
  constexpr const char* op = "sharpness::local_entropy_gradient";
  check_draws(op, draws.draws, draws.until);
  check(o.steps >= 1 && o.batch_size >= 1 && o.lr > 0 && o.gamma >= 0 && o.noise >= 0, op,
        "needs steps and a batch of at least 1, lr > 0, gamma and noise not negative, got ", o.steps, ", ",
        o.batch_size, ", ", o.lr, ", ", o.gamma, " and ", o.noise);
  check(o.average >= 0 && o.average < 1, op, "average must be in [0, 1), got ", o.average);
}

}  // namespace detail

/// With `published` there are as many chains as whole batches, else `draws`.
LPF_ONCE Estimate local_entropy_gradient(const Landscape& landscape,
                                         const LocalEntropyGradientOptions& o = {},
                                         const Draws& draws = {.draws = 8}) {
  detail::check_local_entropy_gradient(o, draws);
  const std::int64_t N = landscape.samples(), B = std::min(o.batch_size, N), size = landscape.size();
  std::vector<double> per_draw;
  const auto chains = [&](std::int64_t first, std::int64_t M) {
    const Tensor v = zeros({M, size}, {float64, Device::cpu()}), mean = zeros_like(v);  // θ' − θ and μ − θ
    std::vector<std::int64_t> index;
    for (std::int64_t t = 0; t < o.steps; ++t) {
      index.clear();
      for (std::int64_t r = 0; r < M; ++r) {
        const auto own = detail::chain_batch(o, N, draws.key, first + r, t);
        index.insert(index.end(), own.begin(), own.end());
      }
      const auto off = no_grad();
      const Tensor rows = from_vector(index, {std::ssize(index)}).to(landscape.data().x.device());
      const Tensor g = affine(v, o.gamma, 0);
      landscape.add_gradients(
          v, {index_select(landscape.data().x, 0, rows), index_select(landscape.data().y, 0, rows)},
          1.0 / static_cast<double>(B), g);
      detail::add_scaled(-o.lr, g, v);
      for (std::int64_t r = 0; r < M && o.noise > 0; ++r)
        detail::add_scaled(o.noise * std::sqrt(2 * o.lr),
                           landscape.random_vector(draws.key, Stream::langevin,
                                                   static_cast<std::uint32_t>((first + r) * o.steps + t)),
                           v[r]);
      mean.copy_(add(affine(mean, o.average, 0), affine(v, 1 - o.average, 0)));
    }
    Ranks::Numbers found;
    for (std::int64_t r = 0; r < M; ++r) found.push_back((o.published ? 1 : o.gamma) * detail::norm(mean[r]));
    return found;
  };
  const auto more = [&](std::int64_t first, std::int64_t count) {  // ranks share the passes
    const std::int64_t most = landscape.options().replicas;
    landscape.ranks().in_order(
        pieces_of(count, most),
        [&](std::int64_t pass) { return chains(first + pass * most, std::min(most, count - pass * most)); },
        [&](std::int64_t, const Ranks::Numbers& found) {
          per_draw.insert(per_draw.end(), found.begin(), found.end());
        });
  };
  const auto now = [&] {
    return estimate_of(mean_error(per_draw).mean, per_draw, {}, draws.until.relative_error);
  };
  if (o.published)
    more(0, N / B);
  else
    draw_until(draws.draws, draws.until, landscape.options().replicas, more, now);
  return now();
}

}  // namespace lpf::sharpness
