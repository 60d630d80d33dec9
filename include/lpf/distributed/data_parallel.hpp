// Data-parallel training: each process evaluates its shards of every batch, and the gradients are added. The update
// is that of one process: to rounding, or with `shards` to the bit, for any number of processes that divides them.
//
//   const auto world = distributed::init();
//   distributed::DataParallel parallel(*world, params, {.replicas = 8});
//   DataLoader loader(data, {.batch_size = 128, .share = parallel.share()});
//   for (auto [x, y] : loader) {
//     parallel.set_batch(loader.batch_samples());
//     parallel.run([&, x = x, y = y] {
//       auto scope = filter.perturb(params);         // its replicas keep their numbers, and so their noise
//       auto loss = cross_entropy(net(parallel.part(x)), parallel.part(y));
//       loss.backward();
//       return loss;
//     });
//     optimizer.step();
//   }
//
// SAM and the methods of optim/registry.hpp call run() themselves: sam.step([&] { return loss of the parts; }).
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "lpf/data/loader.hpp"
#include "lpf/distributed/agreement.hpp"
#include "lpf/distributed/batch_parts.hpp"
#include "lpf/distributed/pairwise_sum.hpp"
#include "lpf/ops/arithmetic.hpp"
#include "lpf/ops/shape.hpp"

namespace lpf::distributed {

struct DataParallelOptions {
  /// Shards of a batch whose gradients are computed apart and added pairwise in a fixed order: a power of two that
  /// the number of processes divides. 0: one for each process.
  std::int64_t shards = 0;
  std::int64_t replicas = 1;        ///< M of the perturbed passes, slices of SAM; 1: none
  bool paired = false;              ///< antithetic pairs (is_paired())
  std::uint64_t check_every = 100;  ///< updates between comparisons of θ over the ranks; 0: none
};

/// Computes the gradient of a batch in parts, for one store. The loss must be a mean over samples.
class DataParallel final : public nn::GradientInParts, private nn::PartsOfBatch {
 public:
  /// Takes rank 0's parameters, buffers and counters. `world` must outlive the object.
  /// @throws ValueError as BatchParts; CommunicationError for a rank with another model; DeviceError for parameters on GPUs
  /// that nothing connects (nccl.hpp).
  DataParallel(Communicator& world, ParameterStore params, const DataParallelOptions& options = {})
      : world_(world),
        params_(std::move(params)),
        options_(options),
        parts_(batch_parts(world, options.shards, options.replicas, options.paired)) {
    if (world.size() > 1) world.on(params_.device());  // DeviceError if GPUs are not connected
    check<StateError>(!params_.gradient_parts(), "distributed",
                      "these parameters have a DataParallel already");
    check_same(world_, "distributed", "a model or a seed", structure_of(params_));
    synchronise();
    if (is_parted()) params_.set_gradient_parts(this);
  }
  ~DataParallel() override {
    if (is_parted()) params_.set_gradient_parts(nullptr);
  }
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;

  /// Parameters, buffers, counters and the number of updates of rank 0, for example after it has loaded a checkpoint.
  void synchronise();

  /// The rows of each batch that this process gets, for LoaderOptions::share.
  BatchShare share() const { return share_of(world_, parts_); }
  /// The number of samples of the batches that follow, over all processes (DataLoader::batch_samples()).
  void set_batch(std::int64_t samples) { batch_ = samples; }

  /// The rows, of this process's rows x of the batch, that the running pass is to evaluate.
  Tensor part(const Tensor& x) const {
    if (!is_parted()) return x;
    check<StateError>(running_, "distributed", "part() is for the pass in run(), which is not running");
    const std::int64_t from = parts_.of_rank(world_.rank(), world_.size(), batch_).first;
    return narrow(x, 0, now_.first - from, now_.count());
  }
  /// The number of that part among this process's: 0, 1, …
  std::int64_t part_index() const { return running_ ? index_ : 0; }
  /// Parts of a batch that this process evaluates.
  std::int64_t own_parts() const { return parts_.shards() / world_.size(); }
  bool is_parted() const { return parts_.shards() > 1; }

  /// Runs pass(), which computes the mean loss of part() and adds its gradient, for each part; the gradient is then
  /// that of the batch, added to what was there before. Returns this process's share of the batch's mean loss.
  /// @throws StateError without set_batch(); ShapeError for a batch too small; CommunicationError.
  Tensor run(const std::function<Tensor()>& pass) override {
    if (!is_parted()) return pass();
    check_not_captured("a gradient in parts");
    check<StateError>(
        !running_ && batch_ > 0, "distributed",
        running_ ? "run() is running already" : "set_batch() must give the samples of the batch first");
    compare();
    try {
      running_ = true;
      const Tensor loss = run_parts(pass);
      running_ = false;
      return loss;
    } catch (...) {
      running_ = false;
      pending_.clear();
      throw;
    }
  }

 private:
  /// Rows of a layer's statistics, of this process's parts.
  struct Pending {
    std::function<void(const Tensor&)> update;
    std::int64_t width;
    DType dtype;
    std::vector<double> rows;
  };

  Tensor run_parts(const std::function<Tensor()>& pass);
  void finish_statistics();
  void compare();
  double weight() const { return static_cast<double>(now_.count()) / static_cast<double>(batch_); }
  void scale_gradient(double by) const {
    const Tensor g = params_.gradient();
    g.impl().storage->note_change();
    g.backend().unary(backend::Unary::affine, g.dtype(), g.numel(), g.raw(), g.raw(), by, 0);
  }

  Tensor sum(const Tensor& t) override;
  void gather(const Tensor& rows, std::function<void(const Tensor&)> update) override;

  Communicator& world_;
  ParameterStore params_;
  DataParallelOptions options_;
  BatchParts parts_;
  std::int64_t batch_ = 0;
  bool running_ = false;
  Samples now_;                   // the part that is evaluated
  std::int64_t index_ = 0;        // its number
  std::size_t layer_ = 0;         // calls of gather() in this part
  std::vector<Pending> pending_;  // of all parts so far
  PairwiseSum sum_;               // of this process's shards
  std::uint64_t compared_ = 0;    // updates + 1 at the last comparison
};

inline void DataParallel::synchronise() {
  const auto send = [this](const Tensor& t) {
    t.impl().storage->note_change();
    world_.on(t.device()).broadcast(detail::bytes_of(t), 0);
  };
  if (world_.size() == 1) return;
  send(params_.theta());
  params_.changed();
  for (const auto& b : params_.buffers()) send(b.tensor);
  std::vector<std::uint64_t> numbers{params_.updates()};
  for (const auto& c : params_.counters()) numbers.push_back(*c.value);
  world_.broadcast(std::as_writable_bytes(std::span(numbers)), 0);
  params_.set_updates(numbers[0]);
  for (std::size_t i = 0; i + 1 < numbers.size(); ++i) *params_.counters()[i].value = numbers[i + 1];
}

inline Tensor DataParallel::run_parts(const std::function<Tensor()>& pass) {
  const Tensor g = params_.gradient();
  const bool adds = params_.has_gradient();
  const Tensor before = adds ? g.clone() : Tensor();
  if (adds) scale_gradient(0);
  std::vector<std::uint64_t> counters;
  for (const auto& c : params_.counters()) counters.push_back(*c.value);

  sum_.clear();
  Tensor total;
  for (index_ = 0; index_ < own_parts(); ++index_) {
    now_ = parts_.of(world_.rank() * own_parts() + index_, batch_);
    layer_ = 0;
    for (std::size_t i = 0; i < counters.size(); ++i) *params_.counters()[i].value = counters[i];
    const nn::MicroBatch scope(nn::BatchPart{.first = now_.first,
                                             .samples = now_.count(),
                                             .batch = batch_,
                                             .same_noise = index_ > 0,
                                             .others = this});
    const Tensor loss = pass();
    const auto off = no_grad();
    const Tensor share = affine(loss.detach(), weight(), 0);
    total = total.defined() ? add(total, share) : share;
    scale_gradient(weight());
    if (own_parts() == 1) break;
    sum_.add(g);
    if (index_ + 1 < own_parts()) g.backend().fill(g.raw(), g.dtype(), g.numel(), 0);
  }
  if (own_parts() > 1) detail::copy_to(g, sum_.value());
  // MPI's nonblocking all-reduce may send the whole vector log₂ P times (docs/distributed.md); NCCL's is the faster one.
  if (world_.size() > 1) {
    Communicator& between = world_.on(g.device());
    options_.shards > 0 || g.device().is_cpu() ? all_reduce_pairwise(between, g) : all_reduce(between, g);
  }
  const auto off = no_grad();
  if (adds) g.copy_(add(g, before));
  finish_statistics();
  return total;
}

/// Batch norm's sums over the whole batch. Backward: part p's loss has the weight w_p in the batch's, but its gradient
/// is multiplied by it only at the end, so Σ_q w_q g_q must arrive as that divided by w_p.
inline Tensor DataParallel::sum(const Tensor& t) {
  check<StateError>(
      own_parts() == 1, "batch_norm",
      "statistics of the whole batch need all its parts at once, but a process evaluates ", own_parts(),
      " shards in turn: use as many shards as processes, or BatchNormPolicy::per_replica with M slices");
  const auto reduced = [this](const Tensor& x, double before, double after) {
    const auto off = no_grad();
    const Tensor y = affine(x.detach(), before, 0);
    all_reduce(world_.on(y.device()), y);
    return after == 1 ? y : affine(y, after, 0);
  };
  Tensor out =
      record("sum over parts", reduced(t, 1, 1), {t}, [reduced, w = weight()](const Tensor& g, Need) {
        check<StateError>(!is_grad_enabled(), "batch_norm",
                          "its statistics over several processes are not differentiated twice");
        return Grads{reduced(g, w, 1 / w)};
      });
  out.impl().from_samples = false;  // one row for all samples, wherever they are
  return out;
}

inline void DataParallel::gather(const Tensor& rows, std::function<void(const Tensor&)> update) {
  if (layer_ == pending_.size()) pending_.push_back({std::move(update), rows.size(1), rows.dtype(), {}});
  const std::vector<double> values = rows.to(float64).to_vector<double>();
  Pending& layer = pending_[layer_++];
  layer.rows.insert(layer.rows.end(), values.begin(), values.end());
}

inline void DataParallel::finish_statistics() {
  std::vector<Pending> layers;
  layers.swap(pending_);
  if (layers.empty()) return;
  std::vector<double> own;
  for (const Pending& layer : layers) {
    own.push_back(static_cast<double>(layer.rows.size()));
    own.insert(own.end(), layer.rows.begin(), layer.rows.end());
  }
  const auto all = all_gather(world_, own);
  std::vector<std::size_t> at(all.size(), 0);
  for (const Pending& layer : layers) {
    std::vector<double> rows;
    for (std::size_t p = 0; p < all.size(); ++p) {
      const auto n = static_cast<std::size_t>(all[p].at(at[p]));
      const auto from = all[p].begin() + static_cast<std::ptrdiff_t>(at[p]) + 1;
      rows.insert(rows.end(), from, from + static_cast<std::ptrdiff_t>(n));
      at[p] += n + 1;
    }
    const Tensor together = empty({std::ssize(rows) / layer.width, layer.width}, {float64, Device::cpu()});
    std::copy(rows.begin(), rows.end(), together.data<double>());
    layer.update(together.to(layer.dtype).to(params_.device()));
  }
}

/// Every check_every updates: the same θ, buffers and counters on all ranks.
inline void DataParallel::compare() {
  if (world_.size() == 1 || options_.check_every == 0) return;
  const std::uint64_t updates = params_.updates();
  if (updates % options_.check_every != 0 || compared_ == updates + 1) return;
  compared_ = updates + 1;
  const std::string different = different_ranks(all_gather(world_, state_of(params_)));
  check<CommunicationError>(different.empty(), "distributed", "after ", updates,
                            " updates the parameters of ", different,
                            " are no longer those of the other ranks");
}

}  // namespace lpf::distributed
