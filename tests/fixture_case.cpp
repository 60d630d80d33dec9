#include "fixture_case.hpp"

#include <algorithm>

#include "lpf/io/safetensors.hpp"
#include "lpf/ops/math.hpp"

namespace lpf::test {

const FixtureFile& FixtureFile::named(const std::string& name) {
  static std::map<std::string, FixtureFile> files;
  const auto [entry, is_new] = files.try_emplace(name);
  FixtureFile& file = entry->second;
  if (is_new) {
    const SafetensorsFile read = load_safetensors(fixture(name).string());
    for (const auto& [key, tensor] : read) file.tensors[key] = tensor.to(default_device());
    for (const auto& [key, text] : read.metadata())
      if (text.starts_with('{')) file.cases[key] = Json::parse(text);
  }
  return file;
}

const Tensor& FixtureFile::at(const std::string& tensor) const {
  INFO(tensor);
  REQUIRE(tensors.contains(tensor));
  return tensors.at(tensor);
}

std::vector<std::string> FixtureFile::cases_with(const std::function<bool(const Json&)>& wanted) const {
  std::vector<std::string> out;
  for (const auto& [name, hyper] : cases)
    if (wanted(hyper)) out.push_back(name);
  return out;
}

FixtureCase::FixtureCase(const FixtureFile& file, std::string name)
    : hyper(file.cases.at(name)), file_(file), name_(std::move(name)) {}

int for_each_case(const std::string& file, const std::string& op,
                  const std::function<void(const FixtureCase&)>& f) {
  const FixtureFile& from = FixtureFile::named(file);
  const auto names = from.cases_with([&](const Json& hyper) { return hyper.value("op", "") == op; });
  for (const auto& name : names) {
    INFO(name);
    f(FixtureCase(from, name));
  }
  return static_cast<int>(names.size());
}

std::vector<std::string> FixtureCase::names_below(const std::string& prefix) const {
  const std::string whole = name_ + "/" + prefix;
  std::vector<std::string> out;
  for (const auto& [name, tensor] : file_.tensors)
    if (name.starts_with(whole)) out.push_back(name.substr(whole.size()));
  return out;
}

namespace {

/// Compares y, its gradients and a Hessian-vector product with the case's.
void check_leaves(const FixtureCase& c, const std::vector<std::string>& names,
                  const std::vector<Tensor>& leaves, const Tensor& y) {
  CHECK(relative_error(y, c["y"]) < 1e-10);
  const auto fused = grad(y, leaves, {.retain_graph = true, .gradient = c["gy"]});
  const auto composed = grad(y, leaves, {.create_graph = true, .gradient = c["gy"]});
  Tensor s = zeros({}, y.options());
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    INFO(names[i]);
    CHECK(relative_error(fused[i], c["grad." + names[i]]) < 1e-10);
    CHECK(relative_error(composed[i], c["grad." + names[i]]) < 1e-10);
    if (c.contains("v." + names[i])) s = add(s, sum(mul(composed[i], c["v." + names[i]])));
  }
  if (!c.contains("v." + names[0])) return;
  std::vector<Tensor> second;
  if (s.requires_grad()) {
    second = grad(s, leaves);
  } else {
    for (const Tensor& t : leaves) second.push_back(zeros_like(t));
  }
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    INFO("hv of ", names[i]);
    CHECK(relative_error(second[i], c["hv." + names[i]]) < 1e-10);
  }
}

}  // namespace

void check_case(const FixtureCase& c, const std::vector<std::string>& names, const CaseFunction& f) {
  std::map<std::string, Tensor> leaves;
  std::vector<Tensor> inputs;
  std::vector<std::string> present;
  for (const auto& name : names) {
    leaves[name] = c[name].defined() ? c[name].clone().requires_grad_() : Tensor();
    if (!leaves[name].defined()) continue;
    inputs.push_back(leaves[name]);
    present.push_back(name);
  }
  check_leaves(c, present, inputs, f(leaves));
}

void check_module_case(const FixtureCase& c, const ParameterStore& params,
                       const std::vector<std::string>& inputs, const CaseFunction& f) {
  std::map<std::string, Tensor> by_name;
  std::vector<Tensor> leaves;
  std::vector<std::string> names = inputs;
  for (const auto& name : inputs) leaves.push_back(by_name[name] = c.at(name).clone().requires_grad_());
  for (const auto& info : params.parameters()) {
    names.push_back(info.name);
    leaves.push_back(params.tensor(info.index));
    const auto off = no_grad();
    leaves.back().copy_(c.at(info.name));
  }
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  CHECK(sorted == c.names_below("grad."));
  check_leaves(c, names, leaves, f(by_name));
}

void check_special_case(const FixtureCase& c, const std::vector<std::string>& names, const CaseFunction& f) {
  const bool single = c.hyper.at("dtype") == "float32";
  const double tolerance = single ? 1e-6 : 1e-12;
  std::map<std::string, Tensor> leaves;
  std::vector<Tensor> inputs;
  std::vector<std::string> present;
  for (const auto& name : names) {
    if (!c.contains(name)) {
      leaves[name] = Tensor();
      continue;
    }
    const Tensor leaf = c[name].to(single ? float32 : float64).clone().requires_grad_();
    leaves[name] = leaf;
    inputs.push_back(leaf);
    present.push_back(name);
  }
  const Tensor y = f(leaves);
  CHECK(relative_error(y.to(float64), c["y"]) <= tolerance);
  const auto grads = grad(y, inputs, {.gradient = c["gy"].to(y.dtype())});
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    INFO(present[i]);
    CHECK(relative_error(grads[i].to(float64), c["grad." + present[i]]) <= tolerance);
  }
}

}  // namespace lpf::test
