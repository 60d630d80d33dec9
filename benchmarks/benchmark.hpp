// Common code of the benchmarks: a process that does the same work in another library, timings, and output.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <lpf/io/atomic_file.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../apps/program.hpp"

namespace lpf::benchmark {

/// A child process that answers each request line with one line.
class Process {
 public:
  explicit Process(const std::vector<std::string>& command) {
    int to[2], from[2];
    check<IOError>(::pipe2(to, O_CLOEXEC) == 0 && ::pipe2(from, O_CLOEXEC) == 0, "benchmark",
                   "no pipe: ", std::strerror(errno));
    child_ = ::fork();
    check<IOError>(child_ >= 0, "benchmark", "no process: ", std::strerror(errno));
    if (child_ == 0) {
      ::dup2(to[0], 0);
      ::dup2(from[1], 1);
      std::vector<char*> words;
      for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
      words.push_back(nullptr);
      ::execvp(words[0], words.data());
      std::perror(words[0]);
      ::_exit(127);
    }
    ::close(to[0]);
    ::close(from[1]);
    to_ = ::fdopen(to[1], "w");
    from_ = ::fdopen(from[0], "r");
  }
  ~Process() {
    std::fclose(to_);
    std::fclose(from_);
    ::waitpid(child_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void ask(const std::string& line) {
    std::fprintf(to_, "%s\n", line.c_str());
    std::fflush(to_);
  }
  std::string answer() {
    char line[256];
    check<IOError>(std::fgets(line, sizeof line, from_) != nullptr, "benchmark",
                   "a process beside this one ended; try it alone: python3 benchmarks/peer.py");
    std::string text(line);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

 private:
  pid_t child_;
  std::FILE *to_, *from_;
};

/// PyTorch in a child process (peer.py, with these options).
class Peer : public Process {
 public:
  Peer(const std::string& python, const std::vector<std::string>& options)
      : Process(command(python, options)), version_(answer()) {}
  /// The PyTorch peer if a Python interpreter is given, else null.
  static std::unique_ptr<Peer> of(const std::string& python, const std::vector<std::string>& options) {
    return python.empty() ? nullptr : std::make_unique<Peer>(python, options);
  }
  const std::string& version() const { return version_; }
  /// Its numeric answer to a request.
  double number(const std::string& request) {
    ask(request);
    return std::stod(answer());
  }

 private:
  static std::vector<std::string> command(const std::string& python,
                                          const std::vector<std::string>& options) {
    std::vector<std::string> words{python, LPF_PEER_SCRIPT};
    words.insert(words.end(), options.begin(), options.end());
    return words;
  }
  std::string version_;
};

/// The end of the heading: PyTorch's version, if it is timed too.
inline std::string beside(const std::unique_ptr<Peer>& peer) {
  return peer ? concat(", beside PyTorch ", peer->version()) : "";
}

/// Whether milliseconds_of() is the processor time of this process's threads, for a machine that others use too.
inline bool processor_time = false;

/// The duration of f().
inline double milliseconds_of(const std::function<void()>& f) {
  const auto now = [] {
    timespec time{};
    ::clock_gettime(processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
  };
  const double start = now();
  f();
  return now() - start;
}

/// The q-quantile of the timings.
inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

/// Writes all figures to the file of --json, if given.
inline void write_figures(const std::string& path, const nlohmann::json& records) {
  if (!path.empty()) write_file_atomically(path, records.dump(1) + "\n");
}

/// The main() of a benchmark: prints an error as one line.
inline int main_of(const char* name, int (*run)(int, char**), int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
}

}  // namespace lpf::benchmark
