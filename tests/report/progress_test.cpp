#include "lpf/report/progress.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>

#include "lpf_test.hpp"

using namespace lpf;

namespace {

double now = 0;
double test_clock() { return now; }

// A stream that is not a terminal.
class Sink {
 public:
  Sink() : file_(std::tmpfile()) { now = 100; }
  ~Sink() { std::fclose(file_); }
  std::FILE* file() { return file_; }
  std::string text() {
    std::rewind(file_);
    std::string out;
    for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_)) out += static_cast<char>(c);
    return out;
  }

 private:
  std::FILE* file_;
};

// A real terminal of 60 columns; read() returns what was written to it.
class Terminal {
 public:
  Terminal() {
    now = 100;
    master_ = ::posix_openpt(O_RDWR | O_NOCTTY);
    if (master_ < 0 || ::grantpt(master_) != 0 || ::unlockpt(master_) != 0) return;
    const winsize size{24, 60, 0, 0};
    ::ioctl(master_, TIOCSWINSZ, &size);
    file_ = std::fopen(::ptsname(master_), "w");
    ::fcntl(master_, F_SETFL, O_NONBLOCK);
  }
  ~Terminal() {
    if (file_) std::fclose(file_);
    if (master_ >= 0) ::close(master_);
  }
  std::FILE* file() { return file_; }
  std::string read() {
    std::string out;
    char buffer[4096];
    for (ssize_t n; (n = ::read(master_, buffer, sizeof buffer)) > 0;)
      out.append(buffer, static_cast<std::size_t>(n));
    return out;
  }

 private:
  int master_ = -1;
  std::FILE* file_ = nullptr;
};

// Sets an environment variable, and restores the old value.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Environment() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t n = 0;
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

}  // namespace

TEST_CASE("durations") {
  CHECK(format_duration(0) == "0 s");
  CHECK(format_duration(59.4) == "59 s");
  CHECK(format_duration(59.6) == "1 min 00 s");
  CHECK(format_duration(185) == "3 min 05 s");
  CHECK(format_duration(2 * 3600 + 7 * 60) == "2 h 07 min");
  CHECK(format_duration(-1) == "?");
  CHECK(format_duration(NAN) == "?");
  CHECK(format_duration(std::numeric_limits<double>::infinity()) == "?");
}

TEST_CASE("elsewhere than on a terminal: lines, as rare as asked for") {
  Sink sink;
  {
    ProgressBar progress(100, {.label = "SGD", .stream = sink.file(), .clock = test_clock});
    for (std::size_t i = 1; i <= 100; ++i) {
      now += 1;  // 10 % take 10 s: the fraction decides
      progress.update(i, 1.0 / static_cast<double>(i));
    }
  }
  const std::string text = sink.text();
  CHECK(count(text, "\n") == 10);
  CHECK(text.starts_with("SGD: 10 %, loss 0.1, 1 min 30 s left\nSGD: 20 %, loss 0.05, 1 min 20 s left\n"));
  CHECK(text.ends_with("SGD: 90 %, loss 0.01111, 10 s left\nSGD: 100 %, loss 0.01, in 1 min 40 s\n"));
  CHECK(text.find('\r') == text.npos);
  CHECK(text.find('\x1b') == text.npos);
}

TEST_CASE("lines of a fast loop are 5 s apart, those of a short one are one") {
  Sink fast;
  {
    ProgressBar progress(1000, {.stream = fast.file(), .clock = test_clock});
    for (std::size_t i = 1; i <= 1000; ++i) {
      now += 0.012;  // 10 % take 1.2 s: the 5 s rule decides
      progress.update(i);
    }
  }
  CHECK(count(fast.text(), "\n") == 3);
  Sink brief;
  {
    ProgressBar progress(1000000, {.stream = brief.file(), .clock = test_clock});
    for (std::size_t i = 1; i <= 1000000; ++i) progress.update(i);
  }
  CHECK(brief.text() == "100 %, in 0 s\n");
}

TEST_CASE("a total of 0, none done, more than all done") {
  Sink sink;
  {
    ProgressBar progress(0, {.label = "search", .stream = sink.file(), .clock = test_clock});
    for (std::size_t i = 1; i <= 12; ++i) {
      now += 1;
      progress.update(i, 0.5);
    }
  }
  CHECK(sink.text() ==
        "search: 5, loss 0.5, 5 s\nsearch: 10, loss 0.5, 10 s\nsearch: 12, loss 0.5, in 12 s\n");
  Sink none;
  { ProgressBar progress(7, {.stream = none.file(), .clock = test_clock}); }
  CHECK(none.text() == "0 %, in 0 s\n");
  Sink more;
  {
    ProgressBar progress(7, {.stream = more.file(), .clock = test_clock});
    progress.update(9);
  }
  CHECK(more.text() == "100 %, in 0 s\n");
}

TEST_CASE("a loop that stops early does not claim 100 %, and a NaN loss is shown") {
  Sink sink;
  {
    ProgressBar progress(1000, {.stream = sink.file(), .clock = test_clock});
    progress.update(999, NAN);
    progress.finish();
    progress.finish();
    progress.update(1000);
  }
  CHECK(sink.text() == "99 %, loss nan, in 0 s\n");
}

TEST_CASE("a resumed loop times only its own steps") {
  Sink sink;
  {
    ProgressBar progress(100, {.start = 50, .stream = sink.file(), .clock = test_clock});
    now += 10;
    progress.update(60);
  }
  CHECK(sink.text() == "60 %, 40 s left\n60 %, in 10 s\n");
}

TEST_CASE("style none prints nothing") {
  Sink sink;
  {
    ProgressBar progress(3, {.stream = sink.file(), .style = ProgressStyle::none, .clock = test_clock});
    now += 60;
    progress.update(3);
  }
  CHECK(sink.text().empty());
}

TEST_CASE("on a terminal: one line, ten times a second at most, a fresh line at the end") {
  const Environment term("TERM", "xterm"), color("NO_COLOR", nullptr), locale("LC_ALL", "C.UTF-8");
  Terminal terminal;
  if (!terminal.file()) return lpf::test::skip("no pseudo-terminal can be opened here");
  std::string text;
  {
    ProgressBar progress(1000, {.label = "LPF-SGD", .stream = terminal.file(), .clock = test_clock});
    for (std::size_t i = 1; i <= 1000; ++i) {
      now += 0.001;
      progress.update(i, 0.25);
      text += terminal.read();
    }
  }
  text += terminal.read();
  CHECK(count(text, "\r") >= 10);
  CHECK(count(text, "LPF-SGD") <= 13);
  CHECK(count(text, "\n") == 1);
  CHECK(text.ends_with("100 %  loss 0.25  in 1 s\x1b[K\r\n"));
  CHECK(text.find("█") != text.npos);
  CHECK(text.find("\x1b[36m") != text.npos);
  // No drawing is wider than the line.
  for (std::size_t start = 0, end; (end = text.find("\x1b[K", start)) != text.npos; start = end + 3) {
    std::string drawn = text.substr(text.find('\r', start) + 1, end - text.find('\r', start) - 1);
    for (std::size_t esc; (esc = drawn.find('\x1b')) != drawn.npos;)
      drawn.erase(esc, drawn.find('m', esc) + 1 - esc);
    CHECK(display_width(drawn) <= 59);
    CHECK(display_width(drawn) >= 50);
  }
}

TEST_CASE("NO_COLOR is honoured, unless it is empty") {
  const Environment term("TERM", "xterm"), locale("LC_ALL", "C.UTF-8");
  for (const char* value : {"1", ""}) {
    const Environment color("NO_COLOR", value);
    Terminal terminal;
    if (!terminal.file()) return lpf::test::skip("no pseudo-terminal can be opened here");
    { const ProgressBar progress(2, {.stream = terminal.file(), .clock = test_clock}); }
    const std::string text = terminal.read();
    CHECK(text.find("░") != text.npos);
    CHECK((text.find("\x1b[90m") == text.npos) == (*value != 0));
  }
}

TEST_CASE("another character set, and a label that is too long") {
  const Environment term("TERM", "xterm"), locale("LC_ALL", "C");
  Terminal terminal;
  if (!terminal.file()) return lpf::test::skip("no pseudo-terminal can be opened here");
  {
    ProgressBar progress(2, {.label = "SGD", .stream = terminal.file(), .clock = test_clock});
    progress.update(1);
  }
  const std::string text = terminal.read();
  CHECK(text.find("\x1b[3") == text.npos);
  CHECK(text.find("[==============              ]") != text.npos);
  {
    ProgressBar progress(2, {.label = std::string(200, 'x'), .stream = terminal.file(), .clock = test_clock});
  }
  CHECK(count(terminal.read(), "x") == 2 * 59);
}

TEST_CASE("a line of its own above the bar") {
  const Environment term("TERM", "xterm");
  Terminal terminal;
  if (!terminal.file()) return lpf::test::skip("no pseudo-terminal can be opened here");
  ProgressBar progress(2, {.label = "SGD", .stream = terminal.file(), .clock = test_clock});
  terminal.read();
  progress.print("seed 0: 4.8 %");
  CHECK(terminal.read().starts_with("\r\x1b[Kseed 0: 4.8 %\r\n\rSGD"));
}

TEST_CASE("TERM=dumb gets lines, though it is a terminal") {
  const Environment term("TERM", "dumb");
  Terminal terminal;
  if (!terminal.file()) return lpf::test::skip("no pseudo-terminal can be opened here");
  { ProgressBar progress(2, {.stream = terminal.file(), .clock = test_clock}); }
  CHECK(terminal.read() == "0 %, in 0 s\r\n");
}

TEST_CASE("a stream that cannot be written does not stop the loop") {
  std::FILE* full = std::fopen("/dev/full", "w");
  REQUIRE(full);
  {
    ProgressBar progress(2, {.stream = full, .style = ProgressStyle::bar, .clock = test_clock});
    progress.update(2);
  }
  std::fclose(full);
}
