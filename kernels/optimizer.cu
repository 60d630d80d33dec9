// Optimizer steps: one launch over all of θ. The formulas are those of optim/sgd.hpp and optim/adam.hpp, with
// explicit fused multiply-adds: a compiler might fuse differently in packs than in single elements, or for
// scalars that change from step to step than for constant ones.
#include <cmath>

#include "kernel_groups.hpp"
#include "launch.hpp"
#include "lpf/core/dtype.hpp"
#include "packs.hpp"

namespace lpf::cuda {
namespace {

using backend::AdamStep;
using backend::SGDStep;
using backend::StepScalar;
using lpf::detail::fmadd;
using lpf::detail::fnmadd;

template <class T>
struct Sgd {
  Pieces<pack_width<T>> pieces;
  StepScalar rate;
  T momentum, keep, fresh, decay;
  bool nesterov;
  const T* gradient;
  T *velocity, *theta;

  LPF_DEVICE void operator()(std::int64_t k) const {
    const T lr = static_cast<T>(rate.now());
    pieces(k, [&](std::int64_t i, auto w) {
      const auto g = load<w>(gradient + i);
      auto p = load<w>(theta + i);
      Pack<T, w> v = {};  // may be null without momentum; not read in the first step
      if (keep != T(0)) v = load<w>(velocity + i);
      for (int j = 0; j < w; ++j) step(lr, g.value[j], v.value[j], p.value[j]);
      if (momentum != T(0)) store(velocity + i, v);
      store(theta + i, p);
    });
  }
  LPF_DEVICE void step(T lr, T g, T& v, T& p) const {
    const T d = decay == T(0) ? g : fmadd(decay, p, g);  // 0·∞ would be NaN
    if (momentum == T(0)) {
      p = fnmadd(lr, d, p);
      return;
    }
    v = keep == T(0) ? fresh * d : fmadd(keep, v, fresh * d);
    p = fnmadd(lr, nesterov ? fmadd(momentum, v, d) : v, p);
  }
};
void sgd(DType type, std::int64_t n, const SGDStep& o, const void* gradient, void* velocity, void* theta) {
  visit_floating("sgd", type, [&](auto zero) {
    using T = decltype(zero);
    const auto* g = static_cast<const T*>(gradient);
    auto *v = static_cast<T*>(velocity), *p = static_cast<T*>(theta);
    const Pieces<pack_width<T>> pieces(n, g, v, p);
    const T momentum = static_cast<T>(o.momentum);
    each(pieces.count(), Sgd<T>{pieces, o.lr, momentum, o.first ? T(0) : momentum,
                                o.first ? T(1) : static_cast<T>(1 - o.dampening),
                                static_cast<T>(o.weight_decay), o.nesterov, g, v, p});
  });
}

template <class T>
struct Adam {
  Pieces<pack_width<T>> pieces;
  T beta1, beta2, rest1, rest2, epsilon, coupled;
  StepScalar step, root, shrink;
  const T* gradient;
  T *first, *second, *largest, *theta;  // largest: null without AMSGrad

  LPF_DEVICE void operator()(std::int64_t k) const {
    const T factor = static_cast<T>(step.now()), unbias = static_cast<T>(root.now()),
            keep = static_cast<T>(shrink.now());
    pieces(k, [&](std::int64_t i, auto w) {
      const auto g = load<w>(gradient + i);
      auto m = load<w>(first + i), v = load<w>(second + i), p = load<w>(theta + i);
      Pack<T, w> most = {};
      if (largest) most = load<w>(largest + i);
      for (int j = 0; j < w; ++j) {
        const T d = coupled == T(0) ? g.value[j] : fmadd(coupled, p.value[j], g.value[j]);
        m.value[j] = fmadd(beta1, m.value[j], rest1 * d);
        v.value[j] = fmadd(beta2, v.value[j], rest2 * d * d);
        T spread = v.value[j];
        if (largest) spread = most.value[j] = most.value[j] < spread ? spread : most.value[j];
        const T move = factor * m.value[j] / fmadd(std::sqrt(spread), unbias, epsilon);
        p.value[j] = fmadd(keep, p.value[j], m.value[j] == T(0) ? T(0) : -move);  // with ε = 0, 0/0
      }
      store(first + i, m);
      store(second + i, v);
      if (largest) store(largest + i, most);
      store(theta + i, p);
    });
  }
};
void adam(DType type, std::int64_t n, const AdamStep& o, const void* gradient, void* m, void* v, void* v_max,
          void* theta) {
  visit_floating("adam", type, [&](auto zero) {
    using T = decltype(zero);
    const auto* g = static_cast<const T*>(gradient);
    T *first = static_cast<T*>(m), *second = static_cast<T*>(v), *largest = static_cast<T*>(v_max),
      *p = static_cast<T*>(theta);
    const Pieces<pack_width<T>> pieces(n, g, first, second, largest, p);
    each(pieces.count(),
         Adam<T>{pieces, static_cast<T>(o.beta1), static_cast<T>(o.beta2), static_cast<T>(1 - o.beta1),
                 static_cast<T>(1 - o.beta2), static_cast<T>(o.epsilon), static_cast<T>(o.weight_decay),
                 o.step, o.root, o.shrink, g, first, second, largest, p});
  });
}

}  // namespace

void optimizer(Table& t) {
  t.sgd = sgd;
  t.adam = adam;
}

}  // namespace lpf::cuda
