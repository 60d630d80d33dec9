// Everything for training: tensors, autograd, layers, losses, optimizers, the low-pass filter, data loading.
// Other headers are included by name, such as lpf/calculus/{gradcheck,hvp}.hpp, lpf/data/sets/*.hpp,
// lpf/io/{npy,safetensors}.hpp, lpf/sharpness/*.hpp, lpf/train/*.hpp.
#pragma once

#include "lpf/dense.hpp"
#include "lpf/float64.hpp"
#include "lpf/nn/activation.hpp"
#include "lpf/nn/conv.hpp"
#include "lpf/nn/dropout.hpp"
#include "lpf/nn/embedding.hpp"
#include "lpf/nn/normalization.hpp"
#include "lpf/nn/pool.hpp"
#include "lpf/nn/rms_norm.hpp"
#include "lpf/nn/sequential.hpp"
#include "lpf/ops/conv.hpp"
#include "lpf/ops/custom.hpp"
#include "lpf/ops/dropout.hpp"
#include "lpf/ops/embedding.hpp"
#include "lpf/ops/layer_norm.hpp"
#include "lpf/ops/norm.hpp"
#include "lpf/ops/normalization.hpp"
#include "lpf/ops/pool.hpp"
#include "lpf/ops/print.hpp"
#include "lpf/ops/random.hpp"
#include "lpf/ops/rms_norm.hpp"
#include "lpf/ops/softmax.hpp"
#include "lpf/optim/adam.hpp"
#include "lpf/optim/sam.hpp"
