// The two files of a checkpoint, NAME.safetensors with the weights and NAME.state.safetensors with the rest,
// and how both are replaced together although a file system replaces only one at a time. The state stores a
// digest of the weights that it was saved with; between the replacement of the weights and that of the state,
// the old weights have a second name, NAME.previous.safetensors:
//   1. both new files are written beside the old ones; nothing is replaced (a full disk fails here);
//   2. NAME.previous.safetensors becomes a second name of the old weights;
//   3. the new weights replace the old ones;
//   4. the new state replaces the old one: from here on the new checkpoint is valid;
//   5. NAME.previous.safetensors is removed.
// A process killed at any moment leaves a state whose weights exist under one of the two names. The temporary
// files that it leaves are removed by the next save.
#pragma once

#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "lpf/core/os.hpp"
#include "lpf/io/path.hpp"
#include "lpf/train/weights.hpp"

namespace lpf::detail {

class CheckpointFiles {
 public:
  explicit CheckpointFiles(std::string name) {
    constexpr std::string_view end = ".safetensors";
    if (name.ends_with(end)) name.resize(name.size() - end.size());
    check(path_of(name).has_filename(), "checkpoint", "give the checkpoint a name, as \"out/run\"; got '",
          name, "'");
    weights_ = name + ".safetensors";
    state_ = name + ".state.safetensors";
    previous_ = name + ".previous.safetensors";
  }

  bool exist() const { return is_there(state_); }

  /// Replaces both files, or throws and changes neither.
  void replace(const NamedTensors& weights, const NamedTensors& state, Metadata texts) const {
    const std::string id = digest_of(weights);
    texts[id_key] = id;
    const std::string folder = text_of(path_of(weights_).parent_path());
    remove_abandoned_files(folder.empty() ? "." : folder);
    AtomicFile new_weights(weights_, "checkpoint"), new_state(state_, "checkpoint");
    save_safetensors(new_weights, weights, with_digest(weights, {{"format", "pt"}}));
    save_safetensors(new_state, state, with_digest(state, texts));
    const bool had_weights = keep_previous();
    try {
      new_weights.commit();
      new_state.commit();
    } catch (...) {
      if (id_in_state() != id) undo(had_weights);
      throw;
    }
    std::error_code ignored;
    std::filesystem::remove(path_of(previous_), ignored);
  }

  struct Pair {
    SafetensorsFile state, weights;
  };
  /// The state, and the weights that it was saved with.
  Pair read() const {
    for (std::string last;;) {
      SafetensorsFile state = load_with_digest("checkpoint", state_);
      const auto id = state.metadata().find(id_key);
      check<FormatError>(id != state.metadata().end(), "checkpoint", "'", state_,
                         "' is not the state of a checkpoint of LPF");
      std::exception_ptr error;
      for (const auto& path : {weights_, previous_}) {
        try {
          SafetensorsFile weights = load_with_digest("checkpoint", path);
          if (digest_of(weights.items()) == id->second) return {std::move(state), std::move(weights)};
        } catch (const Error&) {
          if (path == weights_) error = std::current_exception();
        }
      }
      // If another process saved between the two reads, the state has changed since: read it again.
      if (id->second == last) {
        if (error) std::rethrow_exception(error);
        fail<FormatError>(
            "checkpoint", "'", weights_, "' does not hold the weights that '", state_,
            "' was saved with: one of them comes from elsewhere; load_weights() reads weights alone");
      }
      last = id->second;
    }
  }

 private:
  static constexpr const char* id_key = "lpf.weights";

  static bool is_there(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(path_of(path), ignored);
  }
  /// The id of the weights that the current state was saved with; empty if there is no valid state.
  std::string id_in_state() const {
    try {
      const SafetensorsFile state = load_with_digest("checkpoint", state_);
      const auto found = state.metadata().find(id_key);
      return found == state.metadata().end() ? std::string() : found->second;
    } catch (const Error&) { return {}; }
  }
  static std::string id_of(const std::string& path) {
    try {
      return digest_of(load_safetensors(path).items());
    } catch (const Error&) { return {}; }
  }

  /// Gives the current weights a second name; false if there are none. A second name left by a killed process
  /// stays if the current state needs it.
  bool keep_previous() const {
    if (!is_there(weights_)) return false;
    if (is_there(previous_)) {
      const std::string needed = id_in_state();
      if (!needed.empty() && id_of(previous_) == needed) return true;
      std::error_code error;
      if (!std::filesystem::remove(path_of(previous_), error) && error)
        file_error("checkpoint", "replace", previous_, os::errno_of(error));
    }
    // Some file systems have no hard links, and weights_ may be a symbolic link
    // into another one: copy them there.
    if (os::link(weights_, previous_) != 0)
      write_file_atomically(previous_, read_file(weights_, "checkpoint"));
    return true;
  }

  /// Called if the new state could not be put in place: restores the old weights.
  void undo(bool had_weights) const {
    std::error_code ignored;
    if (!had_weights) {
      std::filesystem::remove(path_of(weights_), ignored);
    } else if (!std::filesystem::is_symlink(path_of(weights_), ignored)) {  // else read() tries both names
      std::filesystem::rename(path_of(previous_), path_of(weights_), ignored);
      std::filesystem::remove(path_of(previous_),
                              ignored);  // if both names are the same file, rename() does nothing
    }
  }

  std::string weights_, state_, previous_;
};

}  // namespace lpf::detail
