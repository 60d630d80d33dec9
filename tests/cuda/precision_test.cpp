// The --precision option of the training program, on the device.
#include "compare.hpp"
#include "lpf/backend/cuda/options.hpp"
#include "lpf/experiment/experiment.hpp"
#include "lpf/experiment/paper_result.hpp"

using namespace lpf;
using namespace lpf::test;

TEST_CASE("run: in mixed precision on the device, as the record of the run says") {
  SKIP_WITHOUT_CUDA;
  struct OnDevice {
    Device before = default_device();
    OnDevice() { set_default_device(Device::cuda()); }
    ~OnDevice() { set_default_device(before); }
  } on_device;
  const TempDir dir;
  experiment::Settings s = experiment::paper({.optimizer = "lpf-sgd"});
  s.train_samples = 128, s.batch = 32, s.epochs = 1;
  const auto run = [&](const std::string& out, bool resume = false) {
    return experiment::run(s, {.out = out, .resume = resume, .progress = ProgressStyle::none});
  };
  std::vector<double> losses;
  for (const std::string& precision : precisions) {
    s.precision = precision;
    const std::string out = (dir / precision).string();
    losses.push_back(run(out).history.back().train_loss);
    CHECK(experiment::read_config(out + "/config.json").precision == precision);
    CHECK(lpf::detail::read_file(out + "/report.html", "test").find(precision) != std::string::npos);
    CHECK_FALSE(is_autocast_enabled());
    CHECK_FALSE(cuda::options.tf32);
  }
  CHECK(losses[2] != losses[0]);
  CHECK(std::abs(losses[2] - losses[0]) < 0.02);
  s.precision = "float32";
  CHECK_ERROR(run((dir / "bfloat16").string(), true), ValueError, "precision (bfloat16, now float32)");
  {
    const Precision scope("tf32");
    CHECK(cuda::options.tf32);
  }
  CHECK_FALSE(cuda::options.tf32);
}
