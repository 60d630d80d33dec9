// Every operation on ±0, subnormal, tiny and huge numbers, ±∞, NaN, equal numbers, no elements and one
// element: values and gradients, fused and composed, beside PyTorch's. tests/scripts/special_values_test.py
// checks that each operation of include/lpf/ops is called in this file.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "lpf/lpf.hpp"
#include "lpf/ops/attention.hpp"
#include "special_case.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

using Inputs = std::map<std::string, Tensor>;

/// How a case of the file is computed here. `ulps` is larger than 4 where the functions of the C library,
/// PyTorch's or sums in another order have larger errors.
struct SpecialOperation {
  SpecialFunction f;
  double ulps = 4;
};

SpecialOperation of_x(Tensor (*f)(const Tensor&), double ulps = 4) {
  return {[f](const Inputs& t) { return f(t.at("x")); }, ulps};
}
SpecialOperation of_pair(Tensor (*f)(const Tensor&, const Tensor&), double ulps = 4) {
  return {[f](const Inputs& t) { return f(t.at("a"), t.at("b")); }, ulps};
}
template <class F>
SpecialOperation by(F f, double ulps = 4) {
  return {[f](const Inputs& t) { return f(t.at("x")); }, ulps};
}
/// A loss of x and t or label, not reduced.
template <class F>
SpecialOperation loss_of(F f, double ulps = 4) {
  return {[f](const Inputs& t) { return f(t.at("x"), t.contains("t") ? t.at("t") : t.at("label")); }, ulps};
}

using Table = std::map<std::string, SpecialOperation>;

void add_unary(Table& t) {
  t["exp"] = of_x(exp), t["expm1"] = of_x(expm1), t["log"] = of_x(log), t["log1p"] = of_x(log1p);
  t["sqrt"] = of_x(sqrt), t["rsqrt"] = of_x(rsqrt), t["reciprocal"] = of_x(reciprocal);
  t["square"] = of_x(square), t["sign"] = of_x(sign), t["abs"] = of_x(abs), t["sin"] = of_x(sin);
  t["cos"] = of_x(cos), t["tanh"] = of_x(tanh), t["erf"] = of_x(erf), t["floor"] = of_x(floor);
  t["ceil"] = of_x(ceil), t["round"] = of_x(round), t["relu"] = of_x(relu), t["sigmoid"] = of_x(sigmoid);
  t["silu"] = of_x(silu), t["softplus"] = of_x(softplus);
  t["gelu"] = by([](const Tensor& x) { return gelu(x); });
  t["gelu_tanh"] = by([](const Tensor& x) { return gelu(x, Gelu::tanh); });
  t["leaky_relu"] = by([](const Tensor& x) { return leaky_relu(x); });
  t["leaky_relu_flat"] = by([](const Tensor& x) { return leaky_relu(x, 0); });
  t["elu"] = by([](const Tensor& x) { return elu(x); });
  t["elu_half"] = by([](const Tensor& x) { return elu(x, 0.5); });
  t["clamp"] = by([](const Tensor& x) { return clamp(x, -1, 2); });
  for (const double p : {0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, -0.5, 2.5})
    t[concat("pow_", p)] = by([p](const Tensor& x) { return pow(x, p); });
  t["negative"] = by([](const Tensor& x) { return -x; });
  t["times"] = by([](const Tensor& x) { return x * 2.5; });
  t["times_zero"] = by([](const Tensor& x) { return x * 0.0; });
  t["plus"] = by([](const Tensor& x) { return x + 1.0; });
  t["plus_zero"] = by([](const Tensor& x) { return x + 0.0; });
  t["minus_zero"] = by([](const Tensor& x) { return x - 0.0; });
  t["affine"] = by([](const Tensor& x) { return affine(x, 2.5, 1); });
  t["minus_from"] = by([](const Tensor& x) { return 1.0 - x; });
  t["over"] = by([](const Tensor& x) { return x / 3.0; });
  t["over_zero"] = by([](const Tensor& x) { return x / 0.0; });
  t["over_from"] = by([](const Tensor& x) { return 1.0 / x; });
  t["is_nan"] = of_x(is_nan), t["is_finite"] = of_x(is_finite), t["logical_not"] = of_x(logical_not);
  t["to_bool"] = by([](const Tensor& x) { return x.to(DType::bool_); });
  t["to_other"] = by([](const Tensor& x) { return x.to(x.dtype() == float32 ? float64 : float32); });
}

void add_binary(Table& t) {
  t["add"] = of_pair(add), t["sub"] = of_pair(sub), t["mul"] = of_pair(mul), t["div"] = of_pair(div);
  t["pow"] = of_pair(pow), t["maximum"] = of_pair(maximum), t["minimum"] = of_pair(minimum);
  t["remainder"] = of_pair(remainder);
  t["equal"] = of_pair([](const Tensor& a, const Tensor& b) { return a == b; });
  t["not_equal"] = of_pair([](const Tensor& a, const Tensor& b) { return a != b; });
  t["less"] = of_pair([](const Tensor& a, const Tensor& b) { return a < b; });
  t["less_equal"] = of_pair([](const Tensor& a, const Tensor& b) { return a <= b; });
  t["greater"] = of_pair([](const Tensor& a, const Tensor& b) { return a > b; });
  t["greater_equal"] = of_pair([](const Tensor& a, const Tensor& b) { return a >= b; });
  t["logical_and"] = of_pair(logical_and), t["logical_or"] = of_pair(logical_or);
  t["logical_xor"] = of_pair(logical_xor), t["matmul"] = of_pair(matmul), t["dot"] = of_pair(dot);
  t["where"] = {[](const Inputs& i) { return where(i.at("c"), i.at("a"), i.at("b")); }};
  t["clamp_low"] = {[](const Inputs& i) { return clamp(i.at("x"), i.at("low"), {}); }};
  t["clamp_high"] = {[](const Inputs& i) { return clamp(i.at("x"), {}, i.at("high")); }};
  t["clamp_between"] =
      t["clamp_between_none"] = {[](const Inputs& i) { return clamp(i.at("x"), i.at("low"), i.at("high")); }};
}

TopK first_three(const Tensor& x, int axis, bool largest) {
  return topk(x, std::min<std::int64_t>(3, x.size(axis)), axis, largest);
}

void add_reductions(Table& t) {
  const std::map<std::string, std::pair<Tensor (*)(const Tensor&, int), double>> along = {
      {"sum", {[](const Tensor& x, int axis) { return sum(x, {axis}); }, 4}},
      {"mean", {[](const Tensor& x, int axis) { return mean(x, {axis}); }, 4}},
      {"prod", {[](const Tensor& x, int axis) { return prod(x, axis); }, 4}},
      {"var", {[](const Tensor& x, int axis) { return var(x, {axis}); }, 4}},
      {"var_biased", {[](const Tensor& x, int axis) { return var(x, {axis}, 0); }, 4}},
      {"stddev", {[](const Tensor& x, int axis) { return stddev(x, {axis}); }, 4}},
      {"stddev_biased", {[](const Tensor& x, int axis) { return stddev(x, {axis}, 0); }, 4}},
      {"vector_norm", {[](const Tensor& x, int axis) { return vector_norm(x, {axis}); }, 4}},
      {"amax", {[](const Tensor& x, int axis) { return amax(x, axis); }, 4}},
      {"amin", {[](const Tensor& x, int axis) { return amin(x, axis); }, 4}},
      {"argmax", {[](const Tensor& x, int axis) { return argmax(x, axis); }, 4}},
      {"argmin", {[](const Tensor& x, int axis) { return argmin(x, axis); }, 4}},
      {"softmax", {[](const Tensor& x, int axis) { return softmax(x, axis); }, 4}},
      {"log_softmax", {[](const Tensor& x, int axis) { return log_softmax(x, axis); }, 4}},
      {"logsumexp", {[](const Tensor& x, int axis) { return logsumexp(x, {axis}); }, 4}},
      {"cumsum", {[](const Tensor& x, int axis) { return cumsum(x, axis); }, 4}},
      {"topk", {[](const Tensor& x, int axis) { return first_three(x, axis, true).values; }, 4}},
      {"topk_indices", {[](const Tensor& x, int axis) { return first_three(x, axis, true).indices; }, 4}},
      {"topk_smallest", {[](const Tensor& x, int axis) { return first_three(x, axis, false).values; }, 4}},
      {"topk_smallest_indices",
       {[](const Tensor& x, int axis) { return first_three(x, axis, false).indices; }, 4}}};
  for (const auto& [name, entry] : along)
    for (const std::string shape : {"rows", "columns", "one", "none"}) {
      if (shape == "none" && name.starts_with("a")) continue;  // extrema of nothing are errors
      const int axis = shape == "columns" ? 0 : 1;
      const auto f = entry.first;
      t[name + "_" + shape] = by([f, axis](const Tensor& x) { return f(x, axis); }, entry.second);
    }
  for (const std::string values : {"none", "one", "zeros", "mixed", "set"})
    t["all_" + values] = of_x(all), t["any_" + values] = of_x(any);
}

void add_losses(Table& t) {
  const auto weights = [](const Tensor& x) { return from_vector<double>({1, 0, 0.5, 2}, {4}).to(x.dtype()); };
  for (const bool weighted : {false, true})
    for (const bool smooth : {false, true}) {
      const std::string how = concat(weighted ? "_weighted" : "", smooth ? "_smooth" : "");
      const auto f = [=](const Tensor& x, const Tensor& label) {
        return cross_entropy(x, label,
                             {.reduction = Reduction::none,
                              .label_smoothing = smooth ? 0.1 : 0,
                              .weight = weighted ? weights(x) : Tensor()});
      };
      t["cross_entropy" + how] = t["cross_entropy_ignored" + how] = loss_of(f);
    }
  const auto mean_loss = [](const Tensor& x, const Tensor& label) { return cross_entropy(x, label); };
  const auto none = [](const Tensor& x, const Tensor& label) {
    return cross_entropy(x, label, {.reduction = Reduction::none});
  };
  t["cross_entropy_all_ignored"] = t["cross_entropy_none"] = loss_of(mean_loss);
  t["cross_entropy_one_class"] = t["cross_entropy_soft"] = loss_of(none);
  t["nll_loss"] = loss_of([](const Tensor& x, const Tensor& label) {
    return nll_loss(x, label, {.reduction = Reduction::none});
  });
  t["nll_loss_weighted"] = loss_of([=](const Tensor& x, const Tensor& label) {
    return nll_loss(x, label, {.reduction = Reduction::none, .weight = weights(x)});
  });
  const auto none_of = Reduction::none;
  t["mse_loss"] = loss_of([=](const Tensor& x, const Tensor& y) { return mse_loss(x, y, none_of); });
  t["l1_loss"] = loss_of([=](const Tensor& x, const Tensor& y) { return l1_loss(x, y, none_of); });
  t["smooth_l1_loss"] =
      loss_of([=](const Tensor& x, const Tensor& y) { return smooth_l1_loss(x, y, {.reduction = none_of}); });
  t["smooth_l1_loss_half"] = loss_of([=](const Tensor& x, const Tensor& y) {
    return smooth_l1_loss(x, y, {.beta = 0.5, .reduction = none_of});
  });
  t["mse_loss_none"] = loss_of([](const Tensor& x, const Tensor& y) { return mse_loss(x, y); });
  t["l1_loss_none"] = loss_of([](const Tensor& x, const Tensor& y) { return l1_loss(x, y); });
  t["smooth_l1_loss_none"] = loss_of([](const Tensor& x, const Tensor& y) { return smooth_l1_loss(x, y); });
  for (const bool log_target : {false, true}) {
    const std::string how = log_target ? "kl_div_log" : "kl_div";
    const auto divergence = [=](KLDivReduction reduction) {
      return loss_of([=](const Tensor& x, const Tensor& y) {
        return kl_div(x, y, {.reduction = reduction, .log_target = log_target});
      });
    };
    t[how] = divergence(KLDivReduction::none), t[how + "_mean_none"] = divergence(KLDivReduction::mean);
    t[how + "_batchmean_none"] = divergence(KLDivReduction::batchmean);
    t[how + "_sum_none"] = divergence(KLDivReduction::sum);
  }
  for (const std::string target : {"0.0", "0.5", "1.0"})
    t["bce_with_logits_" + target] = loss_of(
        [=](const Tensor& x, const Tensor& y) { return bce_with_logits(x, y, {.reduction = none_of}); });
  t["bce_with_logits_0.25"] = loss_of([=](const Tensor& x, const Tensor& y) {
    return bce_with_logits(x, y, {.reduction = none_of, .pos_weight = full({1}, 2, x.options())});
  });
}

void add_sequences(Table& t) {
  t["max_pool1d"] = by([](const Tensor& x) { return max_pool1d(x, 2); });
  t["max_pool1d_padded"] = by([](const Tensor& x) { return max_pool1d(x, 3, {.stride = 1, .padding = 1}); });
  t["max_pool1d_ceil"] =
      by([](const Tensor& x) { return max_pool1d(x, 3, {.stride = 2, .ceil_mode = true}); });
  t["max_pool1d_one"] = by([](const Tensor& x) { return max_pool1d(x, 1); });
  t["avg_pool1d"] = by([](const Tensor& x) { return avg_pool1d(x, 2); });
  t["avg_pool1d_padded"] = by([](const Tensor& x) {
    return avg_pool1d(x, 3, {.stride = 1, .padding = 1, .count_include_pad = false});
  });
  t["avg_pool1d_ceil"] =
      by([](const Tensor& x) { return avg_pool1d(x, 3, {.stride = 2, .padding = 1, .ceil_mode = true}); });
  t["avg_pool1d_one"] = by([](const Tensor& x) { return avg_pool1d(x, 1); });
  t["adaptive_avg_pool1d"] = by([](const Tensor& x) { return adaptive_avg_pool1d(x, 3); });
  t["global_avg_pool1d"] = of_x(global_avg_pool1d), t["global_max_pool1d"] = of_x(global_max_pool1d);
}

void add_scatter(Table& t) {
  t["scatter"] = t["scatter_none"] = t["scatter_whole"] = {
      [](const Inputs& i) { return scatter(i.at("x"), 0, i.at("index"), i.at("source")); }};
  for (const auto& [name, v] :
       std::map<std::string, double>{{"inf", infinity}, {"-0.0", -0.0}, {"nan", NAN}}) {
    t["scatter_" + name] = {[v](const Inputs& i) { return scatter(i.at("x"), 0, i.at("index"), v); }};
    t["masked_fill_" + name] = {
        [](const Inputs& i) { return masked_fill(i.at("x"), i.at("c"), i.at("value")); }};
  }
  t["masked_fill_none"] = t["masked_fill_nan"];
  t["scatter_add"] = t["scatter_add_none"] = t["scatter_add_whole"] = {
      [](const Inputs& i) { return scatter_add(i.at("x"), 0, i.at("index"), i.at("source")); }};
  const auto adding = [](double alpha) {
    return SpecialOperation{
        [alpha](const Inputs& i) { return index_add(i.at("x"), 0, i.at("index"), i.at("source"), alpha); }};
  };
  t["index_add_1"] = t["index_add_none"] = adding(1), t["index_add_2.5"] = adding(2.5);
  t["index_add_0"] = adding(0), t["index_add_whole"] = adding(3);
  t["masked_select"] = t["masked_select_no_true"] =
      t["masked_select_none"] = {[](const Inputs& i) { return masked_select(i.at("x"), i.at("c")); }};
}

void add_layers(Table& t) {
  const auto weight = [](const Tensor& x) { return from_vector<double>({1, 2, -1, 0.5}, {4}).to(x.dtype()); };
  const auto bias = [](const Tensor& x) { return from_vector<double>({0, 1, -1, 0.25}, {4}).to(x.dtype()); };
  t["layer_norm"] = by([=](const Tensor& x) { return layer_norm(x, weight(x), bias(x)); });
  for (const std::string shape : {"plain", "one", "none"})
    t["layer_norm_" + shape] = by([](const Tensor& x) { return layer_norm(x, Tensor(), Tensor()); });
  t["group_norm"] = by([=](const Tensor& x) { return group_norm(x, 1, weight(x), bias(x)); });
  t["group_norm_positions"] = t["group_norm_one"] = by([](const Tensor& x) { return group_norm(x, 1); });
  t["group_norm_groups"] = t["group_norm_none"] = by([](const Tensor& x) { return group_norm(x, 2); });
  t["rms_norm"] = by([=](const Tensor& x) { return rms_norm(x, {4}, weight(x)); });
  t["rms_norm_one"] = by([](const Tensor& x) { return rms_norm(x, {1}); });
  t["batch_norm"] = by([](const Tensor& x) { return batch_norm_train(x, {}, {}, {0, x.size(0)}).y; });
  t["batch_norm_relu"] = by([](const Tensor& x) {
    return batch_norm_train(x, {}, {}, {0, x.size(0)}, 1e-5, {.relu = true}).y;
  });
  t["batch_norm_eval"] = by([](const Tensor& x) {
    return batch_norm_eval(x, {}, {}, ones({x.size(1)}, x.options()), zeros({x.size(1)}, x.options()));
  });
  t["max_pool2d"] = by([](const Tensor& x) { return max_pool2d(x, 2); });
  t["max_pool2d_padded"] = by([](const Tensor& x) { return max_pool2d(x, 3, {.stride = 1, .padding = 1}); });
  t["avg_pool2d"] = by([](const Tensor& x) { return avg_pool2d(x, 2); });
  t["avg_pool2d_padded"] = by([](const Tensor& x) {
    return avg_pool2d(x, 3, {.stride = 1, .padding = 1, .count_include_pad = false});
  });
  t["adaptive_avg_pool2d"] = by([](const Tensor& x) { return adaptive_avg_pool2d(x, 3); });
  t["global_avg_pool2d"] = of_x(global_avg_pool2d), t["global_max_pool2d"] = of_x(global_max_pool2d);
  t["max_pool2d_ceil"] =
      by([](const Tensor& x) { return max_pool2d(x, 3, {.stride = 2, .ceil_mode = true}); });
  t["avg_pool2d_ceil"] =
      by([](const Tensor& x) { return avg_pool2d(x, 3, {.stride = 2, .padding = 1, .ceil_mode = true}); });
  t["avg_pool2d_divisor"] = by([](const Tensor& x) { return avg_pool2d(x, 2, {.divisor_override = 3}); });
  t["embedding"] =
      t["embedding_none"] = {[](const Inputs& i) { return embedding(i.at("index"), i.at("weight")); }};
  t["embedding_padded"] = {
      [](const Inputs& i) { return embedding(i.at("index"), i.at("weight"), {.padding_idx = 1}); }};
  t["index_select"] = {[](const Inputs& i) { return index_select(i.at("x"), 0, i.at("index")); }};
  t["gather"] = {[](const Inputs& i) { return gather(i.at("x"), 1, i.at("index")); }};
  add_scatter(t);
  t["linear"] = t["linear_none"] = {[](const Inputs& i) { return linear(i.at("a"), i.at("b")); }};
  t["linear_bias"] = {[](const Inputs& i) { return linear(i.at("a"), i.at("b"), i.at("c")); }};
  t["matmul_special_right"] = t["matmul_none"] = of_pair(matmul);
  t["conv2d"] = {[](const Inputs& i) { return conv2d(i.at("x"), i.at("weight")); }};
  t["conv2d_padded"] = {
      [](const Inputs& i) { return conv2d(i.at("x"), i.at("weight"), {}, {.padding = 1}); }};
  t["conv1d"] = t["conv1d_one"] =
      t["conv1d_none"] = {[](const Inputs& i) { return conv1d(i.at("x"), i.at("weight")); }};
  t["conv1d_padded"] = {
      [](const Inputs& i) { return conv1d(i.at("x"), i.at("weight"), {}, {.padding = 1}); }};
  t["dropout_0.0"] = by([](const Tensor& x) { return dropout(x, 0, {.seed = 1}); });
  t["dropout_1.0"] = by([](const Tensor& x) { return dropout(x, 1, {.seed = 1}); });
}

void add_movements(Table& t) {
  t["reshape"] = by([](const Tensor& x) { return reshape(x, {x.numel()}); });
  t["flatten"] = by([](const Tensor& x) { return flatten(x); });
  t["expand"] = by([](const Tensor& x) { return expand(x, x.shape().prepended(2)); });
  t["permute"] = by([](const Tensor& x) { return permute(x, {1, 0}); });
  t["transpose"] = by([](const Tensor& x) { return transpose(x); });
  t["squeeze"] = by([](const Tensor& x) { return squeeze(unsqueeze(x, 1), 1); });
  t["unsqueeze"] = by([](const Tensor& x) { return unsqueeze(x, 1); });
  t["slice"] = by([](const Tensor& x) { return slice(x, 1, 1, 3); });
  t["narrow"] = by([](const Tensor& x) { return narrow(x, 0, 2, 3); });
  t["concatenate"] = by([](const Tensor& x) { return concatenate({x, x}, 1); });
  t["stack"] = by([](const Tensor& x) { return stack({x, x}); });
  t["split"] = by([](const Tensor& x) { return split(x, 4)[1]; });
  t["clone"] = of_x(clone);
  t["pad_minus_zero"] = by([](const Tensor& x) { return pad(x, {1, 2}, {.value = -0.0}); });
  for (const auto& [name, mode] : std::map<std::string, PadMode>{
           {"reflect", PadMode::reflect}, {"replicate", PadMode::replicate}, {"circular", PadMode::circular}})
    t["pad_" + name] = by([mode](const Tensor& x) { return pad(x, {1, 2}, {.mode = mode}); });
  t["tril_below"] = by([](const Tensor& x) { return tril(x, -1); });
  t["triu_below"] = by([](const Tensor& x) { return triu(x, -1); });
  for (const std::string shape : {"", "_none", "_one"}) {
    t["flip" + shape] = by([](const Tensor& x) { return flip(x, {0, 1}); });
    t["tril" + shape] = by([](const Tensor& x) { return tril(x); });
    t["triu" + shape] = by([](const Tensor& x) { return triu(x); });
    t["nonzero" + shape] = of_x(nonzero);
    t["pad_nan" + shape] = by([](const Tensor& x) { return pad(x, {1, 2, 3, 0}, {.value = NAN}); });
  }
}

void add_integers(Table& t) {
  t["negative_whole"] = by([](const Tensor& x) { return -x; });
  t["times_whole"] = by([](const Tensor& x) { return x * 3.0; });
  t["plus_whole"] = by([](const Tensor& x) { return x + 1.0; });
  t["sum_whole"] = t["sum_whole_none"] = by([](const Tensor& x) { return sum(x); });
  t["prod_whole"] = by([](const Tensor& x) { return prod(x, 0); });
  t["argmax_whole"] = by([](const Tensor& x) { return argmax(x, 0); });
  t["argmin_whole"] = by([](const Tensor& x) { return argmin(x, 0); });
  t["amax_whole"] = by([](const Tensor& x) { return amax(x, 0); });
  t["amin_whole"] = by([](const Tensor& x) { return amin(x, 0); });
  t["cumsum_whole"] = by([](const Tensor& x) { return cumsum(x, 0); });
  t["flip_whole"] = by([](const Tensor& x) { return flip(x, {0}); });
  t["pad_whole"] = by([](const Tensor& x) { return pad(x, {1, 2}, {.value = 7}); });
  t["tril_whole"] = by([](const Tensor& x) { return tril(unsqueeze(x, 0)); });
  t["triu_whole"] = by([](const Tensor& x) { return triu(unsqueeze(x, 0)); });
  t["topk_whole"] = by([](const Tensor& x) { return topk(x, 3).values; });
  t["topk_indices_whole"] = by([](const Tensor& x) { return topk(x, 3).indices; });
  t["topk_smallest_whole"] = by([](const Tensor& x) { return topk(x, 3, -1, false).values; });
  t["masked_fill_whole"] = by([](const Tensor& x) { return masked_fill(x, x == 1.0, 7); });
  t["masked_select_whole"] = by([](const Tensor& x) { return masked_select(x, x > 0.0); });
  t["nonzero_whole"] = of_x(nonzero);
  t["is_nan_whole"] = of_x(is_nan), t["is_finite_whole"] = of_x(is_finite);
  t["logical_not_whole"] = of_x(logical_not);
  for (const DType type : {float32, float64, int32, int64, uint8, DType::bool_})
    t[concat("to_", name_of(type), "_whole")] = by([type](const Tensor& x) { return x.to(type); });
}

const Table& special_operations() {
  static const Table table = [] {
    Table t;
    add_unary(t), add_binary(t), add_reductions(t), add_losses(t), add_layers(t), add_sequences(t),
        add_movements(t), add_integers(t);
    return t;
  }();
  return table;
}

}  // namespace

TEST_CASE("special values: every operation beside PyTorch") {
  const Table& table = special_operations();
  std::set<std::string> seen;
  for (const SpecialCase& c : SpecialCase::all()) {
    if (c.op().starts_with("optim_") || c.op().starts_with("clip_")) continue;  // tests/optim
    seen.insert(c.op());
    const auto entry = table.find(c.op());
    CHECK_MESSAGE(entry != table.end(), c.op(), " is not computed here");
    if (entry != table.end()) check_special(c, entry->second.f, entry->second.ulps);
  }
  for (const auto& [op, entry] : table) CHECK_MESSAGE(seen.contains(op), op, " has no case");
}

TEST_CASE("special values: a dropped element is 0, whatever it was") {
  const Tensor x = from_vector(std::vector<float>(4096, std::numeric_limits<float>::infinity()), {4096});
  for (const double p : {0.5, 1 - 1e-12, 1.0}) {
    const Tensor leaf = x.clone().requires_grad_(), y = dropout(leaf, p, {.seed = 3});
    const auto values = y.to_vector(), slopes = grad(y, {leaf}, {.gradient = x})[0].to_vector();
    std::size_t dropped = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      CHECK((values[i] == 0 || values[i] == infinity));
      CHECK(slopes[i] == values[i]);
      dropped += values[i] == 0;
    }
    CHECK(dropped >= (p == 0.5 ? 1900 : 4096));
  }
}

TEST_CASE(
    "special values: remainder is a - b·q, and its slope in b is -q, also where a/b rounds to an integer") {
  for (const auto& [a, b, q] : std::vector<std::array<double, 3>>{{1, 0.1, 9},
                                                                  {0.6, 0.2, 2},
                                                                  {-1, 0.1, -10},
                                                                  {1, -0.1, -10},
                                                                  {-1, -0.1, 9},
                                                                  {7, 2, 3},
                                                                  {-7, 2, -4},
                                                                  {1, infinity, 0},
                                                                  {-1, infinity, -1},
                                                                  {1, -infinity, -1},
                                                                  {-0.0, infinity, 0},
                                                                  {1e300, 1e-10, infinity}}) {
    INFO(a, " % ", b);
    const Tensor u = tensor({a}), v = tensor({b}).requires_grad_();
    CHECK(grad(remainder(u, v), {v})[0].item() == -q);
  }
}

TEST_CASE("special values: normalisation about a mean that float32 does not have") {
  // Compared with float64 on the same numbers: what is left is the rounding of the result, not that of the
  // mean.
  const Tensor g = normal({32, 16}, 3, float32);
  for (const double offset : {0.0, 1e3, 1e5, 1e6, 1e7}) {
    INFO("offset ", offset);
    const Tensor x = (normal({32, 16}, 5) * 4.0 + offset).to(float32);
    const std::vector<std::pair<const char*, Tensor (*)(const Tensor&)>> norms = {
        {"layer_norm", [](const Tensor& t) { return layer_norm(t, Tensor(), Tensor()); }},
        {"batch_norm",
         [](const Tensor& t) {
           return batch_norm_train(t, {}, {}, {0, 32}).y;
         }},
        {"batch_norm of slices", [](const Tensor& t) {
           return batch_norm_train(t, {}, {}, {0, 9, 32}).y;
         }}};
    for (const auto& [name, f] : norms) {
      INFO(name);
      const Tensor leaf = x.clone().requires_grad_(), wide = x.to(float64).requires_grad_();
      const Tensor y = f(leaf), exact = f(wide);
      CHECK(relative_error(y.to(float64), exact) < 4e-7);
      const Tensor slope = grad(exact, {wide}, {.gradient = g.to(float64)})[0];
      for (const bool create_graph : {false, true}) {
        const Tensor found =
            grad(y, {leaf}, {.create_graph = create_graph, .retain_graph = true, .gradient = g})[0];
        CHECK(relative_error(found.detach().to(float64), slope) < (create_graph && offset > 0 ? 4e-5 : 1e-6));
      }
    }
  }
}

TEST_CASE("special values: attention takes NaN and infinity where softmax does") {
  for (const DType dtype : {float32, float64}) {
    const auto run = [&](const std::vector<double>& scores) {  // of one query with three keys
      const Tensor k = from_vector(scores, {1, 1, 3, 1}).to(dtype),
                   v = tensor({1.0, 2.0, 4.0}).reshape({1, 1, 3, 1}).to(dtype);
      return scaled_dot_product_attention(ones({1, 1, 1, 1}, {dtype}), k, v, {}, {.scale = 1.0}).item();
    };
    CHECK(run({0, 0, 0}) == doctest::Approx(7.0 / 3));
    CHECK(run({-infinity, 0, -infinity}) == 2);
    CHECK(run({-200, 0, -1e30}) == 2);
    CHECK(run({1e30, 0, 1e30}) == 2.5);
    CHECK(std::isnan(run({not_a_number, 0, 0})));
    CHECK(std::isnan(run({not_a_number, -infinity, not_a_number})));
    CHECK(std::isnan(run({infinity, 0, 0})));
    CHECK(std::isnan(run({-infinity, -infinity, -infinity})));  // no mask: 0/0, as in softmax()
    // What a mask excludes may be anything.
    const Tensor one = ones({1, 1, 1, 1}, {dtype}),
                 k = tensor({not_a_number, 0.0, infinity}).reshape({1, 1, 3, 1}).to(dtype);
    const Tensor only = tensor({0.f, 1.f, 0.f}).to(DType::bool_),
                 v = tensor({1.0, 2.0, 4.0}).reshape({1, 1, 3, 1}).to(dtype);
    CHECK(scaled_dot_product_attention(one, k, v, {.mask = only}).item() == 2);
    const Tensor w = attention_weights(one, k, {.mask = only});
    CHECK(holds(w.to(float64), {1, 1, 1, 3}, {0, 1, 0}));
    CHECK(holds(
        attention_weights(one, k, {.mask = logical_not(logical_or(only, logical_not(only)))}).to(float64),
        {1, 1, 1, 3}, {0, 0, 0}));
  }
}
