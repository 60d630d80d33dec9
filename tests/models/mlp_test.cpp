// The fully connected network: its layers, names and the order of its parameters.
#include "lpf/models/mlp.hpp"

#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("MLP: linear layers with ReLU between them, named fc1, fc2, … in PyTorch's shapes") {
  const ParameterStore params({.dtype = DType::float64, .seed = 1});
  const models::MLP net(params / "net", {6, 5, 4, 3});
  std::vector<std::string> names;
  for (const auto& info : params.parameters()) names.push_back(info.name);
  CHECK(names == std::vector<std::string>{"net.fc1.weight", "net.fc1.bias", "net.fc2.weight", "net.fc2.bias",
                                          "net.fc3.weight", "net.fc3.bias"});
  CHECK(params.parameters()[2].shape == Shape{4, 5});
  const Tensor x = normal({2, 3, 2, 1}, 1);
  const auto p = [&](const char* name) { return params.tensor(name); };
  const Tensor h1 = relu(linear(reshape(x, {2, 6}), p("net.fc1.weight"), p("net.fc1.bias")));
  const Tensor h2 = relu(linear(h1, p("net.fc2.weight"), p("net.fc2.bias")));
  const Tensor y = linear(h2, p("net.fc3.weight"), p("net.fc3.bias"));
  CHECK(net(x).to_vector() == y.to_vector());
  CHECK(net(reshape(x, {2, 6})).to_vector() == y.to_vector());
}

TEST_CASE("MLP: batch norm between each hidden layer and its ReLU, after the layers in the store") {
  const ParameterStore params({.dtype = DType::float64, .seed = 1});
  const models::MLP net(params, {6, 5, 4, 3}, {.batch_norm = true});
  std::vector<std::string> names;
  for (const auto& info : params.parameters())
    if (info.name.ends_with("weight")) names.push_back(info.name);
  CHECK(names ==
        std::vector<std::string>{"fc1.weight", "fc2.weight", "fc3.weight", "bn1.weight", "bn2.weight"});
  const Tensor x = normal({8, 6}, 1), y = net(x);
  const ParameterStore same({.dtype = DType::float64, .seed = 1});
  const nn::Linear fc1(same / "fc1", 6, 5), fc2(same / "fc2", 5, 4), fc3(same / "fc3", 4, 3);
  const nn::BatchNorm bn1(same / "bn1", 5), bn2(same / "bn2", 4);
  CHECK(y.to_vector() == fc3(relu(bn2(fc2(relu(bn1(fc1(x))))))).to_vector());
}

TEST_CASE("MLP: fewer than two sizes, and sizes that are not positive, are ValueErrors") {
  const ParameterStore params;
  CHECK_ERROR(models::MLP(params / "a", {6}), ValueError, "'a'", "1 sizes");
  CHECK_ERROR(models::MLP(params / "b", {6, 0, 3}), ValueError, "'b.fc1'");
}
