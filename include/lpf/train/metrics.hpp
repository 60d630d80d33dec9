// Metrics: errors, means over batches, a confusion matrix, and loss and error over a data set.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/index.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/ops/reduce.hpp"

namespace lpf {

namespace detail {

/// A label that is not counted, as cross_entropy's ignore_index by default.
inline constexpr std::int64_t ignored_label = -100;

/// The index of the maximum in each row of logits [B, …, classes], on the host; checks labels int64 [B, …].
inline std::vector<std::int64_t> predictions(const char* operation, const Tensor& logits,
                                             const Tensor& labels) {
  const auto off = no_grad();
  const Tensor x = logits.detach();
  check<ShapeError>(x.rank() >= 1 && x.size(-1) > 0, operation, "logits need shape [B, classes], got ",
                    x.shape());
  check_labels(operation, x, labels, ignored_label);
  if (labels.numel() == 0) return {};
  return x.argmax(-1).to_vector<std::int64_t>();
}

}  // namespace detail

/// Number of rows of logits [B, …, classes] whose maximum (the first of several) is not at the label, int64
/// [B, …]. Rows with label -100, which cross_entropy ignores, are not counted. Throws ShapeError, DTypeError,
/// and IndexError for any other label that is not a class.
inline std::int64_t count_errors(const Tensor& logits, const Tensor& labels) {
  const auto predicted = detail::predictions("count_errors", logits, labels);
  const auto label = labels.to_vector<std::int64_t>();
  std::int64_t errors = 0;
  for (std::size_t i = 0; i < label.size(); ++i)
    errors += label[i] != detail::ignored_label && predicted[i] != label[i];
  return errors;
}
/// Number of labels that are not -100.
inline std::int64_t count_labels(const Tensor& labels) {
  std::int64_t count = 0;
  for (const std::int64_t label : labels.to_vector<std::int64_t>()) count += label != detail::ignored_label;
  return count;
}
/// The fraction of correct rows among those that count, in [0, 1]; NaN if there are none.
inline double accuracy(const Tensor& logits, const Tensor& labels) {
  const std::int64_t errors = count_errors(logits, labels);
  return 1 - static_cast<double>(errors) / static_cast<double>(count_labels(labels));
}

/// Σ wx / Σ w of the values added so far. The mean over a data set of the means of its batches
/// has the batch sizes as weights.
class RunningMean {
 public:
  /// ValueError unless the weight is finite and not negative.
  void add(double value, double weight = 1) {
    check(weight >= 0 && std::isfinite(weight), "RunningMean",
          "a weight must be finite and not negative, got ", weight);
    if (weight == 0) return;
    weight_ += weight;
    sum_ += weight * value;
  }
  /// NaN before the first value.
  double value() const { return weight_ > 0 ? sum_ / weight_ : std::numeric_limits<double>::quiet_NaN(); }
  double weight() const { return weight_; }
  void reset() { *this = {}; }

 private:
  double sum_ = 0, weight_ = 0;
};

/// Counts of predicted classes for each true class.
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(std::int64_t classes) : classes_(classes) {
    check(classes > 0, "ConfusionMatrix", "needs at least one class, got ", classes);
    counts_.resize(static_cast<std::size_t>(classes * classes));
  }

  /// Counts logits [B, …, classes] against labels int64 [B, …], without labels -100; throws as count_errors().
  void add(const Tensor& logits, const Tensor& labels) {
    check<ShapeError>(logits.rank() >= 1 && logits.size(-1) == classes_, "ConfusionMatrix",
                      "logits of shape ", logits.shape(), " are not over ", classes_, " classes");
    const auto predicted = detail::predictions("ConfusionMatrix", logits, labels);
    const auto label = labels.to_vector<std::int64_t>();
    for (std::size_t i = 0; i < label.size(); ++i)
      if (label[i] != detail::ignored_label) ++counts_[index(label[i], predicted[i])];
  }

  std::int64_t classes() const { return classes_; }
  /// Number of samples of class `label` predicted as `predicted`.
  std::int64_t at(std::int64_t label, std::int64_t predicted) const {
    for (const std::int64_t c : {label, predicted})
      check<IndexError>(c >= 0 && c < classes_, "ConfusionMatrix", "there is no class ", c, " among ",
                        classes_);
    return counts_[index(label, predicted)];
  }
  std::int64_t total() const {
    std::int64_t n = 0;
    for (const auto c : counts_) n += c;
    return n;
  }
  /// The fraction on the diagonal; NaN if there are no samples.
  double accuracy() const {
    std::int64_t right = 0;
    for (std::int64_t k = 0; k < classes_; ++k) right += at(k, k);
    return static_cast<double>(right) / static_cast<double>(total());
  }
  /// The fraction of the samples of a class that are predicted as that class; NaN if there are none.
  double recall(std::int64_t label) const {
    std::int64_t n = 0;
    for (std::int64_t k = 0; k < classes_; ++k) n += at(label, k);
    return static_cast<double>(at(label, label)) / static_cast<double>(n);
  }
  /// The fraction of the samples predicted as a class that are of that class; NaN if there are none.
  double precision(std::int64_t predicted) const {
    std::int64_t n = 0;
    for (std::int64_t k = 0; k < classes_; ++k) n += at(k, predicted);
    return static_cast<double>(at(predicted, predicted)) / static_cast<double>(n);
  }

 private:
  std::size_t index(std::int64_t label, std::int64_t predicted) const {
    return static_cast<std::size_t>(label * classes_ + predicted);
  }
  std::int64_t classes_;
  std::vector<std::int64_t> counts_;
};

struct Evaluation {
  double loss = 0;           ///< mean over the samples
  double error = 0;          ///< fraction of misclassified samples; NaN if targets are not labels
  std::int64_t samples = 0;  ///< labels, if a sample has several, without those of -100
};

/// The default loss of evaluate().
inline constexpr auto cross_entropy_loss = [](const Tensor& output, const Tensor& target) {
  return cross_entropy(output, target);
};

/// Loss and error of net over batches [x, y] of a DataLoader: in evaluation mode, without
/// recording. loss(net(x), y) is the mean over a batch, without labels -100. Throws StateError inside a
/// perturbed pass, which would perturb it.
template <class Net, class Batches, class Loss = decltype(cross_entropy_loss)>
requires(!std::same_as<std::remove_cvref_t<Batches>, Tensor>) Evaluation
    evaluate(const ParameterStore& params, Net&& net, Batches&& batches, Loss loss = cross_entropy_loss) {
  check<StateError>(
      !nn::detail::pass_over(params.id()), "evaluate",
      "a perturbed pass over these parameters is open: end its scope first, or call it in scope.clean(…)");
  const EvalMode mode(params);
  const auto off = no_grad();
  RunningMean mean;
  std::int64_t errors = 0, samples = 0;
  bool labelled = true;
  for (const auto& [x, y] : batches) {
    const Tensor output = net(x);
    const bool labels = !is_floating(y.dtype());
    const std::int64_t n = labels ? count_labels(y) : y.size(0);
    mean.add(loss(output, y).item(), static_cast<double>(n));
    labelled = labelled && labels;
    if (labels) errors += count_errors(output, y);
    samples += n;
  }
  const double error = labelled ? static_cast<double>(errors) / static_cast<double>(samples)
                                : std::numeric_limits<double>::quiet_NaN();
  return {mean.value(), error, samples};
}

/// The same over tensors x [N, …] and y [N, …], `batch_size` samples at a time, which only bounds the memory.
template <class Net, class Loss = decltype(cross_entropy_loss)>
Evaluation evaluate(const ParameterStore& params, Net&& net, const Tensor& x, const Tensor& y,
                    std::int64_t batch_size = 256, Loss loss = cross_entropy_loss) {
  check(batch_size > 0, "evaluate", "batch_size must be positive, got ", batch_size);
  check<ShapeError>(x.rank() >= 1 && y.rank() >= 1 && x.size(0) == y.size(0), "evaluate", "x of shape ",
                    x.shape(), " and y of shape ", y.shape(),
                    " need the same number of samples along their first axis");
  std::vector<std::pair<Tensor, Tensor>> batches;
  for (std::int64_t i = 0; i < x.size(0); i += batch_size) {
    const std::int64_t n = std::min(batch_size, x.size(0) - i);
    batches.emplace_back(narrow(x, 0, i, n), narrow(y, 0, i, n));
  }
  return evaluate(params, std::forward<Net>(net), batches, std::move(loss));
}

/// The value of a loss; NumericError with advice if it is NaN or infinite: for use before
/// backward() in a training loop.
inline double finite_loss(const Tensor& loss, const ParameterStore& params) {
  const double value = loss.item();
  if (std::isfinite(value)) return value;
  const Tensor theta = params.theta();
  const bool sound =
      std::isfinite(theta.backend().dot(theta.dtype(), theta.numel(), theta.raw(), theta.raw()));
  fail<NumericError>(
      "train", "the loss is ", value, " after ", params.updates(), " updates, and the parameters ",
      sound ? "are finite: this batch overflows (is its input finite?), or a perturbation went too far"
            : "hold NaN or infinity already: an update before this one was too large",
      ". Lower the learning rate, or the filter's gamma, or bound the steps with clip_grad_norm(); "
      "AnomalyMode "
      "names the operation that made it");
}

}  // namespace lpf
