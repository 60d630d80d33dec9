// What must be the same on all ranks is compared by hashes, and an error names the rank that differs.
#pragma once

#include <cstring>
#include <map>
#include <string_view>

#include "lpf/distributed/communicator.hpp"
#include "lpf/nn/parameter_store.hpp"

namespace lpf::distributed {

/// FNV-1a over words of eight bytes.
class Hash {
 public:
  Hash& add(const void* data, std::size_t size) {
    const auto* at = static_cast<const unsigned char*>(data);
    for (; size >= sizeof(std::uint64_t); at += sizeof(std::uint64_t), size -= sizeof(std::uint64_t)) {
      std::uint64_t word;
      std::memcpy(&word, at, sizeof word);
      mix(word);
    }
    for (; size > 0; ++at, --size) mix(*at);
    return *this;
  }
  Hash& add(std::string_view text) { return add(text.data(), text.size()).add(std::int64_t(text.size())); }
  Hash& add(std::int64_t n) { return mix(static_cast<std::uint64_t>(n)), *this; }
  Hash& add(const Tensor& t) {
    const Tensor host = t.detach().to(Device::cpu());
    for (const std::int64_t n : t.shape()) add(n);
    return add(host.raw(), static_cast<std::size_t>(host.numel()) * size_of(host.dtype()));
  }
  std::uint64_t value() const { return value_; }

 private:
  void mix(std::uint64_t word) {
    value_ = (value_ ^ word) * 0x100000001b3;
    value_ ^= value_ >> 29;  // the upper half of a word reaches the lower half of the hash
  }
  std::uint64_t value_ = 0xcbf29ce484222325;
};

/// The ranks whose value is not that of most, as "rank 2"; of two ranks rank 1. Empty if all agree.
inline std::string different_ranks(const std::vector<std::uint64_t>& values) {
  std::map<std::uint64_t, std::size_t> count;
  for (const std::uint64_t v : values) ++count[v];
  std::uint64_t common = values[0];
  for (const auto& [v, n] : count)
    if (n > count[common]) common = v;
  std::string out;
  for (std::size_t p = 0; p < values.size(); ++p)
    if (values[p] != common) out += concat(out.empty() ? "rank " : ", rank ", p);
  return out;
}

/// CommunicationError unless `hash` is the same on all ranks: "rank 2 has WHAT other than the other ranks".
inline void check_same(Communicator& world, const char* operation, const std::string& what,
                       std::uint64_t hash) {
  const std::string different = different_ranks(all_gather(world, hash));
  check<CommunicationError>(different.empty(), operation, different, " has ", what,
                            " other than the other ranks");
}

/// Of the parameters' names, shapes and types, and of what else must agree for a flat vector to mean the same.
inline std::uint64_t structure_of(const ParameterStore& params) {
  Hash hash;
  hash.add(std::int64_t(params.dtype())).add(static_cast<std::int64_t>(params.seed()));
  for (const ParameterInfo& p : params.parameters()) {
    hash.add(p.name).add(p.offset).add(p.trainable);
    for (const std::int64_t n : p.shape) hash.add(n);
  }
  for (const auto& b : params.buffers()) hash.add(b.name).add(b.tensor.numel());
  for (const auto& c : params.counters()) hash.add(c.name);
  return hash.value();
}

/// Of θ, buffers, counters and the number of updates.
inline std::uint64_t state_of(const ParameterStore& params) {
  Hash hash;
  hash.add(params.theta()).add(static_cast<std::int64_t>(params.updates()));
  for (const auto& b : params.buffers()) hash.add(b.tensor);
  for (const auto& c : params.counters()) hash.add(static_cast<std::int64_t>(*c.value));
  return hash.value();
}

}  // namespace lpf::distributed
