// Random numbers, and operations fused with them. Words and Gaussians are those of core/philox.hpp and
// core/gaussian.hpp, which are compiled here for the GPU: the same bits as on the CPU, for any part of a
// stream. A thread processes whole blocks of a stream (four numbers, two of float64).
#include <algorithm>
#include <cmath>
#include <vector>

#include "elements.hpp"
#include "kernel_groups.hpp"
#include "launch.hpp"
#include "lpf/core/gaussian.hpp"
#include "packs.hpp"
#include "upload.hpp"

namespace lpf::cuda {
namespace {

using backend::NormSegment;
using backend::Segment;
using backend::StepScalar;

/// to[begin … end) = from[begin … end), within one pack.
template <class T, int n>
LPF_DEVICE void put(T* to, const Pack<T, n>& from, std::int64_t begin, std::int64_t end) {
  if (begin == 0 && end == n && begins_pack(to, n)) return store(to, from);
  for (int i = 0; i < n; ++i)
    if (i >= begin && i < end) to[i] = from.value[i];
}

/// from[begin … end), within one pack; 0 elsewhere.
template <int n, class T>
LPF_DEVICE Pack<T, n> get(const T* from, std::int64_t begin, std::int64_t end) {
  if (begin == 0 && end == n && begins_pack(from, n)) return load<n>(from);
  Pack<T, n> pack;
  for (int i = 0; i < n; ++i) pack.value[i] = i >= begin && i < end ? from[i] : T(0);
  return pack;
}

/// The blocks, of `size` elements, that a range of a stream spans.
struct Blocks {
  std::int64_t first, n;
  int size;
  LPF_HD std::int64_t count() const { return n == 0 ? 0 : (first + n - 1) / size - first / size + 1; }
  /// Block k of the range: its number in the stream, the place of its first element in the range (negative if
  /// before it), and which of its elements are in the range.
  struct One {
    std::uint32_t number;
    std::int64_t at, begin, end;
  };
  LPF_DEVICE One operator[](std::int64_t k) const {
    const std::int64_t number = first / size + k, at = number * size - first;
    return {static_cast<std::uint32_t>(number), at, at < 0 ? -at : 0, at + size < n ? size : n - at};
  }
};

/// The key of this step: in a captured step the draw is in memory.
LPF_DEVICE inline NoiseKey now(NoiseKey key) {
  if (key.draw_at) key.draw = *key.draw_at;
  return key;
}

// --- numbers

struct NormalLaw {
  template <class T>
  LPF_DEVICE static NoiseBlock<T> draw(const NoiseKey& key, std::uint32_t block) {
    return normal_block<T>(key, block);
  }
};
struct UniformLaw {
  template <class T>
  LPF_DEVICE static NoiseBlock<T> draw(const NoiseKey& key, std::uint32_t block) {
    return uniform_block<T>(key, block);
  }
};

template <class Law, class T>
struct Draw {
  NoiseKey key;
  Blocks range;
  T* y;
  LPF_DEVICE void operator()(std::int64_t k) const {
    const auto block = range[k];
    const NoiseBlock<T> drawn = Law::template draw<T>(now(key), block.number);
    Pack<T> out;
    for (int i = 0; i < Pack<T>::size; ++i) out.value[i] = drawn.value[i];
    put(y + block.at, out, block.begin, block.end);
  }
};
template <class Law>
void draw(DType type, const NoiseKey& key, std::int64_t first, std::int64_t n, void* y) {
  visit_floating("noise", type, [&](auto zero) {
    using T = decltype(zero);
    check_noise_range(key, first, n, Pack<T>::size);
    const Blocks range{first, n, Pack<T>::size};
    each(range.count(), Draw<Law, T>{key, range, static_cast<T*>(y)});
  });
}

template <class T>
struct Dropout {
  NoiseKey key;
  Blocks range;
  std::uint32_t largest;  // elements with words up to it are kept
  bool none;              // or none are
  Computed<T> scale;
  const T* x;
  T* y;
  LPF_DEVICE void operator()(std::int64_t k) const {
    const auto block = range[k];
    const PhiloxWords words = noise_words(now(key), block.number);
    auto pack = get<4>(x + block.at, block.begin, block.end);
    for (int i = 0; i < 4; ++i)
      pack.value[i] = words.word[i] <= largest && !none ? static_cast<T>(pack.value[i] * scale) : T(0);
    put(y + block.at, pack, block.begin, block.end);
  }
};
void dropout(DType type, const NoiseKey& key, std::int64_t first, std::int64_t n, double p, const void* x,
             void* y) {
  check_noise_range(key, first, n, 4);
  const std::uint64_t threshold = bernoulli_threshold(1 - p);  // up to 2^32
  const bool none = threshold == 0;  // the product with 0 of ∞ and of NaN would be NaN
  const Blocks range{first, n, 4};
  visit_real("dropout", type, [&](auto zero) {
    using T = decltype(zero);
    each(range.count(),
         Dropout<T>{key, range, static_cast<std::uint32_t>(none ? 0 : threshold - 1), none,
                    number_as<T>(none ? 0 : 1 / (1 - p)), static_cast<const T*>(x), static_cast<T*>(y)});
  });
}

// --- whole parameter stores

/// A segment, the first piece of work for it, and the place of its replicas.
template <class S>
struct Part {
  S segment;
  std::int64_t first, place;
};
template <class S>
struct Parts {
  std::vector<Part<S>> part;
  std::int64_t work = 0;

  template <class F>
  Parts(const S* segments, const std::int64_t* place, std::int64_t count, F work_of) {
    for (std::int64_t s = 0; s < count; ++s) {
      part.push_back({segments[s], work, place ? place[s] : 0});
      work += work_of(segments[s]);
    }
  }
  Upload<Part<S>> upload() const { return {part.data(), static_cast<std::int64_t>(part.size())}; }
};
/// The part of piece k of the work; skips parts without work.
template <class S>
LPF_DEVICE const Part<S>& part_of(const Part<S>* parts, std::int64_t count, std::int64_t k) {
  std::int64_t low = 0, high = count;  // the last part that begins at k or before is in [low, high)
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (parts[middle].first <= k ? low : high) = middle;
  }
  return parts[low];
}

/// One block of threads per row.
template <class T>
struct FilterNorm {
  static constexpr int threads = 128;
  struct Shared {
    double part[threads];
  };
  const Part<NormSegment>* parts;
  std::int64_t count;
  const T* theta;
  StepScalar factor;
  T* scale;
  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    const Part<NormSegment>& part = part_of(parts, count, block.index);
    const std::int64_t row = block.index - part.first, length = part.segment.length;
    const T* w = theta + part.segment.offset + row * length;
    block.each([&](int t) {
      double squares = 0;
      for (std::int64_t i = t; i < length; i += threads)
        squares += static_cast<double>(w[i]) * static_cast<double>(w[i]);
      shared.part[t] = squares;
    });
    block.template sum<threads>(shared.part);
    block.each([&](int t) {
      const NormSegment& s = part.segment;
      const T norm = static_cast<T>(std::sqrt(shared.part[0])) + static_cast<T>(s.floor);
      for (std::int64_t i = t; i < s.copies; i += threads)
        scale[s.first_scale + row * s.copies + i] = norm * static_cast<T>(factor.now());
    });
  }
};
void filter_norms(DType type, const NormSegment* segments, std::int64_t count, const void* theta,
                  StepScalar factor, void* scale) {
  if (count == 0) return;
  const Parts parts(segments, nullptr, count, [](const NormSegment& s) { return s.rows; });
  const auto there = parts.upload();
  visit_floating("filter_norms", type, [&](auto zero) {
    using T = decltype(zero);
    blocks(parts.work,
           FilterNorm<T>{there.data(), count, static_cast<const T*>(theta), factor, static_cast<T*>(scale)});
  });
}

/// One thread per block of a parameter's noise, for all draws: θ and the scales are read once.
template <class T, class Out>
struct Perturb {
  static constexpr int size = Pack<T>::size;
  const Part<Segment>* parts;
  std::int64_t count;
  NoiseKey key;
  const T *theta, *scale;
  std::int64_t replicas;
  bool antithetic;
  Out* out;

  LPF_DEVICE void operator()(std::int64_t k) const {
    const Part<Segment>& part = part_of(parts, count, k);
    const Segment& segment = part.segment;
    const std::int64_t block = k - part.first, first = block * size, all = segment.rows * segment.length;
    const int n = first + size <= all ? size : static_cast<int>(all - first);
    const auto [row, column] = divided(first, segment.length);
    const Pack<T> w = theta ? get<size>(theta + segment.offset + first, 0, n) : Pack<T>{},
                  s = deviations(scale + segment.first_scale + row, column, segment.length, n);
    NoiseKey stream = now(key);
    stream.parameter = segment.parameter;
    Out* to = out + part.place + first;
    for (std::int64_t r = 0; r < replicas; r += antithetic ? 2 : 1) {
      stream.replica = key.replica + static_cast<std::uint32_t>(antithetic ? r / 2 : r);
      const NoiseBlock<T> e = normal_block<T>(stream, static_cast<std::uint32_t>(block));
      Pack<Out, size> y;
      for (int i = 0; i < size; ++i)
        y.value[i] = static_cast<Out>(lpf::detail::fmadd(s.value[i], e.value[i], w.value[i]));
      put(to + r * all, y, 0, n);
      if (!antithetic) continue;
      for (int i = 0; i < size; ++i)
        y.value[i] = static_cast<Out>(lpf::detail::fnmadd(s.value[i], e.value[i], w.value[i]));
      put(to + (r + 1) * all, y, 0, n);
    }
  }

 private:
  struct Division {
    std::int64_t quotient, rest;
  };
  LPF_DEVICE static Division divided(std::int64_t a, std::int64_t b) {
    if (a > 0xFFFFFFFF || b > 0xFFFFFFFF) return {a / b, a % b};
    const auto low = static_cast<std::uint32_t>(a), divisor = static_cast<std::uint32_t>(b);
    return {low / divisor, low % divisor};
  }
  /// The deviations of n elements from a column of row 0 on.
  LPF_DEVICE static Pack<T> deviations(const T* of_row, std::int64_t column, std::int64_t length, int n) {
    Pack<T> s;
    if (column + size <= length) {
      const T same = *of_row;
      for (int i = 0; i < size; ++i) s.value[i] = same;
    } else {
      for (int i = 0; i < size; ++i) {
        s.value[i] = i < n ? *of_row : T(0);
        if (++column == length) column = 0, ++of_row;
      }
    }
    return s;
  }
};
void perturb(DType type, const Segment* segments, const std::int64_t* place, std::int64_t count,
             const NoiseKey& key, const void* theta, const void* scale, std::int64_t replicas,
             bool antithetic, DType type_out, void* out) {
  if (count == 0 || replicas == 0) return;
  visit_floating("perturb", type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int size = Pack<T>::size;
    NoiseKey last = key;
    last.replica += static_cast<std::uint32_t>((antithetic ? replicas / 2 : replicas) - 1);
    const Parts parts(segments, place, count, [&](const Segment& s) {
      check_noise_range(last, 0, s.rows * s.length, size);
      return (s.rows * s.length + size - 1) / size;
    });
    const auto there = parts.upload();
    const auto write = [&](auto* to) {
      using Out = std::remove_pointer_t<decltype(to)>;
      each(parts.work, Perturb<T, Out>{there.data(), count, key, static_cast<const T*>(theta),
                                       static_cast<const T*>(scale), replicas, antithetic, to});
    };
    type_out == DType::bfloat16 ? write(static_cast<BFloat16*>(out)) : write(static_cast<T*>(out));
  });
}

/// One thread per word of signs: [replicas][rows + inputs] of a segment are `words` words each.
template <class T>
struct DrawSigns {
  const Part<Segment>* parts;
  std::int64_t count;
  NoiseKey key;
  bool mirrored;
  T* out;
  LPF_HD static std::int64_t words(const Segment& s) { return (s.rows + s.inputs + 31) / 32; }
  LPF_DEVICE void operator()(std::int64_t k) const {
    const Part<Segment>& part = part_of(parts, count, k);
    const Segment& segment = part.segment;
    const std::int64_t n = segment.rows + segment.inputs, each = words(segment), r = (k - part.first) / each,
                       at = (k - part.first) % each;
    NoiseKey stream = now(key);
    stream.parameter = segment.parameter;
    stream.replica += static_cast<std::uint32_t>(mirrored ? r / 2 : r);
    const PhiloxWords drawn = noise_words(stream, static_cast<std::uint32_t>(at / 4));
    std::uint32_t word = drawn.word[0];
    for (int i = 1; i < 4; ++i)
      if (at % 4 == i) word = drawn.word[i];
    T* to = out + part.place + r * n;
    for (std::int64_t i = 32 * at; i < 32 * at + 32 && i < n; ++i, word >>= 1) {
      const bool opposite = mirrored && r % 2 == 1 && i < segment.rows;
      to[i] = ((word & 1) != 0) != opposite ? T(-1) : T(1);
    }
  }
};
void draw_signs(DType type, const Segment* segments, const std::int64_t* place, std::int64_t count,
                const NoiseKey& key, std::int64_t replicas, bool mirrored, void* out) {
  if (count == 0 || replicas == 0) return;
  visit_floating("draw_signs", type, [&](auto zero) {
    using T = decltype(zero);
    NoiseKey last = key;
    last.replica += static_cast<std::uint32_t>((mirrored ? replicas / 2 : replicas) - 1);
    const Parts parts(segments, place, count, [&](const Segment& s) {
      check_noise_range(last, 0, DrawSigns<T>::words(s), 4);
      return replicas * DrawSigns<T>::words(s);
    });
    const auto there = parts.upload();
    each(parts.work, DrawSigns<T>{there.data(), count, key, mirrored, static_cast<T*>(out)});
  });
}

/// One thread per element of a parameter, for all replicas: θ and the noise are read once.
template <class T, class Out>
struct Flip {
  const Part<Segment>* parts;
  const std::int64_t* sign_place;
  std::int64_t count;
  const T *theta, *noise, *signs;
  std::int64_t replicas;
  Out* out;
  LPF_DEVICE void operator()(std::int64_t k) const {
    const Part<Segment>& part = part_of(parts, count, k);
    const Segment& segment = part.segment;
    const std::int64_t e = k - part.first, row = e / segment.length,
                       input = e % segment.length % segment.inputs;
    const T w = theta[segment.offset + e], shift = noise[segment.offset + e];
    const T* s = signs + sign_place[&part - parts];
    Out* to = out + part.place + e;
    for (std::int64_t r = 0; r < replicas; ++r) {
      *to = static_cast<Out>(w + s[row] * s[segment.rows + input] * shift);
      s += segment.rows + segment.inputs;
      to += segment.rows * segment.length;
    }
  }
};
void flip(DType type, const Segment* segments, const std::int64_t* place, const std::int64_t* sign_place,
          std::int64_t count, const void* theta, const void* noise, const void* signs, std::int64_t replicas,
          DType type_out, void* out) {
  if (count == 0 || replicas == 0) return;
  visit_floating("flip", type, [&](auto zero) {
    using T = decltype(zero);
    const Parts parts(segments, place, count, [](const Segment& s) { return s.rows * s.length; });
    const auto there = parts.upload();
    const Upload<std::int64_t> signs_at(sign_place, count);
    const auto write = [&](auto* to) {
      using Out = std::remove_pointer_t<decltype(to)>;
      each(parts.work,
           Flip<T, Out>{there.data(), signs_at.data(), count, static_cast<const T*>(theta),
                        static_cast<const T*>(noise), static_cast<const T*>(signs), replicas, to});
    };
    type_out == DType::bfloat16 ? write(static_cast<BFloat16*>(out)) : write(static_cast<T*>(out));
  });
}

/// One block of threads per row of x.
template <class T>
struct PreActivationNoise {
  static constexpr int threads = 128;
  struct Shared {
    T part[threads];
  };
  std::int64_t in, out;
  NoiseKey key;
  std::int64_t first;
  const T *x, *sigma, *sigma_bias;
  T *noise, *slope;
  LPF_DEVICE void operator()(const Block& block, Shared& shared) const {
    block.each([&](int t) {
      const T* row = x + block.index * in;
      T squares = 0;
      if (sigma)
        for (std::int64_t i = t; i < in; i += threads) squares += row[i] * row[i];
      shared.part[t] = squares;
    });
    block.template sum<threads>(shared.part);
    block.each([&](int t) {
      const T squares = shared.part[0], bias = sigma_bias ? *sigma_bias : T(0);
      const Blocks range{first + block.index * out, out, Pack<T>::size};
      for (std::int64_t b = t; b < range.count(); b += threads) {
        const auto one = range[b];
        const NoiseBlock<T> xi = normal_block<T>(now(key), one.number);
        for (int i = 0; i < Pack<T>::size; ++i) {
          if (i < one.begin || i >= one.end) continue;
          const std::int64_t k = one.at + i, to = block.index * out + k;
          const T variance = sigma ? sigma[k] * sigma[k] : T(0);
          const T deviation = std::sqrt(squares * variance + bias * bias);
          noise[to] = deviation * xi.value[i];
          if (slope) slope[to] = deviation > T(0) ? variance * xi.value[i] / deviation : T(0);
        }
      }
    });
  }
};
void pre_activation_noise(DType type, std::int64_t rows, std::int64_t in, std::int64_t out,
                          const NoiseKey& key, std::int64_t first, const void* x, const void* sigma,
                          const void* sigma_bias, void* noise, void* slope) {
  visit_floating("pre_activation_noise", type, [&](auto zero) {
    using T = decltype(zero);
    check_noise_range(key, first, rows * out, Pack<T>::size);
    blocks(rows, PreActivationNoise<T>{in, out, key, first, static_cast<const T*>(x),
                                       static_cast<const T*>(sigma), static_cast<const T*>(sigma_bias),
                                       static_cast<T*>(noise), static_cast<T*>(slope)});
  });
}

}  // namespace

void noise(Table& t) {
  t.normal = draw<NormalLaw>;
  t.uniform = draw<UniformLaw>;
  t.dropout = dropout;
  t.filter_norms = filter_norms;
  t.perturb = perturb;
  t.draw_signs = draw_signs;
  t.flip = flip;
  t.pre_activation_noise = pre_activation_noise;
}

}  // namespace lpf::cuda
