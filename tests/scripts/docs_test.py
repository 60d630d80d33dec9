#!/usr/bin/env python3
"""Tests of the documentation: links between files lead somewhere, marks of scripts/docs-snippets are right, and the checkers
find what they are for.

    python3 docs_test.py
"""
import importlib.machinery
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def script(name):
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


snippets = script("docs-snippets")


def without_code(text):
    text = re.sub(r"^( *)(`{3,}).*?^ *\2`*$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "code", re.sub(r"(?<=\n\n)(?:    .*\n)+", "", text))


def anchors(text):
    """The anchors of a page's headings, as a page that shows the repository makes them."""
    found = set()
    without_fences = re.sub(r"^( *)(`{3,}).*?^ *\2`*$", "", text, flags=re.M | re.S)
    for heading in re.findall(r"^#+ +(.*?) *#*$", without_fences, flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)) | set(re.findall(r"\{#([\w-]+)\}", text))


class Links(unittest.TestCase):
    def test_lead_somewhere(self):
        pages = [ROOT / path for path in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "datasets/README.md")]
        for page in pages + sorted((ROOT / "docs").rglob("*.md")):
            text = page.read_text()
            for target in re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", without_code(text)):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = (page.parent / path).resolve() if path else page
                with self.subTest(page=str(page.relative_to(ROOT)), link=target):
                    self.assertTrue(file.exists(), "leads to no file")
                    if anchor and file.suffix == ".md":
                        self.assertIn(anchor, anchors(file.read_text()), "leads to no heading")

    def test_anchors_are_those_of_headings(self):
        self.assertEqual(anchors("# A `b`: c\n```\n# no\n```\n## 2. *D*, e\n"), {"a-b-c", "2-d-e"})


class Marks(unittest.TestCase):
    def refused(self, text, reason):
        with self.assertRaisesRegex(snippets.PageError, reason):
            snippets.read_page("docs/x.md", text)

    def test_pages_are_right(self):
        for path in snippets.pages():
            with self.subTest(page=path):
                snippets.read_page(path)

    def test_what_is_refused(self):
        self.refused("```cpp\nint i;\n```\n", "docs/x.md:1: .*without a mark")
        self.refused("<!-- snippet -->\n\n```cpp\n```\n", "not directly before")
        self.refused("<!-- snippet -->\n```text\n```\n", "a block of cpp")
        self.refused("<!-- snippet: continues -->\n```cpp\n```\n", "nothing to continue")
        self.refused("<!-- snippet: with nothing -->\n```cpp\n```\n", "there is no docs/setups/nothing.inc")
        self.refused("<!-- snippet: fast -->\n```cpp\n```\n", "unknown mark")
        self.refused("<!-- output -->\n```text\n```\n", "without a snippet")
        self.refused("<!-- not compiled -->\n```cpp\n```\n", "without a reason")
        self.refused("<!-- lines of: README.md -->\n```cpp\nint no_such_line;\n```\n", "do not stand in README.md")
        self.refused("- a\n\n  ```cpp\n  int i;\n  ```\n", "first column")
        self.refused("<!-- snippet -->\n```cpp\nint i;\n", "does not end")

    def test_a_page_as_a_program(self):
        page = snippets.read_page("docs/x.md", "<!-- snippet -->\n```cpp\n#include <cmath>\nint i = 1;\n```\n"
                                  "<!-- snippet: continues -->\n```cpp\ni = 2;\n```\n<!-- output -->\n```text\nto\n```\n"
                                  "<!-- snippet -->\n```cpp\nint main() {\n}\n```\n")
        first, second = page.programs
        self.assertEqual([len(first.pieces), len(second.pieces)], [2, 1])
        self.assertEqual(first.pieces[1].output.code, ["to"])
        source = snippets.source_of(page)
        self.assertIn("#include <cmath>\n#include <lpf/lpf.hpp>", source)
        self.assertIn("int i = 1;\nsnippets::next_block();\n#line 8 \"docs/x.md\"\ni = 2;\nreturn 0;\n", source)
        self.assertIn("int program() {\nreturn 0; }", source)

    def test_outputs_are_compared_and_updated(self):
        text = "<!-- snippet -->\n```cpp\na\n```\n<!-- output -->\n```text\nold\n```\n<!-- snippet -->\n```cpp\nb\n```\nEnd.\n"
        page = snippets.read_page("docs/x.md", text)
        first, second = page.programs
        self.assertEqual(snippets.compare(first, ["old\n"]), [])
        self.assertTrue(snippets.compare(first, ["new\n"]))
        self.assertEqual(snippets.compare(second, [""]), [])
        self.assertTrue(snippets.compare(second, ["what the page does not show\n"]))
        with tempfile.TemporaryDirectory() as folder:
            snippets.ROOT, before = pathlib.Path(folder), snippets.ROOT
            (snippets.ROOT / "docs").mkdir()
            self.assertTrue(snippets.update(page, [(first.pieces[0], "new\n"), (second.pieces[0], "1\n2\n")]))
            written = (snippets.ROOT / "docs/x.md").read_text()
            snippets.ROOT = before
        self.assertEqual(written, text.replace("old", "new").replace(
            "b\n```\n", "b\n```\n\n<!-- output -->\n```text\n1\n2\n```\n"))


class Site(unittest.TestCase):
    def problems(self, **pages):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in pages.items():
                (pathlib.Path(folder) / f"{name}.html").write_text(text)
            result = subprocess.run([ROOT / "scripts/check-site", folder], capture_output=True, text=True, check=False)
        return result.returncode, result.stdout

    def test_a_site_without_faults(self):
        self.assertEqual(self.problems(a='<a href="b.html#here">', b='<p id="here"><a href="https://x.org"><a href="#here">')[0], 0)

    def test_faults_are_found(self):
        for page, fault in (('<a href="c.html">', "leads to no file"), ('<a href="#there">', "leads to no place"),
                            ('<script src="https://x.org/x.js"></script>', "another machine"),
                            ('<link rel="stylesheet" href="https://x.org/x.css">', "another machine")):
            status, said = self.problems(a=page)
            self.assertEqual(status, 1, page)
            self.assertIn(fault, said)


if __name__ == "__main__":
    unittest.main()
