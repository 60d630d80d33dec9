// Transfer of batches to a device from page-locked memory, concurrent with the work queued there.
#pragma once

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "lpf/data/dataset.hpp"

namespace lpf::detail {

/// Copies batches to a device, one ahead of the current one. If start(k + 1) is called before the step on
/// batch k is queued, the copy overlaps with that step. Its memory is free by then: the copy begins after the
/// work queued before it. finish() makes later work wait for the copy, without blocking the host.
class Transfer {
 public:
  explicit Transfer(Device device) : device_(device), table_(&backend::get(device)) {}
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer() {
    try {
      drop();
    } catch (...) {}  // the device has failed; its next use reports it
  }

  /// The batch in page-locked memory, from which it can be copied asynchronously. Callable on any thread.
  LPF_ONCE static Batch pinned(const Batch& batch, Device device) {
    return {pinned(batch.x, backend::get(device)), pinned(batch.y, backend::get(device))};
  }

  /// Queues the copy of a pinned batch; the previous one must have been finished.
  LPF_ONCE void start(Batch batch) {
    // The host may be several batches ahead of the device, whose copies still read its memory.
    while (std::ssize(reading_) >= 4) release_oldest();
    Batch there{like(batch.x), like(batch.y)};
    copy_ = copy(batch.x, there.x, 0);
    copy_ = copy(batch.y, there.y, copy_);
    reading_.push_back({copy_, std::move(batch)});
    under_way_ = std::move(there);
  }
  bool under_way() const { return under_way_.has_value(); }
  /// The batch on the device, for work queued from now on.
  Batch finish() {
    table_->queue_after(copy_);
    return *std::exchange(under_way_, std::nullopt);
  }
  /// Drops the batch in transfer, and waits until no copy reads its memory any more.
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
  /// The destination of `t`; tensors that a transform has put on a device stay there.
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
  std::uint64_t copy_ = 0;  // number of the last copy
  std::optional<Batch> under_way_;
  std::vector<Read> reading_;  // sources of copies that may still be running
};

}  // namespace lpf::detail
