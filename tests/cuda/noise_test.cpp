// Random numbers on the device: bit-identical to the CPU's. Sums (norms) and products that are summed
// (deviations of pre-activations) may differ in the last bits.
#include "compare.hpp"

using namespace lpf;
using namespace lpf::test;
using backend::Segment;
using backend::Table;

namespace {

const NoiseKey key{
    .seed = 0x123456789ABCDEF, .purpose = Purpose::user, .draw = 77, .replica = 5, .parameter = 3};

}  // namespace

TEST_CASE("noise: a million Gaussians have the CPU's bits") {
  SKIP_WITHOUT_CUDA;
  for (const DType type : floating)
    check_same(
        {}, {zeros({1'000'000}, {.dtype = type})}, 0,
        [&](const Table& t, const auto&, const auto& out) { t.normal(type, key, 0, 1'000'000, out[0]); });
}

TEST_CASE("noise: any part of a stream is the CPU's") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  for (const DType type : floating)
    for (int repeat = 0; repeat < 40; ++repeat) {
      const std::int64_t n = choice.between(0, 70),
                         first = repeat % 3 == 0 ? (std::int64_t{1} << 32) + repeat : choice.between(0, 9);
      INFO(text_of(type), " [", first, ", ", first + n, ")");
      check_same({}, {zeros({n}, {.dtype = type}), zeros({n}, {.dtype = type})}, 0,
                 [&](const Table& t, const auto&, const auto& out) {
                   t.normal(type, key, first, n, out[0]);
                   t.uniform(type, key, first, n, out[1]);
                 });
    }
}

TEST_CASE("noise: Philox' words, to the bit, through a uniform's 24 and 53 of them") {
  SKIP_WITHOUT_CUDA;
  const std::int64_t n = 100'000;
  const Tensor single = zeros({n}, {.device = Device::cuda()});
  single.backend().uniform(float32, key, 1, n, single.raw());
  const auto found = single.to_vector();
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < n; ++i)
    wrong += found[static_cast<std::size_t>(i)] != static_cast<double>(word_at(key, 1 + i) >> 8) * 0x1p-24;
  CHECK(wrong == 0);
}

TEST_CASE("noise: a key or a range that the counter cannot hold is refused before any kernel") {
  SKIP_WITHOUT_CUDA;
  const Tensor y = zeros({4}, {.device = Device::cuda()});
  const Table& t = y.backend();
  NoiseKey far = key;
  far.draw = std::uint64_t{1} << 32;
  CHECK_ERROR(t.normal(float32, far, 0, 4, y.raw()), ValueError, "draw");
  CHECK_ERROR(t.uniform(float32, key, (std::int64_t{1} << 34) - 2, 4, y.raw()), ValueError, "elements");
  CHECK_ERROR(t.dropout(float32, key, -1, 4, 0.5, y.raw(), y.raw()), ValueError, "elements");
  CHECK_ERROR(t.normal(int64, key, 0, 2, y.raw()), DTypeError, "int64");
}

TEST_CASE("noise: dropout keeps the CPU's elements") {
  SKIP_WITHOUT_CUDA;
  Choice choice(2);
  for (const DType type : floating)
    for (const double p : {0., 0.3, 0.9999, 1.})
      for (const std::int64_t n : {0, 1, 6, 1001})
        check_same({choice.numbers({n}, type)}, {zeros({n}, {.dtype = type})}, 0,
                   [&](const Table& t, const auto& in, const auto& out) {
                     t.dropout(type, key, n % 5, n, p, in[0], out[0]);
                   });
}

TEST_CASE("noise: dropout of arrays that begin within a pack") {
  SKIP_WITHOUT_CUDA;
  Choice choice(6);
  for (const DType type : {float32, float64, bfloat16})
    for (const std::int64_t n : {1, 4, 11, 64})
      for (const std::int64_t begin : {0, 1, 4})
        for (const std::int64_t first : {0, 3, 8}) {
          INFO(text_of(type), ", n = ", n, ", from ", begin, ", element ", first);
          const Tensor x = choice.numbers({n + 9}, type);
          const auto run = [&](Device device) {
            const DType there = type == bfloat16 && !device.is_cuda() ? float32 : type;
            const Tensor from = x.to(there).to(device), y = ones({n + 9}, {there, device});
            const auto offset = begin * static_cast<std::int64_t>(size_of(there));
            y.backend().dropout(there, key, first, n, 0.5, static_cast<std::byte*>(from.raw()) + offset,
                                static_cast<std::byte*>(y.raw()) + offset);
            return y.to(Device::cpu()).to(type);
          };
          CHECK(same_bits(run(Device::cuda()), run(Device::cpu())));
        }
}

TEST_CASE("noise: perturbed parameters have the CPU's bits, whatever the lengths and where they begin") {
  SKIP_WITHOUT_CUDA;
  Choice choice(3);
  for (const DType type : floating)
    for (int repeat = 0; repeat < 30; ++repeat) {
      std::vector<Segment> segments;
      std::int64_t size = 0, rows = 0;
      const auto count = repeat == 0 ? 200 : choice.between(1, 6);  // 200: more than one launch can pass
      for (std::int64_t s = 0; s < count; ++s) {
        const Segment one{size + choice.between(0, 5), choice.between(1, 7),
                          choice.between(1, repeat % 4 ? 9 : 300), rows, static_cast<std::uint32_t>(s + 2)};
        segments.push_back(one);
        size = one.offset + one.rows * one.length;
        rows += one.rows;
      }
      size += 3;
      const bool antithetic = repeat % 2 == 1;
      const std::int64_t replicas = antithetic ? 4 : choice.between(1, 5);
      std::vector<std::int64_t> places;
      for (const Segment& s : segments) places.push_back(replicas * s.offset);
      check_same({choice.numbers({size}, type), abs(choice.numbers({rows}, type))},
                 {zeros({replicas * size}, {.dtype = type})}, 0,
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.perturb(type, segments.data(), places.data(), std::ssize(segments), key, in[0], in[1],
                             replicas, antithetic, type, out[0]);
                 });
      std::vector<backend::NormSegment> norms;  // of each row, and one of the whole for all its rows
      for (const Segment& s : segments)
        norms.push_back(
            antithetic ? backend::NormSegment{s.offset, 1, s.rows * s.length, s.first_scale, s.rows, 1e-3}
                       : backend::NormSegment{s.offset, s.rows, s.length, s.first_scale, 1, 0});
      check_same({choice.numbers({size}, type)}, {zeros({rows}, {.dtype = type})}, tolerance_of(type),
                 [&](const Table& t, const auto& in, const auto& out) {
                   t.filter_norms(type, norms.data(), std::ssize(norms), in[0], 0.3, out[0]);
                 });
    }
}

TEST_CASE(
    "noise: signs and flipped parameters have the CPU's bits, whatever the lengths and where they begin") {
  SKIP_WITHOUT_CUDA;
  Choice choice(5);
  for (const DType type : floating)
    for (int repeat = 0; repeat < 20; ++repeat) {
      const bool mirrored = repeat % 2 == 1;
      const std::int64_t replicas = mirrored ? 4 : choice.between(1, 5),
                         count = repeat == 0 ? 200 : choice.between(1, 6);
      std::vector<Segment> segments;
      std::vector<std::int64_t> places, sign_places;
      std::int64_t size = 0, signs = 0;
      for (std::int64_t s = 0; s < count; ++s) {
        const std::int64_t inputs = choice.between(1, repeat % 4 ? 40 : 300), taps = choice.between(1, 4);
        segments.push_back({size + choice.between(0, 5), choice.between(1, 70), taps * inputs, 0,
                            static_cast<std::uint32_t>(s + 2), inputs});
        const Segment& last = segments.back();
        places.push_back(replicas * last.offset);
        sign_places.push_back(signs);
        size = last.offset + last.rows * last.length;
        signs += replicas * (last.rows + last.inputs);
      }
      check_same({}, {zeros({signs}, {.dtype = type})}, 0, [&](const Table& t, const auto&, const auto& out) {
        t.draw_signs(type, segments.data(), sign_places.data(), count, key, replicas, mirrored, out[0]);
      });
      for (const DType to : {type, bfloat16}) {
        if (to == bfloat16 && type == float64) continue;
        const bool rounded = to == bfloat16;  // the CPU writes float32, which is rounded here
        const Tensor signs_of = sign(choice.numbers({signs}, type));
        const Tensor theta = choice.numbers({size}, type), noise = choice.numbers({size}, type);
        const auto flip = [&](Device device, DType dtype_out) {
          const Tensor y = zeros({replicas * size}, {dtype_out, device});
          y.backend().flip(type, segments.data(), places.data(), sign_places.data(), count,
                           theta.to(device).raw(), noise.to(device).raw(), signs_of.to(device).raw(),
                           replicas, dtype_out, y.raw());
          return y.to(Device::cpu());
        };
        const Tensor here = flip(Device::cpu(), type);
        CHECK(same_bits(flip(Device::cuda(), to), rounded ? here.to(bfloat16) : here));
      }
    }
}

TEST_CASE("noise: without θ, perturb() writes the noise alone") {
  SKIP_WITHOUT_CUDA;
  const Segment segment{0, 3, 7, 0, 2};
  const std::int64_t place = 0;
  for (const DType type : floating)
    check_same({ones({3}, {.dtype = type})}, {zeros({21}, {.dtype = type})}, 0,
               [&](const Table& t, const auto& in, const auto& out) {
                 t.perturb(type, &segment, &place, 1, key, nullptr, in[0], 1, false, type, out[0]);
               });
}

TEST_CASE("noise: filter norms of long rows") {
  SKIP_WITHOUT_CUDA;
  Choice choice(4);
  const backend::NormSegment segments[] = {{0, 2, 10000, 0, 1, 0}, {20000, 1, 1, 2, 1, 0}};
  for (const DType type : floating)
    check_same({choice.numbers({20001}, type)}, {zeros({3}, {.dtype = type})}, 10 * tolerance_of(type),
               [&](const Table& t, const auto& in, const auto& out) {
                 t.filter_norms(type, segments, 2, in[0], 1, out[0]);
               });
}

TEST_CASE("noise: of pre-activations") {
  SKIP_WITHOUT_CUDA;
  Choice choice(5);
  for (const DType type : floating)
    for (const auto& [rows, in, out] :
         {std::array<std::int64_t, 3>{1, 1, 1}, {5, 3, 7}, {3, 784, 10}, {2, 300, 301}, {0, 3, 4}, {4, 0, 3}})
      for (int given = 0; given < 4; ++given) {
        const Tensor sigma = given & 1 ? abs(choice.numbers({out}, type)) : Tensor(),
                     bias = given & 2 ? abs(choice.numbers({1}, type)) : Tensor();
        check_same({choice.numbers({rows, in}, type), sigma, bias},
                   {zeros({rows, out}, {.dtype = type}), zeros({rows, out}, {.dtype = type})},
                   20 * tolerance_of(type), [&](const Table& t, const auto& from, const auto& to) {
                     t.pre_activation_noise(type, rows, in, out, key, 5, from[0], from[1], from[2], to[0],
                                            to[1]);
                   });
        check_same({choice.numbers({rows, in}, type), sigma, bias}, {zeros({rows, out}, {.dtype = type})},
                   20 * tolerance_of(type), [&](const Table& t, const auto& from, const auto& to) {
                     t.pre_activation_noise(type, rows, in, out, key, 5, from[0], from[1], from[2], to[0],
                                            nullptr);
                   });
      }
}
