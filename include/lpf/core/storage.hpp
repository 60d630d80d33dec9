// Reference-counted memory on a device.
#pragma once

#include <memory>

#include "lpf/backend/backend.hpp"
#include "lpf/core/threads.hpp"

namespace lpf {

/// A block of device memory, from the backend's caching allocator or wrapped from the user.
class Storage {
 public:
  Storage(std::size_t bytes, Device device)
      : backend_(&backend::get(device)), data_(backend_->allocate(bytes)), bytes_(bytes), device_(device) {}
  /// Memory of somebody else's: kept alive by `owner` (may be null), never freed here.
  Storage(void* data, std::size_t bytes, std::shared_ptr<void> owner)
      : backend_(nullptr), data_(data), bytes_(bytes), owner_(std::move(owner)) {}
  ~Storage() {
    if (backend_) backend_->deallocate(data_, bytes_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Counts in-place changes; a graph that was recorded before a change refuses to run backward after it.
  std::uint64_t version() const { return version_; }
  void bump_version() { ++version_; }

 private:
  const backend::Table* backend_;
  void* data_;
  std::size_t bytes_;
  Device device_{};
  std::uint64_t version_ = 0;
  std::shared_ptr<void> owner_;
};

}  // namespace lpf
