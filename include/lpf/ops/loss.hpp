// Losses, as defined by PyTorch. Classes are the last axis, [B, …, classes], since everything here is
// channels last; in PyTorch they are the second.
#pragma once

#include <limits>
#include <optional>

#include "lpf/ops/activation.hpp"
#include "lpf/ops/index.hpp"
#include "lpf/ops/softmax.hpp"

namespace lpf {

/// The reduction of the losses of a batch: their mean (NaN over none), their sum, or none.
enum class Reduction { mean, sum, none };

struct CrossEntropyOptions {
  Reduction reduction = Reduction::mean;
  double label_smoothing = 0;        ///< a in [0, 1]: the target becomes (1 − a)·target + a/classes
  std::int64_t ignore_index = -100;  ///< rows with this label are excluded from the loss and the mean
  Tensor weight = {};                ///< of each class, [classes], constant; the mean is weighted by it
};

struct NLLOptions {
  Reduction reduction = Reduction::mean;
  std::int64_t ignore_index = -100;  ///< rows with this label are excluded from the loss and the mean
  Tensor weight = {};                ///< of each class, [classes], constant
};
using NllOptions [[deprecated("use NLLOptions")]] = NLLOptions;

struct SmoothL1Options {
  double beta = 1;  ///< |x − t| at which quadratic turns into linear; 0 gives l1_loss
  Reduction reduction = Reduction::mean;
};

struct BCEOptions {
  Reduction reduction = Reduction::mean;
  Tensor pos_weight = {};  ///< factor of the positive term; broadcasts to the input's shape, constant
  Tensor weight = {};      ///< of each element; broadcasts to the input's shape, constant
};
using BceOptions [[deprecated("use BCEOptions")]] = BCEOptions;

namespace detail {

LPF_ONCE Tensor reduced(const Tensor& losses, Reduction reduction) {
  if (reduction == Reduction::none) return losses;
  return reduction == Reduction::sum ? sum(losses) : mean(losses);
}

LPF_ONCE void check_target(const char* operation, const Tensor& x, const Tensor& target) {
  check<ShapeError>(x.shape() == target.shape(), operation, "the input has shape ", x.shape(),
                    ", the target ", target.shape(), ": they must be equal");
  check_floating(operation, x);
  check_same_kind(operation, x, target);
}

LPF_ONCE void check_class_weight(const char* operation, const Tensor& x, const Tensor& weight) {
  if (!weight.defined()) return;
  const std::int64_t classes = x.shape()[x.rank() - 1];
  check<ShapeError>(weight.shape() == Shape{classes}, operation, "the class weights have shape ",
                    weight.shape(), ", the input ", x.shape(), " needs [", classes, "]");
  check_same_kind(operation, x, weight);
}

/// Checks labels [B, …] against x [B, …, classes], and counts those that are not ignored. Labels on a device
/// are checked by its kernels and counted by mean_of(), without synchronisation.
LPF_ONCE std::optional<std::int64_t> check_labels(const char* operation, const Tensor& x,
                                                  const Tensor& target, std::int64_t ignore_index) {
  check_floating(operation, x);
  check<ShapeError>(x.rank() >= 1, operation, "the input is a scalar: its last axis holds the classes");
  const Shape shape = x.shape().slice(0, x.rank() - 1);
  const std::int64_t classes = x.shape()[x.rank() - 1];
  check<DTypeError>(target.dtype() == DType::int64, operation, "labels are ", name_of(target.dtype()),
                    ", need int64: convert with .to(int64)");
  check<ShapeError>(target.shape() == shape, operation, "the input has shape ", x.shape(),
                    " with the classes last, so labels need shape ", shape, ", got ", target.shape());
  check<DeviceError>(target.device() == x.device(), operation, "the input is on ", x.device(),
                     ", the labels on ", target.device(), ": move one with .to(device)");
  if (!target.device().is_cpu()) return {};
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < target.numel(); ++i) {
    const std::int64_t label = target.data<std::int64_t>()[i];
    if (label == ignore_index) continue;
    ++count;
    if (label >= 0 && label < classes) continue;
    Shape at = shape;
    std::int64_t rest = i;
    for (int axis = shape.rank(); axis-- > 0; rest /= shape[axis]) at[axis] = rest % shape[axis];
    fail<IndexError>(operation, "label ", label, " at position ", at, " is outside the ", classes,
                     " classes [0, ", classes, "); ignore_index is ", ignore_index);
  }
  return count;
}

/// A whole number as a tensor of rank 0; full() takes a double, which has 53 bits.
LPF_ONCE Tensor whole_number(std::int64_t n, Device device) {
  const std::int64_t low = n & 0xffffffff, high = (n - low) / (std::int64_t{1} << 32);
  return affine(full({}, static_cast<double>(high), {DType::int64, device}), 0x1p32,
                static_cast<double>(low));
}

/// Whether each label is not ignored.
LPF_ONCE Tensor kept_labels(const Tensor& label, std::int64_t ignore_index) {
  return label != whole_number(ignore_index, label.device());
}

/// The mean of losses over the labels that are not ignored, NaN if there are none.
LPF_ONCE Tensor mean_of(const Tensor& loss, const Tensor& target, std::int64_t ignore_index,
                        std::optional<std::int64_t> count) {
  if (count) return divided(sum(loss), static_cast<double>(*count));
  return div(sum(loss), sum(kept_labels(target, ignore_index).to(loss.dtype())));
}

/// Labels [rows] that are valid as indices: 0 where ignored, and `kept` is false there.
struct KnownLabels {
  Tensor index, kept;
  KnownLabels(const Tensor& label, std::int64_t ignore_index) : kept(kept_labels(label, ignore_index)) {
    index = where(kept, label, zeros_like(label));
  }
};

/// −w[label]·x[row, label] of each row of x [rows, classes], 0 where ignored.
LPF_ONCE Tensor nll_rows(const Tensor& x, const KnownLabels& labels, const Tensor& weight) {
  const std::int64_t rows = x.shape()[0];
  const Tensor chosen = reshape(gather(x, 1, reshape(labels.index, {rows, 1})), {rows});
  const Tensor loss = where(labels.kept, affine(chosen, -1, 0), zeros({}, x.options()));
  return weight.defined() ? mul(loss, index_select(weight, 0, labels.index)) : loss;
}

/// The sum of the weights of the labels' classes.
LPF_ONCE Tensor total_weight(const KnownLabels& labels, const Tensor& weight) {
  return sum(mul(index_select(weight, 0, labels.index), labels.kept.to(weight.dtype())));
}

/// One loss per row of logits x [rows, classes]: one fused sweep forward, one backward.
LPF_ONCE Tensor cross_entropy_rows(const Tensor& x, const Tensor& label, double smoothing,
                                   std::int64_t ignore_index) {
  const std::int64_t rows = x.shape()[0], n = x.shape()[1];
  Tensor loss = empty({rows}, x.options());
  const Tensor normalizer = empty({rows, 2}, x.options());
  x.backend().cross_entropy(x.dtype(), rows, n, smoothing, ignore_index, x.raw(),
                            static_cast<const std::int64_t*>(label.raw()), loss.raw(), normalizer.raw());
  return record("cross_entropy", std::move(loss), {x}, [=](const Tensor& g, Need) {
    if (!is_grad_enabled()) {
      const Tensor dx = empty_like(x);
      x.backend().cross_entropy_backward(x.dtype(), rows, n, smoothing, ignore_index, x.raw(),
                                         static_cast<const std::int64_t*>(label.raw()), normalizer.raw(),
                                         g.raw(), dx.raw());
      return Grads{dx};
    }
    // g·(softmax(x) − q), where q is the smoothed one-hot target
    const KnownLabels labels(label, ignore_index);
    const Tensor kept = reshape(labels.kept, {rows, 1}), zero = zeros({}, x.options());
    const Tensor p = softmax_rows(where(kept, x, zero), false);
    const Tensor one_hot = scatter_add(full({rows, 1}, 1 - smoothing, x.options()), x.shape(), 1,
                                       reshape(labels.index, {rows, 1}));
    const Tensor q = affine(one_hot, 1, smoothing / static_cast<double>(n));
    return Grads{mul(where(kept, reshape(g, {rows, 1}), zero), sub(p, q))};  // g is 1/0 if none are kept
  });
}

/// Cross-entropy against distributions over the classes, with 0·log 0 = 0: a class that a logit of −∞
/// excludes may have probability 0.
LPF_ONCE Tensor soft_cross_entropy(const Tensor& x, const Tensor& target,
                                   const CrossEntropyOptions& options) {
  check_target("cross_entropy", x, target);
  const double a = options.label_smoothing, classes = static_cast<double>(x.shape()[x.rank() - 1]);
  const Tensor log_p = log_softmax(x), q = a > 0 ? affine(target, 1 - a, a / classes) : target;
  const Tensor excluded = logical_and(q == 0.0, log_p == -std::numeric_limits<double>::infinity());
  Tensor terms = mul(q, where(excluded, zeros({}, x.options()), log_p));
  if (options.weight.defined()) terms = mul(terms, options.weight);
  return reduced(affine(sum(terms, {-1}), -1, 0), options.reduction);
}

}  // namespace detail

/// −Σ_k q_k log softmax(x)_k for logits x [B, …, classes]. The target q is given by labels, int64 [B, …], or
/// by probabilities of x's shape and dtype. With class weights w each term is multiplied by w_k. The mean
/// divides by the number of labels that are not ignored (with weights: by the sum of theirs), or by the
/// number of rows for probabilities.
/// @throws IndexError for a label outside its classes; ShapeError, DTypeError if x and target do not fit;
/// ValueError for a label smoothing outside [0, 1].
LPF_ONCE Tensor cross_entropy(const Tensor& x, const Tensor& target,
                              const CrossEntropyOptions& options = {}) {
  if (const auto cast = detail::cast_operands("cross_entropy", x, target))
    return cross_entropy(cast.a, cast.b, options);
  const double a = options.label_smoothing;
  check(a >= 0 && a <= 1, "cross_entropy", "label_smoothing must be in [0, 1], got ", a);
  check<ShapeError>(x.rank() >= 1 && x.shape()[x.rank() - 1] > 0, "cross_entropy", "the input has shape ",
                    x.shape(), ": its last axis holds the classes, at least one");
  detail::check_class_weight("cross_entropy", x, options.weight);
  detail::check_not_batch_mean("cross_entropy", x);
  if (is_floating(target.dtype()) && target.rank() == x.rank())
    return detail::soft_cross_entropy(x, target, options);
  const auto count = detail::check_labels("cross_entropy", x, target, options.ignore_index);
  const std::int64_t rows = target.numel(), classes = x.shape()[x.rank() - 1];
  const Tensor logits = reshape(x, {rows, classes}), label = reshape(target, {rows});
  if (!options.weight.defined()) {
    const Tensor loss = detail::cross_entropy_rows(logits, label, a, options.ignore_index);
    if (options.reduction == Reduction::none) return reshape(loss, target.shape());
    return options.reduction == Reduction::sum ? sum(loss)
                                               : detail::mean_of(loss, label, options.ignore_index, count);
  }
  const detail::KnownLabels labels(label, options.ignore_index);
  // An ignored row may hold anything: its gradient is 0.
  const Tensor known = where(reshape(labels.kept, {rows, 1}), logits, zeros({}, x.options()));
  const Tensor log_p = log_softmax(known), weight = options.weight.detach();
  Tensor loss = detail::nll_rows(log_p, labels, weight);
  if (a > 0) {
    const Tensor all = where(labels.kept, sum(mul(log_p, weight), {1}), zeros({}, x.options()));
    loss = sub(affine(loss, 1 - a, 0), affine(all, a / static_cast<double>(classes), 0));
  }
  if (options.reduction == Reduction::none) return reshape(loss, target.shape());
  return options.reduction == Reduction::sum ? sum(loss)
                                             : div(sum(loss), detail::total_weight(labels, weight));
}

/// −w[t]·x[t] for log-probabilities x [B, …, classes] with labels t, int64 [B, …]; the mean divides by Σ w[t]
/// over labels that are not ignored. With x = log_softmax(z) it equals cross_entropy(z, t).
/// @throws IndexError for a label outside its classes; ShapeError, DTypeError if x and target do not fit.
LPF_ONCE Tensor nll_loss(const Tensor& x, const Tensor& target, const NLLOptions& options = {}) {
  if (const auto cast = detail::cast_operands("nll_loss", x)) return nll_loss(cast.a, target, options);
  const auto count = detail::check_labels("nll_loss", x, target, options.ignore_index);
  detail::check_class_weight("nll_loss", x, options.weight);
  const std::int64_t rows = target.numel(), classes = x.shape()[x.rank() - 1];
  check<ShapeError>(classes > 0, "nll_loss", "the input has shape ", x.shape(), ": there are no classes");
  const detail::KnownLabels labels(reshape(target, {rows}), options.ignore_index);
  const Tensor weight = options.weight.defined() ? options.weight.detach() : Tensor();
  const Tensor loss = detail::nll_rows(reshape(x, {rows, classes}), labels, weight);
  if (options.reduction == Reduction::none) return reshape(loss, target.shape());
  if (options.reduction == Reduction::sum) return sum(loss);
  return weight.defined() ? div(sum(loss), detail::total_weight(labels, weight))
                          : detail::mean_of(loss, target, options.ignore_index, count);
}

/// (x − t)² of two tensors of one shape. @throws ShapeError, DTypeError if they differ.
LPF_ONCE Tensor mse_loss(const Tensor& x, const Tensor& target, Reduction reduction = Reduction::mean) {
  if (const auto cast = detail::cast_operands("mse_loss", x, target))
    return mse_loss(cast.a, cast.b, reduction);
  detail::check_target("mse_loss", x, target);
  return detail::reduced(square(sub(x, target)), reduction);
}

/// |x − t| of two tensors of one shape; the derivative at 0 is 0.
/// @throws ShapeError, DTypeError if they differ.
LPF_ONCE Tensor l1_loss(const Tensor& x, const Tensor& target, Reduction reduction = Reduction::mean) {
  if (const auto cast = detail::cast_operands("l1_loss", x, target))
    return l1_loss(cast.a, cast.b, reduction);
  detail::check_target("l1_loss", x, target);
  return detail::reduced(abs(sub(x, target)), reduction);
}

/// d²/(2β) where |d| < β, |d| − β/2 elsewhere, d = x − t (Girshick 2015; Huber's loss divided by β).
/// @throws ShapeError, DTypeError if x and target differ; ValueError for a negative beta.
LPF_ONCE Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, const SmoothL1Options& options = {}) {
  check(options.beta >= 0, "smooth_l1_loss", "beta must not be negative, got ", options.beta);
  if (const auto cast = detail::cast_operands("smooth_l1_loss", x, target))
    return smooth_l1_loss(cast.a, cast.b, options);
  if (options.beta == 0) return l1_loss(x, target, options.reduction);
  detail::check_target("smooth_l1_loss", x, target);
  const Tensor d = sub(x, target), size = abs(d),
               is_far = size >= options.beta;                    // a NaN is near: so is its slope
  const Tensor near = where(is_far, zeros({}, d.options()), d);  // the slope of ∞², times 0, would be NaN
  return detail::reduced(
      where(is_far, affine(size, 1, -0.5 * options.beta), affine(square(near), 0.5 / options.beta, 0)),
      options.reduction);
}

/// w·(p·t·softplus(−x) + (1 − t)·softplus(x)): binary cross-entropy of sigmoid(x) with targets t in [0, 1] of
/// x's shape, accurate also where the sigmoid is rounded to 0 or 1.
/// @throws ShapeError, DTypeError if they do not fit.
LPF_ONCE Tensor bce_with_logits(const Tensor& x, const Tensor& target, const BCEOptions& options = {}) {
  if (const auto cast = detail::cast_operands("bce_with_logits", x, target))
    return bce_with_logits(cast.a, cast.b, options);
  detail::check_target("bce_with_logits", x, target);
  Tensor positive = mul(target, softplus(affine(x, -1, 0)));
  if (options.pos_weight.defined()) positive = mul(positive, options.pos_weight.detach());
  Tensor loss = add(positive, mul(affine(target, -1, 1), softplus(x)));
  if (options.weight.defined()) loss = mul(loss, options.weight.detach());
  check<ShapeError>(loss.shape() == x.shape(), "bce_with_logits",
                    "the weights must broadcast to the input's shape ", x.shape(), ", not to ", loss.shape());
  return detail::reduced(loss, options.reduction);
}

}  // namespace lpf
