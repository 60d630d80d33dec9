// The loss around a minimum. Trains the digits network by SGD and by LPF-SGD from the same weights, and draws
// the training loss
//   in a plane of two random directions, every filter scaled to the norm of the weight's
//   in the plane that contains most of SGD's trajectory
//   through both solutions
// unfiltered and after the low-pass filter at several radii, the objective of LPF-SGD. Writes CSV, PNG, and
// an interactive page; the page also illustrates the idea in one dimension: a function under Gaussians of
// growing width, with the paths of SGD and LPF-SGD.
//
//   landscape                          51 × 51 points, pictures in out/landscape
//   landscape --points 101 --sigma 0.1
#include <cstdio>
#include <lpf/data/sets/digits.hpp>
#include <lpf/dense.hpp>
#include <lpf/io/image.hpp>
#include <lpf/io/output_folder.hpp>
#include <lpf/models/mlp.hpp>
#include <lpf/optim/registry.hpp>
#include <lpf/report/log.hpp>
#include <lpf/report/method_color.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/report/raster.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/surface_page.hpp>
#include <lpf/report/svg.hpp>
#include <lpf/sharpness/surface.hpp>

#include "program.hpp"

using namespace lpf;

namespace {

struct Options {
  int epochs = 60, threads = 0;
  std::int64_t points = 51, replicas = 16, draws = 8;
  std::vector<double> sigma{0.05, 0.1, 0.2};
  double gamma = 0.06;
  std::uint64_t seed = 0;
  std::string out = "out/landscape";
};

struct Trained {
  ParameterStore params;
  models::MLP net;
  std::vector<Tensor> trajectory;  // θ before training and after each epoch

  explicit Trained(std::uint64_t seed) : params({.seed = seed}), net(params, {64, 128, 128, 10}) {}
};

Trained train(const Options& o, const TensorDataset& data, bool low_pass) {
  Trained t(o.seed);
  DataLoader loader(data, {.batch_size = 64, .seed = o.seed});
  const std::int64_t steps = o.epochs * loader.batches();
  const auto method = optim::make(low_pass ? "lpf-sgd" : "sgd", t.params,
                                  {.momentum = 0.9, .seed = o.seed, .total_steps = steps, .gamma = o.gamma});
  method->optimizer().set_schedule(schedule::cosine(static_cast<std::uint64_t>(steps)));
  t.trajectory.push_back(t.params.theta().clone());
  ProgressBar bar(static_cast<std::size_t>(o.epochs), {.label = low_pass ? "LPF-SGD" : "SGD"});
  for (int epoch = 0; epoch < o.epochs; ++epoch) {
    double last = 0;
    for (auto [x, y] : loader) {
      last = method->step([&, x = x, y = y](std::int64_t) { return cross_entropy(t.net(x), y); }).item();
    }
    t.trajectory.push_back(t.params.theta().clone());
    bar.update(static_cast<std::size_t>(epoch + 1), last);
  }
  bar.finish();
  return t;
}

struct Named {
  std::string key, name;
  sharpness::Surface surface;
  std::vector<std::array<double, 2>> path = {};
  std::string method = {};  // whose path it is
};

// "Training loss at SGD's solution 0.001, at LPF-SGD's 0.002; smoothed with σ 0.2: 0.5 and 0.1.", from the lines between
// them, of the loss and smoothed.
std::string result_text(const std::vector<Named>& lines) {
  const auto at = [](const sharpness::Surface& s, double place) {
    std::size_t nearest = 0;
    for (std::size_t i = 0; i < s.x.size(); ++i)
      if (std::abs(s.x[i] - place) < std::abs(s.x[nearest] - place)) nearest = i;
    return format_general(s.loss[nearest], 3);
  };
  std::string out = concat("Training loss at SGD's solution ", at(lines[0].surface, 0), ", at LPF-SGD's ",
                           at(lines[0].surface, 1));
  for (std::size_t k = 1; k < lines.size(); ++k)
    out += concat(k == 1 ? "; smoothed with " : ", with ", lines[k].name, ": ", at(lines[k].surface, 0),
                  " and ", at(lines[k].surface, 1));
  return out + ".";
}

void write_csv(const std::string& path, const std::vector<const Named*>& all) {
  std::vector<Record> records;
  for (const Named* n : all)
    for (std::size_t j = 0; j < n->surface.y.size(); ++j)
      for (std::size_t i = 0; i < n->surface.x.size(); ++i)
        records.push_back({{"surface", n->key},
                           {"sigma", n->surface.sigma},
                           {"x", n->surface.x[i]},
                           {"y", n->surface.y[j]},
                           {"loss", n->surface.at(j, i)}});
  write_csv_records(path, records);
}

// Heights are logarithms: the loss spans orders of magnitude.
void write_pictures(const Options& o, const Named& n) {
  plot::HeightField field{n.surface.y.size(), n.surface.x.size(), {}};
  for (const double loss : n.surface.loss) field.height.push_back(std::log(std::max(loss, 1e-6)));
  save_png(concat(o.out, "/", n.key, "-contours.png"), plot::contour_map(field));
  save_png(concat(o.out, "/", n.key, "-surface.png"), plot::shaded_surface(field));
}

PageSurface on_page(const Named& n) {
  return {.name = n.name,
          .x = n.surface.x,
          .y = n.surface.y,
          .height = n.surface.loss,
          .path = n.path,
          .method = n.method};
}

// f(x) = x²/20 − Σ A exp(−(x − m)²/2s²). Convolved with N(0, σ²): x² + σ², s² + σ², A s/√(s² + σ²).
struct Valley {
  double depth, middle, width;
};
const std::vector<Valley> valleys{{1.1, -1.9, 0.07}, {1.3, -1.1, 0.09}, {1.0, 1.2, 0.75}, {0.9, -0.4, 0.05}};

double smoothed(double x, double sigma) {
  double f = (x * x + sigma * sigma) / 20;
  for (const Valley& v : valleys) {
    const double s2 = v.width * v.width + sigma * sigma, d = x - v.middle;
    f -= v.depth * v.width / std::sqrt(s2) * std::exp(-d * d / (2 * s2));
  }
  return f;
}
double slope(double x) {
  double g = x / 10;
  for (const Valley& v : valleys) {
    const double s2 = v.width * v.width, d = x - v.middle;
    g += v.depth * d / s2 * std::exp(-d * d / (2 * s2));
  }
  return g;
}

// SGD: x ← x − η(f'(x) + noise). LPF-SGD: the same noise, and the mean of f' over M draws around x; the
// radius grows by the filter's schedule.
PageAnimation idea(const Options& o) {
  constexpr int steps = 3000, every = 20, M = 8;
  constexpr double lr = 0.01, first = 0.05, last = 0.8;
  PageAnimation a{.x = {}, .ghost = {}, .names = {"SGD", "LPF-SGD"}, .frames = {}};
  for (int i = 0; i <= 300; ++i) a.x.push_back(-3 + 6.0 * i / 300);
  for (const double x : a.x) a.ghost.push_back(smoothed(x, 0));
  const auto normal = [&](std::int64_t i) { return normal_at<double>({.seed = o.seed}, i); };
  double sgd = -2.5, smooth = sgd;
  std::vector<double> seen[2];  // positions up to each frame
  for (int t = 0; t < steps; ++t) {
    const double sigma = first + (last - first) * (1 - std::cos(std::acos(-1.0) * t / steps)) / 2;
    if (t % every == 0) {
      seen[0].push_back(sgd), seen[1].push_back(smooth);
      PageFrame frame{concat("step ", t, ", σ ", format_fixed(sigma, 2),
                             ": the function (thin) and its convolution with a Gaussian (thick)"),
                      {},
                      {seen[0], seen[1]}};
      for (auto& path : frame.paths)
        if (path.size() > 25) path.erase(path.begin(), path.end() - 25);
      for (const double x : a.x) frame.y.push_back(smoothed(x, sigma));
      a.frames.push_back(std::move(frame));
    }
    const double noise = normal(t * (M + 1));
    double mean = 0;
    for (int m = 1; m <= M; ++m) mean += slope(smooth + sigma * normal(t * (M + 1) + m)) / M;
    const auto inside = [](double x) { return std::clamp(x, -3.0, 3.0); };
    sgd = inside(sgd - lr * (slope(sgd) + noise));
    smooth = inside(smooth - lr * (mean + noise));
  }
  return a;
}

void run(const Options& o, const std::string& command) {
  const OutputFolder folder(o.out, "landscape");
  for (const char* file : {"/page.html", "/lines.html", "/surfaces.csv"})
    program::check_writable(o.out + file, "landscape");
  check_can_save_png(o.out + "/random-sgd-contours.png");
  const TensorDataset data = split(digits(), {1000, -1}, o.seed)[0];
  const Trained sgd = train(o, data, false), flat = train(o, data, true);

  const auto landscape_of = [&](const Trained& t) {
    return sharpness::Landscape(t.params, {data.images, data.labels},
                                [&net = t.net](const Tensor& x, const Tensor& y) {
                                  return cross_entropy(net(x), y, {.reduction = Reduction::none});
                                },
                                {.replicas = o.replicas});
  };
  const sharpness::Landscape at_sgd = landscape_of(sgd), at_lpf = landscape_of(flat);
  const auto timed = [&](const std::string& what, const auto& landscape, const sharpness::Plane& plane,
                         const sharpness::SurfaceOptions& options) {
    const double start = detail::monotonic_seconds();
    sharpness::Surface s = sharpness::surface(landscape, plane, options);
    std::printf("%-24s %3zu x %3zu, %4lld draws: %7s s\n", what.c_str(), s.x.size(), s.y.size(),
                static_cast<long long>(options.sigma > 0 ? options.draws : 1),
                format_fixed(detail::monotonic_seconds() - start, 2).c_str());
    return s;
  };

  const sharpness::Range range{-1, 1, o.points};
  std::vector<Named> random, connecting, principal, lines;
  const auto random_plane = [&](const auto& landscape) {
    return sharpness::Plane{sharpness::random_direction(landscape, 7, 0),
                            sharpness::random_direction(landscape, 7, 1)};
  };
  random.push_back({"random-sgd", "SGD", timed("random, SGD", at_sgd, random_plane(at_sgd), {range, range})});
  random.push_back(
      {"random-lpf", "LPF-SGD", timed("random, LPF-SGD", at_lpf, random_plane(at_lpf), {range, range})});
  const sharpness::Range coarse{-1, 1, (o.points + 1) / 2};
  for (const double sigma : o.sigma)
    random.push_back(
        {concat("smoothed-", format_general(sigma)), concat("SGD, σ ", format_general(sigma)),
         timed(concat("random, SGD, sigma ", format_general(sigma)), at_sgd, random_plane(at_sgd),
               {.x = coarse, .y = coarse, .sigma = sigma, .draws = o.draws})});

  const Tensor between = sharpness::between(sgd.params, flat.params.theta());
  connecting.push_back({"between",
                        "from SGD (0, 0) to LPF-SGD (1, 0)",
                        timed("between", at_sgd, {between, sharpness::random_direction(at_sgd, 7, 0)},
                              {{-0.5, 1.5, o.points}, range}),
                        {}});
  for (int i = 0; i <= 20; ++i) connecting.back().path.push_back({i / 20.0, 0});
  const auto plane = sharpness::principal_plane(sgd.params, sgd.trajectory);
  double low[2] = {0, 0}, high[2] = {0, 0};
  for (const auto& p : plane.path)
    for (std::size_t k = 0; k < 2; ++k) low[k] = std::min(low[k], p[k]), high[k] = std::max(high[k], p[k]);
  const auto around = [&](std::size_t k) {
    const double margin = 0.2 * (high[k] - low[k]);
    return sharpness::Range{low[k] - margin, high[k] + margin, o.points};
  };
  principal.push_back({"principal", "SGD's trajectory",
                       timed("principal plane", at_sgd, {plane.u, plane.v}, {around(0), around(1)}),
                       plane.path, "SGD"});
  program::print(concat("the principal plane holds ",
                        format_fixed(100 * (plane.explained[0] + plane.explained[1]), 1),
                        " % of the trajectory's squared distances\n"));

  std::vector<plot::Series> curves;
  lines.push_back({"line", "the loss",
                   timed("line between, raw", at_sgd, {between}, {.x = {-0.5, 1.5, 2 * o.points - 1}})});
  for (const double sigma : o.sigma)
    lines.push_back({concat("line-", format_general(sigma)), concat("σ ", format_general(sigma)),
                     timed(concat("line between, sigma ", format_general(sigma)), at_sgd, {between},
                           {.x = {-0.5, 1.5, 2 * o.points - 1}, .sigma = sigma, .draws = 4 * o.draws})});
  for (const Named& n : lines) {  // the loss in grey, smoothed in LPF-SGD's colour
    const int k = static_cast<int>(curves.size());
    curves.push_back({.name = n.name,
                      .x = n.surface.x,
                      .y = n.surface.loss,
                      .color = k == 0 ? plot::detail::palette_size - 1
                                      : plot::detail::patterned(plot::method_color("lpf-sgd"), k - 1)});
  }
  const std::string result = result_text(lines);

  std::vector<const Named*> all;
  std::vector<PageSurface> pages[3];
  for (const Named& n : random) all.push_back(&n), pages[0].push_back(on_page(n));
  for (const Named& n : connecting) all.push_back(&n), pages[1].push_back(on_page(n));
  for (const Named& n : principal) all.push_back(&n), pages[2].push_back(on_page(n));
  for (const Named* n : all) write_pictures(o, *n);
  for (const Named& n : lines) all.push_back(&n);
  write_csv(o.out + "/surfaces.csv", all);

  const std::string units = "Radii σ are in units of the filters' sizes.";
  SurfacePage page("The landscape that LPF-SGD descends", command, result);
  page.animation("The idea",
                 "A function with narrow valleys and a wide one, its convolution with Gaussians of growing "
                 "width, and the paths of SGD and LPF-SGD from the same start with the same gradient noise.",
                 idea(o))
      .surfaces(
          "Two random directions",
          "Training loss of the digits network around the solutions of SGD and LPF-SGD, every filter of "
          "a direction as long as the weight's own; and smoothed. " +
              units,
          pages[0])
      .surfaces("Between two solutions", "Along x from SGD's solution to LPF-SGD's, along y at random.",
                pages[1])
      .surfaces("SGD's trajectory",
                concat("The plane through the solution nearest to the trajectory, in SGD's colour; it holds ",
                       format_fixed(100 * (plane.explained[0] + plane.explained[1]), 1),
                       " % of the squared distances."),
                pages[2])
      .write(o.out + "/page.html");
  HTMLReport report({.title = "The loss between two solutions, raw and smoothed",
                     .lead = result,
                     .command = command,
                     .seeds = std::to_string(o.seed)});
  report.figure(plot::line_chart(curves, {.title = "From SGD (0) to LPF-SGD (1)",
                                          .x = {.title = "position"},
                                          .y = {.title = "training loss", .min = 0}}),
                "The same draws at every position. " + units);
  report.write(o.out + "/lines.html");
  program::print(concat("\n", result, "\nTurn and hover: ", o.out, "/page.html\nLines: ", o.out,
                        "/lines.html\nNumbers: ", o.out, "/surfaces.csv\nPictures: ", o.out, "/*.png\n"));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Draws the training loss around the minima that SGD and LPF-SGD find on digits.");
  app.option_defaults()->always_capture_default();
  app.add_option("--points", o.points, "of a surface, a side")->check(CLI::Range(3, 1001));
  app.add_option("--sigma", o.sigma, "radii of the smoothed surfaces")->check(CLI::PositiveNumber);
  app.add_option("--draws", o.draws, "of the smoothed surfaces; lines have four times as many")
      ->check(CLI::Range(1, 10000));
  app.add_option("--replicas", o.replicas, "points a pass")->check(CLI::Range(1, 1024));
  app.add_option("--epochs", o.epochs, "of training")->check(CLI::Range(2, 1000));
  app.add_option("--gamma", o.gamma, "radius of LPF-SGD")->check(CLI::NonNegativeNumber);
  app.add_option("--seed", o.seed, "of data, weights and noise");
  app.add_option("--out", o.out, "folder for the pictures");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  return program::run(app, "landscape", argc, argv, [&](const std::string& command) {
    set_num_threads(o.threads);
    run(o, command);
  });
}
