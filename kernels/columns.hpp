// Kernels on the columns of a matrix [rows, channels], separately for each group of rows: batch norm's
// slices, or all rows at once. The rows of a group are cut into parts, the channels into tiles; a block
// processes one part of one tile. Adjacent threads have adjacent packs of channels, and each reads several
// rows before it uses the first, since these kernels are bound by memory bandwidth.
//
// Sums over rows have two stages: each block writes the sums of its part, and a second kernel
// adds the parts. Everything is cut from the shape alone and added in trees of a fixed form, in
// double: the same bits in every run.
#pragma once

#include <algorithm>
#include <iterator>
#include <optional>

#include "launch.hpp"
#include "memory.hpp"
#include "packs.hpp"
#include "upload.hpp"

namespace lpf::cuda {

/// The first row of each group, as read by kernels: in their arguments, or in memory if there are many.
struct RowBegin {
  static constexpr std::int64_t most = 16;
  std::int64_t few[most + 1];
  const std::int64_t* many;
  LPF_DEVICE std::int64_t operator[](std::int64_t group) const { return many ? many[group] : few[group]; }
};

/// Groups of rows during a scope. row_begin has groups + 1 values on the host.
class RowGroups {
 public:
  RowGroups(std::int64_t groups, const std::int64_t* row_begin) : count(groups) {
    if (groups <= RowBegin::most) {
      std::copy(row_begin, row_begin + groups + 1, begin.few);
    } else {
      begin.many = memory_.emplace(row_begin, groups + 1).data();
    }
    for (std::int64_t g = 0; g < groups; ++g) longest = std::max(longest, row_begin[g + 1] - row_begin[g]);
  }
  std::int64_t count, longest = 1;  // longest: rows of the longest group, at least 1
  RowBegin begin{};

 private:
  std::optional<Upload<std::int64_t>> memory_;
};

/// The partition of a matrix. Blocks are numbered by group, part, tile.
struct Columns {
  static constexpr int threads = 256;
  static constexpr std::int64_t blocks_of_sums = 512;   // few parts, so that adding them is short
  static constexpr std::int64_t blocks_of_maps = 1024;  // without sums: enough to keep a GPU busy
  std::int64_t groups, channels, part_rows;
  int pack, parts, tiles, width, lanes;  // width: packs of a tile; lanes: rows that a block reads at a time
  RowBegin row_begin;

  /// For about `most` blocks, whose threads have packs of `n` channels and read `at_once` rows at a time.
  Columns(const RowGroups& rows, std::int64_t channels_, int n, int at_once, std::int64_t most)
      : groups(rows.count), channels(channels_), pack(n), row_begin(rows.begin) {
    constexpr std::int64_t widest = 64;  // channels per tile: at least 128 bytes of a row
    const auto up = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    tiles = static_cast<int>(std::max<std::int64_t>(1, up(channels, widest)));
    width = static_cast<int>(std::max<std::int64_t>(1, up(channels / n, tiles)));
    lanes = threads / width;
    const std::int64_t wanted = std::max<std::int64_t>(1, most / (std::max<std::int64_t>(1, groups) * tiles));
    part_rows = up(up(rows.longest, wanted), lanes * at_once) * lanes * at_once;
    parts = static_cast<int>(up(rows.longest, part_rows));
  }
  std::int64_t blocks() const { return channels == 0 ? 0 : groups * parts * tiles; }

  LPF_DEVICE std::int64_t rows(std::int64_t group) const { return row_begin[group + 1] - row_begin[group]; }

  /// The work of thread t of a block: the rows begin, begin + lanes, … before end of one pack of channels.
  struct Place {
    std::int64_t group, part, channel, begin, end;
    bool writes;  // the thread that holds the sums of its part and channels
  };
  LPF_DEVICE Place place(std::int64_t block, int t) const {
    const int index = static_cast<int>(block), slice = index / tiles, lane = t / width;
    const int column = index % tiles * width + t % width;
    Place p{slice / parts, slice % parts, std::int64_t{column} * pack, 0, 0, false};
    if (lane >= lanes || p.channel >= channels) return p;  // surplus threads: no rows
    const std::int64_t first = row_begin[p.group] + p.part * part_rows, end = row_begin[p.group + 1];
    p.begin = first + lane;
    p.end = std::min(first + part_rows, end);
    p.writes = lane == 0;
    return p;
  }

  /// Calls use(items, i, step) for a place's rows, K at a time and fewer at the end:
  /// items[k] = load(i + k·step, its row), where i is the first element of the pack in the first of them.
  /// All are loaded before the first is used.
  template <int K, class Load, class Use>
  LPF_DEVICE void walk(Place& p, Load load, Use use) const {
    const std::int64_t step = lanes * channels;
    std::int64_t i = p.begin * channels + p.channel;
    for (; p.begin + (K - 1) * lanes < p.end; p.begin += K * lanes, i += K * step) {
      decltype(load(i, p.begin)) items[K];
      LPF_UNROLL for (int k = 0; k < K; ++k) items[k] = load(i + k * step, p.begin + k * lanes);
      use(items, i, step);
    }
    if constexpr (K > 1) walk<K / 2>(p, load, use);
  }
};

/// part[k][t] = Σ part[k][t + l·width] over the lanes l, for the threads t <
/// width; at most width·lanes threads.
template <int K, int Threads>
LPF_DEVICE void sum_lanes(const Block& block, double (&part)[K][Threads], int width, int lanes) {
  for (int n = lanes; n > 1; n = (n + 1) / 2)
    block.each([&](int t) {
      if (t >= n / 2 * width) return;
      LPF_UNROLL for (int k = 0; k < K; ++k) part[k][t] += part[k][t + (n + 1) / 2 * width];
    });
}

/// First stage: partial [groups, parts, 2, channels], the sums of two quantities a and b. F has
///   pack, at_once                  the channels of a thread, and the rows that it loads before using them
///   own(columns, group, channel)   values shared by the rows of a pack of channels
///   load(i, row)                   loads the pack at element i, which is in that row
///   add(own, items, i, step, a, b) adds the elements i, i + step, … to the sums a[pack] and b[pack].
template <class F>
struct PartialSums {
  static constexpr int threads = Columns::threads, pack = F::pack;
  struct Shared {
    double sum[2 * pack][threads];
  };
  Columns columns;
  F f;
  double* partial;

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const Columns& c = columns;
    block.each([&](int t) {
      auto p = c.place(block.index, t);
      double a[pack] = {}, b[pack] = {};
      if (p.begin < p.end) {
        const auto own = f.own(c, p.group, p.channel);
        c.walk<F::at_once>(
            p, [&](std::int64_t i, std::int64_t row) { return f.load(i, row); },
            [&](const auto& items, std::int64_t i, std::int64_t step) { f.add(own, items, i, step, a, b); });
      }
      LPF_UNROLL for (int k = 0; k < pack; ++k) {
        shared.sum[k][t] = a[k];
        shared.sum[pack + k][t] = b[k];
      }
    });
    sum_lanes(block, shared.sum, c.width, c.lanes);
    block.each([&](int t) {
      const auto p = c.place(block.index, t);
      if (!p.writes) return;
      double* to = partial + (p.group * c.parts + p.part) * 2 * c.channels + p.channel;
      LPF_UNROLL for (int k = 0; k < pack; ++k) {
        to[k] = shared.sum[k][t];
        to[c.channels + k] = shared.sum[pack + k][t];
      }
    });
  }
};

/// Second stage: a block has a few channels of one group, and passes their sums to
/// finish(columns, group, channel, a, b).
template <class F>
struct MergedSums {
  static constexpr int threads = 256, width = 4, lanes = threads / width;
  struct Shared {
    double sum[2][threads];
  };
  Columns columns;
  const double* partial;
  F finish;

  static constexpr std::int64_t tiles(std::int64_t channels) { return (channels + width - 1) / width; }

  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const Columns& c = columns;
    const std::int64_t group = block.index / tiles(c.channels);
    const std::int64_t first = block.index % tiles(c.channels) * width;
    block.each([&](int t) {
      const std::int64_t channel = first + t % width;
      double a = 0, b = 0;
      for (int part = t / width; channel < c.channels && part < c.parts; part += lanes) {
        const double* from = partial + (group * c.parts + part) * 2 * c.channels + channel;
        a += from[0];
        b += from[c.channels];
      }
      shared.sum[0][t] = a;
      shared.sum[1][t] = b;
    });
    sum_lanes(block, shared.sum, width, lanes);
    block.each([&](int t) {
      if (t < width && first + t < c.channels)
        finish(c, group, first + t, shared.sum[0][t], shared.sum[1][t]);
    });
  }
};

/// Calls finish(columns, group, channel, Σ a, Σ b) for every group and channel; f as in PartialSums.
template <class F, class Finish>
void sum_columns(const RowGroups& rows, std::int64_t channels, F f, Finish finish) {
  const Columns c(rows, channels, F::pack, F::at_once, Columns::blocks_of_sums);
  if (c.blocks() == 0) return;
  const Scratch<double> partial(c.groups * c.parts * 2 * c.channels);
  blocks(c.blocks(), PartialSums<F>{c, f, partial.data()});
  using Merge = MergedSums<Finish>;
  blocks(c.groups * Merge::tiles(channels), Merge{c, partial.data(), finish});
}

/// Elementwise over rows and channels: own and load as in PartialSums, and write(own, item, i).
template <class F>
struct EachColumn {
  static constexpr int threads = Columns::threads;
  struct Shared {};
  Columns columns;
  F f;

  LPF_DEVICE void operator()(const Block& block, Shared&) const {
    block.each([&](int t) {
      auto p = columns.place(block.index, t);
      if (p.begin >= p.end) return;
      const auto own = f.own(columns, p.group, p.channel);
      columns.walk<F::at_once>(
          p, [&](std::int64_t i, std::int64_t row) { return f.load(i, row); },
          [&](const auto& items, std::int64_t i, std::int64_t step) {
            LPF_UNROLL for (int k = 0; k < static_cast<int>(std::size(items)); ++k)
                f.write(own, items[k], i + k * step);
          });
    });
  }
};
template <class F>
void map_columns(const RowGroups& rows, std::int64_t channels, F f) {
  const Columns c(rows, channels, F::pack, F::at_once, Columns::blocks_of_maps);
  blocks(c.blocks(), EachColumn<F>{c, f});
}

}  // namespace lpf::cuda
