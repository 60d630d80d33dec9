// The path of a layer in the errors of its operations.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "lpf/nn/parameter.hpp"

namespace lpf::nn {

namespace detail {

/// Adds the path of the layer that a parameter is of to an error's message: "… (layer 'block.fc1')".
LPF_ONCE void name_layer(Error& error, const Parameter& parameter) {
  const std::string_view name = parameter.defined() ? parameter.info().name : std::string_view();
  const std::size_t dot = std::min(name.rfind('.'), name.size());
  if (dot < name.size())
    static_cast<std::runtime_error&>(error) =
        std::runtime_error(concat(error.what(), " (layer '", name.substr(0, dot), "')"));
}

/// forward(): what a layer computes. Its errors name the layer.
template <class F>
auto in_layer(const Parameter& parameter, F forward) {
  try {
    return forward();
  } catch (Error& error) {
    name_layer(error, parameter);
    throw;
  }
}

}  // namespace detail

}  // namespace lpf::nn
