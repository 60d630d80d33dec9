// Optimizer steps: one launch over all of θ. The formulas are those of optim/sgd.hpp and optim/adam.hpp.
#include <cmath>

#include "families.hpp"
#include "launch.hpp"
#include "lpf/core/dtype.hpp"

namespace lpf::cuda {
namespace {

using backend::AdamStep;
using backend::Changing;
using backend::SgdStep;

template <class T>
struct Sgd {
  Changing rate;
  T momentum, keep, fresh, decay;
  bool nesterov;
  const T* gradient;
  T *velocity, *theta;
  LPF_DEVICE void operator()(std::int64_t i) const {
    const T lr = static_cast<T>(rate.now()), d = gradient[i] + decay * theta[i];
    if (momentum == T(0)) {  // velocity may be null
      theta[i] -= lr * d;
      return;
    }
    const T v = (keep == T(0) ? T(0) : keep * velocity[i]) + fresh * d;  // the first step finds it unwritten
    velocity[i] = v;
    theta[i] -= lr * (nesterov ? d + momentum * v : v);
  }
};
void sgd(DType type, std::int64_t n, const SgdStep& o, const void* gradient, void* velocity, void* theta) {
  visit_floating("sgd", type, [&](auto zero) {
    using T = decltype(zero);
    const T momentum = static_cast<T>(o.momentum);
    each(n,
         Sgd<T>{o.lr, momentum, o.first ? T(0) : momentum, o.first ? T(1) : static_cast<T>(1 - o.dampening),
                static_cast<T>(o.weight_decay), o.nesterov, static_cast<const T*>(gradient),
                static_cast<T*>(velocity), static_cast<T*>(theta)});
  });
}

template <class T>
struct Adam {
  T beta1, beta2, rest1, rest2, epsilon, coupled;
  Changing step, root, shrink;
  const T* gradient;
  T *first, *second, *largest, *theta;
  LPF_DEVICE void operator()(std::int64_t i) const {
    const T d = gradient[i] + coupled * theta[i];
    const T m = beta1 * first[i] + rest1 * d, v = beta2 * second[i] + rest2 * d * d;
    first[i] = m;
    second[i] = v;
    T spread = v;
    if (largest) spread = largest[i] = largest[i] < v ? v : largest[i];
    theta[i] = static_cast<T>(shrink.now()) * theta[i] -
               static_cast<T>(step.now()) * m / (std::sqrt(spread) * static_cast<T>(root.now()) + epsilon);
  }
};
void adam(DType type, std::int64_t n, const AdamStep& o, const void* gradient, void* m, void* v, void* v_max,
          void* theta) {
  visit_floating("adam", type, [&](auto zero) {
    using T = decltype(zero);
    each(n, Adam<T>{static_cast<T>(o.beta1), static_cast<T>(o.beta2), static_cast<T>(1 - o.beta1),
                    static_cast<T>(1 - o.beta2), static_cast<T>(o.epsilon), static_cast<T>(o.weight_decay),
                    o.step, o.root, o.shrink, static_cast<const T*>(gradient), static_cast<T*>(m),
                    static_cast<T*>(v), static_cast<T*>(v_max), static_cast<T*>(theta)});
  });
}

}  // namespace

void optimizer(Table& t) {
  t.sgd = sgd;
  t.adam = adam;
}

}  // namespace lpf::cuda
