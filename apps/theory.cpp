// The theory of LPF-SGD, run: each closed form and bound beside what is measured. docs/theory.md derives them and
// reports the results.
//
//   theory                          all five experiments: tables, and pictures and numbers in out/theory
//   theory --only stability         one of them
//   theory --quick                  all of them at a small size, in seconds
#include <cstdio>
#include <lpf/io/output_folder.hpp>
#include <lpf/report/progress.hpp>
#include <lpf/report/report.hpp>

#include "program.hpp"
#include "theory/estimators.hpp"
#include "theory/landscape.hpp"
#include "theory/nonsmooth.hpp"
#include "theory/smoothness.hpp"
#include "theory/stability.hpp"

namespace {

using namespace lpf;

struct Experiment {
  std::string name;
  theory::Section (*run)(const theory::Settings&);
  std::size_t steps, quick_steps;
};
const std::vector<Experiment> experiments{{"smoothness", theory::smoothness, 38, 10},
                                          {"landscape", theory::landscape, 8, 8},
                                          {"estimators", theory::estimators, 6, 6},
                                          {"stability", theory::stability, 6, 2},
                                          {"nonsmooth", theory::nonsmooth, 12, 6}};

struct Options {
  std::vector<std::string> only;
  bool quick = false;
  std::uint64_t seed = 0;
  std::string out = "out/theory";
  int threads = 0;
};

void run(const Options& o, const std::string& command) {
  const OutputFolder folder(o.out, "theory");
  program::check_writable(o.out + "/report.html", "theory");
  const auto wanted = [&](const Experiment& e) {
    return o.only.empty() || std::find(o.only.begin(), o.only.end(), e.name) != o.only.end();
  };
  std::size_t total = 0, done = 0;
  for (const Experiment& e : experiments)
    if (wanted(e)) total += o.quick ? e.quick_steps : e.steps;
  ProgressBar bar(total, {.label = "measuring"});
  HTMLReport report(
      {.title = "The theory of LPF-SGD, measured", .command = command, .seeds = std::to_string(o.seed)});
  std::vector<theory::Section> sections;
  for (const Experiment& e : experiments)
    if (wanted(e)) sections.push_back(e.run({o.quick, o.seed, [&] { bar.update(++done); }}));
  bar.finish();
  std::string lead;
  for (const theory::Section& s : sections) lead += concat(lead.empty() ? "" : "\n\n", s.result);
  report.lead(lead);
  report.text("Each closed form and bound beside what is measured.");
  for (const theory::Section& s : sections) {
    program::print(concat("\n", s.title, "\n", s.result, "\n", s.text, "\n"));
    report.section(s.title, concat(s.result, "\n\n", s.text));
    for (const auto& [caption, table] : s.tables) {
      program::print(concat("\n", caption, "\n"));
      std::printf("%s", table.to_string(terminal_columns()).c_str());
      report.table(table, caption);
    }
    for (const theory::Picture& picture : s.pictures) {
      write_file_atomically(concat(o.out, "/theory-", picture.file, ".svg"), picture.chart.markup);
      report.figure(picture.chart, picture.caption);
    }
    write_json_records(concat(o.out, "/", s.name, ".json"), s.records);
  }
  report.write(o.out + "/report.html");
  program::print(
      concat("\nPictures: ", o.out, "/report.html, ", o.out, "/theory-*.svg\nNumbers: ", o.out, "/*.json\n"));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("The theory of LPF-SGD: closed forms and bounds beside what is measured.");
  app.option_defaults()->always_capture_default();
  std::vector<std::string> names;
  for (const Experiment& e : experiments) names.push_back(e.name);
  app.add_option("--only", o.only, "which experiments (default: all)")->check(CLI::IsMember(names));
  app.add_flag("--quick", o.quick, "small sizes: seconds instead of minutes, larger errors");
  app.add_option("--seed", o.seed, "of data, starting points and noise");
  app.add_option("--out", o.out, "folder for report.html, pictures and numbers");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  return program::run(app, "theory", argc, argv, [&](const std::string& command) {
    set_num_threads(o.threads);
    run(o, command);
  });
}
