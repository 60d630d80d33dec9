// How a program's products are computed, by name: float32; tf32, the same with operands rounded to 10 bits of
// mantissa; bfloat16, mixed precision by autocast(). The latter two are CUDA's.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "lpf/autograd/autocast.hpp"
#include "lpf/backend/cuda/options.hpp"

namespace lpf {

inline const std::vector<std::string> precisions{"float32", "tf32", "bfloat16"};

/// Until the end of the scope this thread's products are of a precision (TF32: all threads').
/// @throws ValueError for a name that is not in `precisions`, or one that the default device does not have.
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
