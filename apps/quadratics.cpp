// Sensitivity of sharpness measures: the synthetic quadratics of the paper (supplement, figure 6), without
// training: f(θ) = θᵀHθ/2 in 100 dimensions, measured at its minimum.
//
//   (a) the K smallest eigenvalues of H = AᵀA/2 become U(1e-5, 1e-3), K from 0 to 100: more and more
//       directions are flat. Paper: the effective dimension reacts most, LPF second.
//   (b) all eigenvalues are U(0.9κ, 1.1κ), κ from 100 to 1: all directions become flatter alike. Paper:
//       all measures react except ε-sharpness and the effective dimension.
//
//   quadratics --out out/quadratics      a table, report.html, results.csv
#include <cstdio>
#include <lpf/dense.hpp>
#include <lpf/io/output_folder.hpp>
#include <lpf/report/log.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/sharpness/measure.hpp>

#include "program.hpp"

using namespace lpf;

namespace {

struct Options {
  std::int64_t dimensions = 100, draws = 200;
  std::uint64_t seed = 0;
  std::string out = "out/quadratics";
};

// f as a model of one parameter: its output is θ, its loss θᵀHθ/2. Its single sample is a placeholder.
struct Quadratic {
  ParameterStore params{{.dtype = float64}};
  nn::Parameter theta;
  Tensor H;

  explicit Quadratic(Tensor h)
      : theta(nn::Path(params).parameter("theta", {h.size(0)}, init::zeros())), H(std::move(h)) {}
  Tensor operator()(const Tensor& x) const { return expand(per_sample(theta, x), {x.size(0), H.size(0)}); }
  auto losses() const {
    return [this](const Tensor& t, const Tensor&) { return affine(sum(mul(matmul(t, H), t), {1}), 0.5, 0); };
  }
  static sharpness::Data data() {
    return {zeros({1, 1}, {.dtype = float64}), zeros({1}, {.dtype = float64})};
  }
};

// Eigenvalues in ascending order, and eigenvectors as the rows of a matrix.
struct Eigen {
  std::vector<double> values;
  Tensor vectors;

  Tensor matrix() const {  // Vᵀ diag(values) V
    const std::int64_t d = std::ssize(values);
    return matmul(mul(vectors.transpose(), reshape(from_vector(values, {d}), {1, d})), vectors);
  }
};

// Eigendecomposition of AᵀA/2, by Lanczos' method with as many steps as dimensions.
Eigen wishart(std::int64_t d, std::uint64_t seed) {
  const Tensor a = empty({d, d}, {.dtype = float64});
  a.backend().normal(float64, {.seed = seed}, 0, d * d, a.raw());
  const Quadratic f(affine(matmul(a.transpose(), a), 0.5, 0));
  sharpness::MeasureOptions o{.measures = {"lambda_max"}, .filter_normalize = false};
  o.spectrum = {.steps = d, .starts = 1, .eigenpairs = d};
  const auto pairs = sharpness::measure(f, f.params, Quadratic::data(), o, f.losses()).eigenpairs;
  check<NumericError>(std::ssize(pairs) == d, "quadratics", "found ", pairs.size(), " of ", d, " eigenpairs");
  Eigen out{{}, empty({d, d}, {.dtype = float64})};
  for (std::int64_t k = 0; k < d; ++k) {
    const auto& pair = pairs[static_cast<std::size_t>(d - 1 - k)];
    out.values.push_back(pair.value);
    out.vectors[k].copy_(narrow(pair.vector, 0, 0, d));
  }
  return out;
}

struct Shown {
  std::string key, title;
};
const std::vector<Shown> shown{{"effective_dimension", "effective dimension"},
                               {"low_pass", "LPF"},
                               {"trace", "trace"},
                               {"frobenius_norm", "Frobenius norm"},
                               {"lambda_max", "λ_max"},
                               {"fisher_rao", "Fisher-Rao norm"},
                               {"pac_bayes_distance", "PAC-Bayes"},
                               {"local_entropy", "local entropy"},
                               {"epsilon", "ε-sharpness"}};

// The measures of a quadratic at its minimum. The gradient and θᵀHθ are zero there; so θ is displaced
// slightly along the steepest direction, in which ε-sharpness then searches.
std::vector<double> measured(const Eigen& h, const Options& o) {
  const Quadratic f(h.matrix());
  const std::int64_t d = o.dimensions;
  f.theta.clean().detach().copy_(affine(h.vectors[d - 1], 1e-3, 0));
  sharpness::MeasureOptions options{.draws = o.draws, .key = o.seed, .filter_normalize = false, .sigma = 1};
  std::vector<std::string> keys;
  for (const Shown& q : shown) keys.push_back(q.key);
  options.measures = sharpness::measures_of(keys);
  options.pac_bayes_draws = options.frobenius_draws = o.draws;
  options.spectrum = {.steps = d, .starts = 20};
  options.pac_bayes.initial = zeros({f.params.theta().numel()}, {.dtype = float64});
  const Tensor from = options.pac_bayes.initial.alias({d});
  from.backend().normal(float64, {.seed = o.seed, .draw = 1}, 0, d, from.raw());
  const auto report = sharpness::measure(f, f.params, Quadratic::data(), options, f.losses());
  std::vector<double> out;
  for (const Shown& s : shown) out.push_back(report[s.key].value);
  return out;
}

// One of the two experiments: measures by point, and the reaction of each.
struct Sweep {
  std::string title, axis, name;
  std::vector<double> x;
  std::vector<std::vector<double>> values = {};  // [point][measure]

  // Each measure divided by its largest value.
  std::vector<double> normalized(std::size_t m) const {
    double largest = 0;
    for (const auto& v : values) largest = std::max(largest, std::abs(v[m]));
    std::vector<double> out;
    for (const auto& v : values) out.push_back(largest > 0 ? v[m] / largest : 0);
    return out;
  }
  // Distance of the normalized curve below 1, averaged over its points: 0 for a constant measure.
  double reaction(std::size_t m) const {
    double sum = 0;
    for (const double y : normalized(m)) sum += (1 - y) / static_cast<double>(values.size());
    return sum;
  }
  std::vector<std::size_t> order() const {  // strongest reaction first
    std::vector<std::size_t> out(shown.size());
    for (std::size_t m = 0; m < out.size(); ++m) out[m] = m;
    std::stable_sort(out.begin(), out.end(), [&](auto a, auto b) { return reaction(a) > reaction(b); });
    return out;
  }
};

Sweep flatter_directions(const Options& o, const Eigen& base, ProgressBar& bar, std::size_t& done) {
  Sweep out{"(a) more and more flat directions", "K, eigenvalues in [1e-5, 1e-3]", "K", {}};
  Eigen h = base;
  for (std::int64_t p = 0; p <= 20; ++p) {
    const std::int64_t K = o.dimensions * p / 20;
    for (std::int64_t i = 0; i < K; ++i)
      h.values[static_cast<std::size_t>(i)] =
          1e-5 + (1e-3 - 1e-5) * uniform_at<double>({.seed = o.seed, .draw = 2}, i);
    out.x.push_back(static_cast<double>(K));
    out.values.push_back(measured(h, o));
    bar.update(++done);
  }
  return out;
}

Sweep flatter_everywhere(const Options& o, const Eigen& base, ProgressBar& bar, std::size_t& done) {
  Sweep out{"(b) all directions flatter alike", "κ, the mean eigenvalue", "kappa", {}};
  Eigen h = base;
  for (int p = 0; p <= 20; ++p) {
    const double kappa = 100 - 99.0 * p / 20;
    for (std::int64_t i = 0; i < o.dimensions; ++i)
      h.values[static_cast<std::size_t>(i)] =
          kappa * (0.9 + 0.2 * uniform_at<double>({.seed = o.seed, .draw = 3}, i));
    std::sort(h.values.begin(), h.values.end());
    out.x.push_back(kappa);
    out.values.push_back(measured(h, o));
    bar.update(++done);
  }
  return out;
}

std::size_t index_of(const std::string& key) {
  for (std::size_t m = 0; m < shown.size(); ++m)
    if (shown[m].key == key) return m;
  fail("quadratics", "there is no measure '", key, "'");
}

// "effective dimension reacts most (0.46), then trace (0.43), LPF (0.43)": the measures that react, in a lead.
std::string reactions(const Sweep& s) {
  const auto order = s.order();
  std::string out;
  for (std::size_t i = 0; i < 4; ++i)
    out += concat(i == 0   ? ""
                  : i == 1 ? " reacts most, then "
                           : ", ",
                  shown[order[i]].title, " (", format_fixed(s.reaction(order[i]), 2), ")");
  return concat(out, "; least ", shown[order.back()].title, " (", format_fixed(s.reaction(order.back()), 2),
                ")");
}

// The paper's statement about a sweep, and the result.
std::string verdict_a(const Sweep& s) {
  const auto order = s.order();
  const double lpf = s.reaction(index_of("low_pass"));
  std::string above, level;
  for (const std::size_t m : order) {
    if (shown[m].key == "low_pass") continue;
    std::string* list = s.reaction(m) > lpf + 0.01 ? &above : s.reaction(m) > lpf - 0.01 ? &level : nullptr;
    if (list) *list += concat(list->empty() ? "" : ", ", shown[m].title);
  }
  const bool first = shown[order[0]].key == "effective_dimension", second = above == "effective dimension";
  return concat(
      "The paper says: the effective dimension reacts most, LPF second. Found: ", shown[order[0]].title,
      " reacts most", first ? ", as it says" : ", not as it says", "; LPF is ",
      second ? "second, as it says" : concat("behind ", above),
      level.empty() ? "" : concat(", level with ", level),
      ". (At a minimum LPF − f is σ²/2 times the trace, and PAC-Bayes is made of the same number. Local "
      "entropy is ½ Σ ln(1 + λ/γ) there, which sees small eigenvalues more; the published program computes "
      "it with a deviation of 1/γ.)");
}
std::string verdict_b(const Sweep& s) {
  const auto order = s.order();
  const std::string last = shown[order.back()].title, before = shown[order[order.size() - 2]].title;
  const auto is_named = [&](std::size_t i) {
    const std::string& key = shown[order[order.size() - i]].key;
    return key == "epsilon" || key == "effective_dimension";
  };
  return concat(
      "The paper says: all react but ε-sharpness and the effective dimension. Found: the two that react "
      "least are ",
      last, " and ", before, is_named(1) && is_named(2) ? ", as it says" : ", not as it says",
      ". (On a quadratic ε-sharpness is √(λ/2ε) and falls with the root of κ, "
      "other measures with κ itself.)");
}

void run(const Options& o, const std::string& command) {
  const OutputFolder folder(o.out, "quadratics");
  for (const char* file : {"/report.html", "/results.csv"})
    program::check_writable(o.out + file, "quadratics");
  const Eigen base = wishart(o.dimensions, o.seed);
  std::size_t done = 0;
  ProgressBar bar(42, {.label = "measuring"});
  const std::vector<Sweep> sweeps{flatter_directions(o, base, bar, done),
                                  flatter_everywhere(o, base, bar, done)};
  bar.finish();
  HTMLReport report({.title = "What measures of sharpness see",
                     .lead = concat("As more and more directions become flat, ", reactions(sweeps[0]),
                                    ". As all become flatter alike, ", reactions(sweeps[1]), "."),
                     .command = command,
                     .seeds = std::to_string(o.seed)});
  report.text(
      "Quadratics whose curvature is known, measured at the minimum. The reaction of a measure, in brackets, "
      "is how far "
      "its curve, over its largest value, lies below 1 in the mean. The loss at the minimum is 0: LPF is "
      "here its own "
      "rise over the loss.");
  std::vector<Record> records;
  for (std::size_t k = 0; k < 2; ++k) {
    const Sweep& s = sweeps[k];
    const std::string verdict = k == 0 ? verdict_a(s) : verdict_b(s);
    TextTable table({"measure", "at the start", "at the end", "reaction"});
    std::vector<plot::Series> curves;
    for (const std::size_t m : s.order())
      table.add_row({shown[m].title, format_general(s.values.front()[m]), format_general(s.values.back()[m]),
                     format_fixed(s.reaction(m), 3)});
    for (std::size_t m = 0; m < shown.size(); ++m)
      curves.push_back({.name = shown[m].title, .x = s.x, .y = s.normalized(m)});
    std::printf("\n%s\n%s", s.title.c_str(), table.to_string(terminal_columns()).c_str());
    program::print(verdict + "\n");
    report.section(s.title, verdict)
        .figure(plot::line_chart(curves, {.title = "Each measure over its largest value",
                                          .x = {.title = s.axis},
                                          .y = {.title = "normalised measure", .min = 0}}),
                "At the minimum of a quadratic; the same draws at every point. Lines that lie on each other "
                "are dashed in "
                "turn, and named beside.")
        .table(table, "Reaction: how far the normalised curve lies below 1 in the mean.");
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      Record record{{"experiment", std::string(k == 0 ? "a" : "b")}, {"x", s.x[i]}};
      for (std::size_t m = 0; m < shown.size(); ++m) record.emplace_back(shown[m].key, s.values[i][m]);
      records.push_back(std::move(record));
    }
  }
  report.write(o.out + "/report.html");
  write_csv_records(o.out + "/results.csv", records);
  program::print(concat("\nPicture: ", o.out, "/report.html\nNumbers: ", o.out, "/results.csv\n"));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app(
      "Measures of sharpness on quadratics of known curvature, after the paper's supplement, figure 6.");
  app.option_defaults()->always_capture_default();
  app.add_option("--dimensions", o.dimensions, "of the quadratic")->check(CLI::Range(10, 2000));
  app.add_option("--draws", o.draws, "random draws of each measure")->check(CLI::Range(2, 100000));
  app.add_option("--seed", o.seed, "of the quadratic and of the draws");
  app.add_option("--out", o.out, "folder for report.html and results.csv");
  return program::run(app, "quadratics", argc, argv, [&](const std::string& command) { run(o, command); });
}
