// A perturbed pass over a part of a batch (nn::BatchPart): replicas keep their numbers in the whole batch, and so
// their noise, whoever evaluates them.
#pragma once

#include "lpf/filter/options.hpp"
#include "lpf/nn/draw_counter.hpp"

namespace lpf::filter {

/// Those of a pass's replicas whose slices lie in this thread's part of the batch.
struct ReplicasOfPart {
  std::int64_t first = 0, count = 1;
  bool paired = false;
  bool cut = false;    ///< the part holds some samples of the one slice
  bool later = false;  ///< this process has evaluated another part of the batch in the same pass

  /// The key of the pass, a draw for all its parts.
  NoiseKey next(const DrawCounter& draws) const { return later ? draws.last() : draws.next(); }
  PassOptions of(PassOptions pass) const {
    pass.M = count;
    pass.key.replica = static_cast<std::uint32_t>(paired ? first / 2 : first);
    pass.cuts_slice = cut;
    return pass;
  }
};

/// The replicas of a pass with M of them: all, unless this thread's part of a batch is smaller than the batch.
/// @throws ShapeError if a part begins or ends within a slice, or between the two slices of a pair.
LPF_ONCE ReplicasOfPart replicas_of_part(const char* operation, std::int64_t M, bool paired = false) {
  const nn::BatchPart& part = nn::MicroBatch::current();
  ReplicasOfPart out{.count = M, .paired = paired};
  if (part.batch == 0) return out;
  out.later = part.same_noise;
  out.cut = M == 1 && part.samples < part.batch;
  if (M == 1) return out;
  check<ShapeError>(M <= part.batch, operation, "M = ", M,
                    " replicas need at least as many samples; the batch has ", part.batch);
  const Slices slices(M, part.batch);
  std::int64_t end = 0;
  for (std::int64_t r = 0; r < M; ++r) {
    if (slices.begin(r) < part.first) out.first = r + 1;
    if (slices.end(r) <= part.first + part.samples) end = r + 1;
  }
  out.count = end - out.first;
  const std::int64_t unit = paired ? 2 : 1;
  check<ShapeError>(
      out.count > 0 && slices.begin(out.first) == part.first &&
          slices.begin(end) == part.first + part.samples && out.first % unit == 0 && out.count % unit == 0,
      operation, "the part [", part.first, ", ", part.first + part.samples, ") of a batch of ", part.batch,
      " samples is not whole ", paired ? "pairs of slices" : "slices", " of its M = ", M, " replicas");
  return out;
}

}  // namespace lpf::filter
