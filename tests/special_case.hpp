// The cases of tests/fixtures/special.safetensors: PyTorch's values and gradients on numbers at the edges of
// the types. make_special_fixtures.py, which writes the file, describes its tensors.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tensor_test.hpp"

namespace lpf::test {

/// One case: an operation in one type.
class SpecialCase {
 public:
  /// All cases of the file.
  static const std::vector<SpecialCase>& all();

  const std::string& op() const { return op_; }
  const std::string& name() const { return name_; }  ///< "op/dtype"
  bool contains(const std::string& tensor) const { return tensors_.contains(tensor); }
  const Tensor& at(const std::string& tensor) const;
  /// What LPF gives on purpose where that differs from PyTorch's, otherwise PyTorch's; undefined if neither
  /// is there.
  Tensor expected(const std::string& tensor) const;
  /// The inputs by name.
  std::map<std::string, Tensor> inputs() const;

 private:
  std::string name_, op_;
  std::map<std::string, Tensor> tensors_;
};

using SpecialFunction = std::function<Tensor(const std::map<std::string, Tensor>&)>;

/// Empty if `found` has the dtype, the shape and the numbers of `expected`: NaN, ±∞ and integers exactly, the
/// sign of zeros if `signed_zeros`, other numbers to `ulps` units in the last place: of the expected number,
/// or if that is larger of `terms` (may be undefined), the size of the terms that it is the sum of, or of the
/// smallest normal number. Otherwise a description of the first differences.
std::string wrong_numbers(const Tensor& found, const Tensor& expected, double ulps, bool signed_zeros,
                          const Tensor& terms = {});

/// Compares y = f(inputs) and the gradients, fused and composed, with those of the case.
void check_special(const SpecialCase& c, const SpecialFunction& f, double ulps);

}  // namespace lpf::test
