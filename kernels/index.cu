// Gather and scatter by index. Additions to one element happen in index order, in one thread: the same bits
// in every run, without atomics. index_add sorts its index for that (runs by counting, then merges; both
// stable), so that the entries of one element are adjacent.
#include <utility>

#include "elements.hpp"
#include "fault.hpp"
#include "kernel_groups.hpp"
#include "launch.hpp"
#include "memory.hpp"

namespace lpf::cuda {
namespace {

using Index = std::int64_t;

template <class Bits>
struct Take {
  IndexGuard guard;
  Index n, inner, count;
  const Bits* x;
  const Index* index;
  Bits* y;
  LPF_DEVICE void operator()(Index k) const {
    const Index row = k / inner, j = index[row % count];
    y[k] = guard.allows(j, n) ? x[(row / count * n + j) * inner + k % inner] : Bits(0);
  }
};
void take(DType type, Index outer, Index n, Index inner, Index count, const void* x, const Index* index,
          void* y) {
  visit_bits(type, [&](auto zero) {
    using Bits = decltype(zero);
    each(outer * count * inner, Take<Bits>{IndexGuard(Indexed::take), n, inner, count,
                                           static_cast<const Bits*>(x), index, static_cast<Bits*>(y)});
  });
}

template <class Bits>
struct Gather {
  IndexGuard guard;
  Index n, inner, m;
  const Bits* x;
  const Index* index;
  Bits* y;
  LPF_DEVICE void operator()(Index k) const {
    const Index j = index[k];
    y[k] = guard.allows(j, n) ? x[(k / (m * inner) * n + j) * inner + k % inner] : Bits(0);
  }
};
void gather(DType type, Index outer, Index n, Index inner, Index m, const void* x, const Index* index,
            void* y) {
  visit_bits(type, [&](auto zero) {
    using Bits = decltype(zero);
    each(outer * m * inner, Gather<Bits>{IndexGuard(Indexed::gather), n, inner, m,
                                         static_cast<const Bits*>(x), index, static_cast<Bits*>(y)});
  });
}

/// One thread per column.
template <class T>
struct ScatterAdd {
  IndexGuard guard;
  Index n, inner, m;
  Elements<T> y;
  const Index* index;
  Elements<T> x;
  LPF_DEVICE void operator()(Index column) const {
    const Index o = column / inner, i = column % inner;
    for (Index j = 0; j < m; ++j) {
      const Index k = (o * m + j) * inner + i;
      if (!guard.allows(index[k], n)) continue;
      const Index to = (o * n + index[k]) * inner + i;
      x.set(to, lpf::detail::wrapping_add(x.get(to), y.get(k)));
    }
  }
};
void scatter_add(DType type, Index outer, Index n, Index inner, Index m, const void* y, const Index* index,
                 void* x) {
  visit_arithmetic(type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, BFloat16>) {  // sums in float32
      lpf::detail::refuse_dtype("scatter_add", type);
    } else {
      each(outer * inner,
           ScatterAdd<T>{IndexGuard(Indexed::scatter_add), n, inner, m, {y, type}, index, {x, type}});
    }
  });
}

// --- index_add

constexpr Index first_run = 512;

/// Sorts each run by counting: the place of an entry is the number of entries before it.
struct SortRuns {
  const Index* key;
  Index count;
  Index* order;
  LPF_DEVICE void operator()(Index p) const {
    const Index begin = p / first_run * first_run,
                end = begin + first_run < count ? begin + first_run : count;
    Index place = begin;
    for (Index q = begin; q < end; ++q) place += key[q] < key[p] || (key[q] == key[p] && q < p);
    order[place] = p;
  }
};

/// Merges adjacent runs of `width`: the place of an entry is its place in its own run plus, by
/// bisection, its place in the other.
struct MergeRuns {
  const Index* key;
  Index count, width;
  const Index* from;
  Index* to;
  LPF_DEVICE void operator()(Index p) const {
    const Index run = p / width, begin = run * width, entry = from[p];
    const bool second = run % 2 == 1;
    const Index other = second ? begin - width : begin + width;
    Index low = other < count ? other : count, high = low + width < count ? low + width : count;
    const Index other_begin = low;
    while (low < high) {
      const Index middle = (low + high) / 2, it = key[from[middle]];
      if (it < key[entry] || (second && it == key[entry])) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    to[(second ? other : begin) + (p - begin) + (low - other_begin)] = entry;
  }
};

/// One thread per column of the first of the entries for one element, which adds them all.
template <class T>
struct AddRuns {
  IndexGuard guard;
  Index n, inner, count;
  const T* y;
  const Index *key, *order;
  T* x;
  LPF_DEVICE void operator()(Index k) const {
    const Index p = k / inner % count, o = k / inner / count, i = k % inner, place = key[order[p]];
    if (p > 0 && key[order[p - 1]] == place) return;
    if (!guard.allows(place, n)) return;
    T* to = x + (o * n + place) * inner + i;
    T sum = *to;
    for (Index q = p; q < count && key[order[q]] == place; ++q) sum += y[(o * count + order[q]) * inner + i];
    *to = sum;
  }
};

void index_add(DType type, Index outer, Index n, Index inner, Index count, const void* y, const Index* index,
               void* x) {
  if (outer * inner * count == 0) return;
  const Scratch<Index> one(count), two(count);
  Index *order = one.data(), *next = two.data();
  each(count, SortRuns{index, count, order});
  for (Index width = first_run; width < count; width *= 2) {
    each(count, MergeRuns{index, count, width, order, next});
    std::swap(order, next);
  }
  visit_floating("index_add", type, [&](auto zero) {
    using T = decltype(zero);
    each(outer * count * inner, AddRuns<T>{IndexGuard(Indexed::index_add), n, inner, count,
                                           static_cast<const T*>(y), index, order, static_cast<T*>(x)});
  });
}

}  // namespace

void index(Table& t) {
  t.take = take;
  t.index_add = index_add;
  t.gather = gather;
  t.scatter_add = scatter_add;
}

}  // namespace lpf::cuda
