// Every measure compared with an independent float64 PyTorch script with the same draws
// (tests/fixtures/make_sharpness_fixtures.py).
#include "lpf/nn/linear.hpp"
#include "lpf/sharpness/measure.hpp"
#include "optim/replay.hpp"
#include "quadratic.hpp"

namespace lpf::test {
namespace {

using namespace sharpness;

/// The network of a case: linear layers with activations between them.
struct Net {
  std::vector<nn::Linear> layers;
  bool smooth;
  Net(const nn::Path& p, const Json& hyper, bool gelu_between) : smooth(gelu_between) {
    const auto& widths = hyper["widths"];
    for (std::size_t i = 0; i + 1 < widths.size(); ++i)
      layers.emplace_back(p / concat("fc", i + 1), widths[i].get<std::int64_t>(),
                          widths[i + 1].get<std::int64_t>(),
                          nn::LinearOptions{.bias = hyper["biases"][i].get<bool>()});
  }
  Tensor operator()(Tensor x) const {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (i > 0) x = smooth ? gelu(x) : tanh(x);
      x = layers[i](x);
    }
    return x;
  }
};

/// A vector over θ without the gaps between the parameters.
std::vector<double> packed(const ParameterStore& params, const Tensor& v) {
  std::vector<double> out;
  for (const auto& info : params.parameters()) {
    const auto part = v.alias({info.numel()}, info.offset).to_vector();
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}
double error_of_values(const std::vector<double>& found, const Tensor& expected) {
  return difference(from_vector(found, {std::ssize(found)}), expected);
}

TEST_CASE("PyTorch's values of every measure, with the same draws") {
  const auto& file = FixtureFile::named("sharpness.safetensors");
  for (const std::string name : {"tanh", "gelu"}) {
    CAPTURE(name);
    const FixtureCase c(file, name);
    const ParameterStore params({.dtype = float64});
    const Net net(params, c.hyper, name == "gelu");
    const Tensor initial = zeros_like(params.theta());
    {
      const auto off = no_grad();
      for (const auto& info : params.parameters()) {
        params.tensor(info.index).copy_(c.at(info.name));
        initial.alias(info.shape, info.offset).copy_(c.at("initial." + info.name));
      }
    }
    const Data data{c.at("x"), c.at("y")};
    const Landscape l(params, data, [&](const Tensor& x, const Tensor& y) {
      return cross_entropy(net(x), y, {.reduction = Reduction::none});
    });
    const std::uint64_t key = c.hyper["key"];
    const std::int64_t draws = c.hyper["draws"];
    CHECK(l.losses().mean(0) == doctest::Approx(c.at("loss").item()).epsilon(1e-13));
    CHECK(error_of_values(packed(params, l.weights()), c.at("normalized")) < 1e-14);
    for (std::int64_t i = 0; i < draws; ++i) {  // the given draws are LPF's
      std::vector<double> eps;
      for (const auto& info : params.parameters())
        for (std::int64_t k = 0; k < info.numel(); ++k)
          eps.push_back(normal_at<double>({.seed = key,
                                           .purpose = Purpose::measure,
                                           .draw = static_cast<std::uint64_t>(i / 8 * 8),
                                           .replica = static_cast<std::uint32_t>(i % 8),
                                           .parameter = static_cast<std::uint32_t>(info.index)},
                                          k));
      CHECK(error_of_values(eps, c.at("eps")[i]) < 1e-14);
    }
    const auto blocks = blocks_of(params);
    const Draws all{.draws = draws, .key = key};
    const double sigma = c.hyper["sigma"];
    const Estimate low = low_pass(l, sigma, all);
    CHECK(error_of_values(low.per_draw, c.at("low_pass.per_draw")) < 1e-12);
    CHECK(error_of_values(low.per_sample, c.at("low_pass.per_sample")) < 1e-12);
    CHECK(error_of_values({low.value, low.standard_error}, c.at("low_pass")) < 1e-12);
    std::vector<double> of_blocks;
    for (const BlockValue& b : low_pass_blocks(l, blocks, sigma, all)) of_blocks.push_back(b.value);
    CHECK(error_of_values(of_blocks, c.at("low_pass.blocks")) < 1e-12);
    CHECK(error_of_values(profile(l, c.hyper["alphas"], all).y, c.at("profile")) < 1e-12);
    CHECK(epsilon_sharpness(l, {.tolerance = 1e-8}).value ==
          doctest::Approx(c.at("epsilon").item()).epsilon(1e-10));
    const PACBayes pac = pac_bayes(l, {.tolerance = 1e-8, .initial = initial}, {.draws = 10, .key = key});
    CHECK(error_of_values({pac.sigma.value, pac.norm.value, pac.distance.value}, c.at("pac_bayes")) < 1e-9);

    const Hessian hessian(l);
    const Matrix H = matrix_of(c.at("hessian"));
    const std::int64_t probes = c.hyper["probes"];
    Probes ours(hessian, key);
    CHECK(error_of_values(ours.trace({.draws = probes}).per_draw, c.at("trace")) < 1e-10);
    CHECK(ours.frobenius_norm({.draws = probes}).value ==
          doctest::Approx(c.at("frobenius_norm").item()).epsilon(1e-10));
    CHECK(fisher_rao(hessian).value == doctest::Approx(c.at("fisher_rao").item()).epsilon(1e-10));
    const auto w = packed(params, hessian(l.weights()));
    const Vector expected = H * matrix_of(c.at("normalized"));
    CHECK(error_of_values(w, tensor_of(expected)) < 1e-12);
    const Spectrum spectrum(hessian, {.starts = 40, .eigenpairs = 3, .key = key});
    const auto eigenvalues = c.at("eigenvalues").to_vector();
    const std::size_t n = eigenvalues.size();
    CHECK(spectrum.largest() == doctest::Approx(eigenvalues[n - 1]).epsilon(1e-9));
    CHECK(spectrum.smallest() == doctest::Approx(eigenvalues[0]).epsilon(1e-7));
    for (std::size_t k = 0; k < 3; ++k)
      CHECK(spectrum.eigenpairs()[k].value == doctest::Approx(eigenvalues[n - 1 - k]).epsilon(1e-8));
    CHECK(agrees(spectrum.effective_dimension(), c.at("effective_dimension").item()));
    CHECK(trace_hutchpp(hessian, 3 * std::ssize(eigenvalues)).value ==
          doctest::Approx(H.trace()).epsilon(1e-8));

    CHECK(shannon_entropy(l, net).value == doctest::Approx(c.at("shannon_entropy").item()).epsilon(1e-12));
    CHECK(local_entropy(l, {}, all).value == doctest::Approx(c.at("local_entropy").item()).epsilon(1e-12));
    LocalEntropyGradientOptions o{.batch_size = c.hyper["batch"].get<std::int64_t>()};
    CHECK(error_of_values(local_entropy_gradient(l, o, {.draws = 3, .key = key}).per_draw,
                          c.at("local_entropy_gradient.text")) < 1e-15);
    o.published = true;
    CHECK(error_of_values(local_entropy_gradient(l, o, {.draws = 3, .key = key}).per_draw,
                          c.at("local_entropy_gradient.published")) < 1e-11);
    CHECK(error_of_values(sam_sharpness(l, {.key = key}).highest, c.at("sam")) < 1e-11);
  }
}

}  // namespace
}  // namespace lpf::test
