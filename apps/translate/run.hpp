// A translation run from settings to results. Its folder has config.json, pieces.model, log.jsonl and log.csv (a line an
// epoch), samples.jsonl (a few sentences as they were translated), report.html, the weights of the best epoch on
// validation (best.safetensors), and a checkpoint, written after each epoch and when the run is stopped. A resumed run is
// the run that was never stopped, to the bit. In a job of several processes each rank evaluates its sentences of every
// batch, with LPF those of its replicas, and translates its share of the validation sentences; rank 0 writes the folder,
// and each rank a line an epoch to rank-R.csv.
#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <lpf/io/output_folder.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/train/checkpoint.hpp>
#include <optional>

#include "data.hpp"
#include "method.hpp"
#include "network.hpp"
#include "page.hpp"
#include "ranks.hpp"

namespace translate {

struct RunOptions {
  std::string out;           ///< the run's folder
  bool resume = false;       ///< go on with the run in `out`, if there is one
  std::string command = "";  ///< for the report
  std::string label = "";    ///< before the progress
  ProgressStyle progress = ProgressStyle::automatic;
  std::function<bool()> stop = {};             ///< called after each update: true saves and returns
  distributed::Communicator* world = nullptr;  ///< the job that this process is a part of; null: one process
};

struct Outcome {
  std::vector<Epoch> history;  ///< of the finished epochs
  std::uint64_t updates = 0;
  bool finished = false;
  TestResult test;  ///< of a finished run, where there are test sentences
};

/// The pieces of a run: those of its folder, of --pieces, or made of the training sentences.
inline text::Pieces pieces_for(const Settings& s, const std::string& saved, const text::Pairs& train) {
  if (std::filesystem::exists(lpf::detail::path_of(saved))) return text::Pieces::load(saved);
  if (!s.pieces.empty()) return text::Pieces::load(s.pieces);
  std::vector<std::string> all = train.source;
  all.insert(all.end(), train.target.begin(), train.target.end());
  return text::Pieces::train(all, {.vocabulary = s.vocabulary});
}

inline text::TokenLoader loader_for(const Settings& s, const text::Pieces& pieces, const text::Pairs& train) {
  text::TokenPairs pairs = text::encode(pieces, train, {.longest = s.longest});
  check(pairs.size() > 0, "translate", "no training pair has 2 to ", s.longest, " pieces in both languages");
  const std::int64_t least = std::max(parallel_options(s).replicas, s.shards);
  return text::TokenLoader(std::move(pairs), {.sentences = s.batch,
                                              .tokens = s.batch_tokens,
                                              .least = std::max<std::int64_t>(1, least),
                                              .seed = s.seed});
}

class Run {
 public:
  Run(const Settings& s, const RunOptions& options)
      : settings_(s),
        options_(options),
        world_(options.world ? *options.world : alone_),
        folder_(leads() ? std::optional<OutputFolder>(std::in_place, options.out, "translate")
                        : std::nullopt),
        begun_(check_folder()),
        sentences_(read_sentences(s)),
        pieces_(pieces_for(s, begun_ ? file("pieces.model") : "", sentences_.train)),
        loader_(loader_for(s, pieces_, sentences_.train)),
        validation_(all_of(pieces_, sentences_.validation)),
        params_({.seed = s.seed}),
        network_(nn::Path(params_), network_options(s, pieces_.size())),
        parts_(agreed_parts(world_, s, sentences_, pieces_, loader_, options.out, begun_)),
        parallel_(world_, params_, parallel_options(s)) {
    const std::int64_t passes = s.optimizer == "entropy-adam" ? s.inner_steps : 1;
    steps_ = std::max<std::int64_t>(1, loader_.batches() / passes);
    total_ = s.epochs * steps_;
    if (s.max_steps > 0) total_ = std::min(total_, s.max_steps);
    method_ = make_method(s, params_, total_);
    checkpoint_.add(params_);
    method_->add_to(checkpoint_);
    checkpoint_.add("loader", loader_);
    checkpoint_.add("epoch", epoch_), checkpoint_.add("best", best_);
    checkpoint_.add("loss sum", loss_sum_), checkpoint_.add("labels", labels_);
    checkpoint_.add("tokens", tokens_), checkpoint_.add("seconds", seconds_);
    checkpoint_.add("lr", last_.lr), checkpoint_.add("gamma", last_.gamma);
  }

  Outcome operator()() {
    open();
    ProgressBar bar(static_cast<std::size_t>(total_),
                    {.label = options_.label.empty() ? "training" : options_.label,
                     .start = static_cast<std::size_t>(params_.updates()),
                     .style = leads() ? options_.progress : ProgressStyle::none});
    bar.update(static_cast<std::size_t>(params_.updates()));
    while (!finished()) {
      if (!train_epoch(bar)) {
        if (leads()) checkpoint_.save(file("checkpoint"));
        return {history_, params_.updates(), false, {}};
      }
      finish_epoch(bar);
    }
    Outcome out{history_, params_.updates(), true, {}};
    if (sentences_.test.size() > 0) out.test = test_result();
    if (!leads()) return out;
    if (picture_.weights.empty()) draw_attention();  // the run was finished before
    write_page(out.test);
    return out;
  }

 private:
  static constexpr std::int64_t samples = 4;  // sentences whose translations are kept

  /// Whether this process writes what the run leaves.
  bool leads() const { return world_.rank() == 0; }
  std::string file(const char* name) const { return options_.out + "/" + name; }

  bool finished() const {
    return static_cast<std::int64_t>(params_.updates()) >= total_ && epoch_ * steps_ >= total_;
  }

  /// Whether the folder has a checkpoint to go on from. Checks what can be before the data are read.
  bool check_folder() const {
    const bool begun = Checkpoint::exists(file("checkpoint"));
    check<StateError>(!begun || options_.resume, "translate", "'", options_.out,
                      "' has a run already: go on with it by --resume, or choose another --out");
    if (begun) {
      const std::string different = differences(read_config(file("config.json")), settings_);
      check(different.empty(), "translate", "the run in '", options_.out, "' has other settings: ", different,
            ". Resume it without them, or choose another --out");
    }
    return begun;
  }

  void open() {
    if (begun_) {
      checkpoint_.load(file("checkpoint"));
      history_ = read_records<Epoch>(file("log.jsonl"));
      samples_ = read_records<Sample>(file("samples.jsonl"));
      check<FormatError>(std::ssize(history_) >= epoch_, "translate", "'", file("log.jsonl"), "' has ",
                         history_.size(), " of the ", epoch_, " epochs that the checkpoint knows");
      history_.resize(static_cast<std::size_t>(epoch_));
      std::erase_if(samples_, [&](const Sample& sample) { return sample.epoch > epoch_; });
      world_.barrier();  // all have read what rank 0 writes from here on
    } else if (!settings_.weights.empty()) {
      load_weights(settings_.weights, params_, {});
    }
    parallel_.synchronise();
    rank_log_.emplace(world_, options_.out, begun_);
    if (!leads()) return;
    if (!begun_) {
      pieces_.save(file("pieces.model"));
      experiment::write_table(file("config.json"), settings_);
      say(concat(sentences_.train.size(), " pairs, of which ", loader_.size(), " have 2 to ",
                 settings_.longest, " pieces; ", pieces_.size(), " pieces; ", loader_.batches(),
                 " batches an epoch; ", params_.numel(), " parameters"));
    }
    if (world_.size() > 1) say(experiment::description_of(world_));
    csv_.emplace(file("log.csv"), MetricLogOptions{.append = begun_, .keep = history_.size()});
    jsonl_.emplace(file("log.jsonl"), MetricLogOptions{.append = begun_, .keep = history_.size()});
    sample_log_.emplace(file("samples.jsonl"), MetricLogOptions{.append = begun_, .keep = samples_.size()});
  }

  void say(const std::string& text) const {
    if (options_.progress != ProgressStyle::none) std::fprintf(stderr, "translate: %s\n", text.c_str());
  }

  /// False if stopped.
  bool train_epoch(ProgressBar& bar) {
    params_.train();
    const auto end = static_cast<std::uint64_t>(std::min(total_, (epoch_ + 1) * steps_));
    while (params_.updates() < end) {
      const double begin = lpf::detail::monotonic_seconds();
      last_.lr = method_->optimizer().lr(), last_.gamma = method_->radius();
      step();
      seconds_ += lpf::detail::monotonic_seconds() - begin;
      bar.set_label(label());
      bar.update(static_cast<std::size_t>(params_.updates()), train_loss());
      if (parallel_.is_parted() ? stop_ : options_.stop && options_.stop()) return false;
    }
    return true;
  }

  std::string label() const {
    const std::int64_t epochs = (total_ + steps_ - 1) / steps_;
    return concat(options_.label, options_.label.empty() ? "" : ", ", "epoch ", epoch_ + 1, "/", epochs,
                  best_ >= 0 ? concat(", BLEU ", format_fixed(best_, 1)) : std::string(), ", ",
                  format_general(speed(), 4), " tokens/s",
                  experiment::of_ranks(world_, communication_ / seconds_, slowest_));
  }

  text::TokenBatch next_batch() {
    text::TokenBatch batch = loader_.next();
    const std::int64_t source =
        std::accumulate(batch.source_lengths.begin(), batch.source_lengths.end(), std::int64_t{0});
    labels_here_ += batch.label_count(), tokens_ += source + batch.label_count();
    return batch;
  }
  void step() {
    if (parallel_.is_parted()) return count(step_in_parts());
    std::int64_t number = -1;
    std::optional<text::TokenBatch> batch;
    count(method_
              ->step([&](std::int64_t k) {
                if (std::exchange(number, k) != k) batch = next_batch();
                return loss_of(*batch);
              })
              .item());
  }
  /// The same in parts of the batch, of which this process evaluates some. Returns the loss of the whole batch.
  double step_in_parts() {
    const double begin = lpf::detail::monotonic_seconds(), waited = world_.seconds();
    const text::TokenBatch batch = next_batch();
    const std::int64_t all = batch.size();
    parallel_.set_batch(all);
    const distributed::Samples own = parts_.of_rank(world_.rank(), world_.size(), all);
    std::vector<experiment::PartStatistics> seen;  // of each part, evaluated once or, by SAM, twice
    method_->step([&](std::int64_t) {
      const auto rows = [&](const Tensor& t) { return parallel_.part(narrow(t, 0, own.first, own.count())); };
      const Tensor source = rows(batch.source), labels = rows(batch.labels());
      // A mean over labels, and parts have the weights of their sentences: the sum over labels times this is to have it.
      const double n = static_cast<double>(source.size(0));
      const double factor = static_cast<double>(all) / (static_cast<double>(batch.label_count()) * n);
      const Tensor total =
          cross_entropy(network_(source, rows(batch.input()), text::TokenBatch::padding(source)), labels,
                        {.reduction = Reduction::sum,
                         .label_smoothing = settings_.label_smoothing,
                         .ignore_index = text::SpecialTokens::pad});
      const Tensor loss = affine(total, factor, 0);
      if (std::ssize(seen) == parallel_.part_index())
        seen.push_back({loss.detach().item() * n / static_cast<double>(all), 0, n});
      return loss;
    });
    const double busy = lpf::detail::monotonic_seconds() - begin - (world_.seconds() - waited);
    const auto found = experiment::gather_step(world_, seen, options_.stop && options_.stop(), busy);
    stop_ = found.stop, slowest_ = found.slowest;
    communication_ += world_.seconds() - waited;
    double loss = 0;
    for (const auto& part : found.parts) loss += part.loss;
    return loss;
  }
  /// The loss of an update.
  void count(double loss) {
    check<NumericError>(std::isfinite(loss), "translate", "the loss is ",
                        std::isnan(loss) ? "NaN" : "infinite", " after ", params_.updates() - 1,
                        " updates: lower --lr (", peak_rate(settings_, total_),
                        "), or bound the gradient with --clip-norm, and start anew in another --out");
    loss_sum_ += loss * static_cast<double>(labels_here_), labels_ += std::exchange(labels_here_, 0);
  }
  Tensor loss_of(const text::TokenBatch& batch) const {
    return cross_entropy(
        network_(batch.source, batch.input(), batch.source_padding()), batch.labels(),
        {.label_smoothing = settings_.label_smoothing, .ignore_index = text::SpecialTokens::pad});
  }

  double train_loss() const { return loss_sum_ / static_cast<double>(labels_); }
  double speed() const { return static_cast<double>(tokens_) / seconds_; }

  void finish_epoch(ProgressBar& bar) {
    Epoch e = last_;
    e.epoch = ++epoch_, e.updates = static_cast<std::int64_t>(params_.updates());
    e.train_loss = train_loss(), e.tokens_per_second = speed(), e.seconds = seconds_;
    if (e.epoch % settings_.evaluate_every == 0 || finished()) evaluate(e);
    history_.push_back(e);
    if (leads()) csv_->write(record_of(e)), jsonl_->write(record_of(e));
    if (e.validation_bleu > best_) {
      best_ = e.validation_bleu;
      if (leads()) save_weights(file("best.safetensors"), params_);
    }
    rank_log_->write(e.epoch, params_.updates(), seconds_, communication_);
    loss_sum_ = seconds_ = communication_ = 0, labels_ = tokens_ = 0;
    if (!leads()) return;
    checkpoint_.save(file("checkpoint"));  // marks the epoch as finished
    if (best_ >= 0) write_page({});
    if (options_.progress != ProgressStyle::none)
      bar.print(concat("epoch ", e.epoch, ": loss ", format_general(e.train_loss),
                       std::isnan(e.validation_bleu)
                           ? std::string()
                           : concat(", validation loss ", format_general(e.validation_loss), ", BLEU ",
                                    format_fixed(e.validation_bleu, 2), ", best ", format_fixed(best_, 2)),
                       ", ", format_general(e.tokens_per_second, 4), " tokens/s"));
  }

  void evaluate(Epoch& e) {
    e.validation_loss = mean_loss(world_, params_, network_, validation_);
    const auto found = translations(world_, params_, network_, pieces_, validation_.source);
    e.validation_bleu = text::corpus_bleu(found, sentences_.validation.target).score;
    if (!leads()) return;
    const std::size_t n = std::min<std::size_t>(samples, found.size());
    for (std::size_t i = 0; i < n; ++i) {
      const Sample sample{e.epoch, sentences_.validation.source[i], sentences_.validation.target[i],
                          found[i]};
      samples_.push_back(sample);
      sample_log_->write(record_of(sample));
    }
    draw_attention();
  }

  /// The best weights on the test sentences, decoded greedily. Rank 0 has written them.
  TestResult test_result() {
    const ParameterStore best({.seed = settings_.seed});
    const models::Seq2SeqTransformer network(nn::Path(best), network_options(settings_, pieces_.size()));
    if (leads()) load_weights(file("best.safetensors"), best, {});
    const distributed::DataParallel of_first(world_, best);  // sends them
    const text::TokenPairs tokens = all_of(pieces_, sentences_.test);
    const auto bleu = text::corpus_bleu(translations(world_, best, network, pieces_, tokens.source),
                                        sentences_.test.target);
    return {bleu.score, mean_loss(world_, best, network, tokens), bleu.to_string()};
  }

  void draw_attention() {
    const EvalMode eval(params_);
    picture_ =
        attention_of(0, models::translate(params_, network_, std::span(validation_.source).first(1))[0]);
  }

  /// Where the network looks while it writes `translation` of validation sentence i.
  AttentionPicture attention_of(std::size_t i, const text::Tokens& translation) const {
    AttentionPicture out;
    if (settings_.decoder_layers == 0) return out;
    const text::TokenBatch batch =
        text::batch_of({{validation_.source[i]}, {translation}}, std::vector<std::int64_t>{0});
    const Tensor weights = mean(network_.attention(batch.source, batch.input()).back(), {1});  // [1, T, S]
    for (const auto t : validation_.source[i]) out.source.push_back(pieces_.piece(t));
    for (const auto t : translation) out.target.push_back(pieces_.piece(t));
    out.source.emplace_back("end"), out.target.emplace_back("end");
    const auto values = weights.to_vector<double>();
    for (std::size_t r = 0; r < out.target.size(); ++r) {
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(r * out.source.size());
      out.weights.emplace_back(begin, begin + std::ssize(out.source));
    }
    return out;
  }

  void write_page(const TestResult& test) const {
    page_of(settings_, history_, samples_, picture_, test, options_.command).write(file("report.html"));
  }

  Settings settings_;
  RunOptions options_;
  distributed::OneProcess alone_;
  distributed::Communicator& world_;
  std::optional<OutputFolder> folder_;  // rank 0's
  bool begun_;                          // there is a checkpoint
  Sentences sentences_;
  text::Pieces pieces_;
  text::TokenLoader loader_;
  text::TokenPairs validation_;
  ParameterStore params_;
  models::Seq2SeqTransformer network_;
  distributed::BatchParts parts_;
  distributed::DataParallel parallel_;
  std::unique_ptr<optim::Method> method_;
  Checkpoint checkpoint_;
  std::int64_t steps_ = 0, total_ = 0;  // updates of an epoch, of the run

  std::int64_t epoch_ = 0;                                  // finished epochs
  double best_ = -1;                                        // highest validation BLEU so far
  double loss_sum_ = 0, seconds_ = 0;                       // of the current epoch
  std::int64_t labels_ = 0, tokens_ = 0, labels_here_ = 0;  // …, and of this update
  bool stop_ = false;                                       // a rank has been told to stop
  int slowest_ = 0;
  double communication_ = 0;  // seconds of the current epoch
  std::optional<experiment::RankLog> rank_log_;
  Epoch last_;
  std::vector<Epoch> history_;
  std::vector<Sample> samples_;
  AttentionPicture picture_;
  std::optional<MetricLog> csv_, jsonl_, sample_log_;
};

/// ValueError for settings that are refused by themselves, by the network or by the method: what is known without data.
inline void check_settings(const Settings& s) {
  validate(s);
  const ParameterStore params({.seed = s.seed});
  const models::Seq2SeqTransformer network(nn::Path(params), network_options(s, 8));
  (void)make_method(s, params, 1000);
}

/// A run that is ready to begin or to go on; nothing of it has been written. Throws ValueError for settings that do not
/// fit, what the readers of files throw, StateError if the folder has another run or another process uses it.
inline std::unique_ptr<Run> prepare(const Settings& settings, const RunOptions& options) {
  check_settings(settings);
  check(!options.out.empty(), "translate", "--out needs the name of a folder");
  return std::make_unique<Run>(settings, options);
}

/// Trains according to the settings. Throws what prepare() throws, NumericError if the loss is no number any more,
/// IOError if results cannot be written.
inline Outcome run(const Settings& settings, const RunOptions& options) {
  return (*prepare(settings, options))();
}

}  // namespace translate
