// Models and losses as users write them, in a few lines each: one perturbed pass equals M separate ones.
#include <cmath>

#include "lpf/ops/clamp.hpp"
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

TEST_CASE("models and losses by hand equal separate passes") {
  static constexpr std::int64_t B = 7, T = 3, D = 4, H = 2, K = 5;
  const ParameterStore params({.dtype = float64, .seed = 2});
  const auto P = [&](const char* n, Shape s, double m = 0, double sd = 0.5) {
    return parameter(params, n, s, init::normal(m, sd));
  };
  const nn::Linear fc(params / "fc", D, D), wide(params / "wide", D, 3 * D), rec(params / "rec", D, 3 * D),
      out(params / "out", D, K);
  const nn::Conv2d conv(params / "conv", 2, 4, 3, {.padding = 1});
  const nn::Embedding emb(params / "emb", K, D), rel(params / "rel", 2 * T - 1, 1);
  const nn::Parameter h0 = P("h0", {D}), s = P("s", {}), w = P("w", {D, D}), proto = P("proto", {K, D}),
                      slope = P("slope", {D}), temp = P("temp", {1}, 1, 0.1), ls = P("ls", {K}),
                      slopes = P("slopes", {H, 1, 1}), z = P("z", {3}), wg = P("wg", {3, D * D}),
                      q = P("q", {2, D}), mem = P("mem", {6, D}), p = P("p", {}, 2, 0.1),
                      cv = P("cv", {4, 3, 3, 2}), cg = P("cg", {4, 1, 1, 1});
  const Tensor x = normal({B, T, D}, 1), v = normal({B, D}, 2), im = normal({B, 3, 3, 2}, 3),
               y = integers({B}, [](auto i) { return i % 5; }),
               words = integers({B, T}, [](auto i) { return (i * 3 + i * i) % 5; }),
               mask = integers({B, T, 1}, [](auto i) { return i % 2; }).to(DType::bool_),
               eye = tensor({1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1.}).reshape({D, D}),
               A = softmax(normal({T, T}, 9)), ones4 = ones({D}, {.dtype = float64});
  const TensorOptions o{.dtype = float64};
  const auto S = [](const Tensor& all, auto f, auto t) { return slice(all, 0, f, t); };
  // n samples, [f, t) of the batch
  struct Model {
    const char* name;
    std::function<Tensor(std::int64_t f, std::int64_t t, std::int64_t n)> loss;
  };
  std::vector<Model> models;
  const auto add = [&](const char* name, auto loss) { models.push_back({name, loss}); };
  add("GRU, learned initial state expanded", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = expand(h0, {n, D});
    for (int i = 0; i < T; ++i) {
      const Tensor a = wide(narrow(S(x, f, t), 1, i, 1).squeeze(1)), b = rec(h);
      const Tensor r = sigmoid(narrow(a, 1, 0, D) + narrow(b, 1, 0, D)),
                   u = sigmoid(narrow(a, 1, D, D) + narrow(b, 1, D, D));
      h = u * h + (1.0 - u) * tanh(narrow(a, 1, 2 * D, D) + r * narrow(b, 1, 2 * D, D));
    }
    return mean(square(h));
  });
  add("RNN, learned initial state added", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = zeros({n, D}, o) + h0;
    for (int i = 0; i < T; ++i) h = tanh(fc(h) + narrow(S(x, f, t), 1, i, 1).squeeze(1));
    return mean(square(h));
  });
  add("squeeze and excitation", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = tanh(conv(S(im, f, t)));
    return mean(square(h * sigmoid(fc(mean(h, {1, 2}))).reshape({n, 1, 1, 4})));
  });
  add("residual scale", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = S(v, f, t);
    return mean(square(h + s.value() * tanh(fc(h))));
  });
  add("bilinear", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(sum(linear(S(v, f, t), w) * S(v, f, t), {1}));
  });
  add("tied", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(linear(tanh(linear(S(v, f, t), w)), transpose(w)) - S(v, f, t)));
  });
  add("prototypes", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(v, f, t));
    return cross_entropy(-sum(square(unsqueeze(h, 1) - proto.value()), {2}), S(y, f, t));
  });
  add("prototypes via expand", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = fc(S(v, f, t));
    return cross_entropy(-sum(square(expand(unsqueeze(h, 1), {n, K, D}) - expand(proto, {n, K, D})), {2}),
                         S(y, f, t));
  });
  add("cosine", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(v, f, t));
    return cross_entropy(
        exp(s.value()) * linear(h / vector_norm(h, {1}, true), proto / vector_norm(proto, {1}, true)),
        S(y, f, t));
  });
  add("prelu", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(x, f, t));
    const Tensor zero = zeros({}, o);
    return mean(square(maximum(h, zero) + slope * minimum(h, zero)));
  });
  add("temperature", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return cross_entropy(out(S(v, f, t)) / temp, S(y, f, t));
  });
  add("mixture density", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor mu = out(S(v, f, t));
    return -mean(
        logsumexp(affine(square((S(v, f, t).narrow(1, 0, 1) - mu) / exp(ls.value())), -0.5, 0) - ls, {1}));
  });
  add("Gaussian likelihood", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor e = fc(S(v, f, t)) - S(v, f, t);
    return mean(0.5 * exp(-s.value()) * square(e) + 0.5 * s.value());
  });
  add("relative positions", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor idx = integers({T * T}, [](auto i) { return i % T - i / T + T - 1; });
    Tensor bias = rel.rows(idx).reshape({T, T});
    Tensor h = fc(S(x, f, t));
    return mean(square(matmul(softmax(matmul(h, transpose(h)) + bias), h)));
  });
  add("slopes of distances", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor d = integers({T, T}, [](auto i) { return i % T - i / T; }).to(float64);
    Tensor h = fc(S(x, f, t)).reshape({n, T, H, D / H}).permute({0, 2, 1, 3});
    return mean(square(matmul(softmax(matmul(h, transpose(h)) + slopes * d), h)));
  });
  add("heads first", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = fc(S(x, f, t)).reshape({n, T, H, D / H}).permute({2, 0, 1, 3});
    Tensor a = matmul(softmax(matmul(h, transpose(h))), h).permute({1, 2, 0, 3}).reshape({n, T, D});
    return mean(square(fc(a)));
  });
  add("heads folded", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = fc(S(x, f, t)).reshape({n, T, H, D / H}).permute({0, 2, 1, 3}).reshape({n * H, T, D / H});
    Tensor a = matmul(softmax(matmul(h, transpose(h))), h)
                   .reshape({n, H, T, D / H})
                   .permute({0, 2, 1, 3})
                   .reshape({n, T, D});
    return mean(square(fc(a)));
  });
  add("modulated features", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor g = wide(S(v, f, t));
    return mean(
        square(unsqueeze(1.0 + narrow(g, 1, 0, D), 1) * fc(S(x, f, t)) + unsqueeze(narrow(g, 1, D, D), 1)));
  });
  add("outer", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = fc(S(v, f, t));
    return mean(square(matmul(unsqueeze(h, 2), unsqueeze(h, 1)).reshape({n, D * D})));
  });
  add("spectral", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor u = replicate(ones4, w);
    Tensor sigma = matmul(matmul(u, w), u);
    return mean(square(tanh(linear(S(v, f, t), w / sigma))));
  });
  add("hypernetwork", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(linear(S(v, f, t), tanh(matmul(z, wg)).reshape({D, D}))));
  });
  add("own weights", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor W = linear(S(v, f, t), reshape(wg, {3 * D, D})).reshape({n, 3, D});
    return mean(square(matmul(W, unsqueeze(tanh(fc(S(v, f, t))), 2))));
  });
  add("group lasso", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(fc(S(v, f, t)))) + 0.1 * sum(vector_norm(fc.weight, {1})) + 0.1 * sum(abs(w.value()));
  });
  add("orthogonality", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(linear(S(v, f, t), w))) + 0.1 * sum(square(matmul(transpose(w), w) - eye)) +
           relu(vector_norm(w) - 0.1);
  });
  add("center loss", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(v, f, t));
    return mean(square(h - emb(S(y, f, t))));
  });
  add("memory", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(x, f, t));
    return mean(square(linear(softmax(linear(h, mem)), transpose(mem))));
  });
  add("queries", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor k = fc(S(x, f, t));
    return mean(square(matmul(softmax(matmul(expand(q, {n, 2, D}), transpose(k))), k)));
  });
  add("graph", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(fc(matmul(A, tanh(fc(S(x, f, t)))))));
  });
  add("graph 3", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    return mean(square(fc(matmul(expand(unsqueeze(A, 0), {n, T, T}), tanh(fc(S(x, f, t)))))));
  });
  add("mask token", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(fc(where(S(mask, f, t), h0, S(x, f, t)))));
  });
  add("mask token 2", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    return mean(square(fc(where(S(mask, f, t), expand(h0, {n, T, D}), S(x, f, t)))));
  });
  add("maxout", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor a = wide(S(v, f, t)).reshape({n, 3, D});
    return mean(square(amax(a, {1})));
  });
  add("generalised mean pooling", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = clamp(fc(S(x, f, t)), 1e-3, 10);
    return mean(pow(mean(pow(h, p), {1}), 1.0 / p.value()));
  });
  add("weight norm conv", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(tanh(conv2d(S(im, f, t), cg * cv / vector_norm(cv, {1, 2, 3}, true)))));
  });
  add("conv concat", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(
        tanh(conv2d(S(im, f, t), concatenate({cv, conv.weight}, 0), concatenate({slope, conv.bias})))));
  });
  add("layer norm by hand", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(x, f, t));
    Tensor c = h - mean(h, {2}, true);
    return mean(square(c / sqrt(mean(square(c), {2}, true) + 1e-5) * slope + h0) * S(x, f, t));
  });
  add("tied lm", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = tanh(fc(emb(S(words, f, t))));
    return cross_entropy(linear(h, emb.weight), S(words, f, t));
  });
  add("steps of time", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    std::vector<Tensor> o2;
    Tensor h = zeros({n, D}, o);
    for (int i = 0; i < T; ++i) {
      h = tanh(fc(h) + emb(narrow(S(words, f, t), 1, i, 1).squeeze(1)) + mem.value()[i]);
      o2.push_back(h);
    }
    return mean(square(out(stack(o2, 1))));
  });
  add("time first and back", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    std::vector<Tensor> o2;
    Tensor h = zeros({n, D}, o);
    for (int i = 0; i < T; ++i) {
      h = tanh(fc(h) + emb(narrow(S(words, f, t), 1, i, 1).squeeze(1)));
      o2.push_back(h);
    }
    return mean(square(out(permute(stack(o2, 0), {1, 0, 2}))));
  });
  add("einsum", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(sum(unsqueeze(fc(S(v, f, t)), 2) * w, {1})));
  });
  add("topk gate", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor g = out(S(v, f, t));
    auto [val, idx] = topk(g, 2, 1);
    Tensor e = gather(linear(S(v, f, t), proto), 1, idx);
    return mean(sum(softmax(val) * e, {1}));
  });
  add("masked softmax", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(x, f, t));
    Tensor sc = matmul(h, transpose(h));
    return mean(square(matmul(softmax(masked_fill(sc, transpose(S(mask, f, t)), -1e30)), h)));
  });
  add("sum over B", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    return sum(square(fc(S(v, f, t)))) / static_cast<double>(n);
  });
  add("cumsum", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(cumsum(fc(S(x, f, t)), 1)));
  });
  add("pad shift", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = fc(S(x, f, t));
    return mean(square(h + 0.5 * narrow(pad(h, {0, 0, 1, 0}), 1, 0, T)));
  });
  add("one hot smoothing", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor q1 = one_hot(S(y, f, t), K, float64) * 0.9 + 0.02;
    return -mean(sum(q1 * log_softmax(out(S(v, f, t))), {1}));
  });
  add("learned shift of input", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(fc(S(x, f, t) + slope - h0) * exp(s.value())));
  });
  add("parameter of rank 1 size 1", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(fc(S(v, f, t)) * temp + temp));
  });
  add("var over features", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(var(fc(S(x, f, t)), {2}) + stddev(fc(S(x, f, t)), {1, 2}, 1, true).squeeze(2));
  });
  add("two losses", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return 0.3 * mean(square(fc(S(v, f, t)))) + 0.7 * cross_entropy(out(S(v, f, t)), S(y, f, t)) +
           0.1 * l1_loss(fc(S(x, f, t)), S(x, f, t));
  });
  add("log sum of two", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(log(exp(sum(square(fc(S(v, f, t))), {1})) + exp(sum(square(S(v, f, t)), {1}))));
  });
  add("a function of weights alone", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(fc(S(v, f, t)))) + log(1.0 + sum(square(softmax(matmul(w, transpose(mem)), 1))));
  });
  add("param in rank-5", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    return mean(square(S(x, f, t).reshape({n, 1, T, 1, D}) * reshape(slopes, {H, 1, 1, 1})));
  });
  add("expand of scalar", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    return mean(square(fc(S(v, f, t)) * expand(s, {n, D})));
  });
  add("expand param dims", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(linear(S(v, f, t), expand(unsqueeze(slope, 1), {D, D}))));
  });
  add("rows of w", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(S(v, f, t) * w.value()[0] + w.value()[-1]));
  });
  add("transpose param", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(linear(S(v, f, t), w.value().transpose()))) + sum(w.value() * w.value().transpose());
  });
  add("diag mask", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    return mean(square(linear(S(v, f, t), tril(w)))) + 0.1 * sum(square(w * (1.0 - eye)));
  });
  add("quadratic form", [&](std::int64_t f, std::int64_t t, std::int64_t) -> Tensor {
    Tensor h = S(v, f, t);
    return mean(sum(h * linear(h, matmul(w, transpose(w))), {1}));
  });
  add("attn with learned k", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = fc(S(x, f, t));
    Tensor k = concatenate({expand(q, {n, 2, D}), h}, 1);
    return mean(square(matmul(softmax(matmul(h, transpose(k))), k)));
  });
  add("class token of rank 1", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = concatenate({expand(h0, {n, 1, D}), S(x, f, t)}, 1);
    return mean(square(fc(h)));
  });
  add("class token added to zeros", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = concatenate({zeros({n, 1, D}, o) + h0, S(x, f, t)}, 1);
    return mean(square(fc(h)));
  });
  add("register tokens", [&](std::int64_t f, std::int64_t t, std::int64_t n) -> Tensor {
    Tensor h = concatenate({S(x, f, t), expand(unsqueeze(q, 0), {n, 2, D})}, 1);
    return mean(square(fc(h)));
  });
  for (const Model& model : models)
    for (const std::int64_t M : {1, 2, 3, 7})
      for (const bool kept : {false, true}) {
        CAPTURE(model.name);
        CAPTURE(M);
        CHECK(test::against_loop(params, {.M = M, .gamma = 0.2, .seed = 3, .keep_replica_gradients = kept}, B,
                                 [&](std::int64_t f, std::int64_t t) { return model.loss(f, t, t - f); }) <
              exactly);
      }
}

}  // namespace
}  // namespace lpf::test
