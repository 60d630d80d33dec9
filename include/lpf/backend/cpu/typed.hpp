// Kernels by element type. Arithmetic is compiled once for each type in use: float and int64 always, narrower
// integers through int64, double if a program includes lpf/float64.hpp (lpf/lpf.hpp does).
#pragma once

#include <type_traits>

#include "lpf/backend/registry.hpp"
#include "lpf/core/error.hpp"

namespace lpf::backend::cpu {
inline namespace LPF_ISA {

/// The dtype of a call: its first DType, or that of its first argument with a dtype.
template <class First, class... Rest>
DType dtype_of_call(const First& first, const Rest&... rest) {
  if constexpr (std::is_same_v<First, DType>) {
    return first;
  } else if constexpr (requires { first.dtype; }) {
    return first.dtype;
  } else {
    return dtype_of_call(rest...);
  }
}

[[noreturn, gnu::cold, gnu::noinline]] inline void no_kernel(DType type) {
  if (type == DType::float64)
    fail<DTypeError>("float64", "this program is built from headers without float64 arithmetic: ",
                     "#include <lpf/float64.hpp> or <lpf/lpf.hpp>, or link lpf::compiled");
  if (type == DType::bfloat16)
    fail<DTypeError>("bfloat16", "the CPU stores and converts it but does not compute with it, CUDA does: ",
                     "convert with .to(float32)");
  lpf::detail::refuse_dtype("kernel", type);
}

/// An entry of the CPU's table that dispatches on the dtype of the arguments.
template <auto entry>
struct ByType;
template <class R, class... Arguments, R (*Table::*entry)(Arguments...)>
struct ByType<entry> {
  static R call(Arguments... arguments) {
    const DType type = dtype_of_call(arguments...);
    const auto kernel = cpu_typed_table(type).*entry;
    if (!kernel) [[unlikely]]
      no_kernel(type);
    return kernel(arguments...);
  }
};

}  // namespace LPF_ISA
}  // namespace lpf::backend::cpu
