// Batches without the ends of epochs.
#pragma once

#include <optional>

#include "lpf/data/loader.hpp"

namespace lpf::experiment::detail {

/// The batches of a loader over successive epochs.
class BatchStream {
 public:
  explicit BatchStream(DataLoader& loader) : loader_(loader) {}
  Batch next() {
    if (at_) ++*at_;
    while (!at_ || *at_ == loader_.end()) at_.emplace(loader_.begin());
    return **at_;
  }

 private:
  DataLoader& loader_;
  std::optional<DataLoader::Iterator> at_;
};

}  // namespace lpf::experiment::detail
