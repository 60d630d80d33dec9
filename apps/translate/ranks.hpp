// What a run in several processes adds to one in one: how batches are cut, and what the ranks must agree about.
#pragma once

#include <lpf/distributed/data_parallel.hpp>
#include <lpf/experiment/rank_statistics.hpp>
#include <lpf/text/pieces.hpp>

#include "data.hpp"

namespace translate {

/// How the settings' method cuts a batch.
inline distributed::DataParallelOptions parallel_options(const Settings& s) {
  const bool slices = s.optimizer.starts_with("lpf-");
  return {.shards = s.shards,
          .replicas = slices ? s.M : 1,
          .paired = slices && is_paired(estimator_named(s.estimator))};
}

/// How the batches are cut. CommunicationError for a rank with other settings, sentences or pieces, or without a view of the
/// folder (`begun`: there is a checkpoint); ShapeError for a batch with too few sentences.
inline distributed::BatchParts agreed_parts(distributed::Communicator& world, const Settings& s,
                                            const Sentences& sentences, const text::Pieces& pieces,
                                            const text::TokenLoader& loader, const std::string& out,
                                            bool begun) {
  if (world.size() > 1) {
    const auto same = [&](const std::string& what, const distributed::Hash& hash) {
      distributed::check_same(world, "translate", what, hash.value());
    };
    experiment::check_same_settings(world, "translate", s);
    distributed::Hash data, model;
    for (const text::Pairs* part : {&sentences.train, &sentences.validation, &sentences.test})
      for (const auto* side : {&part->source, &part->target})
        for (const std::string& sentence : *side) data.add(sentence);
    same("sentences", data);
    for (std::int32_t i = 0; i < pieces.size(); ++i) model.add(pieces.piece(i));
    same("pieces", model);
    same(concat("a view of '", out, "' (is it on a file system that all ranks share?)"),
         distributed::Hash().add(std::int64_t(begun)));
  }
  const auto o = parallel_options(s);
  const auto parts = distributed::batch_parts(world, o.shards, o.replicas, o.paired);
  for (std::int64_t i = 0; parts.shards() > 1 && i < loader.batches(); ++i)
    parts.of(0, std::ssize(loader.samples(0, i)));
  return parts;
}

}  // namespace translate
