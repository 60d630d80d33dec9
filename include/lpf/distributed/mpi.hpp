// MPI behind the interface of communicator.hpp, for programs that link lpf::mpi (-DLPF_MPI=ON). Collectives are
// started without blocking and polled, so that each has a deadline.
#pragma once

#ifdef LPF_MPI

#  ifndef OMPI_SKIP_MPICXX
#    define OMPI_SKIP_MPICXX 1  // the C++ bindings of old, which MPI has dropped
#  endif
#  ifndef MPICH_SKIP_MPICXX
#    define MPICH_SKIP_MPICXX 1
#  endif
#  include <mpi.h>

#  include <chrono>
#  include <cstdio>
#  include <exception>
#  include <limits>
#  include <thread>

#  include "lpf/distributed/communicator.hpp"

namespace lpf::distributed {

/// The job that mpirun, mpiexec or srun has started. One object a process; it ends MPI in its destructor.
class MPI final : public Communicator {
 public:
  /// `deadline`: seconds that a collective may take, other ranks' delay included.
  explicit MPI(double deadline) : deadline_(deadline) {
    check(deadline > 0, "distributed", "the deadline must be positive, got ", deadline);
    int given = 0;
    succeed("init", MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given));
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm_dup(MPI_COMM_WORLD, &calls_);
    for (const MPI_Comm c : {MPI_COMM_WORLD, calls_}) MPI_Comm_set_errhandler(c, MPI_ERRORS_RETURN);
  }
  /// Left by an exception, the job ends: the other ranks would wait for this one.
  ~MPI() override {
    if (std::uncaught_exceptions() > exceptions_) {
      std::fprintf(stderr, "rank %d: an exception ends the job; distributed::guarded() prints it\n", rank_);
      abort();
    }
    MPI_Finalize();
  }
  MPI(const MPI&) = delete;
  MPI& operator=(const MPI&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
    int length = 0;
    MPI_Get_library_version(text, &length);
    const std::string all(text, static_cast<std::size_t>(length));
    std::string first = all.substr(0, all.find_first_of(",\n"));
    std::replace(first.begin(), first.end(), '\t', ' ');
    return first;
  }

  void all_reduce(std::span<float> x) override { sum(x, MPI_FLOAT); }
  void all_reduce(std::span<double> x) override { sum(x, MPI_DOUBLE); }
  void all_to_all(std::span<const std::byte> from, std::span<std::byte> to) override {
    const std::size_t block = from.size() / static_cast<std::size_t>(size_);
    count_blocks(block);
    in_words("all_to_all", block, [&](int count, MPI_Datatype type) {
      MPI_Request request = MPI_REQUEST_NULL;
      succeed("all_to_all",
              MPI_Ialltoall(from.data(), count, type, to.data(), count, type, MPI_COMM_WORLD, &request));
      wait("all_to_all", request, from.size());
    });
  }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    count_blocks(mine.size());
    in_words("all_gather", mine.size(), [&](int count, MPI_Datatype type) {
      MPI_Request request = MPI_REQUEST_NULL;
      succeed("all_gather",
              MPI_Iallgather(mine.data(), count, type, all.data(), count, type, MPI_COMM_WORLD, &request));
      wait("all_gather", request, all.size());
    });
  }
  void broadcast(std::span<std::byte> x, int root) override {
    for (std::size_t at = 0; at < x.size(); at += piece) {
      MPI_Request request = MPI_REQUEST_NULL;
      succeed("broadcast", MPI_Ibcast(x.data() + at, static_cast<int>(std::min(piece, x.size() - at)),
                                      MPI_BYTE, root, MPI_COMM_WORLD, &request));
      wait("broadcast", request, std::min(piece, x.size() - at));
    }
  }
  void barrier() override {
    MPI_Request request = MPI_REQUEST_NULL;
    succeed("barrier", MPI_Ibarrier(MPI_COMM_WORLD, &request));
    wait("barrier", request);
  }
  [[noreturn]] void abort() noexcept override {
    MPI_Abort(MPI_COMM_WORLD, 1);
    std::_Exit(1);
  }
  void answer(const char* operation) override { answer_calls(operation); }
  std::string missing(const char* operation) override { return roll_call(operation); }

 private:
  static constexpr std::size_t piece = 1 << 26;  // bytes of one call
  static constexpr std::int64_t burst = 32;      // calls of MPI_Test between pauses
  static constexpr int call_tag = 1, answer_tag = 2;
  struct Answer {
    char operation[32];
  };

  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  static void succeed(const char* operation, int code) {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(code, text, &length);
    fail<CommunicationError>(operation, "MPI reports: ", text);
  }

  template <class T>
  void sum(std::span<T> x, MPI_Datatype type) {
    constexpr std::size_t longest = piece / sizeof(T);
    count_reduced(x.size_bytes());
    for (std::size_t at = 0; at < x.size(); at += longest) {
      MPI_Request request = MPI_REQUEST_NULL;
      succeed("all_reduce",
              MPI_Iallreduce(MPI_IN_PLACE, x.data() + at, static_cast<int>(std::min(longest, x.size() - at)),
                             type, MPI_SUM, MPI_COMM_WORLD, &request));
      wait("all_reduce", request, sizeof(T) * std::min(longest, x.size() - at));
    }
  }
  /// Calls f with the block as numbers of eight bytes, if it is long, since MPI counts by int.
  template <class F>
  static void in_words(const char* operation, std::size_t block, F f) {
    const bool words = block % 8 == 0;
    const std::size_t count = words ? block / 8 : block;
    check(count <= static_cast<std::size_t>(std::numeric_limits<int>::max()), operation, "a block of ", block,
          " bytes is more than MPI can count");
    f(static_cast<int>(count), words ? MPI_UINT64_T : MPI_BYTE);
  }

  /// Waits for a collective in which this rank moves `bytes`: asks again and again, since a transfer proceeds only in
  /// these calls, for as long as it might take; later with pauses, so that where there are more ranks than cores the
  /// others get on.
  void wait(const char* operation, MPI_Request& request, std::size_t bytes = 0) {
    check<StateError>(!failed_, operation, "a collective before this one has failed");
    const double begin = now(), busy = 1e-3 + 50e-9 * static_cast<double>(bytes);
    for (std::int64_t calls = 1;; ++calls) {
      int done = 0;
      succeed(operation, MPI_Test(&request, &done, MPI_STATUS_IGNORE));
      const double waited = now() - begin;
      if (done) {
        seconds_ += waited;
        return;
      }
      if (waited > deadline_) timed_out(operation, waited);
      if (calls % burst != 0) continue;
      answer_calls(operation);
      if (waited < busy) {
        std::this_thread::yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(waited < 0.1 ? 20 : 200));
      }
    }
  }

  /// Answers other ranks that have lost patience: this one lives, and waits in `operation`.
  void answer_calls(const char* operation) {
    for (;;) {
      int there = 0;
      MPI_Status status;
      succeed(operation, MPI_Iprobe(MPI_ANY_SOURCE, call_tag, calls_, &there, &status));
      if (!there) return;
      succeed(operation,
              MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, call_tag, calls_, MPI_STATUS_IGNORE));
      Answer answer{};
      std::string(operation).copy(answer.operation, sizeof answer.operation - 1);
      send(status.MPI_SOURCE, answer_tag, &answer, sizeof answer);
    }
  }
  /// A message so short that MPI takes it at once.
  void send(int to, int tag, const void* data, std::size_t size) {
    MPI_Request request = MPI_REQUEST_NULL;
    succeed("send", MPI_Isend(data, static_cast<int>(size), MPI_BYTE, to, tag, calls_, &request));
    int done = 0;
    for (const double begin = now(); !done && now() - begin < 0.1;)
      succeed("send", MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    if (!done) MPI_Request_free(&request);
  }

  [[noreturn]] void timed_out(const char* operation, double waited) {
    failed_ = true;
    fail<CommunicationError>(operation, "rank ", rank_, " has waited ", waited, " s, the deadline is ",
                             deadline_, " s: ", roll_call(operation));
  }
  /// The ranks that do not answer, and what others wait in.
  std::string roll_call(const char* operation) {
    std::vector<std::string> found(static_cast<std::size_t>(size_));
    found[static_cast<std::size_t>(rank_)] = operation;
    for (int p = 0; p < size_; ++p)
      if (p != rank_) send(p, call_tag, nullptr, 0);
    for (const double begin = now(); now() - begin < 2;) {
      answer_calls(operation);
      int there = 0;
      MPI_Status status;
      succeed(operation, MPI_Iprobe(MPI_ANY_SOURCE, answer_tag, calls_, &there, &status));
      if (there) {
        Answer answer{};
        succeed(operation, MPI_Recv(&answer, sizeof answer, MPI_BYTE, status.MPI_SOURCE, answer_tag, calls_,
                                    MPI_STATUS_IGNORE));
        answer.operation[sizeof answer.operation - 1] = 0;
        found[static_cast<std::size_t>(status.MPI_SOURCE)] = answer.operation;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    std::string silent, elsewhere;
    for (int p = 0; p < size_; ++p) {
      const std::string& at = found[static_cast<std::size_t>(p)];
      if (at.empty()) silent += concat(silent.empty() ? "" : ", ", "rank ", p);
      if (!at.empty() && at != operation) elsewhere += concat(", rank ", p, " is in ", at);
    }
    return (silent.empty() ? std::string("all ranks answer, but it is not complete")
                           : silent + " does not answer (stopped, killed, or still computing)") +
           elsewhere;
  }

  double deadline_;
  bool failed_ = false;  // a request is left, and its buffer may be gone
  int rank_ = 0, size_ = 1, exceptions_ = std::uncaught_exceptions();
  MPI_Comm calls_ = MPI_COMM_NULL;  // for questions among the ranks, apart from the collectives
};

}  // namespace lpf::distributed

#endif
