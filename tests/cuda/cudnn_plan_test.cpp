// The plans that cuDNN makes for convolutions on several GPUs. No GPU is needed: fixtures/gpus.json describes
// them in cuDNN's format, with the figures of NVIDIA's data sheets.
#include "tensor_test.hpp"

#ifdef LPF_HAS_CUDNN
#  include <fstream>
#  include <nlohmann/json.hpp>

#  include "cudnn_plan.hpp"

using namespace lpf;
using namespace lpf::cuda;
using backend::Conv2d;

namespace {

/// Same padding.
Conv2d layer(std::int64_t n, std::int64_t c, std::int64_t size, std::int64_t k, std::int64_t kernel,
             std::int64_t stride = 1, std::int64_t groups = 1) {
  Conv2d d{};
  d.n = n, d.c = c, d.h = d.w = size, d.k = k, d.kh = d.kw = kernel;
  d.stride_h = d.stride_w = stride;
  d.pad_h = d.pad_w = kernel / 2;
  d.dilation_h = d.dilation_w = 1;
  d.groups = groups;
  d.replicas = 1;
  d.p = d.q = (size + 2 * d.pad_h - kernel) / stride + 1;
  return d;
}

/// Those of ResNet-18 (64) and WRN-16-8 for 32 × 32 images, and of LeNet.
std::vector<Conv2d> layers(std::int64_t n) {
  std::vector<Conv2d> all = {
      layer(n, 3, 32, 64, 3),         layer(n, 64, 32, 64, 3),     layer(n, 64, 32, 128, 3, 2),
      layer(n, 64, 32, 128, 1, 2),    layer(n, 128, 16, 128, 3),   layer(n, 128, 16, 256, 3, 2),
      layer(n, 256, 8, 256, 3),       layer(n, 256, 8, 512, 1, 2), layer(n, 512, 4, 512, 3),
      layer(n, 3, 32, 16, 3),         layer(n, 16, 32, 128, 3),    layer(n, 16, 32, 128, 1),
      layer(n, 512, 8, 512, 3),       layer(n, 1, 28, 6, 5),       layer(n, 6, 14, 16, 5),
      layer(n, 512, 32, 512, 3, 1, 8)};
  return all;
}

const Convolution products[] = {Convolution::forward, Convolution::backward_data,
                                Convolution::backward_filter};

std::string text_of(Convolution which, const Conv2d& d) {
  return concat(static_cast<int>(which), " of n ", d.n, " c ", d.c, " size ", d.h, " k ", d.k, " kernel ",
                d.kh, " stride ", d.stride_h, " groups ", d.groups);
}

std::vector<std::pair<std::string, Descriptor>> gpus() {
  std::ifstream file(LPF_FIXTURE_DIR "/gpus.json");
  std::vector<std::pair<std::string, Descriptor>> all;
  for (const auto& gpu : nlohmann::json::parse(file))
    all.emplace_back(gpu.at("deviceName").get<std::string>(), describe_device(gpu.dump()));
  return all;
}

}  // namespace

TEST_CASE("cudnn: plans for every layer of the models, on several GPUs") {
  for (const auto& [name, gpu] : gpus())
    for (const std::int64_t n : {128, 16})
      for (Conv2d d : layers(n))
        for (const Convolution which : products)
          for (const DType type : {float32, bfloat16})
            for (const bool tf32 : {false, true}) {
              if (type == bfloat16 && (tf32 || name == "Tesla T4")) continue;  // Turing has no bfloat16
              d.dtype = type;
              INFO(name << ": " << name_of(type) << (tf32 ? " as TF32" : "") << ", " << text_of(which, d));
              const PlanLimits limits{tf32, false, std::int64_t{256} << 20};
              const Proposals proposals(convolution_graph(which, d, 16), gpu, type, limits);
              REQUIRE(proposals.plan() != nullptr);
              CHECK(proposals.plan()->workspace <= limits.most_workspace);
            }
}

TEST_CASE("cudnn: plans keep to their limits") {
  const auto all = gpus();
  const Descriptor& gpu = all.at(0).second;
  Conv2d d = layer(128, 64, 32, 64, 3);
  const auto count = [&](Convolution which, const PlanLimits& limits) {
    return Proposals(convolution_graph(which, d, 16), gpu, d.dtype, limits).size();
  };
  d.dtype = float32;
  const std::int64_t most = std::int64_t{1} << 40;
  for (const Convolution which : products) {
    const auto strict = count(which, {false, false, most}), tf32 = count(which, {true, false, most}),
               any = count(which, {true, true, most});
    INFO(text_of(which, d) << ": " << strict << " " << tf32 << " " << any);
    CHECK(strict > 0);
    CHECK(strict < tf32);
    if (which == Convolution::backward_filter) CHECK(tf32 < any);
  }
  for (const std::int64_t workspace : {std::int64_t{0}, std::int64_t{1} << 20, most}) {
    Proposals proposals(convolution_graph(Convolution::forward, d, 16), gpu, d.dtype,
                        {false, false, workspace});
    std::int64_t largest = -1;
    int plans = 0;
    for (; proposals.plan(); proposals.next(), ++plans)
      largest = std::max(largest, proposals.plan()->workspace);
    CHECK(plans > 0);
    CHECK(largest <= workspace);
    if (workspace == most) CHECK(largest > std::int64_t{1} << 20);
  }
}

TEST_CASE("cudnn: the fastest of the first plans is used, and after it those that were not tried") {
  const auto all = gpus();
  Conv2d d = layer(128, 64, 32, 64, 3);
  d.dtype = bfloat16;
  const auto proposals = [&] {
    return Proposals(convolution_graph(Convolution::forward, d, 16), all.at(0).second, d.dtype,
                     {false, false, std::int64_t{1} << 40});
  };
  std::vector<std::int64_t> workspaces;
  for (Proposals p = proposals(); p.plan(); p.next()) workspaces.push_back(p.plan()->workspace);
  REQUIRE(workspaces.size() > 5);
  Proposals p = proposals();
  std::vector<const void*> tried;
  const double times[] = {3, 1, 2, 1};
  p.use_fastest(4, [&](const Plan& plan) {
    tried.push_back(plan.descriptor.raw());
    return times[tried.size() - 1];
  });
  REQUIRE(tried.size() == 4);
  CHECK(p.plan()->descriptor.raw() == tried[1]);
  std::size_t rest = 0;
  for (p.next(); p.plan(); p.next()) ++rest;
  CHECK(rest == workspaces.size() - 4);
}

TEST_CASE("cudnn: what it does not do is no plan, and what is wrong is an error") {
  const auto all = gpus();
  Conv2d d = layer(8, 4, 8, 6, 3);
  d.dtype = bfloat16;
  d.groups = 3;  // of 4 channels
  CHECK_THROWS_AS(convolution_graph(Convolution::forward, d, 16), DeviceError);
  CHECK_THROWS_AS(describe_device(std::string("{}")), DeviceError);
}

#else

TEST_CASE("cudnn: plans for every layer of the models, on several GPUs") { lpf::test::skip("no cuDNN here"); }

#endif
