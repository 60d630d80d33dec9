// The program translate on the CUDA device beside the CPU: whole runs.
#include "tensor_test.hpp"
#ifdef LPF_HAS_SENTENCEPIECE
#  include "../../apps/translate/run.hpp"
#  include "files.hpp"

namespace lpf::test {
namespace {

/// New tensors are on this device while it lives.
class DefaultDevice {
 public:
  explicit DefaultDevice(Device device) : before_(default_device()) { set_default_device(device); }
  ~DefaultDevice() { set_default_device(before_); }

 private:
  Device before_;
};

TEST_CASE("translate: a run on the CUDA device is the CPU's, when it is stopped and resumed too") {
  if (!cuda_is_available()) return skip("no CUDA device");
  const TempDir dir;
  std::string digits, names;
  for (std::int64_t i = 0; i < 60; ++i) {
    const std::int64_t n = 10 + i * 167;
    for (const char c : std::to_string(n)) digits += concat(c, " ");
    digits += '\n';
    names += translate::detail::name_of_number(n) + '\n';
  }
  write(dir / "a.de", digits);
  write(dir / "a.en", names);
  translate::Settings s;
  s.train_files = s.test_files = (dir / "a.de").string() + "," + (dir / "a.en").string();
  s.validation_pairs = 10, s.vocabulary = 50, s.epochs = 2, s.batch = 10, s.M = 4, s.gamma = 0.01;
  s.dim = 8, s.heads = 2, s.feedforward = 12, s.encoder_layers = s.decoder_layers = 1;
  for (const char* optimizer : {"adam", "lpf-adam"}) {
    CAPTURE(optimizer);
    s.optimizer = optimizer;
    const auto run = [&](Device device) {
      const DefaultDevice there(device);
      const std::string out = (dir / concat(device.is_cpu() ? "cpu-" : "cuda-", optimizer)).string();
      int updates = 0;
      const auto stop = [&] { return !device.is_cpu() && ++updates == 3; };
      translate::Outcome done;
      do
        done = translate::run(s, {.out = out, .resume = true, .progress = ProgressStyle::none, .stop = stop});
      while (!done.finished);
      CHECK(updates == (device.is_cpu() ? 0 : 10));
      return done;
    };
    const translate::Outcome expected = run(Device::cpu()), found = run(Device::cuda());
    REQUIRE(found.history.size() == 2);
    for (std::size_t i = 0; i < 2; ++i) {
      const translate::Epoch &a = found.history[i], &b = expected.history[i];
      CHECK(a.train_loss == doctest::Approx(b.train_loss).epsilon(1e-5));
      CHECK(a.validation_loss == doctest::Approx(b.validation_loss).epsilon(1e-5));
      CHECK((a.updates == b.updates && a.lr == b.lr && a.validation_bleu >= 0));
    }
    CHECK(found.test.loss == doctest::Approx(expected.test.loss).epsilon(1e-5));
    // The weights that it has saved are read on the CPU.
    const translate::Model model((dir / concat("cuda-", optimizer)).string());
    CHECK(model({"1 0"}, {}).size() == 1);
  }
}

}  // namespace
}  // namespace lpf::test
#endif
