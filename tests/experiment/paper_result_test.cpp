// The paper's hyper-parameters, and settings by name.
#include "lpf/experiment/paper_result.hpp"

#include <map>
#include <set>

#include "lpf/experiment/data_splits.hpp"
#include "lpf/experiment/trainer.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using experiment::Milestones;
using experiment::paper;
using experiment::recipe;
using experiment::Settings;

namespace {

// Reference, section 4, for 10 classes; and the number of inputs of the last layer.
struct Network {
  std::int64_t parameters, features;
};
const std::map<std::string, Network> networks{{"lenet", {1'199'882, 128}},
                                              {"resnet18", {11'173'962, 512}},
                                              {"resnet50", {23'520'842, 2048}},
                                              {"resnet101", {42'512'970, 2048}},
                                              {"wrn-16-8", {10'961'370, 512}},
                                              {"wrn-28-10", {36'479'194, 640}},
                                              {"shake-shake-26-2x96d", {26'192'922, 384}},
                                              {"pyramidnet-110", {10'668'722, 864}},
                                              {"pyramidnet-272", {26'210'842, 864}}};

double rate(const Settings& s, std::int64_t epoch) {
  return s.lr * experiment::schedule_of(s, 391)(static_cast<std::uint64_t>(epoch * 391));
}

}  // namespace

TEST_CASE("recipes: every cell of both tables but ImageNet's, once") {
  std::set<std::string> names;
  std::map<std::string, int> of_dataset, of_optimizer;
  for (const auto& r : experiment::recipes()) {
    CAPTURE(r.name);
    CHECK(names.insert(r.name).second);
    CHECK(r.error > 0);
    ++of_dataset[r.settings.dataset];
    ++of_optimizer[r.settings.optimizer];
    Settings s = r.settings, again;
    for (const auto& [name, text] : experiment::texts(s)) experiment::set(again, name, text);
    CHECK(experiment::differences(s, again).empty());
    s.data = "somewhere";
    experiment::validate(s);
  }
  CHECK(of_dataset == std::map<std::string, int>{
                          {"mnist", 3}, {"folder", 2}, {"cifar10", 9 + 1 + 45}, {"cifar100", 9 + 45}});
  CHECK(of_optimizer == std::map<std::string, int>{
                            {"sgd", 8 + 30}, {"lpf-sgd", 8 + 30}, {"sam", 7 + 30}, {"entropy-sgd", 1}});
}

TEST_CASE("recipes: each builds its network, of the reference's size, and its optimizer [slow]") {
  std::set<std::string> built;
  for (const auto& r : experiment::recipes()) {
    CAPTURE(r.name);
    const Settings& s = r.settings;
    const auto data = experiment::data_shape(s);
    const ParameterStore small({.seed = 1});
    const nn::Linear layer(small, 2, 2);
    experiment::Trainer method(s, small, 391);
    CHECK(method.lr() == s.lr);
    CHECK(std::isnan(method.gamma()) == (s.optimizer != "lpf-sgd"));
    if (!built.insert(concat(s.model, data.classes)).second) continue;
    const ParameterStore params;
    experiment::make_model(s, params, data.input, data.classes);
    const Network& n = networks.at(s.model);
    CHECK(params.numel() == n.parameters + (data.classes - 10) * (n.features + 1));
  }
  CHECK(built.size() == 9 + 8 + 1);
}

TEST_CASE("recipes: ResNets without augmentation have the reference's numbers") {
  for (const char* dataset : {"cifar10", "cifar100"})
    for (const char* model : {"resnet18", "resnet50", "resnet101"}) {
      const auto named = [&](const char* end) {
        return recipe(concat("paper/", dataset, "-", model, "-", end)).settings;
      };
      const Settings sgd = named("sgd"), sam = named("sam"), lpf = named("lpf");
      for (const Settings& s : {sgd, sam, lpf}) {
        CHECK(s.dataset == dataset);
        CHECK(s.model == model);
        CHECK((s.epochs == 200 && s.batch == 128 && s.lr == 0.1 && s.momentum == 0.9));
        CHECK((s.weight_decay == 5e-4 && !s.nesterov && s.augment == "none" && s.normalize == "customary"));
        CHECK(rate(s, 99) == 0.1);
        CHECK(rate(s, 100) == doctest::Approx(0.01));
        CHECK(rate(s, 120) == doctest::Approx(0.001));
      }
      CHECK((sam.optimizer == "sam" && sam.rho == 0.05));
      CHECK((lpf.optimizer == "lpf-sgd" && lpf.M == 1 && lpf.gamma == 0.002 && lpf.alpha == 1));
      CHECK(lpf.law == "tensor-wise");
    }
  CHECK(recipe("paper/cifar10-resnet18-lpf").error == 9.04);
  CHECK(recipe("paper/cifar10-resnet18-lpf").sd == 0.21);
  CHECK(recipe("paper/cifar100-resnet101-sam").error == 30.70);

  const Settings entropy = recipe("paper/cifar10-resnet18-entropy-sgd").settings;
  CHECK((entropy.lr == 0.5 && entropy.epochs == 40 && entropy.inner_steps == 5 && entropy.g_max == 0));
  CHECK(entropy.milestones == Milestones{20, 24});
  CHECK((entropy.weight_decay == 5e-4 && entropy.batch == 128));
  CHECK((entropy.g0 == 0.5 && entropy.g1 == 1e-4 && entropy.inner_lr == 0.1 && entropy.momentum == 0.9));

  const Settings mnist = recipe("paper/mnist-lenet-lpf").settings;
  CHECK((mnist.model == "lenet" && mnist.epochs == 150 && mnist.lr == 0.01 && mnist.batch == 128));
  CHECK((mnist.milestones == Milestones{50, 100} && mnist.weight_decay == 5e-4));
  CHECK((mnist.M == 1 && mnist.gamma == 0.001));
  const Settings tiny = recipe("paper/tinyimagenet-resnet18-lpf").settings;
  CHECK((tiny.dataset == "folder" && tiny.epochs == 100 && tiny.lr == 0.1 && tiny.batch == 128));
  CHECK((tiny.milestones == Milestones{30, 60, 90} && tiny.weight_decay == 1e-4));
  CHECK((tiny.M == 1 && tiny.gamma == 0.001));
}

TEST_CASE("recipes: networks with augmentation have the reference's numbers") {
  for (const auto& r : experiment::recipes()) {
    const Settings& s = r.settings;
    if (s.augment == "none") continue;
    CAPTURE(r.name);
    CHECK((s.batch == 128 && s.momentum == 0.9 && s.normalize == "own"));
    const bool wide = s.model.starts_with("wrn"), hundred = s.dataset == "cifar100";
    CHECK(s.nesterov == wide);
    CHECK(s.weight_decay == (wide ? 5e-4 : 1e-4));
    if (wide) {
      CHECK(s.epochs == 200);
      CHECK(rate(s, 59) == 0.1);
      CHECK(rate(s, 60) == doctest::Approx(0.02));
      CHECK(rate(s, 160) == doctest::Approx(0.0008));
    } else if (s.model.starts_with("shake")) {
      CHECK(s.epochs == 1800);
      CHECK(rate(s, 0) == 0.2);
      CHECK(rate(s, 900) == doctest::Approx(0.1));
      CHECK(rate(s, 1800) == doctest::Approx(0));
    } else {
      const double lr = hundred && s.model == "pyramidnet-110" ? 0.5 : 0.1;
      CHECK(s.epochs == 300);
      CHECK(rate(s, 149) == lr);
      CHECK(rate(s, 150) == doctest::Approx(lr / 10));
      CHECK(rate(s, 225) == doctest::Approx(lr / 100));
    }
    if (s.optimizer != "lpf-sgd") continue;
    CHECK((s.M == 8 && s.law == "filter-wise" && s.batch_norm == "per-replica"));
    const bool odd = s.model == "wrn-28-10" && hundred && s.augment == "autoaugment";
    CHECK(s.gamma == (odd ? 7e-4 : 5e-4));
    CHECK(s.alpha == (s.model != "wrn-28-10" || odd ? 15 : hundred ? 25 : 35));
  }
  const auto error = [](const char* name) { return recipe(name).error; };
  CHECK(error("paper/cifar10-wrn-16-8-crop-flip-sgd") == 4.23);
  CHECK(error("paper/cifar100-wrn-28-10-cutout-lpf") == 16.87);
  CHECK(error("paper/cifar10-shake-shake-26-2x96d-autoaugment-sam") == 1.95);
  CHECK(error("paper/cifar100-pyramidnet-272-autoaugment-lpf") == 14.68);
  CHECK_ERROR(recipe("paper/cifar10-wrn-16-8-cutout-lfp"), ValueError, "no recipe", "did you mean");
  CHECK_ERROR(recipe("list"), ValueError, "no recipe 'list'", "--recipes");
}

TEST_CASE("settings: what is not given is the paper's, and a wrong name says the nearest right one") {
  CHECK(paper().model == "mlp");
  CHECK(paper({.dataset = "mnist"}).model == "lenet");
  CHECK(paper({.dataset = "cifar10"}).law == "tensor-wise");
  CHECK(paper({.dataset = "cifar10", .model = "wrn-16-8"}).augment == "crop-flip");
  CHECK_ERROR(paper({.model = "resnet81"}), ValueError, "--model", "'resnet81'", "resnet18");
  Settings s;
  CHECK_ERROR(experiment::set(s, "epohcs", "3"), ValueError, "'epohcs'", "did you mean 'epochs'");
  CHECK_ERROR(experiment::set(s, "optimizer", "lpf_sgd"), ValueError, "--optimizer", "'lpf-sgd'");
  CHECK_ERROR(experiment::set(s, "epochs", "3.5"), ValueError, "--epochs", "whole number", "'3.5'");
  CHECK_ERROR(experiment::set(s, "milestones", "3,x"), ValueError, "--milestones", "'x'");
  CHECK_ERROR(experiment::set(s, "skip", "maybe"), ValueError, "--skip", "'maybe'");
  experiment::set(s, "milestones", "3,5");
  CHECK(s.milestones == Milestones{3, 5});
  CHECK(experiment::get(s, "milestones") == "3,5");

  const auto invalid = [](const char* name, const char* value) {
    return [=] {
      Settings bad;
      experiment::set(bad, name, value);
      experiment::validate(bad);
    };
  };
  CHECK_ERROR(invalid("lr", "-1")(), ValueError, "--lr");
  CHECK_ERROR(invalid("lr", "nan")(), ValueError, "--lr");
  CHECK_ERROR(invalid("epochs", "0")(), ValueError, "--epochs");
  CHECK_ERROR(invalid("batch", "0")(), ValueError, "--batch");
  CHECK_ERROR(invalid("milestones", "3,-1")(), ValueError, "--milestones", "-1");
  CHECK_ERROR(invalid("schedule", "multistep")(), ValueError, "--milestones");
  CHECK_ERROR(invalid("M", "65")(), ValueError, "--M 65", "64");
  CHECK_ERROR(invalid("label-noise", "1.5")(), ValueError, "--label-noise");
  CHECK_ERROR(invalid("evaluate-every", "0")(), ValueError, "--evaluate-every");
  Settings sliced = paper({.optimizer = "sam"});
  sliced.slices = 65;
  CHECK_ERROR(experiment::validate(sliced), ValueError, "--slices 65", "64");
  CHECK_ERROR(invalid("augment", "autoaugment")(), ValueError, "digits");
}
