// Mixed precision on CUDA: products in bfloat16, all sums in float32.
//
//   {
//     const auto scope = autocast();
//     loss = cross_entropy(net(x), y);
//   }
//   loss.backward();
//
// Parameters, their gradients and the optimizer's state stay float32. While a scope is open on this thread:
//
//   linear, matmul, conv1d, conv2d     in bfloat16: float32 operands are rounded, the bias when it is added
//   batch norm                         either dtype; statistics, scale and shift are float32
//   activations, pooling, dropout,     in the dtype of the operands; mixed bfloat16 and float32 operands
//   arithmetic, rearranging            become float32
//   softmax, losses, layer norm,       in float32: bfloat16 operands are converted
//   group norm, RMS norm, sums and
//   means, exp, log, pow, …
//
// float64 is unchanged. Backward uses the dtypes of forward, whether or not a scope is open.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "lpf/autograd/node.hpp"
#include "lpf/core/os.hpp"

namespace lpf {

namespace detail {

inline thread_local bool autocasting = false;
inline thread_local int autocast_depth = 0;

/// A parameter and its bfloat16 copy.
struct RoundedLeaf {
  Tensor leaf;
  std::shared_ptr<Node> node;  // of the leaf, which accumulates the gradient
  std::uint64_t version;       // of its storage
  Tensor rounded;
};
/// One copy per parameter and pass.
inline std::vector<RoundedLeaf>& rounded_leaves() { return os::of_thread<std::vector<RoundedLeaf>>(); }

}  // namespace detail

/// True if products on this thread are computed in bfloat16.
inline bool is_autocast_enabled() { return detail::autocasting; }

/// Sets the dtype of products on this thread until the end of the scope.
class Autocast {
 public:
  explicit Autocast(DType dtype) : before_(detail::autocasting) {
    check<DTypeError>(dtype == bfloat16 || dtype == float32, "autocast",
                      "goes to bfloat16, or float32 for none, not to ", name_of(dtype));
    detail::autocasting = dtype == bfloat16;
    ++detail::autocast_depth;
  }
  ~Autocast() {
    detail::autocasting = before_;
    if (--detail::autocast_depth == 0) detail::rounded_leaves().clear();
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool before_;
};

/// `auto scope = autocast();` enables mixed precision until the end of the block;
/// autocast(float32) disables it.
/// @throws DTypeError for another dtype. Inside the scope, an operation that would round a
/// CPU tensor throws DeviceError.
[[nodiscard]] inline Autocast autocast(DType dtype = bfloat16) { return Autocast(dtype); }

namespace detail {

/// How autocast() converts the float32 and bfloat16 operands of an operation.
enum class CastRule {
  to_bfloat16,  ///< products: float32 operands are rounded
  /// sums, and functions that amplify errors of x: bfloat16 operands are converted
  to_float32,
  to_widest  ///< mixed operands become float32
};

/// The rule of each operation that has one (the table at the head of this file);
/// others keep their operands' dtype.
struct CastEntry {
  std::string_view operation;
  CastRule rule;
};
inline constexpr CastEntry cast_table[] = {{"linear", CastRule::to_bfloat16},
                                           {"matmul", CastRule::to_bfloat16},
                                           {"conv2d", CastRule::to_bfloat16},
                                           {"conv1d", CastRule::to_bfloat16},
                                           {"softmax", CastRule::to_float32},
                                           {"layer_norm", CastRule::to_float32},
                                           {"group_norm", CastRule::to_float32},
                                           {"rms_norm", CastRule::to_float32},
                                           {"cross_entropy", CastRule::to_float32},
                                           {"nll_loss", CastRule::to_float32},
                                           {"mse_loss", CastRule::to_float32},
                                           {"l1_loss", CastRule::to_float32},
                                           {"smooth_l1_loss", CastRule::to_float32},
                                           {"bce_with_logits", CastRule::to_float32},
                                           {"kl_div", CastRule::to_float32},
                                           {"sensitive function", CastRule::to_float32},
                                           {"add", CastRule::to_widest},
                                           {"sub", CastRule::to_widest},
                                           {"mul", CastRule::to_widest},
                                           {"div", CastRule::to_widest},
                                           {"remainder", CastRule::to_widest},
                                           {"maximum", CastRule::to_widest},
                                           {"minimum", CastRule::to_widest},
                                           {"where", CastRule::to_widest},
                                           {"clamp", CastRule::to_widest},
                                           {"scatter", CastRule::to_widest},
                                           {"scatter_add", CastRule::to_widest},
                                           {"index_add", CastRule::to_widest},
                                           {"comparison", CastRule::to_widest},
                                           {"concatenate", CastRule::to_widest},
                                           {"batch_norm residual", CastRule::to_widest}};
/// The "sensitive functions", which are those of PyTorch's autocast list.
constexpr bool is_sensitive(backend::Unary f) {
  using enum backend::Unary;
  return f == exp || f == expm1 || f == log || f == log1p || f == power || f == reciprocal || f == rsqrt ||
         f == softplus;
}

/// The name of an operation in the table, looked up at compile time.
struct CastName {
  const char* name;
  CastRule rule{};
  consteval CastName(const char* operation)
      : name(operation) {  // NOLINT: implicit: cast_operands("linear", x, w)
    const auto* entry = cast_table;
    while (entry->operation != operation) ++entry;  // an unknown name does not compile
    rule = entry->rule;
  }
};

/// bfloat16 converted to float32; other dtypes unchanged.
inline Tensor to_float32(const Tensor& t) { return t.defined() && t.dtype() == bfloat16 ? t.to(float32) : t; }
/// The dtype in which elements of dtype t are summed.
inline DType accumulation_dtype(DType t) { return t == bfloat16 ? float32 : t; }
inline TensorOptions accumulation_options(const Tensor& t) {
  return {accumulation_dtype(t.dtype()), t.device()};
}

/// A bfloat16 copy of a parameter. Its gradient may be accumulated directly in the parameter's buffer.
LPF_ONCE Tensor rounded_leaf(const Tensor& leaf) {
  const std::uint64_t version = leaf.impl().storage->version();
  auto& all = rounded_leaves();
  std::size_t i = 0;
  while (i < all.size() && !all[i].leaf.is_same(leaf)) ++i;
  if (i < all.size() && all[i].version == version && all[i].node == leaf.node()) {
    const Tensor& t = all[i].rounded;
    if (!grad_enabled || (t.requires_grad() && !t.node()->released())) return t;
  }
  Tensor t = leaf.to(bfloat16);
  if (t.node()) static_cast<FunctionNode&>(*t.node()).set_grad_sink(leaf.node()->grad_sink());
  if (i == all.size()) all.emplace_back();
  all[i] = {leaf, leaf.node(), version, t};
  return t;
}

/// float32 rounded to bfloat16; other dtypes unchanged. DeviceError on the CPU.
LPF_ONCE Tensor to_bfloat16(const char* operation, const Tensor& t) {
  if (!t.defined() || t.dtype() != float32) return t;
  check<DeviceError>(!t.device().is_cpu(), operation,
                     "autocast() computes in bfloat16 on CUDA, and a tensor of shape ", t.shape(),
                     " is on the CPU: move it with .to(Device::cuda()), or end the scope");
  return t.requires_grad() && t.is_leaf() ? rounded_leaf(t) : t.to(bfloat16);
}

/// True if autocast() converts one of these operands. b may be undefined.
inline bool is_cast(CastName operation, const Tensor& a, const Tensor& b = {}) {
  if (!autocasting) [[likely]]
    return false;
  const auto any = [&](DType dtype) { return a.dtype() == dtype || (b.defined() && b.dtype() == dtype); };
  switch (operation.rule) {
    case CastRule::to_bfloat16: return any(float32);
    case CastRule::to_float32: return any(bfloat16);
    default: return any(bfloat16) && any(float32);
  }
}

/// The converted operands; undefined if none needs conversion.
struct CastOperands {
  Tensor a, b;
  explicit operator bool() const { return a.defined(); }
};
/// Called first in an operation, which then calls itself with the converted operands:
///   if (const auto cast = cast_operands("add", a, b)) return add(cast.a, cast.b);
inline CastOperands cast_operands(CastName operation, const Tensor& a, const Tensor& b = {}) {
  if (!is_cast(operation, a, b)) [[likely]]
    return {};
  if (operation.rule == CastRule::to_bfloat16)
    return {to_bfloat16(operation.name, a), to_bfloat16(operation.name, b)};
  return {to_float32(a), to_float32(b)};
}

/// True if a parameter is rounded to bfloat16 when a product reads it.
inline bool autocasts_product(const Tensor& parameter) {
  return autocasting && parameter.dtype() == float32 && !parameter.device().is_cpu();
}
/// A parameter in the dtype that operations on this thread expect: if autocast()
/// has since ended, back in float32.
inline Tensor as_operand(const Tensor& parameter) { return autocasting ? parameter : to_float32(parameter); }

/// Checks per-channel arrays (bias, scale, statistics): x's dtype, or float32 where x is bfloat16.
LPF_ONCE void check_accumulation_kind(const char* operation, const Tensor& x, const Tensor& t) {
  const DType wanted = accumulation_dtype(x.dtype());
  check<DTypeError>(t.dtype() == wanted, operation, "the input is ", name_of(x.dtype()), ", which goes with ",
                    name_of(wanted), ", not with ", name_of(t.dtype()), ": convert with .to(dtype)");
  check<DeviceError>(x.device() == t.device(), operation, "operands are on ", x.device(), " and ", t.device(),
                     ": move one with .to(device)");
}

}  // namespace detail

}  // namespace lpf
