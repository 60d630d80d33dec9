// What tests of operations share: derivatives against finite differences, and results against PyTorch's
// (tests/fixtures).
#pragma once

#include <functional>
#include <nlohmann/json.hpp>

#include "lpf/data/safetensors.hpp"
#include "lpf/ops/math.hpp"
#include "tensor_test.hpp"

namespace lpf::test {

/// Checks first and second derivatives against finite differences, and fused backward against composed.
inline void check_derivatives(const GradCheckFunction& f, const std::vector<Tensor>& inputs) {
  const auto first = gradcheck(f, inputs);
  CHECK_MESSAGE(first.ok, first.message);
  const auto second = gradgradcheck(f, inputs);
  CHECK_MESSAGE(second.ok, second.message);
}

/// One case of a fixture file: its tensors "case/name" and its hyper-parameters.
class FixtureCase {
 public:
  FixtureCase(const SafetensorsFile& file, std::string name)
      : file_(&file), name_(std::move(name)), hyper(nlohmann::json::parse(file.metadata().at(name_))) {}

  const std::string& name() const { return name_; }
  bool contains(const std::string& tensor) const { return file_->contains(name_ + "/" + tensor); }
  /// A tensor of the case; undefined if it has none of that name.
  Tensor operator[](const std::string& tensor) const {
    return contains(tensor) ? file_->at(name_ + "/" + tensor) : Tensor();
  }

 private:
  const SafetensorsFile* file_;
  std::string name_;

 public:
  nlohmann::json hyper;
};

/// f(case) for every case of a file with this "op".
template <class F>
int for_each_case(const std::string& file, const std::string& op, F f) {
  static std::map<std::string, SafetensorsFile> files;
  if (!files.count(file)) files.emplace(file, load_safetensors(fixture(file).string()));
  const SafetensorsFile& from = files.at(file);
  int cases = 0;
  for (const auto& entry : from.metadata()) {
    if (entry.second.empty() || entry.second[0] != '{') continue;
    const FixtureCase c(from, entry.first);
    if (c.hyper.value("op", "") != op) continue;
    INFO(c.name());
    f(c);
    ++cases;
  }
  return cases;
}

using CaseFunction = std::function<Tensor(const std::map<std::string, Tensor>&)>;

/// Holds y = f(leaves), the gradients of Σ y·gy and a Hessian-vector product of it against the case's, to
/// 1e-10 of the larger of 1 and the value. Leaves that the case lacks are undefined.
inline void check_case(const FixtureCase& c, const std::vector<std::string>& names, const CaseFunction& f) {
  std::map<std::string, Tensor> leaves;
  std::vector<Tensor> inputs;
  std::vector<std::string> present;
  for (const auto& name : names) {
    leaves[name] = c[name].defined() ? c[name].clone().requires_grad_() : Tensor();
    if (!leaves[name].defined()) continue;
    inputs.push_back(leaves[name]);
    present.push_back(name);
  }
  const Tensor y = f(leaves);
  CHECK(relative_error(y, c["y"]) < 1e-10);
  const auto fused = grad(y, inputs, {.retain_graph = true, .gradient = c["gy"]});
  const auto composed = grad(y, inputs, {.create_graph = true, .gradient = c["gy"]});
  Tensor s = zeros({}, y.options());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    INFO(present[i]);
    CHECK(relative_error(fused[i], c["grad." + present[i]]) < 1e-10);
    CHECK(relative_error(composed[i], c["grad." + present[i]]) < 1e-10);
    if (c.contains("v." + present[i])) s = add(s, sum(mul(composed[i], c["v." + present[i]])));
  }
  if (!c.contains("v." + present[0])) return;
  std::vector<Tensor> second;
  if (s.requires_grad()) {
    second = grad(s, inputs);
  } else {
    for (const Tensor& t : inputs) second.push_back(zeros_like(t));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    INFO("hv of ", present[i]);
    CHECK(relative_error(second[i], c["hv." + present[i]]) < 1e-10);
  }
}

}  // namespace lpf::test
