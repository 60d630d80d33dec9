// The program `study`: its plans, one model of each, its tables from results whose statistics are known, and that the
// sign of LPF under noisy images depends on the images' scale.
#include <filesystem>
#include <fstream>

#include "../../apps/study/tables.hpp"
#include "tensor_test.hpp"

namespace study {
namespace {

using lpf::test::TempDir;

/// A plan cut to a few updates.
Plan short_plan(const std::string& name, const std::string& grid, const Variation& v = {}) {
  Plan plan = varied(plan_of(name, grid), v);
  plan.epochs = 2;
  plan.stop = 0;
  plan.milestones.clear();
  plan.effort = {.draws = 4, .steps = 3, .starts = 1, .chains = 2};
  return plan;
}

TEST_CASE("study: a model of every small plan has all its values, and its network is the plan's") {
  for (const auto& [name, grid] :
       std::vector<std::pair<std::string, std::string>>{{"grid", "small"},
                                                        {"grid", "medium"},
                                                        {"label-noise", "small"},
                                                        {"data-noise", "small"},
                                                        {"double-descent", "small"},
                                                        {"optimizers", "small"}}) {
    CAPTURE(name);
    CAPTURE(grid);
    const Plan plan = short_plan(name, grid);
    const std::size_t last = plan.size() - 1;
    const Cell cell(plan, last);
    const bool norm = setting(plan.settings(last), "batch_norm") > 0;
    CHECK(cell.params.buffers().empty() != norm);
    CHECK((name == "optimizers") != norm);  // the paper's networks have batch norm
    const Record line = train_and_measure(plan, cell, read_data(plan, ""));
    Result r;
    for (const auto& [key, value] : line)
      if (!value.is_text()) r[key] = value.text().empty() ? unknown : std::stod(value.text());
    for (const std::string& key : measured) {
      CAPTURE(key);
      REQUIRE(r.contains(key));
      // two epochs need not reach a place that has a root, and from which chains do not diverge
      if (key != "epsilon" && key != "local_entropy_gradient" && !key.starts_with("pac_bayes"))
        CHECK(std::isfinite(r.at(key)));
    }
    derive(r);
    for (const Published& m : measures) CHECK(r.contains(m.key));
    for (const Published& m : units) CHECK(r.contains(m.key));
    CHECK(r.at("loss") == doctest::Approx(r.at("train_loss")).epsilon(1e-5));
    CHECK(r.at("low_pass_rise") == r.at("low_pass") - r.at("loss"));
    CHECK(r.at("low_pass_ratio@0.05") ==
          doctest::Approx((r.at("low_pass@0.05") - r.at("loss")) / r.at("loss")).epsilon(1e-12));
    CHECK(r.at("low_pass@0.01") == r.at("low_pass"));  // 4 draws each
    CHECK(r.at("low_pass_fan_in@0.1") == r.at("low_pass_fan_in"));
    CHECK(r.at("raw_low_pass") != r.at("low_pass"));
    CHECK(r.at("raw_trace_c2") == r.at("raw_trace") * r.at("unit_size") * r.at("unit_size"));
  }
}

TEST_CASE("study: images are normalised by what the plan says, test images by their own set's in `own`") {
  const auto sets = [](const std::string& normalize, double sigma) {
    const Plan plan = varied(plan_of("data-noise", "small"), {.normalize = normalize});
    FactorValues s = plan.settings(0);
    s["data_noise"] = sigma;
    return splits_of(plan, s, read_data(plan, ""));
  };
  const auto sd = [](const TensorDataset& data) { return channel_statistics(data.images).sd[0]; };
  CHECK(sets("none", 0).train.images.shape() == Shape{500, 8, 8, 1});
  CHECK(sets("none", 0).test.size() == 1297);
  const double own = sd(sets("none", 0).train);
  CHECK(own == doctest::Approx(0.376).epsilon(0.05));
  CHECK(sd(sets("none", 2).train) == doctest::Approx(std::sqrt(4 + own * own)).epsilon(0.02));
  CHECK(sd(sets("published", 0).train) == doctest::Approx(1).epsilon(1e-5));
  CHECK(sd(sets("published", 2).train) == doctest::Approx(std::sqrt(4 + own * own) / own).epsilon(0.02));
  for (const double sigma : {0.0, 2.0}) {
    CHECK(sd(sets("own", sigma).train) == doctest::Approx(1).epsilon(1e-5));
    CHECK(sd(sets("own", sigma).test) == doctest::Approx(1).epsilon(1e-5));
  }
  CHECK(lpf::test::same_bits(sets("published", 2).test.images, sets("published", 0).test.images));
}

TEST_CASE("study: a part of CIFAR-10 in a small plan, normalised by the published constants") {
  const auto images = [](std::int64_t n) -> TensorDataset {
    Tensor x = empty({n, 32, 32, 3}, {.dtype = DType::uint8}), y = empty({n}, {.dtype = int64});
    for (std::int64_t i = 0; i < n; ++i) {
      y.data<std::int64_t>()[i] = i % 10;
      std::fill_n(x.data<std::uint8_t>() + i * 3072, 3072, static_cast<std::uint8_t>(i % 256));
    }
    return {x, y};
  };
  const Sets source{images(600), images(2100)};
  const Plan plan = varied(plan_of("grid", "medium"), {.data = "cifar10"});
  const Sets sets = splits_of(plan, plan.settings(0), source);
  CHECK(sets.train.images.shape() == Shape{300, 32, 32, 3});
  CHECK(sets.test.size() == 2000);
  CHECK(sets.test.labels.span<std::int64_t>()[13] == 3);
  const float* pixel = sets.test.images.data<float>() + 200 * 3072;
  CHECK(pixel[0] == doctest::Approx((200 / 255.0 - .4914) / .2023).epsilon(1e-5));
  CHECK(pixel[2] == doctest::Approx((200 / 255.0 - .4465) / .2010).epsilon(1e-5));
  const Sets other = splits_of(plan, plan.settings(plan.size() - 1), source);  // of another seed
  CHECK_FALSE(lpf::test::same_bits(other.train.images, sets.train.images));
  CHECK(Cell(plan, 0).net(slice(sets.train.images, 0, 0, 2)).shape() == Shape{2, 10});
}

TEST_CASE("study: MNIST-1D in a small plan") {
  const Plan plan = varied(plan_of("double-descent", "small"),
                           {.network = "convnet1d", .batch_norm = "off", .data = "mnist1d"});
  CHECK(plan.variant == "convnet1d, batch norm off, MNIST-1D");
  CHECK(plan.summary().starts_with("MNIST-1D, 500 to train and 1000 to test"));
  CHECK(plan.summary().ends_with("sequences normalised by the clean training set's mean and deviation"));
  CHECK(plan_of("grid", "small").normalization() ==
        "images normalised by the clean training set's mean and deviation");
  CHECK(plan_of("grid", "paper").normalization() == "images normalised by the published constants");
  CHECK(plan_of("optimizers", "small").normalization() == "images not normalised");
  const Sets sets = splits_of(plan, plan.settings(0), read_data(plan, ""));
  CHECK(sets.train.images.shape() == Shape{500, 1, 40, 1});
  CHECK(sets.test.size() == 1000);
  CHECK(Cell(plan, 0).net(sets.test.images).shape() == Shape{1000, 10});
}

TEST_CASE("study: a variation changes network, batch norm and images, and says so") {
  const Plan plan = varied(plan_of("double-descent", "small"),
                           {.network = "convnet", .normalize = "own", .batch_norm = "off"});
  CHECK(plan.variant == "convnet, batch norm off, normalize own");
  CHECK(folder_of(plan) == "out/study-double-descent-small-convnet-batch-norm-off-normalize-own");
  CHECK(plan.factors[1].values.back() == 32);
  CHECK(plan.shared.at("batch_norm") == 0);
  CHECK(Cell(plan, 0).params.buffers().empty());
  CHECK(plan.summary().find(
            "convnet, no batch norm; images normalised: each set by its own mean and deviation") !=
        std::string::npos);
  const Plan grid = varied(plan_of("grid", "small"), {.batch_norm = "on"});
  CHECK_FALSE(grid.has_factor("batch_norm"));
  CHECK(grid.size() * 2 == plan_of("grid", "small").size());
  CHECK(varied(plan_of("grid", "medium"), {.data = "cifar10"}).summary().find("2000 to test") !=
        std::string::npos);
  CHECK_ERROR(varied(grid, {.normalize = "mean"}), ValueError, "'mean'");
  CHECK_ERROR(varied(plan_of("grid", "paper"), {.data = "cifar10"}), ValueError, "CIFAR-10 as it is");
  CHECK_ERROR(plan_of("data-noise", "medium"), ValueError, "no study 'data-noise' of size 'medium'");
}

/// Results of a plan with every value the same function of the level: `value(key, level, seed)`.
template <class F>
Results results_of(const Plan& plan, F value) {
  Results out;
  for (std::size_t id = 0; id < plan.size(); ++id) {
    const FactorValues s = plan.settings(id);
    Result r(s.begin(), s.end());
    for (const char* key :
         {"converged", "train_error", "test_error", "train_loss", "gap", "train_seconds", "measure_seconds"})
      r[key] = value(key, s);
    for (const std::string& key : measured) r[key] = value(key, s);
    derive(r);
    out[id] = std::move(r);
  }
  return out;
}

TEST_CASE("study: τ over the means, the gate, and differences that are paired") {
  const Plan& plan = plan_of("data-noise", "small");
  const Results results = results_of(plan, [](const std::string& key, const FactorValues& s) {
    const double level = s.at("data_noise"), seed = s.at("seed");
    if (key == "converged") return 1.0;
    if (key == "train_error") return level > 3 ? 2.0 : 0.5;
    if (key == "low_pass") return level + 0.3 * std::sin(10 * level + seed);
    if (key == "epsilon") return -level;
    return 1 + level;
  });
  const Means gated(plan, results, plan.gate, {.resamples = 100}), open(plan, results, 0, {.resamples = 100});
  CHECK(gated.all().size() == 16);  // levels up to 3
  CHECK(open.all().size() == 20);
  const Resampled low = open.tau_over_seeds("low_pass", "data_noise"),
                  trace = open.tau_over_seeds("trace", "data_noise"),
                  epsilon = open.tau_over_seeds("epsilon", "data_noise");
  CHECK(trace.value == 1);
  CHECK(epsilon.value == -1);
  CHECK(low.value < 1);
  CHECK(low.value > 0.7);
  CHECK(low.interval().low < low.value);
  CHECK((trace - epsilon).interval().low == 2);
  const Interval behind = (trace - low).interval();
  CHECK(behind.low > 0);
  CHECK(behind.value == 1 - low.value);
  CHECK(open.over(std::vector<std::size_t>{2, 0, 0})[5].at("low_pass") ==
        doctest::Approx((2 * results.at(5).at("low_pass") + results.at(45).at("low_pass")) / 3));
}

TEST_CASE("study: tables of known results, and the files that they write") {
  const TempDir dir;
  const Plan& plan = plan_of("grid", "medium");
  const Results results = results_of(plan, [](const std::string& key, const FactorValues& s) {
    const double gap = s.at("width") + 10 * s.at("batch_norm") + 100 * s.at("lr") + s.at("batch_size") / 32 +
                       s.at("momentum") / 10;
    if (key == "converged") return s.at("batch_size") > 8 || s.at("seed") > 0 ? 1.0 : 0.0;
    if (key == "train_error") return 0.0;
    if (key == "trace") return -gap;
    // against batch norm's order, with all others: negative over all, 1 with batch norm and without it
    if (key == "low_pass") return gap - 40 * s.at("batch_norm");
    return gap;
  });
  const std::string out = dir.path().string();
  CHECK(Tables(plan, results, out, 50, 0, "study").make());
  std::map<std::string, double> value;  // by table, row and column
  std::ifstream file(out + "/values.csv");
  for (std::string table, row, column, number, rest;
       std::getline(file, table, ',') && std::getline(file, row, ',') && std::getline(file, column, ',') &&
       std::getline(file, number, ',') && std::getline(file, rest);)
    if (number != "value" && !number.empty()) value[concat(table, ",", row, ",", column)] = std::stod(number);
  const auto is = [&](const char* name, double expected) {
    CAPTURE(name);
    CHECK(value.at(name) == doctest::Approx(expected));
  };
  is("gap,lambda_max,all", 1);
  is("gap,trace,all", -1);
  is("gap,low_pass,batch norm", 1);
  is("gap,low_pass,no batch norm", 1);
  CHECK(value.at("gap,low_pass,all") < 0);
  is("gap-difference,lambda_max,trace", 2);
  is("gap-difference,low_pass,lambda_max", value.at("gap,low_pass,all") - 1);
  is("hyper-parameter,low_pass,batch_norm", -1);
  is("hyper-parameter,unit_size,width", 1);
  is("sigma,low_pass@0.05,gap", 1);
  for (const char* name : {"report.html", "models.csv", "low_pass_fan_in.svg"})
    CHECK(std::filesystem::exists(dir.path() / name));
}

TEST_CASE("study: results are read back, and those of another variant are refused") {
  const TempDir dir;
  const Plan plan = short_plan("label-noise", "small");
  const std::string out = dir.path().string();
  train_shard(plan, {}, out, {}, 2, "");
  const std::string path = out + "/results-0-of-1.jsonl";
  const Results results = read_results(path, plan);
  REQUIRE(results.size() == 2);
  CHECK(results.at(1).at("label_noise") == 0.1);
  CHECK(results.at(1).contains("low_pass_ratio"));
  train_shard(plan, {}, out, results, 3, "");  // only what is missing
  CHECK(read_results(path, plan).size() == 5);
  Plan other = short_plan("label-noise", "small", {.normalize = "none"});
  CHECK_ERROR(read_results(path, other), FormatError, "variant ''", "not 'normalize none'");
}

TEST_CASE(
    "study: LPF rises with noise on the images where their scale is removed, and falls where it is not "
    "[slow]") {
  const auto tau = [](const Variation& v) {
    Plan plan = varied(plan_of("data-noise", "small"), v);
    plan.factors = {{"seed", {0}}, {"data_noise", {0.4, 1.2, 2, 2.8, 3.6}}};
    plan.effort = {.draws = 16, .steps = 3, .starts = 1, .chains = 2};
    const Sets data = read_data(plan, "");
    std::vector<double> low_pass, level;
    for (std::size_t id = 0; id < plan.size(); ++id) {
      const Cell cell(plan, id);
      const Sets sets = splits_of(plan, cell.settings, data);
      train(plan, cell.settings, cell.params, cell.net, sets);
      const sharpness::Landscape landscape(cell.params, {sets.train.images, sets.train.labels},
                                           [&](const Tensor& x, const Tensor& y) {
                                             return sharpness::cross_entropy_of_samples(cell.net(x), y);
                                           });
      low_pass.push_back(sharpness::low_pass(landscape, 0.01, {.draws = 16, .key = 1}).value);
      level.push_back(cell.settings.at("data_noise"));
    }
    return sharpness::kendall_tau_b(low_pass, level);
  };
  CHECK(tau({}) > 0.5);
  CHECK(tau({.normalize = "none", .batch_norm = "off"}) < -0.5);
}

}  // namespace
}  // namespace study
