// NCCL behind the interface of communicator.hpp, between GPUs, for programs that link lpf::nccl (-DLPF_NCCL=ON). Its vectors
// are in the memory of this process's GPU. MPI exchanges NCCL's id, carries what is on the CPU, and tells which ranks are
// missing when a collective has not ended by the deadline.
//
//   const auto world = distributed::init();
//   distributed::use_gpus(*world);               // each process its GPU; before the first use of Device::cuda()
//   ParameterStore params({.device = Device::cuda()});
//   distributed::DataParallel parallel(*world, params, {.replicas = 8});
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "lpf/distributed/communicator.hpp"

#ifdef LPF_NCCL

#  include <nccl.h>

#  include <chrono>
#  include <thread>

#  include "lpf/backend/backend.hpp"
#  include "lpf/backend/cuda/queue.hpp"

#endif

namespace lpf::distributed {

/// Which of this machine's processes this one is, from the launcher's environment; 0 without one.
inline int local_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"})
    if (const char* text = std::getenv(name)) return std::atoi(text);
  return 0;
}

/// What CUDA_VISIBLE_DEVICES should be, so that the processes of a machine use different GPUs: the one with this number, of
/// those in `visible`, what that variable is (null: all). One GPU alone was chosen by the launcher.
/// @throws DeviceError if `visible` has fewer.
inline std::string gpu_for(int number, const char* visible) {
  if (!visible) return std::to_string(number);
  std::vector<std::string> all;
  const std::string text = visible;
  for (std::size_t at = 0, end; at <= text.size(); at = end + 1) {
    end = std::min(text.find(',', at), text.size());
    all.push_back(text.substr(at, end - at));
  }
  if (all.size() == 1) return all[0];
  const auto n = static_cast<std::size_t>(number);
  check<DeviceError>(n < all.size(), "distributed", "process ", number,
                     " of this machine, counted from 0, has no GPU: ", "CUDA_VISIBLE_DEVICES is ", text,
                     ", and each process needs one of its own");
  return all[n];
}

#ifdef LPF_NCCL

class NCCL final : public Communicator {
 public:
  /// All ranks of `host` at once, each with a GPU of its own. `host` must outlive it.
  NCCL(Communicator& host, double deadline) : host_(host), deadline_(deadline) {
    check(deadline > 0, "distributed", "the deadline must be positive, got ", deadline);
    backend::get(Device::cuda());  // opens the GPU
    ncclUniqueId id{};
    if (rank() == 0) succeed("init", ncclGetUniqueId(&id));
    host_.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;  // calls return at once, and are polled
    const ncclResult_t begun = ncclCommInitRankConfig(&comm_, size(), id, rank(), &config);
    succeed("init", begun);
  }
  ~NCCL() override {
    if (comm_) ncclCommAbort(comm_);  // nothing is under way: collectives are waited for
  }
  NCCL(const NCCL&) = delete;
  NCCL& operator=(const NCCL&) = delete;

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  std::string name() const override {
    int version = 0;
    ncclGetVersion(&version);
    return concat("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
  }

  void all_reduce(std::span<float> x) override { sum(x, ncclFloat32); }
  void all_reduce(std::span<double> x) override { sum(x, ncclFloat64); }
  void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) override {
    const std::size_t block = from.size() / static_cast<std::size_t>(size());
    count_blocks(block);
    queue("all_to_all", [&] {
      ncclResult_t last = ncclGroupStart();
      for (int p = 0; p < size(); ++p) {
        const std::size_t at = static_cast<std::size_t>(p) * block;
        keep_error(last, ncclSend(from.data() + at, block, ncclInt8, p, comm_, stream()));
        keep_error(last, ncclRecv(to.data() + at, block, ncclInt8, p, comm_, stream()));
      }
      keep_error(last, ncclGroupEnd());
      return last;
    });
  }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    count_blocks(mine.size());
    queue("all_gather",
          [&] { return ncclAllGather(mine.data(), all.data(), mine.size(), ncclInt8, comm_, stream()); });
  }
  void broadcast(std::span<std::byte> x, int root) override {
    queue("broadcast",
          [&] { return ncclBroadcast(x.data(), x.data(), x.size(), ncclInt8, root, comm_, stream()); });
  }
  void barrier() override { host_.barrier(); }
  [[noreturn]] void abort() noexcept override {
    host_.abort();
    std::_Exit(1);
  }

 private:
  static cudaStream_t stream() { return static_cast<cudaStream_t>(cuda::queue()); }
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  static void keep_error(ncclResult_t& kept, ncclResult_t next) {
    if (kept == ncclSuccess || kept == ncclInProgress) kept = next;
  }
  template <class T>
  void sum(std::span<T> x, ncclDataType_t type) {
    count_reduced(x.size_bytes());
    queue("all_reduce",
          [&] { return ncclAllReduce(x.data(), x.data(), x.size(), type, ncclSum, comm_, stream()); });
  }

  /// Queues a collective, and waits until the GPU has done it.
  template <class F>
  void queue(const char* operation, F f) {
    check<StateError>(comm_ != nullptr, operation, "a collective before this one has failed");
    const double begin = now();
    succeed(operation, f());
    poll(operation, begin, [] { return cuda::queue_is_done(); });
    seconds_ += now() - begin;
  }
  /// Waits until NCCL has taken a call.
  void succeed(const char* operation, ncclResult_t result) {
    if (result == ncclInProgress)
      poll(operation, now(), [&] {
        check<StateError>(ncclCommGetAsyncError(comm_, &result) == ncclSuccess, operation,
                          "NCCL's state is unknown");
        return result != ncclInProgress;
      });
    if (result == ncclSuccess) return;
    const std::string says = concat(ncclGetErrorString(result), ": ", ncclGetLastError(comm_));
    give_up();
    fail<CommunicationError>(operation, "NCCL reports: ", says);
  }
  template <class Done>
  void poll(const char* operation, double begin, Done done) {
    while (!done()) {
      host_.answer(operation);
      const double waited = now() - begin;
      if (waited > deadline_) {
        give_up();  // kernels of NCCL that wait on the GPU end
        fail<CommunicationError>(operation, "rank ", rank(), " has waited ", waited, " s, the deadline is ",
                                 deadline_, " s: ", host_.missing(operation));
      }
      ncclResult_t state = ncclSuccess;
      if (ncclCommGetAsyncError(comm_, &state) != ncclSuccess ||
          (state != ncclSuccess && state != ncclInProgress)) {
        give_up();
        fail<CommunicationError>(operation, "NCCL reports: ", ncclGetErrorString(state), ", on rank ",
                                 rank());
      }
      if (waited < 1e-3)
        std::this_thread::yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
  void give_up() noexcept {
    if (comm_) ncclCommAbort(comm_);
    comm_ = nullptr;
  }

  Communicator& host_;
  double deadline_;
  ncclComm_t comm_ = nullptr;
};

/// Gives each process of a machine a GPU of its own (CUDA_VISIBLE_DEVICES), and connects them by NCCL: world.on(Device::cuda()).
/// To be called before the first use of Device::cuda(). Does nothing in a job of one process.
inline void use_gpus(Communicator& world, double deadline = 600) {
  if (world.size() == 1) return;
  ::setenv("CUDA_VISIBLE_DEVICES", gpu_for(local_rank(), std::getenv("CUDA_VISIBLE_DEVICES")).c_str(), 1);
  world.attach(std::make_unique<NCCL>(world, deadline));
}

#else

inline void use_gpus(Communicator& world, double = 600) {
  check<StateError>(
      world.size() == 1, "distributed",
      "several processes train on GPUs by NCCL, and the program was built without it: configure with "
      "-DLPF_NCCL=ON");
}

#endif

}  // namespace lpf::distributed
