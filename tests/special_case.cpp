#include "special_case.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lpf/io/safetensors.hpp"

namespace lpf::test {

namespace {

bool is_input(const std::string& tensor) {
  return tensor != "y" && tensor != "norm" && tensor.find('.') == std::string::npos;
}

/// 1, −2, ½, 1, …: the gradients of y in the file.
Tensor cotangent(const Tensor& y) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < y.numel(); ++i) values.push_back(i % 3 == 0 ? 1 : i % 3 == 1 ? -2 : 0.5);
  return from_vector(values, y.shape()).to(y.dtype());
}

}  // namespace

const std::vector<SpecialCase>& SpecialCase::all() {
  static const std::vector<SpecialCase> cases = [] {
    std::vector<SpecialCase> out;
    const SafetensorsFile file = load_safetensors(fixture("special.safetensors").string());
    std::map<std::string, Tensor> tensors;
    std::map<std::string, std::vector<std::string>> names;
    for (const auto& [key, t] : file) {
      tensors[key] = t.to(default_device());
      const auto end = key.rfind('/');
      names[key.substr(0, end)].push_back(key.substr(end + 1));
    }
    for (const auto& [name, text] : file.metadata()) {
      if (!text.starts_with('{')) continue;
      const auto hyper = nlohmann::json::parse(text);
      SpecialCase c;
      c.name_ = name;
      c.op_ = hyper.at("op");
      for (const auto& tensor : names[name]) c.tensors_[tensor] = tensors.at(name + "/" + tensor);
      const auto same = hyper.value("same", nlohmann::json::object());
      for (const auto& [tensor, key] : same.items()) c.tensors_[tensor] = tensors.at(key.get<std::string>());
      out.push_back(std::move(c));
    }
    return out;
  }();
  return cases;
}

const Tensor& SpecialCase::at(const std::string& tensor) const {
  INFO(name_, " ", tensor);
  REQUIRE(contains(tensor));
  return tensors_.at(tensor);
}

Tensor SpecialCase::expected(const std::string& tensor) const {
  if (contains("taken." + tensor)) return at("taken." + tensor);
  return contains(tensor) ? at(tensor) : Tensor();
}

std::map<std::string, Tensor> SpecialCase::inputs() const {
  std::map<std::string, Tensor> out;
  for (const auto& [name, t] : tensors_)
    if (is_input(name)) out[name] = t;
  return out;
}

std::string wrong_numbers(const Tensor& found, const Tensor& expected, double ulps, bool signed_zeros,
                          const Tensor& terms) {
  if (found.dtype() != expected.dtype() || found.shape() != expected.shape())
    return concat(name_of(found.dtype()), " ", found.shape(), " instead of ", name_of(expected.dtype()), " ",
                  expected.shape());
  if (!is_floating(found.dtype()))
    return same_bits(found, expected) ? "" : concat(found.to_string(), " instead of ", expected.to_string());
  const bool single = found.dtype() == float32;
  const double epsilon = single ? 0x1p-23 : 0x1p-52, least = single ? 0x1p-126 : 0x1p-1022;
  const auto u = found.to_vector(), v = expected.to_vector();
  const auto size = terms.defined() ? terms.to_vector() : std::vector<double>(v.size());
  std::string out;
  int count = 0;
  for (std::size_t i = 0; i < u.size(); ++i) {
    bool same = u[i] == v[i] && (u[i] != 0 || !signed_zeros || std::signbit(u[i]) == std::signbit(v[i]));
    same |= std::isnan(u[i]) && std::isnan(v[i]);
    // divided first: the difference of the largest numbers overflows, the product of the smallest is rounded
    // to 0
    same |= std::isfinite(u[i]) && std::isfinite(v[i]) && (u[i] != 0 || v[i] != 0) &&
            std::abs(u[i] / 4 - v[i] / 4) / std::max({std::abs(v[i]), size[i], least}) <= ulps * epsilon / 4;
    if (same || ++count > 8) continue;
    char text[96];
    std::snprintf(text, sizeof text, "\n  [%zu] %.17g instead of %.17g", i, u[i], v[i]);
    out += text;
  }
  return count > 8 ? concat(out, "\n  and ", count - 8, " more") : out;
}

void check_special(const SpecialCase& c, const SpecialFunction& f, double ulps) {
  INFO(c.name());
  auto leaves = c.inputs();
  std::vector<std::string> names;
  std::vector<Tensor> inputs;
  for (auto& [name, t] : leaves) {
    if (!c.contains("grad." + name)) continue;
    t = t.clone().requires_grad_();
    names.push_back(name);
    inputs.push_back(t);
  }
  const Tensor y = f(leaves);
  const auto check = [&](const std::string& what, const Tensor& found, const Tensor& expected,
                         bool signed_zeros, const Tensor& terms = {}) {
    const std::string wrong = wrong_numbers(found, expected, ulps, signed_zeros, terms);
    CHECK_MESSAGE(wrong.empty(), c.name(), " ", what, ": ", wrong);
  };
  check("y", y, c.expected("y"), true, c.expected("terms.y"));
  if (inputs.empty()) return;
  for (const std::string kind : {"grad", "zero"}) {
    const Tensor g = kind == "grad" ? cotangent(y) : zeros_like(y);
    const auto fused = grad(y, inputs, {.retain_graph = true, .gradient = g});
    const auto composed = grad(y, inputs, {.create_graph = true, .gradient = g});
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      Tensor expected = c.expected(kind + "." + names[i]);
      if (!expected.defined()) expected = zeros_like(inputs[i]);
      const Tensor terms = c.expected("terms." + names[i]);
      check(kind + "." + names[i], fused[i], expected, false, terms);
      check(kind + "." + names[i] + ", composed", composed[i].detach(), expected, false, terms);
    }
  }
}

}  // namespace lpf::test
