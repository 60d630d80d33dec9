// Batches on their way to a device: from page-locked memory, beside the work that is queued there.
#pragma once

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "lpf/data/dataset.hpp"

namespace lpf::detail {

/// Copies batches to a device, one ahead of the one at hand. start(k + 1) before the step on batch k is
/// queued copies while that step computes, in memory that no earlier step uses any more, since the copy
/// begins after what is queued when it is started; finish() makes what is queued later wait for it, not the
/// host.
class Transfer {
 public:
  explicit Transfer(Device device) : device_(device), table_(&backend::get(device)) {}
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer() {
    try {
      drop();
    } catch (...) {}  // the device has failed, and says so at its next use
  }

  /// The batch in memory from which it can be copied beside other work. On any thread.
  LPF_ONCE static Batch pinned(const Batch& batch, Device device) {
    return {pinned(batch.x, backend::get(device)), pinned(batch.y, backend::get(device))};
  }

  /// Queues the copy of a pinned batch; the one before must have been finished.
  LPF_ONCE void start(Batch batch) {
    // The host may be a few batches ahead of the device, whose copies still read its memory.
    while (std::ssize(reading_) >= 4) release_oldest();
    Batch there{like(batch.x), like(batch.y)};
    copy_ = copy(batch.x, there.x, 0);
    copy_ = copy(batch.y, there.y, copy_);
    reading_.push_back({copy_, std::move(batch)});
    under_way_ = std::move(there);
  }
  bool under_way() const { return under_way_.has_value(); }
  /// The batch on the device, for what is queued from now on.
  Batch finish() {
    table_->queue_after(copy_);
    return *std::exchange(under_way_, std::nullopt);
  }
  /// Forgets what is under way, and waits until nothing is read any more.
  LPF_ONCE void drop() {
    if (under_way()) finish();
    while (!reading_.empty()) release_oldest();
  }

 private:
  LPF_ONCE static Tensor pinned(const Tensor& t, const backend::Table& table) {
    if (!is_on_host(t)) return t;
    const std::size_t bytes = static_cast<std::size_t>(t.numel()) * size_of(t.dtype());
    void* const memory = table.allocate_pinned(bytes);
    const std::shared_ptr<void> owner(memory,
                                      [&table, bytes](void* p) { table.deallocate_pinned(p, bytes); });
    if (bytes > 0) std::memcpy(memory, t.raw(), bytes);
    return on(std::make_shared<Storage>(memory, bytes, owner), t.shape(), t.dtype());
  }
  static bool is_on_host(const Tensor& t) { return t.defined() && t.device().is_cpu(); }
  /// Where `t` goes; what a transform has put on a device stays there.
  Tensor like(const Tensor& t) const { return is_on_host(t) ? empty(t.shape(), {t.dtype(), device_}) : t; }
  std::uint64_t copy(const Tensor& from, const Tensor& to, std::uint64_t before) const {
    if (!is_on_host(from) || from.numel() == 0) return before;
    return table_->copy_beside(to.raw(), from.raw(),
                               static_cast<std::size_t>(from.numel()) * size_of(from.dtype()));
  }
  LPF_ONCE void release_oldest() {
    table_->wait_for(reading_.front().copy);
    reading_.erase(reading_.begin());
  }

  struct Read {
    std::uint64_t copy;
    Batch batch;
  };
  Device device_;
  const backend::Table* table_;
  std::uint64_t copy_ = 0;  // the last
  std::optional<Batch> under_way_;
  std::vector<Read> reading_;  // from which copies may still read
};

}  // namespace lpf::detail
