// The file readers under libFuzzer: for any bytes, a reader returns valid data or throws one of LPF's errors.
// The environment variable LPF_FUZZ names the reader; run.sh builds and runs it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "lpf/data/sets/arrays.hpp"
#include "lpf/data/sets/cifar.hpp"
#include "lpf/data/sets/idx.hpp"
#include "lpf/io/npz.hpp"
#include "lpf/io/safetensors.hpp"

using namespace lpf;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

/// Reads every byte, so that uninitialised or invalid memory is detected.
void use(const Tensor& t) {
  const auto* byte = static_cast<const unsigned char*>(t.raw());
  unsigned sum = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(t.numel()) * size_of(t.dtype()); ++i) sum += byte[i];
  volatile unsigned seen = sum;
  static_cast<void>(seen);
}

void npy(std::string_view bytes) { use(parse_npy(bytes)); }

void npz(std::string_view bytes) {
  for (const auto& [name, tensor] : parse_npz(bytes)) use(tensor);
}

void safetensors(std::string_view bytes) {
  for (const auto& [name, tensor] : parse_safetensors(bytes)) use(tensor);
}

std::unique_ptr<detail::ByteSource> source(std::string_view bytes) {
  return detail::unpacked(std::make_unique<detail::RawBytes>(bytes), "input", "fuzz");
}

void idx(std::string_view bytes) {
  std::string whole;
  detail::read_to_end(*source(bytes), whole);
  use(parse_idx(whole));
}

/// CIFAR-10, or CIFAR-100 if the first byte is odd; plain, gzip or xz.
void cifar(std::string_view bytes) {
  if (bytes.empty()) return;
  const bool hundred = (bytes[0] & 1) != 0;
  const detail::CIFARFormat format{
      "fuzz", hundred ? std::vector<std::int64_t>{20, 100} : std::vector<std::int64_t>{10}, hundred ? 1u : 0u,
      (bytes[0] & 2) != 0 ? 2 : 0};
  const auto from = source(bytes.substr(1));
  std::vector<detail::CIFARRecords> parts;
  parts.push_back(detail::read_cifar_records(
      [&](void* to, std::size_t n) { return detail::read_fully(*from, to, n); }, "input", format));
  const TensorDataset data = detail::cifar_dataset(std::move(parts), format, {.dtype = uint8});
  require(data.size() > 0 && data.images.size(0) == data.size());
  use(data.images);
  use(data.labels);
}

/// An archive; its files are read in pieces of the size given by the first byte.
void tar(std::string_view bytes) {
  if (bytes.empty()) return;
  const std::size_t piece = 1 + static_cast<unsigned char>(bytes[0]) * 7u;
  detail::TarReader archive(source(bytes.substr(1)), "input", "fuzz");
  std::vector<char> buffer(piece);
  while (archive.next()) {
    std::uint64_t got = 0;
    if (archive.name().size() % 2 == 0)  // the others are skipped
      while (const std::size_t n = archive.read(buffer.data(), piece)) got += n;
    require(got == 0 || got == archive.size());
    require(archive.name().size() <= std::size_t{1} << 20);
  }
}

constexpr std::pair<std::string_view, void (*)(std::string_view)> readers[] = {
    {"idx", idx}, {"npy", npy}, {"npz", npz}, {"safetensors", safetensors}, {"cifar", cifar}, {"tar", tar}};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto reader = [] {
    const char* name = std::getenv("LPF_FUZZ");
    for (const auto& [known, function] : readers)
      if (name != nullptr && known == name) return function;
    std::fputs("LPF_FUZZ must name a reader\n", stderr);
    std::exit(2);
  }();
  try {
    reader({reinterpret_cast<const char*>(data), size});
  } catch (const Error&) {}
  return 0;
}
