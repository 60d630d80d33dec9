// Sums down the columns of a matrix [rows, channels], for each group of its rows on its own: batch norm's
// slices, or all rows at once. The rows of a group are cut into parts, the channels into tiles; a block takes
// one part of one tile, neighbouring threads neighbouring channels. Sums over rows have two stages: each
// block writes those of its part, a second kernel adds up the parts. All is cut from the shape alone and
// added in trees of a fixed form, in double: the same bits in every run.
#pragma once

#include <algorithm>

#include "launch.hpp"
#include "memory.hpp"
#include "upload.hpp"

namespace lpf::cuda {

/// part[t] = Σ part[t + l·width] over the lanes l, for the threads t < width; width·lanes threads at most.
template <class T>
LPF_DEVICE void sum_lanes(const Block& block, T* part, int width, int lanes) {
  for (int n = lanes; n > 1; n = (n + 1) / 2)
    block.each([&](int t) {
      if (t / width < n / 2) part[t] += part[t + (n + 1) / 2 * width];
    });
}

/// How a matrix is cut. Blocks are numbered by group, part, tile.
struct Columns {
  static constexpr int threads = 256;
  std::int64_t groups, channels, part_rows;
  int parts, tiles, width, lanes;  // of a tile its channels, and the rows that a block reads at a time
  const std::int64_t* row_begin;   // groups + 1 values, on the device

  /// Cut for about `blocks` blocks. row_begin and what it is on the device.
  Columns(std::int64_t groups_, std::int64_t channels_, const std::int64_t* host, const std::int64_t* device,
          std::int64_t blocks)
      : groups(groups_), channels(channels_), row_begin(device) {
    constexpr std::int64_t widest = 128, rows_of_a_thread = 16;
    tiles = static_cast<int>(std::max<std::int64_t>(1, (channels + widest - 1) / widest));
    width = static_cast<int>(std::max<std::int64_t>(1, (channels + tiles - 1) / tiles));
    lanes = threads / width;
    std::int64_t longest = 1;
    for (std::int64_t g = 0; g < groups; ++g) longest = std::max(longest, host[g + 1] - host[g]);
    const std::int64_t least = lanes * rows_of_a_thread;
    const std::int64_t wanted =
        std::max<std::int64_t>(1, blocks / (std::max<std::int64_t>(1, groups) * tiles));
    part_rows = std::max(least, (longest + wanted - 1) / wanted);
    parts = static_cast<int>((longest + part_rows - 1) / part_rows);
  }
  std::int64_t blocks() const { return channels == 0 ? 0 : groups * parts * tiles; }

  LPF_DEVICE std::int64_t first_row(std::int64_t group, std::int64_t part) const {
    return std::min(row_begin[group] + part * part_rows, row_begin[group + 1]);
  }
  LPF_DEVICE std::int64_t rows(std::int64_t group) const { return row_begin[group + 1] - row_begin[group]; }

  /// What thread t of a block has: the rows begin, begin + lanes, … before end of one channel.
  struct Place {
    std::int64_t group, part, channel, begin, end;
    bool writes;  // the thread that has the sum of its part and channel
  };
  LPF_DEVICE Place place(std::int64_t block, int t) const {
    const int index = static_cast<int>(block), slice = index / tiles, lane = t / width;
    const std::int64_t first_channel = std::int64_t{index % tiles} * width;
    Place p{slice / parts, slice % parts, first_channel + t % width, 0, 0, false};
    if (lane >= lanes || p.channel >= channels) return p;  // too many: no rows
    p.begin = first_row(p.group, p.part) + lane;
    p.end = first_row(p.group, p.part + 1);
    p.writes = lane == 0;
    return p;
  }
};

/// First stage: partial [groups, parts, 2, channels] of the sums of two numbers, which f adds to its last
/// arguments for each row and channel: f(group, row, channel, a, b).
template <class F>
struct PartialSums {
  static constexpr int threads = Columns::threads;
  struct Shared {
    double a[threads], b[threads];
  };
  Columns columns;
  F f;
  double* partial;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const Columns& c = columns;
    block.each([&](int t) {
      const auto p = c.place(block.index, t);
      double a = 0, b = 0;
      for (std::int64_t row = p.begin; row < p.end; row += c.lanes) f(p.group, row, p.channel, a, b);
      shared.a[t] = a;
      shared.b[t] = b;
    });
    sum_lanes(block, shared.a, c.width, c.lanes);
    sum_lanes(block, shared.b, c.width, c.lanes);
    block.each([&](int t) {
      const auto p = c.place(block.index, t);
      if (!p.writes) return;
      double* to = partial + (p.group * c.parts + p.part) * 2 * c.channels + p.channel;
      to[0] = shared.a[t];
      to[c.channels] = shared.b[t];
    });
  }
};

/// Second stage: a block has a few channels of one group, and finish(group, channel, a, b) what they sum to.
struct Merge {
  static constexpr int threads = 256, width = 8, lanes = threads / width;
  static std::int64_t blocks(const Columns& c) { return c.groups * ((c.channels + width - 1) / width); }

  std::int64_t group, channel;
  int lane;
  bool inside;
  LPF_DEVICE Merge(const Columns& c, std::int64_t block, int t) {
    const std::int64_t tiles = (c.channels + width - 1) / width;
    group = block / tiles;
    channel = block % tiles * width + t % width;
    lane = t / width;
    inside = channel < c.channels;
  }
};

template <class F>
struct MergedSums {
  static constexpr int threads = Merge::threads;
  struct Shared {
    double a[threads], b[threads];
  };
  Columns columns;
  const double* partial;
  F finish;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const Columns& c = columns;
    block.each([&](int t) {
      const Merge m(c, block.index, t);
      double a = 0, b = 0;
      for (std::int64_t part = m.lane; m.inside && part < c.parts; part += Merge::lanes) {
        const double* from = partial + (m.group * c.parts + part) * 2 * c.channels + m.channel;
        a += from[0];
        b += from[c.channels];
      }
      shared.a[t] = a;
      shared.b[t] = b;
    });
    sum_lanes(block, shared.a, Merge::width, Merge::lanes);
    sum_lanes(block, shared.b, Merge::width, Merge::lanes);
    block.each([&](int t) {
      const Merge m(c, block.index, t);
      if (m.lane == 0 && m.inside) finish(m.group, m.channel, shared.a[t], shared.b[t]);
    });
  }
};

/// finish(group, channel, Σ a, Σ b) for every group and channel; f as in PartialSums.
template <class F, class Finish>
void sum_columns(const Columns& c, F f, Finish finish) {
  if (c.blocks() == 0) return;
  const Scratch<double> partial(c.groups * c.parts * 2 * c.channels);
  blocks(c.blocks(), PartialSums<F>{c, f, partial.data()});
  blocks(Merge::blocks(c), MergedSums<Finish>{c, partial.data(), finish});
}

/// f(place) for the threads of all blocks of a cut.
template <class F>
struct EachColumn {
  static constexpr int threads = Columns::threads;
  struct Shared {};
  Columns columns;
  F f;

  LPF_DEVICE void operator()(const Block& block, Shared&) const {
    block.each([&](int t) { f(columns.place(block.index, t)); });
  }
};

}  // namespace lpf::cuda
