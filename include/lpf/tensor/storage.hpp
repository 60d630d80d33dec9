// Reference-counted memory on a device.
#pragma once

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "lpf/backend/backend.hpp"
#include "lpf/backend/threads.hpp"
#include "lpf/core/os.hpp"

namespace lpf {

namespace detail {

/// Orders the events of a graph: every recorded operation advances it, and storages note its value when they
/// are created and changed in place.
inline std::atomic<std::uint64_t> graph_time{0};

/// The operation whose backward function runs on this thread. It may not read a value that was there when
/// the operation was recorded, and was changed in place afterwards.
struct BackwardRead {
  std::uint64_t recorded = UINT64_MAX;  // on graph_time; UINT64_MAX: none runs
  const char* operation = nullptr;
};
inline thread_local constinit BackwardRead backward_read;

}  // namespace detail

/// Computes the content of a storage whenever it is needed.
struct Rematerializer {
  virtual ~Rematerializer() = default;
  /// Writes the whole content.
  virtual void make(void* memory) const = 0;
  /// The content in the form that Table::gemm_replicas takes without materialising it; null if it has none.
  virtual const backend::Replicas* replicas() const { return nullptr; }
};

/// A block of device memory, from the backend's caching allocator or owned by the caller. With a
/// rematerializer, memory is allocated at the first use, freed by release_recomputed(), and
/// allocated again at the next use.
class Storage : public std::enable_shared_from_this<Storage> {
 public:
  Storage(std::size_t bytes, Device device)
      : backend_(&backend::get(device)), data_(backend_->allocate(bytes)), bytes_(bytes), device_(device) {}
  /// Memory owned by the caller: kept alive by `owner` (may be null), never freed here.
  Storage(void* data, std::size_t bytes, std::shared_ptr<void> owner, Device device = {})
      : backend_(nullptr), data_(data), bytes_(bytes), device_(device), owner_(std::move(owner)) {}
  /// Memory whose content is computed on first use.
  Storage(std::size_t bytes, Device device, std::shared_ptr<const Rematerializer> rematerializer)
      : backend_(&backend::get(device)),
        bytes_(bytes),
        device_(device),
        rematerializer_(std::move(rematerializer)) {}
  ~Storage() {
    if (backend_ && data_) backend_->deallocate(data_, bytes_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  /// @throws StateError in a backward function for a value that was changed in place since forward.
  std::byte* data() const {
    if (changed_ >= detail::backward_read.recorded) [[unlikely]]
      check_unchanged();
    if (rematerializer_ && !data_) [[unlikely]]
      recompute();
    return static_cast<std::byte*>(data_);
  }
  /// The rematerializer while the content is not in memory; otherwise null.
  const Rematerializer* pending() const { return data_ ? nullptr : rematerializer_.get(); }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Counts in-place changes; backward fails where it needs the value before the last one.
  std::uint64_t version() const { return version_; }
  void bump_version() {
    ++version_;
    note_change();
  }
  /// Notes a change for backward without counting it as a version (of a gradient that is cleared or scaled).
  void note_change() { changed_ = detail::graph_time.load(std::memory_order_relaxed); }

  /// Frees the memory that this thread recomputed. Must be called between operations, never within one.
  static void release_recomputed() {
    for (const auto& one : recomputed())
      if (const auto s = one.lock()) s->backend_->deallocate(std::exchange(s->data_, nullptr), s->bytes_);
    recomputed().clear();
  }

 private:
  LPF_ONCE void check_unchanged() const {
    const detail::BackwardRead& read = detail::backward_read;
    check<StateError>(created_ >= read.recorded, "backward", "a value that '", read.operation,
                      "' needs was changed in place between forward and backward: change it after "
                      "backward(), or give the operation a clone()");
  }
  LPF_ONCE void recompute() const {
    void* memory = backend_->allocate(bytes_);
    try {
      rematerializer_->make(memory);
      recomputed().push_back(weak_from_this());
    } catch (...) {
      backend_->deallocate(memory, bytes_);
      throw;
    }
    data_ = memory;
  }
  /// Weak references: a graph may be destroyed on another thread than the one that ran it.
  static std::vector<std::weak_ptr<const Storage>>& recomputed() {
    return detail::os::of_thread<std::vector<std::weak_ptr<const Storage>>>();
  }

  const backend::Table* backend_;
  mutable void* data_ = nullptr;
  std::size_t bytes_;
  Device device_{};
  std::uint64_t version_ = 0, changed_ = 0;  // number of changes, and the time of the last
  std::uint64_t created_ = detail::graph_time.load(std::memory_order_relaxed);
  std::shared_ptr<void> owner_;
  std::shared_ptr<const Rematerializer> rematerializer_;
};

}  // namespace lpf
