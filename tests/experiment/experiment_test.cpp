// A training run of the program: results, stopping and resuming, divergence.
#include "lpf/experiment/experiment.hpp"

#include <signal.h>

#include <filesystem>

#include "lpf/backend/threads.hpp"
#include "lpf/experiment/dry_run.hpp"
#include "lpf/experiment/paper_result.hpp"
#include "lpf/train/signals.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;
using experiment::Epoch;
using experiment::Outcome;
using experiment::Settings;

namespace {

/// Three epochs of five updates on digits.
Settings small(const std::string& optimizer) {
  Settings s = experiment::paper({.optimizer = optimizer});
  s.epochs = 3, s.train_samples = 300, s.validation = 100, s.label_noise = 0.1, s.seed = 3;
  s.alpha = 5;
  return s;
}

Outcome run(const Settings& s, const std::string& out, bool resume = false, std::function<bool()> stop = {}) {
  return experiment::run(
      s, {.out = out, .resume = resume, .progress = ProgressStyle::none, .stop = std::move(stop)});
}
std::function<bool()> after(int updates) {
  return [left = updates]() mutable { return --left == 0; };
}

/// All figures of an epoch except its speed.
std::vector<double> numbers(const std::vector<Epoch>& history) {
  std::vector<double> out;
  for (Epoch e : history) {
    e.images_per_second = e.seconds = 0;
    experiment::for_each_column(e, [&](const char*, auto value) {
      const auto number = static_cast<double>(value);
      out.push_back(std::isnan(number) ? -1 : number);
    });
  }
  return out;
}

struct Threads {
  int before = num_threads();
  ~Threads() { set_num_threads(before); }
};

/// Compares a run that is stopped after some updates and resumed with two threads with an uninterrupted one.
void check_resumed(const Settings& s, int updates) {
  CAPTURE(s.optimizer);
  CAPTURE(updates);
  const Threads restore;
  const TempDir dir;
  const std::string whole = (dir / "whole").string(), parts = (dir / "parts").string();
  set_num_threads(1);
  const Outcome expected = run(s, whole);
  REQUIRE(expected.finished);
  const Outcome stopped = run(s, parts, false, after(updates));
  CHECK_FALSE(stopped.finished);
  CHECK(stopped.updates == static_cast<std::uint64_t>(updates));
  set_num_threads(2);
  const Outcome resumed = run(s, parts, true);
  CHECK(resumed.finished);
  CHECK(numbers(resumed.history) == numbers(expected.history));
  for (const char* file : {"/checkpoint.safetensors", "/best.safetensors"})
    CHECK(lpf::detail::read_file(whole + file, "test") == lpf::detail::read_file(parts + file, "test"));
  CHECK(numbers(experiment::read_history(parts + "/log.jsonl")) == numbers(expected.history));
}

}  // namespace

TEST_CASE("run: a precision that the device does not have is refused, before anything is written") {
  CPU_ONLY;
  Settings s = small("sgd");
  CHECK_ERROR(experiment::set(s, "precision", "float16"), ValueError, "--precision", "float16");
  const TempDir dir;
  for (const char* precision : {"tf32", "bfloat16"}) {
    experiment::set(s, "precision", precision);
    CHECK_ERROR(run(s, (dir / "run").string()), ValueError, "--precision", precision, "--device cuda");
    CHECK_ERROR(experiment::dry_run(s), ValueError, "--precision", precision, "--device cuda");
  }
  CHECK_FALSE(std::filesystem::exists(dir / "run"));
  CHECK_ERROR(Precision("float16"), ValueError, "[precision]", "float16", "bfloat16");
}

TEST_CASE("run: leaves settings, logs, report, the best weights, and learns") {
  const TempDir dir;
  const std::string out = (dir / "run").string();
  Settings s = small("lpf-sgd");
  s.epochs = 12, s.train_samples = 1000, s.alpha = 1, s.label_noise = 0;
  const Outcome outcome = run(s, out);
  REQUIRE(outcome.finished);
  REQUIRE(outcome.history.size() == 12);
  CHECK(outcome.updates == 12 * 16);
  const Epoch &first = outcome.history.front(), &best = experiment::best_epoch(outcome.history);
  CHECK(first.epoch == 1);
  CHECK(first.updates == 16);
  CHECK(best.test_error < 12);
  CHECK(best.test_error < first.test_error);
  CHECK(best.validation_error <= outcome.history.back().validation_error);
  CHECK(experiment::differences(experiment::read_config(out + "/config.json"), s).empty());
  CHECK(lpf::detail::read_file(out + "/report.html", "test").find("lpf-sgd, mlp on digits") !=
        std::string::npos);

  const auto splits = experiment::make_splits(s);
  CHECK(splits.train.size() == 1000);
  CHECK(splits.validation.size() == 100);
  CHECK(splits.test.size() == 500);
  const ParameterStore params;
  const auto net = experiment::make_model(s, params, splits.input(), 10);
  load_weights(out + "/best.safetensors", params);
  CHECK(100 * evaluate(params, net, experiment::test_loader(splits.test, splits)).error == best.test_error);

  CHECK_ERROR(run(s, out), StateError, "has a run already", "--resume");
  Settings other = s;
  other.lr = 0.05;
  CHECK_ERROR(run(other, out, true), ValueError, "other settings", "lr (0.1, now 0.05)");
  CHECK(run(s, out, true).history.size() == 12);  // already finished

  std::filesystem::remove(out + "/checkpoint.state.safetensors");
  const std::string log = lpf::detail::read_file(out + "/log.jsonl", "test");
  CHECK_ERROR(run(s, out, true), StateError, "log of a run", "no checkpoint");
  CHECK_ERROR(run(other, out), StateError, "log of a run", "no checkpoint");
  CHECK(lpf::detail::read_file(out + "/log.jsonl", "test") == log);
}

TEST_CASE("run: epochs between evaluations are in the log without errors, and change nothing") {
  const TempDir dir;
  Settings s = small("sam");
  s.epochs = 5, s.clip_norm = 1;
  const auto all = run(s, (dir / "all").string()).history;
  s.evaluate_every = 2;
  const auto some = run(s, (dir / "some").string()).history;
  REQUIRE(some.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(some[i].train_loss == all[i].train_loss);
    if (i % 2 == 1 || i == 4)
      CHECK(some[i].validation_error == all[i].validation_error);
    else
      CHECK((std::isnan(some[i].validation_error) && std::isnan(some[i].test_error)));
  }
  CHECK(experiment::best_epoch(some).epoch % 2 * (experiment::best_epoch(some).epoch - 5) == 0);
  s.optimizer = "entropy-sgd", s.inner_lr = 0.05;  // stopped before the first evaluation
  check_resumed(s, 7);
}

TEST_CASE("run: a run that was stopped goes on to the bit, with another number of threads") {
  for (const char* optimizer : {"sgd", "lpf-sgd", "sam", "entropy-sgd", "smoothout", "lpf-adam"})
    check_resumed(small(optimizer), 7);
  Settings clipped = small("asam");
  clipped.clip_norm = 0.5, clipped.slices = 3;
  check_resumed(clipped, 7);
  check_resumed(small("lpf-sgd"), 10);  // at the end of an epoch, before its evaluation
}

TEST_CASE("run: a convolutional network with dropout and augmentation goes on to the bit") {
  Settings s = small("lpf-sgd");
  s.model = "lenet", s.augment = "crop-flip", s.M = 4, s.epochs = 2;
  check_resumed(s, 7);
}

TEST_CASE("run: the schedule plateau lowers the rate by the loss of validation, and goes on to the bit") {
  Settings s = small("rmsprop");
  s.epochs = 8, s.schedule = "plateau", s.patience = 0, s.lr_factor = 0.5, s.lr = 0.005;
  check_resumed(s, 22);
  const TempDir dir;
  for (const std::int64_t validation : {100, 0}) {
    s.validation = validation;
    const auto history = run(s, (dir / std::to_string(validation)).string()).history;
    double best = std::numeric_limits<double>::infinity(), lr = s.lr;
    for (const Epoch& e : history) {
      CHECK(e.lr == doctest::Approx(lr).epsilon(1e-12));
      const double loss = validation > 0 ? e.validation_loss : e.train_loss;
      if (loss < best * (1 - 1e-4))
        best = loss;
      else
        lr *= 0.5;
    }
    CHECK((validation == 0 || lr < s.lr));
  }
  CHECK_ERROR(experiment::set(s, "schedule", "plataeu"), ValueError, "'plateau'");
  s.lr_factor = 1;
  CHECK_ERROR(experiment::validate(s), ValueError, "--lr-factor", "got 1");
}

TEST_CASE("run: what a checkpoint does not know is cut from the log") {
  const TempDir dir;
  const std::string out = (dir / "run").string();
  const Settings s = small("sgd");
  run(s, out, false, after(7));
  const auto log = experiment::read_history(out + "/log.jsonl");
  REQUIRE(log.size() == 1);
  Epoch second = log[0];
  second.epoch = 2;
  MetricLog(out + "/log.jsonl", {.append = true}).write(experiment::record_of(second));
  MetricLog(out + "/log.csv", {.append = true}).write(experiment::record_of(second));
  run(s, out, true);
  const auto history = experiment::read_history(out + "/log.jsonl");
  REQUIRE(history.size() == 3);
  CHECK(history[1].epoch == 2);
  MetricLog csv(out + "/log.csv", {.append = true});
  CHECK(csv.size() == 3);
}

TEST_CASE("run: a log that is not that of its checkpoint is refused, and stays as it is") {
  const TempDir dir;
  const std::string out = (dir / "run").string();
  const Settings s = small("sgd");
  run(s, out, false, after(12));  // two epochs
  const std::string whole = lpf::detail::read_file(out + "/log.jsonl", "test");
  const std::size_t first = whole.find('\n') + 1;
  const auto refused = [&](const std::string& log, std::string_view what) {
    write_file_atomically(out + "/log.jsonl", log);
    CHECK_ERROR(run(s, out, true), FormatError, "log.jsonl'", what);
    CHECK(lpf::detail::read_file(out + "/log.jsonl", "test") == log);
  };
  refused(whole.substr(0, first) + whole, "line 2: is epoch 1, not 2: another process");
  refused(whole + whole.substr(first), "line 3: is epoch 2, not 3");
  refused(whole.substr(first), "line 1: is epoch 2, not 1");
  refused(whole.substr(0, first), "has 1 of the 2 epochs");
  std::string more = whole;
  for (const char* epoch : {"3", "4"}) {
    std::string line = whole.substr(first);
    more += line.replace(line.find("\"epoch\":2") + 8, 1, epoch);
  }
  refused(more, "has 4 epochs, and the checkpoint knows 2");
  refused(whole.substr(0, first - 1) + std::string("\0x\n", 3) + whole.substr(first), "line 1");
  write_file_atomically(out + "/log.jsonl", whole);
  const std::string csv = lpf::detail::read_file(out + "/log.csv", "test");
  write_file_atomically(out + "/log.csv", csv.substr(0, csv.rfind('\n', csv.size() - 2) + 1));
  CHECK_ERROR(run(s, out, true), FormatError, "log.csv' has 1 of the 2 epochs");
  write_file_atomically(out + "/log.csv", csv);
  CHECK(run(s, out, true).finished);
}

TEST_CASE("run: one process has a folder, and what killed ones left there goes") {
  const TempDir dir;
  const std::string out = (dir / "run").string();
  const Settings s = small("sgd");
  std::filesystem::create_directories(out);
  write_file_atomically(out + "/.best.safetensors.1-0.tmp", "half a file");
  int updates = 0;
  const Outcome outcome = run(s, out, false, [&] {
    if (++updates == 2) {
      CHECK_FALSE(std::filesystem::exists(out + "/.best.safetensors.1-0.tmp"));
      for (const bool resume : {false, true})
        CHECK_ERROR(run(s, out, resume), StateError, "run' is in use by another process");
    }
    return false;
  });
  CHECK(outcome.finished);
  Settings unknown = s;
  unknown.dataset = "mnist", unknown.data = "no such folder";
  {
    const OutputFolder other((dir / "other").string());
    CHECK_ERROR(run(unknown, (dir / "other").string()), StateError, "in use");  // before the data are read
  }
  CHECK_ERROR(run(unknown, (dir / "other").string()), IOError, "no such folder");
}

TEST_CASE(
    "run: resumed with more epochs, it is the longer run to the bit where the schedule does not depend on "
    "them") {
  for (const std::string optimizer : {"sgd", "lpf-sgd", "entropy-sgd"})
    for (const std::string schedule : {"constant", "multistep", "cosine"}) {
      CAPTURE(optimizer);
      CAPTURE(schedule);
      const TempDir dir;
      const std::string whole = (dir / "whole").string(), parts = (dir / "parts").string();
      Settings s = small(optimizer);
      s.alpha = 1, s.schedule = schedule, s.milestones = {1, 4}, s.epochs = 5;
      const Outcome expected = run(s, whole);
      s.epochs = 2;
      CHECK(run(s, parts).history.size() == 2);
      s.epochs = 5;
      const Outcome longer = run(s, parts, true);
      CHECK(longer.finished);
      CHECK(longer.history.size() == 5);
      CHECK(experiment::read_config(parts + "/config.json").epochs == 5);
      CHECK(experiment::read_history(parts + "/log.jsonl").size() == 5);
      CHECK((numbers(longer.history) == numbers(expected.history)) == (schedule != "cosine"));
      if (schedule == "cosine")  // from there on the schedule is that of five epochs
        CHECK(longer.history[2].lr == expected.history[2].lr);
      s.epochs = 4;
      CHECK_ERROR(run(s, parts, true), ValueError, "other settings", "epochs (5, now 4)");
    }
}

TEST_CASE("run: starts from weights, whole or as far as they fit, and is resumed without the file") {
  const TempDir dir;
  const std::string first = (dir / "first").string(), weights = (dir / "start.safetensors").string();
  Settings s = small("sgd");
  s.epochs = 1;
  run(s, first);
  std::filesystem::rename(first + "/best.safetensors", weights);
  Settings from = s;
  from.weights = weights, from.lr = 0;  // the weights stay
  const auto weights_of = [](const std::string& out) {
    return lpf::detail::digest_of(load_safetensors(out + "/checkpoint.safetensors").items());
  };
  const std::string out = (dir / "same").string();
  run(from, out, false, after(2));
  CHECK(weights_of(out) == lpf::detail::digest_of(load_safetensors(weights).items()));
  from.weights = weights + ".none";
  CHECK_ERROR(run(from, (dir / "none").string()), IOError, "start.safetensors.none");
  CHECK_FALSE(std::filesystem::exists(dir / "none/config.json"));
  from.weights = weights;
  std::filesystem::rename(weights, weights + "2");
  CHECK(run(from, out, true).finished);
  std::filesystem::rename(weights + "2", weights);

  Settings wide = from;
  wide.width = 64;
  CHECK_ERROR(run(wide, (dir / "wide").string()), ValueError, "is not of this model", "'fc1.weight'");
  wide.weights_partial = true;
  CHECK(run(wide, (dir / "wide").string()).finished);
  NamedTensors items;
  for (const auto& [name, tensor] : load_safetensors(weights)) items.emplace_back("module." + name, tensor);
  save_safetensors(weights, items);
  CHECK_ERROR(run(from, (dir / "prefix").string()), ValueError, "names behind 'module.'");
  from.weights_prefix = "module.";
  CHECK(run(from, (dir / "prefix").string(), false, after(2)).updates == 2);
  CHECK(weights_of((dir / "prefix").string()) == weights_of(out));
}

TEST_CASE("settings: any integer is a run or a ValueError, and what has no effect is known") {
  const TempDir dir;
  const Settings any = small("sgd");
  experiment::for_each_setting(any, [&](const char* name, const auto& value, const char*) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, std::int64_t>)
      for (const char* text : {"9223372036854775807", "1000000001", "-1"}) {
        CAPTURE(name);
        CAPTURE(text);
        Settings s = small("lpf-sgd");
        experiment::set(s, name, text);
        CHECK_ERROR(experiment::validate(s), ValueError, std::string("--") + name);
        CHECK_ERROR(experiment::dry_run(s), ValueError, std::string("--") + name);
      }
  });
  Settings milestones = small("sgd");
  milestones.schedule = "multistep", milestones.milestones = {9223372036854775807};
  CHECK_ERROR(experiment::validate(milestones), ValueError, "--milestones");
  Settings huge = small("sgd");
  huge.epochs = huge.batch = huge.evaluate_every = 1'000'000'000;
  CHECK_NOTHROW(experiment::validate(huge));
  CHECK_FALSE(run(huge, (dir / "huge").string(), false, after(1)).finished);

  const Settings s = small("sgd");
  CHECK(experiment::unused(s, "gamma") == "--optimizer sgd does not use it");
  CHECK(experiment::unused(s, "rho").find("sgd") != std::string::npos);
  for (const char* name :
       {"milestones", "lr-factor", "data", "image-size", "weights-prefix", "weights-partial"})
    CHECK_FALSE(experiment::unused(s, name).empty());
  for (const char* name : {"momentum", "lr", "epochs", "clip-norm", "seed", "schedule", "weights", "batch"})
    CHECK(experiment::unused(s, name).empty());
  CHECK(experiment::unused(small("lpf-sgd"), "gamma").empty());
  CHECK(experiment::unused(small("entropy-sgd"), "g0").empty());
}

TEST_CASE("run: a loss that is not finite stops it, says what to lower, and keeps what was") {
  const TempDir dir;
  const std::string out = (dir / "run").string();
  Settings s = small("lpf-sgd");
  s.lr = 1e20;
  CHECK_ERROR(run(s, out), NumericError, "loss is", "in epoch 1", "--lr (1e+20)", "--gamma (0.06)");
  CHECK_FALSE(Checkpoint::exists(out + "/checkpoint"));

  s = small("sam");  // converges for two epochs
  s.schedule = "multistep", s.milestones = {2}, s.lr_factor = 1e30;
  CHECK_ERROR(run(s, out), NumericError, "in epoch 3", "--rho", "up to epoch 2");
  CHECK(Checkpoint::exists(out + "/checkpoint"));
  CHECK(experiment::read_history(out + "/log.jsonl").size() == 2);
}

TEST_CASE("run: SIGTERM, SIGINT and SIGHUP stop it after the step under way, and it goes on") {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    const TempDir dir;
    const std::string out = (dir / "run").string();
    const Settings s = small("sgd");
    {
      const StopSignals stop;
      int updates = 0;
      const Outcome outcome = run(s, out, false, [&] {
        if (++updates == 4) ::raise(signal);
        return stop.received() != 0;
      });
      CHECK(stop.received() == signal);
      CHECK_FALSE(outcome.finished);
      CHECK(outcome.updates == 4);
    }
    CHECK(Checkpoint::exists(out + "/checkpoint"));
    CHECK(run(s, out, true).finished);
  }
}

TEST_CASE("signals: the second is not caught, the handlers before come back, and one watches at a time") {
  struct sigaction before {
  }, now{};
  ::sigaction(SIGTERM, nullptr, &before);
  {
    const StopSignals stop;
    CHECK(stop.received() == 0);
    CHECK_ERROR(StopSignals(), StateError, "watches already");
    ::raise(SIGTERM);
    CHECK(stop.received() == SIGTERM);
    ::sigaction(SIGTERM, nullptr, &now);
    CHECK((now.sa_handler == SIG_DFL));
  }
  ::sigaction(SIGTERM, nullptr, &now);
  CHECK((now.sa_handler == before.sa_handler));
  {
    const StopSignals again;
    CHECK(again.received() == 0);
  }
  // what is ignored, as SIGHUP under nohup, stays ignored
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  for (const int signal : {SIGHUP, SIGINT}) {
    ::sigaction(signal, &ignore, &before);
    {
      const StopSignals stop;
      ::raise(signal);
      CHECK(stop.received() == 0);
    }
    ::sigaction(signal, &before, nullptr);
  }
  CHECK(StopSignals::name_of(SIGHUP) == "SIGHUP");
}

#ifdef LPF_HAS_STB
TEST_CASE("task: a folder of pictures has its test images in val, by a list as TinyImageNet, or in test") {
  const TempDir dir;
  const auto picture = [&](const std::string& name, int grey) {
    std::filesystem::create_directories((dir / name).parent_path());
    save_png((dir / name).string(), full({4, 4, 3}, grey, {.dtype = uint8}));
  };
  const auto labels = [](const TensorDataset& data) { return data.labels.to_vector<std::int64_t>(); };
  for (const std::string c : {"n01", "n02"})
    for (const std::string i : {"0", "1"}) picture("train/" + c + "/images/" + c + "_" + i + ".png", 10);
  Settings s = experiment::recipe("paper/tinyimagenet-resnet18-lpf").settings;
  s.data = dir.path().string(), s.image_size = 8;

  picture("test/n02/a.png", 20);
  auto splits = experiment::make_splits(s);
  CHECK(labels(splits.train) == std::vector<std::int64_t>{0, 0, 1, 1});
  CHECK(labels(splits.test) == std::vector<std::int64_t>{1});
  CHECK(splits.input() == Shape{8, 8, 3});
  CHECK(splits.scaling.mean.at(0) == doctest::Approx(10 / 255.0));  // of the training images

  picture("val/images/val_0.png", 30);
  picture("val/images/val_1.png", 40);
  write_file_atomically((dir / "val/val_annotations.txt").string(),
                        "val_0.png\tn02\t0\t0\t3\t3\nval_1.png\tn01\t0\t0\t3\t3\n");
  splits = experiment::make_splits(s);
  CHECK(labels(splits.test) == std::vector<std::int64_t>{1, 0});
  CHECK(splits.test.images.data<std::uint8_t>()[0] == 30);

  std::filesystem::remove_all(dir / "val");
  picture("val/n01/b.png", 50);
  CHECK(labels(experiment::make_splits(s).test) == std::vector<std::int64_t>{0});
}
#endif

TEST_CASE("dry run: counts parameters and vectors, and measures a step") {
  Settings s = small("lpf-sgd");
  const auto e = experiment::dry_run(s);
  CHECK(e.parameters == 64 * 128 + 128 + 128 * 128 + 128 + 1290);
  REQUIRE(e.parts.size() == 3);
  CHECK(e.parts[2].name == "fc3");
  CHECK(e.parts[2].parameters == 1290);
  CHECK(e.vectors == 3);  // θ, gradient, velocity
  CHECK(e.replicas_mb == doctest::Approx(8 * e.vector_mb));
  CHECK(e.steps == 5);
  CHECK((e.measured_batch >= 8 && e.measured_batch <= 64));
  CHECK(e.step_seconds > 0);
  CHECK(e.loaded_seconds > 0);
  CHECK(e.run_seconds >= 15 * e.loaded_seconds);
}

TEST_CASE("dry run: the paper's CIFAR-10 ResNet-18 rows, without their data [slow]") {
  for (const char* name : {"sgd", "sam", "lpf"}) {
    CAPTURE(name);
    const Settings s = experiment::recipe(concat("paper/cifar10-resnet18-", name)).settings;
    const auto e = experiment::dry_run(s);
    CHECK(e.parameters == 11'173'962);
    CHECK((e.steps == 391 && e.vectors == 3));
    CHECK(e.vector_mb == doctest::Approx(11'173'962 * 4 / 1048576.0).epsilon(0.01));
    CHECK(e.replicas_mb == doctest::Approx(s.optimizer == "sgd" ? 0 : e.vector_mb));
    CHECK(e.peak_mb > 3 * e.vector_mb);
    CHECK(e.data_mb == doctest::Approx(60'000 * 3072 / 1048576.0));
    CHECK(e.run_seconds == doctest::Approx(200 * (391 * e.loaded_seconds + e.evaluation_seconds)));
  }
}

TEST_CASE("dry run, task: settings that cannot be are ValueErrors that name the flag") {
  const auto with = [](const char* name, const char* value) {
    Settings s = small("lpf-sgd");
    experiment::set(s, name, value);
    return s;
  };
  CHECK_ERROR(experiment::dry_run(with("batch", "0")), ValueError, "--batch");
  CHECK_ERROR(experiment::dry_run(with("evaluate-every", "0")), ValueError, "--evaluate-every");
  CHECK_ERROR(experiment::dry_run(with("label-noise", "2")), ValueError, "--label-noise");
  for (const auto& s :
       {with("validation", "1297"), with("validation", "998"), with("train-samples", "1198")}) {
    CHECK_ERROR(experiment::dry_run(s), ValueError, "--train-samples", "--validation", "only 1297");
    CHECK_ERROR(experiment::make_splits(s), ValueError, "--train-samples", "--validation", "only 1297");
  }
  CHECK_ERROR(experiment::make_splits(with("dataset", "mnist")), ValueError, "--dataset mnist needs --data");
}

TEST_CASE("experiment: MNIST-1D is built in, as images of one row of a published number") {
  Settings s = experiment::paper({.dataset = "mnist1d", .optimizer = "lpf-sgd"});
  CHECK((s.model == "convnet1d" && s.normalize == "none"));
  CHECK(experiment::paper({.dataset = "mnist1d", .model = "wrn-16-8"}).augment == "none");
  s.train_samples = 1000, s.validation = 500;
  const auto splits = experiment::make_splits(s);
  CHECK((splits.train.size() == 1000 && splits.validation.size() == 500 && splits.test.size() == 1000));
  CHECK(splits.input() == experiment::data_shape(s).input);
  CHECK_NOTHROW(experiment::dry_run(s));
  CHECK(experiment::unused(s, "data").find("mnist1d is built in") != std::string::npos);
  experiment::set(s, "augment", "crop-flip");
  CHECK_ERROR(experiment::validate(s), ValueError, "--augment", "mnist1d");
}

TEST_CASE("experiment: the law of the noise reaches the filter") {
  Settings s;
  for (const auto& [name, law] :
       {std::pair{"filter-wise", NoiseLaw::filter_wise}, std::pair{"tensor-wise", NoiseLaw::tensor_wise},
        std::pair{"isotropic", NoiseLaw::isotropic}}) {
    experiment::set(s, "law", name);
    CHECK(experiment::law_of(s) == law);
  }
}

TEST_CASE("history: what is no log or no settings is a FormatError") {
  const TempDir dir;
  const std::string path = (dir / "log.jsonl").string();
  write_file_atomically(path, "{\"epoch\": 1}\n");
  CHECK_ERROR(experiment::read_history(path), FormatError, "line 1");
  write_file_atomically(path, "[1, 2");
  CHECK(experiment::read_history(path).empty());  // torn
  CHECK_ERROR(experiment::read_config(path), FormatError, "settings");
  write_file_atomically(path, std::string_view("{}\0garbage", 10));
  CHECK_ERROR(experiment::read_config(path), FormatError, "settings");
  write_file_atomically(path, "{\"epohcs\": 3}");
  CHECK_ERROR(experiment::read_config(path), FormatError, "epochs");
  CHECK_ERROR(experiment::read_config((dir / "none").string()), IOError);
}
