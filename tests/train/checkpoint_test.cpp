// Weights in PyTorch's names and layouts, and checkpoints: round trips, broken or foreign files do no more
// than throw, and a process killed at any moment leaves a checkpoint that loads.
#include "lpf/train/checkpoint.hpp"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>

#include "lpf/autograd/engine.hpp"
#include "lpf/data/loader.hpp"
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/conv.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/sgd.hpp"
#include "lpf_test.hpp"

using namespace lpf;
using lpf::test::TempDir;

namespace {

/// A small network with every layout.
struct ConvNet {
  nn::Conv2d conv;
  nn::BatchNorm2d bn;
  nn::Dropout drop;
  nn::Linear fc;
  explicit ConvNet(const nn::Path& p, std::int64_t classes = 2)
      : conv(p / "conv", 3, 4, {2, 3}),
        bn(p / "bn", 4),
        drop(p / "drop", 0.5),
        fc(p / "fc", 4 * 3 * 2, classes) {}
  Tensor operator()(const Tensor& x) const {  // x [B, 4, 4, 3]
    const Tensor h = relu(bn(conv(x)));
    return fc(drop(permute(h, {0, 3, 1, 2}).flatten(1)));  // flattened as in PyTorch: (C, H, W)
  }
};

Tensor random_tensor(const Shape& shape, std::uint64_t seed, DType dtype = DType::float32) {
  Tensor x = empty(shape, {.dtype = dtype});
  x.backend().normal(dtype, {.seed = seed}, 0, x.numel(), x.raw());
  return x;
}

/// Runs the network in training mode, so that running statistics and counters are not the initial ones.
void warm_up(const ConvNet& net, DType dtype = DType::float32) {
  const auto off = no_grad();
  for (std::uint64_t i = 0; i < 3; ++i) net(random_tensor({5, 4, 4, 3}, i, dtype));
}

std::vector<double> everything(const ParameterStore& params) {
  std::vector<double> out;
  for (const auto& w : detail::weights_of(params))
    for (const double v : w.tensor.to_vector()) out.push_back(v);
  return out;
}

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// The message of the E that f throws.
template <class E, class F>
std::string message(F f) {
  try {
    f();
  } catch (const E& e) { return e.what(); } catch (const std::exception& e) {
    return std::string("another exception: ") + e.what();
  }
  return "no exception";
}
void check_mentions(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    INFO(text);
    CHECK_MESSAGE(text.find(part) != std::string::npos, part);
  }
}

/// A path that is usually in another file system than a TempDir, where hard links from there are impossible.
struct Elsewhere {
  std::filesystem::path path;
  Elsewhere() {
    std::error_code none;
    const bool shm = std::filesystem::is_directory("/dev/shm", none);
    path = (shm ? "/dev/shm" : std::filesystem::current_path()) / concat(".lpf-test-", ::getpid());
  }
  ~Elsewhere() {
    std::error_code none;
    std::filesystem::remove(path, none);
  }
};

/// The names of the files in a folder, hidden ones too, in order.
std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    out.push_back(entry.path().filename().string());
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

TEST_CASE("save_weights: PyTorch's names and layouts") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const ConvNet net(params);
  warm_up(net);
  params.set_trainable("conv.bias", false);  // a frozen parameter is stored like the others
  save_weights(path, params);

  const auto file = load_safetensors(path);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : file) names.push_back(name);
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"bn.bias", "bn.num_batches_tracked", "bn.running_mean",
                                          "bn.running_var", "bn.weight", "conv.bias", "conv.weight",
                                          "fc.bias", "fc.weight"});
  CHECK(file.metadata().at("format") == "pt");
  CHECK(file.at("bn.num_batches_tracked").dtype() == DType::int64);
  CHECK(file.at("bn.num_batches_tracked").rank() == 0);
  CHECK(file.at("bn.num_batches_tracked").item() == 3);
  const Tensor ours = params.tensor("conv.weight"),
               theirs = file.at("conv.weight");  // [4, 2, 3, 3] and [4, 3, 2, 3]
  CHECK(theirs.shape() == Shape{4, 3, 2, 3});
  const auto a = ours.to_vector(), b = theirs.to_vector();
  for (std::size_t k = 0; k < 4; ++k)
    for (std::size_t h = 0; h < 2; ++h)
      for (std::size_t w = 0; w < 3; ++w)
        for (std::size_t c = 0; c < 3; ++c)
          CHECK(a[((k * 2 + h) * 3 + w) * 3 + c] == b[((k * 3 + c) * 2 + h) * 3 + w]);

  ParameterStore other({.seed = 2});
  const ConvNet copy(other);
  const auto unmatched = load_weights(path, other);
  CHECK(unmatched.missing.empty());
  CHECK(unmatched.unexpected.empty());
  CHECK(everything(other) == everything(params));
  CHECK(files_in(dir.path()) == std::vector<std::string>{"net.safetensors"});
}

TEST_CASE("load_weights: from a file without our metadata, of another floating type") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.dtype = DType::float64, .seed = 1});
  const ConvNet net(params);
  warm_up(net, DType::float64);
  save_safetensors(path, state_dict(params));
  ParameterStore single({.seed = 2});
  const ConvNet copy(single);
  load_weights(path, single);
  const auto wide = everything(params), narrow = everything(single);
  for (std::size_t i = 0; i < wide.size(); ++i) CHECK(narrow[i] == static_cast<float>(wide[i]));

  NamedTensors items = state_dict(params);
  for (auto& [name, tensor] : items)
    if (name == "fc.bias") tensor = tensor.to(DType::int64);
  save_safetensors(path, items);
  check_mentions(message<ValueError>([&] { load_weights(path, single); }),
                 {"'fc.bias' int64", "float32 in the model"});
}

TEST_CASE("load_weights: an update of the weights outdates graphs") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params;
  const ConvNet net(params);
  save_weights(path, params);
  const Tensor loss = sum(net(random_tensor({2, 4, 4, 3}, 1)));
  load_weights(path, params);
  CHECK_THROWS_AS(loss.backward(), StateError);
}

TEST_CASE("load_weights: what does not fit is listed, and nothing is changed") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const ConvNet net(params);
  const nn::Linear more(nn::Path(params) / "more", 3, 3);
  save_weights(path, params);

  ParameterStore other({.seed = 2});
  const ConvNet different(other, 5);
  const nn::Linear extra(nn::Path(other) / "extra", 2, 2);
  const auto before = everything(other);
  check_mentions(message<ValueError>([&] { load_weights(path, other); }),
                 {"net.safetensors", "lacks 'extra.weight', 'extra.bias'", "no 'more",
                  "'fc.weight' [2, 24] in the file", "[5, 24] in the model", "'fc.bias'"});
  CHECK(message<ValueError>([&] { load_weights(path, other); }).find("conv") == std::string::npos);
  // The shapes must match in any case.
  check_mentions(message<ValueError>([&] { load_weights(path, other, {.strict = false}); }), {"'fc.weight'"});
  CHECK(message<ValueError>([&] { load_weights(path, other, {.strict = false}); }).find("extra") ==
        std::string::npos);
  CHECK(everything(other) == before);

  ParameterStore third({.seed = 3});
  const ConvNet same(third);
  const nn::Linear extra_too(nn::Path(third) / "extra", 2, 2);
  const auto unmatched = load_weights(path, third, {.strict = false});
  CHECK(unmatched.missing == std::vector<std::string>{"extra.weight", "extra.bias"});
  CHECK(unmatched.unexpected.size() == 2);
  CHECK(third.tensor("conv.weight").to_vector() == params.tensor("conv.weight").to_vector());

  ParameterStore large;
  std::vector<nn::Linear> layers;
  for (int i = 0; i < 30; ++i) layers.emplace_back(nn::Path(large) / i, 1, 1);
  check_mentions(message<ValueError>([&] { load_weights(path, large); }), {"and 52 more", "and 3 more"});
}

TEST_CASE("load_weights: names behind a prefix, named by the error and removed by the option") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const ConvNet net(params);
  warm_up(net);
  for (const std::string prefix : {"module.", "_orig_mod.", "module._orig_mod.", "backbone."}) {
    CAPTURE(prefix);
    NamedTensors items = state_dict(params);
    for (auto& [name, tensor] : items) name = prefix + name;
    items.emplace_back("step", full({}, 3));
    save_safetensors(path, items);
    ParameterStore other({.seed = 2});
    const ConvNet copy(other);
    const auto before = everything(other);
    check_mentions(message<ValueError>([&] { load_weights(path, other, {.strict = false}); }),
                   {("names behind '" + prefix + "'").c_str(), "prefix"});
    check_mentions(message<ValueError>([&] { load_weights(path, other, {.prefix = prefix}); }),
                   {"no 'step'"});
    CHECK(everything(other) == before);
    const auto left = load_weights(path, other, {.strict = false, .prefix = prefix});
    CHECK(left.missing.empty());
    CHECK(left.unexpected == std::vector<std::string>{"step"});
    CHECK(everything(other) == everything(params));
  }
}

TEST_CASE("load_weights: without num_batches_tracked, as PyTorch before 0.4.1 wrote them") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const ConvNet net(params);
  warm_up(net);
  NamedTensors items = state_dict(params);
  std::erase_if(items, [](const auto& item) { return item.first == "bn.num_batches_tracked"; });
  REQUIRE(items.size() == 8);
  save_safetensors(path, items);
  ParameterStore other({.seed = 2});
  const ConvNet copy(other);
  CHECK(load_weights(path, other).missing.empty());
  CHECK(other.tensor("conv.weight").to_vector() == params.tensor("conv.weight").to_vector());
  std::erase_if(items, [](const auto& item) { return item.first == "bn.running_mean"; });
  save_safetensors(path, items);
  check_mentions(message<ValueError>([&] { load_weights(path, other); }), {"lacks 'bn.running_mean'"});
}

TEST_CASE("load_weights: tensors that do not fit are skipped on request, where anything fits") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const ConvNet net(params);
  save_weights(path, params);
  ParameterStore other({.seed = 2});
  const ConvNet different(other, 5);
  const auto before = other.tensor("fc.weight").to_vector();
  const auto left = load_weights(path, other, {.skip_mismatched = true});
  CHECK(left.mismatched == std::vector<std::string>{"fc.weight", "fc.bias"});
  CHECK((left.missing.empty() && left.unexpected.empty()));
  CHECK(other.tensor("fc.weight").to_vector() == before);
  CHECK(other.tensor("conv.weight").to_vector() == params.tensor("conv.weight").to_vector());
  ParameterStore none;
  const nn::Linear layer(nn::Path(none) / "other", 2, 2);
  check_mentions(
      message<ValueError>([&] { load_weights(path, none, {.strict = false, .skip_mismatched = true}); }),
      {"lacks 'other.weight'"});
}

TEST_CASE("load_weights: a tensor of a type that cannot be read is an error only if the model has it") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const nn::Linear layer(nn::Path(params) / "fc", 1, 1, {.bias = false});
  const auto file = [](const std::string& fc, const std::string& extra) {
    const std::string header = R"({"extra":{"dtype":")" + extra + R"(","shape":[4],"data_offsets":[0,4]},)" +
                               R"("fc.weight":{"dtype":")" + fc + R"(","shape":[1,1],"data_offsets":[4,8]}})";
    std::string out(8, '\0');
    out[0] = static_cast<char>(header.size());
    return out + header + std::string(8, '\0');
  };
  write_bytes(path, file("F32", "F8_E4M3"));
  check_mentions(message<ValueError>([&] { load_weights(path, params); }), {"no 'extra'"});
  CHECK(load_weights(path, params, {.strict = false}).unexpected == std::vector<std::string>{"extra"});
  CHECK(params.tensor("fc.weight").item() == 0);
  write_bytes(path, file("C32", "U8"));
  check_mentions(message<DTypeError>([&] { load_weights(path, params, {.strict = false}); }),
                 {"'fc.weight'", "C32"});
}

TEST_CASE("load_weights: a file that is not there or is cut off anywhere") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const nn::Linear net(nn::Path(params) / "fc", 3, 2);
  const auto before = everything(params);
  CHECK_THROWS_AS(load_weights(path, params), IOError);
  save_weights(path, params);
  const std::string whole = bytes_of(path);
  for (std::size_t n = 0; n < whole.size(); ++n) {
    write_bytes(path, whole.substr(0, n));
    CHECK_THROWS_AS(load_weights(path, params), FormatError);
  }
  write_bytes(path, whole + "x");
  CHECK_THROWS_AS(load_weights(path, params), FormatError);
  CHECK(everything(params) == before);
}

TEST_CASE("load_weights: no damaged byte goes unnoticed") {
  const TempDir dir;
  const std::string path = (dir / "net.safetensors").string();
  ParameterStore params({.seed = 1});
  const nn::Linear net(nn::Path(params) / "fc", 3, 2);
  const auto before = everything(params);
  save_weights(path, params);
  const std::string whole = bytes_of(path);
  int refused = 0, tried = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {1, 255}) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ flip);
      write_bytes(path, damaged);
      ++tried;
      try {
        load_weights(path, params);
      } catch (const Error&) { ++refused; }
      CHECK(everything(params) ==
            before);  // if the digest's name itself is damaged, the weights are unchanged
    }
  }
  CHECK(refused > tried * 9 / 10);
  std::string damaged = whole;
  damaged[whole.size() - 3] = static_cast<char>(damaged[whole.size() - 3] ^ 1);
  write_bytes(path, damaged);
  check_mentions(message<FormatError>([&] { load_weights(path, params); }), {"net.safetensors", "damaged"});
}

namespace {

/// A training run with everything that has state.
struct Run {
  ParameterStore params;
  ConvNet net;
  optim::SGD sgd;
  LowPassFilter filter;
  DataLoader loader;
  std::int64_t epoch = 0;
  double best = std::numeric_limits<double>::infinity();
  std::string note;
  bool done = false;
  float rate = 0.1f;
  Tensor curve = zeros({3}), half = zeros({3}, {.dtype = bfloat16});
  Checkpoint checkpoint;

  struct Options {
    std::uint64_t seed = 1, filter_seed = 2, loader_seed = 3;
    std::int64_t classes = 2, samples = 12;
    bool extra = false;
  };
  explicit Run(const Options& o)
      : params({.seed = o.seed}),
        net(params, o.classes),
        sgd(params, {.lr = 0.1, .momentum = 0.9}),
        filter({.M = 2, .gamma = 0.1, .seed = o.filter_seed}),
        loader(TensorDataset(random_tensor({o.samples, 4, 4, 3}, 9), labels(o.samples)),
               {.batch_size = 4, .seed = o.loader_seed}) {
    checkpoint.add(params);
    checkpoint.add("optimizer", sgd);
    checkpoint.add("filter", filter);
    checkpoint.add("loader", loader);
    checkpoint.add("epoch", epoch);
    checkpoint.add("best", best);
    checkpoint.add("note", note);
    checkpoint.add("done", done);
    checkpoint.add("rate", rate);
    checkpoint.add("curve", curve);
    checkpoint.add("half", half);
    if (o.extra) checkpoint.add("extra", best);
  }
  static Tensor labels(std::int64_t n) {
    Tensor y = empty({n}, {.dtype = int64});
    for (std::int64_t i = 0; i < n; ++i) y.data<std::int64_t>()[i] = i % 2;
    return y;
  }
  void train() {
    for (auto [x, y] : loader) {
      const auto scope = filter.perturb(params);
      cross_entropy(net(x), y).backward();
      sgd.step();
    }
    ++epoch;
  }
  /// Everything that a checkpoint restores, as text and numbers.
  std::pair<std::string, std::vector<double>> snapshot() const {
    std::vector<double> numbers = everything(params);
    for (const auto& [name, state] : sgd.state())
      for (const double v : state.to_vector()) numbers.push_back(v);
    for (const Tensor& t : {curve, half})
      for (const double v : t.to_vector()) numbers.push_back(v);
    return {concat(epoch, ' ', best, ' ', note, ' ', done, ' ', rate, ' ', filter.draws(), ' ', sgd.steps(),
                   ' ', params.updates(), ' ', net.drop.draws.count(), ' ', loader.state().epoch, ' ',
                   loader.state().batch),
            numbers};
  }
};

}  // namespace

TEST_CASE("Checkpoint: everything that was added comes back") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  Run run({});
  CHECK_FALSE(Checkpoint::exists(name));
  run.train();
  run.train();
  run.best = 0.1 + 0.2;
  run.note = "a note: \"ü\"\n";
  run.done = true;
  run.rate = 1.0f / 3;
  run.curve.copy_(tensor({1.f, 2.f, 3.f}));
  run.half.copy_(tensor({1.f, 2.f, 0.3f}));
  run.checkpoint.save(name);
  CHECK(Checkpoint::exists(name));
  CHECK(Checkpoint::exists(name + ".safetensors"));
  CHECK(files_in(dir.path()) == std::vector<std::string>{"run.safetensors", "run.state.safetensors"});
  const auto saved = run.snapshot();

  Run resumed({});
  CHECK(resumed.snapshot() != saved);
  resumed.checkpoint.load(name);
  CHECK(resumed.snapshot() == saved);
  CHECK(resumed.best == 0.1 + 0.2);
  CHECK(resumed.rate == 1.0f / 3);
  CHECK(resumed.loader.state() == run.loader.state());
  resumed.checkpoint.load(name + ".safetensors");  // the name of the weights is accepted
  CHECK(resumed.snapshot() == saved);

  run.best = std::numeric_limits<double>::quiet_NaN();
  run.checkpoint.save(name);
  resumed.checkpoint.load(name);
  CHECK(std::isnan(resumed.best));
  load_weights(name + ".safetensors", Run({}).params);  // the weights alone
  CHECK_THROWS_AS(load_weights(name + ".state.safetensors", run.params), ValueError);
}

TEST_CASE("Checkpoint: another run's checkpoint is a ValueError that says why, and changes nothing") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  Run run({});
  run.train();
  run.checkpoint.save(name);

  const auto refused = [&](const Run::Options& options, std::initializer_list<const char*> parts) {
    Run other(options);
    const auto before = other.snapshot();
    check_mentions(message<ValueError>([&] { other.checkpoint.load(name); }), parts);
    CHECK(other.snapshot() == before);
  };
  refused({.classes = 3}, {"'fc.weight'", "[2, 24]", "[3, 24]"});
  refused({.seed = 5}, {"model/seed", "was 1", "is 5"});
  refused({.filter_seed = 5}, {"filter/seed", "was 2"});
  refused({.loader_seed = 5}, {"loader/seed", "was 3"});
  refused({.extra = true}, {"lacks 'extra'"});

  Run small({.samples = 8});  // two batches per epoch, the checkpoint is at the third
  {
    Run middle({});
    for (auto it = middle.loader.begin(); middle.loader.state().batch < 3; ++it) {}
    middle.checkpoint.save(name);
  }
  const auto before = small.snapshot();
  check_mentions(message<ValueError>([&] { small.checkpoint.load(name); }), {"loader", "batch 3"});
  CHECK(small.snapshot() == before);

  run.checkpoint.save(name);
  Checkpoint less;
  less.add(run.params);
  check_mentions(message<ValueError>([&] { less.load(name); }), {"also has", "'epoch'", "add()"});

  ParameterStore params({.seed = 1});
  const ConvNet net(params);
  optim::Adam adam(params);
  Checkpoint other;
  other.add(params);
  other.add("optimizer", adam);
  check_mentions(message<ValueError>([&] { other.load(name); }), {"lacks 'optimizer/m/conv.weight'"});
}

TEST_CASE("Checkpoint: misuse") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  ParameterStore params;
  const nn::Linear net(nn::Path(params) / "fc", 2, 2);
  Checkpoint c;
  CHECK_THROWS_AS(c.save(name), StateError);
  c.add(params);
  CHECK_THROWS_AS(c.add(params), ValueError);
  CHECK_THROWS_AS(nn::Linear(nn::Path(params) / "late", 2, 2), StateError);
  int n = 1;
  c.add("n", n);
  CHECK_THROWS_AS(c.add("n", n), ValueError);
  CHECK_THROWS_AS(c.add("", n), ValueError);
  CHECK_THROWS_AS(c.add("lpf.digest", n), ValueError);
  CHECK_THROWS_AS(c.save(""), ValueError);
  CHECK_THROWS_AS(c.save(dir.path().string() + "/"), ValueError);
  CHECK_THROWS_AS(c.load(name), IOError);  // it does not exist
  CHECK_THROWS_AS(c.save((dir / "no folder/run").string()), IOError);
  std::string text = "\xff";  // invalid UTF-8
  c.add("text", text);
  CHECK_THROWS_AS(c.save(name), ValueError);
  CHECK(files_in(dir.path()).empty());

  Checkpoint wide, narrow;
  std::int64_t large = 300;
  std::int8_t small = 1;
  wide.add(params);
  wide.add("n", large);
  wide.save(name);
  narrow.add(params);
  narrow.add("n", small);
  check_mentions(message<ValueError>([&] { narrow.load(name); }), {"'n'", "300"});
  CHECK(small == 1);
}

TEST_CASE("Checkpoint: no damaged byte in either file goes unnoticed, a cut-off file is a FormatError") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  ParameterStore params;
  const nn::Linear net(nn::Path(params) / "fc", 2, 1);
  optim::SGD sgd(params, {.momentum = 0.9});
  int n = 1;
  Checkpoint c;
  c.add(params);
  c.add("sgd", sgd);
  c.add("n", n);
  c.save(name);
  const auto before = everything(params);
  const Tensor velocity = sgd.state()[0].second;
  for (const char* end : {".safetensors", ".state.safetensors"}) {
    CAPTURE(end);
    const std::string path = name + end, whole = bytes_of(path);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      write_bytes(path, whole.substr(0, i));
      CHECK_THROWS_AS(c.load(name), FormatError);
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (i % 2 ? 1 : 255));
      write_bytes(path, damaged);
      try {
        c.load(name);
      } catch (const Error&) {}  // or the digest's name is damaged, and nothing changes
      const bool unchanged = n == 1 && sgd.steps() == 0 && everything(params) == before &&
                             velocity.to_vector() == std::vector<double>(velocity.to_vector().size(), 0.0);
      CHECK(unchanged);
    }
    write_bytes(path, whole);
    c.load(name);
  }
}

TEST_CASE("Checkpoint: weights of another save beside the state are a FormatError") {
  const TempDir dir;
  const std::string name = (dir / "run").string(), weights = name + ".safetensors";
  ParameterStore params;
  const nn::Linear net(nn::Path(params) / "fc", 2, 1);
  Checkpoint c;
  c.add(params);
  c.save(name);
  params.theta().fill_(3);
  save_weights(weights, params);
  check_mentions(message<FormatError>([&] { c.load(name); }), {"comes from elsewhere", "load_weights()"});
  load_weights(weights, params);
  std::filesystem::remove(weights);
  CHECK_THROWS_AS(c.load(name), IOError);
  c.save(name);  // and it can be overwritten
  c.load(name);
  save_safetensors(name + ".state.safetensors", state_dict(params));
  check_mentions(message<FormatError>([&] { c.load(name); }), {"is not the state of a checkpoint"});
}

TEST_CASE("Checkpoint: a weights file that is a symbolic link stays one, also into another file system") {
  const TempDir dir;
  const Elsewhere elsewhere;
  const std::string name = (dir / "run").string();
  ParameterStore params;
  const nn::Linear net(nn::Path(params) / "fc", 2, 1);
  int n = 1;
  Checkpoint c;
  c.add(params);
  c.add("n", n);
  for (const auto& target : {dir / "target", elsewhere.path}) {
    std::filesystem::remove(name + ".safetensors");
    std::filesystem::remove(name + ".state.safetensors");
    write_bytes(target, "old");
    std::filesystem::create_symlink(target, name + ".safetensors");
    for (n = 5; n < 8; ++n) {
      params.theta().fill_(n);
      c.save(name);
      CHECK(std::filesystem::is_symlink(name + ".safetensors"));
      CHECK(bytes_of(target) == bytes_of(name + ".safetensors"));
      CHECK_FALSE(std::filesystem::exists(name + ".previous.safetensors"));
      c.load(name);
    }
  }
}

namespace {

/// A checkpoint all of whose parts contain one number, so that mixed saves are detected.
struct Marked {
  ParameterStore params;
  nn::Linear fc;
  optim::SGD sgd;
  int mark = 0;
  Checkpoint checkpoint;

  Marked() : fc(nn::Path(params) / "fc", 3, 2), sgd(params, {.momentum = 0.9}) {
    checkpoint.add(params);
    checkpoint.add("sgd", sgd);
    checkpoint.add("mark", mark);
  }
  void set(int value) {
    mark = value;
    for (const auto& leaf : params.leaves()) leaf.detach().fill_(value);
    sgd.state()[0].second.fill_(value);
    sgd.set_steps(static_cast<std::uint64_t>(value));
  }
  /// The number in all parts; −1 if they differ.
  int value() const {
    const auto all = [&](const Tensor& t) {
      for (const double v : t.to_vector())
        if (v != mark) return false;
      return true;
    };
    const Tensor velocity = sgd.state()[0].second;
    bool same = sgd.steps() == static_cast<std::uint64_t>(mark);
    for (const auto& info : params.parameters())
      same = same && all(params.tensor(info.index)) && all(velocity.alias(info.shape, info.offset));
    return same ? mark : -1;
  }
  /// The value that a new process would load; 0 if there is no checkpoint, −1 if
  /// parts differ or it does not load.
  static int loaded(const std::string& name) {
    Marked fresh;
    if (!Checkpoint::exists(name)) return 0;
    try {
      fresh.checkpoint.load(name);
    } catch (const Error& e) {
      MESSAGE(e.what());
      return -1;
    }
    return fresh.value();
  }
  static void save(const std::string& name, int value) {
    Marked m;
    m.set(value);
    m.checkpoint.save(name);
  }
};

/// Runs f in a child process; returns its process id.
template <class F>
pid_t in_child(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 3;
    try {
      status = f();
    } catch (...) {}
    ::_exit(status);
  }
  return child;
}
int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return status;
}

enum class End { killed, finished, refused, untraceable };

/// Saves `value` in a child process that stops before each system call: at the n-th, before(n) decides
/// whether it continues or is killed there.
template <class Before>
End save_stepwise(const std::string& name, int value, Before before) {
  const pid_t child = in_child([&] {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) return 4;
    ::raise(SIGSTOP);
    try {
      Marked::save(name, value);
    } catch (const IOError&) { return 1; }
    return 0;
  });
  int status = wait_for(child);
  if (!WIFSTOPPED(status)) return End::untraceable;
  for (int stop = 1;; ++stop) {  // at each entry and each return
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    status = wait_for(child);
    if (!WIFSTOPPED(status)) break;
    if (stop % 2 == 0 || before((stop + 1) / 2)) continue;
    ::kill(child, SIGKILL);
    wait_for(child);
    return End::killed;
  }
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) <= 1);
  return WEXITSTATUS(status) == 0 ? End::finished : End::refused;
}

void remove_all_in(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) std::filesystem::remove(entry.path());
}
/// Copies the files; two names of one file stay two names of one file.
void copy_folder(const std::filesystem::path& from, const std::filesystem::path& to) {
  remove_all_in(to);
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    bool linked = false;
    for (const auto& other : std::filesystem::directory_iterator(to))
      if (!linked && std::filesystem::equivalent(entry.path(), from / other.path().filename())) {
        std::filesystem::create_hard_link(other.path(), to / entry.path().filename());
        linked = true;
        break;
      }
    if (!linked) std::filesystem::copy_file(entry.path(), to / entry.path().filename());
  }
}

}  // namespace

TEST_CASE(
    "Checkpoint: killed at any system call, it loads as the old one or the new one, never as parts of both") {
  const TempDir dir, begin, window, after;
  const std::string name = (dir / "run").string();
  if (save_stepwise(name, 1, [](int) { return false; }) == End::untraceable)
    return lpf::test::skip("ptrace is not allowed here");

  // From the files in `start`, with checkpoint `old` (0: none): save `value` and kill at each step in turn.
  const auto sweep = [&](const std::filesystem::path& start, int old, int value) {
    bool has_window = false, has_after = false;
    for (int n = 1;; ++n) {
      CAPTURE(n);
      copy_folder(start, dir.path());
      const End end = save_stepwise(name, value, [&](int i) { return i < n; });
      const int now = Marked::loaded(name);
      CHECK((now == old || now == value));
      const bool previous = std::filesystem::exists(name + ".previous.safetensors");
      if (previous && now == old &&
          bytes_of(name + ".safetensors") != bytes_of(name + ".previous.safetensors")) {
        if (!has_window) copy_folder(dir.path(), window.path());
        has_window = true;
      }
      if (previous && now == value) {
        if (!has_after) copy_folder(dir.path(), after.path());
        has_after = true;
      }
      // The weights alone are valid at any moment, and the next save repairs everything.
      if (std::filesystem::exists(name + ".safetensors")) {
        Marked fresh;
        CHECK_NOTHROW(load_weights(name + ".safetensors", fresh.params));
      }
      if (end == End::finished) {
        CHECK(now == value);
        CHECK(n > 20);
        return std::pair(has_window, has_after);
      }
      Marked::save(name, 20);
      CHECK(Marked::loaded(name) == 20);
      CHECK_FALSE(std::filesystem::exists(name + ".previous.safetensors"));
    }
  };

  remove_all_in(dir.path());
  CHECK(sweep(begin.path(), 0, 9) == std::pair(false, false));  // the first save of all: no old weights
  remove_all_in(dir.path());
  Marked::save(name, 7);
  copy_folder(dir.path(), begin.path());
  CHECK(sweep(begin.path(), 7, 9) == std::pair(true, true));
  // Killed again, after a kill between the two renames, and after one just before the end.
  const TempDir between, late;
  copy_folder(window.path(), between.path());
  copy_folder(after.path(), late.path());
  sweep(between.path(), 7, 9);
  sweep(late.path(), 9, 12);
}

TEST_CASE("Checkpoint: killed at random moments while it saves again and again") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  std::minstd_rand random(1);
  int last = 1;
  Marked::save(name, last);
  for (int round = 0; round < 12; ++round) {
    const pid_t child = in_child([&] {
      for (int i = last;; ++i) Marked::save(name, i);
      return 0;
    });
    ::usleep(static_cast<unsigned>(random() % 150000));
    ::kill(child, SIGKILL);
    wait_for(child);
    const int now = Marked::loaded(name);
    CHECK(now >= last);
    last = std::max(last, now);
  }
}

TEST_CASE("Checkpoint: read while another process saves") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  Marked::save(name, 1);
  const pid_t child = in_child([&] {
    for (int i = 2;; ++i) Marked::save(name, i);
    return 0;
  });
  int last = 1;
  for (int i = 0; i < 200; ++i) {
    const int now = Marked::loaded(name);
    CHECK(now >= last);
    last = std::max(last, now);
  }
  ::kill(child, SIGKILL);
  wait_for(child);
}

TEST_CASE("Checkpoint: a full disk, a read-only folder or file: an IOError, and the old files are whole") {
  const TempDir dir;
  const std::string name = (dir / "run").string();
  Marked::save(name, 7);
  const auto names = files_in(dir.path());
  const auto bytes = bytes_of(name + ".safetensors") + bytes_of(name + ".state.safetensors");
  const auto same_as_before = [&] {
    return files_in(dir.path()) == names &&
           bytes_of(name + ".safetensors") + bytes_of(name + ".state.safetensors") == bytes;
  };
  const auto refused = [&] {
    try {
      Marked::save(name, 9);
    } catch (const IOError&) { return 0; }
    return 1;
  };
  // No space left after n bytes of a file.
  const auto weights = std::filesystem::file_size(name + ".safetensors"),
             state = std::filesystem::file_size(name + ".state.safetensors");
  CHECK(weights < state);
  for (const rlim_t n : {rlim_t{0}, rlim_t{10}, rlim_t{weights - 1}, rlim_t{weights}, rlim_t{state - 1}}) {
    CAPTURE(n);
    const int status = wait_for(in_child([&] {
      const rlimit limit{n, n};
      ::signal(SIGXFSZ, SIG_IGN);
      if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
      return refused();
    }));
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(same_as_before());
  }
  const auto as_somebody = [&] {  // root may write everywhere: use another user
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 2;
    return refused();
  };
  const auto all = std::filesystem::perms::owner_all | std::filesystem::perms::group_all |
                   std::filesystem::perms::others_all;
  const auto write = std::filesystem::perms::owner_write | std::filesystem::perms::group_write |
                     std::filesystem::perms::others_write;
  std::filesystem::permissions(dir.path(), all & ~write);
  CHECK(WEXITSTATUS(wait_for(in_child(as_somebody))) == 0);
  std::filesystem::permissions(dir.path(), all);
  std::filesystem::permissions(name + ".state.safetensors", write, std::filesystem::perm_options::remove);
  CHECK(WEXITSTATUS(wait_for(in_child(as_somebody))) == 0);
  std::filesystem::permissions(name + ".state.safetensors", write, std::filesystem::perm_options::add);
  CHECK(same_as_before());
  CHECK(Marked::loaded(name) == 7);
  std::filesystem::create_directory(dir / "folder.state.safetensors");
  CHECK_THROWS_AS(Marked::save((dir / "folder").string(), 1), IOError);
  CHECK_FALSE(std::filesystem::exists(dir / "folder.safetensors"));
}

TEST_CASE("Checkpoint: a failure between the two renames leaves the old checkpoint") {
  const Elsewhere elsewhere;
  enum class Old { none, files, link, link_elsewhere };
  for (const Old old : {Old::files, Old::none, Old::link, Old::link_elsewhere}) {
    CAPTURE(static_cast<int>(old));
    const TempDir dir;
    const std::string name = (dir / "run").string(), weights = name + ".safetensors";
    const bool linked = old == Old::link || old == Old::link_elsewhere;
    if (linked) {
      const std::string target = old == Old::link ? (dir / "target").string() : elsewhere.path.string();
      write_bytes(target, "");
      std::filesystem::create_symlink(target, weights);
    }
    if (old != Old::none) Marked::save(name, 7);
    const auto names = files_in(dir.path());
    const std::string before = bytes_of(weights);
    bool replaced = false;
    const auto lose_state =
        [&](int) {  // as soon as the new weights are in place, another process removes the new state
          if (replaced || bytes_of(weights) == before) return true;
          replaced = true;
          for (const auto& file : files_in(dir.path()))
            if (file.starts_with(".run.state")) std::filesystem::remove(dir / file);
          return true;
        };
    const End end = save_stepwise(name, 9, lose_state);
    if (end == End::untraceable) return lpf::test::skip("ptrace is not allowed here");
    CHECK(replaced);
    CHECK(end == End::refused);
    CHECK(Marked::loaded(name) == (old == Old::none ? 0 : 7));
    if (!linked) {
      CHECK(files_in(dir.path()) == names);
      CHECK(bytes_of(weights) == before);
    } else {  // a link is not replaced: the old weights keep their second name until the next save
      CHECK(std::filesystem::is_symlink(weights));
      Marked::save(name, 11);
      CHECK(Marked::loaded(name) == 11);
      CHECK(files_in(dir.path()) == names);
    }
  }
}

TEST_CASE("PyTorch opens the weights, and its file loads here") {
  const char* python = std::getenv("LPF_TEST_PYTHON");
  if (python == nullptr) return lpf::test::skip("LPF_TEST_PYTHON names no python with torch and safetensors");
  const TempDir dir;
  ParameterStore params({.seed = 1});
  const ConvNet net(params);
  warm_up(net);
  save_weights((dir / "net.safetensors").string(), params);
  const Tensor x = random_tensor({6, 4, 4, 3}, 77);
  params.eval();
  const auto off = no_grad();
  save_safetensors((dir / "example.safetensors").string(), {{"x", x}, {"y", net(x)}});

  const std::string command = concat(python, " '", lpf::test::fixture("check_checkpoint.py").string(), "' '",
                                     dir.path().string(), "'");
  REQUIRE(std::system(command.c_str()) == 0);
  // It wrote its own weights, and the output of its network for x.
  load_weights((dir / "torch.safetensors").string(), params);
  const Tensor wanted = load_safetensors((dir / "torch_example.safetensors").string()).at("y");
  const auto a = net(x).to_vector(), b = wanted.to_vector();
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-5));
}
