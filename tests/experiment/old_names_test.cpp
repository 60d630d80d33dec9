// Names of the version before stay for one version, deprecated.
#include <type_traits>

#include "lpf/data/sets/cifar.hpp"
#include "lpf/data/sets/idx.hpp"
#include "lpf/experiment/data_splits.hpp"
#include "lpf/experiment/paper_result.hpp"
#include "lpf/experiment/trainer.hpp"
#include "lpf/filter/lpf_gradient.hpp"
#include "lpf/lpf.hpp"
#include "lpf/optim/entropy_sgd.hpp"
#include "lpf/report/report.hpp"
#include "lpf/report/svg.hpp"
#include "lpf/sharpness/pac_bayes.hpp"
#include "tensor_test.hpp"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

using namespace lpf;
using namespace lpf::test;

static_assert(std::is_same_v<optim::SgdOptions, optim::SGDOptions>);
static_assert(std::is_same_v<optim::SamOptions, optim::SAMOptions>);
static_assert(std::is_same_v<optim::EntropySgd, optim::EntropySGD>);
static_assert(std::is_same_v<optim::EntropySgdOptions, optim::EntropySGDOptions>);
static_assert(std::is_same_v<optim::Group<optim::SGDOptions>, optim::ParameterGroup<optim::SGDOptions>>);
static_assert(std::is_same_v<BceOptions, BCEOptions> && std::is_same_v<NllOptions, NLLOptions>);
static_assert(std::is_same_v<LpfGradientOptions, LPFGradientOptions> && std::is_same_v<IoError, IOError>);
static_assert(std::is_same_v<CifarOptions, CIFAROptions> && std::is_same_v<CifarLabels, CIFARLabels>);
static_assert(std::is_same_v<MnistOptions, MNISTOptions>);
static_assert(std::is_same_v<sharpness::PacBayes, sharpness::PACBayes>);
static_assert(std::is_same_v<BatchNormThen, BatchNormEpilogue>);
static_assert(std::is_same_v<nn::PartOfBatch, nn::MicroBatch>);
static_assert(std::is_same_v<nn::PerturbedPass, nn::ReplicaContext>);
static_assert(std::is_same_v<filter::Rows, filter::Segments>);
static_assert(std::is_same_v<backend::Changing, StepScalar> &&
              std::is_same_v<backend::SgdStep, backend::SGDStep>);
static_assert(std::is_same_v<experiment::Recipe, experiment::PaperResult>);
static_assert(std::is_same_v<experiment::Method, experiment::Trainer>);
static_assert(std::is_same_v<experiment::Task, experiment::DataSplits>);
static_assert(ReplicaMemory::kept == ReplicaMemory::stored &&
              ReplicaMemory::remade == ReplicaMemory::recomputed);

TEST_CASE("old names: SAM by its old name makes the same step") {
  const auto step = [](auto make) {
    ParameterStore params({.dtype = float64, .seed = 3});
    const nn::Linear layer(params / "fc", 3, 2);
    optim::SGD sgd(params, {.lr = 0.1});
    auto sam = make(params, sgd);
    const Tensor x = normal({4, 3});
    sam.step([&] { return sum(square(layer(x))); });
    return params.theta().to_vector();
  };
  CHECK(step([](auto& params, auto& sgd) { return optim::Sam(params, sgd, {.rho = 0.1}); }) ==
        step([](auto& params, auto& sgd) { return optim::SAM(params, sgd, {.rho = 0.1}); }));
  CHECK(ReplicaPlan(3).cut(7) == Slices(3, 7).boundaries());
}
