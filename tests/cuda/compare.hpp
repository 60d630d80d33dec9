// Common code of the tests of the CUDA backend: runs the same entry of both tables on the same numbers.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "lpf/lpf.hpp"
#include "tensor_test.hpp"

namespace lpf::test {

inline const std::vector<DType> all_dtypes = {DType::bool_, uint8, int32, int64, float32, float64};
inline const std::vector<DType> floating = {float32, float64};

/// CPU and GPU differ in the order of sums, and in the last bits of exp and similar functions.
inline double tolerance_of(DType type) { return is_floating(type) ? (type == float32 ? 2e-6 : 1e-14) : 0; }

inline std::string text_of(DType type) { return name_of(type); }

/// A reproducible stream of words for choices in tests.
class Choice {
 public:
  explicit Choice(std::uint64_t seed) : key_{.seed = seed} {}
  /// In [low, high].
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + uniform_below_at(key_, next_++, high - low + 1);
  }
  /// Numbers representable in the type: standard normal ones, or small integers
  /// (for signed types of both signs).
  Tensor numbers(const Shape& shape, DType type) {
    key_.draw++;
    Tensor x = normal(shape, key_.draw + key_.seed * 1000);
    if (is_floating(type)) return x.to(type);
    if (type == int32 || type == int64) return affine(x, 5, 0).to(type);
    return affine(abs(x), type == uint8 ? 5 : 0.8, 0).to(int64).to(type);
  }

 private:
  NoiseKey key_;
  std::int64_t next_ = 0;
};

/// A copy on the device that begins `offset` elements into its memory: with offset 1 it
/// is aligned to one element only.
inline Tensor copy_at(const Tensor& t, Device device, std::int64_t offset) {
  Tensor copy = empty({t.numel() + offset}, {t.dtype(), device}).alias(t.shape(), offset);
  copy.backend().copy(copy.raw(), t.to(device).raw(),
                      static_cast<std::size_t>(t.numel()) * size_of(t.dtype()));
  return copy;
}

/// Runs f(table, in, out) with the CPU's table and the device's, each with its own copies of the arrays, and
/// compares `out`: bit for bit if the tolerance is 0. The copies on the device are made by copy_at().
template <class F>
void check_same(const std::vector<Tensor>& in, const std::vector<Tensor>& out, double tolerance, F f,
                std::int64_t offset = 0) {
  const auto run = [&](Device device) {
    std::vector<Tensor> kept;
    const auto pointers = [&](const std::vector<Tensor>& tensors) {
      std::vector<void*> p;
      for (const Tensor& t : tensors) {
        kept.push_back(t.defined() ? copy_at(t, device, device == Device::cpu() ? 0 : offset) : t);
        p.push_back(t.defined() ? kept.back().raw() : nullptr);
      }
      return p;
    };
    const auto from = pointers(in), to = pointers(out);
    f(backend::get(device), from, to);
    std::vector<Tensor> results;
    for (std::size_t i = in.size(); i < kept.size(); ++i)
      results.push_back(kept[i].defined() ? kept[i].to(Device::cpu()) : kept[i]);
    return results;
  };
  const auto expected = run(Device::cpu()), found = run(Device::cuda());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!out[i].defined()) continue;
    INFO("output ", i, ", ", text_of(out[i].dtype()), " ", out[i].shape().to_string());
    if (tolerance == 0) {
      CHECK(same_bits(found[i], expected[i]));
    } else {
      CHECK(relative_error(found[i], expected[i]) <= tolerance);
    }
  }
}

/// A view of `shape` on its own array: axes in any order in memory, some with steps of 2, and, if it is
/// read-only, some axes broadcast. `memory` receives the number of elements of the array.
inline backend::View random_view(const Shape& shape, DType type, bool read_only, Choice& choice,
                                 std::int64_t& memory) {
  backend::View v{nullptr, type, shape.rank(), {}, {}};
  std::vector<int> order(static_cast<std::size_t>(shape.rank()));
  std::iota(order.begin(), order.end(), 0);
  if (choice.between(0, 1))
    for (std::size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<std::size_t>(choice.between(0, std::ssize(order) - 1)) % i]);
  std::int64_t step = choice.between(0, 3) == 0 ? 2 : 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    const int axis = order[i];
    v.shape[axis] = shape[axis];
    const bool broadcast = read_only && choice.between(0, 3) == 0;
    v.stride[axis] = broadcast ? 0 : step;
    if (!broadcast) step *= std::max<std::int64_t>(1, shape[axis]);
  }
  memory = step;
  return v;
}
inline backend::View contiguous_view(const Shape& shape, DType type) {
  backend::View v{nullptr, type, shape.rank(), {}, {}};
  std::int64_t step = 1;
  for (int i = shape.rank(); i-- > 0;) {
    v.shape[i] = shape[i];
    v.stride[i] = step;
    step *= shape[i];
  }
  return v;
}
inline Shape random_shape(Choice& choice) {
  Shape shape;
  const auto rank = choice.between(0, 5);
  for (std::int64_t i = 0; i < rank; ++i)
    shape.push_back(choice.between(0, 19) == 0 ? 0 : choice.between(1, 5));
  return shape;
}

inline backend::View on(backend::View v, void* data) {
  v.data = data;
  return v;
}

}  // namespace lpf::test

#define SKIP_WITHOUT_CUDA \
  if (!cuda_is_available()) return skip("no CUDA device")
