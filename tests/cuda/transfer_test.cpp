// Transfer of batches to the device. The emulated device copies as late as
// possible: when the copy is waited for.
#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

TensorDataset numbered(std::int64_t n) {
  std::vector<std::int64_t> labels(static_cast<std::size_t>(n));
  std::iota(labels.begin(), labels.end(), std::int64_t{0});
  return {Choice(5).numbers({n, 3, 2}, float32).to(Device::cpu()),
          from_vector(labels, {n}).to(Device::cpu())};
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() && a.to_vector() == b.to_vector();
}

}  // namespace

TEST_CASE("transfer: batches on the device are those on the CPU, the ragged last one too") {
  SKIP_WITHOUT_CUDA;
  for (const int workers : {-1, 0, 1, 3}) {
    CAPTURE(workers);
    const LoaderOptions options{.batch_size = 8, .seed = 4, .device = Device::cpu(), .workers = workers};
    LoaderOptions there = options;
    there.device = Device::cuda();
    DataLoader host(numbered(53), options), device(numbered(53), there);
    std::vector<Batch> kept;  // longer than the loader needs them
    for (int epoch = 0; epoch < 3; ++epoch) {
      auto at = host.begin();
      for (const auto& [x, y] : device) {
        CHECK(x.device() == Device::cuda());
        CHECK(y.device() == Device::cuda());
        CHECK(same(x, (*at).x));
        CHECK(same(y, (*at).y));
        CHECK(device.state() == host.state());
        kept.push_back({x, y});
        ++at;
      }
      CHECK(at == host.end());
    }
    std::size_t i = 0;
    for (int epoch = 0; epoch < 3; ++epoch) {
      host.set_epoch(epoch);
      for (const auto& [x, y] : host) {
        CHECK(same(kept[i].x, x));
        CHECK(same(kept[i++].y, y));
      }
    }
  }
}

TEST_CASE("transfer: a loop that is left early, restored, or whose loader goes first") {
  SKIP_WITHOUT_CUDA;
  const LoaderOptions options{.batch_size = 4, .seed = 1, .device = Device::cuda(), .workers = 2};
  DataLoader plain(numbered(40), options);
  std::vector<Tensor> expected;
  for (const auto& [x, y] : plain) expected.push_back(y);
  Tensor last;
  {
    DataLoader loader(numbered(40), options);
    for ([[maybe_unused]] const auto& batch : loader)
      if (loader.state().batch == 3) break;
    loader.restore({0, 2});
    std::size_t i = 2;
    for (const auto& [x, y] : loader) {
      CHECK(same(y, expected[i++]));
      last = y;
      if (i == 6) break;
    }
  }
  CHECK(same(last, expected[5]));
}

TEST_CASE("transfer: an error of a batch comes with that batch, and the loop can be taken up again") {
  SKIP_WITHOUT_CUDA;
  auto fail = std::make_shared<bool>(true);
  DataLoader loader(numbered(40), {.batch_size = 4,
                                   .seed = 1,
                                   .transform =
                                       [fail](Batch&, std::int64_t, std::span<const std::int64_t> samples) {
                                         if (*fail && std::ranges::find(samples, 33) != samples.end())
                                           throw std::runtime_error("no good");
                                       },
                                   .device = Device::cuda(),
                                   .workers = 1});
  std::int64_t good = 0;
  try {
    for (const auto& batch : loader) {
      const auto labels = batch.y.to_vector<std::int64_t>();
      CHECK(std::ranges::find(labels, 33) == labels.end());
      ++good;
    }
    FAIL("no error");
  } catch (const std::runtime_error& error) { CHECK(std::string(error.what()) == "no good"); }
  CHECK(loader.state().batch == good);
  *fail = false;
  for ([[maybe_unused]] const auto& batch : loader) ++good;
  CHECK(good == 10);
}

TEST_CASE("transfer: memory that a transform has put on the device, batches of nothing but x") {
  SKIP_WITHOUT_CUDA;
  DataLoader loader(numbered(12), {.batch_size = 5,
                                   .shuffle = false,
                                   .transform =
                                       [](Batch& b, std::int64_t, std::span<const std::int64_t>) {
                                         b.x = b.x.to(Device::cuda());
                                         b.y = Tensor();
                                       },
                                   .device = Device::cuda(),
                                   .workers = 1});
  const auto all = numbered(12);
  std::int64_t at = 0;
  for (const auto& [x, y] : loader) {
    CHECK(!y.defined());
    const std::vector<std::int64_t> index = [&] {
      std::vector<std::int64_t> i(static_cast<std::size_t>(x.size(0)));
      std::iota(i.begin(), i.end(), at);
      return i;
    }();
    CHECK(same(x, all.batch(index).x));
    at += x.size(0);
  }
  CHECK(at == 12);
}
