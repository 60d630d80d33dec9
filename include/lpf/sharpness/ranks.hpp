// Work that several processes share: each job is done by one of them, and all get every result, in order. A measure written
// with it has the same draws and computes the same bits with any number of processes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"

namespace lpf::sharpness {

/// The pieces of at most `size` ≥ 1 that n things are.
inline std::int64_t pieces_of(std::int64_t n, std::int64_t size) { return n / size + (n % size != 0); }

/// The processes that measure together (distributed/measures.hpp makes it of a job). All call the same functions.
struct Ranks {
  using Numbers = std::vector<double>;

  int rank = 0, size = 1;
  std::function<std::vector<Numbers>(const Numbers& mine)> gather =
      {};  ///< of all, in the order of the ranks

  /// Calls use(i, job(i)) for i < count, in turn. Of several ranks, rank p does the jobs p, p + size, …, and every rank
  /// uses all results. A job's NumericError is thrown on every rank; other exceptions on its own.
  LPF_ONCE void in_order(std::int64_t count, const std::function<Numbers(std::int64_t)>& job,
                         const std::function<void(std::int64_t, Numbers)>& use) const {
    if (size == 1) {
      for (std::int64_t i = 0; i < count; ++i) use(i, job(i));
      return;
    }
    for (std::int64_t first = 0; first < count; first += size) {
      const std::int64_t own = first + rank;
      std::vector<Numbers> all = gather(own < count ? result_or_reason(job, own) : Numbers{});
      for (std::int64_t i = first; i < std::min(first + size, count); ++i) {
        Numbers& found = all[static_cast<std::size_t>(i - first)];
        const bool failed = found.back() != 0;
        found.pop_back();
        if (failed) throw NumericError(text_of(found));
        use(i, std::move(found));
      }
    }
  }

 private:
  /// The result and 0, or the characters of the error's message and 1.
  LPF_ONCE static Numbers result_or_reason(const std::function<Numbers(std::int64_t)>& job, std::int64_t i) {
    Numbers out;
    try {
      out = job(i);
      out.push_back(0);
    } catch (const NumericError& e) {
      for (const char* c = e.what(); *c != 0; ++c) out.push_back(static_cast<unsigned char>(*c));
      out.push_back(1);
    }
    return out;
  }
  LPF_ONCE static std::string text_of(const Numbers& characters) {
    std::string out;
    for (const double c : characters) out += static_cast<char>(static_cast<unsigned char>(c));
    return out;
  }
};

}  // namespace lpf::sharpness
