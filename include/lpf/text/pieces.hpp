// Subwords by sentencepiece (Kudo & Richardson, EMNLP 2018): a text becomes numbers of pieces, by byte-pair encoding.
// This header needs the library and its macro: CMake's target lpf::text has both where sentencepiece is installed.
//
//   const auto pieces = text::Pieces::train(sentences_of_both_languages, {.vocabulary = 8000});
//   pieces.save("pieces.model");
//   pieces.encode("ein hund rennt .");   // {35, 217, 1063, 9}
#pragma once

#ifndef LPF_HAS_SENTENCEPIECE
#  error \
      "lpf/text/pieces.hpp needs sentencepiece (on Debian: libsentencepiece-dev): link lpf::text, or define LPF_HAS_SENTENCEPIECE=1 and link -lsentencepiece_train -lsentencepiece"
#endif

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/io/file.hpp"
#include "lpf/text/batches.hpp"
#include "lpf/text/pairs.hpp"

namespace lpf::text {

struct PiecesOptions {
  std::int64_t vocabulary = 8000;  ///< number of pieces, the four special ones and all characters included
};

namespace detail {

/// Sentences for sentencepiece's trainer.
class Sentences final : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(std::span<const std::string> all) : all_(all) {}
  bool done() const override { return at_ == all_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return all_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::span<const std::string> all_;
  std::size_t at_ = 0;
};

/// ": " and sentencepiece's reason, without the place in its source that it begins with; empty if it gives none.
inline std::string reason_of(const sentencepiece::util::Status& status) {
  std::string text = status.error_message();
  if (const auto end = text.rfind("] "); text.find(".cc(") != text.npos && end != text.npos)
    text.erase(0, end + 2);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n')) text.pop_back();
  return text.empty() ? "" : ": " + text;
}

}  // namespace detail

/// A vocabulary of pieces, and the encoder that goes with it. Copies share it. Its special pieces have the numbers of
/// SpecialTokens.
class Pieces {
 public:
  /// Learns pieces from sentences; the same sentences in the same order give the same pieces.
  /// @throws ValueError, with sentencepiece's reason, if that many cannot be made of these sentences.
  static Pieces train(std::span<const std::string> sentences, const PiecesOptions& options = {}) {
    check(options.vocabulary >= 8 && options.vocabulary <= 1'000'000, "pieces",
          "vocabulary must be from 8 to 1000000, got ", options.vocabulary);
    check(std::any_of(sentences.begin(), sentences.end(), [](const std::string& s) { return !s.empty(); }),
          "pieces", "there is nothing to make pieces of: ", sentences.size(),
          " sentences, and all are empty");
    const auto number = [](std::int64_t n) { return std::to_string(n); };
    const std::unordered_map<std::string, std::string> settings{
        {"model_type", "bpe"},
        {"vocab_size", number(options.vocabulary)},
        {"character_coverage", "1.0"},
        {"pad_id", number(SpecialTokens::pad)},
        {"unk_id", number(SpecialTokens::unknown)},
        {"bos_id", number(SpecialTokens::begin)},
        {"eos_id", number(SpecialTokens::end)},
        {"max_sentence_length", "1000000"},
        {"num_threads", "1"},
        {"minloglevel", "2"}};  // errors, which are returned too
    detail::Sentences all(sentences);
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &all, &model);
    check(status.ok(), "pieces", options.vocabulary, " pieces cannot be made of ", sentences.size(),
          " sentences", detail::reason_of(status));
    return Pieces(std::move(model), "what sentencepiece has trained");
  }

  /// Loads what save() wrote. IOError; FormatError for a file of another kind.
  static Pieces load(const std::string& path) {
    return Pieces(lpf::detail::read_file(path, "pieces"), concat("'", path, "'"));
  }
  /// Writes sentencepiece's own format, atomically. IOError.
  void save(const std::string& path) const { write_file_atomically(path, *model_); }

  /// Number of pieces; those of a text are below it.
  std::int64_t size() const { return processor_->GetPieceSize(); }

  /// The pieces of a text, without begin and end. FormatError if it is not UTF-8, which sentencepiece would replace.
  Tokens encode(std::string_view text) const {
    check<FormatError>(!invalid_utf8(text), "pieces", "the text is not UTF-8");
    std::vector<int> out;
    const auto status = processor_->Encode(text, &out);
    check<FormatError>(status.ok(), "pieces", "cannot encode the text", detail::reason_of(status));
    return {out.begin(), out.end()};
  }

  /// The text of pieces; special ones are left out, but for unknown ones. IndexError for a number that is no piece.
  std::string decode(std::span<const std::int32_t> tokens) const {
    std::vector<int> ids;
    for (const std::int32_t token : tokens) {
      check_piece(token);
      ids.push_back(token);
    }
    std::string out;
    const auto status = processor_->Decode(ids, &out);
    check<FormatError>(status.ok(), "pieces", "cannot decode the pieces", detail::reason_of(status));
    return out;
  }

  /// A piece as sentencepiece writes it, with ▁ for a space: "▁hund". IndexError for a number that is no piece.
  const std::string& piece(std::int32_t token) const {
    check_piece(token);
    return processor_->IdToPiece(token);
  }

 private:
  Pieces(std::string model, const std::string& origin)
      : model_(std::make_shared<const std::string>(std::move(model))) {
    auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
    const auto status = processor->LoadFromSerializedProto(*model_);
    check<FormatError>(status.ok(), "pieces", origin, " is no model of sentencepiece",
                       detail::reason_of(status));
    const auto special = [&](const char* name, std::int32_t id, std::int32_t wanted) {
      check<FormatError>(id == wanted, "pieces", origin, " has the number ", id, " for ", name, ", need ",
                         wanted, ": make it with Pieces::train()");
    };
    special("padding", processor->pad_id(), SpecialTokens::pad);
    special("unknown pieces", processor->unk_id(), SpecialTokens::unknown);
    special("the begin", processor->bos_id(), SpecialTokens::begin);
    special("the end", processor->eos_id(), SpecialTokens::end);
    processor_ = std::move(processor);
  }

  void check_piece(std::int32_t token) const {
    check<IndexError>(token >= 0 && token < size(), "pieces", "there is no piece ", token, ": there are ",
                      size());
  }

  std::shared_ptr<const std::string> model_;
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;
};

struct EncodeOptions {
  std::int64_t shortest = 2, longest = 99;  ///< pieces of a sentence, in both languages
};

/// Pairs in pieces, without those that have too few or too many in either language.
inline TokenPairs encode(const Pieces& pieces, const Pairs& pairs, const EncodeOptions& options = {}) {
  TokenPairs out;
  const auto fits = [&](const Tokens& t) {
    return std::ssize(t) >= options.shortest && std::ssize(t) <= options.longest;
  };
  for (std::size_t i = 0; i < pairs.source.size(); ++i) {
    Tokens source = pieces.encode(pairs.source[i]), target = pieces.encode(pairs.target[i]);
    if (!fits(source) || !fits(target)) continue;
    out.source.push_back(std::move(source)), out.target.push_back(std::move(target));
  }
  return out;
}

}  // namespace lpf::text
