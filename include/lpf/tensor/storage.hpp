// Reference-counted memory on a device.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "lpf/backend/backend.hpp"
#include "lpf/backend/threads.hpp"

namespace lpf {

/// How the content of a storage can be made again.
struct Recipe {
  virtual ~Recipe() = default;
  /// Writes all of it.
  virtual void make(void* memory) const = 0;
  /// Table::gemm with the content, from its replica `first` on, as B, which is never whole in memory. False
  /// where that cannot be, and nothing was done.
  virtual bool multiply(const backend::Gemm&, std::int64_t first) const = 0;
};

/// A block of device memory, from the backend's caching allocator or wrapped from the user. One whose content
/// can be made again takes memory only from its first use until forget_remade(), and anew at the next use.
class Storage : public std::enable_shared_from_this<Storage> {
 public:
  Storage(std::size_t bytes, Device device)
      : backend_(&backend::get(device)), data_(backend_->allocate(bytes)), bytes_(bytes), device_(device) {}
  /// Memory of somebody else's: kept alive by `owner` (may be null), never freed here.
  Storage(void* data, std::size_t bytes, std::shared_ptr<void> owner)
      : backend_(nullptr), data_(data), bytes_(bytes), owner_(std::move(owner)) {}
  /// Memory that is made whenever it is used and not there.
  Storage(std::size_t bytes, Device device, std::shared_ptr<const Recipe> recipe)
      : backend_(&backend::get(device)), bytes_(bytes), device_(device), recipe_(std::move(recipe)) {}
  ~Storage() {
    if (backend_ && data_) backend_->deallocate(data_, bytes_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const {
    if (recipe_ && !data_) [[unlikely]]
      remake();
    return static_cast<std::byte*>(data_);
  }
  /// The recipe of what is not there; otherwise null.
  const Recipe* unmade() const { return data_ ? nullptr : recipe_.get(); }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  /// Counts in-place changes; a graph that was recorded before a change refuses to run backward after it.
  std::uint64_t version() const { return version_; }
  void bump_version() { ++version_; }

  /// Gives back what this thread remade; called between operations, never within one.
  static void forget_remade() {
    for (const auto& one : remade())
      if (const auto s = one.lock()) s->backend_->deallocate(std::exchange(s->data_, nullptr), s->bytes_);
    remade().clear();
  }

 private:
  [[gnu::noinline]] void remake() const {
    void* memory = backend_->allocate(bytes_);
    try {
      recipe_->make(memory);
      remade().push_back(weak_from_this());
    } catch (...) {
      backend_->deallocate(memory, bytes_);
      throw;
    }
    data_ = memory;
  }
  /// Not owned: a graph may be destroyed on another thread than the one that ran it.
  static std::vector<std::weak_ptr<const Storage>>& remade() {
    thread_local std::vector<std::weak_ptr<const Storage>> storages;
    return storages;
  }

  const backend::Table* backend_;
  mutable void* data_ = nullptr;
  std::size_t bytes_;
  Device device_{};
  std::uint64_t version_ = 0;
  std::shared_ptr<void> owner_;
  std::shared_ptr<const Recipe> recipe_;
};

}  // namespace lpf
