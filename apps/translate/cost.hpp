// What a run would take: parameters, batches, the time of a step and of an evaluation, measured.
#pragma once

#include "run.hpp"

namespace translate {

struct Cost {
  std::int64_t parameters = 0, pieces = 0, pairs = 0, batches = 0, updates = 0;
  double tokens_per_batch = 0;  ///< of both languages, without padding
  double step_seconds = 0, evaluation_seconds = 0, run_seconds = 0;
};

/// Makes a few steps of a run and translates some sentences, without writing anything. Throws as run() does.
inline Cost cost_of(const Settings& s) {
  check_settings(s);
  const Sentences sentences = read_sentences(s);
  const text::Pieces pieces = pieces_for(s, "", sentences.train);
  text::TokenLoader loader = loader_for(s, pieces, sentences.train);
  const ParameterStore params({.seed = s.seed});
  const models::Seq2SeqTransformer network{nn::Path(params), network_options(s, pieces.size())};
  Cost out{params.numel(), pieces.size(), loader.size(), loader.batches()};
  const std::int64_t passes = s.optimizer == "entropy-adam" ? s.inner_steps : 1;
  out.updates = s.epochs * std::max<std::int64_t>(1, loader.batches() / passes);
  if (s.max_steps > 0) out.updates = std::min(out.updates, s.max_steps);
  const auto method = make_method(s, params, out.updates);
  std::int64_t tokens = 0, batches = 0;
  const auto step = [&] {
    std::int64_t number = -1;
    text::TokenBatch batch;
    method->step([&](std::int64_t k) {
      if (std::exchange(number, k) != k) {
        batch = loader.next();
        tokens += batch.label_count() +
                  std::accumulate(batch.source_lengths.begin(), batch.source_lengths.end(), std::int64_t{0});
        ++batches;
      }
      return cross_entropy(network(batch.source, batch.input(), batch.source_padding()), batch.labels(),
                           {.label_smoothing = s.label_smoothing, .ignore_index = text::SpecialTokens::pad});
    });
  };
  const auto wait = [] { backend::get(default_device()).synchronize(); };
  step();  // allocates
  wait();
  const double begin = lpf::detail::monotonic_seconds();
  std::int64_t steps = 0;
  while (steps < 3 || (steps < 40 && lpf::detail::monotonic_seconds() - begin < 10)) step(), ++steps;
  wait();
  out.step_seconds = (lpf::detail::monotonic_seconds() - begin) / static_cast<double>(steps);
  out.tokens_per_batch = static_cast<double>(tokens) / static_cast<double>(batches);

  // Untrained, the network goes on to the limit of every sentence: an upper estimate.
  auto validation = all_of(pieces, sentences.validation).source;
  const auto all = static_cast<double>(validation.size());
  validation.resize(std::min<std::size_t>(validation.size(), 64));
  const double start = lpf::detail::monotonic_seconds();
  (void)models::translate(params, network, validation);
  out.evaluation_seconds =
      (lpf::detail::monotonic_seconds() - start) * all / static_cast<double>(validation.size());
  const double epochs = static_cast<double>(out.updates) /
                        static_cast<double>(std::max<std::int64_t>(1, loader.batches() / passes));
  out.run_seconds = static_cast<double>(out.updates) * out.step_seconds +
                    out.evaluation_seconds * std::ceil(epochs / static_cast<double>(s.evaluate_every));
  return out;
}

}  // namespace translate
