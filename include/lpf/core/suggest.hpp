// "Did you mean": the known names nearest to an unknown one.
#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf::detail {

/// Number of characters to insert, delete or replace to turn a into b (Levenshtein).
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

/// "; did you mean 'a' or 'b'?" with up to three of `names` closest to `name`; "; there are 'a', 'b', 'c', …"
/// with the nearest three if none is close; empty if there are no names.
inline std::string suggest(std::string_view name, std::span<const std::string> names) {
  std::vector<std::pair<std::size_t, const std::string*>> near;
  for (const auto& candidate : names)
    near.emplace_back(edit_distance(name.substr(0, 256), candidate), &candidate);
  std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::size_t limit = std::max<std::size_t>(2, name.size() / 3);
  const bool close = !near.empty() && near.front().first <= limit;
  if (close) std::erase_if(near, [&](const auto& n) { return n.first > limit; });
  std::string out;
  for (std::size_t i = 0; i < std::min<std::size_t>(near.size(), 3); ++i) {
    out += concat(i == 0  ? (close ? "; did you mean '" : "; there are '")
                  : close ? "' or '"
                          : "', '",
                  *near[i].second);
  }
  if (out.empty()) return out;
  return out + (close ? "'?" : near.size() > 3 ? "', …" : "'");
}

}  // namespace lpf::detail
