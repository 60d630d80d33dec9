// Performance of a step's kernels on a GPU: the convolutions of ResNet-18 (64) and WRN-16-8, for a whole
// batch and for the slices of M replicas with each available algorithm; and the memory-bound kernels,
// compared with a copy. Each is timed as a CUDA graph, so that queueing on the host is not included.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <lpf/lpf.hpp>
#include <lpf/report/table.hpp>
#include <lpf/train/precision.hpp>
#include <nlohmann/json.hpp>

#include "benchmark.hpp"

using namespace lpf;
using namespace lpf::benchmark;
using cuda::ReplicatedConvolution;

namespace {

struct Options {
  std::int64_t batch = 128, replicas = 8;
  double seconds = 0.01;
  std::vector<std::string> precisions{"tf32", "bfloat16"};
  std::string json;
};

/// Milliseconds of the work that f() queues: the median of 7 replays of its graph, each of several runs.
double milliseconds_on_gpu(const Options& o, const std::function<void()>& f) {
  const auto& gpu = backend::get(Device::cuda());
  const auto graph_of = [&](int runs) {
    gpu.begin_capture();
    try {
      for (int i = 0; i < runs; ++i) f();
    } catch (...) {
      gpu.destroy_graph(gpu.end_capture());
      throw;
    }
    return std::unique_ptr<void, void (*)(void*)>(gpu.end_capture(), gpu.destroy_graph);
  };
  const auto replay = [&](void* graph) {
    gpu.synchronize();
    return milliseconds_of([&] {
      gpu.launch(graph);
      gpu.synchronize();
    });
  };
  f();  // chooses algorithms
  const auto one = graph_of(1);
  replay(one.get());
  const int runs = std::clamp(lpf::detail::saturated<int>(1e3 * o.seconds / replay(one.get())), 1, 100);
  const auto graph = graph_of(runs);
  std::vector<double> times;
  for (int i = 0; i < 8; ++i) times.push_back(replay(graph.get()) / runs);
  times.erase(times.begin());
  return quantile(times, .5);
}

// --- convolutions

struct Layer {
  const char* net;
  int count;  // number of such layers in the network
  std::int64_t size, in, out, kernel, stride;
};
const Layer layers[] = {{"resnet18-64", 1, 32, 3, 64, 3, 1},    {"resnet18-64", 4, 32, 64, 64, 3, 1},
                        {"resnet18-64", 1, 32, 64, 128, 3, 2},  {"resnet18-64", 1, 32, 64, 128, 1, 2},
                        {"resnet18-64", 3, 16, 128, 128, 3, 1}, {"resnet18-64", 1, 16, 128, 256, 3, 2},
                        {"resnet18-64", 1, 16, 128, 256, 1, 2}, {"resnet18-64", 3, 8, 256, 256, 3, 1},
                        {"resnet18-64", 1, 8, 256, 512, 3, 2},  {"resnet18-64", 1, 8, 256, 512, 1, 2},
                        {"resnet18-64", 3, 4, 512, 512, 3, 1},  {"wrn-16-8", 1, 32, 3, 16, 3, 1},
                        {"wrn-16-8", 1, 32, 16, 128, 3, 1},     {"wrn-16-8", 1, 32, 16, 128, 1, 1},
                        {"wrn-16-8", 3, 32, 128, 128, 3, 1},    {"wrn-16-8", 1, 32, 128, 256, 3, 2},
                        {"wrn-16-8", 1, 32, 128, 256, 1, 2},    {"wrn-16-8", 3, 16, 256, 256, 3, 1},
                        {"wrn-16-8", 1, 16, 256, 512, 3, 2},    {"wrn-16-8", 1, 16, 256, 512, 1, 2},
                        {"wrn-16-8", 3, 8, 512, 512, 3, 1}};

struct Way {
  const char* name;
  ReplicatedConvolution way;
  int streams;
};
const Way ways[] = {{"slices, 1 stream", ReplicatedConvolution::slices, 1},
                    {"4 streams", ReplicatedConvolution::slices, 4},
                    {"8 streams", ReplicatedConvolution::slices, 8},
                    {"products", ReplicatedConvolution::products, 1},
                    {"grouped", ReplicatedConvolution::grouped, 1}};

/// The convolution products that are computed per replica: y, and the gradient of x.
class Convolution {
 public:
  Convolution(const Options& o, const Layer& l, DType dtype)
      : slices_(Slices(o.replicas, o.batch).boundaries()) {
    c_.dtype = dtype;
    c_.n = o.batch, c_.h = c_.w = l.size, c_.c = l.in, c_.k = l.out, c_.kh = c_.kw = l.kernel;
    c_.stride_h = c_.stride_w = l.stride, c_.pad_h = c_.pad_w = l.kernel / 2;
    c_.dilation_h = c_.dilation_w = c_.groups = c_.replicas = 1;
    c_.p = c_.q = (l.size + 2 * c_.pad_h - l.kernel) / l.stride + 1;
    x_ = numbers({c_.n, c_.h, c_.w, c_.c}), y_ = numbers({c_.n, c_.p, c_.q, c_.k});
    w_ = numbers({o.replicas, c_.k, c_.kh, c_.kw, c_.c});
    dw_ = empty({c_.k, c_.kh, c_.kw, c_.c}, {float32, Device::cuda()});
  }
  double gflops() const {
    return 2e-9 * static_cast<double>(c_.n * c_.p * c_.q * c_.k) * static_cast<double>(c_.kh * c_.kw * c_.c);
  }
  void whole() { c_.replicas = 1, c_.w_stride = 0, c_.slice_begin = nullptr; }
  void replicated() {
    c_.replicas = std::ssize(slices_) - 1, c_.w_stride = w_.numel() / c_.replicas;
    c_.slice_begin = slices_.data();
  }
  void forward() const { gpu().conv2d(c_, x_.raw(), w_.raw(), nullptr, y_.raw()); }
  void backward_data() const { gpu().conv2d_backward_data(c_, y_.raw(), w_.raw(), x_.raw()); }
  void backward_filter() const { gpu().conv2d_backward_filter(c_, x_.raw(), y_.raw(), dw_.raw(), false); }

 private:
  const backend::Table& gpu() const { return x_.backend(); }
  /// Standard normal, so that operands have the bit patterns of a training run.
  Tensor numbers(const Shape& shape) const {
    const Tensor x = empty(shape, {float32, Device::cuda()});
    x.backend().normal(float32, {.seed = 1, .purpose = Purpose::measure}, 0, x.numel(), x.raw());
    return x.to(c_.dtype);
  }

  std::vector<std::int64_t> slices_;
  backend::Conv2d c_{};
  Tensor x_, y_, w_, dw_;
};

void measure_convolutions(const Options& o, const std::string& precision, nlohmann::json& records) {
  const Precision scope(precision);
  const DType dtype = precision == "bfloat16" ? bfloat16 : float32;
  std::vector<std::string> header{"", "", "whole, ms", "TFLOP/s"};
  for (const Way& way : ways) header.emplace_back(way.name);
  TextTable table(header);
  // Milliseconds of all layers of a network: for the whole batch, and for each algorithm.
  std::vector<double> sums(1 + std::size(ways));
  for (std::size_t i = 0; i < std::size(layers); ++i) {
    const Layer& layer = layers[i];
    Convolution c(o, layer, dtype);
    const std::string name =
        concat(layer.net, " ", layer.count, " × ", layer.kernel, "×", layer.kernel, " ", layer.in, "→",
               layer.out, ", ", layer.size, "²", layer.stride == 1 ? "" : " / 2");
    const auto row = [&](const char* product, void (Convolution::*run)() const, bool has_ways) {
      c.whole();
      const double whole = milliseconds_on_gpu(o, [&] { (c.*run)(); });
      sums[0] += layer.count * whole;
      std::vector<std::string> cells{name, product, format_fixed(whole, 4),
                                     format_fixed(c.gflops() / whole, 0)};
      nlohmann::json record{{"net", layer.net},   {"count", layer.count},   {"layer", name},
                            {"product", product}, {"precision", precision}, {"batch", o.batch},
                            {"M", o.replicas},    {"gflop", c.gflops()},    {"whole_ms", whole}};
      c.replicated();
      for (std::size_t w = 0; w < std::size(ways); ++w) {
        double ms = whole;  // the weight's gradient is one product of the whole batch
        if (has_ways) {
          cuda::options.replicated_convolution = ways[w].way;
          cuda::options.convolution_streams = ways[w].streams;
          ms = milliseconds_on_gpu(o, [&] { (c.*run)(); });
          cells.push_back(format_fixed(ms / whole, 2));
          record[ways[w].name] = ms;
        } else {
          cells.emplace_back("");
        }
        sums[1 + w] += layer.count * ms;
      }
      table.add_row(cells);
      records.push_back(record);
    };
    row("y", &Convolution::forward, true);
    if (layer.in != 3) row("dx", &Convolution::backward_data, true);
    row("dw", &Convolution::backward_filter, false);
    if (i + 1 == std::size(layers) || std::string(layer.net) != layers[i + 1].net) {
      std::vector<std::string> cells{concat(layer.net, ", all"), "", format_fixed(sums[0], 3), ""};
      for (std::size_t w = 0; w < std::size(ways); ++w)
        cells.push_back(format_fixed(sums[1 + w] / sums[0], 2));
      table.add_row(cells);
      sums.assign(sums.size(), 0);
    }
  }
  std::printf("\nconvolutions, %s: whole batch, and for %lld replicas the time over it\n%s",
              precision.c_str(), static_cast<long long>(o.replicas), table.to_string().c_str());
}

// --- memory-bound

void measure_memory(const Options& o, nlohmann::json& records) {
  const auto& gpu = backend::get(Device::cuda());
  const auto array = [&](const Shape& shape, DType type) {
    const Tensor x = empty(shape, {float32, Device::cuda()});
    gpu.normal(float32, {.seed = 1, .purpose = Purpose::measure}, 0, x.numel(), x.raw());
    return x.to(type);
  };
  const std::int64_t large = 1 << 26;
  const Tensor a = array({large}, float32), b = array({large}, float32), c = array({large}, float32);
  const auto gb_per_second = [&](double bytes, const std::function<void()>& f) {
    return bytes * 1e-6 / milliseconds_on_gpu(o, f);
  };
  const double copy = gb_per_second(8.0 * large, [&] { gpu.copy(b.raw(), a.raw(), 4 * large); });
  TextTable table({"", "GB/s", "of a copy"});
  const auto add = [&](const std::string& name, double bytes, const std::function<void()>& f) {
    const double rate = gb_per_second(bytes, f);
    table.add_row({name, format_fixed(rate, 0), format_fixed(rate / copy, 2)});
    records.push_back({{"kernel", name}, {"gb_per_second", rate}, {"copy_gb_per_second", copy}});
  };
  const auto flat = [&](const Tensor& x) {
    backend::View v{x.raw(), x.dtype(), 1, {x.numel()}, {1}};
    return v;
  };
  const Tensor half = empty({large}, {bfloat16, Device::cuda()});
  add("a + b, float32", 12.0 * large,
      [&] { gpu.binary(backend::Binary::add, flat(a), flat(b), flat(c), 1); });
  add("relu, float32", 8.0 * large,
      [&] { gpu.unary(backend::Unary::relu, float32, large, a.raw(), c.raw(), 0, 0); });
  add("float32 to bfloat16", 6.0 * large, [&] { gpu.assign(flat(half), flat(a)); });
  add("sgd with momentum", 20.0 * large, [&] {
    gpu.sgd(float32, large, {0.01, 0.9, 0, 5e-4, false, false}, a.raw(), b.raw(), c.raw());
  });
  for (const DType type : {float32, bfloat16})
    for (const std::int64_t channels : {64, 128, 256, 512})
      for (const std::int64_t groups : {std::int64_t{1}, o.replicas}) {
        const std::int64_t rows = o.batch * 1024 * 64 * 64 / (channels * channels);
        const Shape shape{rows, channels};
        const Tensor x = array(shape, type), y = array(shape, type), dy = array(shape, type),
                     dx = empty_like(x), residual = array(shape, type), dresidual = empty_like(x);
        const Tensor mean = array({groups, channels}, float32), variance = abs(mean) + 1, gamma = mean,
                     dgamma = empty_like(mean), dbeta = empty_like(mean), rest = affine(mean, 1e-8, 0);
        const std::vector<std::int64_t> begin = Slices(groups, rows).boundaries();
        const backend::BatchNorm n{type, groups, channels, begin.data(), channels, 1e-5};
        const auto size = static_cast<double>(x.numel() * static_cast<std::int64_t>(size_of(type)));
        const std::string of = concat(", ", rows, " × ", channels, " ", name_of(type), ", ", groups,
                                      groups == 1 ? " group" : " groups");
        add("batch norm, statistics" + of, size,
            [&] { gpu.batch_norm_statistics(n, x.raw(), dgamma.raw(), rest.raw(), dbeta.raw()); });
        add("batch norm, ReLU" + of, 2 * size, [&] {
          gpu.batch_norm(n, x.raw(), mean.raw(), rest.raw(), variance.raw(), gamma.raw(), gamma.raw(),
                         nullptr, true, dx.raw());
        });
        add("batch norm, residual, ReLU" + of, 3 * size, [&] {
          gpu.batch_norm(n, x.raw(), mean.raw(), rest.raw(), variance.raw(), gamma.raw(), gamma.raw(),
                         residual.raw(), true, dx.raw());
        });
        // The sums read x, y and dy and write the residual's gradient; dx is computed from x and that.
        add("batch norm, backward, residual, ReLU" + of, 7 * size, [&] {
          gpu.batch_norm_backward(n, x.raw(), y.raw(), dy.raw(), mean.raw(), rest.raw(), variance.raw(),
                                  gamma.raw(), dx.raw(), dgamma.raw(), dbeta.raw(), dresidual.raw());
        });
      }
  std::printf("\nlimited by memory: bytes that must move, beside a copy's %.0f GB/s\n%s", copy,
              table.to_string().c_str());
}

int run(int argc, char** argv) {
  Options o;
  CLI::App app("What the kernels of a training step reach on a GPU.");
  app.add_option("--batch", o.batch, "images in a batch")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("-M,--replicas", o.replicas, "replicas of the weights")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--precision", o.precisions, "of convolutions")
      ->delimiter(',')
      ->check(CLI::IsMember(precisions))
      ->capture_default_str();
  app.add_option("--seconds", o.seconds, "about how long each is run, seven times")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--json", o.json, "write all figures to this file");
  if (const auto code = program::parse(app, "gpu_kernels", argc, argv)) return *code;
  check(o.replicas <= o.batch, "gpu_kernels", "--replicas ", o.replicas,
        " needs as many images, and --batch is ", o.batch);
  set_default_device(Device::cuda());
  std::printf("%s, batch %lld\n", backend::get(Device::cuda()).name, static_cast<long long>(o.batch));
  nlohmann::json records = nlohmann::json::array();
  measure_memory(o, records);
  for (const std::string& precision : o.precisions) measure_convolutions(o, precision, records);
  write_figures(o.json, records);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return main_of("gpu_kernels", run, argc, argv); }
