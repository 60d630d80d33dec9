// A report of a run as one self-contained HTML file: text, tables, figures, no external resources.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lpf/core/error.hpp"
#include "lpf/io/atomic_file.hpp"
#include "lpf/report/svg_canvas.hpp"
#include "lpf/report/table.hpp"

namespace lpf {

/// The current time as "2024-05-17 14:02 UTC".
inline std::string utc_now() {
  using namespace std::chrono;
  const auto now = floor<minutes>(system_clock::now());
  const auto midnight = floor<days>(now);
  const year_month_day date(midnight);
  const hh_mm_ss time(now - midnight);
  const auto two = [](auto n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  return concat(static_cast<int>(date.year()), "-", two(static_cast<unsigned>(date.month())), "-",
                two(static_cast<unsigned>(date.day())), " ", two(time.hours().count()), ":",
                two(time.minutes().count()), " UTC");
}

/// Header and footer of an HTMLReport; empty fields are omitted.
struct ReportOptions {
  std::string title = "Report";
  std::string lead = {};         ///< the result, in a sentence or two
  std::string command = {};      ///< the command that generated the report
  std::string seeds = {};        ///< the seeds it used
  std::string version = {};      ///< of the program
  std::string date = utc_now();  ///< of the report
};

/// A page built from top to bottom; readable on a phone, on paper, in light and dark mode. All text is
/// escaped: only the library's own charts contain markup. In a text, an empty line starts a new paragraph.
///     HTMLReport report({.title = "Flat minima", .command = command_line});
///     report.section("Test error", "Lower is better.")
///         .table(table, "Mean ± sd over 5 seeds.")
///         .figure(chart);
///     report.write("out/report.html");
class HTMLReport {
 public:
  explicit HTMLReport(ReportOptions options = {}) : options_(std::move(options)) {}

  /// Sets the lead, where the result is known only after the report was begun.
  HTMLReport& lead(std::string words) {
    options_.lead = std::move(words);
    return *this;
  }
  /// Starts a section: a heading, and text below it.
  HTMLReport& section(std::string_view heading, std::string_view words = "") {
    body_ += concat("<h2>", plot::detail::escape(heading), "</h2>\n");
    return text(words);
  }
  HTMLReport& text(std::string_view words) {
    body_ += paragraphs(words);
    return *this;
  }
  /// Terms with their definitions: one sentence for each column of a table, for example.
  HTMLReport& definitions(const std::vector<std::pair<std::string, std::string>>& terms) {
    body_ += "<dl>";
    for (const auto& [term, meaning] : terms)
      body_ +=
          concat("<dt>", plot::detail::escape(term), "</dt><dd>", plot::detail::escape(meaning), "</dd>");
    body_ += "</dl>\n";
    return *this;
  }
  /// Preformatted text: a command, a configuration.
  HTMLReport& code(std::string_view words) {
    body_ += concat("<pre tabindex=\"0\">", plot::detail::escape(words), "</pre>\n");
    return *this;
  }
  /// A table with its caption; it scrolls horizontally on narrow screens, with a shadow where there is more.
  HTMLReport& table(const TextTable& table, std::string_view caption = "") {
    std::vector<std::string_view> style;
    for (std::size_t c = 0; c < table.header().size(); ++c)
      style.push_back(table.align(c) == Align::right ? " class=\"n\"" : "");
    std::string out = "<table>\n<thead><tr>";
    for (std::size_t c = 0; c < style.size(); ++c)
      out += concat("<th scope=\"col\"", style[c], ">", plot::detail::escape(table.header()[c]), "</th>");
    out += "</tr></thead>\n<tbody>";
    bool ruled = false;
    for (const auto& row : table.rows()) {
      if (!row.empty()) out += ruled ? "<tr class=\"ruled\">" : "<tr>";
      for (std::size_t c = 0; c < row.size(); ++c) {
        const bool words = style[c].empty() && display_width(row[c]) > 40;  // a sentence, which may be broken
        out += concat("<td", words ? " class=\"w\"" : style[c], ">", plot::detail::escape(row[c]), "</td>");
      }
      if (!row.empty()) out += "</tr>\n";
      ruled = row.empty();
    }
    add_figure("Table", "t", out + "</tbody></table>", caption);
    return *this;
  }
  /// A chart with its caption.
  HTMLReport& figure(const plot::Svg& picture, std::string_view caption = "") {
    add_figure("Figure", "",
               picture.narrow.empty() ? picture.markup
                                      : concat("<div class=\"wide\">", picture.markup,
                                               "</div><div class=\"narrow\">", picture.narrow, "</div>"),
               caption);
    return *this;
  }

  /// The whole page.
  std::string to_string() const {
    const std::string title = plot::detail::escape(options_.title);
    std::string lead = paragraphs(options_.lead);
    if (!lead.empty()) lead = concat("<div class=\"lead\">", lead, "</div>\n");
    return concat(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"color-scheme\" content=\"light dark\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'\">\n"
        "<title>",
        title, "</title>\n<style>", style(), "</style></head>\n<body><main>\n<h1>", title, "</h1>\n", lead,
        body_, "</main>\n", footer(), "</body></html>\n");
  }
  /// Writes the page atomically; throws IOError.
  void write(const std::string& path) const { write_file_atomically(path, to_string()); }

 private:
  void add_figure(std::string_view kind, std::string_view style, std::string_view content,
                  std::string_view caption) {
    body_ += concat(style.empty() ? "<figure>" : concat("<figure class=\"", style, "\">"),
                    "<div class=\"scroll\" role=\"region\" aria-label=\"", kind, "\" tabindex=\"0\">",
                    content, "</div>");
    if (!caption.empty()) body_ += concat("<figcaption>", plot::detail::escape(caption), "</figcaption>");
    body_ += "</figure>\n";
  }
  static std::string paragraphs(std::string_view words) {
    std::string out;
    while (!words.empty()) {
      const std::size_t end = std::min(words.find("\n\n"), words.size());
      if (words.substr(0, end).find_first_not_of(" \n") != words.npos)
        out += concat("<p>", plot::detail::escape(words.substr(0, end)), "</p>\n");
      words.remove_prefix(std::min(end + 2, words.size()));
    }
    return out;
  }

  std::string footer() const {
    std::string out;
    const auto add = [&](std::string_view name, const std::string& value, std::string_view tag) {
      if (value.empty()) return;
      out += concat("<div><dt>", name, "</dt><dd><", tag, ">", plot::detail::escape(value), "</", tag,
                    "></dd></div>");
    };
    add("Command", options_.command, "code");
    add("Seeds", options_.seeds, "span");
    add("Version", options_.version, "span");
    add("Made", options_.date, "span");
    return out.empty() ? "" : "<footer><dl>" + out + "</dl></footer>\n";
  }

  static std::string style() {
    return "*{box-sizing:border-box}" +
           concat(":root{", plot::detail::variables(false),
                  "color-scheme:light dark}@media (prefers-color-scheme:dark){:root{",
                  plot::detail::variables(true),
                  "}}"
                  "@media print{:root{",
                  plot::detail::variables(false), "}}") +
           R"(
body{margin:0;background:var(--lpf-paper);color:var(--lpf-ink);font:16px/1.6 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;-webkit-text-size-adjust:100%}
main,footer{max-width:48rem;margin:0 auto;padding:0 1.25rem}
main{padding-top:2.5rem;padding-bottom:1.5rem}
h1{font-size:clamp(1.6rem,5vw,2.1rem);line-height:1.2;letter-spacing:-.015em;margin:0 0 .75rem}
h2{font-size:1.3rem;line-height:1.3;margin:3rem 0 .6rem}
p{margin:.6rem 0;white-space:pre-line;overflow-wrap:break-word}
.lead{font-size:1.15rem;line-height:1.55;color:var(--lpf-soft)}
.scroll{overflow-x:auto;background:linear-gradient(90deg,var(--lpf-paper) 40%,transparent) left/2.5rem 100% no-repeat local,linear-gradient(270deg,var(--lpf-paper) 40%,transparent) right/2.5rem 100% no-repeat local,linear-gradient(90deg,var(--lpf-rule),transparent) left/.8rem 100% no-repeat scroll,linear-gradient(270deg,var(--lpf-rule),transparent) right/.8rem 100% no-repeat scroll}
table{border-collapse:collapse;width:100%;font-size:.925rem;line-height:1.4;font-variant-numeric:tabular-nums;}
figcaption,footer{color:var(--lpf-soft);font-size:.875rem;line-height:1.5}
th,td{padding:.45rem .6rem;text-align:left;vertical-align:bottom}
td{border-top:1px solid var(--lpf-rule);white-space:nowrap}
td.w{white-space:normal;min-width:14rem}
th{font-weight:600}
thead th,tr.ruled td{border-bottom:0}
tbody tr:first-child td,tr.ruled td{border-top:1.5px solid var(--lpf-soft)}
tbody tr:last-child td{border-bottom:1.5px solid var(--lpf-soft)}
.n{text-align:right}
th:first-child,td:first-child{padding-left:0}
th:last-child,td:last-child{padding-right:0}
figure{margin:1.5rem 0}
figure svg{display:block;width:100%;min-width:30rem}
.wide svg,.narrow svg{min-width:0}
.narrow{display:none}
figcaption{margin-top:.5rem}
pre{overflow-x:auto;margin:1rem 0;padding:.8rem 1rem;border:1px solid var(--lpf-rule);border-radius:6px}
pre,code{font:.85rem/1.5 ui-monospace,"SF Mono",Consolas,"DejaVu Sans Mono",monospace}
main dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.25rem;margin:1rem 0;font-size:.925rem;line-height:1.5}
dt{font-weight:600}
dd{margin:0;color:var(--lpf-soft);overflow-wrap:anywhere}
footer dl{border-top:1px solid var(--lpf-rule);margin:2rem 0 2.5rem;padding-top:1rem}
footer dl div{display:flex;gap:1rem}
footer dt{flex:none;width:5rem}
@media screen and (max-width:36rem){.wide{display:none}.narrow{display:block}}
@media (max-width:36rem){main dl{display:block}main dd{margin-bottom:.6rem}table{font-size:.85rem}th,td{padding:.4rem .35rem}td:not(.n){white-space:normal}td.w{min-width:9rem}}
@media (min-width:66rem){figure.t{margin-left:-8rem;margin-right:-8rem}.t .scroll{width:fit-content;min-width:45.5rem;max-width:100%;margin:0 auto}.t figcaption{width:45.5rem;margin:.5rem auto 0}}
@media print{figure,table{break-inside:avoid}h2{break-after:avoid}}
)";
  }

  ReportOptions options_;
  std::string body_;
};
using HtmlReport [[deprecated("use HTMLReport")]] = HTMLReport;

}  // namespace lpf
