// The loss of a model on data as a function of its weights, L(θ + C v) with v in units of the filters
// (coordinates.hpp), on which every measure is built.
//
// Draws are replicas. A pass evaluates M of them: the batch contains the samples M times, and slice r is
// evaluated at θ_r. Copies of up to 256 MiB are made once for all passes, and the noise of a pass is drawn
// once for all parts of the data.
//
// The model is evaluated in evaluation mode, on all samples with equal weight. Its state is
// restored bit for bit.
#pragma once

#include <functional>

#include "lpf/autograd/engine.hpp"
#include "lpf/backend/float64.hpp"
#include "lpf/filter/perturbation.hpp"
#include "lpf/ops/reduce.hpp"
#include "lpf/sharpness/coordinates.hpp"
#include "lpf/sharpness/ranks.hpp"

namespace lpf::sharpness {

/// Inputs and targets over which the mean loss is measured.
struct Data {
  Tensor x, y;
};

struct LandscapeOptions {
  bool filter_normalize = true;  ///< v in units of each filter's size; else C is the identity
  /// Copies of the weights per pass, M·|θ| numbers. Draws come in groups of this size that share a key, so it
  /// affects the noise of a given key.
  std::int64_t replicas = 8;
  /// Samples per pass, counted over all replicas; 0: as many as have 2¹⁹ numbers, clamped to [64, 2048].
  std::int64_t samples = 0;
  Ranks ranks = {};  ///< processes that share the passes
};

/// Losses of N samples at M copies of the weights.
struct ReplicaLosses {
  std::int64_t M, N;
  std::vector<double> values;  ///< [M, N]

  double at(std::int64_t r, std::int64_t i) const { return values[static_cast<std::size_t>(r * N + i)]; }
  LPF_ONCE double mean(std::int64_t r) const {
    double sum = 0;
    for (std::int64_t i = 0; i < N; ++i) sum += at(r, i);
    return sum / static_cast<double>(N);
  }
};

namespace detail {

/// `t` [N, …] repeated M times along its first axis: every replica reads the whole batch.
LPF_ONCE Tensor repeated(const Tensor& t, std::int64_t M) {
  if (M == 1) return t;
  return reshape(expand(unsqueeze(t, 0), t.shape().prepended(M)), t.shape().with(0, M * t.size(0)));
}

}  // namespace detail

class Landscape : public Coordinates {
 public:
  /// losses(x, y): the losses of the samples, [B].
  using Losses = std::function<Tensor(const Tensor& x, const Tensor& y)>;

  /// @throws ShapeError unless x and y have the same number of samples; ValueError if there are none, for
  /// options out of range, and if nothing is trainable; StateError inside a perturbed pass.
  LPF_ONCE Landscape(const ParameterStore& params, Data data, Losses losses,
                     const LandscapeOptions& options = {})
      : Coordinates(params, options.filter_normalize),
        data_(std::move(data)),
        losses_(std::move(losses)),
        options_(options) {
    check<ShapeError>(data_.x.rank() >= 1 && data_.y.rank() >= 1 && data_.x.size(0) == data_.y.size(0),
                      "sharpness", "x of shape ", data_.x.shape(), " and y of shape ", data_.y.shape(),
                      " need the same number of samples along their first axis");
    check(samples() > 0, "sharpness", "there are no samples to measure on");
    check(options.replicas >= 1 && options.samples >= 0, "sharpness", "replicas must be at least 1, got ",
          options.replicas, ", and samples not negative, got ", options.samples);
    filter::check_not_open(params);
    if (options_.samples == 0)
      options_.samples = std::clamp<std::int64_t>(
          (1 << 19) / std::max<std::int64_t>(1, data_.x.numel() / samples()), 64, 2048);
  }

  const Data& data() const { return data_; }
  const LandscapeOptions& options() const { return options_; }
  const Ranks& ranks() const { return options_.ranks; }
  std::int64_t samples() const { return data_.x.size(0); }  ///< N
  /// Batches of options().samples that the samples are.
  std::int64_t batches() const { return pieces_of(samples(), options_.samples); }

  /// Losses of all samples at θ.
  LPF_ONCE ReplicaLosses losses() const {
    const EvalMode eval(params());
    const auto off = no_grad();
    ReplicaLosses out{1, samples(), {}};
    ranks().in_order(
        batches(),
        [this](std::int64_t b) { return part(b * options_.samples, options_.samples).to_vector(); },
        [&out](std::int64_t, const Ranks::Numbers& values) {
          out.values.insert(out.values.end(), values.begin(), values.end());
        });
    return out;
  }
  /// Losses of all samples at the M copies of a perturbed pass. Ranks share the samples.
  ReplicaLosses losses(const filter::PassOptions& pass) const { return losses(pass, rows(), ranks()); }
  /// The same over these rows, by this process alone.
  ReplicaLosses own_losses(const filter::PassOptions& pass, const filter::Segments& rows) const {
    return losses(pass, rows, Ranks{});
  }

  /// The pass of draws [first, first + count) of noise with this standard deviation of each row, `first` a multiple of
  /// `replicas`; with σ, of N(0, σ²c²).
  LPF_ONCE filter::PassOptions draws(std::uint64_t key, std::int64_t first, std::int64_t count,
                                     const Tensor& deviations) const {
    filter::PassOptions pass{.M = count};
    pass.key = {key, Purpose::measure, static_cast<std::uint64_t>(first), 0, 0};
    pass.scale = deviations;
    return pass;
  }
  filter::PassOptions draws(std::uint64_t key, std::int64_t first, std::int64_t count, double sigma) const {
    return draws(key, first, count, scale(sigma));
  }
  /// Calls f(first, losses) for the passes of draws [first, first + count), in turn. Ranks share the passes.
  template <class F>
  void each_pass(std::uint64_t key, std::int64_t first, std::int64_t count, const Tensor& deviations,
                 const filter::Segments& rows, F f) const {
    const std::int64_t most = options_.replicas;
    const auto length = [&](std::int64_t pass) { return std::min(most, count - pass * most); };
    ranks().in_order(
        pieces_of(count, most),
        [&](std::int64_t pass) {
          return own_losses(draws(key, first + pass * most, length(pass), deviations), rows).values;
        },
        [&](std::int64_t pass, Ranks::Numbers values) {
          f(first + pass * most, ReplicaLosses{length(pass), samples(), std::move(values)});
        });
  }
  template <class F>
  void each_pass(std::uint64_t key, std::int64_t first, std::int64_t count, const Tensor& deviations,
                 F f) const {
    each_pass(key, first, count, deviations, rows(), f);
  }
  template <class F>
  void each_pass(std::uint64_t key, std::int64_t first, std::int64_t count, double sigma, F f) const {
    each_pass(key, first, count, scale(sigma), f);
  }
  /// The pass at θ + C v_r, v [M, size].
  LPF_ONCE filter::PassOptions at(const Tensor& v) const {
    filter::PassOptions pass{.M = v.size(0)};
    pass.perturbations = offset(v);
    return pass;
  }

  /// ∇_v L at θ: C ∇L.
  LPF_ONCE Tensor gradient() const {
    const EvalMode eval(params());
    const Tensor out = zeros_like(units());
    const double share = 1.0 / static_cast<double>(samples());
    add_in_order(
        batches(), [share](std::int64_t) { return share; },
        [this](std::int64_t b, double factor, const Tensor& to) {
          const GradMode on(true);
          const Tensor total = sum(part(b * options_.samples, options_.samples));
          add_parts(grad(total, params().leaves()), factor, to);
          return Ranks::Numbers{};
        },
        out);
    return mul(out, units());
  }
  /// Adds factor(i) times vector i to `out` [size] or [M, size], for i < count in turn. add(i, a, to) adds a times vector i
  /// to `to`, and may return numbers, which beside(i, numbers) gets. Ranks share the vectors.
  LPF_ONCE void add_in_order(
      std::int64_t count, const std::function<double(std::int64_t)>& factor,
      const std::function<Ranks::Numbers(std::int64_t, double, const Tensor&)>& add, const Tensor& out,
      const std::function<void(std::int64_t, const Ranks::Numbers&)>& beside = {}) const {
    if (ranks().size == 1) {
      for (std::int64_t i = 0; i < count; ++i) {
        const Ranks::Numbers found = add(i, factor(i), out);
        if (beside) beside(i, found);
      }
      return;
    }
    ranks().in_order(
        count,
        [&](std::int64_t i) {
          const Tensor x = zeros_like(out);
          const Ranks::Numbers found = add(i, 1, x);
          Ranks::Numbers both = x.to_vector();
          both.insert(both.end(), found.begin(), found.end());
          return both;
        },
        [&](std::int64_t i, const Ranks::Numbers& both) {
          const auto vector = both.begin() + out.numel();
          add_vectors(factor(i),
                      from_vector(Ranks::Numbers(both.begin(), vector), out.shape(), Device::cpu()), out);
          if (beside) beside(i, {vector, both.end()});
        });
  }
  /// Adds to `out` [M, size] the gradients ∇_v at θ + C v_r of `factor` times the summed losses of slice r of
  /// the batch, and returns the losses, [B].
  Tensor add_gradients(const Tensor& v, const Data& batch, double factor, const Tensor& out) const;

  /// Losses of samples [at, at + n), recorded if gradients are enabled.
  Tensor part(std::int64_t at, std::int64_t n) const {
    return losses_of({slice(data_.x, 0, at, at + n), slice(data_.y, 0, at, at + n)});
  }
  /// Samples [at, at + n), repeated M times.
  LPF_ONCE Data copies(std::int64_t at, std::int64_t n, std::int64_t M) const {
    const auto cut = [=](const Tensor& t, std::int64_t times) {
      return detail::repeated(slice(t, 0, at, at + n), times);
    };
    constexpr auto most = static_cast<std::size_t>(256) << 20;
    const std::size_t bytes =
        static_cast<std::size_t>(data_.x.numel() * options_.replicas) * size_of(data_.x.dtype());
    if (bytes > most || M > options_.replicas) return {cut(data_.x, M), cut(data_.y, M)};
    Data& kept = copies_[{at, n}];  // with fewer replicas: the first of them
    if (!kept.x.defined()) kept = {cut(data_.x, options_.replicas), cut(data_.y, options_.replicas)};
    return {slice(kept.x, 0, 0, M * n), slice(kept.y, 0, 0, M * n)};
  }

 private:
  ReplicaLosses losses(const filter::PassOptions& pass, const filter::Segments& rows,
                       const Ranks& ranks) const;

  /// out += a·x, parameter by parameter, as add_parts() adds.
  LPF_ONCE void add_vectors(double a, const Tensor& x, const Tensor& out) const {
    for (std::int64_t first = 0; first < out.numel(); first += size())
      for (const ParameterInfo& info : params().parameters())
        if (info.trainable)
          detail::add_scaled(a, x.alias({info.numel()}, first + info.offset),
                             out.alias({info.numel()}, first + info.offset));
  }
  LPF_ONCE Tensor losses_of(const Data& batch) const {
    Tensor out = losses_(batch.x, batch.y);
    const std::int64_t n = batch.x.size(0);
    check<ShapeError>(out.shape() == Shape{n}, "sharpness", "the losses of ", n, " samples have shape ",
                      out.shape(), ", need [", n, "]: use Reduction::none, and the mean over other axes");
    return out;
  }

  Data data_;
  Losses losses_;
  LandscapeOptions options_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, Data> copies_;
};

LPF_ONCE ReplicaLosses Landscape::losses(const filter::PassOptions& pass, const filter::Segments& rows,
                                         const Ranks& ranks) const {
  const EvalMode eval(params());
  const auto off = no_grad();
  const std::int64_t N = samples(), M = pass.M, most = std::max<std::int64_t>(1, options_.samples / M),
                     parts = pieces_of(N, most), n = pieces_of(N, parts);
  ReplicaLosses out{M, N, std::vector<double>(static_cast<std::size_t>(M * N))};
  for (std::int64_t at = 0; at < N;) {
    // one scope, and so one draw of the noise, for all parts of equal length; the last may be shorter
    const std::int64_t length = std::min(n, N - at);
    const filter::Perturbation scope(params(), rows, pass);
    const std::int64_t equal = (N - at) / length;
    ranks.in_order(
        equal, [&](std::int64_t i) { return losses_of(copies(at + i * length, length, M)).to_vector(); },
        [&](std::int64_t i, const Ranks::Numbers& values) {
          for (std::int64_t r = 0; r < M; ++r)
            std::copy_n(values.begin() + r * length, length, out.values.begin() + r * N + at + i * length);
        });
    at += equal * length;
  }
  return out;
}

LPF_ONCE Tensor Landscape::add_gradients(const Tensor& v, const Data& batch, double factor,
                                         const Tensor& out) const {
  const EvalMode eval(params());
  filter::PassOptions pass = at(v);
  pass.keep_replica_gradients = true;
  filter::Perturbation scope(params(), rows(), pass);
  const GradMode on(true);
  std::vector<const ParameterInfo*> infos;
  std::vector<Tensor> replicas;
  for (const ParameterInfo& info : params().parameters()) {
    if (!info.trainable || info.numel() == 0) continue;
    infos.push_back(&info);
    replicas.push_back(scope.read(info.index));
  }
  const Tensor losses = losses_of(batch);
  const auto gradients = grad(sum(losses), replicas);
  const auto off = no_grad();
  for (std::size_t k = 0; k < infos.size(); ++k) {
    if (!gradients[k].is_replicated()) continue;  // the loss does not use it
    const std::int64_t n = infos[k]->numel();
    const Tensor all = lpf::detail::remove_replica_dim(gradients[k]).to(Device::cpu()).to(float64);
    for (std::int64_t r = 0; r < pass.M; ++r)
      detail::add_scaled(factor, mul(all.alias({n}, r * n), units().alias({n}, infos[k]->offset)),
                         out.alias({n}, r * size() + infos[k]->offset));
  }
  return losses.detach();
}

}  // namespace lpf::sharpness
