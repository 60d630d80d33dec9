// Storage of the replicas of a perturbed pass: one buffer, filled by one call at the first read; or none, the
// replicas being drawn again from their key where they are used (ReplicaMemory).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "lpf/filter/flipout.hpp"
#include "lpf/filter/options.hpp"
#include "lpf/ops/weight_product.hpp"

namespace lpf::filter {

namespace detail {

/// The replicas of one parameter, drawn at each use.
class ReplicaRematerializer final : public Rematerializer {
 public:
  /// `flipout`: the noise of a pass with it, else null.
  ReplicaRematerializer(const Pass& pass, const backend::Segment& segment, DType dtype,
                        const FlipoutNoise* flipout)
      : params_(pass.params),
        version_(pass.params.version()),
        theta_(pass.params.theta().alias({segment.rows * segment.length}, segment.offset)),
        scale_(pass.scale),
        dtype_(dtype),
        replicas_{pass.options.M, segment,      pass.options.key,
                  theta_.raw(),   scale_.raw(), pass.options.estimator == Estimator::antithetic} {
    replicas_.segment.offset = 0;
    if (!flipout) return;
    noise_ = flipout->noise_of(segment);
    signs_ = flipout->signs_of(segment);
    replicas_.noise = noise_.raw();
    replicas_.signs = signs_.raw();
  }
  void make(void* out) const override {
    const backend::Replicas& r = *replicas();
    const std::int64_t place = 0;
    if (r.noise)
      return theta_.backend().flip(theta_.dtype(), &r.segment, &place, &place, 1, r.theta, r.noise, r.signs,
                                   r.count, dtype_, out);
    theta_.backend().perturb(theta_.dtype(), &r.segment, &place, 1, r.key, r.theta, r.scale, r.count,
                             r.antithetic, dtype_, out);
  }
  const backend::Replicas* replicas() const override {
    check<StateError>(
        params_.version() == version_, "backward",
        "the parameters were updated between forward and backward, and the replicas of this pass are "
        "drawn again: update after backward()");
    return &replicas_;
  }

 private:
  ParameterStore params_;
  std::uint64_t version_;
  Tensor theta_, scale_, noise_, signs_;
  DType dtype_;  // of the replicas
  backend::Replicas replicas_;
};

}  // namespace detail

/// θ_r = θ + s ⊙ ε_r for all parameters of a pass.
class ReplicaBuffer {
 public:
  /// `pass` must outlive the buffer.
  LPF_ONCE explicit ReplicaBuffer(const Pass& pass) : pass_(pass), drawn_(pass.params.parameters().size()) {}
  LPF_ONCE ~ReplicaBuffer() {}
  ReplicaBuffer(const ReplicaBuffer&) = delete;
  ReplicaBuffer& operator=(const ReplicaBuffer&) = delete;

  /// The replicas of a parameter, in memory of [M, shape…] with shape [shape…]; drawn now or
  /// at the first use.
  LPF_ONCE Tensor replicas(std::size_t parameter) {
    const Tensor leaf = pass_.params.tensor(parameter);
    const backend::Segment& segment = *pass_.segments.of(parameter);
    if (!rounds_) rounds_ = lpf::detail::autocasts_product(leaf);
    const Tensor& point = pass_.options.point;
    if (point.defined() && dtype_of(segment) == point.dtype())
      return point.alias(leaf.shape(), segment.offset);
    if (!is_stored(segment)) {
      Storage::release_recomputed();
      return recomputed(segment, leaf.shape());
    }
    if (place_.empty()) {
      place_.assign(pass_.segments.segments.size(), -1);
      stored_ = draw_all(pass_.params.dtype());
      if (*rounds_) rounded_ = draw_all(bfloat16);
    }
    const std::int64_t place = place_[static_cast<std::size_t>(pass_.segments.segment_of[parameter])];
    const Tensor& memory = dtype_of(segment) == bfloat16 ? rounded_ : stored_;
    if (draws_one_by_one() && !drawn_[parameter]) draw({segment}, {place}, memory);
    drawn_[parameter] = true;
    return memory.alias(leaf.shape(), place);
  }

 private:
  static constexpr std::int64_t large_matrix =
      1 << 16;  // elements from which a second draw is faster than memory

  /// The dtype of a parameter's replicas. Under autocast θ_r is rounded to bfloat16 as it is written,
  /// except for parameters of one axis: biases and batch norm's scale and shift stay float32, since
  /// their noise is small.
  DType dtype_of(const backend::Segment& segment) const {
    const bool matrix = pass_.params.parameters()[segment.parameter].shape.rank() > 1;
    return *rounds_ && matrix ? bfloat16 : pass_.params.dtype();
  }
  bool is_stored(const backend::Segment& segment) const {
    if (pass_.options.memory == ReplicaMemory::stored || pass_.stored_perturbations()) return true;
    if (pass_.options.memory == ReplicaMemory::recomputed) return false;
    if (is_flipout(pass_.options.estimator)) return !flips_where_used(segment);
    return segment.rows * segment.length < large_matrix ||
           pass_.options.M < lpf::detail::fewest_pending_replicas ||
           pass_.params.parameters()[segment.parameter].shape.rank() != 2 || draws_one_by_one();
  }
  /// Replicas of flipout that an operation makes from noise and signs as it uses them: matrices, unless they are small
  /// and the product does not make them in registers, and where there are many replicas filters too.
  bool flips_where_used(const backend::Segment& segment) const {
    const int rank = pass_.params.parameters()[segment.parameter].shape.rank();
    const std::int64_t M = pass_.options.M, size = segment.rows * segment.length;
    return (rank == 2 &&
            (size >= large_matrix || M > 8 || lpf::detail::flips_in_registers(pass_.params.theta()))) ||
           (rank > 2 && M > 32);
  }
  /// With per-sample noise most parameters need no replicas.
  bool draws_one_by_one() const {
    return pass_.options.estimator == Estimator::per_sample && !pass_.stored_perturbations();
  }

  /// The noise of a pass with flipout, drawn now or before; null with other estimators.
  LPF_ONCE const FlipoutNoise* flipout() {
    if (!is_flipout(pass_.options.estimator) || pass_.stored_perturbations()) return nullptr;
    if (!flipout_) flipout_.emplace(pass_);
    return &*flipout_;
  }
  LPF_ONCE Tensor recomputed(const backend::Segment& segment, const Shape& shape) {
    const DType dtype = dtype_of(segment);
    const auto bytes = static_cast<std::size_t>(pass_.options.M * shape.numel()) * size_of(dtype);
    auto rematerializer = std::make_shared<detail::ReplicaRematerializer>(pass_, segment, dtype, flipout());
    return lpf::detail::on(std::make_shared<Storage>(bytes, pass_.params.device(), std::move(rematerializer)),
                           shape, dtype);
  }

  /// The stored replicas of this dtype of all parameters, drawn by one call.
  LPF_ONCE Tensor draw_all(DType dtype) {
    std::vector<backend::Segment> segments;
    std::vector<std::int64_t> places;
    std::int64_t size = 0;
    for (std::size_t i = 0; i < pass_.segments.segments.size(); ++i) {
      const backend::Segment& segment = pass_.segments.segments[i];
      if (!is_stored(segment) || dtype_of(segment) != dtype) continue;
      segments.push_back(segment);
      places.push_back(size);
      place_[i] = size;
      const auto align = static_cast<std::int64_t>(64 / size_of(dtype));
      size += (pass_.options.M * segment.rows * segment.length + align - 1) / align * align;
    }
    const Tensor replicas = empty({size}, {dtype, pass_.params.device()});
    if (!draws_one_by_one() && size > 0) draw(segments, places, replicas);
    return replicas;
  }
  /// Writes the replicas of some parameters to their places.
  LPF_ONCE void draw(const std::vector<backend::Segment>& segments, const std::vector<std::int64_t>& places,
                     const Tensor& replicas) {
    if (pass_.stored_perturbations()) return add_stored(segments, places, replicas);
    const Tensor theta = pass_.params.theta();
    if (const FlipoutNoise* one = flipout()) return one->write(segments, places, theta, replicas);
    theta.backend().perturb(theta.dtype(), segments.data(), places.data(), std::ssize(segments),
                            pass_.options.key, theta.raw(), pass_.scale.raw(), pass_.options.M,
                            pass_.options.estimator == Estimator::antithetic, replicas.dtype(),
                            replicas.raw());
  }
  /// θ_r = θ + perturbation r.
  LPF_ONCE void add_stored(const std::vector<backend::Segment>& segments,
                           const std::vector<std::int64_t>& places, const Tensor& replicas) const {
    const Tensor theta = pass_.params.theta();
    for (std::size_t i = 0; i < segments.size(); ++i) {
      const backend::Segment& s = segments[i];
      const std::int64_t n = s.rows * s.length;
      if (pass_.options.point.defined()) {
        replicas.alias({n}, places[i]).copy_(pass_.options.point.alias({n}, s.offset));
        continue;
      }
      for (std::int64_t r = 0; r < pass_.options.M; ++r) {
        const Tensor perturbation = pass_.options.perturbations.alias({n}, r * theta.numel() + s.offset);
        const Tensor to = replicas.alias({n}, places[i] + r * n);
        const Tensor sum = to.dtype() == theta.dtype() ? to : empty({n}, theta.options());
        theta.backend().binary(backend::Binary::add, lpf::detail::view_of(theta.alias({n}, s.offset)),
                               lpf::detail::view_of(perturbation), lpf::detail::view_of(sum), 0);
        if (!sum.is_same(to)) theta.backend().assign(lpf::detail::view_of(to), lpf::detail::view_of(sum));
      }
    }
  }

  const Pass& pass_;
  std::optional<FlipoutNoise> flipout_;
  std::optional<bool> rounds_;       // whether matrices are rounded to bfloat16; set at the first read
  Tensor stored_, rounded_;          // stored replicas, contiguous per parameter; those in bfloat16
  std::vector<std::int64_t> place_;  // of each segment, in one of the two
  std::vector<bool> drawn_;          // whether drawn, when drawn one by one
};

/// The noise s ⊙ ε_r of a pass alone, [M, size of θ]; zero where nothing is perturbed.
LPF_ONCE Tensor offsets(const ParameterStore& params, const Segments& segments, const PassOptions& options) {
  const auto off = no_grad();
  const Pass pass = make_pass(params, segments, options);
  const Tensor theta = params.theta(), origin = zeros_like(theta);
  const Tensor drawn = empty({options.M * theta.numel()}, theta.options());
  std::vector<std::int64_t> places;
  for (const auto& s : segments.segments) places.push_back(options.M * s.offset);
  if (is_flipout(options.estimator)) {
    FlipoutNoise(pass).write(segments.segments, places, origin, drawn);
  } else {
    theta.backend().perturb(theta.dtype(), segments.segments.data(), places.data(), std::ssize(places),
                            options.key, origin.raw(), pass.scale.raw(), options.M,
                            options.estimator == Estimator::antithetic, drawn.dtype(), drawn.raw());
  }
  Tensor out = zeros({options.M, theta.numel()}, theta.options());
  for (const auto& s : segments.segments) {
    const std::int64_t n = s.rows * s.length;
    for (std::int64_t r = 0; r < options.M; ++r)
      out.alias({n}, r * theta.numel() + s.offset).copy_(drawn.alias({n}, options.M * s.offset + r * n));
  }
  return out;
}

}  // namespace lpf::filter
