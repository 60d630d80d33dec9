// A training run from settings to results:
//
//   const auto settings = experiment::paper({.dataset = "digits", .optimizer = "lpf-sgd"});
//   const auto outcome = experiment::run(settings, {.out = "runs/x"});
//
// The output folder contains config.json, log.csv and log.jsonl (a line per epoch), TensorBoard's event
// files, report.html, the weights of the best epoch (best.safetensors) and a checkpoint, written after each
// epoch and when the run is stopped. One process at a time has a run (OutputFolder). A resumed run is
// bit-identical to one that was never stopped.
//
// A run resumed with more epochs than it had goes on to those, and its settings then say so. Schedules are
// functions of the update and of the number of all updates, so that from there on it follows the schedule of the
// longer run: with a constant or multistep learning rate, and a constant radius (alpha 1), it is the longer run to
// the bit; with the others its first epochs were those of the shorter one, and the learning rate rises where it
// goes on. The shorter run's last epoch is evaluated in any case.
//
// In a job of several processes (RunOptions::world) each rank evaluates its part of every batch; rank 0 writes the
// folder, which the others must see to resume, and each rank a line an epoch to rank-R.csv in it (RankLog).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lpf/distributed/evaluation.hpp"
#include "lpf/experiment/batch_stream.hpp"
#include "lpf/experiment/data_splits.hpp"
#include "lpf/experiment/history.hpp"
#include "lpf/experiment/ranks.hpp"
#include "lpf/experiment/run_options.hpp"
#include "lpf/experiment/run_report.hpp"
#include "lpf/experiment/trainer.hpp"
#include "lpf/io/output_folder.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/report/progress.hpp"
#include "lpf/report/tensorboard.hpp"
#include "lpf/train/captured_step.hpp"
#include "lpf/train/metrics.hpp"

namespace lpf::experiment {

namespace detail {

class Run {
 public:
  Run(const Settings& s, const RunOptions& options)
      : settings_(s),
        options_(options),
        world_(options.world ? *options.world : alone_),
        folder_(leads() ? std::optional<OutputFolder>(std::in_place, options.out, "train") : std::nullopt),
        begun_(check_folder()),
        splits_(agreed(make_splits(s))),
        loader_(train_loader(s, splits_, distributed::share_of(world_, parts_of(s, world_)))),
        stream_(loader_),
        params_({.seed = s.seed}),
        net_(make_model(s, params_, splits_.input(), splits_.train.classes())),
        parallel_(world_, params_, parallel_options(s)),
        method_(s, params_, loader_.batches()),
        captured_(
            [this](const Tensor& x, const Tensor& y) {
              return step_on({x, y});
            },
            {.enabled = options.graphs && !parallel_.is_parted()}) {
    check_batches(parts_of(s, world_), loader_);
    checkpoint_.add(params_);
    method_.add_to(checkpoint_);
    checkpoint_.add("loader", loader_);
    checkpoint_.add("epoch", epoch_);
    checkpoint_.add("best", best_);
    checkpoint_.add("loss sum", loss_sum_);
    checkpoint_.add("errors", errors_);
    checkpoint_.add("samples", samples_);
    checkpoint_.add("seconds", seconds_);
    checkpoint_.add("lr", last_.lr);
    checkpoint_.add("gamma", last_.gamma);
  }

  Outcome operator()() {
    open();
    const auto total = static_cast<std::size_t>(settings_.epochs * loader_.batches());
    ProgressBar bar(total, {.label = "training",
                            .start = static_cast<std::size_t>(params_.updates()),
                            .style = leads() ? options_.progress : ProgressStyle::none});
    bar.update(static_cast<std::size_t>(params_.updates()));
    while (epoch_ < settings_.epochs) {
      if (!train_epoch(bar)) {
        if (leads()) checkpoint_.save(file("checkpoint"));
        return {history_, params_.updates(), false};
      }
      finish_epoch(bar);
    }
    return {history_, params_.updates(), true};
  }

 private:
  /// The data, which all ranks have, and the same settings.
  DataSplits agreed(DataSplits splits) {
    check_agreement(world_, settings_, splits, options_.out, begun_);
    return splits;
  }
  /// Whether this process writes what the run leaves.
  bool leads() const { return world_.rank() == 0; }
  std::string file(const char* name) const { return options_.out + "/" + name; }

  /// Whether the folder has a checkpoint to go on from. Checks what can be before the data are read.
  bool check_folder() {
    const bool begun = Checkpoint::exists(file("checkpoint"));
    check<StateError>(!begun || options_.resume, "train", "'", options_.out,
                      "' has a run already: go on with it by --resume, or choose another --out");
    if (begun) {
      Settings before = read_config(file("config.json"));
      longer_ = settings_.epochs > before.epochs;
      if (longer_) before.epochs = settings_.epochs;
      const std::string different = differences(before, settings_);
      check(different.empty(), "train", "the run in '", options_.out, "' has other settings: ", different,
            ". Resume it without them, or choose another --out");
    } else {
      // A run killed in its first epoch may have logged it; one killed later has a checkpoint.
      std::error_code ignored;
      check<StateError>(!std::filesystem::exists(lpf::detail::path_of(file("log.jsonl")), ignored) ||
                            read_history(file("log.jsonl")).size() <= 1,
                        "train", "'", options_.out,
                        "' has the log of a run, and no checkpoint to go on from: choose another --out");
    }
    return begun;
  }

  void open() {
    say(splits_.note);
    say(description_of(world_));
    if (begun_) {
      checkpoint_.load(file("checkpoint"));
      history_ = known_history();
      world_.barrier();  // all have read what rank 0 writes from here on
    } else if (!settings_.weights.empty() && leads()) {
      start_from_weights();
    }
    parallel_.synchronise();
    rank_log_.emplace(world_, options_.out, begun_);
    if (!leads()) return;
    if (!begun_ || longer_) write_config(file("config.json"), settings_);
    const MetricLogOptions log{.append = begun_, .keep = static_cast<std::size_t>(epoch_)};
    csv_.emplace(file("log.csv"), log);
    jsonl_.emplace(file("log.jsonl"), log);
    check<FormatError>(csv_->size() == log.keep || !begun_, "train", "'", file("log.csv"), "' has ",
                       csv_->size(), " of the ", epoch_, " epochs that the checkpoint knows");
    board_.emplace(options_.out, params_.updates());
  }

  /// The log's epochs that the checkpoint knows. A run killed between the two has logged one more.
  std::vector<Epoch> known_history() const {
    std::vector<Epoch> out = read_history(file("log.jsonl"));
    const std::string other = ": another process has written to it. Choose another --out";
    for (std::size_t i = 0; i < out.size(); ++i)
      check<FormatError>(out[i].epoch == static_cast<std::int64_t>(i) + 1, "train", "'", file("log.jsonl"),
                         "', line ", i + 1, ": is epoch ", out[i].epoch, ", not ", i + 1, other);
    check<FormatError>(std::ssize(out) >= epoch_, "train", "'", file("log.jsonl"), "' has ", out.size(),
                       " of the ", epoch_, " epochs that the checkpoint knows");
    check<FormatError>(std::ssize(out) <= epoch_ + 1, "train", "'", file("log.jsonl"), "' has ", out.size(),
                       " epochs, and the checkpoint knows ", epoch_, other);
    out.resize(static_cast<std::size_t>(epoch_));
    return out;
  }

  void start_from_weights() {
    const bool partial = settings_.weights_partial;
    const UnmatchedNames left =
        load_weights(settings_.weights, params_,
                     {.strict = !partial, .prefix = settings_.weights_prefix, .skip_mismatched = partial});
    std::vector<std::string> own = left.missing;
    own.insert(own.end(), left.mismatched.begin(), left.mismatched.end());
    if (!own.empty())
      say(concat("not from '", settings_.weights, "', but drawn by the seed: ", lpf::detail::list_of(own)));
  }

  void say(const std::string& text) const {
    if (leads() && !text.empty() && options_.progress != ProgressStyle::none)
      std::fprintf(stderr, "train: %s\n", text.c_str());
  }

  /// False if stopped.
  bool train_epoch(ProgressBar& bar) {
    params_.train();
    const auto end = static_cast<std::uint64_t>((epoch_ + 1) * loader_.batches());
    while (params_.updates() < end) {
      const double begin = lpf::detail::monotonic_seconds();
      last_.lr = method_.lr(), last_.gamma = method_.gamma();
      step();
      seconds_ += lpf::detail::monotonic_seconds() - begin;
      bar.set_label(concat("epoch ", epoch_ + 1, "/", settings_.epochs, ", error ",
                           format_fixed(100 * error(), 1), " %, ", format_general(speed(), 3), " images/s",
                           of_ranks(world_, communication_ / seconds_, slowest_)));
      bar.update(static_cast<std::size_t>(params_.updates()), loss_sum_ / static_cast<double>(samples_));
      if (parallel_.is_parted() ? stop_ : options_.stop && options_.stop()) return false;
    }
    return true;
  }

  /// One update. Statistics are read once it is queued: the step itself never waits for a GPU.
  void step() {
    if (parallel_.is_parted()) return step_in_parts();
    if (method_.takes_one_batch()) {
      const Batch batch = stream_.next();
      count(captured_(batch.x, batch.y), {batch.y.numel()});
      return;
    }
    std::vector<std::int64_t> sizes;
    seen_.clear();
    const auto next = [&] {
      const Batch batch = stream_.next();
      sizes.push_back(batch.y.numel());
      fresh_ = true;
      return batch;
    };
    method_.step(next, [&](const Batch& batch) { return loss(batch); });
    count(seen_, sizes);
  }
  /// The same in parts of the batch, of which this process evaluates some.
  void step_in_parts() {
    const double begin = lpf::detail::monotonic_seconds(), waited = world_.seconds();
    const Batch batch = stream_.next();
    parallel_.set_batch(loader_.batch_samples());
    seen_.clear(), sizes_.clear();
    method_.step([&] { return batch; },
                 [&](const Batch& b) {
                   return loss({parallel_.part(b.x), parallel_.part(b.y)});
                 });
    const double busy = lpf::detail::monotonic_seconds() - begin - (world_.seconds() - waited);
    const StepStatistics all =
        gather_step(world_, part_statistics(seen_, sizes_), options_.stop && options_.stop(), busy);
    for (const PartStatistics& part : all.parts) {
      check_finite(part.loss, "training loss", params_.updates() - 1);
      loss_sum_ += part.loss * part.samples;
      errors_ += static_cast<std::int64_t>(part.errors), samples_ += static_cast<std::int64_t>(part.samples);
    }
    stop_ = all.stop, slowest_ = all.slowest;
    communication_ += world_.seconds() - waited;
  }
  std::vector<Tensor> step_on(const Batch& batch) {
    seen_.clear();
    fresh_ = true;
    method_.step([&] { return batch; }, [&](const Batch& b) { return loss(b); });
    return std::move(seen_);
  }
  /// The loss of a batch; its statistics are recorded once, however often the loss is evaluated.
  Tensor loss(const Batch& batch) {
    const Tensor logits = net_(batch.x);
    Tensor out = cross_entropy(logits, batch.y);
    const auto part = static_cast<std::size_t>(parallel_.part_index());
    if (parallel_.is_parted() ? seen_.size() == 2 * part : std::exchange(fresh_, false)) {
      const auto off = no_grad();
      seen_.push_back(out.detach());
      seen_.push_back(sum((argmax(logits.detach(), -1) != batch.y).to(int64)));
      if (parallel_.is_parted()) sizes_.push_back(static_cast<double>(batch.y.numel()));
    }
    return out;
  }
  /// Accumulates the recorded statistics of batches of these sizes.
  void count(const std::vector<Tensor>& seen, const std::vector<std::int64_t>& sizes) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const double value = seen[2 * i].item();
      check_finite(value, "training loss", params_.updates() - 1);
      loss_sum_ += value * static_cast<double>(sizes[i]);
      errors_ += seen[2 * i + 1].item<std::int64_t>();
      samples_ += sizes[i];
    }
  }
  double error() const { return static_cast<double>(errors_) / static_cast<double>(samples_); }
  double speed() const { return static_cast<double>(samples_) / seconds_; }

  void check_finite(double value, const char* what, std::uint64_t updates) const {
    check<NumericError>(std::isfinite(value), "train", "the ", what, " is ",
                        std::isnan(value) ? "NaN" : "infinite", " after ", updates, " updates, in epoch ",
                        epoch_ + 1, ": lower ", method_.remedy(),
                        ", or bound the gradient with --clip-norm, and start anew in another --out",
                        epoch_ > 0 ? concat(" ('", options_.out, "' keeps what was up to epoch ", epoch_, ")")
                                   : std::string());
  }

  Evaluation evaluated(const TensorDataset& data) {
    if (data.size() == 0) return {Epoch::none, Epoch::none, 0};
    const Evaluation out = distributed::evaluate(world_, params_, net_, test_loader(data, splits_));
    check_finite(out.loss, "loss of the evaluation", params_.updates());
    return out;
  }

  void finish_epoch(ProgressBar& bar) {
    Epoch e = last_;
    e.epoch = epoch_ + 1;
    const bool judged = e.epoch % settings_.evaluate_every == 0 || e.epoch == settings_.epochs;
    const Evaluation none{Epoch::none, Epoch::none, 0};
    const Evaluation validation = judged ? evaluated(splits_.validation) : none;
    const Evaluation test = judged ? evaluated(splits_.test) : none;
    e.updates = static_cast<std::int64_t>(params_.updates());
    e.train_loss = loss_sum_ / static_cast<double>(samples_), e.train_error = 100 * error();
    e.validation_loss = validation.loss, e.validation_error = 100 * validation.error;
    e.test_loss = test.loss, e.test_error = 100 * test.error;
    e.images_per_second = speed(), e.seconds = seconds_;
    if (judged) method_.evaluated(std::isnan(validation.loss) ? e.train_loss : validation.loss);
    history_.push_back(e);
    if (leads()) write(e);
    if (e.selection() < best_) {
      best_ = e.selection();
      if (leads()) save_weights(file("best.safetensors"), params_);
    }
    ++epoch_;
    rank_log_->write(e.epoch, params_.updates(), seconds_, communication_);
    loss_sum_ = seconds_ = communication_ = 0, errors_ = samples_ = 0;
    if (!leads()) return;
    checkpoint_.save(file("checkpoint"));  // marks the epoch as finished
    run_report(settings_, history_, options_.command).write(file("report.html"));
    if (options_.progress != ProgressStyle::none) bar.print(line_of(e));
  }

  std::string line_of(const Epoch& e) const {
    const Epoch& best = best_epoch(history_);
    return concat("epoch ", e.epoch, ": training loss ", format_general(e.train_loss), ", test error ",
                  detail::per_cent(e.test_error),
                  std::isnan(best.validation_error)
                      ? ""
                      : concat(", at the best validation error so far ", detail::per_cent(best.test_error)));
  }

  void write(const Epoch& e) {
    csv_->write(record_of(e));
    jsonl_->write(record_of(e));
    const auto point = [&](const char* tag, double value) {
      if (!std::isnan(value)) board_->scalar(tag, value, static_cast<std::uint64_t>(e.updates));
    };
    point("loss/train", e.train_loss), point("loss/validation", e.validation_loss);
    point("loss/test", e.test_loss), point("error/train", e.train_error);
    point("error/validation", e.validation_error), point("error/test", e.test_error);
    point("schedule/lr", e.lr), point("schedule/gamma", e.gamma);
    point("speed/images_per_second", e.images_per_second);
  }

  Settings settings_;
  RunOptions options_;
  distributed::OneProcess alone_;
  distributed::Communicator& world_;
  std::optional<OutputFolder> folder_;  // rank 0's
  bool longer_ = false;                 // resumed with more epochs than it had
  bool begun_;                          // there is a checkpoint
  DataSplits splits_;
  DataLoader loader_;
  BatchStream stream_;
  ParameterStore params_;
  models::Model net_;
  distributed::DataParallel parallel_;
  Trainer method_;
  CapturedStep<std::function<std::vector<Tensor>(const Tensor&, const Tensor&)>> captured_;
  Checkpoint checkpoint_;

  std::int64_t epoch_ = 0;                                 // finished epochs
  double best_ = std::numeric_limits<double>::infinity();  // lowest selection() so far
  double loss_sum_ = 0, seconds_ = 0;                      // of the current epoch
  std::int64_t errors_ = 0, samples_ = 0;
  bool fresh_ = false;         // a batch was returned whose statistics are not recorded
  std::vector<Tensor> seen_;   // of each batch in this step: its loss and its number of misclassified images
  std::vector<double> sizes_;  // their samples
  bool stop_ = false;          // a rank has been told to stop
  int slowest_ = 0;
  double communication_ = 0;  // seconds of the current epoch
  std::optional<RankLog> rank_log_;
  Epoch last_;
  std::vector<Epoch> history_;
  std::optional<MetricLog> csv_, jsonl_;
  std::optional<TensorBoardWriter> board_;
};

}  // namespace detail

/// Trains according to the settings. Throws SettingsError for incompatible settings, what the readers of data
/// sets and load_weights() throw, NumericError if the loss becomes NaN or infinite (naming the setting to lower),
/// StateError if the folder contains another run or another process uses it, FormatError if its log is not that
/// of its checkpoint, IOError if results cannot be written.
inline Outcome run(const Settings& settings, const RunOptions& options) {
  std::optional<Precision> precision;
  std::optional<detail::Run> run;
  try {
    validate(settings);
    check(!options.out.empty(), "train", "--out needs the name of a folder");
    precision.emplace(settings.precision);
    run.emplace(settings, options);
  } catch (const ValueError& e) { throw SettingsError(e.what()); }
  return (*run)();
}

}  // namespace lpf::experiment
