// Estimator::flipout: one draw of noise for all replicas, told apart by signs.
#include <array>

#include "lpf/nn/conv1d.hpp"
#include "lpf/nn/group_norm.hpp"
#include "lpf/optim/adam.hpp"
#include "networks.hpp"

namespace lpf::test {
namespace {

constexpr double exact = 1e-12;
constexpr std::array both = {Estimator::flipout, Estimator::flipout_pairs};
constexpr std::array memories = {ReplicaMemory::automatic, ReplicaMemory::stored, ReplicaMemory::recomputed};

TEST_CASE("flipout: one pass is the published loop with the offsets of its replicas") {
  for (const Kind kind : kinds)
    for (const std::int64_t batch : {16, 19})
      for (const std::int64_t M : {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{8}, batch})
        for (const auto estimator : both)
          for (const auto memory : memories) {
            const bool statistics = kind == Kind::conv || kind == Kind::token;
            if ((is_paired(estimator) && M % 2) || (statistics && M == batch)) continue;
            CAPTURE(name_of(kind));
            CAPTURE(batch);
            CAPTURE(M);
            const Problem one(kind, batch), other(kind, batch);
            LowPassFilter filter({.M = M, .gamma = 0.1, .estimator = estimator, .seed = 5, .memory = memory});
            const Tensor theta = one.params.theta().clone();
            for (std::uint64_t draw = 0; draw < 2; ++draw) {
              double loss;
              {
                const auto scope = filter.perturb(one.params);
                const Tensor l = one.loss();
                l.backward();
                loss = l.item();
              }
              const double expected =
                  filter::unfused_gradient(other.params, filter, draw, batch,
                                           [&](auto from, auto to) { return other.loss(from, to); });
              CHECK(loss == doctest::Approx(expected).epsilon(exact));
              CHECK(distance(one.params.gradient(), other.params.gradient()) < exact);
              CHECK(buffer_error(one.params, other.params) < exact);
              CHECK(same_bits(one.params.theta(), theta));
            }
          }
}

/// A model on x, whose passes with flipout are compared with passes whose offsets are given.
struct Model {
  ParameterStore params{{.dtype = float64, .seed = 4}};
  std::function<Tensor(const Tensor&)> net;
};

/// The gradients of θ and of x, and a second derivative, of one pass.
struct Derivatives {
  Tensor theta, x, second;
};
template <class Open>
Derivatives derivatives(const Model& m, const Tensor& x, Open open) {
  Tensor at = x.clone();
  if (is_floating(x.dtype())) at.requires_grad_();
  m.params.zero_grad();
  Derivatives out;
  {
    const auto scope = open();
    const Tensor y = m.net(at);
    const Tensor loss = mean(mul(square(y), tanh(add(y, y)) + 1.5));
    loss.backward({}, true);
    out.theta = m.params.gradient().clone();
    if (is_floating(x.dtype())) out.x = at.grad().clone();
    const auto leaves = m.params.leaves();
    const auto g = grad(loss, leaves, {.create_graph = true});
    Tensor squares = zeros({}, loss.options());
    for (const Tensor& one : g) squares = add(squares, sum(square(one)));
    const auto second = grad(squares, leaves);
    std::vector<Tensor> flat;
    for (const Tensor& s : second) flat.push_back(reshape(s, {s.numel()}));
    out.second = concatenate(flat);
  }
  return out;
}

void compare(const Model& m, const Tensor& x, const LowPassFilterOptions& o,
             std::optional<std::int64_t> batch = {}) {
  LowPassFilter filter(o);
  const Tensor offsets = filter.offsets(m.params, 0);
  const auto found = derivatives(m, x, [&] { return filter.perturb(m.params, batch); });
  const auto expected = derivatives(m, x, [&] {
    return filter::Perturbation(
        m.params, filter::segments_of(m.params, o.law, o.include),
        {.M = o.M, .batch = batch, .batch_norm = o.batch_norm, .perturbations = offsets});
  });
  CHECK(distance(found.theta, expected.theta) < exact);
  CHECK(distance(found.second, expected.second) < 1e-10);
  if (found.x.defined()) CHECK(distance(found.x, expected.x) < exact);
}

/// Every M up to the batch, ragged slices, and one sample a replica; both estimators; every storage.
void compare_all(const Model& m, const Tensor& x, LowPassFilterOptions o = {},
                 std::optional<std::int64_t> batch = {}) {
  const std::int64_t samples = batch.value_or(x.size(0));
  for (const std::int64_t M : {std::int64_t{1}, std::int64_t{3}, std::int64_t{4}, samples - 1, samples})
    for (const auto estimator : both)
      for (const auto memory : memories) {
        if (M < 1 || (is_paired(estimator) && M % 2)) continue;
        CAPTURE(M);
        CAPTURE(static_cast<int>(estimator));
        CAPTURE(static_cast<int>(memory));
        o.M = M;
        o.gamma = 0.2;
        o.seed = 9;
        o.estimator = estimator;
        o.memory = memory;
        compare(m, x, o, batch);
      }
}

TEST_CASE("flipout: linear layers, small and large") {
  Model m;
  const nn::Linear a(m.params / "a", 20, 300), b(m.params / "b", 300, 40, {.bias = false}),
      c(m.params / "c", 40, 3);
  m.net = [&](const Tensor& x) { return c(tanh(b(tanh(a(x))))); };
  for (const std::int64_t batch : {7, 12}) compare_all(m, normal({batch, 20}, 1));
  for (const auto memory : memories)  // slices long enough for replicas drawn in the product
    compare(m, normal({131, 20}, 1),
            {.M = 4, .gamma = 0.2, .estimator = Estimator::flipout, .seed = 9, .memory = memory});
}

TEST_CASE("flipout: tokens, folded and not, one sample a replica") {
  Model m;
  const nn::Embedding tokens(m.params / "tokens", 11, 6, {.padding_idx = 2}),
      places(m.params / "places", 4, 6);
  const nn::LayerNorm norm(m.params / "norm", 6);
  const nn::Linear fc(m.params / "fc", 6, 5), out(m.params / "out", 5, 11);
  m.net = [&](const Tensor& input) {
    const Tensor h = add(tokens(input), places.rows(arange(4)));  // [B, 4, 6]
    return out(tanh(fc(norm(h))));
  };
  const Tensor x = integers({6, 4}, [](std::int64_t i) { return (7 * i + i * i) % 11; });
  compare_all(m, x);
  Model folded;
  const nn::Embedding table(folded.params / "table", 11, 6);
  const nn::Linear fc2(folded.params / "fc", 6, 5);
  folded.net = [&](const Tensor& input) { return tanh(fc2(reshape(table(input), {24, 6}))); };
  compare_all(folded, x, {}, 6);
  Model single;  // one index a sample, and a tied product
  const nn::Embedding tied(single.params / "tied", 11, 6);
  single.net = [&](const Tensor& input) { return linear(tanh(tied(input)), tied.weight); };
  compare_all(single, integers({7}, [](std::int64_t i) { return (3 * i) % 11; }));
}

TEST_CASE("flipout: convolutions, groups, strides, dilation; with batch norm pooled, frozen or none") {
  for (const std::int64_t groups : {1, 2}) {
    Model m;
    const nn::Conv2d a(m.params / "a", 2, 4, 3, {.padding = 1}),
        b(m.params / "b", 4, 6, 3, {.padding = 2, .dilation = 2, .groups = groups, .bias = false}),
        c(m.params / "c", 6, 4, 2, {.stride = 2, .groups = groups});
    m.net = [&](const Tensor& x) { return c(tanh(b(tanh(a(x))))); };
    compare_all(m, normal({6, 6, 6, 2}, 1));
  }
  Model m;
  const nn::Conv1d a(m.params / "a", 2, 4, 3, {.padding = 1}), b(m.params / "b", 4, 6, 2, {.groups = 2});
  const nn::GroupNorm norm(m.params / "norm", 2, 4);
  m.net = [&](const Tensor& x) { return b(tanh(norm(a(x)))); };
  compare_all(m, normal({5, 7, 2}, 2));
  for (const auto policy : {BatchNormPolicy::pooled, BatchNormPolicy::frozen}) {
    Model n;
    const nn::Conv2d conv(n.params / "conv", 2, 4, 3), next(n.params / "next", 4, 3, 2);
    const nn::BatchNorm bn(n.params / "bn", 4), last(n.params / "last", 3);
    n.params.theta().copy_(n.params.theta() + 0.1 * normal({n.params.theta().numel()}, 3));
    n.net = [&](const Tensor& x) { return tanh(last(next(tanh(bn(conv(x)))))); };
    if (policy == BatchNormPolicy::frozen) n.params.eval();
    compare_all(n, normal({6, 5, 5, 2}, 3), {.batch_norm = policy});
  }
}

TEST_CASE("flipout: arithmetic on a parameter, and parameters of other shapes") {
  Model m;
  const nn::Parameter gain = nn::Path(m.params).parameter("gain", {5}, init::normal(1, 0.1)),
                      plane = nn::Path(m.params).parameter("plane", {3, 4, 5}, init::normal(1, 0.1)),
                      scalar = nn::Path(m.params).parameter("scalar", {}, init::constant(0.7));
  const nn::Linear fc(m.params / "fc", 5, 5);
  m.net = [&](const Tensor& x) {
    const Tensor h = mul(linear(x, tanh(fc.weight.value())), per_sample(gain, x));
    const Tensor w = sum(square(plane.value()), {0, 1});
    return mul(mul(h, per_sample(w, h)), per_sample(scalar, h));
  };
  compare_all(m, normal({6, 5}, 1));
}

// --- the law

/// Offsets of many passes: draw by draw [M, size].
struct Sample {
  std::vector<std::vector<double>> draws;
  std::int64_t M, size;
  double at(std::size_t draw, std::int64_t r, std::int64_t i) const {
    return draws[draw][static_cast<std::size_t>(r * size + i)];
  }
};
Sample sample(const ParameterStore& params, const LowPassFilter& filter, std::uint64_t passes) {
  Sample out{{}, filter.options().M, params.theta().numel()};
  for (std::uint64_t pass = 0; pass < passes; ++pass)
    out.draws.push_back(filter.offsets(params, pass).to_vector());
  return out;
}
/// The largest |mean of f over the draws| in units of its standard error.
template <class F>
double deviation(const Sample& s, F f) {
  double mean = 0, squares = 0;
  for (std::size_t d = 0; d < s.draws.size(); ++d) {
    const double v = f(d), step = v - mean;
    mean += step / static_cast<double>(d + 1);
    squares += step * (v - mean);
  }
  const auto n = static_cast<double>(s.draws.size());
  return squares == 0 ? (mean == 0 ? 0 : infinity) : std::abs(mean) / std::sqrt(squares / (n - 1) / n);
}

/// Weights of every kind and parameters of one axis; few elements, so that all pairs are tested.
struct LawNet {
  nn::Conv2d conv;
  nn::BatchNorm bn;
  nn::Linear fc;
  nn::Embedding embed;
  explicit LawNet(const nn::Path& p)
      : conv(p / "conv", 2, 2, {1, 2}), bn(p / "bn", 3), fc(p / "fc", 3, 2), embed(p / "embed", 3, 2) {}
};
struct Element {
  std::size_t parameter;
  std::int64_t place, row, input;
  double s;
};
std::vector<Element> elements_of(const ParameterStore& params, double gamma) {
  const auto segments = filter::segments_of(params, NoiseLaw::filter_wise, {});
  const auto scale = filter::scales(params, segments, gamma).to_vector();
  std::vector<Element> out;
  for (const auto& s : segments.segments)
    for (std::int64_t e = 0; e < s.rows * s.length; ++e)
      out.push_back({s.parameter, s.offset + e, e / s.length, e % s.length % s.inputs,
                     scale[static_cast<std::size_t>(s.first_scale + e / s.length)]});
  return out;
}

TEST_CASE("flipout: every replica has the law N(0, Σ), replicas are uncorrelated, their signs independent") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const LawNet net(params);
  const auto off = no_grad();
  net.bn.bias.clean().copy_(normal({3}, 4));
  const double gamma = 0.3;
  const auto elements = elements_of(params, gamma);
  for (const auto estimator : both) {
    CAPTURE(static_cast<int>(estimator));
    const LowPassFilter filter({.M = 4, .gamma = gamma, .estimator = estimator, .seed = 2});
    const Sample s = sample(params, filter, 6000);
    std::vector<double> all;
    double mean = 0, variance = 0, fourth = 0, across = 0, signs = 0;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const Element& a = elements[i];
      for (std::int64_t r = 0; r < s.M; ++r) {
        const auto z = [&](std::size_t d) { return s.at(d, r, a.place) / a.s; };
        mean = std::max(mean, deviation(s, z));
        variance = std::max(variance, deviation(s, [&](std::size_t d) { return z(d) * z(d) - 1; }));
        fourth = std::max(fourth, deviation(s, [&](std::size_t d) { return std::pow(z(d), 4) - 3; }));
        for (std::size_t d = 0; d < s.draws.size(); ++d) all.push_back(z(d));
      }
      for (std::size_t j = 0; j < elements.size(); ++j) {
        const Element& b = elements[j];
        // other replica, any two elements: no correlation. Replica 1 mirrors 0 in pairs.
        const std::int64_t other = is_paired(estimator) ? 2 : 1;
        across = std::max(across, deviation(s, [&](std::size_t d) {
                            return s.at(d, 0, a.place) / a.s * (s.at(d, other, b.place) / b.s);
                          }));
        // the sign by which replica `other` differs from 0, at two elements that share none
        if (i < j && (a.parameter != b.parameter || params.parameters()[a.parameter].shape.rank() == 1 ||
                      (a.row != b.row && a.input != b.input)))
          signs = std::max(signs, deviation(s, [&](std::size_t d) {
                             const double at_a = s.at(d, 0, a.place) * s.at(d, other, a.place),
                                          at_b = s.at(d, 0, b.place) * s.at(d, other, b.place);
                             return (at_a > 0) == (at_b > 0) ? 1.0 : -1.0;
                           }));
      }
    }
    CHECK(mean < 4.7);
    CHECK(variance < 4.7);
    CHECK(fourth < 4.7);
    CHECK(across < 5.2);
    CHECK(signs < 5.2);
    std::sort(all.begin(), all.end());
    double distance =
        0;  // Kolmogorov's; the replicas of a draw share |ε|, so the draws count, and not the replicas
    for (std::size_t i = 0; i < all.size(); ++i)
      distance = std::max(distance, std::abs(std::erfc(-all[i] / std::sqrt(2.0)) / 2 -
                                             static_cast<double>(i) / static_cast<double>(all.size())));
    CHECK(distance * std::sqrt(static_cast<double>(all.size() / 4)) < 1.95);
  }
}

TEST_CASE("flipout: the offsets are one |s ⊙ ε|, with the signs of their streams, rank one in a weight") {
  const ParameterStore params({.dtype = float64, .seed = 3});
  const LawNet net(params);
  const double gamma = 0.3;
  const std::uint64_t draw = 7;
  for (const auto estimator : both) {
    const LowPassFilter filter({.M = 6, .gamma = gamma, .estimator = estimator, .seed = 2});
    const Tensor offsets = on_host(filter.offsets(params, draw));
    const auto sign = [&](std::uint32_t r, const Element& e, std::int64_t i) {
      const NoiseKey key{.seed = 2,
                         .purpose = Purpose::signs,
                         .draw = draw,
                         .replica = is_paired(estimator) ? r / 2 : r,
                         .parameter = static_cast<std::uint32_t>(e.parameter)};
      return word_at(key, i / 32) >> (i % 32) & 1 ? -1.0 : 1.0;
    };
    const NoiseKey key{.seed = 2, .purpose = Purpose::perturbation, .draw = draw};
    std::size_t wrong = 0, first_of = 0, last_parameter = 99;
    const auto elements = elements_of(params, gamma);
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const Element& e = elements[i];
      if (e.parameter != last_parameter) first_of = i, last_parameter = e.parameter;
      const auto& info = params.parameters()[e.parameter];
      const std::int64_t rows = info.shape.rank() > 1 ? info.shape[0] : 1;
      NoiseKey own = key;
      own.parameter = static_cast<std::uint32_t>(e.parameter);
      const double noise = e.s * normal_at<double>(own, static_cast<std::int64_t>(i - first_of));
      for (std::uint32_t r = 0; r < 6; ++r) {
        const double a = sign(r, e, e.row) * (is_paired(estimator) && r % 2 ? -1 : 1),
                     b = sign(r, e, rows + e.input);
        wrong += offsets.data<double>()[r * params.theta().numel() + e.place] != a * b * noise;
      }
    }
    CHECK(wrong == 0);
    if (is_paired(estimator))
      for (std::int64_t r = 0; r < 6; r += 2) CHECK(distance(offsets[r], -offsets[r + 1]) == 0);
  }
}

TEST_CASE("flipout: freezing a layer or leaving it out changes no number elsewhere; passes can be replayed") {
  const auto offsets = [](const std::function<bool(const ParameterInfo&)>& include) {
    const ParameterStore params({.dtype = float64, .seed = 3});
    const LawNet net(params);
    const LowPassFilter filter(
        {.M = 3, .gamma = 0.1, .estimator = Estimator::flipout, .seed = 6, .include = include});
    return on_host(filter.offsets(params, 1));
  };
  const Tensor whole = offsets({}), part = offsets([](const ParameterInfo&i) { return i.name[0] != 'b'; });
  std::int64_t zeroed = 0, kept = 0;
  for (std::int64_t i = 0; i < whole.numel(); ++i) {
    const double v = part.data<double>()[i];
    v == 0 ? zeroed += whole.data<double>()[i] != 0 : kept += v == whole.data<double>()[i];
  }
  CHECK(zeroed == 3 * 6);  // the scale and shift of bn
  CHECK(kept == 3 * (8 + 2 + 6 + 2 + 6));

  const Problem p(Kind::linear);
  LowPassFilter filter({.M = 2, .gamma = 0.1, .estimator = Estimator::flipout, .seed = 4});
  const auto read = [&] {
    const auto no = no_grad();
    auto scope = filter.perturb(p.params);
    return lpf::detail::remove_replica_dim(scope.read(0)).detach().clone();
  };
  const Tensor first = read(), second = read();
  CHECK(distance(first, second) > 1e-3);
  filter.set_draws(0);
  CHECK(same_bits(read(), first));
}

// --- passes

TEST_CASE("flipout: one sample a replica and batch norm's own statistics: an error that names the policies") {
  const ParameterStore params({.dtype = float64});
  const nn::Conv2d conv(params / "conv", 2, 4, 3);
  const nn::BatchNorm bn(params / "bn", 4);
  const Tensor x = normal({8, 5, 5, 2});
  const Tensor theta = params.theta().clone();
  for (const auto estimator : both)
    for (const std::int64_t M : {6, 8})  // slices of 2, 2, 1, 1, 1, 1 and of 1
      for (const auto policy : {BatchNormPolicy::per_replica, BatchNormPolicy::recomputed}) {
        LowPassFilter filter({.M = M, .gamma = 0.1, .estimator = estimator, .batch_norm = policy});
        const auto scope = filter.perturb(params);
        CHECK_ERROR(bn(conv(x)), ShapeError, "'bn'", concat("M = ", M), "8 samples", "pooled", "frozen");
        CHECK(bn.num_batches_tracked.item() == 0);
      }
  for (const auto policy : {BatchNormPolicy::pooled, BatchNormPolicy::frozen}) {
    LowPassFilter filter({.M = 8, .gamma = 0.1, .estimator = Estimator::flipout, .batch_norm = policy});
    const auto scope = filter.perturb(params);
    CHECK_NOTHROW(sum(bn(conv(x))).backward());
  }
  LowPassFilter two({.M = 4, .gamma = 0.1, .estimator = Estimator::flipout});
  {
    const auto scope = two.perturb(params);
    CHECK_NOTHROW(static_cast<void>(bn(conv(x))));
  }
  LowPassFilter one({.M = 1, .gamma = 0.1, .estimator = Estimator::flipout});  // one replica is a whole batch
  const auto scope = one.perturb(params);
  CHECK_NOTHROW(static_cast<void>(bn(conv(slice(x, 0, 0, 1)))));
  CHECK(same_bits(params.theta(), theta));
}

TEST_CASE("flipout: options that do not fit") {
  CHECK_ERROR(LowPassFilter({.M = 3, .estimator = Estimator::flipout_pairs}), ValueError, "even", "3");
  CHECK_NOTHROW(LowPassFilter({.M = 3, .estimator = Estimator::flipout}));
  const Problem p(Kind::linear, 4);
  LowPassFilter many({.M = 5, .gamma = 0.1, .estimator = Estimator::flipout});
  const auto scope = many.perturb(p.params);
  CHECK_ERROR(p.loss(), ShapeError, "M = 5", "4");
}

TEST_CASE("flipout: gradients of the replicas, the clean loss within a pass, parts of a batch") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem summed(kind, 12), kept(kind, 12);
    LowPassFilterOptions o{.M = 4, .gamma = 0.1, .estimator = Estimator::flipout, .seed = 5};
    LowPassFilter sums(o);
    o.keep_replica_gradients = true;
    LowPassFilter keeps(o);
    const auto slices =
        slices_by_hand([&] { return Problem(kind, 12); }, kept.params.theta(), keeps.offsets(kept.params, 0));
    {
      const auto scope = sums.perturb(summed.params);
      summed.loss().backward();
    }
    const auto scope = keeps.perturb(kept.params);
    const double clean = scope.clean([&] { return kept.loss().item(); });
    const Tensor losses = kept.losses(0, 12);
    const auto of_replicas = scope.replica_losses(losses);
    mean(losses).backward();
    CHECK(clean == doctest::Approx(Problem(kind, 12).loss().item()).epsilon(exact));
    CHECK(distance(kept.params.gradient(), summed.params.gradient()) < exact);
    const auto statistics = scope.gradient_statistics();
    for (std::size_t r = 0; r < 4; ++r) {
      CHECK(of_replicas[r] == doctest::Approx(slices[r].loss).epsilon(exact));
      const Tensor& g = slices[r].gradient;
      CHECK(statistics.norm[r] ==
            doctest::Approx(std::sqrt(g.backend().dot(float64, g.numel(), g.raw(), g.raw()))));
    }
  }
  // two parts of a batch, each a pass with signs of its own: the gradients add up
  const Problem p(Kind::linear, 12), q(Kind::linear, 12);
  LowPassFilter filter({.M = 3, .gamma = 0.1, .estimator = Estimator::flipout, .seed = 5});
  for (const std::int64_t from : {0, 6}) {
    const auto scope = filter.perturb(p.params);
    const nn::MicroBatch part(from, 6);
    mul(p.loss(from, from + 6), full({}, 0.5, {.dtype = float64})).backward();
  }
  for (const std::int64_t from : {0, 6}) {
    const Tensor half = zeros_like(q.params.gradient());
    half.copy_(q.params.gradient());
    q.params.zero_grad();
    filter::unfused_gradient(q.params, filter, from == 0 ? 0 : 1, 6,
                             [&](auto a, auto b) { return q.loss(from + a, from + b); });
    q.params.gradient().copy_(add(half, affine(q.params.gradient(), 0.5, 0)));
  }
  CHECK(distance(p.params.gradient(), q.params.gradient()) < exact);
}

TEST_CASE("flipout: remade replicas have the bits of stored ones, for any number of threads") {
  for (const DType dtype : {float32, float64})
    for (const auto estimator : both) {
      std::vector<Tensor> noise, replicas, gradients;
      for (const auto memory : {ReplicaMemory::stored, ReplicaMemory::recomputed})
        for (const int threads : {1, 2, 5}) {
          set_num_threads(threads);
          const ParameterStore params({.dtype = dtype, .seed = 1});
          const nn::Conv2d conv(params / "conv", 3, 20, 3);
          const nn::Linear fc1(params / "fc1", 180, 130), fc2(params / "fc2", 130, 10);
          LowPassFilter filter({.M = 6, .gamma = 0.05, .estimator = estimator, .memory = memory});
          noise.push_back(filter.offsets(params, 3));
          {
            const auto off = no_grad();
            auto scope = filter.perturb(params);
            std::vector<Tensor> all;
            for (const auto& info : params.parameters()) {
              const Tensor read = lpf::detail::remove_replica_dim(scope.read(info.index));
              all.push_back(reshape(read, {read.numel()}).clone());
            }
            replicas.push_back(concatenate(all));
          }
          const auto scope = filter.perturb(params);
          const Tensor h = reshape(tanh(conv(normal({50, 5, 5, 3}, 1, dtype))), {50, 180});
          sum(square(fc2(tanh(fc1(h))))).backward();
          gradients.push_back(params.gradient());
        }
      set_num_threads(0);
      for (std::size_t i = 1; i < noise.size(); ++i) {
        CHECK(same_bits(noise[i], noise[0]));
        CHECK(same_bits(replicas[i], replicas[0]));
        CHECK(same_bits(gradients[i], gradients[i < 3 ? 0 : 3]));  // products may round in another order
        CHECK(distance(gradients[i], gradients[0]) < (dtype == float32 ? 1e-5 : 1e-13));
      }
    }
}

TEST_CASE("flipout: a run that stops and goes on has the bits of one that does not") {
  const auto run = [](bool stops) {
    Problem p(Kind::conv, 16);
    auto optimizer = std::make_unique<optim::Adam>(p.params, optim::AdamOptions{.lr = 0.01});
    LowPassFilterOptions o{
        .M = 4, .gamma = 0.02, .alpha = 5, .total_steps = 6, .estimator = Estimator::flipout};
    auto filter = std::make_unique<LowPassFilter>(o);
    for (int step = 0; step < 6; ++step) {
      if (stops && step == 3) {  // a filter's only state is its number of passes
        const std::uint64_t draws = filter->draws();
        filter = std::make_unique<LowPassFilter>(o);
        filter->set_draws(draws);
      }
      const auto scope = filter->perturb(p.params);
      p.loss().backward();
      optimizer->step();
    }
    return p.params.theta().clone();
  };
  CHECK(same_bits(run(true), run(false)));
}

}  // namespace
}  // namespace lpf::test
