// Trains a Transformer to translate, with Adam, LPF-Adam, SAM or Entropy-SGD's dynamics around Adam, and translates:
//
//   translate --data numbers                          4 0 7 -> four hundred seven: built in, a minute
//   translate --data DIR --optimizer adam --out runs/x  Multi30k, German to English: DIR has train.de.gz, train.en.gz, …
//   translate --resume --out runs/x                   resumes a run, bit-identically
//   translate --model runs/x < sentences              translates standard input, a sentence a line
//   translate --compare adam,lpf-adam,sam-adam --data DIR --out runs/c   radii, seeds, a table; resumes by itself
//   translate --recipe paper …                        the paper's network and settings (WMT14)
//
// The output folder is described in translate/run.hpp.
#include <lpf/backend/threads.hpp>
#include <lpf/train/signals.hpp>

#include "program.hpp"
#include "translate/compare.hpp"
#include "translate/cost.hpp"

using namespace lpf;
using translate::Settings;

namespace {

using Given = std::map<std::string, std::string>;  // settings on the command line

struct Options {
  std::string recipe, out, model, make_pieces;
  int threads = 0;
  bool resume = false, dry_run = false;
  double minutes = 0;
  std::int64_t beam = 1, lines = 64;
  double length_power = 1;
  std::string compare, gammas, rhos;
  translate::ComparisonOptions comparison;
};

void add_settings(CLI::App& app, Given& given) {
  const Settings s;
  translate::for_each_setting(s, [&](const char* name, const auto& value, const char* meaning) {
    using T = std::remove_cvref_t<decltype(value)>;
    const std::string key = name, flag = key == "M" ? "-M,--M" : "--" + key;
    std::string words = meaning;
    for (const auto& c : translate::choices(name)) words += (words == meaning ? ": " : ", ") + c;
    if constexpr (std::is_same_v<T, bool>) {
      words += value ? " (the default)" : "";
      app.add_flag_function(
          flag + ",!--no-" + key,
          [&given, key](std::int64_t count) { given[key] = count > 0 ? "true" : "false"; }, words);
    } else {
      const char* type = std::is_same_v<T, std::string> ? "TEXT" : std::is_integral_v<T> ? "INT" : "FLOAT";
      app.add_option_function<std::string>(
             flag, [&given, key](const std::string& text) { given[key] = text; }, words)
          ->type_name(type)
          ->default_str(experiment::detail::setting_text(value));
    }
  });
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
  const bool all = !o.compare.empty();  // a comparison has all optimizers
  for (const auto& [name, text] : given) {
    const std::string reason = all ? "" : translate::unused(s, name);
    check(reason.empty(), "translate", "--", name, " ", text, " has no effect: ", reason);
  }
  return s;
}

std::vector<double> numbers_of(const char* flag, const std::string& text) {
  std::vector<double> out;
  for (std::size_t at = 0, end; at <= text.size(); at = end + 1) {
    end = std::min(text.find(',', at), text.size());
    experiment::detail::parse_into("translate", out.emplace_back(), flag,
                                   std::string_view(text).substr(at, end - at));
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

int train(const Options& o, const Settings& s, const std::string& command) {
  const StopSignals signals;
  std::printf("%s; results in %s\n", translate::title_of(s).c_str(), o.out.c_str());
  program::check_output("translate");
  const auto done = translate::run(
      s, {.out = o.out, .resume = o.resume, .command = command, .stop = stop_rule(signals, o.minutes)});
  if (!done.finished)
    return stopped(concat("after ", done.updates, " updates").c_str(), o.out, signals.received(),
                   "translate --resume --out " + o.out);
  const auto& best = translate::best_epoch(done.history);
  std::printf("best epoch %lld: validation BLEU %s, loss %s\n", static_cast<long long>(best.epoch),
              format_fixed(best.validation_bleu, 2).c_str(), format_general(best.validation_loss).c_str());
  if (!done.test.text.empty())
    std::printf("test: %s, loss %s\n", done.test.text.c_str(), format_general(done.test.loss).c_str());
  std::printf("curves and translations: %s/report.html; translate --model %s translates\n", o.out.c_str(),
              o.out.c_str());
  return 0;
}

int compare(const Options& o, const Settings& s, const std::string& command) {
  translate::ComparisonOptions c = o.comparison;
  c.optimizers.clear();
  for (std::size_t at = 0, end; at <= o.compare.size(); at = end + 1) {
    end = std::min(o.compare.find(',', at), o.compare.size());
    c.optimizers.push_back(o.compare.substr(at, end - at));
  }
  if (!o.gammas.empty()) c.gammas = numbers_of("gammas", o.gammas);
  if (!o.rhos.empty()) c.rhos = numbers_of("rhos", o.rhos);
  const StopSignals signals;
  translate::Comparison comparison(s, c, o.out, command, stop_rule(signals, o.minutes));
  if (o.dry_run) {
    double total = 0;
    std::size_t runs = 0;
    const auto add = [&](const std::vector<translate::Job>& jobs) {
      if (jobs.empty()) return;
      const double one = translate::cost_of(jobs[0].settings).run_seconds;
      total += one * static_cast<double>(jobs.size()), runs += jobs.size();
      std::printf("%zu runs like %s: %s each\n", jobs.size(), jobs[0].name().c_str(),
                  format_duration(one).c_str());
    };
    for (const auto& name : c.optimizers) {
      std::vector<translate::Job> radius = comparison.radius_jobs();
      std::erase_if(radius, [&](const auto& j) { return j.settings.optimizer != name; });
      add(radius), add(comparison.seed_jobs(name, translate::Epoch::none));
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
  const translate::Cost c = translate::cost_of(s);
  std::printf("%s\n\n", translate::title_of(s).c_str());
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
  std::printf("%s", table.to_string().c_str());
}

/// Translates standard input line by line: several lines at a time, one if a person types them.
void translate_input(const Options& o) {
  check(o.lines >= 1 && o.lines <= 1'000'000, "translate", "--lines must be from 1 to 1000000, got ",
        o.lines);
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
  translate::validate(s);
  program::check_writable(o.make_pieces, "translate");
  const auto sentences = translate::read_sentences(s);
  const auto pieces = translate::pieces_for(s, "", sentences.train);
  pieces.save(o.make_pieces);
  std::printf("%s: %lld pieces of %lld pairs\n", o.make_pieces.c_str(), static_cast<long long>(pieces.size()),
              static_cast<long long>(sentences.train.size()));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  Given given;
  CLI::App app(
      "Trains a Transformer to translate, and translates. The defaults are for Multi30k; --data numbers and "
      "--recipe paper "
      "have others.");
  add_settings(app, given);
  app.add_option("--recipe", o.recipe,
                 "paper (network and settings of the paper, for WMT14) or multi30k (the defaults)");
  app.add_option("--out", o.out, "folder of the results; otherwise runs/ and a name of the main settings");
  app.add_option("--threads", o.threads, "processor threads; 0: all. Results do not depend on it")
      ->check(CLI::Range(0, 1024));
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
  return program::run(app, "translate", argc, argv, [&](const std::string& command) {
    set_num_threads(o.threads);
    if (!o.model.empty()) return translate_input(o), 0;
    check(!o.resume || !o.out.empty(), "translate",
          "--resume needs --out, the folder of the run to go on with");
    check<IOError>(!o.resume || std::filesystem::exists(lpf::detail::path_of(o.out + "/config.json")),
                   "translate", "'", o.out,
                   "' has no run to go on with (no config.json): check --out, or begin one without --resume");
    const Settings s = settings_of(o, given);
    if (!o.make_pieces.empty()) return make_pieces(o, s), 0;
    if (o.out.empty())
      o.out = !o.compare.empty() ? "runs/translate-compare"
                                 : concat("runs/translate-", s.optimizer, "-seed", s.seed);
    if (!o.compare.empty()) return compare(o, s, command);
    if (o.dry_run) return print_cost(s), 0;
    return train(o, s, command);
  });
}
