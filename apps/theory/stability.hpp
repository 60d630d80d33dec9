// (d) Uniform stability (Hardt, Recht and Singer 2016): twin runs on two training sets that differ in one example, with
// the same order and noise, steps c/t. All runs are one parameter [2, runs, p]: the twins, and their seeds.
#pragma once

#include <algorithm>
#include <lpf/calculus/hvp.hpp>
#include <numeric>

#include "pass.hpp"

namespace theory {

struct TwinOptions {
  std::int64_t runs = 20, examples = 100, epochs = 20, M = 16;
  double sigma = 0, c = 1;
  std::uint64_t seed = 0;
};

/// Networks 5-8-1 with tanh, one for each run: labels ±1, logistic loss.
struct TwinNetworks {
  static constexpr std::int64_t inputs = 5, hidden = 8, size = hidden * (inputs + 2) + 1;

  /// Logistic losses [B, …] of networks θ [B, …, p] on x [B, …, inputs] and y [B, …], broadcast.
  static Tensor losses(const Tensor& theta, const Tensor& x, const Tensor& y) {
    const int last = theta.rank() - 1;
    const auto part = [&](std::int64_t from, std::int64_t n) { return narrow(theta, last, from, n); };
    Shape matrix = theta.shape().slice(0, last);
    matrix.push_back(hidden), matrix.push_back(inputs);
    const Tensor w = reshape(part(0, hidden * inputs), matrix);
    const Tensor h = tanh(add(sum(mul(w, unsqueeze(x, last)), {last + 1}), part(hidden * inputs, hidden)));
    const Tensor out = add(sum(mul(h, part(hidden * (inputs + 1), hidden)), {last}),
                           reshape(part(size - 1, 1), theta.shape().slice(0, last)));
    return softplus(mul(out, -y));
  }
};

/// The data of the runs: for each a training set, its twin with one example replaced, and test examples. Labels are the
/// sign of x₁x₂, a tenth of them wrong.
struct TwinData {
  Tensor x, y;            ///< [2, runs, n, inputs], [2, runs, n]
  Tensor test_x, test_y;  ///< [1, runs, tests, inputs], [1, runs, tests]
  std::vector<std::int64_t> replaced;
  std::vector<std::vector<std::int64_t>> order;  ///< of each run, the example of each step

  TwinData(const TwinOptions& o, std::int64_t tests) {
    const std::int64_t n = o.examples;
    const auto points = [&](std::int64_t count, std::uint64_t draw) {
      Tensor at = randn({1, o.runs, count, TwinNetworks::inputs}, {.seed = o.seed, .draw = draw}, doubles);
      const auto v = at.to_vector<double>();
      const auto wrong =
          rand({o.runs * count}, {.seed = o.seed, .draw = draw + 1}, doubles).to_vector<double>();
      std::vector<double> label;
      for (std::size_t i = 0; i < wrong.size(); ++i) {
        const auto k = i * static_cast<std::size_t>(TwinNetworks::inputs);
        label.push_back((v[k] * v[k + 1] > 0) != (wrong[i] < .1) ? 1.0 : -1.0);
      }
      return std::pair{at, from_vector(label, {1, o.runs, count})};
    };
    const auto [one, label] = points(n, 10);
    const auto [other, other_label] = points(1, 20);
    std::tie(test_x, test_y) = points(tests, 30);
    x = concatenate({one, one}), y = concatenate({label, label});
    const auto choice = rand({o.runs}, {.seed = o.seed, .draw = 40}, doubles).to_vector<double>();
    for (std::int64_t r = 0; r < o.runs; ++r) {
      replaced.push_back(
          static_cast<std::int64_t>(choice[static_cast<std::size_t>(r)] * static_cast<double>(n)));
      x[1][r][replaced.back()].copy_(other[0][r][0]);
      y[1][r][replaced.back()].copy_(other_label[0][r][0]);
      order.emplace_back();
      for (std::int64_t e = 0; e < o.epochs; ++e) {
        const auto keys = rand({n},
                               {.seed = o.seed,
                                .purpose = Purpose::shuffle,
                                .draw = static_cast<std::uint64_t>(e),
                                .replica = static_cast<std::uint32_t>(r)},
                               doubles)
                              .to_vector<double>();
        std::vector<std::int64_t> index(static_cast<std::size_t>(n));
        std::iota(index.begin(), index.end(), 0);
        std::sort(index.begin(), index.end(), [&](auto a, auto b) {
          return keys[static_cast<std::size_t>(a)] < keys[static_cast<std::size_t>(b)];
        });
        order.back().insert(order.back().end(), index.begin(), index.end());
      }
    }
  }
  /// The examples of step t, [2, runs, inputs] and [2, runs].
  std::pair<Tensor, Tensor> batch(std::int64_t t) const {
    const std::int64_t runs = std::ssize(order), n = x.size(2);
    std::vector<std::int64_t> rows;
    for (std::int64_t twin = 0; twin < 2; ++twin)
      for (std::int64_t r = 0; r < runs; ++r)
        rows.push_back((twin * runs + r) * n +
                       order[static_cast<std::size_t>(r)][static_cast<std::size_t>(t)]);
    const Tensor index = from_vector(rows, {2 * runs});
    return {reshape(index_select(reshape(x, {2 * runs * n, TwinNetworks::inputs}), 0, index),
                    {2, runs, TwinNetworks::inputs}),
            reshape(index_select(reshape(y, {2 * runs * n}), 0, index), {2, runs})};
  }
};

struct TwinResult {
  std::vector<double> time = {};                   ///< updates
  std::vector<std::vector<double>> distance = {};  ///< ‖θ − θ'‖ at those times, of each run
  std::vector<double> train = {}, gap = {},
                      change = {};  ///< of each run: clipped training loss, test − training, the largest
                                    ///< change of a test loss between the twins
  double lipschitz = 0, beta = 0;   ///< the largest gradient and curvature of a loss that were met
  double updates = 0;
};

namespace detail {
/// Norms of the rows of t [..., p].
inline std::vector<double> row_norms(const Tensor& t) {
  return sqrt(sum(square(t), {t.rank() - 1})).to_vector<double>();
}
inline double largest(const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }

/// Updates L and β by the gradients and curvatures of the losses of one step's examples at θ.
inline void measure_constants(const Point& point, const Tensor& x, const Tensor& y, TwinResult& out) {
  const Tensor theta = point.value();
  theta.requires_grad_();
  const HessianVectorProduct h(sum(TwinNetworks::losses(theta, x, y)), {theta});
  out.lipschitz = std::max(out.lipschitz, largest(row_norms(h.gradient()[0])));
  Tensor v = affine(rand(theta.shape(), {.seed = 7}, doubles), 1, -.5);
  for (int k = 0; k < 25; ++k) {  // one power method for each run: the Hessian is block diagonal
    v = div(v, sqrt(affine(sum(square(v), {2}, true), 1, 1e-300)));
    v = h({v})[0];
  }
  out.beta = std::max(out.beta, largest(row_norms(v)));
}
}  // namespace detail

inline TwinResult twin_runs(const TwinData& data, const TwinOptions& o) {
  const std::int64_t p = TwinNetworks::size, steps = o.examples * o.epochs;
  const Tensor start = affine(randn({1, o.runs, p}, {.seed = o.seed, .draw = 50}, doubles), .5, 0);
  const Point point(concatenate({start, start}));
  check(point.params.theta().numel() == 2 * o.runs * p, "twin_runs", "runs must be a multiple of 4, got ",
        o.runs);
  optim::SGD optimizer(point.params, {.lr = o.c});
  optimizer.set_schedule([](std::uint64_t t) { return 1 / static_cast<double>(t + 1); });
  const filter::Segments rows = filter::segments_of(point.params, NoiseLaw::filter_wise, {});
  TwinResult out{.updates = static_cast<double>(steps)};
  double next = 1;
  for (std::int64_t t = 0; t < steps; ++t) {
    const auto [x, y] = data.batch(t);
    const std::int64_t M = o.sigma == 0 ? 1 : o.M;
    filter::PassOptions pass{.M = M};
    const Tensor noise = affine(
        randn({M, 1, o.runs, p}, noise_key(o.seed, static_cast<std::uint64_t>(t)), doubles), o.sigma, 0);
    pass.perturbations =
        reshape(concatenate({noise, noise}, 1), {M, 2 * o.runs * p});  // the twins' is the same
    {
      const filter::Perturbation scope(point.params, rows, pass);
      mean(sum(TwinNetworks::losses(point.read(M), unsqueeze(x, 0), unsqueeze(y, 0)), {1, 2})).backward();
    }
    if (t % std::max<std::int64_t>(1, steps / 40) == 0) detail::measure_constants(point, x, y, out);
    optimizer.step();
    if (static_cast<double>(t + 1) < next && t + 1 < steps) continue;
    next = static_cast<double>(t + 1) * 1.08;
    const Tensor theta = point.value();
    out.time.push_back(static_cast<double>(t + 1));
    out.distance.push_back(detail::row_norms(sub(theta[0], theta[1])));
  }
  const auto off = no_grad();
  const Tensor theta = unsqueeze(point.value(), 2);  // [2, runs, 1, p]
  const auto clipped = [&](const Tensor& x, const Tensor& y) {
    return clamp(TwinNetworks::losses(theta, x, y), 0, 1);
  };
  const Tensor train = clipped(data.x, data.y), test = clipped(data.test_x, data.test_y);
  out.train = mean(train[0], {1}).to_vector<double>();
  out.gap = sub(mean(test[0], {1}), mean(train[0], {1})).to_vector<double>();
  out.change = amax(abs(sub(test[0], test[1])), {1}).to_vector<double>();
  return out;
}

/// The recursion behind the bound, for the orders of these runs: δ ← (1 + (c/t)·β)δ, and + 2(c/t)L where the replaced
/// example is met. The mean over the runs at each of `time`.
inline std::vector<double> recursion(const TwinData& data, const TwinOptions& o, double lipschitz,
                                     double beta, const std::vector<double>& time) {
  std::vector<double> delta(data.order.size(), 0), out;
  std::size_t k = 0;
  for (std::int64_t t = 0; t < o.examples * o.epochs && k < time.size(); ++t) {
    const double rate = o.c / static_cast<double>(t + 1);
    double total = 0;
    for (std::size_t r = 0; r < delta.size(); ++r) {
      const bool met = data.order[r][static_cast<std::size_t>(t)] == data.replaced[r];
      delta[r] = met ? delta[r] + 2 * rate * lipschitz : (1 + rate * beta) * delta[r];
      total += delta[r] / static_cast<double>(delta.size());
    }
    if (static_cast<double>(t + 1) == time[k]) out.push_back(total), ++k;
  }
  return out;
}

/// The geometric mean of a_r/b_r over paired runs.
inline Measured geometric_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> logs;
  for (std::size_t r = 0; r < a.size(); ++r) logs.push_back(std::log(a[r] / b[r]));
  const Measured m = measured(logs);
  return {std::exp(m.value), std::exp(m.value) * m.error};
}

inline Section stability(const Settings& s) {
  TwinOptions o{.runs = s.size(60, 8),
                .examples = s.size(100, 20),
                .epochs = s.size(20, 4),
                .M = s.size(8, 4),
                .seed = s.seed};
  const TwinData data(o, s.size(500, 50));
  const std::vector<double> sigmas = s.quick ? std::vector{0.0, .5} : std::vector{0.0, .1, .3, .6, 1.0, 2.0};
  std::vector<TwinResult> results;
  double lipschitz = 0, beta = 0;
  for (const double sigma : sigmas) {
    o.sigma = sigma;
    results.push_back(twin_runs(data, o));
    lipschitz = std::max(lipschitz, results.back().lipschitz);
    beta = std::max(beta, results.back().beta);
    s.step();
  }
  const double n = static_cast<double>(o.examples), T = results[0].updates;
  const std::vector<double> worst = recursion(data, o, lipschitz, beta, results[0].time);
  Section out{
      "stability", "Uniform stability: twin runs",
      concat("n = ", o.examples, ", T = ", T, " updates of one example, steps ", o.c, "/t, ", o.runs,
             " pairs of runs; with noise, M = ", o.M, " draws on the example. Largest gradient met: L ≥ ",
             format_general(lipschitz), ", largest curvature: β ≥ ", format_general(beta),
             ". The bound with these is an estimate: the theorem's L and β are over all weights. The "
             "recursion behind it alone "
             "allows a mean distance of ",
             format_general(worst.back(), 2), ".")};
  TextTable table({"σ", "distance", "training loss", "gap", "largest change of a loss", "min{L/σ, β}",
                   "bound of the gap", "bound over SGD's", "distance over SGD's"});
  std::vector<plot::Series> lines;
  std::vector<double> bounds;
  std::vector<Measured> gaps, changes;
  for (std::size_t k = 0; k < sigmas.size(); ++k) {
    const TwinResult& r = results[k];
    const double smooth = smoothness_bound(lipschitz, beta, sigmas[k]);
    bounds.push_back(stability_bound(lipschitz, smooth, o.c, n, T));
    gaps.push_back(measured(r.gap)), changes.push_back(measured(r.change));
    const Measured distance = measured(r.distance.back());
    const Measured relative = geometric_ratio(r.distance.back(), results[0].distance.back());
    const double ratio = stability_ratio(lipschitz, beta, sigmas[k], o.c, T);
    table.add_row({format_general(sigmas[k]), format(distance), format(measured(r.train)),
                   format(gaps.back()), format(changes.back()), format_general(smooth, 3),
                   format_general(bounds.back(), 3), format_general(ratio, 3),
                   k == 0 ? std::string("1") : format(relative)});
    out.records.push_back({{"sigma", sigmas[k]},
                           {"distance", distance.value},
                           {"distance_error", distance.error},
                           {"train", measured(r.train).value},
                           {"gap", gaps.back().value},
                           {"gap_error", gaps.back().error},
                           {"change", changes.back().value},
                           {"lipschitz", lipschitz},
                           {"beta", beta},
                           {"smoothness", smooth},
                           {"bound", bounds.back()},
                           {"ratio", ratio},
                           {"distance_ratio", relative.value},
                           {"distance_ratio_error", relative.error}});
    // LPF-SGD's lines differ in their pattern.
    plot::Series line{
        .name = sigmas[k] == 0 ? "SGD" : concat("LPF-SGD, σ = ", format_general(sigmas[k])),
        .x = r.time,
        .color = k == 0 ? plot::method_color("sgd")
                        : plot::detail::patterned(plot::method_color("lpf-sgd"), static_cast<int>(k) - 1)};
    for (const auto& at : r.distance) {
      const Measured m = measured(at);
      line.y.push_back(m.value);
    }
    lines.push_back(line);
  }
  out.result =
      concat("At σ = ", format_general(sigmas.back()), " the bound of the gap is ",
             format_general(stability_ratio(lipschitz, beta, sigmas.back(), o.c, T), 3),
             " times SGD's, the distance between twin runs ",
             format(geometric_ratio(results.back().distance.back(), results[0].distance.back())),
             " times SGD's; the measured gap is ", format(gaps.back()), ", the bound ",
             format_general(bounds.back(), 3), " (± standard errors over ", o.runs, " pairs of runs).");
  out.tables.emplace_back(
      concat("Twin runs beside the bound of Hardt, Recht and Singer; ± is the standard error over ", o.runs,
             " pairs of runs"),
      table);
  out.pictures.push_back({"stability",
                          plot::line_chart(lines, {.title = "Distance between twin runs",
                                                   .x = {.title = "updates", .scale = plot::Scale::log},
                                                   .y = {.title = "‖θ − θ'‖, mean", .min = 0}}),
                          concat("Mean over ", o.runs, " pairs of runs.")});
  std::vector<double> gap, change;
  for (std::size_t k = 0; k < sigmas.size(); ++k)
    gap.push_back(gaps[k].value), change.push_back(changes[k].value);
  out.pictures.push_back(
      {"stability-gap",
       plot::line_chart({{.name = "bound of the gap", .x = sigmas, .y = bounds, .color = dashed(0)},
                         {.name = "largest change of a loss", .x = sigmas, .y = change, .color = 1},
                         dots("", sigmas, changes, 1),
                         {.name = "gap", .x = sigmas, .y = gap, .color = 0},
                         dots("", sigmas, gaps, 0)},
                        {.title = "The bound beside the measured gap",
                         .x = {.title = "σ"},
                         .y = {.title = "clipped loss", .scale = plot::Scale::log}}),
       concat("Mean over ", o.runs, " pairs of runs. ", error_bars, " over them.")});
  return out;
}

}  // namespace theory
