// report.html of a run: BLEU, curves, translations that change over training, where the network looks.
#pragma once

#include <lpf/report/method_color.hpp>
#include <lpf/report/report.hpp>
#include <lpf/report/svg.hpp>

#include "history.hpp"

namespace translate {

/// The attention of the last decoder layer to the source, mean over the heads: a row for each piece written.
struct AttentionPicture {
  std::vector<std::string> source, target;
  std::vector<std::vector<double>> weights;
};

/// BLEU on the test sentences with the best weights, where there are any.
struct TestResult {
  double bleu = Epoch::none, loss = Epoch::none;
  std::string text = "";  ///< as sacrebleu prints it
};

inline std::string title_of(const Settings& s) {
  return concat(s.optimizer, ", ", s.data == "numbers" ? "numbers" : s.from + " → " + s.to, ", ",
                s.encoder_layers, "+", s.decoder_layers, " layers of ", s.dim);
}

inline plot::Series curve(const std::string& name, const std::vector<Epoch>& history, double Epoch::*column) {
  plot::Series out{.name = name};
  for (const Epoch& e : history) {
    if (std::isnan(e.*column)) continue;
    out.x.push_back(static_cast<double>(e.epoch)), out.y.push_back(e.*column);
  }
  return out;
}

inline HTMLReport page_of(const Settings& s, const std::vector<Epoch>& history,
                          const std::vector<Sample>& samples, const AttentionPicture& picture,
                          const TestResult& test, const std::string& command) {
  const Epoch& best = best_epoch(history);
  HTMLReport page(
      {.title = title_of(s),
       .lead = concat(
           "Best epoch: ", best.epoch, " of ", history.size(), ", with BLEU ",
           format_fixed(best.validation_bleu, 2), " on the validation sentences",
           std::isnan(test.bleu) ? std::string() : concat(", ", format_fixed(test.bleu, 2), " on the test's"),
           "."),
       .command = command,
       .seeds = std::to_string(s.seed)});
  const auto chart = [&](const char* title, const plot::AxisOptions& y, std::vector<plot::Series> all,
                         const char* caption) {
    int pattern = 0;  // all in the method's colour
    for (plot::Series& series : all)
      series.color = plot::detail::patterned(
          std::max(plot::method_color(s.optimizer), 0) % plot::detail::palette_size, pattern++);
    std::erase_if(all, [](const auto& series) { return series.y.empty(); });
    page.figure(plot::line_chart(all, {.title = title, .x = {.title = "epoch"}, .y = y}), caption);
  };
  page.section("Results");
  if (!test.text.empty()) page.text(concat("Test: ", test.text));
  chart("BLEU", {.title = "BLEU", .min = 0}, {curve("validation", history, &Epoch::validation_bleu)},
        "BLEU as sacrebleu's (13a, exponential smoothing), decoded greedily.");
  chart(
      "Loss", {.title = "cross-entropy of a piece", .scale = plot::Scale::log},
      {curve("validation", history, &Epoch::validation_loss), curve("training", history, &Epoch::train_loss)},
      "Training: with smoothed labels, dropout and the method's noise. Validation: without all of them.");
  chart("Learning rate and radius", {.scale = plot::Scale::log},
        {curve("learning rate", history, &Epoch::lr), curve("radius γ", history, &Epoch::gamma)}, "");
  chart("Speed", {.title = "tokens/s", .min = 0}, {curve("training", history, &Epoch::tokens_per_second)},
        "");

  page.section("Translations",
               "The same sentences after each epoch; an epoch that changed nothing is left out.");
  TextTable table({"epoch", "translation"}, {.align = {Align::right, Align::left}});
  std::vector<std::string> sources;
  for (const Sample& sample : samples)
    if (std::find(sources.begin(), sources.end(), sample.source) == sources.end())
      sources.push_back(sample.source);
  for (const std::string& source : sources) {
    table.add_row({"source", source});
    std::string last, reference;
    for (const Sample& sample : samples) {
      if (sample.source != source) continue;
      reference = sample.reference;
      if (sample.translation != last) table.add_row({std::to_string(sample.epoch), sample.translation});
      last = sample.translation;
    }
    table.add_row({"reference", reference}).add_rule();
  }
  page.table(table);

  if (!picture.weights.empty())
    page.section("Attention")
        .figure(
            plot::matrix_chart(picture.weights, picture.target, picture.source,
                               {.title = "Where the network looks",
                                .x = {.title = "pieces of the source, across; of the translation, down"}}),
            "Weights of the last decoder layer's attention to the source, mean over its heads.");
  TextTable settings({"setting", "value", "meaning"}, {.align = {Align::left, Align::left, Align::left}});
  for_each_setting(s, [&](const char* name, const auto& value, const char* meaning) {
    settings.add_row({name, experiment::detail::setting_text(value), meaning});
  });
  page.section("Settings").table(settings);
  return page;
}

}  // namespace translate
