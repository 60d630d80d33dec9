#include "fixture_case.hpp"

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
