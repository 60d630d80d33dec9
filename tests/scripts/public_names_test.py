#!/usr/bin/env python3
"""What a user is shown names no internals: no `detail` in the code of examples/ and of CONTRIBUTING.md's recipes.

    python3 public_names_test.py
"""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
INTERNAL = re.compile(r"\bdetail\s*::|namespace\s+(\w+::)*detail\b|using\s+namespace\s+(\w+::)*detail\b")


def code_of(markdown):
    """(line number, code) of each inline span and each line of a code block, fenced or indented."""
    fenced = False
    for number, line in enumerate(markdown.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield number, line
        else:
            yield from ((number, span) for span in re.findall(r"`([^`]*)`", line))


def internals(path):
    text = path.read_text(encoding="utf-8")
    lines = code_of(text) if path.suffix == ".md" else enumerate(text.splitlines(), 1)
    return [f"{path.relative_to(ROOT)}:{number}: {code.strip()}" for number, code in lines if INTERNAL.search(code)]


class PublicNames(unittest.TestCase):
    def test_examples(self):
        sources = [p for p in sorted((ROOT / "examples").rglob("*")) if p.suffix in (".cpp", ".hpp")]
        self.assertGreaterEqual(len(sources), 4)
        self.assertEqual([found for p in sources for found in internals(p)], [])

    def test_contributing(self):
        self.assertEqual(internals(ROOT / "CONTRIBUTING.md"), [])

    def test_finds_them(self):
        for code in ("lpf::detail::check_plain(x)", "detail :: f()", "using namespace lpf::detail;",
                     "namespace lpf::detail {"):
            self.assertTrue(INTERNAL.search(code), code)
        for code in ("// in detail", "the detail: none", "details::f()", "retail::f()"):
            self.assertFalse(INTERNAL.search(code), code)
        text = "a detail::b\n`detail::c`\n```\nd\n```\n    e\n"
        self.assertEqual([code for _, code in code_of(text)], ["detail::c", "d", "    e"])


if __name__ == "__main__":
    unittest.main()
