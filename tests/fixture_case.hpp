// The files in tests/fixtures with PyTorch's results: cases, each with tensors "case/name" and its
// hyper-parameters in JSON. The reader is in fixture_case.cpp, compiled once.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lpf/nn/parameter_store.hpp"
#include "tensor_test.hpp"

namespace lpf::test {

using Json = nlohmann::json;

/// A file of tests/fixtures.
struct FixtureFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, Json> cases;  ///< the hyper-parameters of each case

  /// Reads the file, and caches it.
  static const FixtureFile& named(const std::string& name);
  const Tensor& at(const std::string& tensor) const;
  /// The names of the cases for which `wanted(hyper)` holds.
  std::vector<std::string> cases_with(const std::function<bool(const Json&)>& wanted) const;
};

/// One case of a file.
class FixtureCase {
 public:
  FixtureCase(const FixtureFile& file, std::string name);

  const Json& hyper;
  const std::string& name() const { return name_; }
  bool contains(const std::string& tensor) const { return file_.tensors.contains(name_ + "/" + tensor); }
  const Tensor& at(const std::string& tensor) const { return file_.at(name_ + "/" + tensor); }
  /// A tensor of the case; undefined if there is none of that name.
  Tensor operator[](const std::string& tensor) const { return contains(tensor) ? at(tensor) : Tensor(); }
  /// The rest of the names that begin with `prefix`.
  std::vector<std::string> names_below(const std::string& prefix) const;

 private:
  const FixtureFile& file_;
  std::string name_;
};

/// Calls f(case) for every case of a file with this "op"; returns their number.
int for_each_case(const std::string& file, const std::string& op,
                  const std::function<void(const FixtureCase&)>& f);

using CaseFunction = std::function<Tensor(const std::map<std::string, Tensor>&)>;

/// Compares y = f(leaves), the gradients of Σ y·gy and a Hessian-vector product of it with the case's, to
/// 1e-10 of the larger of 1 and the value. Leaves that the case lacks are undefined.
void check_case(const FixtureCase& c, const std::vector<std::string>& names, const CaseFunction& f);

/// The same for a layer or a model: the leaves are `inputs` and the parameters of a store, whose names must be those of the
/// case, and which get its values.
void check_module_case(const FixtureCase& c, const ParameterStore& params,
                       const std::vector<std::string>& inputs, const CaseFunction& f);

/// The same for a case of special values: y and the gradients, once, in the case's "dtype", to 1e-12 in float64
/// and 1e-6 in float32; infinities and NaNs must be where the case has them.
void check_special_case(const FixtureCase& c, const std::vector<std::string>& names, const CaseFunction& f);

}  // namespace lpf::test
