// The contract between the library and a backend: a versioned table of plain functions over raw pointers.
// Everything above it (operations, layers, optimizers, the filter) is written once. No type here depends on a
// macro or an instruction set, so a backend may be compiled apart from its user. Arguments are checked by the
// caller: a backend validates nothing. All arrays are row-major; activations are channels last. Functions for
// a device queue work and return.
//
// bfloat16, on CUDA: elements are computed in float and rounded once, when written. Sums, and arrays smaller
// than the activations (bias, statistics, scale and shift, gradients of weights), are float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lpf/backend/problems.hpp"

namespace lpf::backend {

inline constexpr std::uint32_t contract_version = 8;

/// A scalar of the current training step, such as a learning rate. In a captured step kernels read it
/// from device memory at `at`, where each replay writes its own; `value` is that of the current step.
/// `at` is null on the CPU.
struct StepScalar {
  double value = 0;
  const double* at = nullptr;

  constexpr StepScalar() = default;
  constexpr StepScalar(double number) : value(number) {}  // NOLINT: implicit: a constant
  LPF_HD constexpr double now() const { return at ? *at : value; }
};

using Changing [[deprecated("use StepScalar")]] = StepScalar;

/// A strided array of up to eight axes; strides in elements, 0 where an axis is broadcast. Views that are only
/// read by assign() may have negative strides; `data` is the element with all indices 0.
struct View {
  void* data;
  DType dtype;
  int rank;
  std::int64_t shape[8];
  std::int64_t stride[8];
};

/// y = f(x; a, b), elementwise. `affine` is a·x + b, `power` x^a, `clamp` min(max(x, a), b). Integers wrap on
/// overflow.
enum class Unary : int {
  affine,
  negative,
  absolute,
  sign,
  square,
  sqrt,
  rsqrt,
  reciprocal,
  exp,
  expm1,
  log,
  log1p,
  sin,
  cos,
  tanh,
  sigmoid,
  erf,
  power,
  clamp,
  floor,
  ceil,
  round,
  relu,
  leaky_relu,
  elu,
  gelu,
  gelu_tanh,
  silu,
  softplus,
  logical_not,
  is_finite,
  is_nan
};

/// y = f(a, b), elementwise with broadcasting. Comparisons write bool. The `*_backward` take (gradient, x
/// or y) and the forward operation's constant as `alpha`; each exists to do in one sweep over memory what
/// would take several.
enum class Binary : int {
  add,
  subtract,
  multiply,
  divide,
  power,
  maximum,
  minimum,
  remainder,
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  logical_and,
  logical_or,
  logical_xor,
  relu_backward,        // x ≤ 0 ? 0 : g
  leaky_relu_backward,  // g·(x > 0 ? 1 : alpha)
  tanh_backward,        // g·(1 − y²)
  sigmoid_backward,     // g·y·(1 − y)
  gelu_backward,
  gelu_tanh_backward,
  silu_backward,
  elu_backward
};

enum class Reduce : int { sum, product, max, min, any, all, argmax, argmin };

struct Replicas;

/// Row-major product C = alpha·op(A)·op(B) + beta·C, `batch` times with strides between consecutive operands.
/// op(A) is m×k, op(B) k×n; lda, ldb, ldc are the row strides of the arrays as stored.
struct Gemm {
  DType dtype;
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  std::int64_t lda = 0, stride_a = 0;
  const void* b = nullptr;
  std::int64_t ldb = 0, stride_b = 0;
  void* c = nullptr;
  std::int64_t ldc = 0, stride_c = 0;
  std::int64_t batch = 1;
  double alpha = 1, beta = 0;
  DType dtype_c = dtype;  // of C; may be float32 for a product of bfloat16
  // Not null, for Table::gemm_replicas: B is the replicas first_replica … first_replica + batch − 1 of a
  // weight, drawn within the product; b and stride_b are unused.
  const Replicas* replicas = nullptr;
  std::int64_t first_replica = 0;
};

/// A parameter as `rows` filters of `length` elements, at `offset` elements into θ; its standard deviations
/// are scale[first_scale + row]. `inputs`, of its last axis, divides the length: element e of a row reads
/// input e % inputs.
struct Segment {
  std::int64_t offset, rows, length, first_scale;
  std::uint32_t parameter;
  std::int64_t inputs = 1;
};

/// Filters whose norms are converted to standard deviations: that of row r is written to scale[first_scale +
/// r·copies … + copies).
struct NormSegment {
  std::int64_t offset, rows, length, first_scale, copies;
  double floor;
};

/// `count` recomputed replicas of a parameter: θ_r = θ + scale ⊙ ε(draw, r), paired as in Table::perturb.
/// `theta` starts at the parameter (the segment's offset is 0); `scale` is that of all parameters.
/// With `noise`, also of the parameter alone, θ_r = θ + a_r b_rᵀ ⊙ noise, `signs` as of Table::draw_signs.
struct Replicas {
  std::int64_t count;
  Segment segment;
  NoiseKey key;
  const void* theta;
  const void* scale;
  bool antithetic;
  const void* noise = nullptr;
  const void* signs = nullptr;
};

struct SGDStep {
  StepScalar lr;
  double momentum, dampening, weight_decay;
  bool nesterov, first;  // first: the first step of all
};
using SgdStep [[deprecated("use SGDStep")]] = SGDStep;

struct AdamStep {
  double beta1, beta2, epsilon;
  double weight_decay;    // λ of λθ in the gradient; 0 for AdamW, which shrinks θ
  StepScalar step, root;  // η/(1 − β₁ᵗ), 1/√(1 − β₂ᵗ)
  StepScalar shrink;      // factor of θ: 1 − ηλ for AdamW, 1 for Adam
  bool amsgrad;
};

struct MemoryStats {
  std::size_t in_use, peak, cached;  // bytes: allocated now, maximum since reset, cached for reuse
  std::uint64_t system_allocations;  // allocations from the system since start
};

struct Table {
  std::uint32_t version;
  const char* name;

  // Memory. copy() is device to device; the others copy to or from the host and return when done.
  void* (*allocate)(std::size_t bytes);
  void (*deallocate)(void* p, std::size_t bytes);
  void (*copy)(void* to, const void* from, std::size_t bytes);
  void (*copy_from_host)(void* to, const void* from, std::size_t bytes);
  void (*copy_to_host)(void* to, const void* from, std::size_t bytes);
  void (*synchronize)();
  int (*max_threads)();
  MemoryStats (*memory_stats)();
  void (*reset_peak)();
  void (*release_cache)();

  // Asynchronous copies of page-locked host memory; null where there are none. copy_beside() starts after all
  // work already queued and returns the copy's number: numbers increase, and copies are made in order.
  void* (*allocate_pinned)(std::size_t bytes);
  void (*deallocate_pinned)(void* p, std::size_t bytes);
  std::uint64_t (*copy_beside)(void* to, const void* from, std::size_t bytes);
  void (*queue_after)(std::uint64_t copy);  // later work waits for that copy; 0: none
  void (*wait_for)(std::uint64_t copy);     // returns when it is done and `from` may change

  // A captured step; null on the CPU. After begin_capture() the work that this thread queues is recorded, not
  // run. end_capture() returns it as a graph, which launch() queues as a whole, any number of times. Memory
  // allocated in between belongs to the graph. Waiting for the device or copying from the host in between is
  // a StateError, after which the capture can still be ended.
  void (*begin_capture)();
  void* (*end_capture)();
  void (*launch)(void* graph);
  void (*destroy_graph)(void* graph);
  // Whole 8-byte words of host memory, in queue order; `from` may change on return.
  void (*upload)(void* to, const void* from, std::size_t bytes);

  // Elementwise and layout. y is contiguous except in assign().
  void (*fill)(void* y, DType, std::int64_t n, double value);
  void (*unary)(Unary, DType, std::int64_t n, const void* x, void* y, double a, double b);
  void (*binary)(Binary, const View& a, const View& b, const View& y, double alpha);
  void (*where)(const View& condition, const View& a, const View& b, const View& y);
  // y = x, any strides, converted. Integers wrap; a floating number becomes the nearest one that an integer
  // type has, and NaN 0; to bool x != 0
  void (*assign)(const View& y, const View& x);
  void (*accumulate)(DType, std::int64_t n, double a, const void* x, void* y);  // y += a·x

  // Reductions of x [outer, n, inner] over the middle; argmax and argmin write int64, the sum of
  // bfloat16 writes float32.
  void (*reduce)(Reduce, DType, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x,
                 void* y);
  double (*dot)(DType, std::int64_t n, const void* x, const void* y);  // in double; waits for the device
  // norm[0] = ‖v‖₂ and y = base + x·min(limit, a/(‖v‖₂ + epsilon)), norm and factor in double up to the last
  // rounding; if the norm is NaN, so is all of y. base may be null: 0. norm may be null, y may be x.
  void (*rescale)(DType, std::int64_t n, double a, double epsilon, double limit, const void* v, const void* x,
                  const void* base, void* y, void* norm);

  // Indexing. x [outer, n, inner]; index in [0, n), checked by the caller.
  void (*take)(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t count,
               const void* x, const std::int64_t* index,
               void* y);  // y [outer, count, inner] = x[:, index, :]
  void (*index_add)(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t count,
                    const void* y, const std::int64_t* index,
                    void* x);  // x[:, index, :] += y, in index order
  void (*gather)(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m, const void* x,
                 const std::int64_t* index, void* y);  // y[o, j, i] = x[o, index[o, j, i], i]
  void (*scatter_add)(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m,
                      const void* y, const std::int64_t* index, void* x);
  // x[o, index[o, j, i], i] = y[o, j, i]: of several with one index the last j
  void (*scatter)(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t m,
                  const void* y, const std::int64_t* index, void* x);

  // Scans and order of x [outer, n, inner] along the middle.
  // y[o, j, i] = x[o, 0, i] + … + x[o, j, i], or with `reverse` the sum from j to the end. Floating types are
  // summed in double, int64 modulo 2^64; y may be x.
  void (*cumsum)(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, const void* x, void* y,
                 bool reverse);
  // index [outer, k, inner]: the places of the k largest (smallest) elements in descending (ascending) order,
  // equal ones by their place. NaN is larger than any number, −0 equals 0. k ≤ n.
  void (*topk)(DType, std::int64_t outer, std::int64_t n, std::int64_t inner, std::int64_t k, bool largest,
               const void* x, std::int64_t* index);

  // Products.
  void (*gemm)(const Gemm&);
  void (*conv2d)(const Conv2d&, const void* x, const void* w, const void* bias, void* y);
  void (*conv2d_backward_data)(const Conv2d&, const void* dy, const void* w, void* dx);
  // dw [K, kh, kw, C/groups] over all samples or, if per_replica, [replicas, …], one per slice
  void (*conv2d_backward_filter)(const Conv2d&, const void* x, const void* dy, void* dw, bool per_replica);

  // Pooling; `index` holds h·W + w of the maximum within its plane.
  void (*max_pool2d)(const Pool2d&, const void* x, void* y, std::int64_t* index);
  void (*max_pool2d_backward)(const Pool2d&, const void* dy, const std::int64_t* index, void* dx);
  void (*avg_pool2d)(const Pool2d&, const void* x, void* y);
  void (*avg_pool2d_backward)(const Pool2d&, const void* dy, void* dx);

  // Normalisation; mean, rest and rstd [groups, channels]. The mean is mean + rest: `rest` is what rounding
  // to the type left of it, so that x less a large mean keeps its digits; null: 0. The variance is the biased
  // one.
  void (*batch_norm_statistics)(const BatchNorm&, const void* x, void* mean, void* rest, void* variance);
  // y = f((x − mean)·rstd·weight + bias + residual): residual may be null, f is max(·, 0) if relu
  void (*batch_norm)(const BatchNorm&, const void* x, const void* mean, const void* rest, const void* rstd,
                     const void* weight, const void* bias, const void* residual, bool relu, void* y);
  // dx of the normalisation with its statistics; dweight, dbias [groups, channels] (not summed over groups).
  // y, of a batch_norm() with relu: dy is masked where y ≤ 0, and so written to dresidual unless that is null
  void (*batch_norm_backward)(const BatchNorm&, const void* x, const void* y, const void* dy,
                              const void* mean, const void* rest, const void* rstd, const void* weight,
                              void* dx, void* dweight, void* dbias, void* dresidual);
  // y[c] = keep·y[c] + Σ_r weight[r]·x[r, c] for x [rows, channels]: running statistics; weight on the host
  void (*weighted_rows)(DType, std::int64_t rows, std::int64_t channels, double keep, const double* weight,
                        const void* x, void* y);
  void (*layer_norm)(DType, std::int64_t rows, std::int64_t n, double epsilon, const void* x,
                     const void* weight, const void* bias, void* y, void* mean, void* rest, void* rstd);
  void (*layer_norm_backward)(DType, std::int64_t rows, std::int64_t n, const void* x, const void* dy,
                              const void* mean, const void* rest, const void* rstd, const void* weight,
                              void* dx, void* dweight, void* dbias);

  // Rows [rows, n].
  void (*softmax)(DType, std::int64_t rows, std::int64_t n, bool logarithm, const void* x, void* y);
  void (*softmax_backward)(DType, std::int64_t rows, std::int64_t n, bool logarithm, const void* y,
                           const void* dy, void* dx);
  // loss[row] = −Σ_k q_k log softmax(x)_k, q = (1 − smoothing)·onehot(target) + smoothing/n; 0 for ignored
  // rows. normalizer [rows, 2] is for backward: max x and log Σ exp(x − max x), 0 in ignored rows; their sum
  // would lose digits to a common offset of the logits.
  void (*cross_entropy)(DType, std::int64_t rows, std::int64_t n, double smoothing, std::int64_t ignore_index,
                        const void* x, const std::int64_t* target, void* loss, void* normalizer);
  void (*cross_entropy_backward)(DType, std::int64_t rows, std::int64_t n, double smoothing,
                                 std::int64_t ignore_index, const void* x, const std::int64_t* target,
                                 const void* normalizer, const void* dloss, void* dx);

  // Random numbers: element i of the stream does not depend on the device, the threads or the chunks. `first`
  // is the index in the stream of y's first element.
  void (*normal)(DType, const NoiseKey&, std::int64_t first, std::int64_t n, void* y);
  void (*uniform)(DType, const NoiseKey&, std::int64_t first, std::int64_t n, void* y);  // [0, 1)
  // y = x/(1 − p) for elements kept by the stream, 0 elsewhere
  void (*dropout)(DType, const NoiseKey&, std::int64_t first, std::int64_t n, double p, const void* x,
                  void* y);

  // Vectors: whole parameter stores at once.
  // scale = factor·(‖row of θ‖₂ + floor) for each row of the segments
  void (*filter_norms)(DType, const NormSegment*, std::int64_t segments, const void* theta, StepScalar factor,
                       void* scale);
  // θ_r = θ + scale ⊙ ε(draw, r) over the segments, rounded to dtype_out (θ's, or bfloat16 of float32). The
  // replicas of a segment are contiguous, replica r at out + place[segment] + r·rows·length, of stream
  // key.replica + r. antithetic: replicas 2j and 2j+1 share stream key.replica + j with opposite signs. theta may
  // be null: 0.
  void (*perturb)(DType, const Segment*, const std::int64_t* place, std::int64_t segments, const NoiseKey&,
                  const void* theta, const void* scale, std::int64_t replicas, bool antithetic,
                  DType dtype_out, void* out);
  // d = g + λθ; v ← μv + (1 − dampening)·d, in the first step v ← d; θ ← θ − lr·(d + μv) if nesterov, else
  // θ ← θ − lr·v. With momentum μ = 0: θ ← θ − lr·d, and velocity is not used.
  void (*sgd)(DType, std::int64_t n, const SGDStep&, const void* gradient, void* velocity, void* theta);
  // d = g + λθ; m ← β₁m + (1 − β₁)d; v ← β₂v + (1 − β₂)d²; v_max ← max(v_max, v) where it is not null;
  // θ ← shrink·θ − step·m/(√u·root + epsilon), u = v_max or v.
  void (*adam)(DType, std::int64_t n, const AdamStep&, const void* gradient, void* m, void* v, void* v_max,
               void* theta);

  // Noise of pre-activations. With t = √(‖x_b‖²σ_k² + σ_β²) and ξ the stream from element `first` on, for x
  // [rows, in]: noise[b, k] = t·ξ and slope[b, k] = σ_k²·ξ/t, 0 where t = 0, so that ∂noise/∂x_b = slope·x_b.
  // sigma [out] or null: 0. slope may be null.
  void (*pre_activation_noise)(DType, std::int64_t rows, std::int64_t in, std::int64_t out, const NoiseKey&,
                               std::int64_t first, const void* x, const void* sigma, const void* sigma_bias,
                               void* noise, void* slope);

  // Flipout. For each replica r of a segment a sign ±1 of every row, a_r, then one of every input, b_r: [replicas]
  // [rows + inputs] at out + place[segment]. The i-th is −1 where bit i % 32 of word i / 32 of stream
  // key.replica + r of the parameter is set. mirrored: replicas 2j and 2j+1 share stream key.replica + j, and
  // a_2j+1 = −a_2j.
  void (*draw_signs)(DType, const Segment*, const std::int64_t* place, std::int64_t segments, const NoiseKey&,
                     std::int64_t replicas, bool mirrored, void* out);
  // θ_r = θ + a_r b_rᵀ ⊙ noise over the segments, rounded and placed as by perturb(); noise has the offsets of θ,
  // and a segment's signs are at signs + sign_place[segment].
  void (*flip)(DType, const Segment*, const std::int64_t* place, const std::int64_t* sign_place,
               std::int64_t segments, const void* theta, const void* noise, const void* signs,
               std::int64_t replicas, DType dtype_out, void* out);

  // gemm() with Gemm::replicas, a weight of [rows, length]: with transpose_b n = rows and k = length,
  // otherwise k = rows and n = length. May be null: the replicas are then drawn whole, by perturb().
  void (*gemm_replicas)(const Gemm&);

  // statistics [batch, heads, queries, 2] is for backward: the largest score of each query and 1/Σ exp(score − largest),
  // both 0 for a query that attends to nothing, whose y is 0. dq, dk and dv may be null. Both functions may be null:
  // attention is then composed.
  void (*attention)(const Attention&, const void* q, const void* k, const void* v, void* y, void* statistics);
  void (*attention_backward)(const Attention&, const void* q, const void* k, const void* v, const void* y,
                             const void* statistics, const void* dy, void* dq, void* dk, void* dv);
};

}  // namespace lpf::backend
