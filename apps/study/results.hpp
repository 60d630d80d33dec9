// Results of a study: a model is one line of results-i-of-n.jsonl, written to the system before its thread
// begins the next. A killed study loses only the models in progress, one per thread; an incomplete line is
// trained again.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <lpf/io/file.hpp>
#include <lpf/train/population.hpp>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>

#include "../text.hpp"
#include "train.hpp"

namespace study {

/// The values in a line, by name; a null is NaN.
using Result = std::map<std::string, double>;
using Results = std::map<std::size_t, Result>;  ///< by the model's id

/// Adds what follows from other values of the line: the rise of the loss by noise, and its ratio to the loss.
inline void derive(Result& r) {
  const double loss = r.at("loss");
  const auto rise = [&](const std::string& key, const std::string& suffix) {
    r[concat(key, "_rise", suffix)] = r.at(key + suffix) - loss;
    r[concat(key, "_ratio", suffix)] = (r.at(key + suffix) - loss) / loss;
  };
  rise("low_pass", ""), rise("low_pass_fan_in", "");
  for (const double sigma : sigmas) rise("low_pass", at_sigma("", sigma));
  for (const double sigma : fan_in_sigmas) rise("low_pass_fan_in", at_sigma("", sigma));
  r["raw_trace_c2"] = r.at("raw_trace") * r.at("unit_size") * r.at("unit_size");
}

/// The models in a file; none if it does not exist. FormatError for a line that is not a model of this plan.
inline Results read_results(const std::string& path, const Plan& plan) {
  Results out;
  if (!std::filesystem::exists(lpf::detail::path_of(path))) return out;
  const std::string text = lpf::detail::read_file(path, "study");
  std::size_t line = 1;
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1, ++line) {
    const auto refuse = [&](const auto&... why) {
      fail<FormatError>("study", "line ", line, " of '", path, "' ", why...,
                        ": give another --out, or remove the line (its model is trained again)");
    };
    Result r;
    try {
      const std::string record = text.substr(at, end - at);
      if (record.find('\0') != std::string::npos) refuse("has a zero byte");  // to the parser, the text's end
      const auto json = nlohmann::json::parse(record);
      if (json.at("study") != plan.study || json.at("grid") != plan.grid)
        refuse("is of the study '", json.at("study").get<std::string>(), "', size '",
               json.at("grid").get<std::string>(), "', not of '", plan.study, "', size '", plan.grid, "'");
      if (const std::string variant = json.at("variant"); variant != plan.variant)
        refuse("is of the variant '", variant, "' of the study, not '", plan.variant, "'");
      for (const auto& [name, value] : json.items())
        if (!value.is_string())
          r[name] = value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
      for (const std::string& name : measured) (void)r.at(name);
      for (const char* name : {"id", "converged", "gap", "train_loss", "train_error", "test_error",
                               "train_seconds", "measure_seconds"})
        (void)r.at(name);
      derive(r);
    } catch (const nlohmann::json::exception& e) {
      refuse("is no model of a study (", e.what(), ")");
    } catch (const std::out_of_range&) { refuse("lacks some of a model's values"); }
    const double id = r["id"];
    if (!(id >= 0 && id < static_cast<double>(plan.size()))) refuse("is model ", id, " of ", plan.size());
    const FactorValues s = plan.settings(static_cast<std::size_t>(id));
    for (const Factor& f : plan.factors)
      if (!r.contains(f.name) || r[f.name] != s.at(f.name))
        refuse("was made with another plan: its ", f.name, " is not ", s.at(f.name));
    out[static_cast<std::size_t>(id)] = std::move(r);
  }
  return out;
}

/// Every count-th model, starting at `index`.
struct Shard {
  std::size_t index = 0, count = 1;
};

inline Shard shard_of(const std::string& text) {
  Shard s;
  const char *begin = text.data(), *end = begin + text.size();
  const auto first = std::from_chars(begin, end, s.index);
  const bool slash = first.ec == std::errc() && first.ptr != end && *first.ptr == '/';
  const auto second = slash ? std::from_chars(first.ptr + 1, end, s.count) : first;
  check(slash && second.ec == std::errc() && second.ptr == end && s.index < s.count && s.count <= 1'000'000,
        "study", "--shard is i/n with i from 0 to n − 1 and n up to 1000000, got '", text, "'");
  return s;
}

/// The result files in a folder, and `more`.
inline std::vector<std::string> result_files(const std::string& folder, std::vector<std::string> more) {
  for (const auto& entry : std::filesystem::directory_iterator(lpf::detail::path_of(folder))) {
    const std::string name = lpf::detail::text_of(entry.path().filename());
    if (name.starts_with("results-") && name.ends_with(".jsonl"))
      more.push_back(lpf::detail::text_of(entry.path()));
  }
  std::sort(more.begin(), more.end());
  return more;
}

inline Results read_all(const std::vector<std::string>& files, const Plan& plan) {
  Results out;
  for (const std::string& file : files) out.merge(read_results(file, plan));
  return out;
}

/// The models in populations of one architecture: networks for digits one per thread; ResNets one at a time,
/// with all threads in their kernels.
inline std::vector<std::vector<std::size_t>> populations(const Plan& plan, std::span<const std::size_t> ids) {
  const std::size_t most = plan.small() ? 64 : 1;
  std::map<std::vector<double>, std::vector<std::vector<std::size_t>>> by_architecture;
  for (const std::size_t id : ids) {
    const FactorValues s = plan.settings(id);
    auto& lists = by_architecture[{setting(s, "width"), setting(s, "batch_norm"), setting(s, "skip")}];
    if (lists.empty() || lists.back().size() == most) lists.emplace_back();
    lists.back().push_back(id);
  }
  std::vector<std::vector<std::size_t>> out;
  for (auto& [architecture, lists] : by_architecture) out.insert(out.end(), lists.begin(), lists.end());
  return out;
}

/// Trains the models of the shard that are in no file; at most `limit` models unless it is 0.
inline void train_shard(const Plan& plan, const Shard& shard, const std::string& out, const Results& known,
                        std::size_t limit, const std::string& folder) {
  const std::string path = concat(out, "/results-", shard.index, "-of-", shard.count, ".jsonl");
  std::vector<std::size_t> open;
  for (std::size_t id = shard.index; id < plan.size(); id += shard.count)
    if (!known.contains(id)) open.push_back(id);
  if (limit > 0 && open.size() > limit) open.resize(limit);
  program::print(
      concat(path, ": ", known.size(), " of the study's models are known, ", open.size(), " to train\n"));
  std::fflush(stdout);
  if (open.empty()) return;
  const Sets data = read_data(plan, folder);
  MetricLog log(path, {.append = true});
  ProgressBar bar(open.size(), {.label = "models"});
  std::mutex one_at_a_time;
  std::size_t done = 0;
  for (const auto& ids : populations(plan, open)) {
    Population cells(std::ssize(ids),
                     [&](std::int64_t k) { return Cell(plan, ids[static_cast<std::size_t>(k)]); });
    cells.each([&](Cell& cell) {
      const Record line = train_and_measure(plan, cell, data);
      const std::lock_guard lock(one_at_a_time);
      log.write(line);
      bar.update(++done);
    });
  }
  bar.finish();
  log.close();
}

}  // namespace study
