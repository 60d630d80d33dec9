#include "lpf/report/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

using namespace lpf;

namespace {

// An unused file name; the file is removed at the end.
class File {
 public:
  explicit File(const std::string& extension) {
    std::string folder = "/tmp/lpf-log-XXXXXX";
    REQUIRE(::mkdtemp(folder.data()));
    folder_ = folder;
    path_ = folder + "/log" + extension;
  }
  ~File() {
    ::unlink(path_.c_str());
    ::rmdir(folder_.c_str());
  }
  const std::string& path() const { return path_; }
  std::string text() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }

 private:
  std::string folder_, path_;
};

constexpr double quiet_nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("values have the fewest digits that read back") {
  CHECK(MetricValue(0.1).text() == "0.1");
  CHECK(MetricValue(0.1f).text() == "0.1");
  CHECK(MetricValue(1.0 / 3).text() == "0.3333333333333333");
  CHECK(MetricValue(1e-300).text() == "1e-300");
  CHECK(MetricValue(5.0).text() == "5");
  CHECK(MetricValue(-3).text() == "-3");
  CHECK(MetricValue(std::numeric_limits<std::uint64_t>::max()).text() == "18446744073709551615");
  CHECK(MetricValue(true).text() == "true");
  CHECK(MetricValue(quiet_nan).text().empty());
  CHECK(MetricValue(-infinity).text().empty());
  CHECK(MetricValue("x").is_text());
  for (const double v : {M_PI, 4.9e-324, 1.7976931348623157e308, -0.0}) {
    const double back = std::strtod(MetricValue(v).text().c_str(), nullptr);
    CHECK((back == v && std::signbit(back) == std::signbit(v)));
  }
}

TEST_CASE("a CSV log: header, quoting, gaps") {
  const File file(".csv");
  {
    MetricLog log(file.path());
    log.write({{"epoch", 1}, {"loss", 0.5}, {"a, \"b\"", "SGD"}});
    CHECK(file.text() == "epoch,loss,\"a, \"\"b\"\"\"\n1,0.5,SGD\n");  // flushed at once
    log.write({{"epoch", 2}, {"loss", quiet_nan}, {"a, \"b\"", "say \"hi\", or\nnot"}});
    log.write({{"loss", infinity}, {"a, \"b\"", ""}, {"epoch", 3}});
    CHECK(log.size() == 3);
    log.close();
    log.close();
    CHECK_THROWS_AS(log.write({{"epoch", 1}}), StateError);
  }
  CHECK(file.text() == "epoch,loss,\"a, \"\"b\"\"\"\n1,0.5,SGD\n2,,\"say \"\"hi\"\", or\nnot\"\n3,,\n");
}

TEST_CASE("a JSONL log: escapes, null") {
  const File file(".jsonl");
  MetricLog log(file.path());
  log.write({{"epoch", 1}, {"loss", quiet_nan}, {"no\"te", "a\\b \"c\"\n\t\x01 λ \xFF"}, {"ok", true}});
  CHECK(file.text() ==
        "{\"epoch\":1,\"loss\":null,\"no\\\"te\":\"a\\\\b \\\"c\\\"\\n\\t\\u0001 λ "
        "\xEF\xBF\xBD\",\"ok\":true}\n");
}

TEST_CASE("a JSONL log: numbers read back to the same value") {
  const File file(".jsonl");
  const double doubles[] = {0.1,  1.0 / 3, M_PI, 4.9e-324, 1.7976931348623157e308, 1e22, 123456789012345680.0,
                            1e-7, 5.0,     -2.5, 100000.0};
  {
    MetricLog log(file.path());
    for (const double v : doubles) log.write({{"v", v}});
    log.write({{"v", 0.1f}});  // with a float's digits
    log.write({{"v", std::numeric_limits<std::uint64_t>::max()}});
    log.write({{"v", std::numeric_limits<std::int64_t>::min()}});
    log.write({{"v", -infinity}});
    log.write({{"v", std::numeric_limits<long double>::max()}});  // no double holds it
  }
  std::ifstream lines(file.path());
  std::string line;
  const auto next = [&] {
    std::getline(lines, line);
    return nlohmann::json::parse(line).at("v");
  };
  for (const double v : doubles) CHECK(next().get<double>() == v);
  CHECK(next().get<double>() == 0.1);
  CHECK(next().get<std::uint64_t>() == std::numeric_limits<std::uint64_t>::max());
  CHECK(next().get<std::int64_t>() == std::numeric_limits<std::int64_t>::min());
  CHECK(next().is_null());
  CHECK(next().is_null());
}

TEST_CASE("a JSONL log that was written with spaces, or by hand, is continued") {
  const File file(".jsonl");
  file.put("{\"epoch\": 1, \"no\\\"te \\u00e9\": \"a\", \"list\": [{\"x\": 1}]}\n");
  MetricLog log(file.path(), {.append = true});
  CHECK(log.size() == 1);
  log.write({{"list", 2}, {"no\"te é", "b"}, {"epoch", 2}});
  CHECK(file.text().ends_with("}\n{\"epoch\":2,\"no\\\"te é\":\"b\",\"list\":2}\n"));
  CHECK_THROWS_AS(log.write({{"list", 2}, {"x", "b"}, {"epoch", 2}}), StateError);
}

TEST_CASE("records must have the columns of the first") {
  for (const char* extension : {".csv", ".jsonl"}) {
    const File file(extension);
    MetricLog log(file.path());
    CHECK_THROWS_AS(log.write({}), ValueError);
    CHECK_THROWS_AS(log.write({{"a", 1}, {"a", 2}}), ValueError);
    CHECK_THROWS_AS(log.write({{"", 1}}), ValueError);
    log.write({{"a", 1}, {"b", 2}});
    const std::string before = file.text();
    CHECK_THROWS_AS(log.write({{"a", 1}}), StateError);
    CHECK_THROWS_AS(log.write({{"a", 1}, {"c", 2}}), StateError);
    CHECK_THROWS_AS(log.write({{"a", 1}, {"a", 2}}), StateError);
    CHECK_THROWS_AS(log.write({{"a", 1}, {"b", 2}, {"c", 3}}), StateError);
    CHECK(file.text() == before);
    log.write({{"b", 4}, {"a", 3}});
    CHECK(log.size() == 2);
  }
  const File file(".csv");
  MetricLog log(file.path());
  log.write({{"a", 1}, {"b", 2}});
  CHECK_THROWS_WITH_AS(
      log.write({{"a", 1}, {"c", 2}}),
      "[MetricLog] a record has the columns (a, c), the first one had (a, b): give every record "
      "the same ones",
      StateError);
}

TEST_CASE("a CSV with one column has no empty lines") {
  const File file(".csv");
  MetricLog log(file.path());
  log.write({{"loss", quiet_nan}});
  CHECK(file.text() == "loss\n\"\"\n");
}

TEST_CASE("resuming cuts a torn line, wherever it was torn") {
  const Record one{{"name", "x\n\"y\", z"}, {"loss", 0.25}}, two{{"name", "w\n"}, {"loss", 0.125}};
  for (const char* extension : {".csv", ".jsonl"}) {
    CAPTURE(extension);
    std::string whole;
    std::size_t first = 0;  // length after the first record
    {
      const File file(extension);
      MetricLog log(file.path());
      log.write(one);
      first = file.text().size();
      log.write(two);
      whole = file.text();
    }
    for (std::size_t length = 0; length <= whole.size(); ++length) {
      const File file(extension);
      file.put(whole.substr(0, length));
      MetricLog log(file.path(), {.append = true});
      CHECK(log.size() == (length == whole.size() ? 2 : length >= first ? 1 : 0));
      if (log.size() < 1) log.write(one);
      if (log.size() < 2) log.write(two);
      CHECK(file.text() == whole);
      CHECK_THROWS_AS(log.write({{"other", 1}, {"loss", 1}}), StateError);
    }
  }
}

TEST_CASE("resuming keeps the records that a checkpoint knows") {
  for (const char* extension : {".csv", ".jsonl"}) {
    const File file(extension);
    std::string at_two;
    {
      MetricLog log(file.path());
      for (int i = 0; i < 4; ++i) {
        log.write({{"epoch", i}, {"note", "a\nb"}});
        if (i == 1) at_two = file.text();
      }
    }
    {
      MetricLog log(file.path(), {.append = true, .keep = 2});
      CHECK(log.size() == 2);
      CHECK(file.text() == at_two);
      CHECK_THROWS_AS(log.write({{"epoch", 2}}), StateError);
    }
    CHECK(MetricLog(file.path(), {.append = true, .keep = 0}).size() == 0);
    CHECK(MetricLog(file.path(), {.append = true}).size() == 0);
    MetricLog(file.path()).write({{"other", 1}});  // without append the file is overwritten
    CHECK(file.text().find("epoch") == std::string::npos);
  }
}

TEST_CASE("a file that is no such log") {
  const File file(".jsonl");
  file.put("hello\n");
  CHECK_THROWS_AS(MetricLog(file.path(), {.append = true}), FormatError);
  CHECK(file.text() == "hello\n");
  for (const char* other : {"[1]\n", "{}\n", "{\"a\": 1\n", "\n"}) {
    file.put(other);
    CHECK_THROWS_AS(MetricLog(file.path(), {.append = true}), FormatError);
  }
  CHECK_THROWS_AS(MetricLog("/tmp/lpf.txt"), ValueError);
  CHECK_THROWS_AS(MetricLog("/tmp/no such folder/x.csv"), IOError);
}

TEST_CASE("a header with CRLF, as a spreadsheet writes it") {
  const File file(".csv");
  file.put("a,b\r\n1,2\r\n");
  MetricLog log(file.path(), {.append = true});
  log.write({{"a", 3}, {"b", 4}});
  CHECK(file.text() == "a,b\r\n1,2\r\n3,4\n");
}

TEST_CASE("a disk that is full leaves whole records") {
  const File file(".csv");
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100, 100};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    MetricLog log(file.path());
    try {
      log.write({{"text", std::string(200, 'x')}});  // not even the first one fits
    } catch (const IOError&) {
      if (log.size() != 0 || !file.text().empty()) ::_exit(2);
    }
    try {
      for (;;) log.write({{"note", "0123456789"}});
    } catch (const IOError& error) {
      const bool words =
          std::string(error.what()).find(file.path() + "': File too large") != std::string::npos;
      ::_exit(words && log.size() == 8 ? 0 : 3);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(file.text().size() == 5 + 8 * 11);
  const File device(".csv");
  REQUIRE(::symlink("/dev/full", device.path().c_str()) == 0);
  MetricLog log(device.path(), {.append = true});
  CHECK_THROWS_AS(log.write({{"a", 1}}), IOError);
}

TEST_CASE("an incomplete line that cannot be cut is not continued") {
  const pid_t child = ::fork();
  if (child == 0) {
    // A file in memory that cannot become shorter, so that the line cannot be cut.
    const int memory = ::memfd_create("log", MFD_ALLOW_SEALING);
    if (memory < 0 || ::fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) != 0) ::_exit(77);
    const File link(".csv");
    if (::symlink(("/proc/self/fd/" + std::to_string(memory)).c_str(), link.path().c_str()) != 0) ::_exit(77);
    std::signal(SIGXFSZ, SIG_IGN);
    const auto limit_to = [](rlim_t bytes) {
      rlimit limit{};
      ::getrlimit(RLIMIT_FSIZE, &limit);
      limit.rlim_cur = std::min(bytes, limit.rlim_max);
      ::setrlimit(RLIMIT_FSIZE, &limit);
    };
    const auto fails = [](auto f) {
      try {
        f();
      } catch (const IOError&) { return true; }
      return false;
    };
    const std::string path = link.path();
    MetricLog log(path, {.append = true});
    log.write({{"note", "0123456789"}});
    limit_to(20);
    const bool first = fails([&] { log.write({{"note", "0123456789"}}); });
    limit_to(RLIM_INFINITY);
    const bool second = fails([&] { log.write({{"note", "0123456789"}}); });
    const std::string text = link.text();
    ::_exit(first && second && log.size() == 1 && text == "note\n0123456789\n0123" ? 0 : 3);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WEXITSTATUS(status) != 77) CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("lists of records") {
  const File json(".json"), csv(".csv");
  const std::vector<Record> records{{{"optimizer", "SGD"}, {"error", 10.4}},
                                    {{"error", quiet_nan}, {"optimizer", "SAM"}}};
  write_json_records(json.path(), records);
  CHECK(json.text() ==
        "[\n  {\"optimizer\":\"SGD\",\"error\":10.4},\n  {\"optimizer\":\"SAM\",\"error\":null}\n]\n");
  write_csv_records(csv.path(), records);
  CHECK(csv.text() == "optimizer,error\nSGD,10.4\nSAM,\n");
  const std::vector<Record> mixed{{{"a", 1}}, {{"b", 1}}};
  CHECK_THROWS_AS(write_json_records(json.path(), mixed), StateError);
  CHECK_THROWS_AS(write_csv_records(csv.path(), mixed), StateError);
  CHECK(csv.text() == "optimizer,error\nSGD,10.4\nSAM,\n");  // the old file is unchanged
  write_json_records(json.path(), {});
  CHECK(json.text() == "[]\n");
  write_csv_records(csv.path(), {});
  CHECK(csv.text().empty());
  CHECK_THROWS_AS(write_json_records("/tmp/no such folder/x.json", records), IOError);
}
