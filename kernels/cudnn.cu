// Convolutions by cuDNN 9, float32 or bfloat16 in channels last: activations NHWC, filters KRSC, which are
// this library's layouts. cudnn_plan.hpp chooses plans; here they are cached by shape and run. A gradient of
// bfloat16 filters is bfloat16: for float32, cuDNN 9.19 proposes nothing.
#include "cudnn.hpp"

#ifdef LPF_HAS_CUDNN
#  include <array>
#  include <climits>
#  include <limits>
#  include <map>
#  include <mutex>

#  include "capture.hpp"
#  include "cudnn_plan.hpp"
#  include "device.hpp"
#  include "lpf/backend/cuda/options.hpp"
#  include "memory.hpp"

namespace lpf::cuda {
namespace {

using backend::Conv2d;

/// A stream with its own cuDNN handle and event. Created on first use, never
/// destroyed: CUDA may be gone at exit.
struct Lane {
  cudaStream_t stream = nullptr;
  cudnnHandle_t handle = nullptr;
  cudaEvent_t done = nullptr;
};

/// Lane 0 is the main stream.
Lane& lane(int number) {
  static Lane lanes[8];
  Lane& one = lanes[number];
  if (one.handle) return one;
  one.stream = stream();
  if (number > 0)
    check_status(cudaStreamCreateWithFlags(&one.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  check_status(cudaEventCreateWithFlags(&one.done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  cudnnHandle_t handle = nullptr;
  LPF_CUDNN(cudnnCreate, &handle);
  LPF_CUDNN(cudnnSetStream, handle, one.stream);
  one.handle = handle;
  return one;
}

/// During its lifetime the lanes run concurrently, after the work queued before it and before the work queued
/// after it. Uses only events, which a graph capture follows.
class Fork {
 public:
  explicit Fork(int lanes) : lanes_(lanes) {
    if (lanes_ == 1) return;
    check_status(cudaEventRecord(lane(0).done, stream()), "cudaEventRecord");
    for (int i = 1; i < lanes_; ++i)
      check_status(cudaStreamWaitEvent(lane(i).stream, lane(0).done, 0), "cudaStreamWaitEvent");
  }
  void join() {
    for (; lanes_ > 1; --lanes_) {
      const Lane& one = lane(lanes_ - 1);
      check_status(cudaEventRecord(one.done, one.stream), "cudaEventRecord");
      check_status(cudaStreamWaitEvent(stream(), one.done, 0), "cudaStreamWaitEvent");
    }
  }
  ~Fork() {  // after an error, which is already propagating
    for (; lanes_ > 1; --lanes_) {
      const Lane& one = lane(lanes_ - 1);
      cudaEventRecord(one.done, one.stream);
      cudaStreamWaitEvent(stream(), one.done, 0);
    }
  }
  Fork(const Fork&) = delete;
  Fork& operator=(const Fork&) = delete;

 private:
  int lanes_;
};

/// Queues a call; the status tells whether the plan supports it.
cudnnStatus_t run(const Plan& plan, const CudnnCall& call, cudnnHandle_t handle, void* workspace) {
  Descriptor arrays(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  arrays.set<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, {plan_x, plan_w, plan_y});
  arrays.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, {call.x, call.w, call.y});
  arrays.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, {plan.workspace > 0 ? workspace : nullptr}).finalize();
  return cudnnBackendExecute(handle, plan.descriptor.raw(), arrays.raw());
}

/// The median of three runs of a plan, in seconds; infinite if it does not run.
double seconds_of(const Plan& plan, const CudnnCall& call) {
  const Scratch<std::byte> workspace(plan.workspace);
  cudaEvent_t begin = nullptr, end = nullptr;
  check_status(cudaEventCreate(&begin), "cudaEventCreate");
  check_status(cudaEventCreate(&end), "cudaEventCreate");
  std::array<double, 4> seconds;  // the first run does not count: it loads the kernels
  for (double& s : seconds) {
    check_status(cudaEventRecord(begin, stream()), "cudaEventRecord");
    const bool runs = run(plan, call, lane(0).handle, workspace.data()) == CUDNN_STATUS_SUCCESS;
    check_status(cudaEventRecord(end, stream()), "cudaEventRecord");
    check_status(cudaEventSynchronize(end), "cudaEventSynchronize");
    float ms = 0;
    check_status(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
    s = runs ? ms / 1e3 : std::numeric_limits<double>::infinity();
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(seconds.begin() + 1, seconds.end());
  return seconds[2];
}

/// The largest power of 2, at most 16, that divides the addresses of all three arrays.
std::int64_t alignment_of(const CudnnCall& call) {
  const auto place = [](void* p) { return reinterpret_cast<std::uintptr_t>(p); };
  const std::uintptr_t bits = place(call.x) | place(call.w) | place(call.y) | 16;
  return static_cast<std::int64_t>(bits & (~bits + 1));
}

/// The proposals for a shape, requested at its first use.
Proposals& proposals_for(Convolution which, const CudnnCall& call) {
  const PlanLimits limits{options.tf32, options.nondeterministic, options.convolution_workspace};
  const bool tune = options.tune_convolutions && !capturing;
  const Conv2d& c = call.c;
  using Key = std::array<std::int64_t, 23>;
  static auto& known = *new std::map<Key, Proposals>;
  const Key key{static_cast<std::int64_t>(which),
                static_cast<std::int64_t>(c.dtype),
                limits.tf32,
                limits.nondeterministic,
                limits.most_workspace,
                options.tune_convolutions,
                alignment_of(call),
                c.n,
                c.h,
                c.w,
                c.c,
                c.k,
                c.kh,
                c.kw,
                c.p,
                c.q,
                c.stride_h,
                c.stride_w,
                c.pad_h,
                c.pad_w,
                c.dilation_h,
                c.dilation_w,
                c.groups};
  if (const auto found = known.find(key); found != known.end()) return found->second;
  static const auto& device = *new Descriptor(describe_device(lane(0).handle));
  Proposals proposals(convolution_graph(which, c, alignment_of(call)), device, c.dtype, limits);
  constexpr std::size_t most = 8;
  if (tune) proposals.use_fastest(most, [&](const Plan& plan) { return seconds_of(plan, call); });
  return known.emplace(key, std::move(proposals)).first->second;
}

/// True if cuDNN's kernels can index the arrays with int.
bool fits(const Conv2d& c) {
  const std::int64_t x = c.n * c.h * c.w * c.c, y = c.n * c.p * c.q * c.k, w = c.k * c.kh * c.kw * c.c;
  return std::min({x, y, w}) > 0 && std::max({x, y, w}) <= INT_MAX;
}

}  // namespace

bool cudnn_convolve(Convolution which, const std::vector<CudnnCall>& calls) {
  stream();                 // waits for another thread's capture, which may need the lock
  static std::mutex mutex;  // a handle may be used by one thread at a time
  const std::lock_guard lock(mutex);
  std::vector<Proposals*> proposals;
  std::int64_t bytes = 0;
  const auto ready = [&](std::size_t i) {
    const Plan* const plan = proposals[i]->plan();
    if (plan) bytes = std::max(bytes, (plan->workspace + 255) / 256 * 256);
    return plan != nullptr;
  };
  for (const CudnnCall& call : calls) {
    if (call.c.dtype == DType::float64 || !fits(call.c)) return false;
    proposals.push_back(&proposals_for(which, call));
    if (!ready(proposals.size() - 1)) return false;
  }
  const int lanes = static_cast<int>(
      std::min<std::int64_t>(std::clamp<int>(options.convolution_streams, 1, 8), std::ssize(calls)));
  for (std::size_t done = 0; done < calls.size();) {
    // A lane's workspace is freed after the lanes are joined: later work is queued after them.
    const std::int64_t each_lanes = bytes;
    const Scratch<std::byte> workspace(lanes * each_lanes);
    Fork fork(lanes);
    while (done < calls.size()) {
      const Plan& plan = *proposals[done]->plan();
      if (plan.workspace > each_lanes) break;  // another plan than at the allocation of the workspace
      const int number = static_cast<int>(done) % lanes;
      const cudnnStatus_t status =
          run(plan, calls[done], lane(number).handle, workspace.data() + number * each_lanes);
      if (status == CUDNN_STATUS_SUCCESS) {
        ++done;
        continue;
      }
      if (!unsupported(status)) check_cudnn(status, "cudnnBackendExecute");
      proposals[done]->next();
      if (!ready(done)) {
        fork.join();
        return false;
      }
    }
    fork.join();
  }
  return true;
}

}  // namespace lpf::cuda

#else

namespace lpf::cuda {

bool cudnn_convolve(Convolution, const std::vector<CudnnCall>&) { return false; }

}  // namespace lpf::cuda

#endif
