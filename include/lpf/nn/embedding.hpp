// Embedding layer.
#pragma once

#include "lpf/nn/layer_error.hpp"
#include "lpf/nn/parameter_store.hpp"
#include "lpf/ops/embedding.hpp"

namespace lpf::nn {

struct EmbeddingOptions {
  /// A row that is initialised to 0 and has no gradient; negative counts from the end.
  std::optional<std::int64_t> padding_idx = {};
  init::Initializer weight_init = {};  ///< default: PyTorch's, N(0, 1)
};

/// Rows of a table: int64 indices [B, …] give [B, …, dim]. PyTorch's torch.nn.Embedding. The rows are the
/// filters of the weight [entries, dim].
struct Embedding {
  Parameter weight;
  lpf::EmbeddingOptions options;

  /// @throws ValueError for sizes below one, IndexError for a padding_idx outside the table.
  Embedding(const Path& p, std::int64_t entries, std::int64_t dim, const EmbeddingOptions& o = {})
      : options{o.padding_idx} {
    check(entries > 0 && dim > 0, "Embedding", "'", p.name(),
          "' needs at least one entry and one feature, got ", entries, " and ", dim);
    auto& padding = options.padding_idx;
    if (padding && *padding < 0) *padding += entries;
    check<IndexError>(!padding || (*padding >= 0 && *padding < entries), "Embedding", "'", p.name(),
                      "': padding_idx ", o.padding_idx.value_or(0), " is outside a table of ", entries,
                      " rows");
    const auto initial = o.weight_init ? o.weight_init : init::normal();
    weight = p.parameter("weight", {entries, dim}, [&](const Tensor& t, const NoiseKey& key) {
      initial(t, key);
      if (padding) t.alias({dim}, *padding * dim).zero_();
    });
  }

  Tensor operator()(const Tensor& indices) const {
    return detail::in_layer(weight, [&] { return embedding(indices, weight, options); });
  }
  /// Rows for all samples alike, such as those of positions: indices […] without a batch axis give […, dim].
  /// In a perturbed pass the result is one for each replica, to be added to a batch:
  /// tok(x) + pos.rows(arange(T)).
  Tensor rows(const Tensor& indices) const {
    return detail::in_layer(weight, [&] {
      return embedding(indices, weight, {.padding_idx = options.padding_idx, .batched = false});
    });
  }
};

}  // namespace lpf::nn
