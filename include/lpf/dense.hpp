// What a fully connected network needs: tensors, autograd, dense layers, activations, losses, SGD, the
// low-pass filter, data loading. A program that includes this instead of lpf/lpf.hpp does not compile
// convolutions and normalisation.
#pragma once

#include "lpf/autograd/engine.hpp"
#include "lpf/data/dataset.hpp"
#include "lpf/data/loader.hpp"
#include "lpf/data/noise.hpp"
#include "lpf/filter/low_pass_filter.hpp"
#include "lpf/nn/linear.hpp"
#include "lpf/ops/activation.hpp"
#include "lpf/ops/index.hpp"
#include "lpf/ops/linear.hpp"
#include "lpf/ops/loss.hpp"
#include "lpf/ops/math.hpp"
#include "lpf/ops/matmul.hpp"
#include "lpf/ops/reduce.hpp"
#include "lpf/ops/replicate.hpp"
#include "lpf/ops/shape.hpp"
#include "lpf/ops/step_scalar.hpp"
#include "lpf/optim/clip.hpp"
#include "lpf/optim/sgd.hpp"

#ifdef LPF_COMPILED
extern template class lpf::optim::Optimizer<lpf::optim::SGDOptions>;
#endif
#include "lpf/tensor/tensor.hpp"
