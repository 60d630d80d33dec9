// A contact sheet of the paper's augmentations: a row per augmentation, a column per image, to inspect the
// training images.
//
//   augment                                   the embedded digits
//   augment --data data/cifar10               CIFAR-10 (see scripts/get-data)
//   augment --data my/folder --size 64        images in folders by class
#include <cstdio>
#include <filesystem>
#include <lpf/data/augment/augment.hpp>
#include <lpf/data/sets/cifar.hpp>
#include <lpf/data/sets/digits.hpp>
#include <lpf/data/sets/image_folder.hpp>
#include <lpf/lpf.hpp>

#include "program.hpp"

using namespace lpf;

namespace {

struct Options {
  std::string data, out = "out/augment.png";
  std::vector<std::string> only;
  std::int64_t columns = 12, scale = 3, size = 64, epoch = 0;
  std::uint64_t seed = 0;
};

// The images of the sheet, as uint8: digits without --data, CIFAR-10 if found there, else folders.
TensorDataset pictures(const Options& o) {
  if (o.data.empty()) {
    const TensorDataset data = digits({.flat = false});
    const Tensor bytes = (data.images * 255.0).to(uint8);  // 8 × 8 pixels, framed to allow shifts
    Tensor framed = zeros({data.size(), 16, 16, 1}, {.dtype = uint8});
    for (std::int64_t i = 0; i < data.size(); ++i)
      for (std::int64_t y = 0; y < 8; ++y)
        std::copy_n(bytes.data<std::uint8_t>() + 64 * i + 8 * y, 8,
                    framed.data<std::uint8_t>() + 256 * i + 16 * (y + 4) + 4);
    return {framed, data.labels, 10};
  }
  namespace fs = std::filesystem;
  const fs::path place = lpf::detail::path_of(o.data);
  const char* names[] = {"test_batch.bin", "test_batch.bin.xz", "test_batch.bin.gz", "cifar-10-batches-bin",
                         "cifar-10-binary.tar.gz"};
  const bool cifar = fs::is_regular_file(place) || std::any_of(std::begin(names), std::end(names),
                                                               [&](auto n) { return fs::exists(place / n); });
  if (cifar) return cifar10(o.data, Split::test, {.dtype = uint8});
  ImageFolder found = image_folder(o.data, {.height = o.size, .width = o.size});
  if (!found.skipped.empty())
    std::fprintf(stderr, "augment: left out, since they cannot be read: %s\n", found.skipped_text().c_str());
  return std::move(found.data);
}

struct Row {
  std::string name;
  AugmentOptions options;
};

std::vector<Row> rows(const TensorDataset& data) {
  const std::int64_t side = data.images.size(1), hole = side / 2;
  return {{"original", {}},
          {"crop", {.crop_padding = side / 8}},
          {"flip", {.flip = true}},
          {"cutout", {.cutout = hole, .cutout_probability = 1}},
          {"autoaugment", {.auto_augment = true}},
          {"all", {.crop_padding = side / 8, .flip = true, .auto_augment = true, .cutout = hole}}};
}

// Writes a normalized image to the sheet as uint8, magnified, at row r and column c.
void place_picture(const Tensor& sheet, const float* x, const Tensor& images, const ChannelStatistics& s,
                   std::int64_t scale, std::int64_t r, std::int64_t c) {
  const std::int64_t h = images.size(1), w = images.size(2), channels = images.size(3), gap = 2;
  const std::int64_t top = gap + r * (h * scale + gap), left = gap + c * (w * scale + gap);
  for (std::int64_t i = 0; i < h * scale; ++i)
    for (std::int64_t j = 0; j < w * scale; ++j)
      for (std::int64_t k = 0; k < 3; ++k) {
        const std::int64_t channel = channels == 3 ? k : 0;
        const auto m = static_cast<std::size_t>(channel);
        const double unit = x[((i / scale) * w + j / scale) * channels + channel] * s.sd[m] + s.mean[m];
        sheet.data<std::uint8_t>()[((top + i) * sheet.size(1) + left + j) * 3 + k] =
            static_cast<std::uint8_t>(std::clamp(unit, 0.0, 1.0) * 255 + .5);
      }
}

void draw(const Options& o) {
  const TensorDataset data = pictures(o);
  const auto folder = lpf::detail::path_of(o.out).parent_path();
  if (!folder.empty()) create_directories(lpf::detail::text_of(folder));
  program::check_writable(o.out, "augment");
  const std::int64_t n = std::min(o.columns, data.size());
  const auto order = permutation(data.size(), {.seed = o.seed, .purpose = Purpose::user});
  const std::span samples(order.data(), static_cast<std::size_t>(n));

  std::vector<Row> shown = rows(data);
  if (!o.only.empty())
    std::erase_if(shown, [&](const Row& row) {
      return std::find(o.only.begin(), o.only.end(), row.name) == o.only.end();
    });
  // Cutout fills with the mean, as in training.
  const ChannelStatistics statistics = pixel_statistics(data.images);
  const std::int64_t h = data.images.size(1), w = data.images.size(2), gap = 2;
  const Tensor sheet = full(
      {gap + static_cast<std::int64_t>(shown.size()) * (h * o.scale + gap), gap + n * (w * o.scale + gap), 3},
      255, {.dtype = uint8});
  for (std::size_t r = 0; r < shown.size(); ++r) {
    shown[r].options.seed = o.seed;
    shown[r].options.normalization = statistics;
    Batch batch = data.batch(samples);
    Augment{shown[r].options}(batch, o.epoch, samples);
    for (std::int64_t c = 0; c < n; ++c)
      place_picture(sheet, batch.x.data<float>() + c * h * w * data.images.size(3), data.images, statistics,
                    o.scale, static_cast<std::int64_t>(r), c);
    std::printf("row %zu  %s\n", r + 1, shown[r].name.c_str());
  }
  save_png(o.out, sheet);
  std::printf("%s: %lld x %lld pixels, %lld pictures\n", o.out.c_str(), static_cast<long long>(sheet.size(1)),
              static_cast<long long>(sheet.size(0)), static_cast<long long>(n));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Writes a contact sheet: pictures, and what each augmentation makes of them.");
  app.option_defaults()->always_capture_default();
  app.add_option(
      "--data", o.data,
      "CIFAR-10's folder or archive, or a folder of pictures by class; without it, the embedded digits");
  app.add_option("--out", o.out, "the PNG to write");
  app.add_option("--only", o.only, "rows to draw, all unless given")
      ->check(CLI::IsMember({"original", "crop", "flip", "cutout", "autoaugment", "all"}));
  app.add_option("--columns", o.columns, "number of pictures")->check(CLI::Range(1, 1000));
  app.add_option("--scale", o.scale, "magnification")->check(CLI::Range(1, 32));
  app.add_option("--size", o.size, "pictures in folders are resized to this side")
      ->check(CLI::Range(8, 1024));
  app.add_option("--seed", o.seed, "of the pictures and the draws");
  app.add_option("--epoch", o.epoch, "whose draws to show")->check(CLI::Range(0, 1000000));
  return program::run(app, "augment", argc, argv, [&](const std::string&) {
    program::refuse_unused(app, "augment", "--size", !o.data.empty(),
                           "it is of pictures in folders, and without --data the digits are drawn");
    draw(o);
  });
}
