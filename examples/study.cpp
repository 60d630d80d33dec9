// Which measure of sharpness tells how a network will generalise? (Bisla, Wang, Choromanska 2022, section 3.)
// Trains a grid of networks by SGD until the training loss is 0.01, measures each, and correlates every
// measure with the generalisation gap, training accuracy − test accuracy, by Kendall's τ.
//
//   study                                    the small grid: 288 networks on digits; then the tables
//   study --shard 0/2 & study --shard 1/2    the same shared by two processes, or machines; each has a file
//   study --merge other/results-1-of-2.jsonl adds files from elsewhere; --merge-only trains nothing
//   study --grid paper --dry-run             describes the paper's 2916 ResNets
//
// Resumable: a model is one line of results-i-of-n.jsonl, on the disk before the next model begins. Killed at
// any point, a study loses the model in hand.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <lpf/data/cifar.hpp>
#include <lpf/data/digits.hpp>
#include <lpf/lpf.hpp>
#include <lpf/models/resnet.hpp>
#include <lpf/sharpness/kendall.hpp>
#include <lpf/sharpness/measure.hpp>
#include <lpf/train/log.hpp>
#include <lpf/train/metrics.hpp>
#include <lpf/train/progress.hpp>
#include <lpf/train/report.hpp>
#include <lpf/train/svg.hpp>
#include <nlohmann/json.hpp>

using namespace lpf;

namespace {

struct Options {
  std::string grid = "small", shard = "0/1", out = "out/study", data = "data/cifar10";
  std::vector<std::string> merge;
  bool dry_run = false, merge_only = false;
  std::int64_t limit = 0, resamples = 1000;
  int threads = 0;
};

// A hyper-parameter and its values.
struct Factor {
  std::string name;
  std::vector<double> values;
};
struct Grid {
  std::string name, description;
  std::vector<Factor> factors;  // seeds first
  int cap;                      // epochs
  std::vector<int> milestones;  // learning rate × 0.1

  std::size_t size() const {
    std::size_t n = 1;
    for (const Factor& f : factors) n *= f.values.size();
    return n;
  }
  // Settings of model `id`; the seed varies slowest, so that a part of the grid is one of whole seeds.
  std::vector<double> settings(std::size_t id) const {
    std::vector<double> out(factors.size());
    for (std::size_t k = factors.size(); k-- > 0; id /= factors[k].values.size())
      out[k] = factors[k].values[id % factors[k].values.size()];
    return out;
  }
};

const std::vector<double> seeds{0, 1, 2}, off_on{0, 1};
const std::map<std::string, Grid> grids{{"small",
                                         {"small",
                                          "digits, 500 to train and 1297 to test; network 64-w-w-10",
                                          {{"seed", seeds},
                                           {"momentum", {0, 0.5, 0.9}},
                                           {"width", {32, 64}},
                                           {"weight_decay", {0, 5e-4}},
                                           {"lr", {0.1, 0.05}},
                                           {"batch_size", {16, 64}},
                                           {"batch_norm", off_on}},
                                          600,
                                          {}}},
                                        {"paper",
                                         {"paper",
                                          "CIFAR-10, narrow ResNet-18 of 8w channels",
                                          {{"seed", seeds},
                                           {"momentum", {0, 0.5, 0.9}},
                                           {"width", {4, 6, 8}},
                                           {"weight_decay", {0, 1e-4, 5e-4}},
                                           {"lr", {0.01, 0.0075, 0.005}},
                                           {"batch_size", {32, 128, 512}},
                                           {"skip", off_on},
                                           {"batch_norm", off_on}},
                                          500,
                                          {150, 200}}}};

// A measure's column, title, the paper's τ with the gap, and by hyper-parameter (supplement, table 7).
struct Described {
  std::string key, title;
  double paper;
  std::map<std::string, double> by_factor;
};
std::map<std::string, double> table7(double m, double w, double d, double lr, double b, double s, double bn) {
  return {{"momentum", m},   {"width", w}, {"weight_decay", d}, {"lr", lr},
          {"batch_size", b}, {"skip", s},  {"batch_norm", bn}};
}
const double none = std::nan("");
const std::vector<Described> measures{
    {"low_pass", "LPF", .606, table7(-.994, .874, -.767, -.934, .998, -.543, .954)},
    {"epsilon", "ε-sharpness", .383, table7(-.781, .147, -.321, -.772, .967, .509, 1)},
    {"pac_bayes_norm", "PAC-Bayes", .466, table7(-.994, .981, -.669, -.971, .996, .322, .996)},
    {"frobenius_norm", "‖H‖ Frobenius", .481, table7(-.930, .029, -.474, -.826, .994, .218, .996)},
    {"fisher_rao", "Fisher-Rao", .270, table7(-.824, -.226, -.037, -.545, .855, -.605, 1)},
    {"lambda_max", "λ_max", none, table7(-.891, -.063, -.291, -.692, .981, .263, .996)},
    {"trace", "trace", none, table7(-.942, -.127, -.381, -.745, .984, -.199, .987)},
    {"effective_dimension", "effective dimension", none,
     table7(-.360, -.137, -.147, -.139, .335, -.268, .047)},
    {"shannon_entropy", "Shannon entropy", .296, table7(-.723, -.174, .246, -.352, .718, .613, .950)},
    {"local_entropy_gradient", "local entropy, gradient", -.064,
     table7(-.169, .954, -.036, -.112, .117, .013, .241)}};
const std::map<std::string, double> gap_by_factor = table7(-.971, -.680, -.314, -.793, .988, -.269, -.096);

struct Mlp {
  nn::Linear fc1, fc2, fc3;
  std::optional<nn::BatchNorm> bn1, bn2;
  Mlp(const nn::Path& p, std::int64_t width, bool batch_norm)
      : fc1(p / "fc1", 64, width), fc2(p / "fc2", width, width), fc3(p / "fc3", width, 10) {
    if (!batch_norm) return;
    bn1.emplace(p / "bn1", width);
    bn2.emplace(p / "bn2", width);
  }
  Tensor operator()(const Tensor& x) const {
    const auto layer = [](const Tensor& y, const std::optional<nn::BatchNorm>& bn) {
      return relu(bn ? (*bn)(y) : y);
    };
    return fc3(layer(fc2(layer(fc1(x), bn1)), bn2));
  }
};

struct Task {
  TensorDataset train, test;
};
Task task_of(const Grid& grid, const Options& o, std::uint64_t seed) {
  if (grid.name == "paper")
    return {cifar10(o.data, Split::train, {.normalize = true}),
            cifar10(o.data, Split::test, {.normalize = true})};
  auto [train, test] = split(digits(), {500, -1}, seed);
  return {std::move(train), std::move(test)};
}

std::function<Tensor(const Tensor&)> network(const Grid& grid, const ParameterStore& params,
                                             const std::map<std::string, double>& s) {
  const auto width = static_cast<std::int64_t>(s.at("width"));
  if (grid.name == "small") return Mlp(params, width, s.at("batch_norm") > 0);
  models::ResNetOptions options = models::narrow_resnet18(width);
  options.skip = s.at("skip") > 0;
  options.batch_norm = s.at("batch_norm") > 0;
  return models::ResNet(params, options);
}

// Trains and measures one model: its line. A model that misses the loss has no measures.
Record train_and_measure(const Grid& grid, const Options& o, std::size_t id) {
  constexpr double wanted = 0.01;
  const double start = detail::monotonic_seconds();
  const std::vector<double> values = grid.settings(id);
  std::map<std::string, double> s;
  for (std::size_t k = 0; k < values.size(); ++k) s[grid.factors[k].name] = values[k];
  const auto seed = static_cast<std::uint64_t>(s.at("seed"));
  const Task task = task_of(grid, o, seed);
  const ParameterStore params({.seed = seed});
  const auto net = network(grid, params, s);
  const Tensor initial = params.theta().clone();
  DataLoader loader(task.train, {.batch_size = static_cast<std::int64_t>(s.at("batch_size")), .seed = seed});
  optim::SGD sgd(params,
                 {.lr = s.at("lr"), .momentum = s.at("momentum"), .weight_decay = s.at("weight_decay")});
  if (!grid.milestones.empty()) {
    std::vector<std::uint64_t> steps;
    for (const int m : grid.milestones) steps.push_back(static_cast<std::uint64_t>(m * loader.batches()));
    sgd.set_schedule(schedule::multi_step(steps, 0.1));
  }
  const auto over = [&](const TensorDataset& data) {
    return evaluate(params, net, data.images, data.labels, 1000);
  };
  int epoch = 0;
  Evaluation train{.loss = std::numeric_limits<double>::infinity()};
  while (epoch < grid.cap && !(train.loss <= wanted)) {
    RunningMean mean;
    for (auto [x, y] : loader) {
      const Tensor loss = cross_entropy(net(x), y);
      mean.add(loss.item(), static_cast<double>(x.size(0)));
      loss.backward();
      sgd.step();
    }
    ++epoch;
    if (!std::isfinite(mean.value())) break;
    if (mean.value() <= 3 * wanted || epoch == grid.cap) train = over(task.train);
  }
  const bool converged = train.loss <= wanted;
  const double trained = detail::monotonic_seconds();

  Record line{{"grid", grid.name}, {"id", id}};
  for (std::size_t k = 0; k < values.size(); ++k) line.emplace_back(grid.factors[k].name, values[k]);
  const Evaluation test = over(task.test);
  line.emplace_back("epochs", epoch);
  line.emplace_back("converged", converged ? 1 : 0);
  line.emplace_back("train_loss", train.loss);
  line.emplace_back("test_loss", test.loss);
  line.emplace_back("gap", 100 * (test.error - train.error));
  std::optional<sharpness::Report> report;
  if (converged) {
    using sharpness::Measure;
    sharpness::MeasureOptions m{
        .measures = {Measure::low_pass, Measure::epsilon, Measure::pac_bayes, Measure::frobenius_norm,
                     Measure::fisher_rao, Measure::lambda_max, Measure::trace, Measure::effective_dimension,
                     Measure::shannon_entropy, Measure::local_entropy_gradient},
        .key = 1};
    m.pac_bayes.initial = initial;
    if (grid.name == "small") m.spectrum = {.steps = 40, .starts = 2};
    report = sharpness::measure(net, params, task.train, m);
  }
  for (const Described& d : measures)
    for (const bool error : {false, true}) {
      const bool known = report && report->contains(d.key);
      const double value = !known ? none : error ? (*report)[d.key].standard_error : (*report)[d.key].value;
      line.emplace_back(error ? d.key + "_se" : d.key, value);
    }
  line.emplace_back("train_seconds", trained - start);
  line.emplace_back("measure_seconds", detail::monotonic_seconds() - trained);
  return line;
}

// Models that were found in files, by id; a null is NaN.
using Model = std::map<std::string, double>;
std::map<std::size_t, Model> read_models(const std::string& path, const std::string& grid) {
  std::map<std::size_t, Model> out;
  if (!std::filesystem::exists(path)) return out;
  const std::string text = detail::read_file(path, "study");
  for (std::size_t at = 0, end; (end = text.find('\n', at)) != text.npos;
       at = end + 1) {  // a torn line is not read
    Model m;
    try {
      const auto json = nlohmann::json::parse(text.substr(at, end - at));
      check<FormatError>(json.at("grid") == grid, "study", "'", path, "' holds models of another grid than '",
                         grid, "'");
      for (const auto& [name, value] : json.items())
        if (name != "grid") m[name] = value.is_null() ? none : value.get<double>();
      m.at("id"), m.at("gap"), m.at("converged");
    } catch (const std::exception& e) {
      fail<FormatError>("study", "'", path, "' has a line that is no model of a study: ", e.what());
    }
    out[static_cast<std::size_t>(m["id"])] = std::move(m);
  }
  return out;
}

struct Shard {
  std::size_t index, count;
};
Shard shard_of(const std::string& text) {
  Shard s{};
  const char *begin = text.data(), *end = begin + text.size();
  const auto first = std::from_chars(begin, end, s.index);
  const bool slash = first.ec == std::errc() && first.ptr != end && *first.ptr == '/';
  const auto second = slash ? std::from_chars(first.ptr + 1, end, s.count) : first;
  check(slash && second.ec == std::errc() && second.ptr == end && s.index < s.count, "study",
        "--shard is i/n with i from 0 to n − 1, got '", text, "'");
  return s;
}

void train_shard(const Options& o, const Grid& grid) {
  const Shard shard = shard_of(o.shard);
  const std::string path = concat(o.out, "/results-", shard.index, "-of-", shard.count, ".jsonl");
  const auto known = read_models(path, grid.name);
  std::vector<std::size_t> open;
  for (std::size_t id = shard.index; id < grid.size(); id += shard.count)
    if (!known.contains(id)) open.push_back(id);
  if (o.limit > 0 && open.size() > static_cast<std::size_t>(o.limit))
    open.resize(static_cast<std::size_t>(o.limit));
  std::printf("%s: %zu models are there, %zu to train\n", path.c_str(), known.size(), open.size());
  ProgressBar bar(open.size(), {.label = "models"});
  for (std::size_t i = 0; i < open.size(); ++i) {
    const Record line = train_and_measure(grid, o, open[i]);
    MetricLog log(path, {.append = true});
    log.write(line);
    log.close();  // makes it durable
    bar.update(i + 1);
  }
  bar.finish();
}

// Models that differ in the seed alone, their mean; NaN in a column where one has it.
std::vector<Model> seed_means(const Grid& grid, const std::map<std::size_t, Model>& models) {
  const std::size_t configurations = grid.size() / grid.factors[0].values.size();
  std::map<std::size_t, std::vector<const Model*>> groups;
  for (const auto& [id, m] : models)
    if (m.at("converged") > 0) groups[id % configurations].push_back(&m);
  std::vector<Model> out;
  for (const auto& [configuration, group] : groups) {
    Model mean;
    for (const auto& [name, value] : *group[0]) {
      double sum = 0;
      for (const Model* m : group) sum += m->at(name);
      mean[name] = sum / static_cast<double>(group.size());
    }
    out.push_back(std::move(mean));
  }
  return out;
}

struct Column {
  std::vector<double> x, y;
};
Column pairs(const std::vector<Model>& models, const std::string& x, const std::string& y) {
  Column out;
  for (const Model& m : models) {
    if (!std::isfinite(m.at(x)) || !std::isfinite(m.at(y))) continue;
    out.x.push_back(m.at(x)), out.y.push_back(m.at(y));
  }
  return out;
}

// The mean of τ(x, y) over groups of models that differ in `factor` alone, with the interval over groups.
sharpness::Interval within(const Grid& grid, const std::vector<Model>& models, const std::string& factor,
                           const std::string& x, const std::string& y, const Options& o) {
  std::map<std::vector<double>, std::vector<Model>> groups;
  for (const Model& m : models) {
    std::vector<double> rest;
    for (std::size_t k = 1; k < grid.factors.size(); ++k)
      if (grid.factors[k].name != factor) rest.push_back(m.at(grid.factors[k].name));
    groups[rest].push_back(m);
  }
  std::vector<double> taus;
  for (const auto& [rest, group] : groups) {
    const Column c = pairs(group, x, y);
    const double tau = sharpness::kendall_tau_b(c.x, c.y);
    if (std::isfinite(tau)) taus.push_back(tau);
  }
  if (taus.empty()) return {};
  return sharpness::bootstrap(taus.size(),
                              [&](std::span<const std::size_t> index) {
                                double mean = 0;
                                for (const std::size_t i : index)
                                  mean += taus[i] / static_cast<double>(index.size());
                                return mean;
                              },
                              {.resamples = o.resamples});
}

std::string shown(const sharpness::Interval& i) {
  if (!std::isfinite(i.value)) return "–";
  return concat(format_fixed(i.value, 3), " [", format_fixed(i.low, 3), ", ", format_fixed(i.high, 3), "]");
}
std::string shown(double paper) { return std::isfinite(paper) ? format_fixed(paper, 3) : "–"; }

struct Analysis {
  const Options& o;
  const Grid& grid;
  const std::vector<Model>& means;
  HtmlReport& report;
  std::vector<Record> records = {};

  std::string add(const std::string& table, const std::string& row, const std::string& column,
                  const sharpness::Interval& i, double paper) {
    records.push_back({{"table", table},
                       {"row", row},
                       {"column", column},
                       {"tau", i.value},
                       {"low", i.low},
                       {"high", i.high},
                       {"paper", paper}});
    return shown(i);
  }
  void show(const std::string& heading, const std::string& words, const TextTable& table) {
    std::printf("\n%s\n%s", heading.c_str(), table.to_string().c_str());
    report.section(heading, words).table(table);
  }

  void overall() {
    TextTable table({"measure", "τ with the gap [95 %]", "the paper's"});
    for (const Described& d : measures) {
      const Column c = pairs(means, d.key, "gap");
      const auto tau = sharpness::kendall(c.x, c.y, {.resamples = o.resamples});
      table.add_row({d.title, add("overall", d.key, "gap", tau, d.paper), shown(d.paper)});
    }
    show("Measure against gap", "Kendall's τ on means over the seeds; intervals by bootstrap over settings.",
         table);
  }
  void by_factor(const std::string& heading, const std::string& words, bool against_gap) {
    std::vector<std::string> header{"measure"};
    for (std::size_t k = 1; k < grid.factors.size(); ++k) header.push_back(grid.factors[k].name);
    TextTable table(header);
    const auto row = [&](const std::string& key, const std::string& title, auto x_of,
                         const std::map<std::string, double>& paper) {
      std::vector<std::string> cells{title}, theirs{"   the paper's"};
      for (std::size_t k = 1; k < grid.factors.size(); ++k) {
        const std::string& factor = grid.factors[k].name;
        const double value = paper.contains(factor) ? paper.at(factor) : none;
        cells.push_back(add(against_gap ? "measure-gap-within" : "hyper-parameter", key, factor,
                            within(grid, means, factor, x_of(factor), against_gap ? "gap" : key, o), value));
        theirs.push_back(shown(value));
      }
      table.add_row(cells);
      if (!paper.empty()) table.add_row(theirs);
    };
    if (!against_gap)
      row(
          "gap", "gap", [](const std::string& f) { return f; }, gap_by_factor);
    for (const Described& d : measures)
      row(
          d.key, d.title, [&](const std::string& f) { return against_gap ? d.key : f; },
          against_gap ? std::map<std::string, double>{} : d.by_factor);
    show(heading, words, table);
  }
  void pictures() {
    report.section("Every setting", "A dot is one setting, the mean of its seeds.");
    for (const Described& d : measures) {
      std::vector<plot::Series> series;
      for (const double bn : off_on) {
        plot::Series s{.name = bn > 0 ? "batch norm" : "no batch norm"};
        for (const Model& m : means)
          if (m.at("batch_norm") == bn && std::isfinite(m.at(d.key)))
            s.x.push_back(m.at(d.key)), s.y.push_back(m.at("gap"));
        series.push_back(std::move(s));
      }
      const bool positive = d.key != "trace" && d.key != "fisher_rao";
      report.figure(plot::scatter_chart(
          series, {.title = d.title + " and the gap",
                   .x = {.title = d.title, .scale = positive ? plot::Scale::log : plot::Scale::linear},
                   .y = {.title = "train − test accuracy, %"}}));
    }
  }
};

void analyse(const Options& o, const Grid& grid, const std::string& command) {
  std::map<std::size_t, Model> models;
  std::vector<std::string> files = o.merge;
  for (const auto& entry : std::filesystem::directory_iterator(o.out)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("results-") && name.ends_with(".jsonl")) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) models.merge(read_models(file, grid.name));
  std::size_t converged = 0;
  double seconds = 0;
  for (const auto& [id, m] : models) {
    converged += m.at("converged") > 0;
    seconds += m.at("train_seconds") + m.at("measure_seconds");
  }
  const std::vector<Model> means = seed_means(grid, models);
  const std::string lead = concat(
      models.size(), " of ", grid.size(), " models, ", converged, " of them converged, ", means.size(),
      " settings; ", format_fixed(seconds / static_cast<double>(std::max<std::size_t>(1, models.size())), 2),
      " s a model.");
  std::printf("\n%s\n", lead.c_str());
  if (means.size() < 2) return;
  HtmlReport report({.title = "Sharpness against generalisation",
                     .lead = concat("Grid '", grid.name, "': ", grid.description, ". ", lead),
                     .command = command});
  Analysis a{o, grid, means, report};
  a.overall();
  a.by_factor("Hyper-parameter against gap and measure",
              "τ where one hyper-parameter varies and the others are fixed, the mean over all such groups; "
              "intervals by bootstrap over the groups.",
              false);
  a.by_factor("Measure against gap, one hyper-parameter varying",
              "As above: does the measure order models that differ in one hyper-parameter alone?", true);
  a.pictures();
  report.write(o.out + "/report.html");
  write_csv_records(o.out + "/tau.csv", a.records);
  std::vector<Record> rows;
  for (const auto& [id, m] : models) {
    rows.emplace_back();
    for (const auto& [name, value] : m) rows.back().emplace_back(name, value);
  }
  write_csv_records(o.out + "/models.csv", rows);
  std::printf("\nPictures: %s/report.html   numbers: %s/tau.csv, %s/models.csv\n", o.out.c_str(),
              o.out.c_str(), o.out.c_str());
}

void describe(const Grid& grid, const Shard& shard) {
  std::printf("grid '%s': %zu models; %s; at most %d epochs, to a training loss of 0.01\n", grid.name.c_str(),
              grid.size(), grid.description.c_str(), grid.cap);
  for (const Factor& f : grid.factors) {
    std::printf("  %-13s", f.name.c_str());
    for (const double v : f.values) std::printf(" %s", format_general(v).c_str());
    std::printf("\n");
  }
  std::printf("shard %zu of %zu: %zu models\n", shard.index, shard.count,
              (grid.size() + shard.count - 1 - shard.index) / shard.count);
}

int run(const Options& o, const std::string& command) {
  const Grid& grid = grids.at(o.grid);
  describe(grid, shard_of(o.shard));
  if (o.dry_run) return 0;
  create_directories(o.out);
  if (!o.merge_only) train_shard(o, grid);
  analyse(o, grid, command);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Sharpness against generalisation over a grid of networks.");
  app.option_defaults()->always_capture_default();
  app.add_option("--grid", o.grid, "which networks")->check(CLI::IsMember({"small", "paper"}));
  app.add_option("--shard", o.shard, "i/n: train every n-th model, from the i-th");
  app.add_option("--limit", o.limit, "train at most so many in this run; 0: all")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--merge", o.merge, "files of other shards")->check(CLI::ExistingFile);
  app.add_flag("--merge-only", o.merge_only, "train nothing, make the tables of what is there");
  app.add_flag("--dry-run", o.dry_run, "describe the grid only");
  app.add_option("--data", o.data, "folder of CIFAR-10, for the paper's grid");
  app.add_option("--resamples", o.resamples, "of the bootstrap")->check(CLI::Range(1, 1000000));
  app.add_option("--out", o.out, "folder for results and tables");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  CLI11_PARSE(app, argc, argv);
  try {
    set_num_threads(o.threads);
    std::string command = "study";
    for (int i = 1; i < argc; ++i) command += concat(" ", argv[i]);
    return run(o, command);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "study: %s\n", e.what());
    return 1;
  }
}
