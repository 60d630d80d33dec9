// One colour for a training method, in every chart and page.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>

#include "lpf/report/svg_canvas.hpp"

namespace lpf::plot {

/// The colour of a method, for Series::color and Group::color; by its name or title in optim::list(): "lpf-sgd",
/// "LPF-SGD". Methods with the same wrapper have one colour, and differ in the pattern of their lines; so do optimizers
/// of one kind without a wrapper. -1 for a name that has no colour.
inline int method_color(std::string_view method) {
  struct Colored {
    std::string_view name;
    int color, pattern;
  };
  static constexpr Colored optimizers[] = {
      {"sgd", 0, 0}, {"adam", 5, 0}, {"adamw", 5, 1}, {"lion", 6, 0}, {"rmsprop", 6, 1}};
  // Around SGD, which a name may leave out, a wrapper has this pattern; around the other optimizers the next ones.
  static constexpr Colored wrappers[] = {
      {"sam", 1, 0}, {"asam", 1, 5}, {"lpf", 2, 0}, {"entropy", 3, 0}, {"smoothout", 4, 0}};
  std::string name(method);
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto find = [](const auto& table, std::string_view key) {
    const auto found = std::find_if(std::begin(table), std::end(table),
                                    [key](const Colored& one) { return one.name == key; });
    return found == std::end(table) ? nullptr : &*found;
  };
  if (const Colored* alone = find(optimizers, name)) return detail::patterned(alone->color, alone->pattern);
  const std::size_t dash = name.find('-');
  const Colored* wrapper = find(wrappers, std::string_view(name).substr(0, dash));
  const Colored* inner =
      find(optimizers, dash == name.npos ? "sgd" : std::string_view(name).substr(dash + 1));
  if (!wrapper || !inner) return -1;
  return detail::patterned(wrapper->color,
                           wrapper->pattern + static_cast<int>(inner - std::begin(optimizers)));
}

}  // namespace lpf::plot
