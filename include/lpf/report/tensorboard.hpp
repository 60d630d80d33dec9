// Curves for TensorBoard:
//
//   TensorBoardWriter board("runs/x");
//   board.scalar("train/loss", loss, updates);       # tensorboard --logdir runs
//
// An event file is a sequence of TFRecords,
//
//   length  uint64 | masked CRC-32C of the length  uint32 | bytes | masked CRC-32C of the bytes  uint32
//
// little-endian, where masked(c) = rotate_right(c, 15) + 0xa282ead8; the bytes of each are a protocol buffer
// `Event` (tensorflow/core/util/event.proto, framework/summary.proto), of which these fields are used:
//
//   Event    1: wall_time double   2: step int64   3: file_version string   5: summary   7: session_log
//   Summary  1: value (repeated)      Value  1: tag string   2: simple_value float
//   SessionLog  1: status enum, START = 1
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "lpf/core/error.hpp"
#include "lpf/core/os.hpp"
#include "lpf/io/atomic_file.hpp"

namespace lpf {

namespace detail {

/// CRC-32C (Castagnoli): polynomial 0x1EDC6F41, reflected; that of "123456789" is 0xE3069283.
inline std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto table = [] {
    std::array<std::uint32_t, 256> out{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = c & 1 ? c >> 1 ^ 0x82F63B78u : c >> 1;
      out[i] = c;
    }
    return out;
  }();
  std::uint32_t c = ~0u;
  for (const char b : bytes) c = table[(c ^ static_cast<unsigned char>(b)) & 0xFF] ^ c >> 8;
  return ~c;
}
inline std::uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

template <class T>
std::string little_endian(T value) {
  std::string out;
  for (std::size_t i = 0; i < sizeof value; ++i, value >>= 8) out += static_cast<char>(value & 0xFF);
  return out;
}

/// One record with its length and checksums.
inline std::string tf_record(std::string_view bytes) {
  const std::string length = little_endian<std::uint64_t>(bytes.size());
  return length + little_endian(masked_crc32c(length)) + std::string(bytes) +
         little_endian(masked_crc32c(bytes));
}

/// Fields of a protocol buffer: a key, (number << 3 | wire type), then the value.
class ProtoWriter {
 public:
  ProtoWriter& varint(int field, std::uint64_t value) {
    key(field, 0);
    put_varint(value);
    return *this;
  }
  ProtoWriter& real(int field, double value) {
    key(field, 1);
    bytes_ += little_endian(std::bit_cast<std::uint64_t>(value));
    return *this;
  }
  ProtoWriter& real(int field, float value) {
    key(field, 5);
    bytes_ += little_endian(std::bit_cast<std::uint32_t>(value));
    return *this;
  }
  /// A text, or a nested message.
  ProtoWriter& bytes(int field, std::string_view value) {
    key(field, 2);
    put_varint(value.size());
    bytes_ += value;
    return *this;
  }
  const std::string& str() const { return bytes_; }

 private:
  void key(int field, std::uint64_t wire_type) {
    put_varint(static_cast<std::uint64_t>(field) << 3 | wire_type);
  }
  void put_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7F) | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

inline double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace detail

/// Writes a new event file into a folder, which it creates. Every event is written to the system immediately,
/// so that TensorBoard reads it and a killed process loses none. Throws IOError.
class TensorBoardWriter {
 public:
  /// Resuming after step `last_step` makes TensorBoard drop the later events of earlier files.
  explicit TensorBoardWriter(const std::string& folder, std::uint64_t last_step = 0) {
    static std::atomic<unsigned> count{0};
    create_directories(folder);
    // TensorBoard reads a folder's files in order of name: it begins with the seconds, in ten digits.
    path_ = concat(folder, "/events.out.tfevents.", static_cast<long long>(detail::wall_seconds()), ".",
                   detail::os::host_name(), ".", detail::os::process_id(), ".", count++);
    file_.reset(detail::os::open(path_, {.write = true, .create = true, .exclusive = true, .append = true}));
    if (!file_) detail::file_error("TensorBoardWriter", "create", path_, errno);
    put(event(0).bytes(3, "brain.Event:2"));
    // A START drops the events of its own step too.
    if (last_step > 0) put(event(last_step + 1).bytes(7, detail::ProtoWriter().varint(1, 1).str()));
  }

  /// A point of the curve `tag`; "a/b" and "a/c" are grouped.
  void scalar(std::string_view tag, double value, std::uint64_t step) {
    const detail::ProtoWriter point = detail::ProtoWriter().bytes(1, tag).real(2, static_cast<float>(value));
    put(event(step).bytes(5, detail::ProtoWriter().bytes(1, point.str()).str()));
  }

  const std::string& path() const { return path_; }

 private:
  static detail::ProtoWriter event(std::uint64_t step) {
    return detail::ProtoWriter().real(1, detail::wall_seconds()).varint(2, step);
  }
  void put(const detail::ProtoWriter& event) {
    if (const int error = detail::os::write_fully(file_.get(), detail::tf_record(event.str())))
      detail::file_error("TensorBoardWriter", "write", path_, error);
  }

  std::string path_;
  detail::FileDescriptor file_;
};

}  // namespace lpf
