// Image files: decoding, resizing, and folders by class.
#include "lpf/data/sets/image_folder.hpp"

#include "files.hpp"
#include "fixture_case.hpp"

using namespace lpf;
using test::write;

namespace {

const test::FixtureFile& pictures() { return test::FixtureFile::named("pictures.safetensors"); }
std::string bytes_of(const std::string& name) {
  const auto bytes = pictures().at(name).span<std::uint8_t>();
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("image: resizing gives Pillow's bytes") {
  int sizes = 0;
  for (const auto& [name, expected] : pictures().tensors) {
    if (name.find('x') == std::string::npos || name.find('.') != std::string::npos) continue;
    INFO(name);
    CHECK(test::same_bits(resize(pictures().at("picture"), expected.size(0), expected.size(1)), expected));
    ++sizes;
  }
  CHECK(sizes == 6);
  const Tensor same = resize(pictures().at("picture"), 16, 20);
  CHECK(test::same_bits(same, pictures().at("picture")));
  const Tensor two =
      tensor<std::uint8_t>({10, 30}).alias({1, 2, 1});  // a quarter and three quarters of the way
  CHECK(resize(two, 2, 4).to_vector<int>() == std::vector<int>{10, 15, 25, 30, 10, 15, 25, 30});
  CHECK_THROWS_AS(resize(two, 0, 4), ValueError);
  CHECK_THROWS_AS(resize(two.alias({2}), 1, 1), ShapeError);
  CHECK_THROWS_AS(resize(two.to(float32), 1, 1), DTypeError);
}

#ifdef LPF_HAS_STB

TEST_CASE("image: PNG, JPEG and BMP") {
  const Tensor& picture = pictures().at("picture");
  for (const char* name : {"rgb.png", "rgb.bmp", "alpha.png"})
    CHECK(test::same_bits(parse_image(bytes_of(name)), picture));
  CHECK(test::same_bits(parse_image(bytes_of("palette.png")), pictures().at("palette")));
  const Tensor grey = parse_image(bytes_of("grey.png"), 1);
  CHECK(grey.shape() == Shape{16, 20, 1});
  CHECK(grey.data<std::uint8_t>()[7] == picture.data<std::uint8_t>()[21]);
  CHECK(parse_image(bytes_of("grey.png")).shape() == Shape{16, 20, 3});
  const Tensor jpeg = parse_image(bytes_of("rgb.jpeg"));
  REQUIRE(jpeg.shape() == picture.shape());
  const auto expected = pictures().at("jpeg").span<std::uint8_t>();
  int worst = 0;
  for (std::int64_t i = 0; i < jpeg.numel(); ++i)
    worst = std::max(worst, std::abs(jpeg.data<std::uint8_t>()[i] - expected[static_cast<std::size_t>(i)]));
  CHECK(worst <= 3);  // decoders may round their cosine transforms differently

  const test::TempDir dir;
  const std::string path = (dir / "a.png").string();
  for (const Tensor& image : {picture, grey}) {
    save_png(path, image);
    CHECK(test::same_bits(load_image(path, static_cast<int>(image.size(2))), image));
  }
  CHECK_THROWS_AS(save_png(path, picture.to(float32)), DTypeError);
  CHECK_THROWS_AS(save_png(path, picture.alias({16, 10, 6})), ShapeError);
  CHECK_THROWS_AS(save_png((dir / "no/a.png").string(), picture), IOError);
}

TEST_CASE("image: broken pictures are refused") {
  CHECK_ERROR(parse_image("", 3, "x.png"), FormatError, "'x.png' is not a PNG, JPEG or BMP picture");
  CHECK_ERROR(parse_image("GIF89a......", 3, "x.png"), FormatError, "'x.png'");
  CHECK_ERROR(parse_image(bytes_of("rgb.png"), 4), ValueError, "1 or 3 channels");
  CHECK_THROWS_AS(load_image("/no/such.png"), IOError);
  const std::string png = bytes_of("rgb.png");
  for (std::size_t n = 0; n + 20 < png.size(); n += 7)
    CHECK_THROWS_AS(parse_image(png.substr(0, n)), FormatError);
  std::string large = png;
  large[18] = '\x7f';  // width
  CHECK_ERROR(parse_image(large), FormatError, "a side may have");
}

TEST_CASE("image: a folder for each class") {
  const test::TempDir dir;
  write(dir / "train/dog/b.PNG", bytes_of("rgb.png"));
  write(dir / "train/dog/a.bmp", bytes_of("rgb.bmp"));
  write(dir / "train/dog/readme.txt", "not a picture");
  write(dir / "train/cat/images/1.png", bytes_of("palette.png"));
  write(dir / "train/notes.txt", "");
  write(dir / "train/.hidden/1.png", "");
  const std::string folder = (dir / "train").string();
  const ImageFolder set = image_folder(folder);
  CHECK(set.classes == std::vector<std::string>{"cat", "dog"});
  CHECK(set.data.images.shape() == Shape{3, 16, 20, 3});
  CHECK(set.data.labels.to_vector<int>() == std::vector<int>{0, 1, 1});
  CHECK(set.data.classes() == 2);
  CHECK(test::same_bits(set.data.take(1).images.alias({16, 20, 3}), pictures().at("palette")));

  const ImageFolder small = image_folder(folder, {.height = 8, .width = 10});
  CHECK(small.data.images.shape() == Shape{3, 8, 10, 3});
  CHECK(test::same_bits(small.data.subset({2}).images.alias({8, 10, 3}), pictures().at("8x10")));
  CHECK(image_folder(folder, {.channels = 1}).data.images.shape() == Shape{3, 16, 20, 1});

  write(dir / "val.txt", "b.PNG\tdog\t0\t0\r\na.bmp\tcat\n\n");
  const ImageFolder listed = image_folder((dir / "train/dog").string(),
                                          {.classes = set.classes, .list = (dir / "val.txt").string()});
  CHECK(listed.data.labels.to_vector<int>() == std::vector<int>{1, 0});
  CHECK(listed.classes == set.classes);

  write(dir / "val.txt", "b.PNG dog\n");
  CHECK_ERROR(image_folder((dir / "train/dog").string(), {.list = (dir / "val.txt").string()}), FormatError,
              "val.txt', line 1");
  CHECK_ERROR(image_folder(folder, {.classes = {"cat", "dogs"}}), FormatError, "is of class 'dog'",
              "did you mean 'dogs'?");
  CHECK_ERROR(image_folder(folder, {.height = 8}), ValueError, "both");
  CHECK_ERROR(image_folder((dir / "none").string()), IOError, "none");
  CHECK_ERROR(image_folder((dir / "train/dog").string()), FormatError, "no folders with pictures");
  Tensor other = resize(pictures().at("picture"), 16, 21);
  save_png((dir / "train/dog/c.png").string(), other);
  CHECK_ERROR(image_folder(folder), ShapeError, "c.png' has 16 x 21 pixels, the first picture 16 x 20");
  write(dir / "train/dog/c.png", "no picture");
  CHECK_ERROR(image_folder(folder), FormatError, "c.png' is not");
  std::filesystem::remove(dir / "train/dog/c.png");
  std::filesystem::create_directories(dir / "train/empty");
  CHECK_ERROR(image_folder(folder), FormatError, "empty' is a class without a picture");
}

TEST_CASE("image: hidden files, pictures of other formats, and links in a folder for each class") {
  const test::TempDir dir;
  const std::string folder = (dir / "train").string(), png = bytes_of("rgb.png");
  write(dir / "train/cat/1.png", png);
  write(dir / "train/cat/._1.png", "of another file system");
  write(dir / "train/cat/.ipynb_checkpoints/1-checkpoint.png", png);
  write(dir / "train/cat/more/2.webp", "");
  write(dir / "train/cat/3.WEBP", "");
  write(dir / "train/cat/3.gif", "");
  write(dir / "train/.ipynb_checkpoints/x.png", png);
  write(dir / "elsewhere/deep/4.png", png);
  write(dir / "elsewhere/5.png", png);
  namespace fs = std::filesystem;
  std::error_code unable;
  fs::create_directory_symlink(dir / "elsewhere", dir / "train/dog", unable);
  if (unable) return test::skip("no symbolic links here");
  fs::create_directory_symlink(dir / "elsewhere/deep", dir / "train/cat/linked");
  fs::create_directory_symlink("..", dir / "elsewhere/deep/up");  // a cycle
  fs::create_directory_symlink(".", dir / "elsewhere/here");
  fs::create_symlink("itself", dir / "train/cat/itself");
  const ImageFolder set = image_folder(folder);
  CHECK(set.classes == std::vector<std::string>{"cat", "dog"});
  // cat: 1.png, linked/4.png, linked/up/5.png; dog: 5.png, deep/4.png
  CHECK(set.data.labels.to_vector<int>() == std::vector<int>{0, 0, 0, 1, 1});
  CHECK(set.skipped == std::map<std::string, std::int64_t>{{".webp", 2}, {".gif", 1}});
  CHECK(set.skipped_text() == "1 .gif, 2 .webp");
  write(dir / "train/bird/1.webp", "");
  CHECK_ERROR(image_folder(folder), FormatError, "bird' is a class without a picture", "1 .webp: convert");
  fs::remove_all(dir / "train/bird");
  fs::create_symlink("nowhere.png", dir / "train/cat/z.png");
  CHECK_ERROR(image_folder(folder), IOError, "z.png");
}

#else

TEST_CASE("image: without stb_image, an error says so") {
  CHECK_ERROR(parse_image(bytes_of("rgb.png")), IOError, "built without stb_image");
}

#endif
