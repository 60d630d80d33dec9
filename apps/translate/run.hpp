// A translation run from settings to results. Its folder has config.json, pieces.model, log.jsonl and log.csv (a line an
// epoch), samples.jsonl (a few sentences as they were translated), report.html, the weights of the best epoch on
// validation (best.safetensors), and a checkpoint, written after each epoch and when the run is stopped. A resumed run is
// the run that was never stopped, to the bit.
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

namespace translate {

struct RunOptions {
  std::string out;           ///< the run's folder
  bool resume = false;       ///< go on with the run in `out`, if there is one
  std::string command = "";  ///< for the report
  std::string label = "";    ///< before the progress
  ProgressStyle progress = ProgressStyle::automatic;
  std::function<bool()> stop = {};  ///< called after each update: true saves and returns
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
  const bool slices = s.optimizer.starts_with("lpf-");
  return text::TokenLoader(
      std::move(pairs),
      {.sentences = s.batch, .tokens = s.batch_tokens, .least = slices ? s.M : 1, .seed = s.seed});
}

class Run {
 public:
  Run(const Settings& s, const RunOptions& options)
      : settings_(s),
        options_(options),
        folder_(options.out, "translate"),
        begun_(check_folder()),
        sentences_(read_sentences(s)),
        pieces_(pieces_for(s, begun_ ? file("pieces.model") : "", sentences_.train)),
        loader_(loader_for(s, pieces_, sentences_.train)),
        validation_(all_of(pieces_, sentences_.validation)),
        params_({.seed = s.seed}),
        network_(nn::Path(params_), network_options(s, pieces_.size())) {
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
                     .style = options_.progress});
    bar.update(static_cast<std::size_t>(params_.updates()));
    while (!finished()) {
      if (!train_epoch(bar)) {
        checkpoint_.save(file("checkpoint"));
        return {history_, params_.updates(), false, {}};
      }
      finish_epoch(bar);
    }
    Outcome out{history_, params_.updates(), true, {}};
    if (sentences_.test.size() > 0) {
      const auto [bleu, loss] = Model(options_.out).test(sentences_.test);
      out.test = {bleu.score, loss, bleu.to_string()};
    }
    if (picture_.weights.empty()) draw_attention();  // the run was finished before
    write_page(out.test);
    return out;
  }

 private:
  static constexpr std::int64_t samples = 4;  // sentences whose translations are kept

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
    } else {
      pieces_.save(file("pieces.model"));
      experiment::write_table(file("config.json"), settings_);
      say(concat(sentences_.train.size(), " pairs, of which ", loader_.size(), " have 2 to ",
                 settings_.longest, " pieces; ", pieces_.size(), " pieces; ", loader_.batches(),
                 " batches an epoch; ", params_.numel(), " parameters"));
    }
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
      if (options_.stop && options_.stop()) return false;
    }
    return true;
  }

  std::string label() const {
    const std::int64_t epochs = (total_ + steps_ - 1) / steps_;
    return concat(options_.label, options_.label.empty() ? "" : ", ", "epoch ", epoch_ + 1, "/", epochs,
                  best_ >= 0 ? concat(", BLEU ", format_fixed(best_, 1)) : std::string(), ", ",
                  format_general(speed(), 4), " tokens/s");
  }

  void step() {
    std::int64_t number = -1;
    std::optional<text::TokenBatch> batch;
    const Tensor value = method_->step([&](std::int64_t k) {
      if (std::exchange(number, k) != k) {
        batch = loader_.next();
        const std::int64_t source =
            std::accumulate(batch->source_lengths.begin(), batch->source_lengths.end(), std::int64_t{0});
        labels_here_ += batch->label_count(), tokens_ += source + batch->label_count();
      }
      return loss_of(*batch);
    });
    const double loss = value.item();
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
    csv_->write(record_of(e)), jsonl_->write(record_of(e));
    if (e.validation_bleu > best_) {
      best_ = e.validation_bleu;
      save_weights(file("best.safetensors"), params_);
    }
    loss_sum_ = seconds_ = 0, labels_ = tokens_ = 0;
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
    e.validation_loss = mean_loss(params_, network_, validation_);
    const auto found = translations(params_, network_, pieces_, validation_.source);
    e.validation_bleu = text::corpus_bleu(found, sentences_.validation.target).score;
    const std::size_t n = std::min<std::size_t>(samples, found.size());
    for (std::size_t i = 0; i < n; ++i) {
      const Sample sample{e.epoch, sentences_.validation.source[i], sentences_.validation.target[i],
                          found[i]};
      samples_.push_back(sample);
      sample_log_->write(record_of(sample));
    }
    draw_attention();
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
  OutputFolder folder_;
  bool begun_;  // there is a checkpoint
  Sentences sentences_;
  text::Pieces pieces_;
  text::TokenLoader loader_;
  text::TokenPairs validation_;
  ParameterStore params_;
  models::Seq2SeqTransformer network_;
  std::unique_ptr<optim::Method> method_;
  Checkpoint checkpoint_;
  std::int64_t steps_ = 0, total_ = 0;  // updates of an epoch, of the run

  std::int64_t epoch_ = 0;                                  // finished epochs
  double best_ = -1;                                        // highest validation BLEU so far
  double loss_sum_ = 0, seconds_ = 0;                       // of the current epoch
  std::int64_t labels_ = 0, tokens_ = 0, labels_here_ = 0;  // …, and of this update
  Epoch last_;
  std::vector<Epoch> history_;
  std::vector<Sample> samples_;
  AttentionPicture picture_;
  std::optional<MetricLog> csv_, jsonl_, sample_log_;
};

/// Trains according to the settings. Throws ValueError for settings that do not fit, what the readers of files throw,
/// NumericError if the loss is no number any more, StateError if the folder has another run or another process uses it,
/// IOError if results cannot be written.
inline Outcome run(const Settings& settings, const RunOptions& options) {
  validate(settings);
  check(!options.out.empty(), "translate", "--out needs the name of a folder");
  return Run(settings, options)();
}

}  // namespace translate
