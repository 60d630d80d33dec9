// The precision of products, by name: float32; tf32, float32 with operands rounded to 10 bits of mantissa;
// bfloat16, mixed precision by autocast(). The latter two need CUDA.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "lpf/autograd/autocast.hpp"
#include "lpf/backend/cuda/options.hpp"

namespace lpf {

inline const std::vector<std::string> precisions{"float32", "tf32", "bfloat16"};

/// Sets the precision of products until the end of the scope, on this thread (TF32: on all threads).
/// @throws ValueError for a name that is not in `precisions`, or one that the
/// default device does not support.
class Precision {
 public:
  explicit Precision(const std::string& name)
      : autocast_(checked(name) == "bfloat16" ? bfloat16 : float32),
        tf32_before_(cuda::options.tf32.exchange(name == "tf32")) {}
  ~Precision() { cuda::options.tf32 = tf32_before_; }
  Precision(const Precision&) = delete;
  Precision& operator=(const Precision&) = delete;

 private:
  static const std::string& checked(const std::string& name) {
    check(std::find(precisions.begin(), precisions.end(), name) != precisions.end(), "precision", "'", name,
          "' is none of float32, tf32 and bfloat16");
    check(name == "float32" || !default_device().is_cpu(), "precision", "--precision ", name,
          " needs a GPU: add --device cuda");
    return name;
  }

  Autocast autocast_;
  bool tf32_before_;
};

}  // namespace lpf
