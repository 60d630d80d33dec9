// main() of every test program. In addition to doctest's options:
//   --reporters=ctest --list-test-cases   writes the test cases as ctest's commands (tests/CMakeLists.txt)
// With LPF_TEST_DEVICE=cuda new tensors are on the CUDA device: the same tests on the other
// backend. In a build without lpf::cuda that is the emulated device (kernels/emulated), which only
// these programs, test_cuda and test_apps have. Exits with 0 on success, 1 if a check failed or no test case
// was run, 77 if all were skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#include "lpf_test.hpp"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <set>
#include <string_view>

#include "lpf/backend/backend.hpp"
#ifdef LPF_CUDA_EMULATED
#  include "emulated/arena.hpp"
#endif

/// Under the address sanitizer, memory that the system does not have is no memory, as without it; its default is to end
/// the program.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace {

constexpr int exit_skipped = 77;

std::filesystem::path program;
bool skip_called = false;
unsigned cases_run = 0;
unsigned cases_skipped = 0;

/// Counts the test cases that were skipped.
struct SkipCounter : doctest::IReporter {
  explicit SkipCounter(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData&) override { skip_called = false; }
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    ++cases_run;
    if (skip_called && stats.numAssertsCurrentTest == 0 && stats.failure_flags == 0) ++cases_skipped;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

/// Writes each test case as a test of ctest, labelled with its program, and with "slow"
/// if its name contains "[slow]".
struct CTestReporter : SkipCounter {
  explicit CTestReporter(const doctest::ContextOptions& options) : SkipCounter(options), out(*options.cout) {}

  void report_query(const doctest::QueryData& query) override {
    const std::string area = program.stem().string().substr(std::string("test_").size());
    std::set<std::string> names;
    for (unsigned i = 0; i < query.num_data; ++i) {
      const std::string name = query.data[i]->m_name;
      if (!names.insert(name).second) {
        std::cerr << "two test cases are named \"" << name << "\": rename one\n";
        std::exit(1);
      }
      std::string filter;  // doctest splits its filters at unescaped commas
      for (const char c : name) filter += c == ',' || c == '\\' ? std::string{'\\', c} : std::string{c};
      const std::string test = quote(area + ": " + name);
      out << "add_test(" << test << ' ' << quote(program.string()) << ' ' << quote("--test-case=" + filter)
          << " --case-sensitive)\n"
          << "set_tests_properties(" << test << " PROPERTIES SKIP_RETURN_CODE " << exit_skipped
          << " TIMEOUT 300 LABELS \"" << area << (name.find("[slow]") != name.npos ? ";slow" : "") << "\""
          << " ENVIRONMENT \"OMP_NUM_THREADS=2;OMP_WAIT_POLICY=passive\")\n";
    }
  }

  static std::string quote(const std::string& text) { return "[====[" + text + "]====]"; }

  std::ostream& out;
};

REGISTER_LISTENER("skips", 1, SkipCounter);
REGISTER_REPORTER("ctest", 1, CTestReporter);

}  // namespace

namespace lpf::test {

void skip(const std::string& reason) {
  skip_called = true;
  std::cout << "skipped: " << reason << std::endl;
}

TempDir::TempDir() {
  static std::atomic<unsigned> count{0};
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  const std::string name = "lpf-test-" + std::to_string(now) + "-" + std::to_string(count++);
  path_ = std::filesystem::temp_directory_path() / name;
  std::filesystem::create_directory(path_);
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace lpf::test

int main(int argc, char** argv) {
  program = std::filesystem::absolute(argv[0]);
  const char* device = std::getenv("LPF_TEST_DEVICE");
  const bool on_cuda = device && std::string_view(device) == "cuda";
#ifdef LPF_CUDA_EMULATED
  if (on_cuda || program.stem() == "test_cuda" || program.stem() == "test_apps")
    lpf::cuda::register_emulated();
#endif
  if (on_cuda) {
    if (!lpf::cuda_is_available()) {
      std::cout << "skipped: no CUDA device" << std::endl;
      return exit_skipped;
    }
    lpf::set_default_device(lpf::Device::cuda());
  }
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit() || result != 0) return result;
  if (cases_run == 0) {
    std::cerr << "no test case has that name\n";
    return 1;
  }
  return cases_skipped == cases_run ? exit_skipped : 0;
}
