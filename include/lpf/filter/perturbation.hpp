// One perturbed pass: until the end of the scope every parameter reads as M replicas θ_r = θ + s ⊙ ε_r.
#pragma once

#include <algorithm>
#include <exception>
#include <optional>
#include <span>

#include "lpf/backend/capture.hpp"
#include "lpf/filter/law.hpp"
#include "lpf/filter/pre_activation_noise.hpp"
#include "lpf/ops/replicate.hpp"

namespace lpf {

/// How the smoothed gradient is estimated; all are one pass and unbiased.
enum class Estimator {
  replicas,    ///< M draws, slice r of the batch sees θ_r (the definition)
  antithetic,  ///< M/2 draws, each with both signs on two slices: half the random numbers; M must be even
  per_sample  ///< linear layers on [B, in] draw noise on their pre-activations: a fresh ε for every sample in
              ///< law
};

/// Where the perturbed copies of θ are between forward and backward.
enum class ReplicaMemory {
  automatic,  ///< large weights of linear layers: nowhere, as `remade`; all others: kept
  kept,       ///< in memory, M times θ
  remade  ///< nowhere: each parameter's are made where they are used, in forward and again in backward, and
          ///< those of linear layers a tile at a time within the product. The same replicas to the bit; the
          ///< noise is drawn twice
};

namespace filter {

struct PassOptions {
  std::int64_t M = 8;
  backend::Changing gamma = 0;
  Estimator estimator = Estimator::replicas;
  BatchNormPolicy batch_norm = BatchNormPolicy::per_replica;
  bool keep_replica_gradients = false;
  NoiseKey key = {};
  ReplicaMemory memory = ReplicaMemory::automatic;  ///< stored offsets are always kept
  Tensor scale = {};  ///< [rows]: these standard deviations instead of γ times the norms
  Tensor offsets =
      {};  ///< [M, size of θ]: use these offsets instead of noise (SAM's ascent, directions of a landscape)
};

/// Norms of the replicas' gradients ∇L_r(θ_r), each the mean over its own slice, and how much they differ.
/// The differences hold the noise of the weights and that of the samples.
struct GradientStatistics {
  std::vector<double> norm;  ///< ‖∇L_r‖₂
  double mean_norm;          ///< ‖ḡ‖₂ of the estimate
  double variance;  ///< Σ_r ‖∇L_r − ḡ‖² / (M − 1): the trace of their covariance; divide by M for that of ḡ
};

namespace detail {

/// The replicas of one parameter, as the pass drew them.
class ReplicaRecipe final : public Recipe {
 public:
  ReplicaRecipe(const ParameterStore& params, const backend::Segment& segment, const Tensor& scale,
                const NoiseKey& key, std::int64_t M, bool antithetic, DType dtype)
      : params_(params),
        version_(params.version()),
        theta_(params.theta().alias({segment.rows * segment.length}, segment.offset)),
        scale_(scale),
        M_(M),
        dtype_(dtype),
        replicas_{segment, key, theta_.raw(), scale.raw(), antithetic} {
    replicas_.segment.offset = 0;
  }
  void make(void* out) const override {
    check_version();
    const std::int64_t place = 0;
    theta_.backend().perturb(theta_.dtype(), &replicas_.segment, &place, 1, replicas_.key, replicas_.theta,
                             replicas_.scale, M_, replicas_.antithetic, dtype_, out);
  }
  /// Replicas that keep the processor's cores busy, one each.
  static constexpr std::int64_t fewest = 4;

  bool multiply(const backend::Gemm& product, std::int64_t first) const override {
    const auto kernel = theta_.backend().gemm_replicas;
    const backend::Segment& s = replicas_.segment;
    // The input's gradient is a sum over the filters of a draw, made by one thread.
    const bool fits = product.transpose_b ? product.n == s.rows && product.k == s.length
                                          : product.k == s.rows && product.n == s.length && M_ >= fewest;
    if (!kernel || !fits) return false;
    check_version();
    kernel(product, replicas_, first);
    return true;
  }

 private:
  void check_version() const {
    check<StateError>(params_.version() == version_, "backward",
                      "the parameters were updated between forward and backward, and the replicas of this "
                      "pass are remade: update after backward()");
  }

  ParameterStore params_;
  std::uint64_t version_;
  Tensor theta_, scale_;
  std::int64_t M_;
  DType dtype_;  // of the replicas
  backend::Replicas replicas_;
};

}  // namespace detail

/// The scope of a perturbed pass, on this thread: LowPassFilter::perturb() and SmoothOut::perturb() open one.
class Perturbation final : public nn::PerturbedPass {
 public:
  /// `forgotten` becomes true if the pass ends, not by an exception, before any parameter was read.
  LPF_ONCE inline Perturbation(const ParameterStore& params, Rows rows, const PassOptions& options,
                               std::shared_ptr<bool> forgotten)
      : params_(params),
        rows_(std::move(rows)),
        options_(options),
        plan_(std::make_shared<ReplicaPlan>(options.M)),
        version_(params.version()),
        exceptions_(std::uncaught_exceptions()),
        forgotten_(std::move(forgotten)) {
    check_not_open(params);
    check(options.M >= 1, "perturb", "M must be at least 1, got ", options.M);
    check(options.estimator != Estimator::antithetic || options.M % 2 == 0, "perturb",
          "antithetic draws come in pairs: M must be even, got ", options.M);
    if (options_.offsets.defined()) {
      const Shape wanted{options_.M, params_.theta().numel()};
      check<ShapeError>(options_.offsets.shape() == wanted, "perturb", "offsets for M = ", options_.M,
                        " replicas need shape ", wanted, ", got ", options_.offsets.shape());
    } else {
      scale_ = options_.scale.defined() ? options_.scale : scales(params_, rows_, options_.gamma);
      check<ShapeError>(scale_.shape() == Shape{rows_.rows}, "perturb", "scales for ", rows_.rows,
                        " rows are needed, got ", scale_.shape());
    }
    read_.resize(params_.parameters().size());
    nn::detail::active_passes.push_back({params_.id(), this});
  }
  LPF_ONCE inline ~Perturbation() override {
    std::erase_if(nn::detail::active_passes, [this](const auto& active) { return active.pass == this; });
    if (!used_ && std::uncaught_exceptions() <= exceptions_) *forgotten_ = true;
  }
  Perturbation(const Perturbation&) = delete;
  Perturbation& operator=(const Perturbation&) = delete;

  /// StateError if a perturbed pass over these parameters is open on this thread.
  static void check_not_open(const ParameterStore& params) {
    check<StateError>(!nn::detail::pass_over(params.id()), "perturb",
                      "a perturbed pass over these parameters is open on this thread: scopes do not nest; "
                      "let the first end");
  }

  std::int64_t M() const { return options_.M; }
  double gamma() const { return options_.gamma.value; }
  const NoiseKey& key() const { return options_.key; }

  /// Standard deviation of each perturbed row of θ, in the order of the store.
  const Tensor& scale() const { return scale_; }

  /// Mean loss of each replica over its slice, from the losses of the samples [B].
  LPF_ONCE inline std::vector<double> replica_losses(const Tensor& losses) const {
    const auto off = no_grad();
    check<ShapeError>(losses.rank() == 1, "replica_losses", "needs one loss a sample, [B], got ",
                      losses.shape(), ": use Reduction::none, and the mean over other axes");
    const auto begin = plan_->slices("replica_losses", losses.size(0));
    auto sums = lpf::detail::unhide(lpf::detail::slice_sum(losses.detach(), plan_)).to_vector();
    for (std::size_t r = 0; r < sums.size(); ++r) sums[r] /= static_cast<double>(begin[r + 1] - begin[r]);
    return sums;
  }

  /// f() as if there were no perturbation: the loss at θ itself, say. Nothing is recorded, and running
  /// statistics and random counters are left as they were.
  template <class F>
  auto clean(F f) const {
    struct Restore {  // puts everything back, also when f throws
      const Perturbation& scope;
      std::vector<nn::detail::ActivePass> passes = nn::detail::active_passes;
      std::vector<Tensor> buffers;
      std::shared_ptr<std::vector<std::uint64_t>> counters = std::make_shared<std::vector<std::uint64_t>>();
      explicit Restore(const Perturbation& s) : scope(s) {
        for (const auto& b : s.params_.buffers()) buffers.push_back(b.tensor.clone());
        lpf::detail::on_host([params = s.params_, kept = counters] {
          kept->clear();
          for (const auto& c : params.counters()) kept->push_back(*c.value);
        });
        std::erase_if(nn::detail::active_passes, [&s](const auto& active) { return active.pass == &s; });
      }
      ~Restore() {
        const auto off = no_grad();
        nn::detail::active_passes = passes;
        for (std::size_t i = 0; i < buffers.size(); ++i) scope.params_.buffers()[i].tensor.copy_(buffers[i]);
        lpf::detail::on_host([params = scope.params_, kept = counters] {
          for (std::size_t i = 0; i < kept->size(); ++i) *params.counters()[i].value = (*kept)[i];
        });
      }
    } restore(*this);
    const auto off = no_grad();
    return f();
  }

  /// After backward(), in a pass that keeps them: statistics of the replicas' gradients, over the perturbed
  /// parameters. After several, of the last.
  GradientStatistics gradient_statistics() const;

  // --- for layers
  // ---------------------------------------------------------------------------------------------------
  Tensor read(std::size_t parameter) override;
  Tensor pre_activation_noise(const Tensor& x, std::size_t weight, const std::size_t* bias) override;
  BatchNormPolicy batch_norm_policy() const override { return options_.batch_norm; }
  const PlanPtr& plan() const override { return plan_; }

 private:
  const backend::Segment* segment_of(std::size_t parameter) const {
    const std::int64_t s = rows_.segment_of[parameter];
    return s < 0 ? nullptr : &rows_.segments[static_cast<std::size_t>(s)];
  }
  void check_version() const {
    check<StateError>(params_.version() == version_, "perturb",
                      "the parameters were updated inside this perturbed pass: end its scope, and open a new "
                      "one for the next pass");
  }
  /// The replicas of one parameter in a memory of their own, which is filled where it is used.
  LPF_ONCE inline Tensor remade(const backend::Segment& segment, const Shape& shape) const {
    const DType dtype = dtype_of(segment);
    const auto bytes = static_cast<std::size_t>(options_.M * shape.numel()) * size_of(dtype);
    auto recipe = std::make_shared<detail::ReplicaRecipe>(params_, segment, scale_, options_.key, options_.M,
                                                          options_.estimator == Estimator::antithetic, dtype);
    return lpf::detail::on(std::make_shared<Storage>(bytes, params_.device(), std::move(recipe)), shape,
                           dtype);
  }
  /// Under autocast θ_r is rounded to bfloat16 as it is written, but for parameters of one axis: biases, and
  /// batch norm's scale and shift, which stay float32 and whose noise is small beside them.
  DType dtype_of(const backend::Segment& segment) const {
    const bool matrix = params_.parameters()[segment.parameter].shape.rank() > 1;
    return *rounds_ && matrix ? bfloat16 : params_.dtype();
  }
  /// Whether the replicas of a parameter have a place in the buffer.
  bool keeps(const backend::Segment& segment) const {
    if (options_.memory == ReplicaMemory::kept || options_.offsets.defined()) return true;
    if (options_.memory == ReplicaMemory::remade) return false;
    constexpr std::int64_t large = 1 << 16;  // elements, from which a second draw is faster than memory
    return segment.rows * segment.length < large || options_.M < detail::ReplicaRecipe::fewest ||
           params_.parameters()[segment.parameter].shape.rank() != 2 || draws_one_by_one();
  }
  /// Most parameters never need replicas in a pass with noise a sample.
  bool draws_one_by_one() const {
    return options_.estimator == Estimator::per_sample && !options_.offsets.defined();
  }
  /// Gives the kept parameters whose replicas are of this type their places in a buffer, and draws them: one
  /// call for all.
  LPF_ONCE inline Tensor draw_kept(DType dtype) {
    std::vector<backend::Segment> segments;
    std::vector<std::int64_t> places;
    std::int64_t size = 0;
    for (std::size_t i = 0; i < rows_.segments.size(); ++i) {
      const backend::Segment& segment = rows_.segments[i];
      if (!keeps(segment) || dtype_of(segment) != dtype) continue;
      segments.push_back(segment);
      places.push_back(size);
      place_[i] = size;
      const auto align = static_cast<std::int64_t>(64 / size_of(dtype));
      size += (options_.M * segment.rows * segment.length + align - 1) / align * align;
    }
    const Tensor replicas = empty({size}, {dtype, params_.device()});
    if (!draws_one_by_one() && size > 0) draw(segments, places, replicas);
    return replicas;
  }
  /// Draws the replicas of some parameters to their places.
  LPF_ONCE inline void draw(const std::vector<backend::Segment>& segments,
                            const std::vector<std::int64_t>& places, const Tensor& replicas) const {
    if (options_.offsets.defined()) return shift(segments, places, replicas);
    const Tensor theta = params_.theta();
    theta.backend().perturb(theta.dtype(), segments.data(), places.data(), std::ssize(segments), options_.key,
                            theta.raw(), scale_.raw(), options_.M,
                            options_.estimator == Estimator::antithetic, replicas.dtype(), replicas.raw());
  }
  /// θ_r = θ + offset_r, from stored offsets.
  LPF_ONCE inline void shift(const std::vector<backend::Segment>& segments,
                             const std::vector<std::int64_t>& places, const Tensor& replicas) const {
    const Tensor theta = params_.theta();
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const backend::Segment& s = segments[i];
      const std::int64_t n = s.rows * s.length;
      for (std::int64_t r = 0; r < options_.M; ++r) {
        const Tensor offset = options_.offsets.alias({n}, r * theta.numel() + s.offset);
        const Tensor to = replicas.alias({n}, places[i] + r * n);
        const Tensor sum = to.dtype() == theta.dtype() ? to : empty({n}, theta.options());
        theta.backend().binary(backend::Binary::add, lpf::detail::view_of(theta.alias({n}, s.offset)),
                               lpf::detail::view_of(offset), lpf::detail::view_of(sum), 0);
        if (!sum.is_same(to)) theta.backend().assign(lpf::detail::view_of(to), lpf::detail::view_of(sum));
      }
    }
  }

  ParameterStore params_;
  Rows rows_;
  PassOptions options_;
  PlanPtr plan_;
  std::uint64_t version_;
  int exceptions_;
  std::shared_ptr<bool> forgotten_;  // tells the filter that this pass was of no use
  bool used_ = false;                // a parameter was read
  Tensor scale_;                     // [rows]
  std::optional<bool> rounds_;       // to bfloat16; known when a parameter is read
  Tensor replicas_, rounded_;        // those that are kept, of a parameter next to each other; in bfloat16
  std::vector<std::int64_t> place_;  // of each segment, in one of the two
  std::vector<Tensor> read_;         // what each parameter reads as
  std::vector<std::size_t> noised_;  // parameters whose noise went to pre-activations
  std::shared_ptr<std::vector<Tensor>> kept_ =
      std::make_shared<std::vector<Tensor>>();  // gradients [M, shape…] by parameter
};

LPF_ONCE inline Tensor Perturbation::read(std::size_t parameter) {
  used_ = true;
  check_version();
  const Tensor leaf = params_.tensor(parameter);
  const backend::Segment* segment = segment_of(parameter);
  if (!segment) return leaf;
  check<StateError>(std::find(noised_.begin(), noised_.end(), parameter) == noised_.end(), "perturb", "'",
                    params_.parameters()[parameter].name,
                    "' is used again after its pre-activations were given noise of their own: per-sample "
                    "noise is exact for a "
                    "weight used once; use Estimator::replicas");
  if (!rounds_) rounds_ = lpf::detail::is_rounded(leaf) && !leaf.device().is_cpu();
  Tensor& known = read_[parameter];
  if (known.defined() && (known.requires_grad() || !is_grad_enabled()))
    return is_autocast_enabled() ? known : lpf::detail::widened(known);
  Tensor t;
  if (keeps(*segment)) {
    if (place_.empty()) {
      place_.assign(rows_.segments.size(), -1);
      replicas_ = draw_kept(params_.dtype());
      if (*rounds_) rounded_ = draw_kept(bfloat16);
    }
    const std::int64_t place = place_[static_cast<std::size_t>(rows_.segment_of[parameter])];
    const Tensor& memory = dtype_of(*segment) == bfloat16 ? rounded_ : replicas_;
    if (draws_one_by_one() && !known.defined()) draw({*segment}, {place}, memory);
    t = memory.alias(leaf.shape(), place);
  } else {
    Storage::forget_remade();
    t = remade(*segment, leaf.shape());
  }
  t.impl().replicas = plan_;
  t.impl().sum_gradient = !options_.keep_replica_gradients;
  if (options_.keep_replica_gradients) kept_->resize(read_.size());
  known = record("perturb", std::move(t), {leaf},
                 [kept = kept_, parameter, keep = options_.keep_replica_gradients](const Tensor& g, Need) {
                   if (!g.is_replicated()) return Grads{g};
                   if (keep) (*kept)[parameter] = g.detach();
                   return Grads{sum_replicas(g)};  // dL/dθ = Σ_r dL/dθ_r, as θ_r = θ + constant
                 });
  if (known.node()) known.node()->set_gradient_dtype(leaf.dtype());
  if (known.node() && !options_.keep_replica_gradients)  // a gradient that comes summed stays as it is
    static_cast<lpf::detail::FunctionNode&>(*known.node()).set_straight_to(leaf.node()->straight_to());
  return is_autocast_enabled() ? known : lpf::detail::widened(known);
}

LPF_ONCE inline Tensor Perturbation::pre_activation_noise(const Tensor& x, std::size_t weight,
                                                          const std::size_t* bias) {
  if (options_.estimator != Estimator::per_sample) return {};
  const backend::Segment* w = segment_of(weight);
  const backend::Segment* b = bias ? segment_of(*bias) : nullptr;
  if (!w && !b) return {};
  used_ = true;
  check_version();
  const auto use_once = [this](std::size_t parameter) {
    check<StateError>(
        std::find(noised_.begin(), noised_.end(), parameter) == noised_.end() && !read_[parameter].defined(),
        "perturb", "'", params_.parameters()[parameter].name,
        "' is used twice in one pass: per-sample noise is exact for a weight used once; use "
        "Estimator::replicas");
    noised_.push_back(parameter);
  };
  if (w) use_once(weight);
  if (b) use_once(*bias);
  const std::int64_t batch = x.size(0), out = params_.parameters()[weight].shape[0];
  plan_->slices("perturb", batch);
  const auto scale_of = [&](const backend::Segment* row) {
    return row ? narrow(scale_, 0, row->first_scale, row->rows).detach() : Tensor();
  };
  NoiseKey key = options_.key;
  key.replica = 0xFFFFFF;  // apart from the streams of replicas
  key.parameter = static_cast<std::uint32_t>(w ? weight : *bias);
  return detail::pre_activation_noise(x, out, scale_of(w), scale_of(b), key,
                                      nn::PartOfBatch::first_sample() * out);
}

LPF_ONCE inline GradientStatistics Perturbation::gradient_statistics() const {
  check<StateError>(
      options_.keep_replica_gradients, "gradient_statistics",
      "this pass summed its replicas' gradients: set keep_replica_gradients in the filter's options");
  check<StateError>(std::any_of(kept_->begin(), kept_->end(), [](const Tensor& g) { return g.defined(); }),
                    "gradient_statistics", "call it after backward()");
  const auto off = no_grad();
  const auto begin = plan_->cut(plan_->batch());
  const auto M = static_cast<std::size_t>(options_.M);
  GradientStatistics out{std::vector<double>(M, 0), 0, 0};
  for (const Tensor& g : *kept_) {
    if (!g.defined()) continue;
    const Tensor parts = lpf::detail::unhide(g);  // d(mean loss)/dθ_r = (B_r/B)·∇L_r
    const Tensor total = sum(parts, {0});
    const auto dot = [&](const Tensor& a, const Tensor& b) {
      return a.backend().dot(a.dtype(), a.numel(), a.raw(), b.raw());
    };
    out.mean_norm += dot(total, total);
    for (std::size_t r = 0; r < M; ++r) {
      const double weight =
          static_cast<double>(plan_->batch()) / static_cast<double>(begin[r + 1] - begin[r]);
      const Tensor own = affine(parts[static_cast<std::int64_t>(r)], weight, 0), difference = sub(own, total);
      out.norm[r] += dot(own, own);
      out.variance += dot(difference, difference);
    }
  }
  for (double& n : out.norm) n = std::sqrt(n);
  out.mean_norm = std::sqrt(out.mean_norm);
  out.variance /= static_cast<double>(std::max<std::int64_t>(1, options_.M - 1));
  return out;
}

}  // namespace filter
}  // namespace lpf
