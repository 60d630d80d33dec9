// The device: errors, memory, copies.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "availability.hpp"
#include "caching_allocator.hpp"
#include "compare.hpp"
#include "kernel_groups.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

const cuda::Machine good{
    .driver = 13000, .runtime = 13000, .devices = 2, .says = "", .major = 9, .minor = 0, .name = "GPU"};

}  // namespace

TEST_CASE("device: why a GPU cannot be used is said in words of its own") {
  CHECK_NOTHROW(cuda::check_usable(0, good));
  cuda::Machine m = good;
  m.driver = 0;
  CHECK_ERROR(cuda::check_usable(0, m), DeviceError, "cuda:0", "no NVIDIA driver", "nvidia-smi");
  m.driver = 12080;
  CHECK_ERROR(cuda::check_usable(0, m), DeviceError, "serves CUDA 12.8", "built with CUDA 13.0",
              "update the driver");
  m = good;
  m.devices = 0;
  CHECK_ERROR(cuda::check_usable(0, m), DeviceError, "no GPU", "CUDA_VISIBLE_DEVICES");
  m.says = "busy";
  CHECK_ERROR(cuda::check_usable(0, m), DeviceError, "busy");
  m = good;
  CHECK_ERROR(cuda::check_usable(2, m), DeviceError, "cuda:2", "2 GPUs");
  CHECK_ERROR(cuda::check_usable(-1, m), DeviceError, "2 GPUs");
  CHECK_ERROR(cuda::check_usable(1, m), DeviceError, "CUDA_VISIBLE_DEVICES=1");
  m.major = 7;
  m.minor = 0;
  m.name = "Tesla V100";
  CHECK_ERROR(cuda::check_usable(0, m), DeviceError, "Tesla V100", "7.0", "7.5");
}

TEST_CASE("device: an entry that is missing is an error, not a crash") {
  backend::Table table{};
  cuda::detail::miss<&backend::Table::gemm>(table, "gemm");
  CHECK_ERROR(table.gemm({}), DeviceError, "no gemm");
}

TEST_CASE("device: every entry of the table is there") {
  SKIP_WITHOUT_CUDA;
  const backend::Table& t = backend::get(Device::cuda());
  CHECK(t.version == backend::contract_version);
  CHECK(std::string(t.name).starts_with("cuda"));
  const auto* entry = reinterpret_cast<const std::uintptr_t*>(&t.allocate);
  for (; entry < reinterpret_cast<const std::uintptr_t*>(&t.gemm_replicas); ++entry) CHECK(*entry != 0);
}

TEST_CASE("device: an index that is not there") {
  SKIP_WITHOUT_CUDA;
  CHECK(Device::cuda().to_string() == "cuda:0");
  CHECK_ERROR(Device::cuda(77), DeviceError, "cuda:77");
  CHECK_ERROR(zeros({2}, {.device = {DeviceType::cuda, -1}}), DeviceError, "cuda:-1");
}

TEST_CASE("device: memory is counted, kept for its size, and given back when asked") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const backend::Table& t = backend::get(gpu);
  t.release_cache();
  const auto before = t.memory_stats();
  const void* first = nullptr;
  {
    const Tensor x = empty({1 << 20}, {.device = gpu});
    first = x.raw();
    const auto during = t.memory_stats();
    CHECK(during.in_use >= before.in_use + (4u << 20));
    CHECK(during.in_use <= before.in_use + (5u << 20));
    CHECK(during.peak >= during.in_use);
    CHECK(during.system_allocations == before.system_allocations + 1);
  }
  CHECK(t.memory_stats().cached >= (4u << 20));
  CHECK(empty({1 << 20}, {.device = gpu}).raw() == first);
  CHECK(t.memory_stats().system_allocations == before.system_allocations + 1);
  t.reset_peak();
  CHECK(t.memory_stats().peak == before.in_use);
  t.release_cache();
  CHECK(t.memory_stats().cached == 0);
}

TEST_CASE("device: out of memory is an error, after which the device works") {
  SKIP_WITHOUT_CUDA;
  const Device gpu = Device::cuda();
  const Tensor cached = zeros({1000}, {.device = gpu});
  CHECK_ERROR(empty({std::int64_t{1} << 45}, {.device = gpu}), OutOfMemoryError, "out of memory on cuda:0");
  CHECK(sum(add(cached, ones({1000}, {.device = gpu}))).item() == 1000);
}

TEST_CASE("device: a block that the system does not take back is lost, not given back again") {
  static int asked = 0;
  cuda::CachingAllocator allocator({[](std::size_t bytes) { return ::operator new(bytes); },
                                    [](void* block, std::size_t) {
                                      ::operator delete(block);
                                      if (++asked == 1) throw std::runtime_error("no");
                                    },
                                    [](std::size_t, const backend::MemoryStats&) {}});
  void *one = allocator.allocate(100), *two = allocator.allocate(1000);
  allocator.deallocate(one, 100);
  allocator.deallocate(two, 1000);
  CHECK_THROWS(allocator.release_cache());
  allocator.release_cache();
  CHECK(asked == 2);
  CHECK(allocator.stats().cached == 0);
}

TEST_CASE("device: copies there and back keep the bits; blocks are aligned and do not overlap") {
  SKIP_WITHOUT_CUDA;
  Choice choice(1);
  const Device gpu = Device::cuda();
  std::vector<Tensor> here, there;
  for (const DType type : all_dtypes)
    for (const std::int64_t n : {0, 1, 3, 64, 65, 1000, 70000}) {
      here.push_back(choice.numbers({n}, type));
      there.push_back(here.back().to(gpu));
      CHECK(there.back().device() == gpu);
      CHECK(reinterpret_cast<std::uintptr_t>(there.back().raw()) % 64 == 0);
    }
  for (std::size_t i = 0; i < here.size(); ++i) {
    CHECK(same_bits(there[i].to(Device::cpu()), here[i]));
    CHECK(same_bits(there[i].clone().to(Device::cpu()), here[i]));
  }
}

TEST_CASE("device: what is on it is no array of the host's") {
  SKIP_WITHOUT_CUDA;
  const Tensor x = ones({3}, {.device = Device::cuda()});
  CHECK_ERROR(x.data<float>(), DeviceError, "cuda:0", ".to(Device::cpu())");
  CHECK_ERROR(add(x, ones({3})), DeviceError);
#ifdef LPF_CUDA_EMULATED
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);  // without the handlers of doctest and sanitizers
    _exit(static_cast<const volatile float*>(x.raw())[0] == 1 ? 42 : 43);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK_FALSE((WIFEXITED(status) && WEXITSTATUS(status) >= 42));
#endif
}

TEST_CASE("device: threads of the user's own may use it together") {
  SKIP_WITHOUT_CUDA;
  std::vector<std::thread> threads;
  std::vector<double> found(4);
  for (std::size_t i = 0; i < found.size(); ++i)
    threads.emplace_back([i, &found] {
      Tensor x = zeros({500}, {.device = Device::cuda()});
      for (int k = 0; k < 200; ++k) x = affine(x, 1, static_cast<double>(i + 1));
      found[i] = sum(x).item();
    });
  for (auto& t : threads) t.join();
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == 500. * 200 * static_cast<double>(i + 1));
}

TEST_CASE("device: small arrays of the host's reach kernels whatever their size") {
  SKIP_WITHOUT_CUDA;  // through filter_norms, which uploads its segments: 300 of them are four launches
  std::vector<backend::NormSegment> segments;
  for (int i = 0; i < 300; ++i) segments.push_back({i, 1, 1, i, 1, 0});
  const Tensor theta = arange(300).to(float32).to(Device::cuda()),
               norms = zeros({300}, {.device = Device::cuda()});
  theta.backend().filter_norms(float32, segments.data(), 300, theta.raw(), 1, norms.raw());
  CHECK(same_bits(norms.to(Device::cpu()), theta.to(Device::cpu())));
}
