// A stable sort of the rows of a matrix: runs by counting, then merges. The result depends on the keys alone.
#pragma once

#include <cstdint>
#include <utility>

#include "launch.hpp"

namespace lpf::cuda {

inline constexpr std::int64_t first_run = 512;

/// Sorts each run by counting: the place of an entry is the number of entries before it.
template <class Key>
struct SortRuns {
  const Key* key;
  std::int64_t n;
  std::int64_t* order;
  LPF_DEVICE void operator()(std::int64_t k) const {
    const std::int64_t p = k % n, row = k - p, begin = p / first_run * first_run,
                       end = begin + first_run < n ? begin + first_run : n;
    std::int64_t place = begin;
    for (std::int64_t q = begin; q < end; ++q)
      place += key[row + q] < key[k] || (key[row + q] == key[k] && q < p);
    order[row + place] = p;
  }
};

/// Merges adjacent runs of `width`: the place of an entry is its place in its own run plus, by bisection, its
/// place in the other.
template <class Key>
struct MergeRuns {
  const Key* key;
  std::int64_t n, width;
  const std::int64_t* from;
  std::int64_t* to;
  LPF_DEVICE void operator()(std::int64_t k) const {
    const std::int64_t p = k % n, row = k - p, run = p / width, begin = run * width, entry = from[k];
    const bool second = run % 2 == 1;
    const std::int64_t other = second ? begin - width : begin + width;
    std::int64_t low = other < n ? other : n, high = low + width < n ? low + width : n;
    const std::int64_t other_begin = low;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      const Key it = key[row + from[row + middle]];
      if (it < key[row + entry] || (second && it == key[row + entry])) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    to[row + (second ? other : begin) + (p - begin) + (low - other_begin)] = entry;
  }
};

/// order[r, p] is the place in row r of key [rows, n] of its p-th smallest key, equal ones by their place. The
/// result is in one of the two arrays of rows·n elements, and returned.
template <class Key>
const std::int64_t* sort_rows(const Key* key, std::int64_t rows, std::int64_t n, std::int64_t* one,
                              std::int64_t* two) {
  each(rows * n, SortRuns<Key>{key, n, one});
  for (std::int64_t width = first_run; width < n; width *= 2) {
    each(rows * n, MergeRuns<Key>{key, n, width, one, two});
    std::swap(one, two);
  }
  return one;
}

}  // namespace lpf::cuda
