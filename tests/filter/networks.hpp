// Small networks of every kind of layer, in float64, and the flat vectors that tests of the filter compare.
#pragma once

#include <functional>
#include <numeric>

#include "lpf/filter/unfused.hpp"
#include "lpf/nn/activation.hpp"
#include "lpf/nn/conv.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/embedding.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/nn/pool.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/ops/math.hpp"
#include "perturbed_loop.hpp"

namespace lpf::test {

/// x [B, 5] → 3 classes, biases included.
struct LinearNet {
  nn::Linear fc1, fc2, fc3;
  explicit LinearNet(const nn::Path& p) : fc1(p / "fc1", 5, 7), fc2(p / "fc2", 7, 7), fc3(p / "fc3", 7, 3) {}
  Tensor operator()(const Tensor& x) const { return fc3(gelu(fc2(tanh(fc1(x))))); }
};

/// Images x [B, 6, 6, 2] → 3 classes: convolutions of all kinds, batch norm, pooling, dropout.
struct ConvNet {
  nn::Conv2d conv1, conv2, conv3;
  nn::BatchNorm bn1, bn2;
  nn::Dropout drop;
  nn::Linear fc;
  explicit ConvNet(const nn::Path& p)
      : conv1(p / "conv1", 2, 4, 3, {.padding = 1}),
        conv2(p / "conv2", 4, 6, 3, {.padding = 2, .dilation = 2, .groups = 2, .bias = false}),
        conv3(p / "conv3", 6, 5, 2, {.stride = 2}),
        bn1(p / "bn1", 4),
        bn2(p / "bn2", 6, {.momentum = std::nullopt}),
        drop(p / "drop", 0.3),
        fc(p / "fc", 5, 3) {}
  Tensor operator()(const Tensor& x) const {
    const Tensor a = max_pool2d(silu(bn1(conv1(x))), 3, {.stride = 1, .padding = 1});  // [B, 6, 6, 4]
    const Tensor b = avg_pool2d(gelu(bn2(conv2(a))), 2, {.stride = 1});                // [B, 5, 5, 6]
    return fc(drop(global_avg_pool2d(tanh(conv3(b)))));
  }
};

/// Tokens [B, 4] of 9 → 3 classes: embedding, layer norm, linear on rank 3, batch norm over tokens, dropout.
struct TokenNet {
  nn::Embedding embed;
  nn::LayerNorm norm;
  nn::Linear fc1, fc2;
  nn::BatchNorm bn;
  nn::Dropout drop;
  explicit TokenNet(const nn::Path& p)
      : embed(p / "embed", 9, 4, {.padding_idx = 0}),
        norm(p / "norm", 4),
        fc1(p / "fc1", 4, 6),
        fc2(p / "fc2", 6, 3),
        bn(p / "bn", 6),
        drop(p / "drop", 0.25) {}
  Tensor operator()(const Tensor& tokens) const {
    return fc2(mean(drop(gelu(bn(fc1(norm(embed(tokens)))))), {1}));
  }
};

/// Tokens [B, 4] of 9 → 9 classes: the last product uses the embedding's weight, and a parameter of
/// the model scales the activations.
struct TiedNet {
  nn::Embedding embed;
  nn::Linear fc;
  nn::Parameter gain;
  explicit TiedNet(const nn::Path& p)
      : embed(p / "embed", 9, 5), fc(p / "fc", 5, 5), gain(p.parameter("gain", {5}, init::normal(1, 0.1))) {}
  Tensor operator()(const Tensor& tokens) const {
    const Tensor h = mean(tanh(fc(embed(tokens))), {1});
    return linear(mul(h, per_sample(gain, h)), embed.weight);
  }
};

enum class Kind { linear, conv, token, tied };
inline const std::vector<Kind> kinds = {Kind::linear, Kind::conv, Kind::token, Kind::tied};
inline std::string name_of(Kind kind) {
  const char* names[] = {"linear", "conv", "token", "tied"};
  return names[static_cast<int>(kind)];
}

/// A network with its own store, and a batch. Two of one kind and batch size are bit-identical.
struct Problem {
  ParameterStore params{{.dtype = float64, .seed = 3}};
  std::function<Tensor(const Tensor&)> net;
  Tensor x, y;

  explicit Problem(Kind kind, std::int64_t batch = 19, std::uint64_t data_seed = 1) {
    std::int64_t classes = 3;
    const auto integers = [&](const Shape& shape, std::int64_t below, std::uint64_t seed) {
      return test::integers(
          shape, [&](std::int64_t i) { return uniform_below_at(NoiseKey{.seed = seed}, i, below); });
    };
    switch (kind) {
      case Kind::linear:
        net = LinearNet(params);
        x = normal({batch, 5}, data_seed);
        break;
      case Kind::conv:
        net = ConvNet(params);
        x = normal({batch, 6, 6, 2}, data_seed);
        break;
      case Kind::token:
        net = TokenNet(params);
        x = integers({batch, 4}, 9, data_seed);
        break;
      case Kind::tied:
        net = TiedNet(params);
        x = integers({batch, 4}, classes = 9, data_seed);
        break;
    }
    y = integers({batch}, classes, data_seed + 1000);
    // scales, shifts and padding rows other than 1 and 0
    const auto off = no_grad();
    for (const auto& info : params.parameters())
      if (info.name.find("bn") == 0 || info.name.find("norm") == 0)
        params.tensor(info.index).copy_(params.tensor(info.index) + 0.2 * normal(info.shape, info.index));
  }

  /// The losses of samples [from, to), [to − from].
  Tensor losses(std::int64_t from, std::int64_t to) const {
    return cross_entropy(net(slice(x, 0, from, to)), slice(y, 0, from, to), {.reduction = Reduction::none});
  }
  Tensor loss(std::int64_t from, std::int64_t to) const { return mean(losses(from, to)); }
  Tensor loss() const { return loss(0, batch()); }
  std::int64_t batch() const { return x.size(0); }
};

/// ‖a − b‖₂ / ‖b‖₂.
inline double distance(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return infinity;
  const auto norm = [](const Tensor& t) {
    return std::sqrt(t.backend().dot(t.dtype(), t.numel(), t.raw(), t.raw()));
  };
  const double difference = norm(sub(a.detach(), b.detach()));
  return difference == 0 ? 0 : difference / norm(b);
}

inline std::vector<Tensor> buffers_of(const ParameterStore& params) {
  std::vector<Tensor> out;
  for (const auto& b : params.buffers()) out.push_back(b.tensor.clone());
  return out;
}
inline std::vector<std::uint64_t> counters_of(const ParameterStore& params) {
  std::vector<std::uint64_t> out;
  for (const auto& c : params.counters()) out.push_back(*c.value);
  return out;
}
inline bool same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](const Tensor& s, const Tensor& t) { return same_bits(s, t); });
}
/// A model and the open passes of this thread, to check later that they are bit-identical.
struct Snapshot {
  const ParameterStore params;
  const Tensor theta = params.theta().clone(), gradient = params.gradient().clone();
  const std::vector<Tensor> buffers = buffers_of(params);
  const std::vector<std::uint64_t> counters = counters_of(params);
  const bool training = params.training(), recording = is_grad_enabled();
  const std::uint64_t version = params.version();

  bool holds() const {
    return same_bits(params.theta(), theta) && same_bits(params.gradient(), gradient) &&
           same_bits(buffers_of(params), buffers) && counters_of(params) == counters &&
           params.training() == training && params.version() == version &&
           nn::detail::active_passes().empty() && is_grad_enabled() == recording;
  }
};
/// Largest relative error of the buffers of one store against another's.
inline double buffer_error(const ParameterStore& a, const ParameterStore& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.buffers().size(); ++i)
    worst = std::max(worst, relative_error(a.buffers()[i].tensor, b.buffers()[i].tensor));
  return worst;
}

/// The bounds of the slices into which M replicas cut a batch: the longer ones first.
inline std::vector<std::int64_t> cut(std::int64_t batch, std::int64_t M) {
  std::vector<std::int64_t> begin{0};
  for (std::int64_t r = 0; r < M; ++r) begin.push_back(begin.back() + batch / M + (r < batch % M ? 1 : 0));
  return begin;
}

/// One slice with its own weights: the expected result of a replica of a perturbed pass.
struct Slice {
  Tensor gradient;              ///< of the slice's mean loss, in θ's order
  double loss;                  ///< its mean loss
  double share;                 ///< of the batch
  std::vector<Tensor> buffers;  ///< after the slice
  std::vector<Tensor> hv;       ///< H v of the slice's mean loss, if v was given
};

/// The definition, which uses only the offsets of the filter: each slice of the batch in its own network, set
/// to θ + offset. Running statistics are passed from slice to slice. `make` builds the network.
template <class Make>
std::vector<Slice> slices_by_hand(Make make, const Tensor& theta, const Tensor& offsets,
                                  const std::vector<Tensor>& v = {}) {
  std::vector<Slice> out;
  const std::int64_t M = offsets.size(0);
  for (std::int64_t r = 0; r < M; ++r) {
    const Problem p = make();
    const auto begin = cut(p.batch(), M);
    const auto from = begin[static_cast<std::size_t>(r)], to = begin[static_cast<std::size_t>(r) + 1];
    {
      const auto off = no_grad();
      p.params.theta().copy_(add(theta, offsets[r]));
      if (r > 0) {
        for (std::size_t i = 0; i < p.params.buffers().size(); ++i)
          p.params.buffers()[i].tensor.copy_(out.back().buffers[i]);
        for (auto& c : p.params.counters()) *c.value = 1;  // slice 0 has started the masks of this batch
      }
    }
    const nn::MicroBatch part(from, to - from);
    const Tensor loss = p.loss(from, to);
    Slice s{{}, loss.item(), static_cast<double>(to - from) / static_cast<double>(p.batch()), {}, {}};
    if (!v.empty()) {
      const auto leaves = p.params.leaves();
      const auto g = grad(loss, leaves, {.create_graph = true});
      Tensor along = zeros({}, loss.options());
      for (std::size_t i = 0; i < g.size(); ++i) along = add(along, sum(mul(g[i], v[i])));
      s.hv = grad(along, leaves, {.retain_graph = true});
    }
    loss.backward();
    s.gradient = p.params.gradient().clone();
    s.buffers = buffers_of(p.params);
    out.push_back(s);
  }
  return out;
}

/// Σ_r share_r · gradient_r.
inline Tensor mean_gradient(const std::vector<Slice>& slices) {
  Tensor out = zeros_like(slices[0].gradient);
  for (const Slice& s : slices) out = add(out, affine(s.gradient, s.share, 0));
  return out;
}
inline double mean_loss(const std::vector<Slice>& slices) {
  return std::accumulate(slices.begin(), slices.end(), 0.0,
                         [](double sum, const Slice& s) { return sum + s.share * s.loss; });
}

inline nn::Parameter parameter(const ParameterStore& params, const char* name, const Shape& shape,
                               const init::Initializer& initial) {
  return (params / "model").parameter(name, shape, initial);
}

}  // namespace lpf::test
