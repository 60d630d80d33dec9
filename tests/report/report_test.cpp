#include "lpf/report/report.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "lpf/report/svg.hpp"

using namespace lpf;

TEST_CASE("a page has what was put into it, in order") {
  TextTable table({"optimizer", "error"});
  table.add_row({"SGD", "10.4"}).add_rule().add_row({"LPF-SGD", "4.8"});
  HTMLReport report({.title = "Title",
                     .lead = "Lead.",
                     .command = "digits --seeds 5",
                     .seeds = "0–4",
                     .version = "1.2",
                     .date = "2024-05-17"});
  report.section("Results", "First.\n\nSecond.").table(table, "A table.").definitions({{"error", "in %"}});
  report.section("Curves").figure(plot::line_chart({{.name = "SGD", .x = {1, 2}, .y = {2, 1}}}), "A figure.");
  report.code("a < b");
  const std::string page = report.to_string();
  std::size_t at = 0;
  for (const char* part : {"<!DOCTYPE html>",
                           "<title>Title</title>",
                           "<h1>Title</h1>",
                           "<p>Lead.</p>",
                           "<h2>Results</h2>",
                           "<p>First.</p>",
                           "<p>Second.</p>",
                           "<th scope=\"col\">optimizer</th><th scope=\"col\" class=\"n\">error</th>",
                           "<td>SGD</td><td class=\"n\">10.4</td>",
                           "<tr class=\"ruled\"><td>LPF-SGD</td>",
                           "<figcaption>A table.</figcaption>",
                           "<dt>error</dt><dd>in %</dd>",
                           "<h2>Curves</h2>",
                           "<svg ",
                           "<figcaption>A figure.</figcaption>",
                           "a &lt; b",
                           "digits --seeds 5",
                           "0–4",
                           "1.2",
                           "2024-05-17",
                           "</html>"}) {
    CAPTURE(part);
    const std::size_t found = page.find(part, at);
    REQUIRE(found != page.npos);
    at = found;
  }
}

TEST_CASE("nothing is loaded from elsewhere") {
  HTMLReport report({.title = "T"});
  report.figure(plot::line_chart({{.x = {1, 2}, .y = {2, 1}}}));
  std::string page = report.to_string();
  const std::string name_space = "http://www.w3.org/2000/svg";
  for (std::size_t at; (at = page.find(name_space)) != page.npos;) page.erase(at, name_space.size());
  for (const char* word : {"http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"}) {
    CAPTURE(word);
    CHECK(page.find(word) == page.npos);
  }
}

TEST_CASE("every text is escaped") {
  const std::string evil = "<script>alert('1')</script>&\"";
  TextTable table({evil});
  table.add_row({evil});
  HTMLReport report(
      {.title = evil, .lead = evil, .command = evil, .seeds = evil, .version = evil, .date = evil});
  report.section(evil, evil).text(evil).code(evil).table(table, evil).definitions({{evil, evil}});
  report.figure(plot::line_chart({{.name = evil, .x = {1}, .y = {1}}}, {.title = evil}), evil);
  const std::string page = report.to_string();
  CHECK(page.find("<script") == page.npos);
  std::size_t escaped = 0;
  for (std::size_t at = 0;
       (at = page.find("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;", at)) != page.npos; ++at)
    ++escaped;
  CHECK(escaped >= 20);
}

TEST_CASE("what is empty is left out") {
  const std::string page = HTMLReport({.title = "T", .date = ""}).to_string();
  CHECK(page.find("<footer") == page.npos);
  CHECK(page.find("<div class=\"lead\"") == page.npos);
  CHECK(page.find("<p>") == page.npos);
  CHECK(HTMLReport({.title = "T"}).to_string().find(" UTC</span>") != page.npos);
}

TEST_CASE("a result that is known late is first on the page all the same") {
  HTMLReport report({.title = "T"});
  report.section("Results").lead("SGD 3 %.");
  const std::string page = report.to_string();
  CHECK(page.find("<p>SGD 3 %.</p>") < page.find("<h2>Results</h2>"));
}

TEST_CASE("sentences in tables are broken, numbers are not") {
  TextTable table({"setting", "value"});
  table.add_row({"a sentence that is longer than forty columns, about a setting", "0.5"});
  const std::string page = HTMLReport({.title = "T"}).table(table).to_string();
  CHECK(page.find("<td class=\"w\">a sentence") != page.npos);
  CHECK(page.find("<td class=\"n\">0.5") != page.npos);
}

TEST_CASE("the page is written atomically, or an error says why not") {
  std::string folder = "/tmp/lpf-report-XXXXXX";
  REQUIRE(::mkdtemp(folder.data()));
  const HTMLReport report({.title = "T"});
  report.write(folder + "/r.html");
  std::ifstream file(folder + "/r.html");
  CHECK(std::string(std::istreambuf_iterator<char>(file), {}) == report.to_string());
  CHECK_THROWS_AS(report.write(folder + "/no/r.html"), IOError);
  ::unlink((folder + "/r.html").c_str());
  ::rmdir(folder.c_str());
}
