// Operations on whole parameter stores: filter norms, perturbation, optimizer
// steps, each in one sweep over θ.
#pragma once

#include "lpf/backend/cpu/reduce.hpp"
#include "lpf/backend/cpu/simd_noise.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

template <class T>
void normal(DType, const NoiseKey& key, std::int64_t first, std::int64_t n, void* y) {
  parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
    normal_fill(key, first + begin, end - begin, static_cast<T*>(y) + begin);
  });
}
template <class T>
void uniform(DType, const NoiseKey& key, std::int64_t first, std::int64_t n, void* y) {
  parallel_for(n, 4096, [&](std::int64_t begin, std::int64_t end) {
    uniform_fill(key, first + begin, end - begin, static_cast<T*>(y) + begin);
  });
}

template <class T>
void filter_norms(DType, const NormSegment* segments, std::int64_t count, const void* theta,
                  StepScalar factor, void* scale) {
  const T by = static_cast<T>(factor.value);
  for (std::int64_t s = 0; s < count; ++s) {
    const NormSegment& segment = segments[s];
    parallel_for(segment.rows,
                 std::max<std::int64_t>(1, elementwise_grain / std::max<std::int64_t>(1, segment.length)),
                 [&](std::int64_t row, std::int64_t end) {
                   for (; row < end; ++row) {
                     const T* w = static_cast<const T*>(theta) + segment.offset + row * segment.length;
                     const double squares = sum_tree<double>(segment.length, [w](std::int64_t i) {
                       return static_cast<double>(w[i]) * static_cast<double>(w[i]);
                     });
                     const T norm = static_cast<T>(std::sqrt(squares)) + static_cast<T>(segment.floor);
                     std::fill_n(static_cast<T*>(scale) + segment.first_scale + row * segment.copies,
                                 segment.copies, norm * by);
                   }
                 });
  }
}

template <class T>
void rescale(DType type, std::int64_t n, double a, double epsilon, double limit, const void* v, const void* x,
             const void* base, void* y, void* norm) {
  const double length = std::sqrt(dot<T>(type, n, v, v)), factor = a / (length + epsilon);
  if (norm) *static_cast<T*>(norm) = static_cast<T>(length);
  const double by = factor > limit ? limit : factor;
  if (!base) {
    if (by != 1 || x != y) unary<T>(Unary::affine, type, n, x, y, by, 0);
    return;
  }
  const T *from = static_cast<const T*>(base), *step = static_cast<const T*>(x), along = static_cast<T>(by);
  T* to = static_cast<T*>(y);
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    LPF_SIMD
    for (std::int64_t i = begin; i < end; ++i) to[i] = from[i] + along * step[i];
  });
}

template <class T>
void perturb(DType, const Segment* segments, const std::int64_t* place, std::int64_t count,
             const NoiseKey& key, const void* theta, const void* scale, std::int64_t replicas,
             bool antithetic, DType, void* out) {
  // One task is a few rows of one parameter for one draw, about ten microseconds of work. The tasks of
  // segment s begin at first_task[s].
  const auto rows_a_task = [](const Segment& segment) {
    return std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, segment.length));
  };
  std::vector<std::int64_t> first_task(static_cast<std::size_t>(count) + 1);
  for (std::int64_t s = 0; s < count; ++s)
    first_task[static_cast<std::size_t>(s) + 1] =
        first_task[static_cast<std::size_t>(s)] +
        (segments[s].rows + rows_a_task(segments[s]) - 1) / rows_a_task(segments[s]);
  const std::int64_t per_draw = first_task.back();
  const std::int64_t draws = antithetic ? replicas / 2 : replicas;
  parallel_for(draws * per_draw, 1, [&](std::int64_t begin, std::int64_t end) {
    std::size_t at = 0;
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t task = t % per_draw;
      if (task == 0) at = 0;
      while (first_task[at + 1] <= task) ++at;
      const Segment& segment = segments[at];
      const std::int64_t step = rows_a_task(segment), row = (task - first_task[at]) * step;
      const std::int64_t draw = t / per_draw;
      NoiseKey stream = key;
      stream.replica += static_cast<std::uint32_t>(draw);
      stream.parameter = segment.parameter;
      const T* from = theta ? static_cast<const T*>(theta) + segment.offset : nullptr;
      const T* s = static_cast<const T*>(scale) + segment.first_scale;
      const std::int64_t size = segment.rows * segment.length;
      T* to = static_cast<T*>(out) + place[at] + row * segment.length;
      const RowRange rows{row, std::min(segment.rows, row + step)};
      if (antithetic) {
        perturb_rows(stream, rows, segment.length, from, s, to + 2 * draw * size, to + (2 * draw + 1) * size);
      } else {
        perturb_rows(stream, rows, segment.length, from, s, to + draw * size);
      }
    }
  });
}

template <class T>
void pre_activation_noise(DType, std::int64_t rows, std::int64_t in, std::int64_t out, const NoiseKey& key,
                          std::int64_t first, const void* x, const void* sigma, const void* sigma_bias,
                          void* noise, void* slope) {
  const T* s = static_cast<const T*>(sigma);
  const T bias = sigma_bias ? *static_cast<const T*>(sigma_bias) : T(0);
  parallel_for(rows, std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, out)),
               [&](std::int64_t begin, std::int64_t end) {
                 T* y = static_cast<T*>(noise) + begin * out;
                 std::vector<T> scratch(slope ? 0 : static_cast<std::size_t>(out));
                 T* dy = slope ? static_cast<T*>(slope) + begin * out : scratch.data();
                 normal_fill(key, first + begin * out, (end - begin) * out, y);
                 for (std::int64_t row = begin; row < end; ++row, y += out, dy += slope ? out : 0) {
                   const T* from = static_cast<const T*>(x) + row * in;
                   const T squares =
                       s ? sum_tree<T>(in, [from](std::int64_t i) { return from[i] * from[i]; }) : T(0);
                   if (s) {
                     LPF_SIMD
                     for (std::int64_t k = 0; k < out; ++k) dy[k] = squares * s[k] * s[k] + bias * bias;
                   } else {
                     std::fill_n(dy, out, bias * bias);
                   }
                   square_roots(out, dy, dy);  // t
                   if (!slope) {
                     LPF_SIMD
                     for (std::int64_t k = 0; k < out; ++k) y[k] *= dy[k];
                     continue;
                   }
                   LPF_SIMD
                   for (std::int64_t k = 0; k < out; ++k) {
                     const T t = dy[k], xi = y[k], ratio = xi / t;
                     dy[k] = t > T(0) ? ratio : T(0);
                     y[k] = t * xi;
                   }
                   if (s) {
                     LPF_SIMD
                     for (std::int64_t k = 0; k < out; ++k) dy[k] *= s[k] * s[k];
                   } else {
                     std::fill_n(dy, out, T(0));
                   }
                 }
               });
}

template <class T>
void sgd(DType, std::int64_t n, const SGDStep& o, const void* gradient, void* velocity, void* theta) {
  const T* g = static_cast<const T*>(gradient);
  T* v = static_cast<T*>(velocity);
  T* w = static_cast<T*>(theta);
  const T lr = static_cast<T>(o.lr.value), mu = static_cast<T>(o.momentum),
          decay = static_cast<T>(o.weight_decay);
  const T fresh = o.first ? T(1) : static_cast<T>(1 - o.dampening), keep = o.first ? T(0) : mu;
  // g + λθ; 0·∞ would be NaN.
  const auto decayed = [decay](T slope, T theta_i) {
    return decay == T(0) ? slope : slope + decay * theta_i;
  };
  parallel_for(n, elementwise_grain, [&](std::int64_t begin, std::int64_t end) {
    if (mu == T(0)) {
      LPF_SIMD
      for (std::int64_t i = begin; i < end; ++i) w[i] -= lr * decayed(g[i], w[i]);
    } else if (o.nesterov) {
      LPF_SIMD
      for (std::int64_t i = begin; i < end; ++i) {
        const T d = decayed(g[i], w[i]);
        v[i] = keep * v[i] + fresh * d;
        w[i] -= lr * (d + mu * v[i]);
      }
    } else {
      LPF_SIMD
      for (std::int64_t i = begin; i < end; ++i) {
        v[i] = keep * v[i] + fresh * decayed(g[i], w[i]);
        w[i] -= lr * v[i];
      }
    }
  });
}

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
