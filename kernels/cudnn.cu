// Convolutions by cuDNN 9, float32 or bfloat16 in channels last: activations NHWC, filters KRSC, which is
// this library's layout as it stands. The functions used are those of cudnn_cnn.h, which cuDNN 9 calls legacy
// but keeps; its graph interface adds nothing for one convolution (what would need it: bias, activation and
// batch norm in the same kernel, and a gradient of bfloat16 filters in float32). In bfloat16 all three arrays
// are that, and the convolution's own type is float: cuDNN's PSEUDO_BFLOAT16_CONFIG.
//
// Which algorithm: cuDNN's heuristic lists all of them, fastest first. Those are kept that are deterministic
// (unless options.nondeterministic) and whose workspace fits options.convolution_workspace; the first that
// runs stays. The list is made once for each shape.
#include "cudnn.hpp"

#ifdef LPF_HAS_CUDNN
#  include <cudnn.h>

#  include <algorithm>
#  include <array>
#  include <climits>
#  include <map>
#  include <mutex>
#  include <vector>

#  include "device.hpp"
#  include "lpf/backend/cuda/options.hpp"
#  include "memory.hpp"

namespace lpf::cuda {
namespace {

static_assert(CUDNN_MAJOR >= 9, "lpf::cuda needs cuDNN 9");
using backend::Conv2d;

void check_cudnn(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  char more[512] = "";
  cudnnGetLastErrorString(more, sizeof more);
  fail<DeviceError>("cudnn", call, " failed: ", cudnnGetErrorString(status), "; ", more);
}
#  define LPF_CUDNN(call, ...) check_cudnn(call(__VA_ARGS__), #  call)

/// Whether a status says that an algorithm does not do this convolution (rather than that something is
/// wrong).
bool unsupported(cudnnStatus_t status) {
  return CUDNN_STATUS_CATEGORY(status) == static_cast<int>(CUDNN_STATUS_NOT_SUPPORTED);
}

/// A stream with what work on it needs for itself. Made when first used, never destroyed: CUDA may be gone at
/// exit.
struct Lane {
  cudaStream_t stream = nullptr;
  cudnnHandle_t handle = nullptr;
  cudaEvent_t done = nullptr;
};

/// Lane 0 is the stream of everything else.
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
cudnnHandle_t handle() { return lane(0).handle; }

/// While it lives the lanes run side by side, after what was queued before it and before what is queued after
/// it. Events alone: a capture into a graph follows them.
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
  ~Fork() {  // after an error, which is already on its way
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

struct Algorithm {
  int number;  // of its own enumeration
  std::size_t workspace;
};

/// A convolution of one shape: its descriptors, and the algorithms that will do, the best first.
struct Plan {
  cudnnTensorDescriptor_t x = nullptr, y = nullptr;
  cudnnFilterDescriptor_t w = nullptr;
  cudnnConvolutionDescriptor_t convolution = nullptr;
  std::vector<Algorithm> algorithms;
};

void describe(Plan& plan, const Conv2d& c, bool tf32) {
  const auto number = [](std::int64_t value) { return static_cast<int>(value); };
  const int n = number(c.n), k = number(c.k);
  const bool half = c.dtype == DType::bfloat16;
  const cudnnDataType_t type = half ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  LPF_CUDNN(cudnnCreateTensorDescriptor, &plan.x);
  LPF_CUDNN(cudnnCreateTensorDescriptor, &plan.y);
  LPF_CUDNN(cudnnCreateFilterDescriptor, &plan.w);
  LPF_CUDNN(cudnnCreateConvolutionDescriptor, &plan.convolution);
  // Sizes are given in the order n, c, h, w (k, c, h, w of filters) whatever the layout in memory.
  LPF_CUDNN(cudnnSetTensor4dDescriptor, plan.x, CUDNN_TENSOR_NHWC, type, n, number(c.c), number(c.h),
            number(c.w));
  LPF_CUDNN(cudnnSetTensor4dDescriptor, plan.y, CUDNN_TENSOR_NHWC, type, n, k, number(c.p), number(c.q));
  LPF_CUDNN(cudnnSetFilter4dDescriptor, plan.w, type, CUDNN_TENSOR_NHWC, k, number(c.c / c.groups),
            number(c.kh), number(c.kw));
  // CUDNN_CROSS_CORRELATION does not flip the filter; CUDNN_CONVOLUTION would.
  LPF_CUDNN(cudnnSetConvolution2dDescriptor, plan.convolution, number(c.pad_h), number(c.pad_w),
            number(c.stride_h), number(c.stride_w), number(c.dilation_h), number(c.dilation_w),
            CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
  LPF_CUDNN(cudnnSetConvolutionGroupCount, plan.convolution, number(c.groups));
  // Unlike cuBLAS, cuDNN takes TF32 unless told not to: "CUDNN_DEFAULT_MATH permits TF32 Tensor Core
  // operation and CUDNN_FMA_MATH does not". CUDNN_TENSOR_OP_MATH permits them for what is bfloat16 already.
  LPF_CUDNN(cudnnSetConvolutionMathType, plan.convolution,
            half   ? CUDNN_TENSOR_OP_MATH
            : tf32 ? CUDNN_DEFAULT_MATH
                   : CUDNN_FMA_MATH);
}

/// Keeps of the heuristic's answers those that will do. An answer may be for another kind of arithmetic than
/// the descriptor's (they are listed for each kind), so its workspace is asked for again.
template <class Answer, class Size>
void choose(Plan& plan, const std::vector<Answer>& answers, bool nondeterministic, Size workspace_of) {
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(0, options.convolution_workspace));
  for (const Answer& a : answers) {
    if (a.status != CUDNN_STATUS_SUCCESS) continue;
    if (!nondeterministic && a.determinism != CUDNN_DETERMINISTIC) continue;
    const int number = static_cast<int>(a.algo);
    bool known = false;
    for (const Algorithm& one : plan.algorithms) known = known || one.number == number;
    std::size_t bytes = 0;
    if (known || workspace_of(a.algo, &bytes) != CUDNN_STATUS_SUCCESS || bytes > most) continue;
    plan.algorithms.push_back({number, bytes});
  }
}

/// The heuristic's answers: `get` is one of cudnnGetConvolution…Algorithm_v7, `count` its …MaxCount.
template <class Answer, class Count, class Get>
std::vector<Answer> answers_of(Count count, Get get) {
  int most = 0, found = 0;
  check_cudnn(count(handle(), &most), "cudnnGetConvolution…AlgorithmMaxCount");
  std::vector<Answer> answers(static_cast<std::size_t>(most));
  const cudnnStatus_t status = get(most, &found, answers.data());
  if (!unsupported(status)) check_cudnn(status, "cudnnGetConvolution…Algorithm_v7");
  answers.resize(unsupported(status) ? 0 : static_cast<std::size_t>(found));
  return answers;
}

void find_algorithms(Plan& p, Convolution which, bool nondeterministic) {
  const cudnnHandle_t h = handle();
  if (which == Convolution::forward) {
    const auto get = [&](int most, int* found, cudnnConvolutionFwdAlgoPerf_t* answers) {
      return cudnnGetConvolutionForwardAlgorithm_v7(h, p.x, p.w, p.convolution, p.y, most, found, answers);
    };
    const auto size = [&](cudnnConvolutionFwdAlgo_t algorithm, std::size_t* bytes) {
      return cudnnGetConvolutionForwardWorkspaceSize(h, p.x, p.w, p.convolution, p.y, algorithm, bytes);
    };
    const auto count = cudnnGetConvolutionForwardAlgorithmMaxCount;
    return choose(p, answers_of<cudnnConvolutionFwdAlgoPerf_t>(count, get), nondeterministic, size);
  }
  if (which == Convolution::backward_data) {
    const auto get = [&](int most, int* found, cudnnConvolutionBwdDataAlgoPerf_t* answers) {
      return cudnnGetConvolutionBackwardDataAlgorithm_v7(h, p.w, p.y, p.convolution, p.x, most, found,
                                                         answers);
    };
    const auto size = [&](cudnnConvolutionBwdDataAlgo_t algorithm, std::size_t* bytes) {
      return cudnnGetConvolutionBackwardDataWorkspaceSize(h, p.w, p.y, p.convolution, p.x, algorithm, bytes);
    };
    const auto count = cudnnGetConvolutionBackwardDataAlgorithmMaxCount;
    return choose(p, answers_of<cudnnConvolutionBwdDataAlgoPerf_t>(count, get), nondeterministic, size);
  }
  const auto get = [&](int most, int* found, cudnnConvolutionBwdFilterAlgoPerf_t* answers) {
    return cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, p.x, p.y, p.convolution, p.w, most, found,
                                                         answers);
  };
  const auto size = [&](cudnnConvolutionBwdFilterAlgo_t algorithm, std::size_t* bytes) {
    return cudnnGetConvolutionBackwardFilterWorkspaceSize(h, p.x, p.y, p.convolution, p.w, algorithm, bytes);
  };
  const auto count = cudnnGetConvolutionBackwardFilterAlgorithmMaxCount;
  choose(p, answers_of<cudnnConvolutionBwdFilterAlgoPerf_t>(count, get), nondeterministic, size);
}

/// The plan of a shape, made when it is first met.
Plan& plan_of(Convolution which, const Conv2d& c) {
  const bool tf32 = options.tf32, nondeterministic = options.nondeterministic;
  using Key = std::array<std::int64_t, 21>;
  static auto& plans = *new std::map<Key, Plan>;
  const Key key{static_cast<std::int64_t>(which),
                static_cast<std::int64_t>(c.dtype),
                tf32,
                nondeterministic,
                options.convolution_workspace,
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
  if (const auto found = plans.find(key); found != plans.end()) return found->second;
  Plan plan;
  describe(plan, c, tf32);
  find_algorithms(plan, which, nondeterministic);
  return plans.emplace(key, std::move(plan)).first->second;
}

cudnnStatus_t run(const Plan& p, const Algorithm& a, Convolution which, const CudnnCall& call,
                  cudnnHandle_t h, void* workspace) {
  const float one = 1, zero = 0;
  void* const space = a.workspace > 0 ? workspace : nullptr;
  if (which == Convolution::forward)
    return cudnnConvolutionForward(h, &one, p.x, call.x, p.w, call.w, p.convolution,
                                   static_cast<cudnnConvolutionFwdAlgo_t>(a.number), space, a.workspace,
                                   &zero, p.y, call.y);
  if (which == Convolution::backward_data)
    return cudnnConvolutionBackwardData(h, &one, p.w, call.w, p.y, call.y, p.convolution,
                                        static_cast<cudnnConvolutionBwdDataAlgo_t>(a.number), space,
                                        a.workspace, &zero, p.x, call.x);
  return cudnnConvolutionBackwardFilter(h, &one, p.x, call.x, p.y, call.y, p.convolution,
                                        static_cast<cudnnConvolutionBwdFilterAlgo_t>(a.number), space,
                                        a.workspace, &zero, p.w, call.w);
}

/// cuDNN's sizes are ints, and its kernels may index an array with them.
bool fits(const Conv2d& c) {
  const std::int64_t x = c.n * c.h * c.w * c.c, y = c.n * c.p * c.q * c.k, w = c.k * c.kh * c.kw * c.c;
  const std::int64_t steps = std::max({c.stride_h, c.stride_w, c.pad_h, c.pad_w, c.dilation_h, c.dilation_w});
  return std::min({x, y, w}) > 0 && std::max({x, y, w, steps}) <= INT_MAX;
}

}  // namespace

bool cudnn_convolve(Convolution which, const std::vector<CudnnCall>& calls) {
  static std::mutex mutex;  // a handle may be used by one thread at a time
  const std::lock_guard lock(mutex);
  std::vector<Plan*> plans;
  std::size_t bytes = 0;
  for (const CudnnCall& call : calls) {
    if (call.c.dtype == DType::float64 || !fits(call.c)) return false;
    plans.push_back(&plan_of(which, call.c));
    for (const Algorithm& a : plans.back()->algorithms) bytes = std::max(bytes, a.workspace);
  }
  const int lanes = static_cast<int>(
      std::min<std::int64_t>(std::clamp<int>(options.convolution_streams, 1, 8), std::ssize(calls)));
  // Given back when the lanes have been joined: what is queued then comes after them.
  const auto each_lanes = static_cast<std::int64_t>((bytes + 255) / 256 * 256);
  const Scratch<std::byte> workspace(lanes * each_lanes);
  Fork fork(lanes);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const auto number = static_cast<int>(i % static_cast<std::size_t>(lanes));
    for (bool done = false; !done;) {
      auto& algorithms = plans[i]->algorithms;
      if (algorithms.empty()) {
        fork.join();
        return false;
      }
      const cudnnStatus_t status = run(*plans[i], algorithms.front(), which, calls[i], lane(number).handle,
                                       workspace.data() + number * each_lanes);
      done = status == CUDNN_STATUS_SUCCESS;
      if (done) continue;
      if (!unsupported(status)) check_cudnn(status, "a convolution");
      algorithms.erase(algorithms.begin());  // for good
    }
  }
  fork.join();
  return true;
}

}  // namespace lpf::cuda

#else

namespace lpf::cuda {

bool cudnn_convolve(Convolution, const std::vector<CudnnCall>&) { return false; }

}  // namespace lpf::cuda

#endif
