// Numbers are written and read in one form, whatever the locale of the user's program: here one with a decimal comma.
#include <clocale>
#include <cstdlib>

#include "lpf/experiment/history.hpp"
#include "lpf/ops/print.hpp"
#include "tensor_test.hpp"

using namespace lpf;
using namespace lpf::test;

namespace {

/// Sets a locale with a decimal comma during its lifetime; makes it with localedef where the system has none.
struct CommaLocale {
  TempDir folder;
  std::string before = std::setlocale(LC_ALL, nullptr);
  bool set = std::setlocale(LC_ALL, "de_DE.UTF-8") != nullptr;

  CommaLocale() {
    if (set) return;
    const std::string make = concat("localedef -i de_DE -f UTF-8 ", (folder / "de_DE.UTF-8").string());
    if (std::system((make + " >/dev/null 2>&1").c_str()) != 0) return;
    ::setenv("LOCPATH", folder.path().c_str(), 1);
    set = std::setlocale(LC_ALL, "de_DE.UTF-8") != nullptr;
    ::unsetenv("LOCPATH");
  }
  ~CommaLocale() { std::setlocale(LC_ALL, before.c_str()); }
};

}  // namespace

TEST_CASE("locale: messages, tensors, settings, logs and JSON have a decimal point under a decimal comma") {
  const CommaLocale comma;
  if (!comma.set) return skip("no locale with a decimal comma, and no localedef to make one");
  char text[8];
  std::snprintf(text, sizeof text, "%.1f", 0.5);
  REQUIRE(std::string(text) == "0,5");

  CHECK(concat("lr ", 0.25, ", ", 1e-7f, ", ", -1.0 / 3) == "lr 0.25, 1e-07, -0.333333");
  const std::string printed = tensor({1.5, -0.25}).to_string() + tensor({1e-9, 2.5e9}).to_string();
  CHECK(printed.find(',') == printed.find(", "));
  CHECK(printed.find("1.5000") != std::string::npos);
  CHECK(printed.find("2.5000e+09") != std::string::npos);
  CHECK(format_fixed(1.25, 2) == "1.25");
  CHECK(format_general(0.001) == "0.001");
  CHECK(MetricValue(0.5).text() == "0.5");
  CHECK(detail::json_text(detail::json_of(0.5)) == "0.5");

  experiment::Settings s;
  experiment::set(s, "lr", "0.125");
  CHECK(s.lr == 0.125);
  CHECK_ERROR(experiment::set(s, "lr", "0,125"), ValueError, "needs a number");
  const TempDir dir;
  const std::string config = (dir / "config.json").string(), log = (dir / "log.jsonl").string();
  experiment::write_config(config, s);
  CHECK(experiment::differences(experiment::read_config(config), s).empty());
  experiment::Epoch e;
  e.epoch = 1, e.lr = 0.0625, e.test_loss = 1.0 / 3;
  MetricLog(log).write(experiment::record_of(e));
  CHECK(experiment::read_history(log).at(0).lr == 0.0625);
  CHECK(experiment::read_history(log).at(0).test_loss == 1.0 / 3);
}
