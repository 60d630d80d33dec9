// Mixed precision: the dtype of each operation under autocast, and convergence of training with it.
#include <cmath>

#include "compare.hpp"
#include "lpf/data/sets/digits.hpp"
#include "lpf/models/mlp.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// The digits' pixels, 32 hidden units, 10 classes.
struct Dense : models::MLP {
  explicit Dense(const nn::Path& p) : models::MLP(p, {64, 32, 10}) {}
};
struct Layers {
  nn::Conv2d conv1, conv2;
  nn::BatchNorm norm;
  nn::Linear fc;
  explicit Layers(const nn::Path& p)
      : conv1(p / "conv1", 1, 8, 3, {.padding = 1}),
        conv2(p / "conv2", 8, 8, 3, {.padding = 1, .bias = false}),
        norm(p / "norm", 8),
        fc(p / "fc", 8 * 4, 10) {}
};
struct Convolutional : Layers {
  using Layers::Layers;
  Tensor operator()(const Tensor& x) const {
    const Tensor y = max_pool2d(relu(conv1(x)), 2);
    return fc(flatten(avg_pool2d(add(relu(norm(conv2(y))), y), 2), 1));
  }
};
/// The same without ReLU and max-pooling, which amplify small differences.
struct Smooth : Layers {
  using Layers::Layers;
  Tensor operator()(const Tensor& x) const {
    const Tensor y = avg_pool2d(gelu(conv1(x)), 2);
    return fc(flatten(avg_pool2d(add(gelu(norm(conv2(y))), y), 2), 1));
  }
};

/// Pixels as words: a table that no product uses.
struct Embedded {
  nn::Embedding words;
  nn::LayerNorm norm;
  nn::Linear fc;
  explicit Embedded(const nn::Path& p)
      : words(p / "words", 17, 6), norm(p / "norm", {6}), fc(p / "fc", 6, 10) {}
  Tensor operator()(const Tensor& x) const {
    return fc(mean(norm(words(affine(flatten(x, 1), 16, 0).to(int64))), {1}));
  }
};

double norm_of(const Tensor& t) { return std::sqrt(t.backend().dot(t.dtype(), t.numel(), t.raw(), t.raw())); }
double relative_difference(const Tensor& a, const Tensor& b) { return norm_of(sub(a, b)) / norm_of(b); }

/// The gradient of the loss of a batch of digits, in mixed precision or not.
template <class Net>
Tensor gradient(DType precision, const LowPassFilterOptions* options, Tensor* logits = nullptr) {
  static const TensorDataset data = digits({.flat = false});
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu, .seed = 4});
  const Net net(params);
  const Tensor x = data.images.narrow(0, 0, 32).to(gpu), y = data.labels.narrow(0, 0, 32).to(gpu);
  Tensor loss;
  {
    const auto scope = autocast(precision);
    std::optional<LowPassFilter> filter;
    std::optional<filter::Perturbation> pass;
    if (options) {
      filter.emplace(*options);
      pass.emplace(params, filter::segments_of(params, NoiseLaw::filter_wise, {}),
                   filter::PassOptions{.M = options->M,
                                       .gamma = options->gamma,
                                       .estimator = options->estimator,
                                       .keep_replica_gradients = options->keep_replica_gradients,
                                       .memory = options->memory});
    }
    const Tensor z = net(x);
    if (logits) *logits = z;
    loss = cross_entropy(z, y);
    loss.backward();
  }
  CHECK(params.gradient().dtype() == float32);
  CHECK(params.theta().dtype() == float32);
  return params.gradient().clone();
}

}  // namespace

TEST_CASE("autocast: which type each operation computes in") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor x = normal({4, 6}, 1, float32).to(gpu), w = normal({5, 6}, 2, float32).to(gpu),
               b = normal({5}, 3, float32).to(gpu), image = normal({2, 4, 4, 3}, 4, float32).to(gpu),
               filter = normal({5, 3, 3, 3}, 5, float32).to(gpu), six = normal({6}, 6, float32).to(gpu),
               labels = zeros({4}, {int64, gpu}), mean = zeros({3}, {float32, gpu}),
               one = ones({3}, {float32, gpu});
  const Tensor half = x.to(bfloat16), picture = image.to(bfloat16);
  const auto scope = autocast();
  CHECK(is_autocast_enabled());
  const auto gives = [](DType type, std::initializer_list<Tensor> results) {
    for (const Tensor& t : results) {
      INFO(t.shape().to_string());
      CHECK(t.dtype() == type);
    }
  };
  gives(bfloat16, {linear(x, w), linear(x, w, b), linear(half, w, b), matmul(x, w.transpose()),
                   conv2d(image, filter), conv2d(picture, filter, b)});
  gives(bfloat16, {relu(half),
                   gelu(half),
                   tanh(half),
                   sigmoid(half),
                   silu(half),
                   elu(half),
                   leaky_relu(half),
                   abs(half),
                   max_pool2d(picture, 2),
                   avg_pool2d(picture, 2),
                   dropout(half, 0.5, {}),
                   reshape(half, {24}),
                   half.transpose(),
                   slice(half, 1, 1, 3),
                   concatenate({half, half}),
                   add(half, half),
                   half * 2.0,
                   half / 3.0,
                   maximum(half, half),
                   half.max(),
                   where(half > 0.0, half, half),
                   batch_norm_train(picture, one, mean, {0, 2}).y,
                   batch_norm_train(picture, one, mean, {0, 2}, 1e-5, {.residual = picture, .relu = true}).y,
                   batch_norm_eval(picture, one, mean, mean, one)});
  gives(float32, {relu(x), max_pool2d(image, 2), batch_norm_train(image, one, mean, {0, 2}).y, add(x, x)});
  gives(float32, {batch_norm_train(picture, one, mean, {0, 2}).mean,
                  batch_norm_train(picture, one, mean, {0, 2}).variance});
  gives(float32, {add(half, x), sub(x, half), mul(half, six), div(half, x), maximum(half, x),
                  batch_norm_train(picture, one, mean, {0, 2}, 1e-5, {.residual = image, .relu = true}).y,
                  concatenate({half, x}), concatenate({x, half}), where(half > x, half, x)});
  gives(float32, {softmax(half),
                  log_softmax(half),
                  cross_entropy(half, labels),
                  cross_entropy(half, softmax(x)),
                  nll_loss(half, labels),
                  mse_loss(half, x),
                  mse_loss(x, half),
                  l1_loss(half, half),
                  smooth_l1_loss(half, x),
                  bce_with_logits(half, x),
                  layer_norm(half, six, six),
                  sum(half),
                  sum(half, {1}),
                  lpf::mean(half, {0}),
                  var(half),
                  prod(half, 1),
                  exp(half),
                  expm1(half),
                  log(half),
                  log1p(half),
                  pow(half, 2),
                  reciprocal(half),
                  rsqrt(half),
                  softplus(half)});
  const Tensor d = x.to(float64);
  gives(float64, {linear(d, w.to(float64)), matmul(d, d.transpose()), exp(d), add(d, d),
                  conv2d(image.to(float64), filter.to(float64))});
  {
    const auto off = autocast(float32);
    CHECK_FALSE(is_autocast_enabled());
    gives(float32, {linear(x, w, b), conv2d(image, filter)});
    CHECK_ERROR(linear(half, w), DTypeError, "[linear]", "bfloat16", "float32");
    CHECK_ERROR(add(half, x), DTypeError, "[add]", "bfloat16", "float32");
  }
  CHECK(is_autocast_enabled());
  CHECK(linear(x, w).dtype() == bfloat16);
}

TEST_CASE("autocast: ends with its scope, is of its thread, and takes two types") {
  CHECK_FALSE(is_autocast_enabled());
  CHECK_ERROR(autocast(float64), DTypeError, "[autocast]", "bfloat16", "float32", "float64");
  CHECK_ERROR(autocast(int64), DTypeError, "int64");
  CHECK_FALSE(is_autocast_enabled());
  const Tensor x = normal({2, 3}, 1, float32).to(Device::cpu()), d = normal({2, 3}, 1).to(Device::cpu());
  const Tensor image = normal({1, 3, 3, 1}, 1, float32).to(Device::cpu());
  const auto scope = autocast();
  CHECK_ERROR(linear(x, x), DeviceError, "[linear]", "autocast()", "CPU", "Device::cuda()");
  CHECK_ERROR(matmul(x, x.transpose()), DeviceError, "[matmul]", "autocast()");
  CHECK_ERROR(conv2d(image, image), DeviceError, "[conv2d]", "autocast()");
  CHECK(add(x, x).dtype() == float32);
  CHECK(linear(d, d).dtype() == float64);
}

TEST_CASE(
    "autocast: a linear layer is that of the rounded operands, its gradients float32 products of them") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu, .seed = 2});
  const nn::Linear layer(params / "fc", 12, 7);
  const Tensor x = normal({9, 12}, 3, float32), g = normal({9, 7}, 4, float32).to(bfloat16);
  const auto rounded = [](const Tensor& t) { return t.detach().to(Device::cpu()).to(bfloat16).to(float64); };
  Tensor y;
  {
    const auto scope = autocast();
    y = layer(x.to(gpu));
  }
  y.backward(g.to(gpu));
  const Tensor w = rounded(layer.weight.clean()), b = rounded(layer.bias.clean()), xr = rounded(x);
  // Half an ulp of numbers below 4.
  CHECK(largest_difference(y.to(Device::cpu()).to(float64), linear(xr, w, b)) <= 0x1p-7 + 1e-6);
  const Tensor dw = matmul(g.to(float64).transpose(), xr), db = sum(g.to(float64), {0});
  CHECK(relative_error(layer.weight.clean().grad().to(Device::cpu()), dw) <= 1e-6);
  CHECK(relative_error(layer.bias.clean().grad().to(Device::cpu()), db) <= 1e-6);
  const Tensor alone = [&] {
    const auto scope = autocast();
    return grad(layer(x.to(gpu)), {layer.weight.clean()}, {.gradient = g.to(gpu)})[0];
  }();
  CHECK(relative_error(alone.to(Device::cpu()), dw) <= 1e-6);
}

TEST_CASE("autocast: a parameter is rounded once a pass, and anew when it has changed") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu});
  const nn::Linear layer(params / "fc", 4, 4, {.bias = false});
  const Tensor x = ones({2, 4}, {float32, gpu});
  const auto casts = [] { return lpf::detail::rounded_leaves().size(); };
  {
    const auto scope = autocast();
    {
      const auto off = no_grad();
      CHECK_FALSE(layer(x).requires_grad());  // the copy stored here has no history
    }
    const Tensor y = layer(x), z = layer(layer(x));
    CHECK(y.requires_grad());
    CHECK(casts() == 1);
    const Tensor rounded = lpf::detail::rounded_leaf(layer.weight.clean());
    CHECK(lpf::detail::rounded_leaf(layer.weight.clean()).is_same(rounded));
    CHECK(rounded.node()->grad_sink() == layer.weight.clean().node()->grad_sink());
    sum(add(y, z)).backward();
    const Tensor once = params.gradient().clone();
    CHECK(norm_of(once) > 0);
    sum(add(layer(x), layer(layer(x)))).backward();  // a second part of the batch
    CHECK(relative_error(params.gradient().to(Device::cpu()), affine(once, 2, 0).to(Device::cpu())) < 1e-6);
    {
      const auto off = no_grad();
      CHECK(layer(x)[0][0].item() != 8);
      params.theta().fill_(2);
      CHECK(layer(x)[0][0].item() == 8);
    }
    {
      const auto inner = autocast(float32);
      CHECK(casts() == 1);
    }
    CHECK(casts() == 1);
  }
  CHECK(casts() == 0);
}

TEST_CASE("autocast: gradients arrive in float32 and are near those of float32, in every estimator") {
  SKIP_WITHOUT_CUDA;
  const auto check_near = [](auto net, int layers, const LowPassFilterOptions* options) {
    using Net = decltype(net);
    // A layer rounds four times (x, w, y and dy), by independent factors within
    // 1 ± 2^-8: their squares add up.
    const double bound = std::sqrt(4.0 * layers) * 0x1p-8;
    Tensor logits;
    const Tensor mixed = gradient<typename Net::type>(bfloat16, options, &logits),
                 single = gradient<typename Net::type>(float32, options);
    CHECK(relative_difference(mixed, single) <= bound);
    CHECK(relative_difference(mixed, single) > 1e-5);  // it was not computed in float32
  };
  check_near(std::type_identity<Dense>(), 2, nullptr);
  check_near(std::type_identity<Smooth>(), 4, nullptr);
  check_near(std::type_identity<Embedded>(), 3, nullptr);
  for (const Estimator e : {Estimator::replicas, Estimator::antithetic, Estimator::per_sample,
                            Estimator::flipout, Estimator::flipout_pairs})
    for (const ReplicaMemory memory : {ReplicaMemory::stored, ReplicaMemory::recomputed})
      for (const bool keep : {false, true}) {
        if (keep && e == Estimator::per_sample) continue;
        INFO("estimator ", static_cast<int>(e), " memory ", static_cast<int>(memory), " keep ", keep);
        const LowPassFilterOptions options{
            .M = 4, .gamma = 0.02, .estimator = e, .keep_replica_gradients = keep, .memory = memory};
        check_near(std::type_identity<Dense>(), 2, &options);
        check_near(std::type_identity<Smooth>(), 4, &options);
        check_near(std::type_identity<Embedded>(), 3, &options);
      }
}

TEST_CASE("autocast: backward is the same inside the scope and after it") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const auto run = [&](bool inside) {
    ParameterStore params({.device = gpu, .seed = 4});
    const Convolutional net(params);
    const Tensor x = normal({8, 8, 8, 1}, 1, float32).to(gpu), y = zeros({8}, {int64, gpu});
    std::optional<Autocast> scope(std::in_place, bfloat16);
    const Tensor loss = cross_entropy(net(x), y);
    if (!inside) scope.reset();
    loss.backward();
    return params.gradient().to(Device::cpu());
  };
  CHECK(same_bits(run(true), run(false)));
}

TEST_CASE("autocast: what backward functions call is not autocast") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor w = normal({3, 3}, 1, float32).to(gpu), x = normal({4, 3}, 2, float32).to(gpu);
  x.requires_grad_();
  const auto run = [&](DType precision) {
    x.zero_grad();
    Tensor y = record("own", matmul(x.detach(), w), {x},
                      [w](const Tensor& g, Need) { return Grads{matmul(g, w.transpose())}; });
    const auto scope = autocast(precision);
    y.backward(ones({4, 3}, {float32, gpu}));
    return x.grad().to(Device::cpu());
  };
  CHECK(same_bits(run(bfloat16), run(float32)));
}

TEST_CASE("autocast: the gradient of what was made in bfloat16 is bfloat16, also where it is a sum") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor x = normal({4, 6}, 1, float32).to(gpu), v = normal({6}, 2, float32).to(gpu),
               leaf = normal({6}, 3, float32).to(bfloat16).to(gpu);
  v.requires_grad_();
  leaf.requires_grad_();
  {
    const auto scope = autocast();
    const Tensor scale = tanh(v.to(bfloat16));  // its gradient is a sum over rows, and of a linear weight
    const Tensor y = linear(mul(x.to(bfloat16), scale), reshape(scale, {1, 6}));
    sum(add(mul(y, y), leaf)).backward();
  }
  CHECK(v.grad().dtype() == float32);
  CHECK(leaf.grad().dtype() == bfloat16);
  CHECK(holds(leaf.grad().to(float32).to(Device::cpu()), {6}, {4, 4, 4, 4, 4, 4}));
}

TEST_CASE("autocast: replicas are θ + s ⊙ ε in float32, rounded once; vectors stay float32") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  for (const Estimator estimator : {Estimator::replicas, Estimator::antithetic, Estimator::flipout})
    for (const ReplicaMemory memory : {ReplicaMemory::stored, ReplicaMemory::recomputed}) {
      const auto replicas = [&](Device device, bool mixed) {
        ParameterStore params({.device = device, .seed = 6});
        const Convolutional net(params);
        LowPassFilter filter({.M = 4, .gamma = 0.05, .estimator = estimator, .memory = memory});
        const auto pass = filter.perturb(params);
        const auto scope = autocast(mixed ? bfloat16 : float32);
        std::vector<Tensor> out;
        for (const nn::Parameter* p : {&net.conv1.weight, &net.conv1.bias, &net.conv2.weight,
                                       &net.norm.weight, &net.norm.bias, &net.fc.weight, &net.fc.bias})
          out.push_back(lpf::detail::remove_replica_dim(p->value().detach()).to(Device::cpu()));
        return out;
      };
      // Norms are sums, whose order may differ on a device: use the device's for both.
      const auto single = replicas(gpu, false), mixed = replicas(gpu, true);
      for (std::size_t i = 0; i < single.size(); ++i) {
        INFO("parameter ", i);
        const bool matrix = single[i].rank() > 2;
        CHECK(mixed[i].dtype() == (matrix ? bfloat16 : float32));
        CHECK(same_bits(mixed[i], matrix ? single[i].to(bfloat16) : single[i]));
      }
    }
}

TEST_CASE("autocast: stored offsets are added in float32, and replicas serve outside the scope too") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu, .seed = 6});
  const Dense net(params);
  const Tensor offsets = normal({2, params.theta().numel()}, 3, float32).to(gpu);
  const filter::Perturbation pass(params, filter::segments_of(params, NoiseLaw::filter_wise, {}),
                                  {.M = 2, .perturbations = offsets});
  const ParameterInfo& info = params.parameters()[net.layers[0].weight.index()];
  Tensor inside;
  {
    const auto scope = autocast();
    inside = net.layers[0].weight.value().detach();
  }
  const Tensor theta = params.tensor(info.index).detach().to(Device::cpu());
  for (std::int64_t r = 0; r < 2; ++r) {
    const Tensor offset =
        slice(slice(offsets.to(Device::cpu()), 0, r, r + 1), 1, info.offset, info.offset + info.numel());
    CHECK(same_bits(lpf::detail::remove_replica_dim(inside).to(Device::cpu())[r],
                    add(theta, reshape(offset, info.shape)).to(bfloat16)));
  }
  const Tensor outside = net.layers[0].weight.value();
  CHECK(outside.dtype() == float32);
  CHECK(same_bits(lpf::detail::remove_replica_dim(outside.detach()).to(Device::cpu()),
                  lpf::detail::remove_replica_dim(inside).to(Device::cpu()).to(float32)));
}

TEST_CASE("autocast: a point is rounded as it is read, biases are not") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu, .seed = 6});
  const Dense net(params);
  const Tensor point = normal({params.theta().numel()}, 3, float32);
  filter::PassOptions at{.M = 1};
  at.point = point.to(gpu);
  filter::Perturbation pass(params, filter::segments_of(params, NoiseLaw::filter_wise, {}), at);
  const auto scope = autocast();
  for (const ParameterInfo& info : params.parameters()) {
    INFO(info.name);
    const Tensor read = lpf::detail::remove_replica_dim(pass.read(info.index).detach()).to(Device::cpu()),
                 wanted = point.alias(info.shape.prepended(1), info.offset);
    const DType dtype = info.shape.rank() > 1 ? bfloat16 : float32;
    CHECK(read.dtype() == dtype);
    CHECK(same_bits(read, wanted.to(dtype)));
  }
}

TEST_CASE("autocast: weights move by less than an ulp of bfloat16") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu, .seed = 2});
  const Dense net(params);
  optim::SGD sgd(params, {.lr = 1e-5});
  const Tensor x = normal({16, 64}, 1, float32).to(gpu), y = zeros({16}, {int64, gpu});
  const Tensor before = params.theta().to(Device::cpu()).clone();
  {
    const auto scope = autocast();
    cross_entropy(net(x), y).backward();
  }
  const Tensor g = params.gradient().to(Device::cpu()).clone();
  sgd.step();
  const Tensor after = params.theta().to(Device::cpu());
  // The product is subtracted with one rounding on a GPU and two here: an ulp of numbers below 1.
  CHECK(largest_difference(after, add(before, affine(g, -1e-5f, 0))) <= 0x1p-24);
  const double moved = norm_of(sub(after, before)),
               rounded = norm_of(sub(after.to(bfloat16).to(float32), before.to(bfloat16).to(float32)));
  CHECK(moved > 0.9e-5 * norm_of(g));
  // The update of bfloat16 weights: nearly all of them do not change.
  const Tensor same = (after.to(bfloat16).to(float32) == before.to(bfloat16).to(float32)).to(float32);
  CHECK(mean(same).item() > 0.99);
  CHECK(std::abs(rounded - moved) > 0.1 * moved);
}

TEST_CASE("autocast: derivatives of derivatives, near those of float32") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const auto second = [&](DType precision) {
    const Tensor w = normal({4, 6}, 1, float32).to(gpu), x = normal({5, 6}, 2, float32).to(gpu);
    w.requires_grad_();
    const auto scope = autocast(precision);
    const Tensor loss = sum(square(tanh(linear(x, w))));
    const Tensor g = grad(loss, {w}, {.create_graph = true})[0];
    CHECK(g.dtype() == float32);
    return grad(sum(square(g)), {w})[0].to(Device::cpu());
  };
  // Two passes back and forth through three operations.
  CHECK(relative_difference(second(bfloat16), second(float32)) <= 4 * 3 * 2 * 0x1p-8);
}

namespace {

struct Trained {
  std::vector<double> losses;
  double error = 0;  // of the test set, in [0, 1]
};

template <class Net>
Trained train(DType precision, std::optional<LowPassFilterOptions> options, int epochs, double lr) {
  static const auto parts = split(digits({.flat = false}), {1000, 500}, 1);
  const TensorDataset &training = parts[0], &test = parts[1];
  const Device gpu = Device::cuda();
  ParameterStore params({.device = gpu, .seed = 3});
  const Net net(params);
  optim::SGD sgd(params, {.lr = lr, .momentum = 0.9});
  std::optional<LowPassFilter> filter;
  if (options) filter.emplace(*options);
  Trained out;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    double loss_sum = 0;
    for (std::int64_t first = 0; first + 50 <= 1000; first += 50) {
      const Tensor x = training.images.narrow(0, first, 50).to(gpu),
                   y = training.labels.narrow(0, first, 50).to(gpu);
      const auto scope = autocast(precision);
      Tensor loss;
      if (filter) {
        const auto perturbed = filter->perturb(params);
        loss = cross_entropy(net(x), y);
        loss.backward();
      } else {
        loss = cross_entropy(net(x), y);
        loss.backward();
      }
      sgd.step();
      loss_sum += loss.item() / 20;
    }
    out.losses.push_back(loss_sum);
  }
  params.eval();
  const auto off = no_grad();
  const auto scope = autocast(precision);
  const Tensor right = (argmax(net(test.images.to(gpu)), 1).to(Device::cpu()) == test.labels).to(float32);
  out.error = 1 - mean(right).item();
  return out;
}

/// Mixed precision follows float32: each epoch's loss differs by at most `drift`, and the final
/// error by at most `images` of 500.
template <class Net>
void check_training(std::optional<LowPassFilterOptions> options, int epochs, double lr, double drift,
                    int images) {
  const Trained single = train<Net>(float32, options, epochs, lr),
                mixed = train<Net>(bfloat16, options, epochs, lr);
  for (std::size_t k = 0; k < single.losses.size(); ++k) {
    INFO("epoch ", k, ": ", single.losses[k], " and ", mixed.losses[k]);
    CHECK(std::abs(mixed.losses[k] - single.losses[k]) <= drift);
  }
  INFO("errors ", single.error, " and ", mixed.error);
  CHECK(std::abs(mixed.error - single.error) <= images / 500.0 + 1e-9);
  CHECK(mixed.error < 0.06);
  CHECK(mixed.losses != single.losses);
}

}  // namespace

TEST_CASE("autocast: training follows float32's") {
  SKIP_WITHOUT_CUDA;
  const double first_loss = std::log(10.0);  // float32 and bfloat16 may differ by some roundings of it
  check_training<Dense>({}, 10, 0.1, first_loss * 0x1p-8, 4);
  check_training<Dense>(LowPassFilterOptions{.M = 5, .gamma = 0.03}, 8, 0.1, first_loss * 0x1p-8, 4);
  // Kinks would soon separate the two for good, as different orders of summation
  // separate runs of Convolutional.
  check_training<Smooth>({}, 12, 0.05, 2 * first_loss * 0x1p-8, 4);
}
