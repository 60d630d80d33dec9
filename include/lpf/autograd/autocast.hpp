// Mixed precision on CUDA: products in bfloat16, everything that sums in float32.
//
//   {
//     const auto scope = autocast();
//     loss = cross_entropy(net(x), y);
//   }
//   loss.backward();
//
// Parameters, their gradients and the optimizer's state stay float32. While a scope is open on this thread:
//
//   linear, matmul, conv2d             in bfloat16: float32 operands are rounded to it, a bias as it is added
//   batch norm                         takes either; statistics, scale and shift are float32
//   activations, pooling, dropout,     in what they get; where bfloat16 meets float32 both become float32
//   arithmetic, rearranging
//   softmax, losses, layer norm, sums  in float32: bfloat16 operands are converted
//   and means, exp, log, pow, …
//
// float64 is left alone. Backward follows what forward did, in a scope or after it.
#pragma once

#include <utility>
#include <vector>

#include "lpf/autograd/node.hpp"

namespace lpf {

namespace detail {

inline thread_local bool autocasting = false;
inline thread_local int autocast_depth = 0;

/// A parameter and what it was rounded to.
struct RoundedLeaf {
  Tensor leaf;
  std::shared_ptr<Node> node;  // the leaf's, which collects its gradient
  std::uint64_t version;       // of its storage
  Tensor rounded;
};
/// Each parameter is rounded once a pass.
inline std::vector<RoundedLeaf>& rounded_leaves() {
  thread_local std::vector<RoundedLeaf> all;
  return all;
}

}  // namespace detail

/// Whether products on this thread are in bfloat16.
inline bool is_autocast_enabled() { return detail::autocasting; }

/// Sets the type of products on this thread, until the end of the block.
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

/// auto scope = autocast();  — mixed precision until the end of the block; autocast(float32) within it: none.
/// @throws DTypeError for another type. An operation on CPU tensors that it would round is a DeviceError.
[[nodiscard]] inline Autocast autocast(DType dtype = bfloat16) { return Autocast(dtype); }

namespace detail {

/// Whether autocast rounds this operand of a product.
inline bool is_rounded(const Tensor& t) { return autocasting && t.dtype() == float32; }
/// Whether autocast converts this operand of a sum.
inline bool is_widened(const Tensor& t) { return autocasting && t.dtype() == bfloat16; }
/// Whether autocast converts one of two operands, so that both are float32.
inline bool is_mixed(const Tensor& a, const Tensor& b) {
  return autocasting &&
         ((a.dtype() == bfloat16 && b.dtype() == float32) || (a.dtype() == float32 && b.dtype() == bfloat16));
}

/// bfloat16 as float32; what is something else as it is.
inline Tensor widened(const Tensor& t) { return t.defined() && t.dtype() == bfloat16 ? t.to(float32) : t; }
/// The dtype of sums of elements.
inline DType dtype_of_sum(DType t) { return t == bfloat16 ? float32 : t; }
inline TensorOptions options_of_sum(const Tensor& t) { return {dtype_of_sum(t.dtype()), t.device()}; }

/// A parameter as bfloat16. Its gradient may be written where the parameter's is collected.
LPF_ONCE inline Tensor rounded_leaf(const Tensor& leaf) {
  const std::uint64_t version = leaf.impl().storage->version();
  auto& all = rounded_leaves();
  std::size_t i = 0;
  while (i < all.size() && !all[i].leaf.is_same(leaf)) ++i;
  if (i < all.size() && all[i].version == version && all[i].node == leaf.node()) {
    const Tensor& t = all[i].rounded;
    if (!grad_enabled || (t.requires_grad() && !t.node()->released())) return t;
  }
  Tensor t = leaf.to(bfloat16);
  if (t.node()) static_cast<FunctionNode&>(*t.node()).set_straight_to(leaf.node()->straight_to());
  if (i == all.size()) all.emplace_back();
  all[i] = {leaf, leaf.node(), version, t};
  return t;
}

/// An operand of a product under autocast. DeviceError on the CPU.
LPF_ONCE inline Tensor rounded(const char* operation, const Tensor& t) {
  if (!is_rounded(t)) return t;
  check<DeviceError>(!t.device().is_cpu(), operation,
                     "autocast() computes in bfloat16 on CUDA, and a tensor ", "of shape ", t.shape(),
                     " is on the CPU: move it with .to(Device::cuda()), or end the ", "scope");
  return t.requires_grad() && t.is_leaf() ? rounded_leaf(t) : t.to(bfloat16);
}

/// Of the channels' arrays (bias, scale, statistics): x's dtype, or float32 where x is bfloat16.
LPF_ONCE inline void check_kind_of_sum(const char* operation, const Tensor& x, const Tensor& t) {
  const DType wanted = dtype_of_sum(x.dtype());
  check<DTypeError>(t.dtype() == wanted, operation, "the input is ", name_of(x.dtype()), ", which goes with ",
                    name_of(wanted), ", not with ", name_of(t.dtype()), ": convert with .to(dtype)");
  check<DeviceError>(x.device() == t.device(), operation, "operands are on ", x.device(), " and ", t.device(),
                     ": move one with .to(device)");
}

}  // namespace detail

}  // namespace lpf
