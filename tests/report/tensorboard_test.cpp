// TensorBoard's event files, read back here and by TensorBoard.
#include "lpf/report/tensorboard.hpp"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <vector>

#include "lpf/io/file.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

template <class T>
T take(std::string_view& bytes) {
  REQUIRE(bytes.size() >= sizeof(T));
  T out;
  std::memcpy(&out, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return out;
}
std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t out = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = take<std::uint8_t>(bytes);
    out |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return out;
  }
}

/// Bit by bit, directly from the polynomial.
std::uint32_t slow_crc32c(std::string_view bytes) {
  std::uint32_t c = ~0u;
  for (const char byte : bytes)
    for (int bit = 0; bit < 8; ++bit) {
      const std::uint32_t in = static_cast<unsigned char>(byte) >> bit & 1;
      c = (c >> 1) ^ ((c & 1) != in ? 0x82F63B78u : 0u);
    }
  return ~c;
}
std::uint32_t slow_mask(std::string_view bytes) {
  const std::uint32_t c = slow_crc32c(bytes);
  return (c >> 15 | c << 17) + 0xa282ead8u;
}

/// The fields of a message, by number: eight or four bytes, a varint, or text.
struct Field {
  std::uint64_t number = 0;
  std::string text;
};
std::map<int, Field> fields(std::string_view bytes) {
  std::map<int, Field> out;
  while (!bytes.empty()) {
    const std::uint64_t key = take_varint(bytes);
    Field& f = out[static_cast<int>(key >> 3)];
    switch (key & 7) {
      case 0: f.number = take_varint(bytes); break;
      case 1: f.number = take<std::uint64_t>(bytes); break;
      case 5: f.number = take<std::uint32_t>(bytes); break;
      default: {
        REQUIRE((key & 7) == 2);
        const std::size_t n = take_varint(bytes);
        REQUIRE(n <= bytes.size());
        f.text = bytes.substr(0, n);
        bytes.remove_prefix(n);
      }
    }
  }
  return out;
}

std::vector<std::map<int, Field>> events(const std::string& path) {
  const std::string file = lpf::detail::read_file(path, "test");
  std::string_view rest = file;
  std::vector<std::map<int, Field>> out;
  while (!rest.empty()) {
    const std::string_view length = rest.substr(0, 8);
    const auto n = take<std::uint64_t>(rest);
    CHECK(take<std::uint32_t>(rest) == slow_mask(length));
    REQUIRE(n <= rest.size());
    const std::string_view bytes = rest.substr(0, n);
    rest.remove_prefix(n);
    CHECK(take<std::uint32_t>(rest) == slow_mask(bytes));
    out.push_back(fields(bytes));
  }
  return out;
}

}  // namespace

TEST_CASE("tensorboard: CRC-32C has its known value, masked as TFRecord wants it") {
  CHECK(lpf::detail::crc32c("123456789") == 0xE3069283u);
  CHECK(lpf::detail::crc32c("") == 0);
  for (const std::string text : {"", "a", "some longer text, with \xff bytes"})
    CHECK(lpf::detail::masked_crc32c(text) == slow_mask(text));
}

TEST_CASE("tensorboard: an event file reads back") {
  const TempDir dir;
  TensorBoardWriter board((dir / "run").string());
  board.scalar("loss/train", 0.25, 3);
  board.scalar("loss/train", -1e-3, 1'000'000'007);
  board.scalar("error", not_a_number, 7);
  const auto all = events(board.path());
  REQUIRE(all.size() == 4);
  CHECK(all[0].at(3).text == "brain.Event:2");
  const double time = std::bit_cast<double>(all[1].at(1).number);
  CHECK(time > 1.6e9);
  CHECK(time < 1e11);
  const std::uint64_t steps[] = {3, 1'000'000'007, 7};
  const float values[] = {0.25f, -1e-3f};
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(all[i + 1].at(2).number == steps[i]);
    const auto value = fields(fields(all[i + 1].at(5).text).at(1).text);
    CHECK(value.at(1).text == (i < 2 ? "loss/train" : "error"));
    const float found = std::bit_cast<float>(static_cast<std::uint32_t>(value.at(2).number));
    CHECK((i < 2 ? found == values[i] : std::isnan(found)));
  }
}

TEST_CASE("tensorboard: each writer has a file of its own, and one that goes on says from where") {
  const TempDir dir;
  const TensorBoardWriter first(dir.path().string()), second(dir.path().string(), 12);
  CHECK(first.path() != second.path());
  const auto all = events(second.path());
  REQUIRE(all.size() == 2);
  CHECK(all[1].at(2).number == 13);
  CHECK(fields(all[1].at(7).text).at(1).number == 1);  // SessionLog.START
  CHECK(events(first.path()).size() == 1);
  write_file_atomically((dir / "file").string(), "");
  CHECK_ERROR(TensorBoardWriter((dir / "file").string()), IOError, "file");
}

TEST_CASE("tensorboard: TensorBoard's own reader reads it, and what was repeated once") {
  const char* set = std::getenv("LPF_TEST_PYTHON");
  const std::string python = set ? set : "python3";
  if (std::system((python + " -c 'import tensorboard' > /dev/null 2>&1").c_str()) != 0)
    return skip("no Python with tensorboard; LPF_TEST_PYTHON names another one");
  const TempDir dir;
  const std::string folder = (dir / "run").string(), out = (dir / "out").string();
  {
    TensorBoardWriter board(folder);
    for (std::uint64_t step : {10, 20, 30}) board.scalar("loss/train", 1.0 / static_cast<double>(step), step);
  }
  TensorBoardWriter board(folder, 10);  // resumed from a checkpoint of step 10
  board.scalar("loss/train", 0.5, 20);
  const std::string script = concat(
      "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as A\n"
      "a = A('",
      folder,
      "'); a.Reload()\n"
      "print(';'.join('%d %.6f' % (e.step, e.value) for e in a.Scalars('loss/train')), file=open('",
      out, "', 'w'))\n");
  write_file_atomically((dir / "read.py").string(), script);
  REQUIRE(std::system((python + " " + (dir / "read.py").string() + " 2> /dev/null").c_str()) == 0);
  CHECK(lpf::detail::read_file(out, "test") == "10 0.100000;20 0.500000\n");
}
