// A stand-in for NCCL whose ranks are threads of one process. Calls return ncclInProgress, as those of a communicator that
// does not block, and a collective is done when the last rank has called it. Ranks that call different collectives get
// ncclInvalidUsage.
#include "nccl_stand_in.hpp"

#include <nccl.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#ifdef LPF_CUDA_EMULATED
#  include "emulated/arena.hpp"
#endif

namespace stand_in {

inline std::size_t size_of(ncclDataType_t type) { return type == ncclInt8 ? 1 : type == ncclFloat32 ? 4 : 8; }

/// One message of a call: from this rank to `peer`, or to it.
struct Message {
  int peer;
  const void* from;
  void* to;
  std::size_t bytes;
};
struct Call {
  std::string name;  // with count, type and root: the same on all ranks
  std::size_t count = 0;
  ncclDataType_t type = ncclInt8;
  int root = 0;
  const void* from = nullptr;
  void* to = nullptr;
  std::vector<Message> sent, received;
};

/// The ranks of a communicator.
struct Group {
  explicit Group(int ranks) : calls(static_cast<std::size_t>(ranks)) {}
  std::mutex mutex;
  std::vector<std::unique_ptr<Call>> calls;  // of each rank, the one under way
  std::size_t members = 0;
  std::size_t rounds = 0;  // collectives that are done
  ncclResult_t error = ncclSuccess;
};

inline std::mutex groups_mutex;
inline std::map<std::string, std::shared_ptr<Group>> groups;
inline std::atomic<int> open_ones{0};
inline thread_local bool grouping = false, fails = false;
inline thread_local std::unique_ptr<Call> grouped;  // the messages of this thread's group
inline thread_local ncclComm_t grouped_on = nullptr;

template <class T>
void add_all(const std::vector<std::unique_ptr<Call>>& calls) {
  const std::size_t n = calls[0]->count;
  std::vector<T> sum(n, T(0));
  for (const auto& c : calls)
    for (std::size_t i = 0; i < n; ++i) sum[i] += static_cast<const T*>(c->from)[i];
  for (const auto& c : calls) std::memcpy(c->to, sum.data(), n * sizeof(T));
}

/// Moves the data of a collective that all ranks have called.
inline ncclResult_t perform(const std::vector<std::unique_ptr<Call>>& calls) {
  for (const auto& c : calls)
    if (c->name != calls[0]->name) return ncclInvalidUsage;
#ifdef LPF_CUDA_EMULATED
  const lpf::cuda::Access access;
#endif
  const Call& first = *calls[0];
  const std::size_t bytes = first.count * size_of(first.type);
  if (first.name.starts_with("all-reduce")) {
    first.type == ncclFloat32 ? add_all<float>(calls) : add_all<double>(calls);
  } else if (first.name.starts_with("all-gather")) {
    for (const auto& to : calls)
      for (std::size_t p = 0; p < calls.size(); ++p)
        std::memmove(static_cast<char*>(to->to) + p * bytes, calls[p]->from, bytes);
  } else if (first.name.starts_with("broadcast")) {
    for (const auto& to : calls)
      std::memmove(to->to, calls[static_cast<std::size_t>(first.root)]->from, bytes);
  } else {
    for (std::size_t p = 0; p < calls.size(); ++p)
      for (const Message& in : calls[p]->received) {
        const auto& all = calls[static_cast<std::size_t>(in.peer)]->sent;
        const auto out = std::find_if(all.begin(), all.end(),
                                      [&](const Message& m) { return m.peer == static_cast<int>(p); });
        if (out == all.end() || out->bytes != in.bytes) return ncclInvalidUsage;
        std::memmove(in.to, out->from, in.bytes);
      }
  }
  return ncclSuccess;
}

}  // namespace stand_in

struct ncclComm {
  std::shared_ptr<stand_in::Group> group;
  std::size_t rank;
  std::size_t round = 0;  // collectives that this rank has called
};

namespace stand_in {

inline ncclResult_t submit(ncclComm_t comm, std::unique_ptr<Call> call) {
  if (std::exchange(fails, false)) return ncclSystemError;
  Group& group = *comm->group;
  const std::lock_guard lock(group.mutex);
  if (group.calls[comm->rank]) return ncclInvalidUsage;  // the one before is not done
  group.calls[comm->rank] = std::move(call);
  ++comm->round;
  for (const auto& c : group.calls)
    if (!c) return ncclInProgress;
  const ncclResult_t found = perform(group.calls);
  if (found != ncclSuccess) group.error = found;
  for (auto& c : group.calls) c.reset();
  ++group.rounds;
  return ncclInProgress;
}

inline std::unique_ptr<Call> call_of(const std::string& name, const void* from, void* to, std::size_t count,
                                     ncclDataType_t type, int root = 0) {
  auto out = std::make_unique<Call>();
  out->name = name + " of " + std::to_string(count) + " numbers " + std::to_string(type) + " root " +
              std::to_string(root);
  out->from = from, out->to = to, out->count = count, out->type = type, out->root = root;
  return out;
}

}  // namespace stand_in

using namespace stand_in;

extern "C" {

ncclResult_t ncclGetVersion(int* version) { return *version = 22304, ncclSuccess; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> last{0};
  *id = {};
  const std::string text = "group " + std::to_string(++last);
  text.copy(id->internal, sizeof id->internal - 1);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  const std::lock_guard lock(groups_mutex);
  auto& group = groups[id.internal];
  if (!group) group = std::make_shared<Group>(ranks);
  const std::lock_guard inner(group->mutex);
  ++group->members;
  *comm = new ncclComm{group, static_cast<std::size_t>(rank)};
  ++open_ones;
  return ncclInProgress;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    const std::lock_guard lock(comm->group->mutex);
    comm->group->calls[comm->rank].reset();
  }
  delete comm;
  --open_ones;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  Group& group = *comm->group;
  const std::lock_guard lock(group.mutex);
  const bool waits = group.members < group.calls.size() || comm->round > group.rounds;
  *state = group.error != ncclSuccess ? group.error : waits ? ncclInProgress : ncclSuccess;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclInvalidUsage  ? "invalid usage"
         : result == ncclSystemError ? "unhandled system error"
                                     : "error";
}
const char* ncclGetLastError(ncclComm_t) { return "of the stand-in"; }
ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t) {
  return submit(comm, call_of("all-reduce", from, to, count, type));
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t) {
  return submit(comm, call_of("all-gather", from, to, count, type));
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t) {
  return submit(comm, call_of("broadcast", from, to, count, type, root));
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t) {
  if (!grouping) return ncclInvalidUsage;
  grouped->sent.push_back({peer, from, nullptr, count * size_of(type)});
  grouped_on = comm;
  return ncclSuccess;
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t) {
  if (!grouping) return ncclInvalidUsage;
  grouped->received.push_back({peer, nullptr, to, count * size_of(type)});
  grouped_on = comm;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  grouping = true;
  grouped = std::make_unique<Call>();
  grouped->name = "messages";
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  grouping = false;
  return submit(grouped_on, std::move(grouped));
}

}  // extern "C"

namespace lpf::test {

int open_communicators() { return open_ones; }
void fail_next_collective() { fails = true; }

}  // namespace lpf::test
