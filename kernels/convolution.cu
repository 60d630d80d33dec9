// Convolutions. cuDNN computes what it supports in float32 and bfloat16 (cudnn.cu). The rest, mainly
// float64 (which cuDNN does not support everywhere in channels last), are products: windows are
// unfolded into rows of a workspace, one tile at a time, and multiplied by the filters, all replicas or
// groups of a tile in one strided batch:
//   y = columns(x)·wᵀ        dx = fold(dy·w)        dw = dyᵀ·columns(x)
// Slices of unequal length are processed in runs of equal ones, of which there are at most two. Sums in
// bfloat16 (dw over tiles, dx over windows) are float32 until they are written.
#include "blas.hpp"
#include "cudnn.hpp"
#include "kernel_groups.hpp"
#include "lpf/backend/cuda/options.hpp"
#include "memory.hpp"
#include "swap_rows.hpp"
#include "unfold.hpp"

namespace lpf::cuda {
namespace {

using backend::Conv2d;
using backend::Gemm;

/// Adjacent slices of the batch with `samples` samples each, beginning with sample `begin`.
struct Run {
  std::int64_t slice, slices, begin, samples;
};

/// Calls f(run) for the slices, or for the batch as one run.
template <class F>
void for_each_run(const Conv2d& c, bool sliced, F f) {
  if (!sliced || c.replicas <= 1) return f(Run{0, 1, 0, c.n});
  const auto length = [&](std::int64_t r) { return c.slice_begin[r + 1] - c.slice_begin[r]; };
  for (std::int64_t r = 0, end = 0; r < c.replicas; r = end) {
    for (end = r + 1; end < c.replicas && length(end) == length(r);) ++end;
    f(Run{r, end - r, c.slice_begin[r], length(r)});
  }
}

/// An operand of products that run over slices and groups: strides in elements.
template <class T>
struct Operand {
  T* data;
  std::int64_t ld, slice, group;
};

/// Runs g, whose sizes, flags and beta are set, for all slices and groups: one strided batch over the more
/// numerous of the two, once for each of the others.
template <class T, class C>
void multiply(Gemm g, std::int64_t slices, std::int64_t groups, Operand<const T> a, Operand<const T> b,
              Operand<C> c) {
  const bool by_slice = slices >= groups;
  g.dtype = dtype_of<T>();
  g.dtype_c = dtype_of<C>();
  g.batch = by_slice ? slices : groups;
  g.lda = a.ld, g.ldb = b.ld, g.ldc = c.ld;
  g.stride_a = by_slice ? a.slice : a.group;
  g.stride_b = by_slice ? b.slice : b.group;
  g.stride_c = by_slice ? c.slice : c.group;
  for (std::int64_t i = 0; i < (by_slice ? groups : slices); ++i) {
    g.a = a.data + i * (by_slice ? a.group : a.slice);
    g.b = b.data + i * (by_slice ? b.group : b.slice);
    g.c = c.data + i * (by_slice ? c.group : c.slice);
    gemm(g);
  }
}
Gemm product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
             double beta = 0) {
  Gemm g{};
  g.transpose_a = transpose_a, g.transpose_b = transpose_b;
  g.m = m, g.n = n, g.k = k;
  g.alpha = 1, g.beta = beta;
  return g;
}

/// True if each window is one pixel, in order: then x is its own columns.
bool is_product(const Conv2d& c) {
  return c.kh == 1 && c.kw == 1 && c.stride_h == 1 && c.stride_w == 1 && c.pad_h == 0 && c.pad_w == 0;
}

/// A convolution of T as products.
template <class T>
class Products {
 public:
  explicit Products(const Conv2d& c)
      : c_(c), in_(c.c / c.groups), out_(c.k / c.groups), depth_(c.kh * c.kw * in_), plane_(c.p * c.q) {}

  void forward(const T* x, const T* w, T* y) const {
    for_each_run(c_, c_.w_stride != 0, [&](const Run& run) {
      const Operand<const T> filters{w + run.slice * c_.w_stride, depth_, c_.w_stride, out_ * depth_};
      each_tile(run, x, [&](const Tile& t, std::int64_t slice, Operand<const T> columns) {
        multiply<T>(product(false, true, t.pixels, out_, depth_), t.slices, c_.groups, columns,
                    moved(filters, slice), pixels_of(y, run, t, slice));
      });
    });
  }

  void backward_data(const T* dy, const T* w, T* dx) const {
    for_each_run(c_, c_.w_stride != 0, [&](const Run& run) {
      const Operand<const T> filters{w + run.slice * c_.w_stride, depth_, c_.w_stride, out_ * depth_};
      const auto work = [&](const Tile& t, std::int64_t slice, const auto& columns) {
        multiply<T>(product(false, false, t.pixels, depth_, out_), t.slices, c_.groups,
                    pixels_of(dy, run, t, slice), moved(filters, slice), columns);
      };
      T* const target = dx + run.begin * sample();
      if (is_product(c_)) return work(whole(run), 0, as_columns(target, run));
      for_each_tile(run, plane_, [&](const Tile& t, std::int64_t slice) {
        const Scratch<Computed<T>> columns(t.slices * t.pixels * c_.groups * depth_);
        work(t, slice, laid_out(columns.data(), t));
        fold(c_, t, columns.data(), target + slice * run.samples * sample());
      });
    });
  }

  void backward_filter(const T* x, const T* dy, Computed<T>* dw, bool per_replica) const {
    for_each_run(c_, per_replica, [&](const Run& run) {
      const Operand<Computed<T>> all{dw + run.slice * c_.k * depth_, depth_, c_.k * depth_, out_ * depth_};
      each_tile(run, x, [&](const Tile& t, std::int64_t slice, Operand<const T> columns) {
        multiply<T>(product(true, false, out_, depth_, t.pixels, t.first == 0 ? 0 : 1), t.slices, c_.groups,
                    pixels_of(dy, run, t, slice), columns, moved(all, slice));
      });
    });
  }

 private:
  /// Elements of a sample of x.
  std::int64_t sample() const { return c_.h * c_.w * c_.c; }
  Tile whole(const Run& run) const { return {run.slices, run.samples, 0, run.samples * plane_}; }

  template <class P>
  Operand<P> moved(Operand<P> o, std::int64_t slice) const {
    o.data += slice * o.slice;
    return o;
  }
  template <class P>
  Operand<P> as_columns(P* x, const Run& run) const {
    return {x, c_.c, run.samples * sample(), in_};
  }
  template <class P>
  Operand<P> laid_out(P* columns, const Tile& t) const {
    return {columns, depth_, c_.groups * t.pixels * depth_, t.pixels * depth_};
  }
  /// The output pixels of a tile that begins at slice `slice` of the run.
  template <class P>
  Operand<P> pixels_of(P* y, const Run& run, const Tile& t, std::int64_t slice) const {
    const std::int64_t first = (run.begin + slice * run.samples) * plane_ + t.first;
    return {y + first * c_.k, c_.k, run.samples * plane_ * c_.k, out_};
  }

  /// Calls f(tile, its first slice in the run) for tiles of multiples of `unit` pixels whose columns fit the
  /// workspace: as many slices as possible, then as many of their pixels as fit. The first pixels come first.
  template <class F>
  void for_each_tile(const Run& run, std::int64_t unit, F f) const {
    const std::int64_t pixels = run.samples * plane_,
                       bytes = c_.groups * depth_ * unit * static_cast<std::int64_t>(sizeof(Computed<T>)),
                       units = std::max<std::int64_t>(
                           1, options.convolution_workspace / std::max<std::int64_t>(1, bytes)),
                       slices = std::min(run.slices, units), step = units / slices * unit;
    for (std::int64_t slice = 0; slice < run.slices; slice += slices)
      for (std::int64_t first = 0; first == 0 || first < pixels; first += step)
        f(Tile{std::min(slices, run.slices - slice), run.samples, first, std::min(step, pixels - first)},
          slice);
  }

  /// Calls f(tile, first slice, its columns) for the tiles of x.
  template <class F>
  void each_tile(const Run& run, const T* x, F f) const {
    const T* const source = x + run.begin * sample();
    if (is_product(c_)) return f(whole(run), 0, as_columns(source, run));
    for_each_tile(run, 1, [&](const Tile& t, std::int64_t slice) {
      const Scratch<T> columns(t.slices * t.pixels * c_.groups * depth_);
      unfold(c_, t, source + slice * run.samples * sample(), columns.data());
      f(t, slice, laid_out(static_cast<const T*>(columns.data()), t));
    });
  }

  const Conv2d& c_;
  std::int64_t in_, out_, depth_, plane_;
};

/// y [slices, positions, K] += bias [slices, K], where bias has a stride between slices.
template <class T, class I>
void add_bias_by(std::int64_t slices, std::int64_t positions, std::int64_t channels, std::int64_t stride,
                 const Computed<T>* bias, T* y) {
  const I k = static_cast<I>(channels), slice = static_cast<I>(positions * channels);
  each(slices * positions * channels, [=] LPF_DEVICE(std::int64_t at) {
    const I i = static_cast<I>(at);
    y[i] = static_cast<T>(y[i] + bias[i / slice * stride + i % k]);
  });
}

template <class T>
void add_bias(const Conv2d& c, const Computed<T>* bias, T* y) {
  for_each_run(c, c.bias_stride != 0, [&](const Run& run) {
    const std::int64_t positions = run.samples * c.p * c.q;
    const auto add = run.slices * positions * c.k <= INT32_MAX ? add_bias_by<T, std::int32_t>
                                                               : add_bias_by<T, std::int64_t>;
    add(run.slices, positions, c.k, c.bias_stride, bias + run.slice * c.bias_stride,
        y + run.begin * c.p * c.q * c.k);
  });
}

/// Chooses the algorithm of a convolution with a replicated weight. Not measured.
///
/// One call per slice unfolds nothing (a 3×3 window is 9 times x in memory). The product fills the GPU with
/// one launch however small the slices are, and one-pixel windows need no unfolding. Groups also take one
/// launch, but read and write x and y once more.
ReplicatedConvolution way_of(const Conv2d& c) {
  const ReplicatedConvolution asked = options.replicated_convolution;
  if (asked != ReplicatedConvolution::automatic) return asked;
  return is_product(c) ? ReplicatedConvolution::products : ReplicatedConvolution::slices;
}

std::int64_t filters_of(const Conv2d& c) { return c.k * c.kh * c.kw * (c.c / c.groups); }

/// The address `elements` elements of the convolution's type further.
void* moved(const Conv2d& c, const void* data, std::int64_t elements) {
  return static_cast<std::byte*>(const_cast<void*>(data)) +
         elements * static_cast<std::int64_t>(size_of(c.dtype));
}

/// One cuDNN call per slice.
bool by_slices(Convolution which, const Conv2d& c, const void* x, const void* w, const void* y) {
  const std::int64_t step = which == Convolution::backward_filter ? filters_of(c) : c.w_stride;
  std::vector<CudnnCall> calls;
  for (std::int64_t r = 0; r < c.replicas; ++r) {
    const std::int64_t begin = c.slice_begin[r];
    CudnnCall call{c, moved(c, x, begin * c.h * c.w * c.c), moved(c, w, r * step),
                   moved(c, y, begin * c.p * c.q * c.k)};
    call.c.n = c.slice_begin[r + 1] - begin;
    calls.push_back(call);
  }
  return cudnn_convolve(which, calls);
}

/// True if replicas can be groups: slices of one length, and contiguous replicas of w.
bool has_groups(Convolution which, const Conv2d& c) {
  for (std::int64_t r = 0; r < c.replicas; ++r)
    if (c.slice_begin[r + 1] - c.slice_begin[r] != c.n / c.replicas) return false;
  return which == Convolution::backward_filter || c.w_stride == filters_of(c);
}

/// One cuDNN call with the replicas as groups of channels: images
/// [n / replicas, h, w, replicas·c], filters unchanged.
bool by_groups(Convolution which, const Conv2d& c, const void* x, const void* w, const void* y) {
  Conv2d g = c;
  g.n /= c.replicas, g.c *= c.replicas, g.k *= c.replicas, g.groups *= c.replicas;
  const std::int64_t bytes = static_cast<std::int64_t>(size_of(c.dtype)), pixels_x = g.n * c.h * c.w,
                     pixels_y = g.n * c.p * c.q;
  const Scratch<std::byte> grouped_x(c.n * c.h * c.w * c.c * bytes), grouped_y(c.n * c.p * c.q * c.k * bytes);
  if (which != Convolution::backward_data) swap_rows(c.replicas, pixels_x, c.c * bytes, x, grouped_x.data());
  if (which != Convolution::forward) swap_rows(c.replicas, pixels_y, c.k * bytes, y, grouped_y.data());
  if (!cudnn_convolve(which, {{g, grouped_x.data(), moved(c, w, 0), grouped_y.data()}})) return false;
  if (which == Convolution::backward_data)
    swap_rows(pixels_x, c.replicas, c.c * bytes, grouped_x.data(), moved(c, x, 0));
  if (which == Convolution::forward)
    swap_rows(pixels_y, c.replicas, c.k * bytes, grouped_y.data(), moved(c, y, 0));
  return true;
}

/// True if cuDNN computed it, with one w per slice if `sliced`. `which`
/// determines whether x, w or y is written.
bool by_cudnn(Convolution which, const Conv2d& c, bool sliced, const void* x, const void* w, const void* y) {
  if (c.dtype == DType::bfloat16) check_bfloat16();
  if (!options.cudnn || c.dtype == DType::float64) return false;
  if (!sliced || c.replicas <= 1)
    return cudnn_convolve(which, {{c, moved(c, x, 0), moved(c, w, 0), moved(c, y, 0)}});
  const ReplicatedConvolution way = way_of(c);
  if (way == ReplicatedConvolution::products) return false;
  if (way == ReplicatedConvolution::grouped && has_groups(which, c)) return by_groups(which, c, x, w, y);
  return by_slices(which, c, x, w, y);
}

template <class T>
struct Widen {
  const T* from;
  Computed<T>* to;
  LPF_DEVICE void operator()(std::int64_t i) const { to[i] = from[i]; }
};

/// cuDNN's gradient of the filters in float32. For bfloat16 it returns bfloat16, rounded once.
template <class T>
bool filter_gradient_by_cudnn(const Conv2d& c, const T* x, const T* dy, Computed<T>* dw, bool per_replica) {
  const auto run = [&](T* to) { return by_cudnn(Convolution::backward_filter, c, per_replica, x, to, dy); };
  if constexpr (std::is_same_v<T, Computed<T>>) {
    return run(dw);
  } else {
    const std::int64_t n = filters_of(c) * (per_replica ? c.replicas : 1);
    const Scratch<T> rounded(n);
    if (!run(rounded.data())) return false;
    each(n, Widen<T>{rounded.data(), dw});
    return true;
  }
}

}  // namespace

void convolution(Table& t) {
  t.conv2d = [](const Conv2d& c, const void* x, const void* w, const void* bias, void* y) {
    visit_real("conv2d", c.dtype, [&](auto zero) {
      using T = decltype(zero);
      if (!by_cudnn(Convolution::forward, c, c.w_stride != 0, x, w, y))
        Products<T>(c).forward(static_cast<const T*>(x), static_cast<const T*>(w), static_cast<T*>(y));
      if (bias) add_bias(c, static_cast<const Computed<T>*>(bias), static_cast<T*>(y));
    });
  };
  t.conv2d_backward_data = [](const Conv2d& c, const void* dy, const void* w, void* dx) {
    visit_real("conv2d", c.dtype, [&](auto zero) {
      using T = decltype(zero);
      if (!by_cudnn(Convolution::backward_data, c, c.w_stride != 0, dx, w, dy))
        Products<T>(c).backward_data(static_cast<const T*>(dy), static_cast<const T*>(w),
                                     static_cast<T*>(dx));
    });
  };
  t.conv2d_backward_filter = [](const Conv2d& c, const void* x, const void* dy, void* dw, bool per_replica) {
    visit_real("conv2d", c.dtype, [&](auto zero) {
      using T = decltype(zero);
      const auto *from = static_cast<const T*>(x), *gradient = static_cast<const T*>(dy);
      auto* to = static_cast<Computed<T>*>(dw);
      if (!filter_gradient_by_cudnn(c, from, gradient, to, per_replica))
        Products<T>(c).backward_filter(from, gradient, to, per_replica);
    });
  };
}

}  // namespace lpf::cuda
