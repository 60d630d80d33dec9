// The batched pass compared with the definition: M separate passes, each at its own weights θ + s ⊙ ε_r.
#include "lpf/core/gaussian.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/sgd.hpp"
#include "networks.hpp"

namespace lpf::test {
namespace {

constexpr double exact = 1e-12;

/// One pass of a fresh problem; its gradient stays in the store.
double one_pass(const Problem& p, LowPassFilter& filter) {
  const auto scope = filter.perturb(p.params);
  const Tensor loss = p.loss();
  loss.backward();
  return loss.item();
}
double loop(const Problem& p, const LowPassFilter& filter, std::uint64_t draw) {
  return filter::unfused_gradient(p.params, filter, draw, p.batch(),
                                  [&](auto from, auto to) { return p.loss(from, to); });
}

TEST_CASE("one pass is the published loop: gradient, loss, running statistics; θ keeps its bits") {
  for (const Kind kind : kinds)
    for (const std::int64_t batch : {16, 19})
      for (const std::int64_t M : {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{8}, batch})
        for (const auto estimator : {Estimator::replicas, Estimator::antithetic})
          for (const auto law : {NoiseLaw::filter_wise, NoiseLaw::tensor_wise, NoiseLaw::isotropic}) {
            if (estimator == Estimator::antithetic && M % 2) continue;
            CAPTURE(name_of(kind));
            CAPTURE(batch);
            CAPTURE(M);
            const Problem one(kind, batch), other(kind, batch);
            LowPassFilter filter({.M = M, .gamma = 0.1, .law = law, .estimator = estimator, .seed = 5});
            const Tensor theta = one.params.theta().clone();
            for (std::uint64_t draw = 0; draw < 2; ++draw) {
              const double loss = one_pass(one, filter), expected = loop(other, filter, draw);
              CHECK(loss == doctest::Approx(expected).epsilon(exact));
              CHECK(distance(one.params.gradient(), other.params.gradient()) < exact);
              CHECK(buffer_error(one.params, other.params) < exact);
              CHECK(counters_of(one.params) == counters_of(other.params));
              CHECK(same_bits(one.params.theta(), theta));
            }
          }
}

TEST_CASE("remade replicas: the same bits as kept ones") {
  for (const Kind kind : kinds)
    for (const auto estimator : {Estimator::replicas, Estimator::antithetic, Estimator::per_sample}) {
      CAPTURE(name_of(kind));
      const Problem kept(kind, 19), remade(kind, 19);
      LowPassFilterOptions options{.M = 4, .gamma = 0.1, .estimator = estimator, .seed = 5};
      LowPassFilter keeps(options);
      options.memory = ReplicaMemory::recomputed;
      LowPassFilter remakes(options);
      for (int pass = 0; pass < 2; ++pass) {
        CHECK(one_pass(kept, keeps) == one_pass(remade, remakes));
        CHECK(same_bits(kept.params.gradient(), remade.params.gradient()));
      }
      CHECK(same_bits(kept.params.theta(), remade.params.theta()));
    }
}

TEST_CASE("remade replicas: second derivatives, and an update before backward is an error") {
  const auto curvature = [](ReplicaMemory memory) {
    const Problem p(Kind::linear, 16);
    LowPassFilter filter({.M = 4, .gamma = 0.1, .seed = 5, .memory = memory});
    const auto scope = filter.perturb(p.params);
    const std::vector<Tensor> leaves = p.params.leaves();
    const auto g = grad(p.loss(), leaves, {.create_graph = true});
    return grad(sum(square(g[0])), leaves)[0];
  };
  CHECK(same_bits(curvature(ReplicaMemory::stored), curvature(ReplicaMemory::recomputed)));

  const Problem p(Kind::linear, 16);
  LowPassFilter filter({.M = 4, .gamma = 0.1, .memory = ReplicaMemory::recomputed});
  const auto scope = filter.perturb(p.params);
  const Tensor loss = p.loss();
  p.params.changed();
  CHECK_THROWS_AS(loss.backward(), StateError);
}

TEST_CASE("remade replicas: memory for the largest parameter's, not for all") {
  constexpr std::int64_t width = 256, layers = 6, M = 8;
  const auto peak = [&](ReplicaMemory memory) {
    ParameterStore params;
    std::vector<nn::Linear> net;
    for (int i = 0; i < layers; ++i) net.emplace_back(params / ("fc" + std::to_string(i)), width, width);
    const Tensor x = ones({M, width});
    params.gradient();
    const auto& cpu = backend::get(default_device());
    LowPassFilter filter({.M = M, .gamma = 0.1, .memory = memory});
    cpu.reset_peak();
    const std::size_t before = cpu.memory_stats().in_use;
    const auto scope = filter.perturb(params);
    Tensor y = x;
    for (const nn::Linear& layer : net) y = tanh(layer(y));
    mean(y).backward();
    return cpu.memory_stats().peak - before;
  };
  constexpr std::size_t replicas = M * width * width * sizeof(float);  // of one layer
  CHECK(peak(ReplicaMemory::stored) >= layers * replicas);
  CHECK(peak(ReplicaMemory::recomputed) < 2 * replicas);
}

TEST_CASE("one pass is M passes at weights written by hand") {
  for (const Kind kind : kinds)
    for (const std::int64_t batch : {16, 19})
      for (const std::int64_t M : {std::int64_t{1}, std::int64_t{3}, std::int64_t{8}, batch}) {
        CAPTURE(name_of(kind));
        CAPTURE(batch);
        CAPTURE(M);
        const Problem p(kind, batch);
        LowPassFilter filter({.M = M, .gamma = 0.1, .seed = 6});
        const Tensor offsets = filter.offsets(p.params, 0);
        const auto slices = slices_by_hand([&] { return Problem(kind, batch); }, p.params.theta(), offsets);
        CHECK(one_pass(p, filter) == doctest::Approx(mean_loss(slices)).epsilon(exact));
        CHECK(distance(p.params.gradient(), mean_gradient(slices)) < exact);
        const auto after = buffers_of(p.params);
        for (std::size_t i = 0; i < after.size(); ++i)
          CHECK(relative_error(after[i], slices.back().buffers[i]) < exact);
      }
}

/// The replicas that a scope reads, [M, shape…].
Tensor read_all(filter::Perturbation& scope, std::size_t parameter) {
  const auto off = no_grad();
  return lpf::detail::remove_replica_dim(scope.read(parameter));
}

template <class T>
void check_replicas(const ParameterStore& params, const LowPassFilterOptions& o) {
  LowPassFilter filter(o);
  filter.set_draws(11);
  auto scope = filter.perturb(params);
  CHECK(filter.draws() == 12);
  const std::vector<T> s = scope.scale().to_vector<T>();
  std::size_t row = 0;
  for (const auto& info : params.parameters()) {
    const Tensor leaf = on_host(params.tensor(info.index));
    const std::int64_t rows = info.shape.rank() > 1 ? info.shape[0] : 1, length = info.numel() / rows;
    const Tensor read = on_host(read_all(scope, info.index));
    REQUIRE(read.shape() == info.shape.prepended(o.M));
    bool equal = true;
    for (std::int64_t r = 0; r < o.M; ++r)
      for (std::int64_t e = 0; e < info.numel(); ++e) {
        const bool both = o.estimator == Estimator::antithetic;
        const NoiseKey key{.seed = o.seed,
                           .purpose = Purpose::perturbation,
                           .draw = 11,
                           .replica = static_cast<std::uint32_t>(both ? r / 2 : r),
                           .parameter = static_cast<std::uint32_t>(info.index)};
        const T scale = s[row + static_cast<std::size_t>(e / length)];
        const T expected =
            lpf::detail::fmadd(both && r % 2 ? -scale : scale, normal_at<T>(key, e), leaf.data<T>()[e]);
        equal = equal && read.data<T>()[r * info.numel() + e] == expected;
      }
    INFO(info.name);
    CHECK(equal);
    row += static_cast<std::size_t>(rows);
  }
  CHECK(row == s.size());
}

TEST_CASE("the weights of a pass are θ + s ⊙ ε of the noise stream, to the bit") {
  for (const auto estimator : {Estimator::replicas, Estimator::antithetic}) {
    const LowPassFilterOptions o{.M = 4, .gamma = 0.3, .estimator = estimator, .seed = 9};
    for (const Kind kind : kinds) check_replicas<double>(Problem(kind).params, o);
    const ParameterStore single({.dtype = float32, .seed = 2});
    const ConvNet conv(single);
    check_replicas<float>(single, o);
  }
}

TEST_CASE("batch norm's running statistics under each policy") {
  const std::int64_t batch = 19, M = 4;
  for (const Kind kind : {Kind::conv, Kind::token})
    for (const auto policy : {BatchNormPolicy::per_replica, BatchNormPolicy::recomputed,
                              BatchNormPolicy::frozen, BatchNormPolicy::pooled}) {
      CAPTURE(name_of(kind));
      const auto make = [&] {
        Problem p(kind, batch);
        if (policy == BatchNormPolicy::frozen)
          p.params.eval();  // no masks, running statistics: so that the loop is comparable
        return p;
      };
      const Problem one = make();
      LowPassFilter filter({.M = M, .gamma = 0.2, .batch_norm = policy, .seed = 8});
      const auto before = buffers_of(one.params);
      const auto slices = slices_by_hand(make, one.params.theta(), filter.offsets(one.params, 0));
      const double loss = one_pass(one, filter);
      const auto after = buffers_of(one.params);
      if (policy != BatchNormPolicy::pooled) {
        CHECK(loss == doctest::Approx(mean_loss(slices)).epsilon(exact));
        CHECK(distance(one.params.gradient(), mean_gradient(slices)) < exact);
      } else {
        CHECK(distance(one.params.gradient(), mean_gradient(slices)) > 1e-3);  // a different objective
      }
      if (policy == BatchNormPolicy::per_replica) {
        for (std::size_t i = 0; i < after.size(); ++i)
          CHECK(relative_error(after[i], slices.back().buffers[i]) < exact);
      } else if (policy != BatchNormPolicy::pooled) {
        CHECK(same_bits(after, before));
      }
      for (std::size_t i = 2; i < after.size(); i += 3)  // num_batches_tracked
        CHECK(after[i].item() == (policy == BatchNormPolicy::per_replica ? M
                                  : policy == BatchNormPolicy::pooled    ? 1
                                                                         : 0));
    }
}

TEST_CASE("the frozen policy in training: running statistics, masks as ever") {
  const std::int64_t batch = 10, M = 3;
  Problem one(Kind::token, batch), other(Kind::token, batch);
  for (const Problem* p : {&one, &other}) {  // running statistics other than the initial ones
    static_cast<void>(p->loss());
    p->params.zero_grad();
  }
  const auto before = buffers_of(one.params);
  LowPassFilter frozen({.M = M, .gamma = 0.2, .batch_norm = BatchNormPolicy::frozen, .seed = 8});
  one_pass(one, frozen);
  CHECK(same_bits(buffers_of(one.params), before));
  // by hand: slices in sequence, each a frozen pass of one replica with stored offsets
  const Tensor offsets = frozen.offsets(other.params, 0);
  const auto begin = cut(batch, M);
  for (std::int64_t r = 0; r < M; ++r) {
    const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
    filter::PassOptions pass{.M = 1, .batch_norm = BatchNormPolicy::frozen};
    pass.perturbations = slice(offsets, 0, r, r + 1);
    const filter::Perturbation scope(other.params,
                                     filter::segments_of(other.params, NoiseLaw::filter_wise, {}), pass);
    const nn::MicroBatch part(from, to - from);
    const Tensor loss = other.loss(from, to);
    loss.backward(full_like(loss, static_cast<double>(to - from) / static_cast<double>(batch)));
  }
  CHECK(distance(one.params.gradient(), other.params.gradient()) < exact);
}

TEST_CASE("a pass at a point has the gradient of the pass with the point's offset from θ") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    std::vector<Tensor> gradients;
    std::vector<double> losses;
    for (const bool as_point : {false, true}) {
      const Problem p(kind, 6);
      const Tensor theta = p.params.theta(), offset = affine(normal({theta.numel()}, 3), 0.1, 0);
      filter::PassOptions pass{.M = 1};
      if (as_point) {
        pass.point = add(theta, offset).detach();
      } else {
        pass.perturbations = reshape(offset, {1, theta.numel()});
      }
      const filter::Perturbation scope(p.params, filter::segments_of(p.params, NoiseLaw::filter_wise, {}),
                                       pass);
      const Tensor loss = p.loss();
      loss.backward();
      losses.push_back(loss.item());
      gradients.push_back(p.params.gradient());
    }
    CHECK(losses[0] == doctest::Approx(losses[1]).epsilon(exact));
    CHECK(distance(gradients[0], gradients[1]) < exact);
  }
}

TEST_CASE("the pooled policy: statistics of the whole batch, each slice scaled by its own replica") {
  const std::int64_t batch = 11, M = 3;
  const ParameterStore params({.dtype = float64, .seed = 4});
  const nn::Linear in(params / "in", 4, 5), out(params / "out", 5, 3);
  const nn::BatchNorm bn(params / "bn", 5);
  const Tensor x = normal({batch, 4}, 2), y = normal({batch, 3}, 3);
  LowPassFilter filter({.M = M, .gamma = 0.3, .batch_norm = BatchNormPolicy::pooled});
  const Tensor offsets = filter.offsets(params, 0), theta = params.theta();
  // the replicas as separate leaves, and plain operations
  std::vector<std::vector<Tensor>> replica;
  for (std::int64_t r = 0; r < M; ++r) {
    replica.emplace_back();
    for (const auto& info : params.parameters())
      replica.back().push_back(
          add(theta, offsets[r]).alias(info.shape, info.offset).clone().requires_grad_());
  }
  const auto begin = cut(batch, M);
  const auto by_slice = [&](const Tensor& t, auto f) {
    std::vector<Tensor> parts;
    for (std::size_t r = 0; r < static_cast<std::size_t>(M); ++r)
      parts.push_back(f(slice(t, 0, begin[r], begin[r + 1]), replica[r]));
    return concatenate(parts);
  };
  // the order of creation: in.weight, in.bias, out.weight, out.bias, bn.weight, bn.bias
  const Tensor h = by_slice(x, [](const Tensor& t, const auto& w) { return linear(t, w[0], w[1]); });
  const Tensor centred = sub(h, mean(h, {0})),
               normalised = div(centred, sqrt(mean(square(centred), {0}) + 1e-5));
  const Tensor z = by_slice(normalised, [](const Tensor& t, const auto& w) {
    return linear(tanh(add(mul(t, w[4]), w[5])), w[2], w[3]);
  });
  const Tensor expected = mse_loss(z, y);
  expected.backward();
  Tensor loss;
  {
    const auto scope = filter.perturb(params);
    loss = mse_loss(out(tanh(bn(in(x)))), y);
    loss.backward();
  }
  CHECK(loss.item() == doctest::Approx(expected.item()).epsilon(exact));
  for (const auto& info : params.parameters()) {
    Tensor sum_of_gradients = zeros(info.shape, {.dtype = float64});
    for (const auto& w : replica) sum_of_gradients = add(sum_of_gradients, w[info.index].grad());
    INFO(info.name);
    CHECK(relative_error(params.tensor(info.index).grad(), sum_of_gradients) < exact);
  }
  CHECK(relative_error(bn.running_mean, mean(h, {0}) * 0.1) < exact);
}

TEST_CASE("a slice that leaves batch norm one value a channel is a ShapeError, and nothing has changed") {
  const ParameterStore params({.dtype = float64});
  const nn::Linear fc(params / "fc", 3, 4);
  const nn::BatchNorm bn(params / "bn", 4);
  const Tensor x = normal({8, 3}), theta = params.theta().clone();
  for (const std::int64_t M : {5, 8}) {  // slices of 2, 2, 2, 1, 1 and of 1
    LowPassFilter filter({.M = M, .gamma = 0.1});
    {
      const auto scope = filter.perturb(params);
      CHECK_ERROR(bn(fc(x)), ShapeError, "batch_norm", concat("M = ", M), "B = 8");
    }
    CHECK(same_bits(params.theta(), theta));
    CHECK(bn.num_batches_tracked.item() == 0);
    for (const auto policy : {BatchNormPolicy::pooled, BatchNormPolicy::frozen}) {
      LowPassFilter other({.M = M, .gamma = 0.1, .batch_norm = policy});
      const auto scope = other.perturb(params);
      CHECK_NOTHROW(sum(bn(fc(x))).backward());
    }
    bn.num_batches_tracked.zero_();
  }
  LowPassFilter four({.M = 4, .gamma = 0.1});
  const auto scope = four.perturb(params);
  CHECK_NOTHROW(static_cast<void>(bn(fc(x))));
}

TEST_CASE("second derivatives inside a perturbed pass") {
  for (const Kind kind : kinds)
    for (const bool kept : {false, true}) {
      CAPTURE(name_of(kind));
      const std::int64_t batch = 11, M = 3;
      const Problem p(kind, batch);
      LowPassFilter filter({.M = M, .gamma = 0.1, .seed = 7, .keep_replica_gradients = kept});
      const auto leaves = p.params.leaves();
      std::vector<Tensor> v;
      for (const Tensor& leaf : leaves) v.push_back(normal(leaf.shape(), v.size() + 50));
      const auto slices = slices_by_hand([&] { return Problem(kind, batch); }, p.params.theta(),
                                         filter.offsets(p.params, 0), v);
      std::vector<Tensor> g, hv;
      {
        const auto scope = filter.perturb(p.params);
        g = grad(p.loss(), leaves, {.create_graph = true});
        Tensor along = zeros({}, {.dtype = float64});
        for (std::size_t i = 0; i < g.size(); ++i) along = add(along, sum(mul(g[i], v[i])));
        hv = grad(along, leaves);
      }
      for (std::size_t i = 0; i < leaves.size(); ++i) {
        const auto& info = p.params.parameters()[i];
        INFO(info.name);
        Tensor first = zeros(info.shape, {.dtype = float64}), second = first.clone();
        for (const Slice& s : slices) {
          first = add(first, affine(s.gradient.alias(info.shape, info.offset), s.share, 0));
          second = add(second, affine(s.hv[i], s.share, 0));
        }
        CHECK(relative_error(g[i], first) < exact);
        CHECK(relative_error(hv[i], second, 0.1) < 1e-11);
      }
    }
}

TEST_CASE("any base optimizer takes the gradient, while the radius grows") {
  const auto train = [](const Problem& p, auto& optimizer, bool fused) {
    LowPassFilter filter({.M = 3, .gamma = 0.05, .alpha = 4, .total_steps = 6, .seed = 2});
    for (std::uint64_t step = 0; step < 6; ++step) {
      if (fused) {
        const auto scope = filter.perturb(p.params);
        CHECK(scope.gamma() == filter.gamma(step));
        p.loss().backward();
        optimizer.step();  // at the end of the scope, as in the loop of the README
      } else {
        loop(p, filter, step);
        optimizer.step();
      }
    }
    return p.params.theta();
  };
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem a(kind), b(kind), c(kind), d(kind);
    const optim::SGDOptions o{.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-3, .nesterov = true};
    optim::SGD sgd_a(a.params, o), sgd_b(b.params, o);
    CHECK(distance(train(a, sgd_a, true), train(b, sgd_b, false)) < 1e-11);
    optim::Adam adam_c(c.params, {.lr = 0.01}), adam_d(d.params, {.lr = 0.01});
    CHECK(distance(train(c, adam_c, true), train(d, adam_d, false)) < 1e-9);
    CHECK(distance(a.params.theta(), c.params.theta()) > 1e-3);
  }
}

TEST_CASE("accumulated micro-batches have draws of their own, and are clipped together") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem first(kind, 12, 1), second(kind, 9, 2), expected(kind, 12, 1), later(kind, 9, 2);
    // one model, two batches: `second` provides its batch
    Problem micro = first;
    LowPassFilter filter({.M = 3, .gamma = 0.1, .seed = 4});
    for (const Problem* batch : {&first, &second}) {
      micro.x = batch->x;
      micro.y = batch->y;
      const auto scope = filter.perturb(micro.params);
      affine(micro.loss(), 0.5, 0).backward();
    }
    CHECK(filter.draws() == 2);
    Problem looped = expected;
    Tensor total = zeros_like(looped.params.gradient());
    std::vector<Tensor> each;
    for (const Problem* batch : {&expected, &later}) {
      looped.params.zero_grad();
      looped.x = batch->x;
      looped.y = batch->y;
      loop(looped, filter, each.size());
      each.push_back(looped.params.gradient().clone());
      total = add(total, affine(each.back(), 0.5, 0));
    }
    CHECK(distance(micro.params.gradient(), total) < exact);
    const double norm = optim::grad_norm(micro.params), limit = norm / 3;
    CHECK(optim::clip_grad_norm(micro.params, limit).item() == norm);
    CHECK(distance(micro.params.gradient(), affine(total, limit / (norm + 1e-6), 0)) < exact);
    optim::clip_grad_value(micro.params, 1e-3);
    CHECK(amax(abs(micro.params.gradient()), 0).item() == 1e-3);
  }
}

TEST_CASE("parameters left out of the filter, frozen parameters, groups of the optimizer") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem one(kind), other(kind);
    const auto is_matrix = [](const ParameterInfo& info) { return info.shape.rank() > 1; };
    const std::string frozen = one.params.parameters()[0].name, matrix = one.params.parameters()[2].name;
    for (const Problem* p : {&one, &other}) p->params.set_trainable(frozen, false);
    LowPassFilter filter({.M = 4, .gamma = 0.1, .seed = 3, .include = is_matrix});
    const Tensor offsets = filter.offsets(one.params, 0), before = one.params.theta().clone();
    {
      auto scope = filter.perturb(one.params);
      for (const auto& info : one.params.parameters()) {
        const bool perturbed = info.trainable && info.shape.rank() > 1;
        CHECK(scope.read(info.index).is_replicated() == perturbed);
        for (std::int64_t r = 0; r < 4; ++r) {
          const auto own = offsets[r].alias(info.shape, info.offset).to_vector();
          const auto zero = static_cast<std::size_t>(std::count(own.begin(), own.end(), 0.0));
          if (kind != Kind::token) CHECK(zero == (perturbed ? 0 : own.size()));  // the padding row has norm 0
        }
      }
      one.loss().backward();
    }
    loop(other, filter, 0);
    CHECK(distance(one.params.gradient(), other.params.gradient()) < exact);
    const std::vector<optim::ParameterGroup<optim::SGDOptions>> groups{{optim::is_vector, {.lr = 0.1}}};
    optim::SGD a(one.params, {.lr = 0.1, .weight_decay = 0.1}, groups),
        b(other.params, {.lr = 0.1, .weight_decay = 0.1}, groups);
    a.step();
    b.step();
    CHECK(distance(one.params.theta(), other.params.theta()) < exact);
    const auto& still = one.params.parameters()[0];
    CHECK(same_bits(one.params.theta().alias(still.shape, still.offset),
                    before.alias(still.shape, still.offset)));
  }
}

TEST_CASE("gradients kept for each replica, their statistics, and each replica's loss") {
  for (const Kind kind : kinds)
    for (const auto estimator : {Estimator::replicas, Estimator::antithetic}) {
      CAPTURE(name_of(kind));
      const std::int64_t batch = 19, M = 4;
      const Problem summed(kind, batch), kept(kind, batch);
      LowPassFilter a({.M = M, .gamma = 0.1, .estimator = estimator, .seed = 3});
      LowPassFilter b(
          {.M = M, .gamma = 0.1, .estimator = estimator, .seed = 3, .keep_replica_gradients = true});
      const auto slices = slices_by_hand([&] { return Problem(kind, batch); }, summed.params.theta(),
                                         a.offsets(summed.params, 0));
      one_pass(summed, a);
      const auto scope = b.perturb(kept.params);
      CHECK_ERROR(scope.gradient_statistics(), StateError, "after backward()");
      const Tensor losses = kept.losses(0, batch);
      CHECK_ERROR(scope.gradient_statistics(), StateError, "after backward()");
      mean(losses).backward();
      CHECK(distance(kept.params.gradient(), summed.params.gradient()) < exact);
      const auto own = scope.replica_losses(losses);
      const auto found = scope.gradient_statistics();
      REQUIRE(own.size() == M);
      REQUIRE(found.norm.size() == M);
      const Tensor total = mean_gradient(slices);
      const auto squares = [](const Tensor& t) {
        return t.backend().dot(t.dtype(), t.numel(), t.raw(), t.raw());
      };
      double variance = 0;
      for (std::size_t r = 0; r < slices.size(); ++r) {
        CHECK(own[r] == doctest::Approx(slices[r].loss).epsilon(exact));
        CHECK(found.norm[r] == doctest::Approx(std::sqrt(squares(slices[r].gradient))).epsilon(exact));
        variance += squares(sub(slices[r].gradient, total)) / static_cast<double>(M - 1);
      }
      CHECK(found.mean_norm == doctest::Approx(std::sqrt(squares(total))).epsilon(exact));
      CHECK(found.variance == doctest::Approx(variance).epsilon(exact));
      CHECK_ERROR(scope.replica_losses(normal({19, 2})), ShapeError, "[19, 2]");
      CHECK_ERROR(scope.replica_losses(normal({18})), ShapeError, "19", "18");
    }
  const Problem p(Kind::linear);
  LowPassFilter filter({.M = 2, .gamma = 0.1});
  const auto scope = filter.perturb(p.params);
  p.loss().backward();
  CHECK_ERROR(scope.gradient_statistics(), StateError, "keep_replica_gradients");
}

TEST_CASE("the clean loss beside the perturbed one") {
  for (const Kind kind : kinds)
    for (const bool training : {true, false}) {
      CAPTURE(name_of(kind));
      const Problem plain(kind), one(kind), reference(kind);
      for (const Problem* p : {&plain, &one, &reference}) p->params.train(training);
      LowPassFilter filter({.M = 3, .gamma = 0.2, .seed = 3}), again = filter;
      const double expected = plain.loss().item();
      one_pass(reference, again);
      const auto scope = filter.perturb(one.params);
      const auto buffers = buffers_of(one.params);
      const auto counters = counters_of(one.params);
      const Tensor clean = scope.clean([&] { return one.loss(); });
      CHECK(clean.item() == expected);
      CHECK_FALSE(clean.requires_grad());
      CHECK(same_bits(buffers_of(one.params), buffers));
      CHECK(counters_of(one.params) == counters);
      CHECK_THROWS_WITH(scope.clean([&] {
        static_cast<void>(one.loss());
        throw std::runtime_error("the user's");
      }),
                        "the user's");
      CHECK(same_bits(buffers_of(one.params), buffers));
      CHECK(counters_of(one.params) == counters);
      one.loss().backward();  // perturbed again, as before
      CHECK(same_bits(one.params.gradient(), reference.params.gradient()));
      CHECK(same_bits(buffers_of(one.params), buffers_of(reference.params)));
    }
}

TEST_CASE("θ keeps its bits when a pass throws, at any moment") {
  for (const Kind kind : kinds) {
    CAPTURE(name_of(kind));
    const Problem p(kind), reference(kind);
    const Tensor theta = p.params.theta().clone();
    LowPassFilter filter({.M = 3, .gamma = 0.2});
    const auto at = [&](auto f) {
      CHECK_THROWS_WITH(
          [&] {
            const auto scope = filter.perturb(p.params);
            f();
          }(),
          "the user's");
      CHECK(same_bits(p.params.theta(), theta));
      CHECK(nn::detail::active_passes().empty());
    };
    const auto fail_here = [] { throw std::runtime_error("the user's"); };
    at(fail_here);  // before any read: not an unused scope
    at([&] {
      static_cast<void>(p.loss());
      fail_here();
    });
    at([&] {  // in the middle of the backward pass
      const Tensor loss = p.loss();
      const Tensor last = record("user", loss.clone(), {loss}, [&](const Tensor&, Need) -> Grads {
        fail_here();
        return {};
      });
      last.backward();
    });
    at([&] {
      p.loss().backward();
      fail_here();
    });
    // and the next pass is as it would have been
    const Tensor values = p.params.gradient().clone();
    p.params.zero_grad();
    filter.set_draws(0);
    for (std::size_t i = 0; i < p.params.buffers().size(); ++i)
      p.params.buffers()[i].tensor.copy_(reference.params.buffers()[i].tensor);
    for (auto& c : p.params.counters()) *c.value = 0;
    one_pass(p, filter);
    loop(reference, filter, 0);
    CHECK(distance(p.params.gradient(), reference.params.gradient()) < exact);
    CHECK(distance(values, p.params.gradient()) > 1e-6);
  }
}

}  // namespace
}  // namespace lpf::test
