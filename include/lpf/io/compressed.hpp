// Sequential reading of a file, decompressed on the way: plain, gzip (zlib) or xz (liblzma), recognized
// by its first bytes, not its name. CMake's target lpf::io links the two libraries where they are
// installed (LPF_HAS_ZLIB, LPF_HAS_LZMA). Data are decompressed on demand, so that an archive is never in
// memory as a whole.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/io/file.hpp"

#ifdef LPF_HAS_ZLIB
#  include <zlib.h>
#endif
#ifdef LPF_HAS_LZMA
#  include <lzma.h>
#endif

namespace lpf::detail {

/// A sequential source of bytes. read() returns up to n bytes, none only at the end. Reading to the end
/// verifies that the data are complete.
class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;
  virtual std::size_t read(void* to, std::size_t n) = 0;
};

/// A file or a block of memory, unchanged.
class RawBytes final : public ByteSource {
 public:
  explicit RawBytes(std::shared_ptr<const InputFile> file)
      : size_(file->size()),
        fetch_([file](std::uint64_t at, void* to, std::size_t n) { file->read(at, to, n); }) {}
  explicit RawBytes(std::string_view bytes)
      : size_(bytes.size()), fetch_([bytes](std::uint64_t at, void* to, std::size_t n) {
          std::copy_n(bytes.data() + at, n, static_cast<char*>(to));
        }) {}

  std::size_t read(void* to, std::size_t n) override {
    n = static_cast<std::size_t>(std::min<std::uint64_t>(n, size_ - at_));
    if (n > 0) fetch_(at_, to, n);
    at_ += n;
    return n;
  }
  bool starts_with(std::string_view magic) const {
    if (size_ < magic.size()) return false;
    std::string start(magic.size(), '\0');
    fetch_(0, start.data(), start.size());
    return start == magic;
  }

 private:
  std::uint64_t size_, at_ = 0;
  std::function<void(std::uint64_t, void*, std::size_t)> fetch_;
};

/// Compressed input in pieces for a decompression library, and its error messages.
class PackedInput {
 public:
  PackedInput(std::unique_ptr<ByteSource> from, std::string kind, std::string path, std::string operation)
      : from_(std::move(from)),
        kind_(std::move(kind)),
        path_(std::move(path)),
        operation_(std::move(operation)),
        buffer_(std::size_t{1} << 16) {}

  /// The next piece; empty at the end.
  std::span<std::uint8_t> next() {
    const std::size_t n = from_->read(buffer_.data(), buffer_.size());
    taken_ += n;
    return {buffer_.data(), n};
  }
  [[noreturn]] void truncated() const {
    fail<FormatError>(operation_, "'", path_, "': the ", kind_, " data are truncated after ", taken_,
                      " bytes");
  }
  [[noreturn]] void corrupt(std::uint64_t unused, std::string_view reason) const {
    fail<FormatError>(operation_, "'", path_, "': the ", kind_, " data are corrupt near byte ",
                      taken_ - unused, ": ", reason);
  }
  [[noreturn]] void cannot_start() const {
    fail<OutOfMemoryError>(operation_, "the ", kind_, " library cannot start: out of memory");
  }

 private:
  std::unique_ptr<ByteSource> from_;
  std::string kind_, path_, operation_;
  std::vector<std::uint8_t> buffer_;
  std::uint64_t taken_ = 0;
};

/// Reads `n` bytes, fewer only at the end; returns their number.
inline std::size_t read_fully(ByteSource& from, void* to, std::size_t n) {
  std::size_t got = 0;
  while (got < n) {
    const std::size_t more = from.read(static_cast<char*>(to) + got, n - got);
    if (more == 0) break;
    got += more;
  }
  return got;
}

/// Appends all remaining bytes. If read() throws, the bytes read before are already appended.
inline void read_to_end(ByteSource& from, std::string& to) {
  std::vector<char> piece(std::size_t{1} << 16);
  while (const std::size_t n = from.read(piece.data(), piece.size())) to.append(piece.data(), n);
}

#ifdef LPF_HAS_ZLIB

/// Decompresses gzip; concatenated files are read as one. Zeros behind the last one, with which tapes and some
/// archivers fill a block, are skipped, as gzip does.
class GzipBytes final : public ByteSource {
 public:
  explicit GzipBytes(PackedInput input) : input_(std::move(input)) {
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) input_.cannot_start();
  }
  ~GzipBytes() override { inflateEnd(&stream_); }

  std::size_t read(void* to, std::size_t n) override {
    n = std::min<std::size_t>(n, 1u << 30);  // zlib counts with 32 bits
    stream_.next_out = static_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(n);
    while (stream_.avail_out == n && n > 0) {
      if (stream_.avail_in == 0) {
        const auto piece = input_.next();
        stream_.next_in = piece.data();
        stream_.avail_in = static_cast<uInt>(piece.size());
        if (piece.empty()) {
          if (!between_files_) input_.truncated();
          return 0;
        }
      }
      if (between_files_) {
        if (!first_) {
          while (stream_.avail_in > 0 && *stream_.next_in == 0) ++stream_.next_in, --stream_.avail_in;
          if (stream_.avail_in == 0) continue;
          inflateReset(&stream_);
        }
        between_files_ = first_ = false;
      }
      const int status = inflate(&stream_, Z_NO_FLUSH);
      if (status == Z_STREAM_END) {
        between_files_ = true;
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        input_.corrupt(stream_.avail_in, stream_.msg ? stream_.msg : "unknown");
      }
    }
    return n - stream_.avail_out;
  }

 private:
  PackedInput input_;
  z_stream stream_{};
  bool between_files_ = true, first_ = true;
};

#endif

#ifdef LPF_HAS_LZMA

/// Decompresses xz; concatenated streams are read as one.
class XzBytes final : public ByteSource {
 public:
  explicit XzBytes(PackedInput input) : input_(std::move(input)) {
    constexpr std::uint64_t memory = std::uint64_t{1} << 28;  // xz -9 needs a quarter of it
    if (lzma_stream_decoder(&stream_, memory, LZMA_CONCATENATED) != LZMA_OK) input_.cannot_start();
  }
  ~XzBytes() override { lzma_end(&stream_); }

  std::size_t read(void* to, std::size_t n) override {
    stream_.next_out = static_cast<std::uint8_t*>(to);
    stream_.avail_out = n;
    while (stream_.avail_out == n && n > 0 && !ended_) {
      if (stream_.avail_in == 0 && !all_read_) {
        const auto piece = input_.next();
        stream_.next_in = piece.data();
        stream_.avail_in = piece.size();
        all_read_ = piece.empty();
      }
      switch (lzma_code(&stream_, all_read_ ? LZMA_FINISH : LZMA_RUN)) {
        case LZMA_OK: break;
        case LZMA_STREAM_END: ended_ = true; break;
        case LZMA_BUF_ERROR: input_.truncated();
        case LZMA_MEM_ERROR: input_.corrupt(stream_.avail_in, "out of memory");
        case LZMA_MEMLIMIT_ERROR: input_.corrupt(stream_.avail_in, "it needs more than 256 MiB of memory");
        case LZMA_OPTIONS_ERROR: input_.corrupt(stream_.avail_in, "unknown options");
        case LZMA_FORMAT_ERROR: input_.corrupt(stream_.avail_in, "not an xz file");
        default: input_.corrupt(stream_.avail_in, "a check failed");
      }
    }
    return n - stream_.avail_out;
  }

 private:
  PackedInput input_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool all_read_ = false, ended_ = false;
};

#endif

[[noreturn]] inline void cannot_unpack(std::string_view path, std::string_view operation,
                                       std::string_view kind, std::string_view program,
                                       std::string_view library, std::string_view macro,
                                       std::string_view flag) {
  fail<IOError>(operation, "'", path, "' is packed with ", kind, ", and this program is built without ",
                library, ": unpack it with ", program, ", or install it (on Debian: ", library,
                "-dev) and link lpf::io, or define ", macro, "=1 and link ", flag);
}

/// The bytes, decompressed if they are gzip or xz. Errors name `path`.
inline std::unique_ptr<ByteSource> unpacked(std::unique_ptr<RawBytes> raw, const std::string& path,
                                            const std::string& operation) {
  if (raw->starts_with("\x1f\x8b")) {
#ifdef LPF_HAS_ZLIB
    return std::make_unique<GzipBytes>(PackedInput(std::move(raw), "gzip", path, operation));
#else
    cannot_unpack(path, operation, "gzip", "gunzip", "zlib1g", "LPF_HAS_ZLIB", "-lz");
#endif
  }
  constexpr char xz_magic[] = {'\xfd', '7', 'z', 'X', 'Z', '\0'};
  if (raw->starts_with({xz_magic, sizeof xz_magic})) {
#ifdef LPF_HAS_LZMA
    return std::make_unique<XzBytes>(PackedInput(std::move(raw), "xz", path, operation));
#else
    cannot_unpack(path, operation, "xz", "unxz", "liblzma", "LPF_HAS_LZMA", "-llzma");
#endif
  }
  return raw;
}

/// A file's bytes, decompressed on the way. Throws IOError if it cannot be read; read() throws FormatError if
/// compressed data are truncated or corrupt.
inline std::unique_ptr<ByteSource> open_unpacked(const std::string& path, const std::string& operation) {
  return unpacked(std::make_unique<RawBytes>(std::make_shared<const InputFile>(path, operation)), path,
                  operation);
}

}  // namespace lpf::detail
