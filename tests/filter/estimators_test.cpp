// The estimators: each agrees with the exact gradient of the smoothed loss, with constant σ, within its
// Monte-Carlo error; their variances are printed.
#include <algorithm>

#include "lpf/ops/matmul.hpp"
#include "networks.hpp"

namespace lpf::test {
namespace {

std::string name_of(Estimator e) {
  for (const NamedEstimator& known : named_estimators)
    if (known.value == e) return known.name;
  return "";
}

/// Running mean and variance of a vector (Welford).
struct Moments {
  std::vector<double> mean, squares;
  double n = 0;
  void add(const std::vector<double>& x) {
    mean.resize(x.size());
    squares.resize(x.size());
    ++n;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double d = x[i] - mean[i];
      mean[i] += d / n;
      squares[i] += d * (x[i] - mean[i]);
    }
  }
  double variance(std::size_t i) const { return squares[i] / (n - 1); }
  double total_variance() const {
    double sum = 0;
    for (std::size_t i = 0; i < mean.size(); ++i) sum += variance(i);
    return sum;
  }
  /// Largest |mean − expected| in units of its standard error.
  double worst(const std::vector<double>& expected) const {
    double out = 0;
    for (std::size_t i = 0; i < mean.size(); ++i) {
      const double difference = std::abs(mean[i] - expected[i]), se = std::sqrt(variance(i) / n);
      if (difference > 1e-14 * std::abs(expected[i])) out = std::max(out, difference / se);
    }
    return out;
  }
};

struct Estimated {
  Moments gradient, loss;
};

/// Many passes with fresh noise at one θ.
template <class Loss>
Estimated estimate(const ParameterStore& params, LowPassFilterOptions options, Loss loss, int passes) {
  LowPassFilter filter(std::move(options));
  Estimated out;
  for (int pass = 0; pass < passes; ++pass) {
    params.zero_grad();
    const auto scope = filter.perturb(params);
    const Tensor l = loss();
    l.backward();
    out.gradient.add(params.gradient().to_vector());
    out.loss.add({l.item()});
  }
  params.zero_grad();
  return out;
}

/// σ of each row of a parameter.
Tensor sigma_of(const ParameterStore& params, double gamma, std::size_t parameter) {
  const auto rows = filter::segments_of(params, NoiseLaw::filter_wise, {});
  const auto& segment = rows.segments[static_cast<std::size_t>(rows.segment_of[parameter])];
  return narrow(filter::scales(params, rows, gamma), 0, segment.first_scale, segment.rows).detach();
}

TEST_CASE("a quadratic: every estimator's mean is the exact gradient, every mean loss L + ½tr(HΣ) [slow]") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", 4, 3);
  const std::int64_t batch = 18;
  const Tensor x = normal({batch, 4}, 1), y = normal({batch, 3}, 2);
  const auto loss = [&] { return mse_loss(fc(x), y); };
  const Tensor plain = loss();
  plain.backward();
  const auto exact = params.gradient().to_vector();  // linear in θ: E ∇L(θ + ε) = ∇L(θ)
  const double gamma = 0.4;
  // L = Σ_bk (w_k·x_b + β_k − y_bk)²/(3B): a fresh ε adds Σ_bk (‖x_b‖²σ_k² + σ_β²)/(3B)
  const double sigma_w = sum(square(sigma_of(params, gamma, 0))).item(),
               sigma_b = sigma_of(params, gamma, 1).item();
  const double smoothed =
      plain.item() + sum(square(x)).item() * sigma_w / static_cast<double>(3 * batch) + sigma_b * sigma_b;
  for (const std::int64_t M : {std::int64_t{4}, batch})  // 4: ragged slices
    for (const NamedEstimator& named : named_estimators) {
      const Estimator estimator = named.value;
      CAPTURE(name_of(estimator));
      const auto found =
          estimate(params, {.M = M, .gamma = gamma, .estimator = estimator, .seed = 1}, loss, 6000);
      CHECK(found.gradient.worst(exact) < 4.5);
      CHECK(found.loss.worst({smoothed}) < 4.5);
      CHECK(found.loss.worst({plain.item()}) > 20);
      MESSAGE("quadratic, M = ", M, ", ", name_of(estimator), ": variance of the gradient ",
              found.gradient.total_variance(), ", of the loss ", found.loss.variance(0));
    }
}

/// x [B, 3] → tanh, 5 units → 2 outputs.
struct SmallNet {
  nn::Linear fc1, fc2;
  explicit SmallNet(const nn::Path& p) : fc1(p / "fc1", 3, 5), fc2(p / "fc2", 5, 2) {}
  Tensor operator()(const Tensor& x) const { return fc2(tanh(fc1(x))); }
};

/// E L(θ + ε) of SmallNet's squared error, exactly. A hidden unit is tanh(u + t z) with t² = ‖x‖²σ_k²
/// + σ_β² and z standard normal, independent of the other units; its first two moments are integrals
/// over z (trapezoidal rule: accurate to rounding for analytic functions times a Gaussian). The outer
/// layer is quadratic in its noise.
Tensor smoothed_loss(const ParameterStore& params, const SmallNet& net, const Tensor& x, const Tensor& y,
                     double gamma) {
  const Tensor s1 = sigma_of(params, gamma, 0), b1 = sigma_of(params, gamma, 1),
               s2 = sigma_of(params, gamma, 2), b2 = sigma_of(params, gamma, 3);
  const Tensor u = net.fc1(x);
  const Tensor t = sqrt(add(mul(sum(square(x), {1}, true), square(s1)), square(b1)));
  Tensor m = zeros_like(u), q = zeros_like(u);  // E h, E h²
  const double step = 0.2;
  for (double z = -9; z <= 9; z += step) {
    const double weight = step * std::exp(-z * z / 2) / std::sqrt(2 * std::acos(-1.0));
    const Tensor h = tanh(add(u, affine(t, z, 0)));
    m = add(m, affine(h, weight, 0));
    q = add(q, affine(square(h), weight, 0));
  }
  const Tensor w = net.fc2.weight.clean(), mean_output = linear(m, w, net.fc2.bias.clean());
  const Tensor of_hidden = linear(sub(q, square(m)), square(w));
  const Tensor of_weights = mul(sum(q, {1}, true), square(s2));
  return mean(add(add(square(sub(mean_output, y)), of_hidden), add(of_weights, square(b2))));
}

TEST_CASE(
    "a small network, biases perturbed: every estimator's mean is the gradient of the smoothed loss [slow]") {
  const ParameterStore params({.dtype = float64, .seed = 5});
  const SmallNet net(params);
  const std::int64_t batch = 16;
  const Tensor x = normal({batch, 3}, 1), y = normal({batch, 2}, 2);
  const double gamma = 0.5;
  const auto gradient_of = [&](const Tensor& loss) {
    params.zero_grad();
    loss.backward();
    return params.gradient().to_vector();
  };
  const auto loss = [&] { return mse_loss(net(x), y); };
  const auto plain = gradient_of(loss());
  const Tensor smoothed = smoothed_loss(params, net, x, y, gamma);
  const auto exact = gradient_of(smoothed);
  CHECK(relative_error(smoothed_loss(params, net, x, y, 0), loss()) < 1e-14);

  const auto check = [&](Estimator estimator, std::int64_t M) {
    CAPTURE(name_of(estimator));
    CAPTURE(M);
    const auto found =
        estimate(params, {.M = M, .gamma = gamma, .estimator = estimator, .seed = 1}, loss, 8000);
    CHECK(found.gradient.worst(exact) < 4.5);
    CHECK(found.loss.worst({smoothed.item()}) < 4.5);
    CHECK(found.gradient.worst(plain) > 20);  // the test would detect an estimate of another gradient
    MESSAGE("small network, M = ", M, ", ", name_of(estimator), ": variance of the gradient ",
            found.gradient.total_variance(), ", of the loss ", found.loss.variance(0));
    return found.gradient.total_variance();
  };
  const double replicas = check(Estimator::replicas, 8), antithetic = check(Estimator::antithetic, 8),
               fresh = check(Estimator::replicas, batch), per_sample = check(Estimator::per_sample, 8);
  check(Estimator::flipout, 8);
  check(Estimator::flipout_pairs, 8);
  check(Estimator::flipout, batch);
  CHECK(per_sample < fresh);  // the same noise law, with a conditional mean instead of dx
  CHECK(fresh < replicas);
  CHECK(antithetic < 2 * replicas);
}

TEST_CASE("per sample: the pre-activations have the law of a fresh ε for every sample [slow]") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Linear fc(params / "fc", 4, 3);
  const std::int64_t batch = 5, outputs = batch * 3;
  Tensor x = normal({batch, 4}, 1);
  x.alias({4}, 8).zero_();  // sample 2: only the bias is noisy
  const double gamma = 0.3;
  const Tensor clean = fc(x).detach();
  const Tensor variance = add(mul(sum(square(x), {1}, true), square(sigma_of(params, gamma, 0))),
                              square(sigma_of(params, gamma, 1)));
  const auto mean_of = clean.to_vector(), variance_of = variance.to_vector();
  for (const auto estimator : {Estimator::per_sample, Estimator::replicas}) {
    CAPTURE(name_of(estimator));
    LowPassFilter filter({.M = batch, .gamma = gamma, .estimator = estimator, .seed = 2});
    const auto off = no_grad();
    const double n = 20000;
    std::vector<double> all;
    Moments first, products;
    for (int pass = 0; pass < static_cast<int>(n); ++pass) {
      const auto scope = filter.perturb(params);
      std::vector<double> z = fc(x).to_vector(), pairs;
      for (std::size_t i = 0; i < z.size(); ++i) z[i] = (z[i] - mean_of[i]) / std::sqrt(variance_of[i]);
      for (std::size_t i = 0; i < z.size(); ++i)
        for (std::size_t j = i; j < z.size(); ++j) pairs.push_back(z[i] * z[j]);
      first.add(z);
      products.add(pairs);
      all.insert(all.end(), z.begin(), z.end());
    }
    // mean 0, variance 1, and independent over samples and outputs
    CHECK(first.worst(std::vector<double>(static_cast<std::size_t>(outputs), 0.0)) < 4.5);
    std::vector<double> identity;
    for (std::int64_t i = 0; i < outputs; ++i)
      for (std::int64_t j = i; j < outputs; ++j) identity.push_back(i == j ? 1 : 0);
    CHECK(products.worst(identity) < 4.5);
    // and normal
    std::sort(all.begin(), all.end());
    double distance = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
      distance = std::max(distance, std::abs(std::erfc(-all[i] / std::sqrt(2.0)) / 2 -
                                             static_cast<double>(i) / static_cast<double>(all.size())));
    CHECK(distance * std::sqrt(static_cast<double>(all.size())) < 1.95);  // Kolmogorov: p > 0.001
  }
}

TEST_CASE("per sample: the gradient is that of the formula as it stands, and 0 where there is no noise") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Linear fc(params / "fc", 4, 3), bare(params / "bare", 4, 3, {.bias = false});
  Tensor x = normal({5, 4}, 1);
  x.alias({4}, 8).zero_();
  x.requires_grad_();
  const double gamma = 0.3;
  const Tensor g = normal({5, 3}, 7);
  for (const auto* layer : {&fc, &bare}) {
    const bool biased = layer->bias.defined();
    LowPassFilter filter({.M = 2, .gamma = gamma, .estimator = Estimator::per_sample});
    params.zero_grad();
    Tensor y;
    {
      const auto scope = filter.perturb(params);
      y = (*layer)(x);
    }
    const Tensor dx = grad(y, {x}, {.retain_graph = true, .gradient = g})[0];
    const Tensor composed = grad(y, {x}, {.create_graph = true, .gradient = g})[0];
    CHECK(relative_error(composed.detach(), dx) < 1e-14);
    // the second derivative, along a direction, against the composed gradient near x
    const Tensor v = normal({5, 4}, 8), second = grad(sum(mul(composed, v)), {x}, {.retain_graph = true})[0];
    const auto gradient_at = [&](double step) {
      const Tensor beside = add(x.detach(), affine(v, step, 0)).requires_grad_();
      LowPassFilter same({.M = 2, .gamma = gamma, .estimator = Estimator::per_sample});
      const auto scope = same.perturb(params);
      return grad((*layer)(beside), {beside}, {.gradient = g})[0];
    };
    const Tensor numeric = affine(sub(gradient_at(1e-5), gradient_at(-1e-5)), 1 / 2e-5, 0);
    const Tensor here = narrow(second, 0, 0, 2),
                 there = narrow(numeric, 0, 0, 2);  // row 2 is the kink at x = 0
    CHECK(relative_error(here, there) < 1e-7);
    y.backward(g);
    x.zero_grad();
    const auto off = no_grad();
    const Tensor w = layer->weight.clean();
    Tensor square_t = mul(sum(square(x), {1}, true), square(sigma_of(params, gamma, layer->weight.index())));
    if (biased) square_t = add(square_t, square(sigma_of(params, gamma, layer->bias.index())));
    const auto t = sqrt(square_t), noise = sub(y, linear(x, w, biased ? layer->bias.clean() : Tensor()));
    const auto s = sigma_of(params, gamma, layer->weight.index());
    std::vector<double> sums(20, 0.0);
    for (std::int64_t b = 0; b < 5; ++b)
      for (std::int64_t k = 0; k < 3; ++k)
        for (std::int64_t j = 0; j < 4; ++j) {
          const double tk = t[b][k].item(), xi = tk > 0 ? noise[b][k].item() / tk : 0;
          const double slope =
              w[k][j].item() + (tk > 0 ? std::pow(s[k].item(), 2) * xi * x[b][j].item() / tk : 0);
          sums[static_cast<std::size_t>(4 * b + j)] += g[b][k].item() * slope;
        }
    const Tensor expected = from_vector(sums, {5, 4});
    CHECK(relative_error(dx, expected) < 1e-13);
    CHECK(relative_error(layer->weight.clean().grad(), matmul(transpose(g), x)) < 1e-14);
    if (biased) CHECK(relative_error(layer->bias.clean().grad(), sum(g, {0})) < 1e-14);
    if (!biased) CHECK(same_bits(noise[2], zeros({3}, {.dtype = float64})));
  }
}

TEST_CASE("per sample: a batch in parts has the noise of the whole") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const nn::Linear fc(params / "fc", 4, 3);
  const Tensor x = normal({9, 4}, 1);
  LowPassFilter filter({.M = 3, .gamma = 0.3, .estimator = Estimator::per_sample});
  const auto run = [&](std::int64_t from, std::int64_t to) {
    filter.set_draws(0);
    const auto scope = filter.perturb(params);
    const nn::MicroBatch part(from, to - from);
    return fc(slice(x, 0, from, to)).detach();
  };
  CHECK(relative_error(concatenate({run(0, 4), run(4, 9)}), run(0, 9)) < 1e-15);
}

TEST_CASE("per sample: a weight or a bias used twice is a StateError") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 3, 3);
  nn::Linear bias_sharer(params / "b", 3, 3, {.bias = false}), weight_sharer = fc;
  bias_sharer.bias = fc.bias;
  const Tensor x = normal({4, 3}), tokens = normal({4, 2, 3});
  LowPassFilter filter({.M = 2, .gamma = 0.1, .estimator = Estimator::per_sample});
  {
    const auto scope = filter.perturb(params);
    const Tensor h = fc(x);
    CHECK_ERROR(fc(h), StateError, "'fc.weight'", "twice", "Estimator::replicas");
    CHECK_ERROR(weight_sharer(h), StateError, "'fc.weight'");
    CHECK_ERROR(bias_sharer(h), StateError, "'fc.bias'");
    CHECK_ERROR(fc(tokens), StateError, "'fc.", "Estimator::replicas");  // rank 3 requires replicas
    CHECK_ERROR(linear(x, fc.weight), StateError, "'fc.weight'", "Estimator::replicas");  // a tied use
    CHECK_ERROR(mul(h, per_sample(fc.bias, h)), StateError, "'fc.bias'");
  }
  {
    const auto scope = filter.perturb(params);
    static_cast<void>(fc(tokens));
    CHECK_ERROR(fc(x), StateError, "'fc.weight'", "twice");
  }
  {
    const auto scope = filter.perturb(params);
    CHECK_NOTHROW(static_cast<void>(bias_sharer(x)));
    CHECK_ERROR(fc(x), StateError, "'fc.bias'");
  }
  {  // tokens may be used twice: the replicas are the same
    const auto scope = filter.perturb(params);
    CHECK_NOTHROW(static_cast<void>(fc(fc(tokens))));
  }
  // a parameter excluded from the filter has no noise to share
  LowPassFilter others(
      {.M = 2, .gamma = 0.1, .estimator = Estimator::per_sample, .include = [](const ParameterInfo& info) {
         return info.name == "b.weight";
       }});
  const auto scope = others.perturb(params);
  CHECK(same_bits(
      fc(fc(x)).detach(),
      linear(linear(x, fc.weight.clean(), fc.bias.clean()), fc.weight.clean(), fc.bias.clean()).detach()));
  CHECK(relative_error(bias_sharer(x), linear(x, bias_sharer.weight.clean(), fc.bias.clean())) > 1e-6);
}

TEST_CASE("per sample: convolutions, tokens and vectors stay replicas") {
  const std::int64_t batch = 7;
  struct Net {
    nn::Embedding embed;
    nn::Linear fc;
    nn::LayerNorm norm;
    nn::Conv2d conv;
    explicit Net(const nn::Path& p)
        : embed(p / "e", 9, 6), fc(p / "fc", 6, 4), norm(p / "n", 4), conv(p / "c", 2, 3, 2) {}
    Tensor operator()(const Tensor& tokens) const {
      const Tensor h = tanh(norm(fc(embed(tokens))));  // [B, 4, 4]
      return square(conv(reshape(h, {h.size(0), 2, 4, 2})));
    }
  };
  const Problem data(Kind::token, batch);
  const ParameterStore one({.dtype = float64, .seed = 8}), other({.dtype = float64, .seed = 8});
  const Net net(one), looped(other);
  LowPassFilter filter({.M = 3, .gamma = 0.2, .estimator = Estimator::per_sample});
  {
    const auto scope = filter.perturb(one);
    mean(net(data.x)).backward();
  }
  filter::unfused_gradient(other, filter, 0, batch,
                           [&](auto from, auto to) { return mean(looped(slice(data.x, 0, from, to))); });
  CHECK(distance(one.gradient(), other.gradient()) < 1e-12);
  // and with a linear layer on [B, in], which draws its own noise
  const Problem p(Kind::token, batch);
  LowPassFilter mixed({.M = 2, .gamma = 0.1, .estimator = Estimator::per_sample});
  const auto scope = mixed.perturb(p.params);
  p.loss().backward();
  for (const auto& info : p.params.parameters())
    CHECK(amax(reshape(abs(p.params.tensor(info.index).grad()), {info.numel()}), 0).item() > 0);
  CHECK_ERROR(p.loss(), StateError, "'fc2.weight'", "twice");
}

TEST_CASE("per sample: more replicas than samples is an error, as ever") {
  const ParameterStore params;
  const nn::Linear fc(params / "fc", 3, 3);
  LowPassFilter filter({.M = 5, .gamma = 0.1, .estimator = Estimator::per_sample});
  const auto scope = filter.perturb(params);
  CHECK_ERROR(fc(normal({4, 3}, 1, float32)), ShapeError, "M = 5", "4");
}

}  // namespace
}  // namespace lpf::test
