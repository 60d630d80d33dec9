// Trains a Transformer to translate, with Adam, LPF-Adam, SAM or Entropy-SGD's dynamics around Adam, and translates:
//
//   translate --data numbers                          4 0 7 -> four hundred seven: built in, a minute
//   translate --data DIR --optimizer adam --out runs/x  Multi30k, German to English: DIR has train.de.gz, train.en.gz, …
//   translate --resume --out runs/x                   resumes a run, bit-identically
//   mpirun -np 4 translate --shards 4 …               in four processes, with the bits of one (docs/distributed.md)
//   translate --model runs/x < sentences              translates standard input, a sentence a line
//   translate --compare adam,lpf-adam,sam-adam --data DIR --out runs/c   radii, seeds, a table; resumes by itself
//   translate --compare … --records FILE              the finished runs' results in this file, for other machines
//   translate --recipe paper …                        the paper's network and settings (WMT14)
//
// The output folder is described in translate/run.hpp.
#include <lpf/backend/threads.hpp>
#include <lpf/train/signals.hpp>

#include "processes.hpp"
#include "setting_flags.hpp"
#include "translate/compare.hpp"
#include "translate/cost.hpp"

using namespace lpf;
using translate::Settings;

namespace {

using program::Given;

struct Options {
  std::string recipe, out, model, make_pieces, device = "cpu";
  int threads = 0;
  double deadline = 600;
  bool resume = false, dry_run = false;
  double minutes = 0;
  std::int64_t beam = 1, lines = 64;
  double length_power = 1;
  std::string compare, gammas, rhos;
  translate::ComparisonOptions comparison;
};

/// The words of a list with commas.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t at = 0, end; at <= text.size(); at = end + 1) {
    end = std::min(text.find(',', at), text.size());
    out.push_back(text.substr(at, end - at));
  }
  return out;
}

/// ValueError for a flag that what is to be done does not use. The settings of a run are checked in settings_of().
void check_flags(const CLI::App& app, const Options& o) {
  const char* name = "translate";
  const bool translates = app.count("--model") > 0, makes_pieces = app.count("--make-pieces") > 0,
             compares = app.count("--compare") > 0;
  if (translates) {
    check(!o.model.empty(), name, "--model needs the folder of a run");
    program::refuse_others(app, name,
                           {"--model", "--beam", "--length-power", "--lines", "--threads", "--device"},
                           "--model translates, with the settings of the run");
    program::refuse_unused(app, name, "--length-power", o.beam != 1, "it is for --beam of 2 or more");
    check(o.beam >= 1 && o.beam <= 10'000, name, "--beam must be from 1 to 10000, got ", o.beam);
    check(o.length_power >= 0, name, "--length-power must not be negative, got ", o.length_power);
    check(o.lines >= 1 && o.lines <= 1'000'000, name, "--lines must be from 1 to 1000000, got ", o.lines);
    return;
  }
  for (const char* flag : {"--beam", "--length-power", "--lines"})
    program::refuse_unused(app, name, flag, false, "it is for --model, which translates");
  if (makes_pieces) {
    check(!o.make_pieces.empty(), name, "--make-pieces needs the name of a file");
    program::refuse_others(
        app, name,
        {"--make-pieces", "--recipe", "--data", "--from", "--to", "--train-files", "--validation-files",
         "--train-pairs", "--validation-pairs", "--lower-case", "--vocabulary"},
        "--make-pieces reads the training sentences alone");
  }
  for (const char* flag : {"--gammas", "--rhos", "--seeds", "--tune-epochs", "--records"})
    program::refuse_unused(app, name, flag, compares, "it is for --compare");
  program::refuse_unused(app, name, "--resume", !compares, "--compare goes on by itself");
  program::refuse_unused(app, name, "--minutes", !o.dry_run, "--dry-run makes no run");
  program::refuse_unused(app, name, "--out", !o.dry_run || o.resume, "--dry-run writes nothing");
  check(!o.resume || !o.out.empty(), name, "--resume needs --out, the folder of the run to go on with");
  check<IOError>(!o.resume || std::filesystem::exists(lpf::detail::path_of(o.out + "/config.json")), name,
                 "'", o.out,
                 "' has no run to go on with (no config.json): check --out, or begin one without --resume");
  if (!compares) return;
  check(!o.compare.empty(), name, "--compare needs names of optimizers, with commas");
  const auto optimizers = words_of(o.compare);
  const auto has = [&](const char* radius) {
    return std::any_of(optimizers.begin(), optimizers.end(), [&](const auto& optimizer) {
      return translate::detail::radius_of(optimizer) == radius;
    });
  };
  program::refuse_unused(app, name, "--gammas", has("gamma"), "--compare names no lpf-…");
  program::refuse_unused(app, name, "--rhos", has("rho"), "--compare names no sam-…");
}

/// The settings of a run that goes on, or a recipe's, changed by those on the command line.
Settings settings_of(const Options& o, const Given& given) {
  Settings s;
  if (o.resume && Checkpoint::exists(o.out + "/checkpoint")) {
    check(o.recipe.empty(), "translate", "--recipe begins a run; --resume goes on with the settings of '",
          o.out, "'");
    s = translate::read_config(o.out + "/config.json");
  } else {
    const auto data = given.find("data");
    s = translate::settings_for(o.recipe, data == given.end() ? "" : data->second);
  }
  for (const auto& [name, text] : given) translate::set(s, name, text);
  for (const auto& [name, text] : given) {
    const std::string reason = o.compare.empty()
                                   ? translate::unused(s, name)
                                   : translate::unused_in_comparison(s, words_of(o.compare), name);
    check(reason.empty(), "translate", "--", name, " ", text, " has no effect: ", reason);
  }
  if (o.compare.empty()) translate::validate(s);  // of a comparison that is done for each optimizer
  return s;
}

std::vector<double> numbers_of(const char* flag, const std::string& text) {
  std::vector<double> out;
  for (const std::string& word : words_of(text)) {
    experiment::detail::parse_into("translate", out.emplace_back(), flag, word);
    check(std::isfinite(out.back()) && out.back() >= 0, "translate", "--", flag,
          " needs numbers that are not negative");
  }
  return out;
}

int stopped(const char* what, const std::string& out, int signal, const std::string& again) {
  std::fprintf(
      stderr, "\ntranslate: %s %s; results so far are in %s; go on with\n    %s\n", what,
      signal != 0 ? concat("stopped by ", StopSignals::name_of(signal)).c_str() : "stopped by --minutes",
      out.c_str(), again.c_str());
  return signal != 0 ? 128 + signal : 0;
}

std::function<bool()> stop_rule(const StopSignals& signals, double minutes) {
  const double begin = lpf::detail::monotonic_seconds();
  return [&signals, begin, minutes] {
    return signals.received() != 0 ||
           (minutes > 0 && lpf::detail::monotonic_seconds() - begin > 60 * minutes);
  };
}

int train(distributed::Communicator& world, const Options& o, const Settings& s, const std::string& command) {
  const StopSignals signals;
  const bool leads = world.rank() == 0;
  const auto run = program::usage([&] {
    return translate::prepare(s, {.out = o.out,
                                  .resume = o.resume,
                                  .command = command,
                                  .stop = stop_rule(signals, o.minutes),
                                  .world = &world});
  });
  if (leads) program::print(concat(translate::title_of(s), "; results in ", o.out, "\n"));
  program::check_output("translate");
  const auto done = (*run)();
  if (!leads) return 0;
  if (!done.finished)
    return stopped(concat("after ", done.updates, " updates").c_str(), o.out, signals.received(),
                   "translate --resume --out " + o.out);
  const auto& best = translate::best_epoch(done.history);
  program::print(concat("best epoch ", best.epoch, ": validation BLEU ",
                        format_fixed(best.validation_bleu, 2), ", loss ",
                        format_general(best.validation_loss), "\n"));
  if (!done.test.text.empty())
    program::print(concat("test: ", done.test.text, ", loss ", format_general(done.test.loss), "\n"));
  program::print(
      concat("curves and translations: ", o.out, "/report.html; translate --model ", o.out, " translates\n"));
  return 0;
}

translate::ComparisonOptions comparison_of(const CLI::App& app, const Options& o) {
  translate::ComparisonOptions c = o.comparison;
  c.optimizers = words_of(o.compare);
  if (app.count("--gammas") > 0) c.gammas = numbers_of("gammas", o.gammas);
  if (app.count("--rhos") > 0) c.rhos = numbers_of("rhos", o.rhos);
  return c;
}

int compare(const CLI::App& app, const Options& o, const Settings& s, const std::string& command) {
  const StopSignals signals;
  const auto c = program::usage([&] { return comparison_of(app, o); });
  translate::Comparison comparison = program::usage(
      [&] { return translate::Comparison(s, c, o.out, command, stop_rule(signals, o.minutes)); });
  const bool chooses = !comparison.radius_jobs().empty();
  program::refuse_unused(app, "translate", "--tune-epochs", chooses,
                         "there is one radius each: none is chosen");
  if (!o.dry_run) program::usage([&] { comparison.check_data(); });
  if (o.dry_run) {
    double total = 0;
    std::size_t runs = 0;
    const auto add = [&](std::vector<translate::Job> jobs) {
      std::erase_if(jobs, [&](const auto& j) { return comparison.is_made(j); });
      if (jobs.empty()) return;
      const double one = program::usage([&] { return translate::cost_of(jobs[0].settings); }).run_seconds;
      total += one * static_cast<double>(jobs.size()), runs += jobs.size();
      program::print(
          concat(jobs.size(), " runs like ", jobs[0].name(), ": ", format_duration(one), " each\n"));
    };
    for (const auto& name : c.optimizers) {
      std::vector<translate::Job> radius = comparison.radius_jobs();
      std::erase_if(radius, [&](const auto& j) { return j.settings.optimizer != name; });
      add(radius), add(comparison.seed_jobs(name, comparison.chosen(name)));
    }
    std::printf("all %zu runs: %s\n", runs, format_duration(total).c_str());
    return 0;
  }
  program::check_output("translate");
  const bool finished = comparison();
  std::printf("%s", comparison.table().c_str());
  return finished ? 0 : stopped("the comparison was", o.out, signals.received(), command);
}

void print_cost(const Settings& s) {
  const translate::Cost c = program::usage([&] { return translate::cost_of(s); });
  program::print(concat(translate::title_of(s), "\n\n"));
  TextTable table({"it takes", ""}, {.align = {Align::left, Align::left}});
  table.add_row({"parameters", std::to_string(c.parameters)});
  table.add_row({"pieces", std::to_string(c.pieces)});
  table.add_row({"training pairs of 2 to " + std::to_string(s.longest) + " pieces", std::to_string(c.pairs)});
  table.add_row({"an epoch", concat(c.batches, " batches of ", format_fixed(c.tokens_per_batch, 0),
                                    " tokens in both languages")});
  table.add_row({"learning rate at its peak, after the warm-up",
                 concat(format_general(translate::peak_rate(s, c.updates)), ", ",
                        translate::warm_up_of(s, c.updates), " updates")});
  table.add_row({"a step", concat(format_general(1000 * c.step_seconds, 3), " ms")});
  table.add_row({"an evaluation, at most", format_duration(c.evaluation_seconds)});
  table.add_row({concat("the run, ", c.updates, " updates"), format_duration(c.run_seconds)});
  std::printf("%s", table.to_string(terminal_columns()).c_str());
}

/// Translates standard input line by line: several lines at a time, one if a person types them.
void translate_input(const Options& o) {
  const translate::Model model(o.model);
  const models::TranslateOptions options{.beam = {.width = o.beam, .length_power = o.length_power},
                                         .batch = o.lines};
  const std::int64_t at_a_time =
      lpf::detail::os::is_terminal(lpf::detail::os::descriptor_of(stdin)) ? 1 : o.lines;
  std::size_t number = 0;
  while (std::cin) {
    std::vector<std::string> lines;
    for (std::string line; std::ssize(lines) < at_a_time && std::getline(std::cin, line);)
      lines.push_back(
          text::sentence_of(line, concat("line ", ++number), {.lower_case = model.settings().lower_case}));
    if (lines.empty()) break;
    for (const std::string& t : model(lines, options)) std::printf("%s\n", t.c_str());
    program::check_output("translate");
  }
  check<IOError>(!std::cin.bad(), "translate", "standard input cannot be read");
}

void make_pieces(const Options& o, const Settings& s) {
  program::check_writable(o.make_pieces, "translate");
  const auto sentences = program::usage([&] { return translate::read_sentences(s); });
  const auto pieces = program::usage([&] { return translate::pieces_for(s, "", sentences.train); });
  pieces.save(o.make_pieces);
  std::printf("%s: %lld pieces of %lld pairs\n", o.make_pieces.c_str(), static_cast<long long>(pieces.size()),
              static_cast<long long>(sentences.train.size()));
}

int work(const CLI::App& app, distributed::Communicator& world, Options o, const Given& given,
         const std::string& command) {
  const bool trains = o.model.empty() && o.make_pieces.empty() && o.compare.empty() && !o.dry_run;
  check(trains || world.size() == 1, "translate", "only training runs in several processes: start ",
        !o.model.empty()         ? "--model"
        : !o.make_pieces.empty() ? "--make-pieces"
        : !o.compare.empty()     ? "--compare"
                                 : "--dry-run",
        " without mpirun");
  set_num_threads(o.threads);
  if (o.device == "cuda") set_default_device(Device::cuda());
  if (!o.model.empty()) return translate_input(o), 0;
  const Settings s = program::usage([&] { return settings_of(o, given); });
  if (!o.make_pieces.empty()) return make_pieces(o, s), 0;
  if (o.out.empty())
    o.out = !o.compare.empty() ? "runs/translate-compare"
                               : concat("runs/translate-", s.optimizer, "-seed", s.seed);
  if (!o.compare.empty()) return compare(app, o, s, command);
  if (o.dry_run) return print_cost(s), 0;
  return train(world, o, s, command);
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  Given given;
  CLI::App app(
      "Trains a Transformer to translate, and translates. The defaults are for Multi30k; --data numbers and "
      "--recipe paper "
      "have others.");
  program::add_settings(app, given, Settings(), [](const char* name) { return translate::choices(name); });
  app.add_option("--recipe", o.recipe,
                 "paper (network and settings of the paper, for WMT14) or multi30k (the defaults)");
  app.add_option("--out", o.out, "folder of the results; otherwise runs/ and a name of the main settings");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_option("--device", o.device, "where the network is trained, and translates")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--minutes", o.minutes, "stop after these many minutes, to go on with --resume; 0: no limit")
      ->check(CLI::Range(0.0, 1e9));
  app.add_flag("--resume", o.resume, "go on with the run in --out");
  app.add_flag("--dry-run", o.dry_run, "say what the run would take, and make none");
  app.add_option("--model", o.model, "folder of a run: translate standard input with it, a sentence a line");
  app.add_option("--beam", o.beam, "of --model: hypotheses followed at a time; 1: greedy")
      ->capture_default_str();
  app.add_option("--length-power", o.length_power,
                 "of --model with --beam: log-probabilities are divided by length^this")
      ->capture_default_str();
  app.add_option("--lines", o.lines, "of --model: lines translated at a time")->capture_default_str();
  app.add_option("--make-pieces", o.make_pieces,
                 "make --vocabulary pieces of the training sentences, write them to this file");
  app.add_option("--compare", o.compare,
                 "optimizers to compare, with commas: radii, --seeds runs of each, and a table");
  app.add_option("--gammas", o.gammas, "of --compare: radii of lpf-… to choose from, with commas");
  app.add_option("--rhos", o.rhos, "of --compare: radii of sam-… to choose from, with commas");
  app.add_option("--seeds", o.comparison.seeds, "of --compare: runs of each optimizer")
      ->capture_default_str();
  app.add_option("--tune-epochs", o.comparison.tune_epochs,
                 "of --compare: epochs of a run that chooses a radius; 0: all")
      ->capture_default_str();
  program::add_deadline(app, o.deadline);
  app.add_option(
      "--records", o.comparison.records,
      "of --compare: file (.jsonl) of the finished runs' results, which are not repeated, on another "
      "machine neither; otherwise results.jsonl in --out");
  return program::run(app, "translate", argc, argv, [&](const std::string& command) {
    program::usage([&] { check_flags(app, o); });
    return program::in_processes(app, "translate", o.deadline,
                                 [&](auto& world) { return work(app, world, o, given, command); });
  });
}
