// What the users' programs here do with LPF: something tiny, the same in every file that includes this.
#pragma once

#include <lpf/lpf.hpp>

/// A number that LPF works out; the same one whatever the file is compiled with.
static double use_lpf() {
  lpf::check(true, "consumer", "never thrown");
  return static_cast<double>(lpf::concat("twenty-one characters").size());
}
constexpr double expected = 21;
