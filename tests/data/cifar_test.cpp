// CIFAR's binary version, plain, compressed and in an archive; the tar reader; errors for broken files.
#include "lpf/data/sets/cifar.hpp"

#include <cstdlib>

#include "files.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

using Labels = std::vector<std::int64_t>;

std::uint8_t pixel(int label, std::size_t i) { return static_cast<std::uint8_t>(label * 7 + i % 251); }

/// Records with these labels; pixel i of a record is pixel(label, i).
std::string records(const std::vector<int>& labels, bool coarse = false) {
  std::string out;
  for (const int label : labels) {
    if (coarse) out += static_cast<char>(label / 5);
    out += static_cast<char>(label);
    for (std::size_t i = 0; i < 3072; ++i) out += static_cast<char>(pixel(label, i));
  }
  return out;
}

/// An archive with these files; `type` is '5' for a folder.
struct Entry {
  std::string name, bytes;
  char type = '0';
};
std::string tar(const std::vector<Entry>& entries) {
  std::string out;
  const auto octal = [](std::size_t value, int digits) {
    std::string text(static_cast<std::size_t>(digits), '0');
    for (auto c = text.rbegin(); c != text.rend(); ++c, value /= 8) *c = static_cast<char>('0' + value % 8);
    return text;
  };
  for (const auto& e : entries) {
    std::string header(512, '\0');
    header.replace(0, e.name.size(), e.name);
    header.replace(124, 11, octal(e.bytes.size(), 11));
    header.replace(148, 8, "        ");
    header[156] = e.type;
    header.replace(257, 8, std::string("ustar\0", 6) + "00");
    std::size_t sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    header.replace(148, 8, octal(sum, 6) + std::string("\0 ", 2));
    out += header + e.bytes + std::string((512 - e.bytes.size() % 512) % 512, '\0');
  }
  return out + std::string(1024, '\0');
}

const std::vector<Entry> archive = {{"cifar-10-batches-bin/", "", '5'},
                                    {"cifar-10-batches-bin/data_batch_2.bin", records({1, 9})},
                                    {"cifar-10-batches-bin/readme.html", "read me"},
                                    {"cifar-10-batches-bin/data_batch_1.bin", records({3})},
                                    {"cifar-10-batches-bin/data_batch_5.bin", records({5})},
                                    {"cifar-10-batches-bin/data_batch_3.bin", records({0, 2, 4})},
                                    {"cifar-10-batches-bin/data_batch_4.bin", records({8})},
                                    {"cifar-10-batches-bin/test_batch.bin", records({7, 7})}};
const Labels train_labels{3, 1, 9, 0, 2, 4, 8, 5};

constexpr CIFAROptions part{.dtype = uint8, .complete = false};

/// Checks images against records().
void check_pixels(const TensorDataset& data, const Labels& fine) {
  REQUIRE(data.images.shape() == Shape{static_cast<std::int64_t>(fine.size()), 32, 32, 3});
  const auto* x = data.images.data<std::uint8_t>();
  std::int64_t wrong = 0;
  for (const auto label : fine)
    for (std::size_t p = 0; p < 1024; ++p)
      for (std::size_t c = 0; c < 3; ++c) wrong += *x++ != pixel(static_cast<int>(label), 1024 * c + p);
  CHECK(wrong == 0);
}

std::string unpack(const std::string& bytes) {
  const auto source = detail::unpacked(std::make_unique<detail::RawBytes>(bytes), "x", "test");
  std::string out;
  char piece[777];
  while (const auto n = source->read(piece, sizeof piece)) out.append(piece, n);
  return out;
}

/// Every byte of compressed data matters: truncated or changed anywhere, it throws or gives the same result.
[[maybe_unused]] void check_packing(const std::string& packed, const std::string& plain) {
  CHECK(unpack(packed) == plain);
  CHECK(unpack(packed + packed) == plain + plain);
  for (std::size_t n = 6; n < packed.size(); ++n) CHECK_THROWS_AS(unpack(packed.substr(0, n)), FormatError);
  CHECK_THROWS_AS(unpack(packed + "x"), FormatError);
  for (std::size_t i = 6; i < packed.size(); ++i) {
    std::string broken = packed;
    broken[i] = static_cast<char>(broken[i] ^ 0x20);
    std::string got = plain;
    try {
      got = unpack(broken);
    } catch (const FormatError&) {}
    CHECK(got == plain);  // the time in a gzip header is not checked
  }
}

}  // namespace

TEST_CASE("cifar: CIFAR-10 from plain files") {
  const test::TempDir dir;
  const std::string place = dir.path().string();
  write(dir / "test_batch.bin", records({7, 0, 9}));
  const TensorDataset data = cifar10(place, Split::test, part);
  CHECK(data.labels.to_vector<std::int64_t>() == Labels{7, 0, 9});
  CHECK(data.classes() == 10);
  check_pixels(data, {7, 0, 9});

  const Tensor unit = cifar10(place, Split::test, {.complete = false}).images;
  CHECK(unit.dtype() == float32);
  const auto* bytes = data.images.data<std::uint8_t>();
  for (std::int64_t i = 0; i < unit.numel(); i += 977)
    CHECK(unit.data<float>()[i] == static_cast<float>(bytes[i] / 255.0));
  const Tensor normal =
      cifar10(place, Split::test, {.dtype = float64, .normalize = true, .complete = false}).images;
  const double mean[] = {.4914, .4822, .4465}, sd[] = {.2023, .1994, .2010};
  for (std::int64_t i = 0; i < normal.numel(); i += 977)
    CHECK(normal.data<double>()[i] ==
          doctest::Approx((bytes[i] / 255.0 - mean[i % 3]) / sd[i % 3]).epsilon(1e-15));
  CHECK_THROWS_AS(cifar10(place, Split::test, {.dtype = int64}), DTypeError);
  CHECK_THROWS_AS(cifar10(place, Split::test, {.dtype = uint8, .normalize = true}), DTypeError);
  CHECK_THROWS_AS(cifar10(place, Split::test, {.labels = CIFARLabels::coarse}), ValueError);
}

TEST_CASE("cifar: CIFAR-100 has fine and coarse labels") {
  const test::TempDir dir;
  std::filesystem::create_directory(dir / "cifar-100-binary");
  write(dir / "cifar-100-binary/train.bin", records({99, 0, 42}, true));
  const std::string place = dir.path().string();
  const TensorDataset fine = cifar100(place, Split::train, part);
  CHECK(fine.labels.to_vector<std::int64_t>() == Labels{99, 0, 42});
  CHECK(fine.classes() == 100);
  check_pixels(fine, {99, 0, 42});
  const TensorDataset coarse =
      cifar100(place, Split::train, {.dtype = uint8, .labels = CIFARLabels::coarse, .complete = false});
  CHECK(coarse.labels.to_vector<std::int64_t>() == Labels{19, 0, 8});
  CHECK(coarse.classes() == 20);
  CHECK_ERROR(cifar100(place, Split::test, part), IOError, "has neither test.bin");
  CHECK_ERROR(cifar100(place, Split::train, {}), FormatError, "has 3 records, it must have 50000");

  std::string bad = records({99, 0, 42}, true);
  bad[3074] = 20;
  write(dir / "cifar-100-binary/train.bin", bad);
  CHECK_ERROR(cifar100(place, Split::train, part), FormatError, "train.bin",
              "coarse label 20 of record 1 is outside [0, 20)");
  bad[3074] = 19;
  bad[3075] = 100;
  write(dir / "cifar-100-binary/train.bin", bad);
  CHECK_ERROR(cifar100(place, Split::train, part), FormatError,
              "fine label 100 of record 1 is outside [0, 100)");
}

TEST_CASE("cifar: broken files are refused with the record's number") {
  const test::TempDir dir;
  const std::string place = dir.path().string();
  const std::string good = records({7, 0, 9});
  const auto refused = [&](const std::string& bytes, std::string_view rule) {
    write(dir / "test_batch.bin", bytes);
    CHECK_ERROR(cifar10(place, Split::test, part), FormatError, "test_batch.bin", rule);
  };
  refused("", "is empty");
  refused(good.substr(0, good.size() - 1), "record 2 has 3072 bytes, a record has 3073");
  refused(good + "x", "record 3 has 1 bytes");
  std::string bad = good;
  bad[2 * 3073] = 10;
  refused(bad, "label 10 of record 2 is outside [0, 10)");
  write(dir / "test_batch.bin", good);
  CHECK_ERROR(cifar10(place, Split::test), FormatError, "has 3 records, it must have 10000");
  std::string many;
  for (int i = 0; i < 10001; ++i) many += good.substr(0, 3073);
  write(dir / "test_batch.bin", many);
  CHECK_ERROR(cifar10(place, Split::test), FormatError, "has more than the 10000 records");
  CHECK_ERROR(cifar10(place, Split::train), IOError, "has neither data_batch_1.bin",
              "cifar-10-binary.tar.gz");
  write(dir / "data_batch_2.bin", good);
  CHECK_ERROR(cifar10(place, Split::train), IOError, "has no data_batch_1.bin");

  std::filesystem::remove(dir / "test_batch.bin");
  const auto refused_packed = [&](const char* name, const std::string& packed) {
    write(dir / name, packed.substr(0, packed.size() - 4));  // cuts off the checksum
    CHECK_ERROR(cifar10(place, Split::test, part), FormatError, name, "truncated", ", in record 3");
    std::filesystem::remove(dir / name);
  };
#ifdef LPF_HAS_ZLIB
  refused_packed("test_batch.bin.gz", gzip(good));
#endif
#ifdef LPF_HAS_LZMA
  refused_packed("test_batch.bin.xz", xz(good));
#endif
  CHECK_ERROR(cifar10("/no/such/place", Split::train), IOError, "/no/such/place");
}

TEST_CASE("cifar: an archive, whose files may lie in any order") {
  const test::TempDir dir;
  const auto path = dir / "cifar-10-binary.tar.gz";
  const std::string whole = tar(archive), file = path.string();
  write(path, whole);  // the content determines the format
  for (const std::string& place : {file, dir.path().string()}) {
    const TensorDataset train = cifar10(place, Split::train, part);
    CHECK(train.labels.to_vector<std::int64_t>() == train_labels);
    check_pixels(train, train_labels);
    CHECK(cifar10(place, Split::test, part).labels.to_vector<std::int64_t>() == Labels{7, 7});
  }
  CHECK_ERROR(cifar10(file, Split::train), FormatError, "data_batch_2.bin' has 2 records");

  for (const std::size_t n : {std::size_t{0}, std::size_t{511}, std::size_t{512}, whole.size() / 2,
                              whole.size() - 1024, whole.size() - 513}) {
    write(path, whole.substr(0, n));
    CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "not a whole tar archive");
  }
  for (const std::size_t zeros : {1u, 512u, 20000u}) {  // tapes fill a block with zeros
    write(path, whole + std::string(zeros, '\0'));
    CHECK(cifar10(file, Split::train, part).size() == std::ssize(train_labels));
  }
  for (const std::string& behind : {std::string("x"), std::string(30000, '\0') + "x", whole}) {
    write(path, whole + behind);
    CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "has data behind its end");
  }
  std::string bad = whole;
  bad[600] = '7';
  write(path, bad);
  CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "checksum");
  bad = whole;
  bad[512 + 124] = 'x';
  write(path, bad);
  CHECK_THROWS_AS(cifar10(file, Split::train, part), FormatError);
  auto entries = archive;
  entries.push_back(archive[1]);
  write(path, tar(entries));
  CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "has two files data_batch_2.bin");
  entries = archive;
  entries.erase(entries.begin() + 3);
  write(path, tar(entries));
  CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "has no file data_batch_1.bin");
  entries[1].bytes[3073] = 11;
  write(path, tar(entries));
  CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "cifar-10-batches-bin/data_batch_2.bin",
              "label 11 of record 1");

  // Names in extended headers: pax, GNU, and beside other records and headers.
  const std::string folder(200, 'f');
  const auto record = [](const std::string& field) {
    std::size_t length = field.size() + 2, digits = 1;
    for (; std::to_string(length + digits).size() != digits; ++digits) {}
    return std::to_string(length + digits) + " " + field + "\n";
  };
  const auto renamed = [&](const std::vector<Entry>& headers) {
    auto all = archive;
    all[3].name = "no-such-name";
    all.insert(all.begin() + 3, headers.begin(), headers.end());
    return tar(all);
  };
  const std::string name = folder + "/λ/data_batch_1.bin", path_record = record("path=" + name);
  for (const auto& headers : std::vector<std::vector<Entry>>{
           {{"pax", path_record, 'x'}},
           {{"pax", record("mtime=1.5") + record("path=another") + path_record + record("comment=a\nb=c"),
             'x'}},
           {{"././@LongLink", name + std::string(1, '\0'), 'L'}},
           {{"././@LongLink", name, 'L'},
            {"././@LongLink", "a link", 'K'},
            {"pax", record("size=3073"), 'x'}},
           {{"global", record("comment=c"), 'g'}, {"pax", path_record + "rubbish", 'x'}}}) {
    write(path, renamed(headers));
    CHECK(cifar10(file, Split::train, part).labels.to_vector<std::int64_t>() == train_labels);
  }
  for (const std::string& content :
       {record("path="), std::string("path=data_batch_1.bin\n"), std::string("9999 path=data_batch_1.bin\n"),
        std::string("1 path=data_batch_1.bin\n"), std::string("99"), std::string("0 "), std::string(),
        std::string(1 << 20, ' ') + path_record}) {
    write(path, renamed({{"pax", content, 'x'}}));
    CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "has no file data_batch_1.bin");
  }
  // The name is one file's, here a folder's, and not that of the file behind it.
  write(path, renamed({{"pax", path_record, 'x'}, {"folder", "", '5'}}));
  CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "has no file data_batch_1.bin");
  const std::string long_names = renamed({{"pax", path_record, 'x'}});
  const std::size_t end = long_names.size() - 1024;
  for (std::size_t n = 0; n <= end; n += 512) {
    write(path, long_names.substr(0, n));
    CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "not a whole tar archive");
  }

#ifdef LPF_HAS_ZLIB
  const std::string packed = gzip(whole);
  write(path, packed);
  CHECK(cifar10(file, Split::train, part).labels.to_vector<std::int64_t>() == train_labels);
  write(path, packed.substr(0, packed.size() - 1));
  CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "the gzip data are truncated");
  bad = packed;
  bad[packed.size() - 6] ^= 1;
  write(path, bad);
  CHECK_ERROR(cifar10(file, Split::train, part), FormatError, "corrupt", "incorrect data check");
#else
  write(path, "\x1f\x8b...");
  CHECK_ERROR(cifar10(file, Split::train, part), IOError, "built without zlib");
#endif
}

TEST_CASE("cifar: packed files") {
  const test::TempDir dir;
  const std::string place = dir.path().string(), plain = records({7, 0, 9});
#ifdef LPF_HAS_ZLIB
  write(dir / "test_batch.bin.gz", gzip(plain));
  check_pixels(cifar10(place, Split::test, part), {7, 0, 9});
  check_packing(gzip(plain.substr(0, 400)), plain.substr(0, 400));
  CHECK(unpack(gzip("")).empty());
#endif
#ifdef LPF_HAS_LZMA
  write(dir / "test_batch.bin.xz", xz(plain));
  check_pixels(cifar10(place, Split::test, part), {7, 0, 9});
  check_packing(xz(plain.substr(0, 400)), plain.substr(0, 400));
  CHECK(unpack(xz("")).empty());
#else
  write(dir / "test_batch.bin.xz", std::string("\xfd"
                                               "7zXZ\0",
                                               6));
  CHECK_ERROR(cifar10(place, Split::test, part), IOError, "built without liblzma");
#endif
}

TEST_CASE("cifar: constants to normalise by") {
  const Tensor bytes = tensor<std::uint8_t>({0, 255, 0, 51, 102, 255}).alias({1, 1, 2, 3});
  const ChannelStatistics s = pixel_statistics(bytes);
  CHECK(s.mean[0] == doctest::Approx(.1));
  CHECK(s.mean[1] == doctest::Approx(.7));
  CHECK(s.sd[2] == doctest::Approx(.5));
  CHECK(pixel_statistics(tensor({0.f, 1.f}).alias({1, 2, 1, 1})).mean[0] == .5);
  CHECK(cifar_statistics().sd == std::vector<double>{.2023, .1994, .2010});
  CHECK(mnist_statistics().mean == std::vector<double>{.1307});
}

TEST_CASE("cifar: the whole of CIFAR-10 [slow]") {
  const char* given = std::getenv("LPF_DATA_DIR");
  const auto folder = (given ? std::filesystem::path(given) : test::fixture("../../data")) / "cifar10";
  if (!std::filesystem::exists(folder))
    return test::skip("no CIFAR-10: set LPF_DATA_DIR to the folder that has cifar10/");
#ifndef LPF_HAS_LZMA
  if (std::filesystem::exists(folder / "test_batch.bin.xz"))
    return test::skip("CIFAR-10 is packed, and there is no liblzma");
#endif
  const TensorDataset train = cifar10(folder.string(), Split::train, {.dtype = uint8});
  const TensorDataset test = cifar10(folder.string(), Split::test, {.dtype = uint8});
  CHECK(train.images.shape() == Shape{50000, 32, 32, 3});
  CHECK(test.images.shape() == Shape{10000, 32, 32, 3});
  CHECK(train.class_counts() == std::vector<std::int64_t>(10, 5000));
  CHECK(test.class_counts() == std::vector<std::int64_t>(10, 1000));
  const ChannelStatistics s = pixel_statistics(train.images);
  const double mean[] = {.49140, .48216, .44653}, sd[] = {.24703, .24349, .26159};
  for (std::size_t c = 0; c < 3; ++c) {
    CHECK(s.mean[c] == doctest::Approx(mean[c]).epsilon(2e-5));
    CHECK(s.sd[c] == doctest::Approx(sd[c]).epsilon(2e-5));
  }
}
