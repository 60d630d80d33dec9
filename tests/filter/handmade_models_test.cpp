// Models and losses written by hand from operations, in a perturbed pass: equal to M separate passes, or refused.
#include <cmath>

#include "lpf/nn/rms_norm.hpp"
#include "lpf/ops/clamp.hpp"
#include "lpf/ops/custom.hpp"
#include "lpf/ops/logsumexp.hpp"
#include "lpf/ops/mask.hpp"
#include "lpf/ops/matmul.hpp"
#include "lpf/ops/norm.hpp"
#include "lpf/ops/pad.hpp"
#include "lpf/ops/scan.hpp"
#include "lpf/ops/topk.hpp"
#include "networks.hpp"

namespace lpf::test {
namespace {

using Loss = std::function<Tensor(std::int64_t from, std::int64_t to)>;

/// Checks that one pass over `batch` samples equals separate passes, for several numbers of replicas.
void check_like_separate_passes(const ParameterStore& params, std::int64_t batch, const Loss& loss) {
  for (const std::int64_t M : {1, 2, 3, 6})
    for (const bool kept : {false, true}) {
      CAPTURE(M);
      CHECK(test::against_loop(params, {.M = M, .gamma = 0.2, .seed = 3, .keep_replica_gradients = kept},
                               batch, loss) < exactly);
    }
}

/// Attention of several heads with a class token, positions, a relative bias and a mask.
struct Attention {
  static constexpr std::int64_t T = 4, D = 6, H = 2;
  nn::Linear qkv, out;
  nn::RMSNorm norm;
  nn::Parameter token, positions, bias;
  explicit Attention(const ParameterStore& params)
      : qkv(params / "qkv", D, 3 * D),
        out(params / "out", D, D),
        norm(params / "norm", D),
        token(parameter(params, "token", {1, 1, D}, init::normal())),
        positions(parameter(params, "positions", {1, T, D}, init::normal())),
        bias(parameter(params, "bias", {H, T, T}, init::normal())) {}
  Tensor operator()(const Tensor& x, bool bias_first) const {  // [B, T − 1, D]
    const std::int64_t B = x.size(0);
    const Tensor h = norm(concatenate({expand(token, {B, 1, D}), x}, 1) + positions);
    const auto heads = [&](int i) {
      return narrow(qkv(h), 2, i * D, D).reshape({B, T, H, D / H}).permute({0, 2, 1, 3});
    };
    const Tensor open = tril(ones({1, 1, T, T}, x.options())), closed = 1e3 * (open - 1.0);
    const Tensor scores = matmul(heads(0), transpose(heads(1))) / std::sqrt(3.0);
    const Tensor p = softmax(bias_first ? scores + (bias.value() + closed) : scores + bias + closed);
    return out(matmul(p, heads(2)).permute({0, 2, 1, 3}).reshape({B, T, D}));
  }
};

TEST_CASE("attention by hand with a class token, positions, a relative bias and a mask") {
  const Tensor x = normal({6, Attention::T - 1, Attention::D}, 1);
  for (const bool bias_first : {false, true}) {
    const ParameterStore params({.dtype = float64, .seed = 2});
    const Attention net(params);
    check_like_separate_passes(params, 6, [&](auto from, auto to) {
      return mean(square(narrow(net(slice(x, 0, from, to), bias_first), 1, 0, 1)));
    });
  }
}

TEST_CASE(
    "weights composed of parameters: joined, stacked, chosen, low-rank, normalised, thresholded, gated") {
  constexpr std::int64_t B = 7, D = 4;
  const Tensor x = normal({B, D}, 1);
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Parameter a = parameter(params, "a", {3, D}, init::normal()),
                      b = parameter(params, "b", {2, D}, init::normal()),
                      down = parameter(params, "down", {1, D}, init::normal()),
                      up = parameter(params, "up", {5, 1}, init::normal()),
                      scale = parameter(params, "scale", {5, 1}, init::normal(1, 0.1)),
                      u = parameter(params, "u", {3}, init::normal()),
                      v = parameter(params, "v", {2}, init::normal());
  const Tensor order = tensor<std::int64_t>({3, 1, 1, 0}), twos = full({1, D}, 0.3, {.dtype = float64});
  const auto row = [&](auto from, auto to) { return slice(x, 0, from, to); };
  const auto both = [&] { return concatenate({a, b}, 0); };
  const std::vector<std::function<Tensor()>> weights = {
      both,
      [&] {
        return concatenate({twos, a, b}, 0);
      },
      [&] {
        return concatenate({index_select(a, 1, order), b});
      },
      [&] {
        return index_select(concatenate({a, b}), -1, order);
      },
      [&] { return both() + matmul(up, down); },
      [&] { return scale * both() / vector_norm(both(), {1}, true); },
      [&] { return where(abs(both()) > 0.4, both(), 0.1 * both()); },
      [&] { return where(both() > 0.0, both(), zeros({}, {.dtype = float64})); },
      [&] {
        return where(both() < scale.value(), both(), expand(scale, {5, D}));
      },
      [&] { return both() * (both() >= 0.0).to(float64); },
      [&] { return both() * (up.value() != scale).to(float64); },
      [&] { return masked_fill(both(), logical_not(both() > -0.2), -0.1); },
      [&] { return both() * prod(scale, 0); },
      [&] {
        return both() + prod(a, 1, true).reshape({3, 1})[0];
      },
      [&] {
        return reshape(stack({narrow(a, 0, 0, 2), b}, 1), {4, D});
      },
      [&] { return unsqueeze(matmul(u, a), 0) + both(); },
      [&] { return matmul(matmul(a, transpose(b)), b); },
      [&] {
        return matmul(a, transpose(a)).matmul(a) + matmul(replicate(ones({3, 2}, {.dtype = float64}), b), b);
      },
      [&] {
        return tanh(expand(unsqueeze(u, 1), {3, D})) + a;
      },
      [&] { return both() * matmul(v, v); },
      [&] {
        return pad(topk(a, 2, 1).values, {1, 1}) + a;
      },
      [&] { return both() / amax(abs(both())); },
      [&] { return softmax(both(), 0) * logsumexp(both(), {1}, true); },
      [&] { return map_replicas([](const Tensor& w) { return w - mean(w, {-1}, true); }, both()); }};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    CAPTURE(i);
    check_like_separate_passes(params, B, [&](auto from, auto to) {
      const Tensor w = weights[i](), h = linear(row(from, to), w);
      return mean(square(tanh(h)) + 0.1 * h);
    });
  }
}

TEST_CASE("mixtures of experts, gated units, tied weights, masks of activations") {
  constexpr std::int64_t B = 8, D = 4, E = 3;
  const Tensor x = normal({B, D}, 1);
  const Tensor words = integers({B, 5}, [](auto i) { return (i * i + 2 * i) % 7; });
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear gate(params / "gate", D, E), fc(params / "fc", D, D);
  const nn::Parameter experts = parameter(params, "experts", {E, D, D}, init::normal()),
                      shift = parameter(params, "shift", {E, D}, init::normal()),
                      threshold = parameter(params, "threshold", {D}, init::normal(0, 0.1));
  const nn::Embedding tok(params / "tok", 7, D);
  const auto rows = [&](auto from, auto to) { return slice(x, 0, from, to); };
  const auto mixture = [&](const Tensor& h, bool one) {
    Tensor p = softmax(gate(h)), y;
    if (one) p = where(p >= amax(p, 1, true), p, zeros({}, p.options()));
    for (std::int64_t e = 0; e < E; ++e) {
      const Tensor w = experts.value()[e], b = shift.value()[e];
      const Tensor part = narrow(p, 1, e, 1) * tanh(linear(h, w, b));
      y = e == 0 ? part : y + part;
    }
    return y;
  };
  for (const bool one : {false, true})
    check_like_separate_passes(
        params, B, [&](auto from, auto to) { return mean(square(mixture(rows(from, to), one))); });
  // The balance of the experts: the product of two means of each slice.
  check_like_separate_passes(params, B, [&](auto from, auto to) {
    const Tensor h = rows(from, to), p = softmax(gate(h)), first = (p >= amax(p, 1, true)).to(float64);
    return mean(square(mixture(h, true))) +
           sum(slice_mean(first, gate.weight, {0}) * slice_mean(p, gate.weight, {0}));
  });
  // Every expert for every sample, then the choice by an index of each sample.
  check_like_separate_passes(params, B, [&](auto from, auto to) {
    const Tensor h = rows(from, to),
                 all = linear(h, experts.value().reshape({E * D, D})).reshape({h.size(0), E, D});
    const Tensor chosen = argmax(gate(h), 1);
    return mean(square(gather(all, 1, expand(chosen.reshape({h.size(0), 1, 1}), {h.size(0), 1, D}))));
  });
  check_like_separate_passes(params, B, [&](auto from, auto to) {
    const Tensor h = rows(from, to), g = fc(h);
    return mean(silu(narrow(g, 1, 0, 2)) * narrow(g, 1, 2, 2)) + mean(square(maximum(g, threshold)));
  });
  check_like_separate_passes(params, B, [&](auto from, auto to) {
    const Tensor h = fc(rows(from, to));
    return mean(square(where(h > threshold.value(), h, threshold)) + where(abs(h) < 0.3, h, 0.5 * h));
  });
  check_like_separate_passes(params, B, [&](auto from, auto to) {
    const Tensor w = slice(words, 0, from, to), h = mean(tok(w), {1});
    return cross_entropy(linear(fc(h), tok.weight), w.narrow(1, 0, 1).squeeze(1));
  });
}

TEST_CASE("losses by hand: sums over other axes, logsumexp, slopes, several terms, penalties") {
  constexpr std::int64_t B = 7, T = 3, D = 4;
  const Tensor x = normal({B, T, D}, 1), target = integers({B, T}, [](auto i) { return i % 3; });
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", D, 3);
  const nn::Parameter s = parameter(params, "s", {}, init::normal()),
                      gain = parameter(params, "gain", {3}, init::normal());
  const auto logits = [&](auto from, auto to) { return fc(slice(x, 0, from, to)); };
  const auto losses = [&](auto from, auto to) {
    return mean(cross_entropy(logits(from, to), slice(target, 0, from, to), {.reduction = Reduction::none}),
                {1});
  };
  const auto l2 = [&] { return 0.3 * sum(square(fc.weight)); };
  const std::vector<Loss> all = {
      [&](auto f, auto t) {
        const Tensor z = logits(f, t);
        return mean(logsumexp(z, {2}) - gather(z, 2, unsqueeze(slice(target, 0, f, t), 2)).squeeze(2));
      },
      [&](auto f, auto t) {
        return mean(sum(square(logits(f, t)), {1, 2}));
      },
      [&](auto f, auto t) {
        return mean(vector_norm(logits(f, t), {1, 2}));
      },
      [&](auto f, auto t) {
        return mean(sqrt(mean(square(logits(f, t)), {1, 2})));
      },
      [&](auto f, auto t) { return mean(stddev(logits(f, t), {2})) + mean(amax(logits(f, t), {1})); },
      [&](auto f, auto t) { return mean(exp(-s.value()) * losses(f, t)) + s.value(); },
      [&](auto f, auto t) { return exp(-s.value()) * slice_mean(losses(f, t), s) + s.value(); },
      [&](auto f, auto t) { return sqrt(slice_mean(losses(f, t), s) + l2()); },
      [&](auto f, auto t) { return slice_mean(losses(f, t), s) * (1.0 + l2()); },
      [&](auto f, auto t) { return sqrt(slice_mean(square(logits(f, t)), s)); },
      [&](auto f, auto t) {
        const Tensor m = slice_mean(losses(f, t), s);
        return where(m > 1.0, m, square(m)) + abs(m - 1.0) + m / (1.0 + square(s.value()));
      },
      [&](auto f, auto t) { return mean(losses(f, t)) + l2(); },
      [&](auto f, auto t) { return 2.0 * (l2() - mean(losses(f, t)) / 4.0) / 3.0 + l2() * l2(); },
      [&](auto f, auto t) { return full({}, 0.5, {.dtype = float64}) * (mean(losses(f, t)) + l2()); },
      [&](auto f, auto t) { return mean(losses(f, t)) + mean(square(logits(f, t))) + sqrt(l2()); },
      [&](auto f, auto t) {
        return mean(mean(logits(f, t), {0, 1}) + gain) + mean(losses(f, t));
      },
      [&](auto f, auto t) {
        return sum(stack({mean(losses(f, t)) + l2(), l2()}));
      },
      [&](auto f, auto t) { return mean(mean(logits(f, t), {0}) + gain) + mean(losses(f, t)); },
      [&](auto f, auto t) {
        const Tensor h = permute(tanh(logits(f, t)), {0, 2, 1});
        return mean(permute(h + 0.5 * h, {0, 2, 1}) * gain);
      }};
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    check_like_separate_passes(params, B, all[i]);
  }
}

TEST_CASE("slice_mean: the mean of each slice, of one batch, of folded rows, and outside a pass") {
  const ParameterStore params({.dtype = float64});
  const nn::Parameter s = parameter(params, "s", {}, init::ones());
  const Tensor x = normal({5, 4}, 1);
  CHECK(same_bits(slice_mean(x, s).detach(), mean(x)));
  LowPassFilter filter({.M = 2, .gamma = 0});
  const auto scope = filter.perturb(params, 5);
  for (const Tensor& y : {x, reshape(x, {10, 2}), reshape(x, {5, 2, 2}), flatten(x)}) {
    const Tensor m = detail::remove_replica_dim(slice_mean(y, s));
    CHECK(m[0].item() == doctest::Approx(mean(slice(x, 0, 0, 3)).item()).epsilon(1e-14));
    CHECK(m[1].item() == doctest::Approx(mean(slice(x, 0, 3, 5)).item()).epsilon(1e-14));
  }
  CHECK_ERROR(slice_mean(mean(x), s), ShapeError, "[slice_mean]", "needs the batch");
  CHECK_ERROR(slice_mean(x, s, {1}), ShapeError, "[slice_mean]", "needs the batch");
  CHECK_ERROR(slice_mean(normal({7}), s), ShapeError, "[slice_mean]", "7 rows");
  CHECK_ERROR(slice_mean(unsqueeze(s, 0), s), ReplicaError, "[slice_mean]");
  const Tensor columns = detail::remove_replica_dim(slice_mean(x, s, {0}));
  CHECK(columns.shape() == Shape{2, 4});
  CHECK(test::largest_difference(columns[1], mean(slice(x, 0, 3, 5), {0})) < 1e-15);
}

TEST_CASE("what is not linear in a mean over the batch is refused") {
  constexpr std::int64_t B = 6;
  const Tensor x = normal({B, 4}, 1);
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", 4, 3);
  const nn::Parameter s = parameter(params, "s", {}, init::normal()),
                      gain = parameter(params, "gain", {3}, init::normal());
  const auto l2 = [&] { return sum(square(fc.weight)); };
  const auto loss = [&] { return mean(square(tanh(fc(x)))); };
  const std::vector<std::function<Tensor()>> refused = {
      [&] { return exp(-s.value()) * loss(); }, [&] { return loss() * exp(-s.value()); },
      [&] { return loss() * (1.0 + l2()); }, [&] { return loss() / s.value(); },
      [&] { return s.value() / loss(); }, [&] { return sqrt(loss() + l2()); },
      [&] { return (loss() + l2()) * l2(); }, [&] { return (loss() + l2()) * (loss() + l2()); },
      [&] { return (loss() + l2()) * loss(); }, [&] { return 1.0 / (loss() + l2()); },
      [&] { return square(0.5 * (l2() - loss()) + 1.0); }, [&] { return maximum(loss(), l2()); },
      [&] { return maximum(loss() + l2(), full({}, 0, x.options())); }, [&] { return pow(loss(), s); },
      [&] { return clamp(loss() + l2(), 0, 1); }, [&] { return where(loss() > 0.1, l2(), s); },
      [&] { return where(l2() > 0.1, loss(), s); },
      [&] {
        return amax(stack({loss() + l2(), l2()}));
      },
      [&] {
        return logsumexp(stack({loss() + l2(), l2()}));
      },
      [&] {
        return prod(stack({loss() + l2(), l2()}), 0);
      },
      [&] {
        return vector_norm(stack({loss() + l2(), l2()}));
      },
      [&] {
        return softmax(stack({loss() + l2(), l2()}));
      },
      [&] { return mean(mean(fc(x), {0}) * gain); }, [&] { return mean(tanh(mean(fc(x), {0}) + gain)); },
      [&] { return mean(fc(x) * (loss() + l2())); },
      [&] { return mean(linear(x, fc.weight.value() + loss())); },
      [&] { return exp(-s.value()) * loss().detach(); },
      // without a replicated scalar
      [&] { return sqrt(loss()); }, [&] { return log(1.0 + 3.0 * sum(square(fc(x)))); },
      [&] { return vector_norm(fc(x)); }, [&] { return logsumexp(fc(x)); }, [&] { return amax(fc(x)); },
      [&] { return mean(stddev(fc(x), {0})); }, [&] { return mean(var(fc(x), {0})); },
      [&] { return mean(softmax(fc(x), 0) * x.narrow(1, 0, 3)); }, [&] { return mean(prod(fc(x), 0)); },
      [&] { return clamp(loss(), full({}, 0, x.options()), Tensor()); },
      [&] { return masked_fill(gain, gain.value() > 0.0, loss()); },
      [&] { return mean(square(fc(x) - mean(fc(x), {0}))); }, [&] { return mean(cumsum(fc(x), 0)); },
      [&] {
        return mean(square(concatenate({expand(mean(fc(x), {0}, true), {B, 3}), fc(x)}, 1)));
      },
      [&] { return cross_entropy(mean(fc(x), {0}, true), integers({1}, [](auto) { return 1; })); },
      [&] { return where(x[0][0] > 0.0, loss(), zeros({}, x.options())); },
      [&] {
        return mean(permute(fc(x), {1, 0}) * reshape(gain, {3, 1}));
      },
      [&] { return 1.0 / loss(); }, [&] { return loss() / loss().detach(); }, [&] { return loss() * loss(); },
      [&] { return maximum(loss(), full({}, 0, x.options())); },
      [&] { return clamp(loss(), s.value(), Tensor()); }, [&] { return sum(square(mean(fc(x), {0}))); },
      [&] { return mean(fc(x) * mean(fc(x), {0})); },
      [&] { return sum(softmax(mean(fc(x), {0})) * mean(fc(x), {0}).detach()); },
      [&] { return mean(topk(square(fc(x)).flatten(), 4).values); },
      [&] { return mean(matmul(fc(x), transpose(fc(x)))); },
      [&] { return mean(unsqueeze(fc(x), 0) - unsqueeze(fc(x), 1)); },
      [&] { return sum(square(matmul(transpose(fc(x)), fc(x)))); },
      [&] { return sum(matmul(fc(x), matmul(transpose(fc(x)), fc(x)))); }};
  LowPassFilter filter({.M = 3, .gamma = 0.1}), single({.M = 1, .gamma = 0.1});
  for (std::size_t i = 0; i < refused.size(); ++i) {
    CAPTURE(i);
    {
      const auto scope = filter.perturb(params, B);
      CHECK_ERROR(refused[i](), ReplicaError);
    }
    const auto scope = single.perturb(params, B);
    CHECK(refused[i]().defined());
  }
  const auto scope = filter.perturb(params, B);
  CHECK_ERROR(exp(-s.value()) * loss(), ReplicaError, "[mul]", "slice_mean(losses, parameter)",
              "losses of the samples before their mean");
  CHECK_ERROR(sqrt(loss() + l2()), ReplicaError, "[sqrt]", "slice_mean(losses, parameter)");
  CHECK_ERROR(sqrt(loss()), ReplicaError, "[sqrt]", "slice_mean(losses, parameter)", "detach()");
  CHECK_ERROR(vector_norm(fc(x)), ReplicaError, "[vector_norm]", "axis 0", "[6, 3]");
  CHECK(exp(loss().detach()).item() > 1);  // looked at
  CHECK(mean(sqrt(square(fc(x)) + 1.0)).item() > 0);
}

TEST_CASE("samples that do not lie first, or not all in order, do not meet parameters") {
  constexpr std::int64_t B = 6;
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", 4, 4);
  const nn::LayerNorm norm(params / "norm", 4);
  const nn::Conv2d conv(params / "conv", 4, 2, 1);
  const nn::Parameter gain = parameter(params, "gain", {4}, init::normal()),
                      token = parameter(params, "token", {1, 4}, init::normal());
  const Tensor x = normal({B, B, 4}, 1), flat = normal({B, 4}, 2);
  LowPassFilter filter({.M = 3, .gamma = 0.1});
  for (const bool record : {true, false}) {
    const auto scope = filter.perturb(params, B);
    const GradMode mode(record);
    const Tensor turned = permute(tanh(fc(x)), {1, 0, 2});
    for (const Tensor& t :
         {turned, turned.detach(), turned * 2.0, relu(turned) + turned, slice(turned, 1, 0, B),
          where(turned > 0.0, turned, zeros({}, x.options())), (turned > 0.0).to(float64),
          matmul(turned, normal({4, 4})), sum(unsqueeze(turned, 0), {0}), amax(unsqueeze(turned, 3), {3}),
          reshape(turned, {B, B, 2, 2}).reshape({B, B, 4}), clone(turned),
          permute(permute(turned, {2, 0, 1}), {1, 2, 0})}) {
      CHECK_ERROR(fc(t), ReplicaError, "[linear]", "first axis", "permute");
      CHECK_ERROR(norm(t), ReplicaError, "[layer_norm]", "permute");
      CHECK_ERROR(t * gain, ReplicaError, "[per_sample]", "permute");
      CHECK_ERROR(t + fc(x), ReplicaError, "along axis 1", "[6, 6, 4]");
      CHECK(fc(permute(t, {1, 0, 2})).shape() == x.shape());
    }
    const Tensor rows = slice(embedding(arange(B), fc.weight.value().reshape({8, 2})), 0, 0, 3);
    CHECK_ERROR(fc(x).reshape({B, 4, 3, 2}) + rows, ReplicaError, "along axis 2");
    CHECK_ERROR(conv(unsqueeze(turned, 0).reshape({B, B, 1, 4})), ReplicaError, "[conv2d]");
    const Tensor h = fc(flat), index = integers({B}, [](auto i) { return (i + 1) % B; });
    CHECK_ERROR(fc(concatenate({h, h}, 0)), ReplicaError, "[linear]", "summed or mixed");
    CHECK_ERROR(fc(index_select(h, 0, index)), ReplicaError, "[linear]", "summed or mixed");
    CHECK_ERROR(fc(matmul(transpose(h), h)), ReplicaError, "[linear]", "summed or mixed");
    CHECK_ERROR(fc(flip(h, {0})), ReplicaError, "[linear]", "summed or mixed");
    CHECK_ERROR(fc(0.3 * h + 0.7 * index_select(h, 0, index)), ReplicaError, "[linear]", "summed or mixed");
    CHECK(fc(flip(h, {1})).shape() == h.shape());
    CHECK_ERROR(fc(matmul(normal({B, B}), turned)), ReplicaError, "[linear]", "summed or mixed");
    CHECK(fc(matmul(normal({B, B}), fc(x))).shape() == x.shape());
    CHECK_ERROR(fc(reshape(turned, {B * B, 4})), ReplicaError, "[linear]");
    CHECK(fc(concatenate({h, h}, 1).reshape({2 * B, 4})).shape() == Shape{2 * B, 4});
    CHECK(fc(fc(reshape(x, {B * B, 4})).reshape({B, B, 4})).shape() == x.shape());
    CHECK((normal({3, 1, 4}) * h).shape() == Shape{3, B, 4});  // several versions of each sample
  }
  const auto scope = filter.perturb(params, B);
  CHECK_ERROR(concatenate({token, fc(flat)}, 0), ReplicaError, "[concatenate]", "expand(parameter, {B");
  CHECK_ERROR(matmul(flat, transpose(fc.weight)), ReplicaError, "[matmul]",
              "linear(x, transpose(parameter))");
  CHECK_ERROR(index_select(fc.weight, 0, arange(2)), ReplicaError, "[index_select]", "embedding");
}

TEST_CASE("a class token before the number of samples is known") {
  const ParameterStore params({.dtype = float64});
  const nn::Parameter token = parameter(params, "token", {1, 1, 4}, init::normal());
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  {
    const auto scope = filter.perturb(params);
    CHECK_ERROR(expand(token, {6, 1, 4}), ReplicaError, "[expand]", "perturb(params, batch)");
  }
  const auto scope = filter.perturb(params, 6);
  const Tensor all = expand(token, {6, 1, 4});
  CHECK(!all.is_replicated());
  CHECK(same_bits(all[0].detach(), all[2].detach()));
  CHECK(!same_bits(all[0].detach(), all[3].detach()));
  CHECK(expand(token, {1, 3, 4}).is_replicated());
  CHECK_ERROR(expand(token, {6, 2, 5}), ShapeError, "[expand]");
}

TEST_CASE("a replicated scalar is read as a mean, or as whether all are true") {
  const ParameterStore params({.dtype = float64, .seed = 1});
  const nn::Parameter w = parameter(params, "w", {}, init::constant(1));
  LowPassFilter filter({.M = 2, .gamma = 0.5, .seed = 3});
  const Tensor e = filter.offsets(params, 0);
  const double a = 1 + e[0][0].item(), b = 1 + e[1][0].item(), middle = (a + b) / 2;
  const auto scope = filter.perturb(params, 5);
  const Tensor v = w;
  CHECK(v.item() == doctest::Approx(0.6 * a + 0.4 * b));
  CHECK(is_finite(v).item<bool>());
  CHECK(!is_nan(v).item<bool>());
  CHECK(all(is_finite(v)).item<bool>());
  CHECK(any(v > middle).item() == doctest::Approx(a > b ? 0.6 : 0.4));
  CHECK((v > middle).item() == doctest::Approx(a > b ? 0.6 : 0.4));
  CHECK(!(v > middle).item<bool>());
  CHECK(!(v < middle).item<bool>());
  CHECK((v > std::min(a, b) - 1).item<bool>());
  CHECK(!is_finite(log((v - middle) / 0.0)).item<bool>());
  CHECK((100.0 * v).item<std::int64_t>() == static_cast<std::int64_t>(60 * a + 40 * b));
}

TEST_CASE(
    "an evaluation at θ within a pass keeps frozen statistics, and otherwise takes those of the batch") {
  const Tensor x = normal({6, 3}, 1);
  for (const auto policy : {BatchNormPolicy::per_replica, BatchNormPolicy::pooled, BatchNormPolicy::frozen,
                            BatchNormPolicy::recomputed}) {
    const ParameterStore params({.dtype = float64, .seed = 2});
    const nn::BatchNorm bn(params / "bn", 3);
    bn.running_mean.fill_(0.5);
    bn.running_var.fill_(2);
    LowPassFilter filter({.M = 2, .gamma = 0.1, .batch_norm = policy});
    const bool frozen = policy == BatchNormPolicy::frozen;
    const Tensor expected =
        frozen ? (x - 0.5) / std::sqrt(2 + 1e-5) : (x - mean(x, {0})) / sqrt(var(x, {0}, 0) + 1e-5);
    const auto scope = filter.perturb(params);
    bn(x);
    const Tensor before = bn.running_mean.clone();
    CHECK(test::largest_difference(scope.clean([&] { return bn(x); }), expected) < exactly);
    CHECK(same_bits(bn.running_mean, before));
    CHECK(bn.weight.value().is_replicated());
    scope.clean([&] {
      CHECK(!bn.weight.value().is_replicated());
      return 0;
    });
  }
}

TEST_CASE("a batch in parts, folded or not, has the masks of the whole") {
  constexpr std::int64_t B = 6, L = 3, D = 4;
  const Tensor x = normal({B, L, D}, 1);
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Dropout drop(params / "drop", 0.4);
  const auto masked = [&](std::int64_t from, std::int64_t to, bool fold) {
    const Tensor part = slice(x, 0, from, to);
    return reshape(drop(fold ? reshape(part, {(to - from) * L, D}) : part), {(to - from) * L, D});
  };
  for (const bool fold : {false, true}) {
    drop.draws.set_count(0);
    const Tensor whole = masked(0, B, fold);
    drop.draws.set_count(0);
    std::vector<Tensor> parts;
    for (const auto& [from, to] : {std::pair{0, 1}, std::pair{1, 4}, std::pair{4, 6}}) {
      const nn::MicroBatch part(from, to - from);
      parts.push_back(masked(from, to, fold));
    }
    CHECK(same_bits(concatenate(parts), whole));
  }
  const nn::Linear fc(params / "fc", D, D);
  check_like_separate_passes(params, B, [&](auto from, auto to) {
    if (from == 0) drop.draws.set_count(0);
    const Tensor rows = reshape(slice(x, 0, from, to), {(to - from) * L, D});
    return mean(square(fc(drop(tanh(fc(rows))))));
  });
  const nn::MicroBatch part(2, 4);
  CHECK_ERROR(drop(normal({6, D})), ShapeError, "[Dropout]", "4 samples", "6 rows");
  CHECK_ERROR(nn::MicroBatch(-1, 2), ValueError, "[MicroBatch]");
  CHECK_ERROR(nn::MicroBatch(2, 0), ValueError, "[MicroBatch]");
}

}  // namespace
}  // namespace lpf::test
