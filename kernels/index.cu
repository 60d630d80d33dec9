// Gather and scatter by index. Additions to one element happen in index order, in one thread: the same bits
// in every run. index_add sorts its index for that (stable), so that the entries of one element are adjacent.
#include "elements.hpp"
#include "fault.hpp"
#include "kernel_groups.hpp"
#include "launch.hpp"
#include "memory.hpp"
#include "sort_rows.hpp"

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

// --- scatter

/// The largest of the numbers that several threads write to one place, in any order.
LPF_DEVICE inline void keep_largest(Index* to, Index value) {
#ifdef __CUDACC__
  atomicMax(reinterpret_cast<long long*>(to), static_cast<long long>(value));
#else
  if (*to < value) *to = value;
#endif
}

/// The place in x of entry k of [outer, m, inner].
struct Target {
  IndexGuard guard;
  Index n, inner, m;
  const Index* index;
  LPF_DEVICE bool find(Index k, Index& place) const {
    place = (k / (m * inner) * n + index[k]) * inner + k % inner;
    return guard.allows(index[k], n);
  }
};
/// last[place] = the last entry for a place.
struct LastEntry {
  Target target;
  Index* last;
  LPF_DEVICE void operator()(Index k) const {
    Index place;
    if (target.find(k, place)) keep_largest(last + place, k);
  }
};
template <class Bits>
struct Scatter {
  Target target;
  const Index* last;
  const Bits* y;
  Bits* x;
  LPF_DEVICE void operator()(Index k) const {
    Index place;
    if (target.find(k, place) && last[place] == k) x[place] = y[k];
  }
};
struct NoEntries {
  Index* last;
  LPF_DEVICE void operator()(Index i) const { last[i] = -1; }
};
void scatter(DType type, Index outer, Index n, Index inner, Index m, const void* y, const Index* index,
             void* x) {
  const Index entries = outer * m * inner;
  if (entries == 0) return;
  const Target target{IndexGuard(Indexed::scatter), n, inner, m, index};
  const Scratch<Index> last(outer * n * inner);
  each(outer * n * inner, NoEntries{last.data()});
  each(entries, LastEntry{target, last.data()});
  visit_bits(type, [&](auto zero) {
    using Bits = decltype(zero);
    each(entries, Scatter<Bits>{target, last.data(), static_cast<const Bits*>(y), static_cast<Bits*>(x)});
  });
}

// --- index_add

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
  const Index* order = sort_rows(index, 1, count, one.data(), two.data());
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
  t.scatter = scatter;
}

}  // namespace lpf::cuda
