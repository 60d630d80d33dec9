// (a) Smoothness against σ. The Hessian of a smoothed loss is E[∇L(θ + σε) εᵀ]/σ (integration by parts), so gradients
// of draws measure it, at kinks too.
#pragma once

#include <array>
#include <lpf/calculus/hvp.hpp>
#include <lpf/models/mlp.hpp>
#include <lpf/sharpness/landscape.hpp>

#include "pass.hpp"

namespace theory {

/// Gradients at θ + σε and θ − σε for `pairs` draws: the offsets ε [pairs, d], half the difference of the two
/// gradients [pairs, d], and the largest of their norms.
struct PairedGradients {
  Tensor offsets, differences;
  double largest = 0;
  double mean_square = 0;
};

inline PairedGradients paired_gradients(const sharpness::Landscape& l, double sigma, std::int64_t pairs,
                                        const NoiseKey& key) {
  const auto off = no_grad();
  const Tensor noise = mul(randn({pairs, l.size()}, key, doubles), l.units());  // zero between parameters
  PairedGradients out{noise, empty_like(noise)};
  const std::int64_t group = l.options().replicas;
  for (std::int64_t at = 0; at < pairs; at += group) {
    const std::int64_t count = std::min(group, pairs - at);
    const Tensor part = slice(noise, 0, at, at + count);
    const auto gradients = [&](double sign) {
      const Tensor g = zeros_like(part);
      l.add_gradients(affine(part, sign * sigma, 0), l.copies(0, l.samples(), count),
                      1.0 / static_cast<double>(l.samples()), g);
      for (const double square : sum(lpf::square(g), {1}).to_vector<double>()) {
        out.largest = std::max(out.largest, std::sqrt(square));
        out.mean_square += square / static_cast<double>(2 * pairs);
      }
      return g;
    };
    const Tensor plus = gradients(1), minus = gradients(-1);
    slice(out.differences, 0, at, at + count).copy_(affine(sub(plus, minus), 0.5, 0));
  }
  return out;
}

/// The unit vector along which the symmetric part of the matrix H [d, d] has its largest curvature in absolute value.
inline Tensor steepest_direction(const Tensor& h) {
  const auto off = no_grad();
  const std::int64_t d = h.size(0);
  const Tensor symmetric = affine(add(h, h.transpose()), 0.5, 0);
  Tensor v = affine(rand({d, 1}, {.seed = 1, .purpose = Purpose::user}, doubles), 1, 0.5);
  for (int i = 0; i < 300; ++i) {
    v = matmul(symmetric, matmul(symmetric, v));  // two at once: eigenvalues of both signs
    const double size = std::sqrt(sum(square(v)).item());
    if (size == 0) return ones_like(v);
    v = affine(v, 1 / size, 0);
  }
  return v;
}

/// The curvature of the smoothed loss along a direction that half of the draws chose, from the other half: unbiased,
/// with its standard error, and never above the largest curvature but for that error.
inline Measured smoothed_curvature(const PairedGradients& g, double sigma) {
  const auto off = no_grad();
  const std::int64_t half = g.offsets.size(0) / 2;
  const auto part = [&](const Tensor& t, bool second) {
    return slice(t, 0, second ? half : 0, second ? 2 * half : half);
  };
  const Tensor h = matmul(part(g.offsets, false).transpose(), part(g.differences, false));
  const Tensor u = steepest_direction(h);
  const Tensor along = mul(matmul(part(g.offsets, true), u), matmul(part(g.differences, true), u));
  Measured m = measured(affine(along, 1 / sigma, 0).to_vector<double>());
  m.value = std::abs(m.value);
  return m;
}

/// The largest absolute eigenvalue of ∇²L at θ, by the power method on Hessian-vector products.
inline double largest_curvature(const Tensor& loss, const ParameterStore& params, int steps = 40) {
  const std::vector<Tensor> leaves = params.leaves();
  const HessianVectorProduct h(loss, leaves);
  std::vector<Tensor> v;
  for (std::size_t i = 0; i < leaves.size(); ++i)
    v.push_back(affine(rand(leaves[i].shape(), {.seed = i}, doubles), 1, 0.5));
  double size = 0;
  for (int k = 0; k < steps; ++k) {
    double squares = 0;
    v = h(v);
    for (const Tensor& part : v) squares += sum(square(part)).item();
    size = std::sqrt(squares);
    if (size == 0) return 0;
    for (Tensor& part : v) part = affine(part, 1 / size, 0);
  }
  return size;
}

/// A function of one number whose largest smoothed curvature is known, at 0.
struct KnownFunction {
  std::string name;
  double lipschitz, beta;
  Tensor (*f)(const Tensor&);
  Jet (*smoothed)(double, double);
};
inline const std::array<KnownFunction, 3>& known_functions() {
  static const std::array<KnownFunction, 3> all{
      {{"|x|", 1, infinity, [](const Tensor& x) { return abs(x); }, smoothed_abs},
       {"max(0, x)", 1, infinity, [](const Tensor& x) { return relu(x); }, smoothed_relu},
       {"cos 2x", 2, 4, [](const Tensor& x) { return cos(affine(x, 2, 0)); },
        [](double x, double sigma) { return smoothed_cos(x, 2, 0, sigma); }}}};
  return all;
}

/// The curvature at 0 of a known function's smoothed form, measured with `pairs` draws.
inline Measured known_curvature(const KnownFunction& f, double sigma, std::int64_t pairs,
                                const NoiseKey& key) {
  const Point point(zeros({1}, doubles));
  const auto losses = [&](const Tensor& x, const Tensor&) {
    return reshape(f.f(point.read(x.size(0))), {x.size(0)});
  };
  const Tensor none = zeros({1, 1}, doubles);
  const sharpness::Landscape l(point.params, {none, none}, losses, {false, 2000, 0});
  return smoothed_curvature(paired_gradients(l, sigma, pairs, key), sigma);
}

/// A network 2-8-1 on the four quadrants of the plane: 64 points, labels by the sign of x·y, logistic loss.
struct SmallNetwork {
  ParameterStore params{{.dtype = float64, .seed = 3}};
  nn::Linear first, second;
  Tensor x, y;
  bool smooth;

  explicit SmallNetwork(bool tanh)
      : first(nn::Path(params) / "fc1", 2, 8),
        second(nn::Path(params) / "fc2", 8, 1),
        x(randn({64, 2}, {.seed = 5}, doubles)),
        smooth(tanh) {
    std::vector<double> labels;
    const auto at = x.to_vector<double>();
    for (std::size_t i = 0; i < at.size(); i += 2) labels.push_back(at[i] * at[i + 1] > 0 ? 1 : 0);
    y = from_vector(labels, {64, 1});
  }
  Tensor losses(const Tensor& in, const Tensor& label) const {
    const Tensor h = first(in);
    const Tensor out = second(smooth ? tanh(h) : relu(h));
    return reshape(bce_with_logits(out, label, {.reduction = Reduction::none}), {in.size(0)});
  }
  sharpness::Landscape landscape(std::int64_t replicas) const {
    return {params,
            {x, y},
            [this](const Tensor& in, const Tensor& label) { return losses(in, label); },
            {false, replicas, 0}};
  }
  void move_to(std::uint64_t point) const {
    const auto off = no_grad();
    for (const ParameterInfo& info : params.parameters())
      params.tensor(info.index)
          .detach()
          .copy_(randn(info.shape, {.seed = point, .parameter = static_cast<std::uint32_t>(info.index)},
                       doubles));
  }
};

/// What is measured of a network at one σ: the largest gradient of all draws, the largest curvature of the loss at the
/// points and at some draws around them (infinite with ReLU, whose kinks have none), that of the smoothed loss.
struct NetworkSmoothness {
  double sigma = 0, lipschitz = 0, beta = 0;
  double root_mean_square = 0;  ///< √E‖∇L(θ + σε)‖² at the point of the largest smoothed curvature
  Measured smoothed = {};
};

inline NetworkSmoothness network_smoothness(const SmallNetwork& net, double sigma, std::int64_t points,
                                            std::int64_t pairs, std::uint64_t seed) {
  const sharpness::Landscape l = net.landscape(50);
  NetworkSmoothness out{.sigma = sigma, .beta = net.smooth ? 0 : infinity};
  std::uint64_t steepest = 0;
  for (std::uint64_t p = 0; p < static_cast<std::uint64_t>(points); ++p) {
    net.move_to(p);
    const PairedGradients g = paired_gradients(l, sigma, pairs, {.seed = seed, .draw = p});
    const Measured at = smoothed_curvature(g, sigma);
    out.lipschitz = std::max(out.lipschitz, g.largest);
    if (at.value > out.smoothed.value) out.smoothed = at, steepest = p;
    for (std::int64_t k = 0; k < 4 && net.smooth; ++k) {
      net.move_to(p);
      if (k > 0) {
        const Tensor theta = net.params.theta();
        const auto off = no_grad();
        theta.copy_(add(theta, affine(g.offsets[k], sigma, 0)));
      }
      out.beta = std::max(out.beta, largest_curvature(mean(net.losses(net.x, net.y)), net.params));
    }
  }
  // The point was chosen for its value: it is measured again with other draws.
  net.move_to(steepest);
  const PairedGradients again =
      paired_gradients(l, sigma, 2 * pairs, {.seed = seed, .draw = static_cast<std::uint64_t>(points)});
  out.smoothed = smoothed_curvature(again, sigma);
  out.lipschitz = std::max(out.lipschitz, again.largest);
  out.root_mean_square = std::sqrt(again.mean_square);
  return out;
}

inline Section smoothness(const Settings& s) {
  Section out{
      "smoothness", "Smoothness against σ",
      "A smoothed loss is min{L/σ, β}-smooth. |x| has the largest curvature that smoothing can leave of any "
      "function with its Lipschitz constant, √(2/π)·L/σ."};
  const std::vector<double> sigmas =
      s.quick ? std::vector{.1, 1.0} : std::vector{.01, .03, .1, .2, .3, .5, 1.0, 2.0};
  TextTable known({"function", "σ", "curvature measured", "exact", "errors off", "min{L/σ, β}"});
  std::size_t counted = 0, above = 0;
  double farthest = 0;  // from the closed form, in standard errors
  std::vector<plot::Series> lines;
  int color = 0;
  for (const KnownFunction& f : known_functions()) {
    std::vector<Measured> found;
    for (const double sigma : sigmas) {
      const Measured m = known_curvature(f, sigma, s.size(20000, 2000),
                                         {.seed = s.seed,
                                          .draw = static_cast<std::uint64_t>(found.size()),
                                          .replica = static_cast<std::uint32_t>(color)});
      const double exact = std::abs(f.smoothed(0, sigma).curvature);
      const double bound = smoothness_bound(f.lipschitz, f.beta, sigma);
      known.add_row({f.name, format_general(sigma), format(m), format_general(exact),
                     format_fixed((m.value - exact) / m.error, 1), format_general(bound)});
      out.records.push_back({{"function", f.name},
                             {"sigma", sigma},
                             {"measured", m.value},
                             {"error", m.error},
                             {"exact", exact},
                             {"bound", bound},
                             {"lipschitz", f.lipschitz},
                             {"beta", f.beta}});
      farthest = std::max(farthest, std::abs(m.value - exact) / m.error);
      ++counted, above += m.value > bound + 3 * m.error ? 1u : 0u;
      found.push_back(m);
      s.step();
    }
    std::vector<double> grid, exact, bound;
    for (double e = std::log(sigmas.front()); e <= std::log(sigmas.back()) + 1e-9; e += .05) {
      grid.push_back(std::exp(e));
      exact.push_back(std::abs(f.smoothed(0, grid.back()).curvature));
      bound.push_back(smoothness_bound(f.lipschitz, f.beta, grid.back()));
    }
    lines.push_back({.name = f.name + ", exact", .x = grid, .y = exact, .color = color});
    if (color != 1)
      lines.push_back({.name = f.name + ", min{L/σ, β}", .x = grid, .y = bound, .color = dashed(color)});
    lines.push_back(dots(color == 0 ? "measured" : "", sigmas, found, color));
    ++color;
  }
  out.result =
      concat(counted, " measured curvatures of smoothed functions lie within ", format_fixed(farthest, 1),
             " standard errors of the closed forms; ", above == 0 ? "none" : concat(above),
             above == 1 ? " is" : " are", " above min{L/σ, β} by more than three.");
  out.tables.emplace_back(
      "Largest curvature of smoothed functions of one number; ± is the standard error over the draws", known);
  out.pictures.push_back(
      {"smoothness",
       plot::line_chart(lines, {.title = "Curvature of smoothed functions",
                                .x = {.title = "σ", .scale = plot::Scale::log},
                                .y = {.title = "largest curvature", .scale = plot::Scale::log, .min = 1e-3}}),
       concat("Lines: closed forms, and dashed the bounds. Dots: measured. ", error_bars,
              " over the draws.")});

  TextTable networks(
      {"network", "σ", "L measured", "β measured", "min{L/σ, β}", "smoothed β measured", "√E‖∇L‖²/σ there"});
  lines.clear();
  for (const bool smooth : {true, false}) {
    const SmallNetwork net(smooth);
    const std::string name = smooth ? "tanh" : "ReLU";
    plot::Series bound{.name = name + ", min{L/σ, β}", .color = dashed(smooth ? 0 : 1)};
    std::vector<Measured> found;
    std::vector<double> at;
    for (const double sigma : sigmas) {
      if (sigma < .03) continue;
      const NetworkSmoothness n = network_smoothness(net, sigma, s.size(6, 2), s.size(1500, 200), s.seed);
      const double limit = smoothness_bound(n.lipschitz, n.beta, sigma);
      networks.add_row({name, format_general(sigma), format_general(n.lipschitz, 3),
                        std::isinf(n.beta) ? "∞" : format_general(n.beta, 3), format_general(limit, 3),
                        format(n.smoothed), format_general(n.root_mean_square / sigma, 3)});
      out.records.push_back({{"function", name + " network"},
                             {"sigma", sigma},
                             {"measured", n.smoothed.value},
                             {"error", n.smoothed.error},
                             {"exact", std::nan("")},
                             {"bound", limit},
                             {"lipschitz", n.lipschitz},
                             {"beta", n.beta}});
      bound.x.push_back(sigma), bound.y.push_back(limit);
      at.push_back(sigma), found.push_back(n.smoothed);
      s.step();
    }
    std::vector<double> values;
    for (const Measured& m : found) values.push_back(m.value);
    lines.push_back({.name = name + ", measured", .x = at, .y = values, .color = smooth ? 0 : 1});
    lines.push_back(dots("", at, found, smooth ? 0 : 1));
    lines.push_back(bound);
  }
  out.tables.emplace_back(
      "Networks 2-8-1: L and β are the largest found, so the bound is an estimate; ± is the standard error "
      "over the draws",
      networks);
  out.pictures.push_back(
      {"networks",
       plot::line_chart(lines, {.title = "Curvature of smoothed losses of small networks",
                                .x = {.title = "σ", .scale = plot::Scale::log},
                                .y = {.title = "largest curvature", .scale = plot::Scale::log}}),
       concat("Dashed: the bounds, with the largest L and β found. ", error_bars, " over the draws.")});
  return out;
}

}  // namespace theory
