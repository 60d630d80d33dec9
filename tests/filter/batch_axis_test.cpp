// Where the samples of a perturbed pass are: a given number of samples, folded operands, rows that are the same
// for all samples, activations and constants beside parameters, penalties. Compared with M separate passes.
#include "lpf/optim/sam.hpp"
#include "lpf/optim/smoothout.hpp"
#include "networks.hpp"

namespace lpf::test {
namespace {

double against_loop(const ParameterStore& params, std::int64_t M, std::int64_t batch,
                    const std::function<Tensor(std::int64_t, std::int64_t)>& loss,
                    Estimator estimator = Estimator::replicas,
                    ReplicaMemory memory = ReplicaMemory::automatic) {
  return test::against_loop(
      params, {.M = M, .gamma = 0.3, .estimator = estimator, .seed = 3, .memory = memory}, batch, loss);
}

TEST_CASE("a pass that begins with a folded batch is cut at samples") {
  constexpr std::int64_t B = 5, L = 3, D = 4;
  const Tensor x = normal({B, L, D}, 1), y = normal({B, L, 2}, 2);
  for (const std::int64_t M : {1, 2, 5})
    for (const auto memory : {ReplicaMemory::stored, ReplicaMemory::recomputed}) {
      CAPTURE(M);
      const ParameterStore params({.dtype = float64, .seed = 2});
      const nn::Linear fc1(params / "fc1", D, 6), fc2(params / "fc2", 6, 2);
      const auto loss = [&](std::int64_t from, std::int64_t to) {
        const Tensor rows = reshape(slice(x, 0, from, to), {(to - from) * L, D});
        return mse_loss(fc2(tanh(fc1(rows))), reshape(slice(y, 0, from, to), {(to - from) * L, 2}));
      };
      CHECK(against_loop(params, M, B, loss, Estimator::replicas, memory) < exactly);
    }
}

TEST_CASE("folded rows meet a parameter that begins with 1") {
  constexpr std::int64_t B = 6, L = 2, D = 4;
  const Tensor x = normal({B, L, D}, 1);
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", D, 3);
  const nn::Parameter shift = parameter(params, "shift", {1, 3}, init::normal()),
                      scale = parameter(params, "scale", {1}, init::normal());
  for (const std::int64_t M : {1, 2, 3, 6})
    CHECK(against_loop(params, M, B, [&](auto from, auto to) {
            const Tensor h = fc(reshape(slice(x, 0, from, to), {(to - from) * L, D})) + shift;
            return mean(square(tanh(flatten(h) * scale)));
          }) < exactly);
}

TEST_CASE("a folded batch with noise per sample reads replicas") {
  constexpr std::int64_t B = 6, L = 2, D = 4;
  const Tensor x = normal({B, L, D}, 1);
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", D, 3);
  const auto loss = [&](std::int64_t from, std::int64_t to) {
    return mean(square(tanh(fc(reshape(slice(x, 0, from, to), {(to - from) * L, D})))));
  };
  CHECK(against_loop(params, 3, B, loss, Estimator::per_sample) < exactly);
}

TEST_CASE("with a given batch an operand that does not begin with it is refused") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 4, 2);
  const nn::Embedding tok(params / "tok", 9, 4);
  const nn::LayerNorm norm(params / "norm", 4);
  const nn::BatchNorm bn(params / "bn", 4);
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  const auto scope = filter.perturb(params, 4);
  const Tensor time_first = normal({8, 4, 4});  // T is a multiple of B
  CHECK_ERROR(fc(time_first), ShapeError, "[linear]", "batch of 4 samples", "first axis", "[8, 4, 4]",
              "permute");
  CHECK_ERROR(norm(time_first), ShapeError, "[layer_norm]", "batch of 4 samples");
  CHECK_ERROR(bn(time_first), ShapeError, "batch of 4 samples");
  CHECK_ERROR(tok(integers({8, 4}, [](auto i) { return i % 9; })), ShapeError, "[embedding]", "[8, 4]");
  CHECK_ERROR(fc(normal({7, 4})), ShapeError, "has a batch of 4 samples", "7 rows");
  CHECK_ERROR(time_first * fc.weight, ShapeError, "[per_sample]");
  CHECK(fc(normal({8, 4})).shape() == Shape{8, 2});  // folded: two rows a sample
  CHECK(fc(normal({4, 3, 4})).shape() == Shape{4, 3, 2});
}

TEST_CASE("without a given batch the first operand decides, and the error says how to give it") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 4, 2);
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  const auto scope = filter.perturb(params);
  fc(normal({15, 4}));
  CHECK_ERROR(fc(normal({5, 3, 4})), ShapeError, "began with a batch of 15 samples in linear", "5 rows",
              "perturb(params, batch)");
}

TEST_CASE("a given batch is at least one sample a replica") {
  const ParameterStore params;
  const nn::Linear fc(params / "fc", 4, 2);
  LowPassFilter filter({.M = 8, .gamma = 0.1});
  CHECK_ERROR(filter.perturb(params, 7), ShapeError, "[perturb]", "M = 8", "the batch has 7");
  CHECK_ERROR(filter.perturb(params, -1), ShapeError, "the batch has -1");
  optim::SmoothOut smooth({.M = 8});
  CHECK_ERROR(smooth.perturb(params, 7), ShapeError, "the batch has 7");
}

TEST_CASE("with one replica nothing is cut and nothing is refused") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 4, 4);
  LowPassFilter filter({.M = 1, .gamma = 0.1});
  for (const bool given : {false, true}) {
    const auto scope = given ? filter.perturb(params, 5) : filter.perturb(params);
    CHECK(fc(normal({15, 4})).shape() == Shape{15, 4});
    CHECK(fc(normal({7, 5, 4})).shape() == Shape{7, 5, 4});
    CHECK(fc(normal({2, 4})).shape() == Shape{2, 4});
    CHECK(fc(normal({0, 4})).shape() == Shape{0, 4});
  }
  optim::SGD sgd(params, {.lr = 0.1});
  optim::SAM sam(params, sgd, {});
  const Tensor x = normal({6, 4}), y = normal({2, 3, 4});
  const Tensor loss = sam.step([&] { return mean(square(fc(x))) + mean(square(fc(y))); });
  CHECK(loss.item() > 0);
}

TEST_CASE("SAM's slices of a folded batch are cut at samples") {
  constexpr std::int64_t B = 5, L = 3, D = 4, M = 2;
  const Tensor x = normal({B, L, D}, 1);
  const auto run = [&](bool fold) {
    const ParameterStore params({.dtype = float64, .seed = 2});
    const nn::Linear fc(params / "fc", D, 3);
    optim::SGD sgd(params, {.lr = 0.5});
    optim::SAM sam(params, sgd, {.rho = 0.3, .slices = M});
    for (int step = 0; step < 3; ++step)
      sam.step(
          [&] {
            return mean(square(tanh(fc(fold ? reshape(x, {B * L, D}) : x))));
          },
          fold ? std::optional<std::int64_t>(B) : std::nullopt);
    return params.theta().clone();
  };
  CHECK(largest_difference(run(true), run(false)) < exactly);
}

/// The first line of a language model.
struct Tokens {
  nn::Embedding tok, pos;
  nn::Linear fc;
  Tokens(const nn::Path& p, std::int64_t T)
      : tok(p / "tok", 11, 8), pos(p / "pos", T + 2, 8), fc(p / "fc", 8, 3) {}
};

TEST_CASE("rows that are the same for all samples: tok(x) + pos.rows(arange(T))") {
  for (const std::int64_t T : {8, 12})  // 12: as many positions as samples
    for (const std::int64_t M : {1, 3, 5, 12}) {
      CAPTURE(T);
      CAPTURE(M);
      constexpr std::int64_t B = 12;
      const ParameterStore params({.dtype = float64, .seed = 2});
      const Tokens net(params / "net", T);
      const Tensor x = integers({B, T}, [](auto i) { return (i * i + 3 * i) % 11; });
      const auto with = [&](auto positions) {
        return [&, positions](std::int64_t from, std::int64_t to) {
          return mean(square(tanh(net.fc(tanh(net.tok(slice(x, 0, from, to)) + positions())))));
        };
      };
      CHECK(against_loop(params, M, B, with([&] { return net.pos.rows(arange(T)); })) < exactly);
      CHECK(against_loop(params, M, B, with([&] { return narrow(net.pos.weight, 0, 0, T); })) < exactly);
      CHECK(against_loop(params, M, B, with([&] { return unsqueeze(net.pos.rows(arange(T)), 0); })) <
            exactly);
    }
}

TEST_CASE("f(x) + pos(arange(T)) in a pass is told what to write instead") {
  constexpr std::int64_t B = 6, T = 4, D = 3;
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", D, D);
  const nn::Embedding pos(params / "pos", T, D);
  const Tensor x = normal({B, T, D}, 1);
  const auto loss = [&](std::int64_t from, std::int64_t to) {
    return mean(square(fc(slice(x, 0, from, to)) + pos(expand(arange(T), {to - from, T}))));
  };
  CHECK(against_loop(params, 3, B, loss) < exactly);  // what it is told works
  LowPassFilter filter({.M = 3, .gamma = 0.1});
  for (const bool given : {true, false}) {
    const auto scope = given ? filter.perturb(params, B) : filter.perturb(params);
    const Tensor y = fc(x);
    CHECK_ERROR(y + pos(arange(T)), ShapeError, "[embedding]", "no batch axis of 6", "Embedding::rows()",
                "expand(indices, {B, T})", "(layer 'pos')");
    CHECK_ERROR(y + pos(unsqueeze(arange(T), 0)), ShapeError, "batch of 6");
  }
}

TEST_CASE("pos(arange(T)) before anything else is taken for the batch, and the error says so") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Linear fc(params / "fc", 3, 3);
  const nn::Embedding pos(params / "pos", 4, 3);
  LowPassFilter filter({.M = 3, .gamma = 0.1});
  const auto scope = filter.perturb(params);
  const Tensor positions = pos(arange(4));
  CHECK_ERROR(fc(normal({6, 4, 3}, 1)) + positions, ShapeError, "batch of 4 samples in embedding",
              "Embedding::rows()", "expand(indices, {B, T})");
}

TEST_CASE("rows read by one index a sample are not broadcast along another axis") {
  constexpr std::int64_t B = 12;
  const ParameterStore params({.dtype = float64, .seed = 2});
  const Tokens net(params / "net", B);
  const Tensor x = integers({B, B}, [](auto i) { return i % 11; }),
               y = integers({B, 8}, [](auto i) { return i % 11; });
  LowPassFilter filter({.M = 3, .gamma = 0.1});
  const auto scope = filter.perturb(params, B);
  const Tensor wrong = net.pos(arange(B));
  for (const auto& f : std::vector<std::function<Tensor()>>{
           [&] { return net.tok(x) + wrong; }, [&] { return wrong + net.tok(x); },
           [&] { return net.tok(x) + unsqueeze(wrong, 0); }, [&] { return net.tok(x) * tanh(wrong); },
           [&] { return net.tok(x) + net.fc(tanh(wrong)).sum({1}, true) * wrong; },
           [&] {
             return normal({B, B, 8}) + wrong;
           }})
    CHECK_ERROR(f(), ReplicaError, "12 samples", "axis 1", "Embedding::rows()");
  CHECK((unsqueeze(wrong, 0) / 2.0).shape() == Shape{1, B, 8});
  CHECK((net.tok(x) + unsqueeze(wrong, 1)).shape() == Shape{B, B, 8});  // one row a sample, meant so
  CHECK_ERROR(net.pos(arange(8)), ShapeError, "[embedding]", "[8]", "12 samples", "Embedding::rows()");
  CHECK((net.tok(y) + net.pos.rows(arange(8))).shape() == Shape{B, 8, 8});
}

TEST_CASE("padding keeps its row without a gradient where rows are for all samples") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Embedding pos(params / "pos", 4, 3, {.padding_idx = 1});
  LowPassFilter filter({.M = 2, .gamma = 0.3});
  const auto scope = filter.perturb(params, 6);
  const Tensor x = normal({6, 4, 3});
  sum(square(x + pos.rows(arange(4)))).backward();
  const Tensor g = reshape(params.gradient().alias({12}), {4, 3});
  CHECK(sum(abs(g[1])).item() == 0);
  CHECK(sum(abs(g[0])).item() > 0);
}

TEST_CASE("a parameter meets an activation slice by slice, and a constant in every replica") {
  constexpr std::int64_t B = 7;
  const Tensor x = normal({B, 3, 4}, 1),
               mask = integers({5, 4}, [](auto i) { return i % 3 > 0; }).to(float64);
  for (const std::int64_t M : {1, 2, 7}) {
    CAPTURE(M);
    const ParameterStore params({.dtype = float64, .seed = 2});
    const nn::Parameter gain = parameter(params, "gain", {4}, init::normal(1, 0.2)),
                        shift = parameter(params, "shift", {3, 4}, init::normal(0, 0.2)),
                        scale = parameter(params, "scale", {}, init::normal(1, 0.2)),
                        token = parameter(params, "token", {1, 3, 4}, init::normal(0, 0.2)),
                        w = parameter(params, "w", {5, 4}, init::normal());
    const Tensor s = normal({5, 1}, 4).requires_grad_();
    const auto loss = [&](std::int64_t from, std::int64_t to) {
      const Tensor h = (slice(x, 0, from, to) * gain - shift + token) / (2.0 + square(scale));
      const Tensor v = w * mask * s, unit = v / vector_norm(v, {1}, true);
      return mean(square(tanh(linear(maximum(h, shift), unit / sqrt(sum(square(w)))))));
    };
    CHECK(against_loop(params, M, B, loss) < exactly);
    CHECK(s.grad().defined());
  }
}

TEST_CASE("a weight times a scale that is frozen, or left out of the filter") {
  constexpr std::int64_t B = 6, M = 3;
  const Tensor x = normal({B, 4}, 1);
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Parameter w = parameter(params, "w", {5, 4}, init::normal()),
                      s = parameter(params, "s", {5, 1}, init::normal(1, 0.2));
  LowPassFilter filter(
      {.M = M, .gamma = 0.3, .include = [](const ParameterInfo& p) { return p.name == "w"; }});
  const auto loss = [&](std::int64_t from, std::int64_t to) {
    return mean(square(tanh(linear(slice(x, 0, from, to), mul(w, s)))));
  };
  {
    const auto scope = filter.perturb(params);
    loss(0, B).backward();
  }
  const Tensor one = params.gradient().clone();
  params.zero_grad();
  filter::unfused_gradient(params, filter, 0, B, loss);
  CHECK(largest_difference(one, params.gradient()) < exactly);
  CHECK(sum(abs(narrow(one, 0, params.parameters()[1].offset, 5))).item() > 1e-3);
}

TEST_CASE("a penalty on weights is each replica's own, or the clean one") {
  constexpr std::int64_t B = 7;
  const Tensor x = normal({B, 4}, 1);
  for (const std::int64_t M : {1, 3, 7}) {
    CAPTURE(M);
    const ParameterStore params({.dtype = float64, .seed = 2});
    const nn::Linear fc(params / "fc", 4, 3);
    const auto data = [&](std::int64_t from, std::int64_t to) {
      return mean(square(tanh(fc(slice(x, 0, from, to)))));
    };
    CHECK(against_loop(params, M, B, [&](auto from, auto to) {
            return data(from, to) + 0.3 * sum(square(fc.weight));
          }) < exactly);

    LowPassFilter filter({.M = M, .gamma = 0.3, .seed = 3});
    const auto gradient = [&](bool penalty) {
      params.zero_grad();
      filter.set_draws(0);
      const auto scope = filter.perturb(params);
      Tensor loss = data(0, B);
      if (penalty) loss = loss + 0.3 * sum(square(fc.weight.clean()));
      loss.backward();
      return params.gradient().clone();
    };
    const Tensor difference = gradient(true) - gradient(false), w = fc.weight.clean().detach();
    CHECK(largest_difference(narrow(difference, 0, 0, 12), 0.6 * w.flatten()) < exactly);
  }
}

TEST_CASE("a replicated scalar: its value and its derivatives are the mean's over the replicas") {
  const ParameterStore params({.dtype = float64, .seed = 2});
  const nn::Parameter w = parameter(params, "w", {3}, init::normal());
  LowPassFilter filter({.M = 2, .gamma = 0.3, .seed = 3});
  const Tensor offsets = filter.offsets(params, 0), theta = w.clean().detach();
  const auto scope = filter.perturb(params, 5);  // slices of 3 and 2 samples
  const Tensor each = sum(w * w * w);
  const Tensor a = theta + narrow(offsets[0], 0, 0, 3), b = theta + narrow(offsets[1], 0, 0, 3);
  CHECK(each.item() ==
        doctest::Approx(0.6 * sum(a * a * a).item() + 0.4 * sum(b * b * b).item()).epsilon(1e-14));
  const std::vector<Tensor> leaves = params.leaves();
  const Tensor g = grad(each, leaves, {.create_graph = true})[0];
  CHECK(largest_difference(g, 1.8 * a * a + 1.2 * b * b) < exactly);
  CHECK(largest_difference(grad(sum(g), leaves, {.retain_graph = true})[0], 3.6 * a + 2.4 * b) < exactly);
  sum(w * w * w).backward(full({}, 2, {.dtype = float64}));
  CHECK(largest_difference(narrow(params.gradient(), 0, 0, 3), 2.0 * g) < exactly);
}

TEST_CASE("a SAM step with a penalty on the weights") {
  const Tensor x = normal({6, 4}, 1);
  for (const std::int64_t slices : {1, 3})
    for (const std::int64_t parts : {1, 2}) {
      const ParameterStore params({.dtype = float64, .seed = 2});
      const nn::Linear fc(params / "fc", 4, 3);
      optim::SGD sgd(params, {.lr = 0.1});
      optim::SAM sam(params, sgd, {.rho = 0.3, .slices = slices, .accumulate = parts});
      const auto loss = [&](const Tensor& batch) {
        return mean(square(tanh(fc(batch)))) + 0.1 * sum(square(fc.weight));
      };
      const double before = loss(x).item();
      const Tensor at_theta =
          sam.step([&](std::int64_t k) { return loss(slice(x, 0, 6 / parts * k, 6 / parts * (k + 1))); });
      CHECK(!at_theta.is_replicated());
      CHECK(at_theta.item() == doctest::Approx(before).epsilon(1e-12));
      CHECK(loss(x).item() < before);
    }
}

}  // namespace
}  // namespace lpf::test
